//! Writes to one resource go out one at a time (section Q): on this instance here, across instances in `held`.

mod held;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::held::Held;
use crate::http::Reason;
use crate::http::request::Gone;
use crate::protocol::line::{Line, Place, Want};
use crate::protocol::record::{Owner, ResourceId};
use crate::store::{ById, Store};

const SHARDS: usize = 64;

type Lines = HashMap<ResourceId, Resource, ById>;

struct Resource {
    line: Line<oneshot::Sender<Turn>, Instant>,
    /// For operators (`GET /resources?busy=true`).
    name: Box<str>,
}

/// All turns of this instance.
pub struct Turns {
    shards: Vec<Mutex<Lines>>,
    /// Where turns hold across instances.
    store: Option<Arc<dyn Store>>,
    /// Who asks it for a turn now.
    asking: Mutex<HashMap<ResourceId, Arc<Notify>, ById>>,
    /// Stopped when a shutdown's grace is over (O5).
    closing: CancellationToken,
    /// Rests that run; a shutdown does not wait for them.
    resting: TaskTracker,
    /// What a shutdown waits for.
    tasks: TaskTracker,
}

/// The right to have the one write in flight on a resource, or to look between writes. Dropped, it goes to the next.
pub struct Turn {
    turns: Arc<Turns>,
    resource: ResourceId,
    want: Want,
    /// A write went out and its end was not recorded: the turn ends with a rest of this length.
    unsettled: Option<Duration>,
    ended: bool,
    /// The same turn in a store that is shared.
    held: Option<Held>,
}

/// A turn that somebody wants.
pub struct Wanted<'a> {
    pub want: Want,
    pub resource: ResourceId,
    pub name: &'a str,
    pub max_waiting: usize,
    pub until: Instant,
    pub gone: &'a dyn Gone,
    /// Names the turn in a store that is shared; without a record there is none in it.
    pub token: Option<Owner>,
}

/// One resource with a write in flight, waiting writes or a rest, as operators see it.
pub struct Busy {
    pub resource: String,
    pub in_flight: bool,
    pub waiting: usize,
    pub rest: Option<Duration>,
}

