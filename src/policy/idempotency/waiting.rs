//! Who waits for the first run of a key (K6), in the order they came.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::claim::Claim;
use crate::protocol::record::{Record, RecordId};

/// What a waiting request is woken with.
pub(super) enum Wake {
    /// The record has changed: look again.
    Look,
    /// The first run was released, and this one takes its place.
    Granted(Box<Claim>),
}

/// A request that waits, with the record that would be its own; without one it only watches.
pub(super) struct Waiter {
    pub(super) record: Option<Record>,
    pub(super) wake: oneshot::Sender<Wake>,
}

/// All waiting requests. Bounded by the connections and their streams.
#[derive(Default)]
pub(super) struct Waiting {
    lines: Mutex<HashMap<RecordId, VecDeque<Waiter>>>,
}

impl Waiting {
    /// A place in the line for the key itself.
    pub(super) fn join(&self, id: RecordId, record: Record) -> oneshot::Receiver<Wake> {
        self.add(id, Some(record))
    }

    /// A look at the end, without a place in the line.
    pub(super) fn watch(&self, id: RecordId) -> oneshot::Receiver<Wake> {
        self.add(id, None)
    }

    fn add(&self, id: RecordId, record: Option<Record>) -> oneshot::Receiver<Wake> {
        let (wake, woken) = oneshot::channel();
        let mut lines = self.lines.lock();
        let line = lines.entry(id).or_default();
        line.retain(|waiter| !waiter.wake.is_closed());
        line.push_back(Waiter { record, wake });
        woken
    }

    /// The one that has waited longest for the key and still does.
    pub(super) fn next(&self, id: RecordId) -> Option<(Record, oneshot::Sender<Wake>)> {
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&id)?;
        let mut next = None;
        line.retain_mut(|waiter| {
            if next.is_none() && !waiter.wake.is_closed() && waiter.record.is_some() {
                let (placeholder, _closed) = oneshot::channel();
                let wake = std::mem::replace(&mut waiter.wake, placeholder);
                next = waiter.record.take().map(|record| (record, wake));
                return false;
            }
            !waiter.wake.is_closed()
        });
        if line.is_empty() {
            lines.remove(&id);
        }
        next
    }

    pub(super) fn wake_all(&self, id: RecordId) {
        let line = self.lines.lock().remove(&id);
        for waiter in line.into_iter().flatten() {
            // Who is gone need not be told.
            drop(waiter.wake.send(Wake::Look));
        }
    }

    pub(super) fn wake_everybody(&self) {
        let lines = std::mem::take(&mut *self.lines.lock());
        for waiter in lines.into_values().flatten() {
            drop(waiter.wake.send(Wake::Look));
        }
    }

    /// Forgets a line in which nobody waits any more.
    pub(super) fn tidy(&self, id: RecordId) {
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get_mut(&id) {
            line.retain(|waiter| !waiter.wake.is_closed());
            if line.is_empty() {
                lines.remove(&id);
            }
        }
    }
}
