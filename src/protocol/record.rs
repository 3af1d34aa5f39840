//! What is kept of one operation, and what a retry is told by it (section K).
//!
//! `claimed -> forwarded -> done | unknown`, and `claimed -> queued -> claimed` where it was answered before it ran
//! (J1): each step is a compare-and-swap by the claim's [`Owner`], so a late
//! finisher cannot overwrite a newer one. A claimed record may be run again, a forwarded one never.

use std::sync::Arc;
use std::time::Duration;

use super::entity_tag::{EntityTag, Preconditions};
use super::fingerprint::Fingerprint;

/// Milliseconds since the Unix epoch.
pub type Millis = u64;

/// A time span in milliseconds.
pub fn millis(span: Duration) -> Millis {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

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
    /// A job that nobody runs now (J1): its request stands in a cell beside it.
    Queued,
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
    /// Another write has gone to its resource since: nothing that the resource shows now tells of this one (K12).
    pub followed: bool,
}

/// A [`State`] without what it holds, for comparing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Claimed,
    Queued,
    Forwarded,
    Done,
    Unknown,
}

impl Phase {
    /// Whether its end is open (K6).
    pub fn runs(self) -> bool {
        match self {
            Self::Claimed | Self::Queued | Self::Forwarded => true,
            Self::Done | Self::Unknown => false,
        }
    }
}

impl State {
    pub fn phase(&self) -> Phase {
        match self {
            Self::Claimed => Phase::Claimed,
            Self::Queued => Phase::Queued,
            Self::Forwarded { .. } => Phase::Forwarded,
            Self::Done { .. } => Phase::Done,
            Self::Unknown { .. } => Phase::Unknown,
        }
    }

    /// When the record may be forgotten; `None` while it runs (K15).
    pub fn expires_at(&self) -> Option<Millis> {
        match self {
            Self::Claimed | Self::Queued | Self::Forwarded { .. } => None,
            Self::Done { expires_at, .. } | Self::Unknown { expires_at, .. } => Some(*expires_at),
        }
    }
}

impl State {
    /// What a state takes over from the one before it: that another write has gone to the resource is not forgotten,
    /// neither when a second run begins on what was read before, nor when it comes to nothing (K12).
    pub fn after(mut self, before: &Self) -> Self {
        if let (Some(mark), Some(standing)) = (self.mark_mut(), before.mark()) {
            mark.followed |= standing.followed;
        }
        self
    }

    fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Forwarded { mark, .. } | Self::Unknown { mark, .. } => mark.as_deref(),
            Self::Claimed | Self::Queued | Self::Done { .. } => None,
        }
    }

    fn mark_mut(&mut self) -> Option<&mut Mark> {
        match self {
            Self::Forwarded { mark, .. } | Self::Unknown { mark, .. } => mark.as_deref_mut(),
            Self::Claimed | Self::Queued | Self::Done { .. } => None,
        }
    }
}

/// Where a record must stand before a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Claimed,
    Queued,
    Forwarded,
    /// Claimed or forwarded: after a step whose reply was lost nobody knows which.
    Running,
    Unknown,
}

impl Before {
    fn fits(self, phase: Phase) -> bool {
        match self {
            Self::Claimed => phase == Phase::Claimed,
            Self::Queued => phase == Phase::Queued,
            Self::Forwarded => phase == Phase::Forwarded,
            Self::Running => matches!(phase, Phase::Claimed | Phase::Forwarded),
            Self::Unknown => phase == Phase::Unknown,
        }
    }

    /// Whether the record's owner may take this step from a phase.
    pub fn allows(self, phase: Phase, set: &Set) -> bool {
        self.fits(phase) || is_late_end(phase, self, set)
    }
}

/// What a step makes of a record.
#[derive(Debug, Clone)]
pub enum Set {
    State(State),
    /// Another execution takes its place.
    Replace(Record),
    Remove,
}

/// What a compare-and-swap comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The record may be set.
    Apply,
    /// It was set before: only the reply was lost.
    Already,
    /// Another execution has the record, or it stands elsewhere.
    Lost,
}

/// Whether a step may be taken: only by the record's owner, and only from where the owner believes it to be
/// (invariant 2). The same step twice is one, so that whoever lost a reply may ask again.
pub fn step(standing: Option<&Record>, owner: Owner, before: Before, set: &Set) -> Step {
    let Some(record) = standing else {
        return if matches!(set, Set::Remove) { Step::Already } else { Step::Lost };
    };
    if record.owner == owner && before.allows(record.state.phase(), set) {
        return Step::Apply;
    }
    let already = match set {
        Set::State(state) => record.owner == owner && record.state.phase() == state.phase(),
        Set::Replace(next) => record.owner == next.owner,
        Set::Remove => false,
    };
    if already { Step::Already } else { Step::Lost }
}

