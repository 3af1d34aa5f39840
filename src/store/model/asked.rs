//! The model behind the traits of a store: who asks it, and when it answers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::Model;
use crate::protocol::record::millis;
use crate::protocol::record::{Millis, Phase, Record, RecordId, ResourceId};
use crate::store::cells::{Kind, Name};
use crate::store::minted::Number;
use crate::store::shared::{
    Also, Beside, BusyResource, Instance, Lapsed, News, Shared, TurnEnd, Turned, Wish,
};
use crate::store::{
    Answer, Cell, CellId, Change, Claimed, Event, Keep, Move, Place, Reply, Resolution, Set, Store,
    StoreError, Swap,
};

/// Who asks a [`Model`], and when it answers.
pub(crate) trait Ask: Send + Sync + 'static {
    /// Does something in it. `what` is a word for people.
    fn ask<T, F>(&self, what: &'static str, act: F) -> Reply<T>
    where
        T: Send + Unpin + 'static,
        F: FnOnce(&mut Model) -> T + Send + 'static;

    /// A look at it that costs nothing.
    fn look<T>(&self, act: impl FnOnce(&Model) -> T) -> T;

    /// The store's own clock, where it needs one.
    fn clock(&self) -> Millis {
        0
    }

    /// Something that only a living instance may begin.
    fn begin<T, F>(&self, what: &'static str, act: F) -> Reply<T>
    where
        T: Send + Unpin + 'static,
        F: FnOnce(&mut Model, Instance) -> T + Send + 'static,
    {
        let (instance, now) = (self.instance(), self.clock());
        let reply = self.ask(what, move |model| {
            model.may_begin(instance, now).then(|| act(model, instance.unwrap_or(ALONE)))
        });
        match reply {
            Reply::Now(done) => Reply::Now(done.map(|done| done?.ok_or(StoreError::Unreached))),
            later @ Reply::Later(_) => Reply::later(async { later.await?.ok_or(StoreError::Unreached) }),
        }
    }

    /// This life of this instance, where there may be others.
    fn instance(&self) -> Option<Instance> {
        None
    }

    /// The same, as long as it lasts by its own clock.
    fn living(&self) -> Option<Instance> {
        self.instance()
    }

    fn news(&self) -> Option<mpsc::Receiver<News>> {
        None
    }
}

/// A model that answers at once.
pub(crate) struct AtOnce(Mutex<Model>);

impl AtOnce {
    pub(crate) fn store() -> Arc<dyn Store> {
        Arc::new(Self(Mutex::default()))
    }
}

/// Where nobody asks who it was.
const ALONE: Instance = Instance(0);

impl Ask for AtOnce {
    fn ask<T, F>(&self, _: &'static str, act: F) -> Reply<T>
    where
        T: Send + Unpin + 'static,
        F: FnOnce(&mut Model) -> T + Send + 'static,
    {
        Reply::now(Ok(act(&mut self.0.lock())))
    }

    fn look<T>(&self, act: impl FnOnce(&Model) -> T) -> T {
        act(&self.0.lock())
    }
}

impl<A: Ask> Store for A {
    fn claim(&self, id: RecordId, record: Record, now: Millis) -> Reply<Claimed> {
        self.begin("claim", move |model, by| model.claim(id, record, by, now))
    }

    fn read(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        self.ask("read", move |model| model.read(id, now))
    }

    fn answer(&self, id: RecordId) -> Reply<Option<Answer>> {
        self.ask("answer", move |model| model.answer(id))
    }

    fn commit(&self, change: Change, now: Millis) -> Reply<bool> {
        let by = self.instance().unwrap_or(ALONE);
        self.ask(step_name(&change.set), move |model| model.commit(change, by, now))
    }

    fn resolutions(&self, id: RecordId, now: Millis) -> Reply<Vec<Resolution>> {
        self.ask("resolutions", move |model| model.resolutions(id, now))
    }

    fn next_fence(&self) -> Reply<u64> {
        self.ask("fence", Model::fence)
    }

    fn next_number(&self) -> Reply<Number> {
        self.ask("number", Model::number)
    }

    fn move_version(&self, to: Move, now: Millis) -> Reply<()> {
        self.ask("move", move |model| model.move_version(to, now))
    }

    fn minted(&self, resource: ResourceId, now: Millis) -> Reply<Box<str>> {
        self.ask("minted", move |model| model.minted(resource, now))
    }

    fn minted_tag(&self, resource: ResourceId, number: Number) -> Box<str> {
        super::tag(resource, number)
    }

    fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Reply<Vec<(RecordId, Record)>> {
        self.ask("scan", move |model| model.scan(phase, most, now))
    }

    fn cell(&self, id: CellId, now: Millis) -> Reply<Option<Cell>> {
        self.ask("cell", move |model| model.cells.get(id).map(|cell| cell.at(now)))
    }

    fn swap(&self, swap: Swap, now: Millis) -> Reply<bool> {
        self.ask("swap", move |model| model.swap(swap, now))
    }

    fn due(&self, kind: Kind, within: Duration, most: usize, now: Millis) -> Reply<Vec<(Name, Cell)>> {
        let until = now.saturating_add(millis(within));
        self.ask("due", move |model| model.cells.due(kind, until, most, now))
    }

    fn cells(&self, kind: Kind, most: usize, now: Millis) -> Reply<Vec<(Name, Cell)>> {
        self.ask("cells", move |model| model.cells.all(kind, most, now))
    }

    fn keep_events(&self, keep: Keep) {
        drop(self.ask("keep events", move |model| model.history = Some(keep.history)));
    }

    fn last_event(&self) -> Reply<Place> {
        self.ask("last event", |model| Place { epoch: 0, number: model.told.len() as u64 })
    }

    fn events(&self, after: Place, most: usize, _: Millis) -> Reply<Option<Vec<Event>>> {
        self.ask("events", move |model| model.since(after, most))
    }

    fn event_signal(&self) -> watch::Receiver<u64> {
        self.look(|model| model.signal.subscribe())
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn reach(&self) -> Reply<()> {
        self.ask("reach", |_| ())
    }

    fn close(&self) -> Reply<()> {
        self.ask("close", |_| ())
    }

    fn unknown(&self) -> Reply<u64> {
        Reply::now(Ok(self.look(|model| {
            let unknown = model.rows.values().filter(|row| row.record.state.phase() == Phase::Unknown);
            unknown.count() as u64
        })))
    }

    #[allow(clippy::cast_precision_loss, reason = "a handful of rows")]
    fn fill_ratio(&self) -> Reply<f64> {
        Reply::now(Ok(self.look(|model| model.rows.len() as f64 / 1e6)))
    }

    fn sweep(&self, now: Millis) {
        drop(self.ask("sweep", move |model| model.rows.retain(|_, row| !row.record.is_expired(now))));
    }

    fn shared(&self) -> Option<&dyn Shared> {
        self.instance().map(|_| self as &dyn Shared)
    }
}

impl<A: Ask> Shared for A {
    fn living(&self) -> Option<Instance> {
        Ask::living(self)
    }

    fn claim_beside(
        &self,
        id: RecordId,
        record: Record,
        beside: Beside,
        now: Millis,
    ) -> Reply<(Claimed, Option<Also>)> {
        self.begin("claim beside", move |model, by| model.claim_beside(id, record, beside, by, now))
    }

    fn take_turn(&self, wish: Wish, now: Millis) -> Reply<Turned> {
        self.begin("take turn", move |model, by| model.take_turn(wish, by, now))
    }

    fn end_turn(&self, end: TurnEnd) -> Reply<()> {
        let now = self.clock();
        self.ask("end turn", move |model| model.end_turn(end, now))
    }

    fn leave_line(&self, resource: ResourceId) -> Reply<()> {
        let by = self.instance().unwrap_or(ALONE);
        let now = self.clock();
        self.ask("leave line", move |model| model.leave_line(resource, by, now))
    }

    fn end_rest(&self, resource: ResourceId) -> Reply<()> {
        let now = self.clock();
        self.ask("end rest", move |model| model.end_rest(resource, now))
    }

    fn busy(&self, most: usize) -> Reply<Vec<BusyResource>> {
        let now = self.clock();
        self.ask("busy", move |model| model.busy(most, now))
    }

    fn watch(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        self.ask("watch", move |model| model.watch(id, now))
    }

    fn lapsed(&self) -> Reply<Vec<Lapsed>> {
        let now = self.clock();
        self.ask("lapsed", move |model| model.lapsed(now))
    }

    fn left_by(&self, instance: Instance, most: usize) -> Reply<Vec<(RecordId, Record)>> {
        self.ask("left by", move |model| model.left_by(instance, most))
    }

    fn bury(&self, instance: Instance) -> Reply<()> {
        let now = self.clock();
        self.ask("bury", move |model| model.bury(instance, now))
    }

    fn news(&self) -> Option<mpsc::Receiver<News>> {
        Ask::news(self)
    }
}

fn step_name(set: &Set) -> &'static str {
    match set {
        Set::State(state) => match state.phase() {
            Phase::Claimed => "to claimed",
            Phase::Queued => "to queued",
            Phase::Forwarded => "to forwarded",
            Phase::Done => "to done",
            Phase::Unknown => "to unknown",
        },
        Set::Replace(_) => "replace",
        Set::Remove => "remove",
    }
}
