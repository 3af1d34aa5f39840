//! Where records, kept answers and minted versions are.
//!
//! A store commits, it does not decide: it reads, compares and swaps a few records at once, and forgets what has
//! expired. What a record means is decided in `protocol`, with time as an argument.

mod answers;
mod bells;
mod by_id;
pub mod cells;
#[cfg(test)]
mod conformance;
pub mod disk;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod finished;
mod log;
pub mod memory;
mod minted;
#[cfg(test)]
pub(crate) mod model;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
mod reply;
pub mod shared;
mod unsettled;

use std::time::Duration;

use tokio::sync::watch;

use self::cells::{Kind, Name};
use crate::protocol::record::{Millis, Owner, Phase, Record, RecordId, ResourceId, State};

pub use crate::protocol::record::{Before, Set};

pub use answers::{Answer, Encoded};
pub use bells::{Bells, Listening};
pub(crate) use by_id::ById;
pub use cells::{Cell, CellId, Put, Swap};
pub use log::{Event, Keep, Place};
pub use minted::Number;
pub use reply::Reply;
pub use shared::Shared;
use shared::TurnEnd;

/// Why a store did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// It did not say whether it did it, and may have (S4).
    Unavailable,
    /// It could not be reached, and surely did nothing (S4).
    Unreached,
    /// Only records are left in it, and none of them may be dropped (S2).
    Full,
}

/// One step of one record, with what must be true before and what goes with it in the same commit.
#[derive(Debug, Clone)]
pub struct Change {
    pub id: RecordId,
    /// The record must be this execution's, and stand here.
    pub owner: Owner,
    pub before: Before,
    pub set: Set,
    /// What is kept for replays; only with a `Done` that says so.
    pub answer: Option<Encoded>,
    pub version: Option<Move>,
    /// An operator's word, kept with its reason (O4).
    pub resolution: Option<Resolution>,
    /// The turn that ends with it, on a store that is shared (Q3). It ends even if the record is another's now.
    pub turn: Option<TurnEnd>,
    /// Cells that must stand so, and are swapped with it; where one does not, nothing of it is done.
    pub cells: Vec<Put>,
    /// What is told of it (E1).
    pub event: Option<Event>,
}

impl Change {
    /// A step of a record, and of nothing else.
    pub fn new(id: RecordId, owner: Owner, before: Before, set: Set) -> Self {
        Self {
            id,
            owner,
            before,
            set,
            answer: None,
            version: None,
            resolution: None,
            turn: None,
            cells: Vec::new(),
            event: None,
        }
    }

    /// Whether a write goes out with it: what else is unknown of its resource is not the last write any more (K12).
    fn goes_out(&self) -> bool {
        matches!(self.set, Set::State(State::Forwarded { status: None, .. }))
    }
}

/// How an operator resolved an operation, and why (O4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    pub id: RecordId,
    pub executed: bool,
    pub who: String,
    pub why: String,
    pub at: Millis,
    /// When it may be forgotten.
    pub expires_at: Millis,
}

/// How a minted version moves (V8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    pub resource: ResourceId,
    pub to: Number,
    /// A second move in the future: the end of the rest after an unknown outcome.
    pub later: Option<(Millis, Number)>,
    /// An operator ended the rest: this is the second move, and none comes later.
    pub ends_rest: bool,
}

/// What a claim found.
#[derive(Debug)]
pub enum Claimed {
    /// It stands now.
    New,
    /// This stood there already; the claim is handed back.
    Taken { standing: Box<Record>, yours: Box<Record> },
}

/// A store. Every step is atomic and by compare-and-swap; each `now` is the caller's clock.
pub trait Store: Send + Sync {
    /// Puts a record where there is none, or only an expired one. On a store that is shared it may be forwarded
    /// already, where nothing stands between claim and call.
    fn claim(&self, id: RecordId, record: Record, now: Millis) -> Reply<Claimed>;

    /// What stands under an id, unless it has expired.
    fn read(&self, id: RecordId, now: Millis) -> Reply<Option<Record>>;

    /// The kept answer of a `Done` record; `None` where it was let go (S2).
    fn answer(&self, id: RecordId) -> Reply<Option<Answer>>;

    /// One step; `false` if the record is not, or no longer, the owner's in that phase. The same step again is done
    /// already, and `true`.
    ///
    /// Where a write goes out with it, all other unsettled records of the resource are marked as followed (K12).
    fn commit(&self, change: Change, now: Millis) -> Reply<bool>;

    /// What operators decided about an operation and that is still kept, the latest first (O4).
    fn resolutions(&self, id: RecordId, now: Millis) -> Reply<Vec<Resolution>>;

    /// A fencing token above all that were ever given (L3, L4).
    fn next_fence(&self) -> Reply<u64>;

    /// A number above all that were ever given (V8).
    fn next_number(&self) -> Reply<Number>;

    /// Moves a minted version without a record.
    fn move_version(&self, to: Move, now: Millis) -> Reply<()>;

    /// The entity tag of a resource whose versions are minted here (V8).
    fn minted(&self, resource: ResourceId, now: Millis) -> Reply<Box<str>>;

    /// The tag that a number will be.
    fn minted_tag(&self, resource: ResourceId, number: Number) -> Box<str>;

    /// Records in a phase, or all, at most `most`, in no order.
    fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Reply<Vec<(RecordId, Record)>>;

    /// Whether what it holds is still there when this process has ended.
    fn outlives_process(&self) -> bool;

    /// Whether it can be reached and takes writes now (O1).
    fn reach(&self) -> Reply<()>;

    /// Lets go of what it holds, at the end of a shutdown; it takes nothing any more.
    fn close(&self) -> Reply<()>;

    /// How many records are unknown.
    fn unknown(&self) -> Reply<u64>;

    /// How full it is, from 0 to 1.
    fn fill_ratio(&self) -> Reply<f64>;

    /// Forgets a little of what has expired. Called now and then, off the request path.
    fn sweep(&self, now: Millis);

    /// What stands in a cell.
    fn cell(&self, id: CellId, now: Millis) -> Reply<Option<Cell>>;

    /// Swaps cells by compare, all or none; `false` if other content stands in one of them. The same again is done
    /// already, and `true`.
    fn swap(&self, swap: Swap, now: Millis) -> Reply<bool>;

    /// Cells whose time comes within so long, the soonest first, at most `most`.
    fn due(&self, kind: Kind, within: Duration, most: usize, now: Millis) -> Reply<Vec<(Name, Cell)>>;

    /// Cells of a kind, at most `most`, in no order; of their values no more than [`Kind::listed`].
    fn cells(&self, kind: Kind, most: usize, now: Millis) -> Reply<Vec<(Name, Cell)>>;

    /// How much of the log of events is kept from now on.
    fn keep_events(&self, keep: Keep);

    /// The end of the log of events.
    fn last_event(&self) -> Reply<Place>;

    /// Events behind a place, at most `most`; `None`: what follows it is no longer held, or no such place ever was (E1).
    /// The first of them has the next number.
    fn events(&self, after: Place, most: usize, now: Millis) -> Reply<Option<Vec<Event>>>;

    /// Changes when there are more events to read. It may change without.
    fn event_signal(&self) -> watch::Receiver<u64>;

    /// Where other instances are on it too (S3).
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }
}