impl Turns {
    /// No turns yet.
    pub fn new(store: &Arc<dyn Store>, closing: CancellationToken, tasks: TaskTracker) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let store = store.shared().is_some().then(|| Arc::clone(store));
        let (asking, resting) = (Mutex::default(), TaskTracker::new());
        Arc::new(Self { shards, store, asking, closing, resting, tasks })
    }

    fn with<T>(&self, id: ResourceId, act: impl FnOnce(&mut Lines) -> T) -> Option<T> {
        let [.., last] = id.0;
        self.shards.get(usize::from(last) % SHARDS).map(|shard| act(&mut shard.lock()))
    }

    /// Waits for a turn (Q1, Q2).
    ///
    /// # Errors
    /// 429 where the line is full or the wait too long, 503 at the end of a shutdown.
    pub async fn take(self: &Arc<Self>, wanted: Wanted<'_>) -> Result<Turn, Reason> {
        let turn = self.take_here(&wanted).await?;
        if self.store.is_some() { self.hold(turn, &wanted, None).await } else { Ok(turn) }
    }

    /// The turn of this instance, if it is free now.
    fn begin(self: &Arc<Self>, wanted: &Wanted<'_>) -> Option<Turn> {
        let (sender, _nobody) = oneshot::channel();
        let place = self.with(wanted.resource, |lines| {
            let line = lines
                .entry(wanted.resource)
                .or_insert_with(|| Resource { line: Line::default(), name: wanted.name.into() });
            line.line.join(Instant::now(), wanted.want, 0, || sender)
        });
        (place == Some(Place::Turn)).then(|| self.turn(wanted.resource, wanted.want))
    }

    async fn take_here(self: &Arc<Self>, wanted: &Wanted<'_>) -> Result<Turn, Reason> {
        let mut receiver = None;
        let place = self.with(wanted.resource, |lines| {
            let resource = lines
                .entry(wanted.resource)
                .or_insert_with(|| Resource { line: Line::default(), name: wanted.name.into() });
            resource.line.join(Instant::now(), wanted.want, wanted.max_waiting, || {
                let (sender, granted) = oneshot::channel();
                receiver = Some(granted);
                sender
            })
        });
        match (place, receiver) {
            (Some(Place::Turn), _) => Ok(self.turn(wanted.resource, wanted.want)),
            (Some(Place::Full(waiting)), _) => Err(Reason::QueueFull { waiting }),
            (Some(Place::Wait(number)), Some(granted)) => self.wait(wanted, number, granted).await,
            (Some(Place::Wait(_)) | None, _) => Err(Reason::InternalError(crate::http::Executed::No)),
        }
    }

    async fn wait(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        number: u64,
        granted: oneshot::Receiver<Turn>,
    ) -> Result<Turn, Reason> {
        // Whoever drops the wait, its place is given up.
        let place = InLine { turns: self, resource: wanted.resource, number };
        tokio::select! {
            biased;
            turn = granted => turn.map_err(|_| Reason::InternalError(crate::http::Executed::No)),
            () = tokio::time::sleep_until(wanted.until) => Err(place.late()),
            () = wanted.gone.gone() => Err(place.late()),
            () = self.closing.cancelled() => Err(Reason::ShuttingDown),
        }
    }

    fn turn(self: &Arc<Self>, resource: ResourceId, want: Want) -> Turn {
        Turn { turns: Arc::clone(self), resource, want, unsettled: None, ended: false, held: None }
    }

    /// Lets all through that nothing keeps back any more, and forgets a line that is over.
    fn advance(self: &Arc<Self>, resource: ResourceId) {
        loop {
            let next =
                self.with(resource, |lines| lines.get_mut(&resource)?.line.advance(Instant::now())).flatten();
            let Some((want, waiter)) = next else { break };
            if let Err(mut turn) = waiter.send(self.turn(resource, want)) {
                // It left just now.
                turn.ended = true;
                self.with(resource, |lines| lines.get_mut(&resource).map(|resource| resource.line.end(want)));
            }
        }
        self.forget_idle(resource);
    }

    fn forget_idle(&self, resource: ResourceId) {
        self.with(resource, |lines| {
            let idle = lines.get(&resource).is_some_and(|r| r.line.is_idle(Instant::now()));
            if idle {
                lines.remove(&resource);
            }
        });
    }

    fn end_here(&self, resource: ResourceId, want: Want) {
        self.with(resource, |lines| lines.get_mut(&resource).map(|resource| resource.line.end(want)));
    }

    /// Puts a resource to rest (Q5), and wakes its line when the rest is over.
    fn rest(self: &Arc<Self>, resource: ResourceId, settle: Duration) {
        let until = Instant::now() + settle;
        self.with(resource, |lines| {
            if let Some(resource) = lines.get_mut(&resource) {
                resource.line.rest(until);
            }
        });
        let turns = Arc::clone(self);
        self.resting.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep_until(until) => turns.advance(resource),
                () = turns.closing.cancelled() => {}
            }
        });
    }

    /// A process died with a write to this resource out (Q5): nobody has a turn before the rest is over.
    pub fn rest_from_start(self: &Arc<Self>, id: ResourceId, name: &str, settle: Duration) {
        if settle.is_zero() {
            return;
        }
        self.with(id, |lines| {
            lines.entry(id).or_insert_with(|| Resource { line: Line::default(), name: name.into() });
        });
        self.rest(id, settle);
    }

    /// An operator ended the rest (Q5).
    pub fn end_rest(self: &Arc<Self>, resource: ResourceId) {
        self.with(resource, |lines| lines.get_mut(&resource).map(|resource| resource.line.end_rest()));
        self.advance(resource);
    }

    /// Whether an unknown outcome keeps the resource at rest.
    pub fn rests(&self, resource: ResourceId) -> bool {
        let rests = |lines: &mut Lines| lines.get(&resource).is_some_and(|r| r.line.rests(Instant::now()));
        self.with(resource, rests).unwrap_or(false)
    }

    /// Resources with something going on, at most `most`.
    pub fn busy(&self, most: usize) -> Vec<Busy> {
        let now = Instant::now();
        let mut found = Vec::new();
        for shard in &self.shards {
            let lines = shard.lock();
            let busy = lines.values().map(|resource| Busy {
                resource: resource.name.to_string(),
                in_flight: resource.line.is_busy(),
                waiting: resource.line.waiting(),
                rest: resource.line.rest_until(now).map(|until| until - now),
            });
            found.extend(
                busy.filter(|b| b.in_flight || b.waiting > 0 || b.rest.is_some()).take(most - found.len()),
            );
        }
        found
    }

    fn waiting_for(&self, resource: ResourceId) -> usize {
        self.with(resource, |lines| lines.get(&resource).map_or(0, |r| r.line.waiting())).unwrap_or(0)
    }

    /// How many writes wait now.
    pub fn waiting(&self) -> usize {
        self.shards.iter().map(|s| s.lock().values().map(|r| r.line.waiting()).sum::<usize>()).sum()
    }
}

struct InLine<'a> {
    turns: &'a Arc<Turns>,
    resource: ResourceId,
    number: u64,
}

impl InLine<'_> {
    fn late(&self) -> Reason {
        let rest = |lines: &mut Lines| lines.get(&self.resource)?.line.rest_until(Instant::now());
        let rest = self.turns.with(self.resource, rest).flatten();
        let seconds = rest.map_or(1, |until| (until - Instant::now()).as_secs() + 1);
        Reason::QueueTimeout { resting: rest.is_some(), retry_after: seconds }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.turns.with(self.resource, |lines| {
            if let Some(resource) = lines.get_mut(&self.resource) {
                resource.line.leave(self.number);
            }
        });
        self.turns.forget_idle(self.resource);
    }
}

impl Turn {
    /// A write goes out: from now on the turn ends with a rest, unless its end becomes known.
    pub fn forwarded(&mut self, settle: Duration) {
        self.unsettled = Some(settle);
    }

    /// The write's end is known and stored: the next may go (Q3).
    pub fn settled(mut self) {
        self.unsettled = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let rest = self.unsettled.filter(|settle| !settle.is_zero());
        match (self.held.take(), rest) {
            // The store keeps the rest, for all.
            (Some(held), rest) => {
                self.turns.end_here(self.resource, self.want);
                self.turns.end_in_store(held, self.resource, rest);
            }
            (None, Some(settle)) => self.turns.rest(self.resource, settle),
            (None, None) => self.turns.end_here(self.resource, self.want),
        }
        self.turns.advance(self.resource);
    }
}
