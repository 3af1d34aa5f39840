//! What instances that share a store ask of it besides: turns that hold across all of them, who of them is alive, and
//! what those that died left behind (S3, Q4, Q5).

use std::time::Duration;

use tokio::sync::mpsc;

use super::cells::{Cell, Topic};
use super::{Claimed, Number, Reply};
use crate::protocol::record::{Millis, Owner, Record, RecordId, ResourceId};

/// The right of one execution to have the one write in flight on a resource, wherever the others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub resource: ResourceId,
    /// For operators (`GET /resources?busy=true`).
    pub name: Box<str>,
    /// Whose turn it will be. No two share one, and the same asked again is the same turn.
    pub token: Owner,
}

/// What a claim asks for in its own round trip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// The turn, for a write that takes one.
    Turn(Wish),
    /// The lease of the resource, for one that takes none (L2).
    Lease(ResourceId),
}

/// What was said of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Also {
    Turned(Turned),
    Lease(Option<Cell>),
}

/// What a store answers who wants a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    Granted(Grant),
    /// Another has it; this instance stands in the line of instances now, and is told when it may ask again.
    Busy,
    /// After an unknown outcome nobody has it for so long (Q5).
    Rests(Duration),
}

/// A turn, with what a write in it will need, so that it need not be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Above all that were ever given (L3).
    pub fence: u64,
    /// The entity tag of the resource, if its versions are minted here (V8).
    pub minted: Box<str>,
    /// For the version's moves: after the write, and after its rest if its outcome is unknown (V8).
    pub numbers: [Number; 2],
    /// The lease of the resource (L3): as long as the turn lasts nobody else is granted one.
    pub lease: Option<Cell>,
}

/// The end of a turn. What is not this token's stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnEnd {
    pub resource: ResourceId,
    pub token: Owner,
    /// The outcome is unknown: for so long nobody has a turn (Q5).
    pub rest: Option<Duration>,
}

/// One resource with a write in flight, waiting instances or a rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusyResource {
    pub name: Box<str>,
    pub in_flight: bool,
    pub rest: Option<Duration>,
}

/// Names one life of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance(pub u64);

/// An instance that did not renew its liveness record in time (S3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lapsed {
    pub instance: Instance,
    /// How long ago its time was over, by the store's clock.
    pub ago: Duration,
}

/// What one instance tells the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A record that somebody waits for has come to an end, or is gone.
    Ended(RecordId),
    /// It is this instance's time to ask for the turn of a resource, or its rest was ended.
    Freed(ResourceId),
    /// Who waits for this is told ([`super::Put::tell`]).
    Told(Topic),
    /// Something may have been missed.
    Anything,
}

/// A store that more than one instance is on.
pub trait Shared: Send + Sync {
    /// This life of this instance, as long as it lasts by its own clock: the others take one that lapsed for dead (S3).
    fn living(&self) -> Option<Instance>;

    /// Whether it is alive at all.
    fn is_alive(&self) -> bool {
        self.living().is_some()
    }

    /// A claim as [`super::Store::claim`], and where it is new what stands beside it, in one round trip.
    fn claim_beside(
        &self,
        id: RecordId,
        record: Record,
        beside: Beside,
        now: Millis,
    ) -> Reply<(Claimed, Option<Also>)>;

    /// Asks for a turn. First come first served between instances, each of which has one place in a resource's line.
    fn take_turn(&self, wish: Wish, now: Millis) -> Reply<Turned>;

    /// Ends a turn and wakes the next instance. The same again is done already.
    fn end_turn(&self, end: TurnEnd) -> Reply<()>;

    /// Nobody on this instance waits for the turn any more.
    fn leave_line(&self, resource: ResourceId) -> Reply<()>;

    /// An operator ended the rest (Q5).
    fn end_rest(&self, resource: ResourceId) -> Reply<()>;

    /// Resources with something going on on any instance, at most `most` (O4).
    fn busy(&self, most: usize) -> Reply<Vec<BusyResource>>;

    /// As [`super::Store::read`]; while the record runs, [`News::Ended`] will come of it.
    fn watch(&self, id: RecordId, now: Millis) -> Reply<Option<Record>>;

    /// Instances that lapsed and left something behind, this one's own earlier lives among them.
    fn lapsed(&self) -> Reply<Vec<Lapsed>>;

    /// What a lapsed instance had claimed or forwarded and not ended, at most `most`.
    fn left_by(&self, instance: Instance, most: usize) -> Reply<Vec<(RecordId, Record)>>;

    /// Ends the turns of a lapsed instance in which nothing was forwarded, and forgets it once none of its records is
    /// left.
    fn bury(&self, instance: Instance) -> Reply<()>;

    /// What the others tell; it can be had once.
    fn news(&self) -> Option<mpsc::Receiver<News>>;
}
