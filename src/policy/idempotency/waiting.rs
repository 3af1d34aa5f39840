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

/// A request that waits, with the record that would be its own.
pub(super) struct Waiter {
    pub(super) record: Record,
    pub(super) wake: oneshot::Sender<Wake>,
}

/// All waiting requests. Bounded by the connections and their streams.
#[derive(Default)]
pub(super) struct Waiting {
    lines: Mutex<HashMap<RecordId, VecDeque<Waiter>>>,
}

impl Waiting {
    pub(super) fn join(&self, id: RecordId, record: Record) -> oneshot::Receiver<Wake> {
        let (wake, woken) = oneshot::channel();
        let mut lines = self.lines.lock();
        let line = lines.entry(id).or_default();
        line.retain(|waiter| !waiter.wake.is_closed());
        line.push_back(Waiter { record, wake });
        woken
    }

    /// The one that has waited longest and still does.
    pub(super) fn next(&self, id: RecordId) -> Option<Waiter> {
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&id)?;
        let mut next = line.pop_front();
        while next.as_ref().is_some_and(|waiter| waiter.wake.is_closed()) {
            next = line.pop_front();
        }
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
