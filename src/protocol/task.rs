//! The rules of a task's claim (J2, J3): what stands of a task, and what each step makes of that.
//!
//! ```text
//! nothing ──claim──▶ held ──ack──▶ done ──absent from its source, and `done_for` over──▶ nothing
//!                    │  ▲
//!       release, or  │  │ claim: attempt + 1, a higher fence
//!  `visibility` over ▼  │
//!                  waiting            and from the last attempt on: dead, which ends as done does
//! ```

mod content;
mod token;

use serde::{Deserialize, Serialize};

use super::record::Principal;

pub use content::Content;
pub use token::{Claim, Tag};

/// What is kept of one task while it is not only its source's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The name of its queue.
    pub queue: Box<str>,
    /// Its name in its source.
    pub identity: Box<str>,
    pub standing: Standing,
}

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// An agent has it.
    Held(Held),
    /// It was handed out so often, and nobody has it now.
    Waiting { attempts: u32, released: Option<Tag> },
    /// It is over.
    Ended(Ended),
}

/// A claim that lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub claim: Tag,
    /// The digest of whose it is.
    pub principal: [u8; 32],
    pub fence: u64,
    /// From 1; only grows.
    pub attempt: u32,
    /// What the task is about, kept with its last attempt: what becomes of it then needs it.
    pub content: Option<Content>,
    /// The claim before this one, where it was released.
    pub released: Option<Tag>,
}

/// A task that is not handed out again as long as this stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub how: How,
    /// Its source knows it.
    pub told: bool,
    /// Its source was seen without it since.
    pub absent: bool,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// Acknowledged by this claim.
    Done { claim: Tag },
    /// Given up after so many attempts. The content stays until it is where dead tasks go.
    Dead { attempts: u32, content: Option<Content> },
}

/// What an offer of a task may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// A claim, with this attempt; the claim before it may have been released.
    Claim { attempt: u32, released: Option<Tag> },
    /// Nothing now: an agent has it.
    Held,
    /// A dead task: it was handed out too often.
    Dead { attempts: u32 },
    /// Nothing: it is over, and the source offers it all the same.
    Ended,
}

/// What an agent's word on its claim comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// This stands then.
    Stands(Standing),
    /// It stands so already, by the same word.
    Already,
    /// The claim has ended otherwise (409 `claim-lost`).
    Lost,
}

/// Forward compatible: a store may be older than the program.
const FORMAT: u8 = 1;

impl Task {
    /// As bytes of a cell.
    pub fn encode(&self) -> Box<[u8]> {
        // Writing to memory cannot fail.
        let bytes = postcard::to_extend(self, vec![FORMAT]).unwrap_or_default();
        bytes.into_boxed_slice()
    }

    /// The other way round; `None`: no task of this program's.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        postcard::from_bytes(rest).ok()
    }

    /// The same task, standing otherwise.
    #[must_use]
    pub fn now(&self, standing: Standing) -> Self {
        Self { queue: self.queue.clone(), identity: self.identity.clone(), standing }
    }
}

/// What an offer may become where this stands; `due`: its time is over.
pub fn offered(standing: Option<&Standing>, due: bool, max_attempts: u32) -> Offered {
    let (attempts, released) = match standing {
        None => (0, None),
        Some(Standing::Ended(_)) => return Offered::Ended,
        Some(Standing::Held(_)) if !due => return Offered::Held,
        Some(Standing::Held(held)) => (held.attempt, None),
        Some(Standing::Waiting { attempts, released }) => (*attempts, *released),
    };
    if attempts >= max_attempts {
        return Offered::Dead { attempts };
    }
    Offered::Claim { attempt: attempts + 1, released }
}

/// What a claim becomes that was not acknowledged in time.
pub fn lapsed(held: &Held, max_attempts: u32) -> Standing {
    over(held, None, max_attempts)
}

fn over(held: &Held, released: Option<Tag>, max_attempts: u32) -> Standing {
    match &held.content {
        Some(content) if held.attempt >= max_attempts => dead(held.attempt, Some(content.clone())),
        // Where fewer attempts are allowed than when it was handed out, its next offer brings what it is about.
        Some(_) | None => Standing::Waiting { attempts: held.attempt, released },
    }
}

/// A task that was given up.
pub fn dead(attempts: u32, content: Option<Content>) -> Standing {
    Standing::Ended(Ended { how: How::Dead { attempts, content }, told: false, absent: false })
}

/// The claim's, as long as it lives.
fn held(standing: Option<&Standing>, due: bool, claim: Tag) -> Option<&Held> {
    match standing {
        Some(Standing::Held(held)) if held.claim == claim && !due => Some(held),
        Some(Standing::Held(_) | Standing::Waiting { .. } | Standing::Ended(_)) | None => None,
    }
}

/// Its agent says that the task is done.
pub fn acknowledge(standing: Option<&Standing>, due: bool, claim: Tag) -> Word {
    if held(standing, due, claim).is_some() {
        let how = How::Done { claim };
        return Word::Stands(Standing::Ended(Ended { how, told: false, absent: false }));
    }
    match standing {
        Some(Standing::Ended(Ended { how: How::Done { claim: by }, .. })) if *by == claim => Word::Already,
        Some(_) | None => Word::Lost,
    }
}

/// Its agent gives the task back.
pub fn release(standing: Option<&Standing>, due: bool, claim: Tag, max_attempts: u32) -> Word {
    if let Some(held) = held(standing, due, claim) {
        return Word::Stands(over(held, Some(claim), max_attempts));
    }
    let released = match standing {
        Some(Standing::Held(held)) => held.released,
        Some(Standing::Waiting { released, .. }) => *released,
        Some(Standing::Ended(_)) | None => None,
    };
    if released == Some(claim) { Word::Already } else { Word::Lost }
}

/// Its agent needs more time.
pub fn extend(standing: Option<&Standing>, due: bool, claim: Tag) -> Word {
    match held(standing, due, claim) {
        Some(held) => Word::Stands(Standing::Held(held.clone())),
        None => Word::Lost,
    }
}

impl Held {
    /// Whether it is this principal's.
    pub fn is_of(&self, principal: &Principal) -> bool {
        self.principal == principal.0
    }
}

#[cfg(test)]
mod tests;
