//! What is kept of one operation, and what a retry is told by it (section K).
//!
//! `claimed -> forwarded -> done | unknown`: each step is a compare-and-swap by the claim's [`Owner`], so a late
//! finisher cannot overwrite a newer one. A claimed record may be run again, a forwarded one never.

use std::sync::Arc;

use super::entity_tag::{EntityTag, Preconditions};
use super::fingerprint::Fingerprint;

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// Who sent a request, as a digest (I1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Principal(pub [u8; 32]);

/// Names the record of one key of one principal (K3). Also the operator's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RecordId(pub [u8; 16]);

/// Names a resource without its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ResourceId(pub [u8; 16]);

/// Names one execution; no two share one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner(pub u64);

/// Separates the records of `observe` from those that are enforced (R4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    Enforced,
    Observed,
}

impl RecordId {
    /// The id of a principal's key.
    pub fn new(space: Space, principal: &Principal, key: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(match space {
            Space::Enforced => b"operation",
            Space::Observed => b"observed.",
        });
        hasher.update(&principal.0).update(key.as_bytes());
        Self(first_16(&hasher.finalize()))
    }

    /// Lower-case hexadecimal, 32 characters.
    pub fn to_text(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// The other way round; `None` for anything but what [`Self::to_text`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl ResourceId {
    /// The id of a rendered resource.
    pub fn new(resource: &str) -> Self {
        Self(first_16(&blake3::hash(resource.as_bytes())))
    }
}

fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    let mut first = [0; 16];
    first.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    first
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub owner: Owner,
    pub fingerprint: Fingerprint,
    pub started_at: Millis,
    pub route: Arc<str>,
    pub resource: Box<str>,
    pub state: State,
}

/// How far an operation has come.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Nothing went out yet.
    Claimed,
    /// The first byte may be on its way, or is. `status` is there once a streamed answer began (K10).
    Forwarded {
        mark: Option<Box<Mark>>,
        status: Option<u16>,
    },
    Done {
        status: u16,
        kept: bool,
        completed_at: Millis,
        expires_at: Millis,
    },
    /// No whole answer came (K11).
    Unknown {
        mark: Option<Box<Mark>>,
        since: Millis,
        expires_at: Millis,
    },
}

/// What of a forwarded write can end its unknown outcome (K12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The version that its own precondition was compared with: `Some(None)` when there was no resource.
    pub compared: Option<Option<EntityTag>>,
    /// The preconditions that went upstream with it, for the upstream to compare.
    pub forwarded: Option<Preconditions>,
    /// The fence it carried; 0 where it took no turn.
    pub fence: u64,
    /// Its key was spelled as a structured-field string (K16).
    pub quoted_key: bool,
}

/// A [`State`] without what it holds, for comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Claimed,
    Forwarded,
    Done,
    Unknown,
}

impl State {
    pub fn phase(&self) -> Phase {
        match self {
            Self::Claimed => Phase::Claimed,
            Self::Forwarded { .. } => Phase::Forwarded,
            Self::Done { .. } => Phase::Done,
            Self::Unknown { .. } => Phase::Unknown,
        }
    }

    /// When the record may be forgotten; `None` while it runs (K15).
    pub fn expires_at(&self) -> Option<Millis> {
        match self {
            Self::Claimed | Self::Forwarded { .. } => None,
            Self::Done { expires_at, .. } | Self::Unknown { expires_at, .. } => Some(*expires_at),
        }
    }
}

/// What a request with a key is told by the record that stands there.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Expired: as if there were none.
    First,
    /// K5.
    Reused,
    /// K6.
    Running,
    /// K7.
    Replay,
    /// K10.
    NotKept { status: u16 },
    /// K11.
    Unknown,
}

impl Record {
    /// Whether its time is over (K15).
    pub fn is_expired(&self, now: Millis) -> bool {
        self.state.expires_at().is_some_and(|at| at <= now)
    }

    /// What a request with this fingerprint is told (K5–K11).
    pub fn verdict(&self, fingerprint: &Fingerprint, now: Millis) -> Verdict {
        if self.is_expired(now) {
            return Verdict::First;
        }
        if self.fingerprint != *fingerprint {
            return Verdict::Reused;
        }
        match &self.state {
            State::Claimed | State::Forwarded { .. } => Verdict::Running,
            State::Done { kept: true, .. } => Verdict::Replay,
            State::Done { kept: false, status, .. } => Verdict::NotKept { status: *status },
            State::Unknown { .. } => Verdict::Unknown,
        }
    }
}

/// What an upstream's status means for the record (K8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// An answer; it is kept.
    Keep,
    /// It says that nothing was done; the key is free again.
    Release,
    /// It says nothing about whether the write was done.
    Unknown,
}

/// What is made of the 5xx that say neither (K8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerErrors {
    Keep,
    Release,
    Hold,
}

/// K8, for one final status.
pub fn meaning(status: u16, server_errors: ServerErrors) -> Meaning {
    match status {
        502 | 504 => Meaning::Unknown,
        401 | 403 | 407 | 408 | 412 | 423 | 425 | 428 | 429 | 501 | 503 | 505..=511 => Meaning::Release,
        500.. => match server_errors {
            ServerErrors::Keep => Meaning::Keep,
            ServerErrors::Release => Meaning::Release,
            ServerErrors::Hold => Meaning::Unknown,
        },
        _ => Meaning::Keep,
    }
}

/// Whether a write with this final status may have had an effect, so that a minted version moves (V8).
pub fn may_have_changed(status: u16, meaning: Meaning) -> bool {
    match meaning {
        Meaning::Unknown => true,
        Meaning::Release => false,
        Meaning::Keep => !(400..500).contains(&status),
    }
}
