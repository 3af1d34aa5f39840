//! What is told of commits, in their order (E1): a bounded history that readers follow from where they are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::protocol::record::Millis;
use crate::protocol::record::millis;

/// One event, in the words of whoever tells it.
pub type Event = Arc<[u8]>;

/// A place in the log: behind the event of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Names one history of one store: numbers of another say nothing here.
    pub epoch: u64,
    /// Numbers grow by one, from 1; 0 is before all.
    pub number: u64,
}

/// How much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// At most so many events.
    pub history: usize,
    /// None for longer.
    pub ttl: Duration,
}

impl Default for Keep {
    fn default() -> Self {
        Self { history: 10_000, ttl: Duration::from_secs(3600) }
    }
}

/// What an event takes beside its text.
const COST: usize = 48;

/// A log in memory.
#[derive(Debug)]
pub(super) struct Log {
    epoch: u64,
    kept: Mutex<Kept>,
    /// The number of the last one.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<(Millis, Event)>,
    /// The number of the last one.
    last: u64,
    bytes: usize,
    keep: Keep,
}

impl Kept {
    fn drop_first(&mut self) -> bool {
        let Some((_, event)) = self.events.pop_front() else { return false };
        self.bytes -= event.len() + COST;
        true
    }

    fn shrink(&mut self, now: Millis) {
        let oldest = now.saturating_sub(millis(self.keep.ttl));
        while self.events.len() > self.keep.history || self.events.front().is_some_and(|(at, _)| *at < oldest)
        {
            self.drop_first();
        }
    }

    /// The number before the first that is kept.
    fn before(&self) -> u64 {
        self.last - self.events.len() as u64
    }
}

impl Log {
    /// A log that continues behind `last`.
    pub(super) fn new(epoch: u64, last: u64) -> Self {
        Self::resumed(epoch, last, VecDeque::new())
    }

    /// A log that continues behind `last`, the number of the last of these. How much is kept is said later.
    pub(super) fn resumed(epoch: u64, last: u64, events: VecDeque<(Millis, Event)>) -> Self {
        let bytes = events.iter().map(|(_, event)| event.len() + COST).sum();
        let kept = Mutex::new(Kept { events, last, bytes, keep: Keep::default() });
        Self { epoch, kept, last: watch::Sender::new(last) }
    }

    pub(super) fn keep(&self, keep: Keep) {
        self.kept.lock().keep = keep;
    }

    /// Tells it. Its number.
    pub(super) fn append(&self, event: Event, now: Millis) -> u64 {
        let mut kept = self.kept.lock();
        kept.bytes += event.len() + COST;
        kept.events.push_back((now, event));
        kept.last += 1;
        kept.shrink(now);
        let last = kept.last;
        drop(kept);
        // Commits may come by in another order; nobody is told less than before.
        self.last.send_if_modified(|told| std::mem::replace(told, last.max(*told)) < last);
        last
    }

    /// Lets go of the oldest; `false` if there is none.
    pub(super) fn drop_oldest(&self) -> bool {
        self.kept.lock().drop_first()
    }

    /// Forgets what is too old.
    pub(super) fn sweep(&self, now: Millis) {
        self.kept.lock().shrink(now);
    }

    pub(super) fn bytes(&self) -> usize {
        self.kept.lock().bytes
    }

    /// The number before the first that is held.
    pub(super) fn before(&self) -> u64 {
        self.kept.lock().before()
    }

    /// Behind the last one.
    pub(super) fn end(&self) -> Place {
        Place { epoch: self.epoch, number: self.kept.lock().last }
    }

    /// What was told since, at most `most`; `None`: no longer held, or never was (E1).
    pub(super) fn since(&self, after: Place, most: usize) -> Option<Vec<Event>> {
        let kept = self.kept.lock();
        if after.epoch != self.epoch || after.number < kept.before() || after.number > kept.last {
            return None;
        }
        let skip = usize::try_from(after.number - kept.before()).unwrap_or(usize::MAX);
        Some(kept.events.iter().skip(skip).take(most).map(|(_, event)| Arc::clone(event)).collect())
    }

    /// Changes with every event.
    pub(super) fn signal(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}