/// Others took the owner for dead and its outcome for unknown; it knows the outcome after all (S3).
fn is_late_end(phase: Phase, before: Before, set: &Set) -> bool {
    let ends = match set {
        Set::State(state) => state.phase() == Phase::Done,
        Set::Replace(_) | Set::Remove => true,
    };
    ends && before == Before::Forwarded && phase == Phase::Unknown
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
            State::Claimed | State::Queued | State::Forwarded { .. } => Verdict::Running,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(owner: u64, state: State) -> Record {
        Record {
            owner: Owner(owner),
            fingerprint: Fingerprint::from_bytes([1; 16]),
            started_at: 0,
            route: "r".into(),
            resource: "/d".into(),
            state,
        }
    }

    fn forwarded() -> State {
        State::Forwarded { mark: None, status: None }
    }

    fn unknown() -> State {
        State::Unknown { mark: None, since: 0, expires_at: 9 }
    }

    // Invariant 2: only the owner, only from where it stands, and the same step again is no second one.
    #[test]
    fn a_step_is_a_compare_and_swap_by_its_owner() {
        let own = Owner(1);
        let go = Set::State(forwarded());
        let table = [
            (Some(record(1, State::Claimed)), Before::Claimed, &go, Step::Apply),
            (Some(record(2, State::Claimed)), Before::Claimed, &go, Step::Lost),
            (Some(record(1, forwarded())), Before::Claimed, &go, Step::Already),
            (Some(record(1, unknown())), Before::Claimed, &go, Step::Lost),
            (None, Before::Claimed, &go, Step::Lost),
            (Some(record(1, forwarded())), Before::Claimed, &Set::Remove, Step::Lost),
            (Some(record(1, forwarded())), Before::Running, &Set::Remove, Step::Apply),
            (Some(record(1, State::Claimed)), Before::Running, &Set::Remove, Step::Apply),
            (Some(record(1, unknown())), Before::Running, &Set::Remove, Step::Lost),
            (None, Before::Forwarded, &Set::Remove, Step::Already),
            (Some(record(1, unknown())), Before::Forwarded, &Set::Remove, Step::Apply),
            (Some(record(1, unknown())), Before::Forwarded, &go, Step::Lost),
            (Some(record(2, unknown())), Before::Forwarded, &Set::Remove, Step::Lost),
            (Some(record(1, unknown())), Before::Unknown, &Set::Replace(record(2, forwarded())), Step::Apply),
            (Some(record(1, State::Claimed)), Before::Claimed, &Set::State(State::Queued), Step::Apply),
            (Some(record(1, State::Queued)), Before::Claimed, &Set::State(State::Queued), Step::Already),
            (Some(record(1, State::Queued)), Before::Claimed, &go, Step::Lost),
            (Some(record(1, State::Queued)), Before::Running, &Set::Remove, Step::Lost),
            (Some(record(1, State::Queued)), Before::Queued, &Set::Remove, Step::Apply),
            (
                Some(record(1, State::Queued)),
                Before::Queued,
                &Set::Replace(record(2, State::Claimed)),
                Step::Apply,
            ),
            (
                Some(record(2, State::Claimed)),
                Before::Queued,
                &Set::Replace(record(3, State::Claimed)),
                Step::Lost,
            ),
            (Some(record(1, forwarded())), Before::Forwarded, &Set::State(State::Queued), Step::Apply),
            (Some(record(1, unknown())), Before::Forwarded, &Set::State(State::Queued), Step::Lost),
            (
                Some(record(2, forwarded())),
                Before::Unknown,
                &Set::Replace(record(2, forwarded())),
                Step::Already,
            ),
            (
                Some(record(3, forwarded())),
                Before::Unknown,
                &Set::Replace(record(2, forwarded())),
                Step::Lost,
            ),
        ];
        for (n, (standing, before, set, wanted)) in table.iter().enumerate() {
            assert_eq!(step(standing.as_ref(), own, *before, set), *wanted, "row {n}");
        }
    }

    // K12
    #[test]
    fn a_second_run_that_comes_to_nothing_does_not_forget_who_followed() {
        let mark = |followed| {
            let plain = Mark { compared: None, forwarded: None, fence: 1, quoted_key: false, followed };
            Some(Box::new(plain))
        };
        let again = State::Forwarded { mark: mark(true), status: None };
        let late = State::Forwarded { mark: mark(false), status: None };
        let unknown = State::Unknown { mark: mark(true), since: 0, expires_at: 9 };
        assert_eq!(late.after(&unknown), again);
        let back = State::Unknown { mark: mark(false), since: 0, expires_at: 9 }.after(&again);
        assert_eq!(back, State::Unknown { mark: mark(true), since: 0, expires_at: 9 });
    }
}
