//! What a queue's tasks come from, as the core of the claims sees it: five of them behind one trait.
//!
//! Who does what. The core (`claims`) decides who has a task, in cells of Onceward's own store; a source never does.
//! A source is asked for tasks only while agents wait for some, so that what nobody claimed stays ready where it is.
//! The course of one task:
//!
//! 1. [`Source::take`] offers it. The core looks at its cell. Where a claim on it lives (it was redelivered) the offer is
//!    *left in hand*: nothing is called, and the source keeps what hold it has, unless it gave [`Offer::hold`], which is
//!    dropped. Where it is done or dead already, [`Source::done`] or [`Source::dead`] is called again: the source missed it.
//!    Where the agent that it was for is gone, [`Source::back`].
//! 2. A claim is committed. From here the source holds it back as far as it can, and need not: the core does.
//! 3. The claim ends, at whatever instance:
//!    - acknowledged: [`Source::done`], at least once, on the instance that was asked, and on others until one says
//!      [`Told::Yes`];
//!    - released, or not acknowledged in time: [`Source::back`], so that a later `take` offers it again;
//!    - given up after its last attempt: [`Source::dead`], at least once. Where the source has no dead-letter place of its
//!      own ([`Source::buries`]) the core has kept the task by then.
//! 4. Where only the instance that took a task can tell the source (a delivery on its channel, a lock of its session), the
//!    source names such tasks in [`Source::in_hand`]. The core looks at their cells when it hears that some claim has ended,
//!    and once a second, and calls `done`, `dead` or `back` there. On all other instances these say [`Told::Elsewhere`].
//!    When an instance dies its source sees its connection end, and offers what was in hand to somebody else: step 1.
//!
//! All of it is called from many tasks at once, may be called twice for one task, and may be dropped while it waits. What a
//! dropped `take` had taken goes back as if by `back`. No call waits for long: one that cannot reach the source within
//! [`PATIENCE`] fails.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use crate::protocol::task::Content;

/// Names a task within its source, for ever: it is the same at each delivery. Never empty, at most
/// [`LONGEST_IDENTITY`] bytes; a source offers no task whose own name is longer (it logs that).
pub type Identity = Arc<str>;

/// Bytes.
pub const LONGEST_IDENTITY: usize = 1024;

/// How long one call may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a source does, in its time.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a source did not do what was asked. The text is for the log and the agent: no password in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceError {
    /// It surely did nothing: it could not be reached, or said no.
    NotDone(String),
    /// It may have done it: the connection broke, or no answer came.
    Unsure(String),
}

impl SourceError {
    /// What it says.
    pub fn text(&self) -> &str {
        match self {
            Self::NotDone(text) | Self::Unsure(text) => text,
        }
    }
}

/// A task that a source has ready.
pub struct Offer {
    pub identity: Identity,
    pub content: Content,
    /// When the source was asked for it: an offer from before its task was acknowledged must not count later.
    pub asked: Instant,
    /// Kept until the claim is committed or given up, then dropped: a lock for the time of choosing. Its `Drop` does not
    /// block. Most sources need none.
    pub hold: Option<Box<dyn Send>>,
}

/// What was taken.
#[derive(Default)]
pub struct Taken {
    /// In the source's order.
    pub offers: Vec<Offer>,
    /// All that are ready in the source, where it saw them all, and when it was asked; else `None`.
    pub all: Option<All>,
}

/// A whole look at a source.
pub struct All {
    pub asked: Instant,
    pub identities: Vec<Identity>,
}

/// Knows which tasks need not be offered now; a hint that spares work, never a promise.
pub trait Busy: Send + Sync {
    /// Whether a claim on it lives, or it was done, as far as is known here.
    fn is_busy(&self, identity: &str) -> bool;

    /// Those that are busy, at most `most`: for sources that leave them out by a condition.
    fn some(&self, most: usize) -> Vec<Identity>;
}

/// Who has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The source knows it, or needs not know, or has no such task.
    Yes,
    /// Another instance has the task in hand and tells it; if that is gone the source offers the task again by itself.
    Elsewhere,
}

/// A task that an agent puts in.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its `Content-Type`, as it was sent.
    pub content_type: Option<String>,
    pub body: Bytes,
    /// The digest of principal and key: a source that can tell doubles apart may do so by it.
    pub operation: String,
}

/// A task that was given up.
#[derive(Debug, Clone)]
pub struct Dead {
    pub identity: Identity,
    pub content: Content,
    /// How often it was handed out.
    pub attempts: u32,
}

/// Where a queue's tasks are. Making one connects nowhere: it does so when it is first asked, and again after a break.
pub trait Source: Send + Sync {
    /// Takes up to `most` tasks that are ready, without waiting for any. None: there is nothing now.
    fn take<'a>(&'a self, most: usize, busy: &'a dyn Busy) -> Work<'a, Result<Taken, SourceError>>;

    /// Ends when it is worth to `take` again: something may have come. Awaited only while an agent waits for a task, and
    /// dropped when none does any more: what it fetched ahead by then is back in the source. A source that is not told
    /// of what comes looks in its own rhythm. It ends at once where `take` could not be reached lately and now may, and
    /// never in a hot loop.
    fn wake(&self) -> Work<'_, ()>;

    /// The task was not claimed, or its claim has ended without an acknowledgment: `take` may offer it again. Nothing is
    /// to do where the source cannot tell, or does not hold it. What fails is tried again by whoever holds it.
    fn back<'a>(&'a self, identity: &'a str) -> Work<'a, ()>;

    /// Its cell says of a task that was just offered that an agent has it, or that it is over. Where the source is sure that
    /// it offered another one, which nobody ever had, it gives that another name, offers it again, and says `true`.
    fn is_another(&self, _identity: &str, _content: &Content) -> bool {
        false
    }

    /// Whether a task that is over, and is offered all the same, means that the source missed its end: then it is told
    /// again.
    fn is_told(&self) -> bool {
        true
    }

    /// The task was acknowledged: it must not come again.
    fn done<'a>(&'a self, identity: &'a str) -> Work<'a, Result<Told, SourceError>>;

    /// Whether it has a dead-letter place of its own.
    fn buries(&self) -> bool {
        false
    }

    /// The task was given up: it goes to the dead-letter place where there is one, and must not come again where the
    /// source can see to that; else the core holds it back.
    fn dead<'a>(&'a self, task: &'a Dead) -> Work<'a, Result<Told, SourceError>> {
        self.done(&task.identity)
    }

    /// Whether the source still has an acknowledged task as ready, so that it would be offered again. A source that has
    /// been told, and then surely never offers it again, says no without looking.
    fn has<'a>(&'a self, identity: &'a str) -> Work<'a, Result<bool, SourceError>>;

    /// Tasks that this instance alone can give back or tell of (step 4). Costs nothing where there are none.
    fn in_hand(&self) -> Vec<Identity> {
        Vec::new()
    }

    /// Whether agents may put tasks in.
    fn can_put(&self) -> bool {
        false
    }

    /// Puts a task in, and is sure that it stays (a confirm). The identity it got, where that is known. Only where
    /// [`Source::can_put`].
    fn put<'a>(&'a self, _task: &'a NewTask) -> Work<'a, Result<Option<Identity>, SourceError>> {
        Box::pin(async { Err(SourceError::NotDone("the source takes no tasks".to_owned())) })
    }
}
