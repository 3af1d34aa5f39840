//! `memory:`, the default store: forgets on restart (S2).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::answers::{Answer, Answers, Encoded, Location};
use super::cells::{COST, Cell, CellId, Cells, Fit, Kind, Name, Put, Swap};
use super::log::{Event, Keep, Log, Place};
use super::minted::{Minted, Number};
use super::unsettled::{Unsettled, follow};
use super::{ById, Change, Claimed, Move, Reply, Resolution, Set, Store, StoreError};
use crate::protocol::record::{Millis, Phase, Record, RecordId, ResourceId, Step, step};

const SHARDS: usize = 256;
/// Operators decide by hand; the latest of their words are kept.
const MOST_RESOLUTIONS: usize = 10_000;
/// What a record costs beside its text: itself, its box, and its share of a table that is two thirds full.
const RECORD_COST: usize = std::mem::size_of::<Stored>() + 16 + 40;

struct Stored {
    record: Record,
    answer: Kept,
}

/// Where a record's answer is.
enum Kept {
    No,
    /// Without content: nothing of it is worth letting go.
    Here(Box<[u8]>),
    There(Location),
}

impl Kept {
    fn cost(&self) -> usize {
        match self {
            Self::Here(bytes) => bytes.len() + 16,
            Self::No | Self::There(_) => 0,
        }
    }
}

type Shard = HashMap<RecordId, Box<Stored>, ById>;

/// Everything in this process's memory, within `store.max_memory`.
pub struct Memory {
    shards: Vec<Mutex<Shard>>,
    answers: Answers,
    minted: Minted,
    cells: Mutex<Cells>,
    /// Bytes of all cells, to be had without their lock.
    cell_bytes: AtomicUsize,
    log: Log,
    limit: usize,
    records: AtomicUsize,
    unknown: AtomicU64,
    unsettled: Unsettled,
    resolutions: Mutex<VecDeque<Resolution>>,
    fences: AtomicU64,
    swept: AtomicUsize,
}

impl Memory {
    /// An empty store of at most `limit` bytes. `epoch`: microseconds since the Unix epoch.
    pub fn new(limit: usize, epoch: u64) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            answers: Answers::new(limit),
            minted: Minted::new(epoch),
            cells: Mutex::default(),
            cell_bytes: AtomicUsize::new(0),
            log: Log::new(epoch, 0),
            limit,
            records: AtomicUsize::new(0),
            unknown: AtomicU64::new(0),
            unsettled: Unsettled::default(),
            resolutions: Mutex::default(),
            fences: AtomicU64::new(epoch),
            swept: AtomicUsize::new(0),
        }
    }

    fn with<T>(&self, id: RecordId, act: impl FnOnce(&mut Shard) -> T) -> Result<T, StoreError> {
        // The last byte, because the table inside takes the first ones.
        let [.., last] = id.0;
        let shard = self.shards.get(usize::from(last) % SHARDS).ok_or(StoreError::Unavailable)?;
        Ok(act(&mut shard.lock()))
    }

    fn used(&self) -> usize {
        self.records.load(Ordering::Relaxed)
            + self.cell_bytes.load(Ordering::Relaxed)
            + self.answers.bytes()
            + self.log.bytes()
    }

    /// Makes room for `more` bytes: bodies go first, then events and counters, never a record or a cell (S2).
    fn make_room(&self, more: usize, now: Millis) -> Result<(), StoreError> {
        while self.used() + more + self.minted.bytes() > self.limit {
            if !self.answers.drop_oldest() && !self.log.drop_oldest() {
                self.minted.drop_all(now);
                let left = self.used() + more;
                return if left <= self.limit { Ok(()) } else { Err(StoreError::Full) };
            }
        }
        Ok(())
    }

    fn added(&self, stored: &Stored) {
        self.records.fetch_add(stored.cost(), Ordering::Relaxed);
        self.unknown.fetch_add(u64::from(stored.is_unknown()), Ordering::Relaxed);
    }

    fn removed(&self, stored: &Stored) {
        self.records.fetch_sub(stored.cost(), Ordering::Relaxed);
        self.unknown.fetch_sub(u64::from(stored.is_unknown()), Ordering::Relaxed);
    }

    /// Keeps an answer. One that finds no room is as one that was let go at once.
    fn keep(&self, answer: Option<&Encoded>, life: Duration, now: Millis) -> Kept {
        let Some(answer) = answer else { return Kept::No };
        if !answer.has_content() {
            return Kept::Here(answer.bytes().into());
        }
        if self.make_room(answer.len(), now).is_err() {
            return Kept::No;
        }
        self.answers.put(answer.bytes(), life).map_or(Kept::No, Kept::There)
    }

    fn claim_now(&self, id: RecordId, record: Record, now: Millis) -> Result<Claimed, StoreError> {
        // A full store still knows what it holds: only a new record needs room.
        let room = self.make_room(cost(&record), now);
        self.with(id, |shard| {
            if let Some(standing) = shard.get(&id) {
                if !standing.record.is_expired(now) {
                    let standing = Box::new(standing.record.clone());
                    return Ok(Claimed::Taken { standing, yours: Box::new(record) });
                }
                self.removed(standing);
                let phase = Some(standing.record.state.phase());
                self.unsettled.moved(id, &standing.record.resource, phase, None);
                shard.remove(&id);
            }
            room?;
            let stored = Box::new(Stored { record, answer: Kept::No });
            self.added(&stored);
            shard.insert(id, stored);
            Ok(Claimed::New)
        })?
    }

    fn commit_now(&self, mut change: Change, now: Millis) -> Result<bool, StoreError> {
        let event = change.event.take();
        let done = if change.cells.is_empty() {
            self.step_now(change, now)?
        } else {
            let puts = std::mem::take(&mut change.cells);
            self.swap_with(&puts, now, || self.step_now(change, now))?
        };
        // The same step again tells nothing again.
        if done == Step::Apply
            && let Some(event) = event
        {
            self.log.append(event, now);
        }
        Ok(done != Step::Lost)
    }

    /// Swaps cells together with something else, which is done only if they fit.
    fn swap_with(
        &self,
        puts: &[Put],
        now: Millis,
        step: impl FnOnce() -> Result<Step, StoreError>,
    ) -> Result<Step, StoreError> {
        let new = puts.iter().filter_map(|put| put.to.as_ref()).map(|to| to.value.len() + COST);
        let room = self.make_room(new.sum(), now);
        let mut cells = self.cells.lock();
        match cells.fit(puts) {
            Fit::Lost => return Ok(Step::Lost),
            Fit::Already => return Ok(Step::Already),
            // What only gives room is never refused.
            Fit::Apply if puts.iter().any(|put| put.was.is_none()) => room?,
            Fit::Apply => {}
        }
        let done = step()?;
        if done == Step::Apply {
            cells.apply(puts, now);
            self.cell_bytes.store(cells.bytes(), Ordering::Relaxed);
        }
        Ok(done)
    }

    fn step_now(&self, change: Change, now: Millis) -> Result<Step, StoreError> {
        let goes_out = change.goes_out();
        let Change { id, owner, before, set, answer, version, resolution, turn: _, cells: _, event: _ } =
            change;
        let kept = self.keep(answer.as_ref(), life(&set, now), now);
        let mut followed = Vec::new();
        let done = self.with(id, |shard| {
            match step(shard.get(&id).map(|stored| &stored.record), owner, before, &set) {
                Step::Apply => {}
                step @ (Step::Already | Step::Lost) => return step,
            }
            let Some(stored) = shard.get_mut(&id) else { return Step::Lost };
            self.removed(stored);
            let from = Some(stored.record.state.phase());
            match set {
                Set::Remove => {
                    self.unsettled.moved(id, &stored.record.resource, from, None);
                    shard.remove(&id);
                    return Step::Apply;
                }
                Set::State(state) => stored.record.state = state.after(&stored.record.state),
                Set::Replace(record) => {
                    let state = record.state.after(&stored.record.state);
                    stored.record = Record { state, ..record };
                }
            }
            stored.answer = kept;
            self.unsettled.moved(id, &stored.record.resource, from, Some(stored.record.state.phase()));
            if goes_out {
                followed = self.unsettled.others(id, &stored.record.resource);
            }
            self.added(stored);
            Step::Apply
        })?;
        for other in followed {
            self.with(other, |shard| shard.get_mut(&other).map(|stored| follow(&mut stored.record)))?;
        }
        if let Some(to) = version.filter(|_| done != Step::Lost) {
            self.minted.apply(to, now);
        }
        if let Some(resolution) = resolution.filter(|_| done != Step::Lost) {
            self.remember(resolution);
        }
        Ok(done)
    }

    fn remember(&self, resolution: Resolution) {
        let mut resolutions = self.resolutions.lock();
        if resolutions.len() >= MOST_RESOLUTIONS {
            resolutions.pop_back();
        }
        resolutions.push_front(resolution);
    }
}

fn cost(record: &Record) -> usize {
    RECORD_COST + record.resource.len() + 16
}

impl Stored {
    fn cost(&self) -> usize {
        cost(&self.record) + self.answer.cost()
    }

    fn is_unknown(&self) -> bool {
        self.record.state.phase() == Phase::Unknown
    }
}

fn life(set: &Set, now: Millis) -> Duration {
    let state = match set {
        Set::State(state) => Some(state),
        Set::Replace(record) => Some(&record.state),
        Set::Remove => None,
    };
    let until = state.and_then(|state| state.expires_at()).unwrap_or(now);
    Duration::from_millis(until.saturating_sub(now))
}

impl Store for Memory {
    fn claim(&self, id: RecordId, record: Record, now: Millis) -> Reply<Claimed> {
        Reply::now(self.claim_now(id, record, now))
    }

    fn read(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        Reply::now(self.with(id, |shard| {
            shard.get(&id).map(|stored| &stored.record).filter(|record| !record.is_expired(now)).cloned()
        }))
    }

    fn answer(&self, id: RecordId) -> Reply<Option<Answer>> {
        let found = self.with(id, |shard| match &shard.get(&id)?.answer {
            Kept::No => None,
            Kept::Here(bytes) => Some(Err(Answer::decode(Bytes::copy_from_slice(bytes)))),
            Kept::There(at) => Some(Ok(*at)),
        });
        Reply::now(found.map(|found| match found? {
            Ok(at) => self.answers.get(at),
            Err(here) => here,
        }))
    }

    fn commit(&self, change: Change, now: Millis) -> Reply<bool> {
        Reply::now(self.commit_now(change, now))
    }

    fn resolutions(&self, id: RecordId, now: Millis) -> Reply<Vec<Resolution>> {
        let resolutions = self.resolutions.lock();
        let found = resolutions.iter().filter(|one| one.id == id && one.expires_at > now);
        Reply::now(Ok(found.cloned().collect()))
    }

    fn next_fence(&self) -> Reply<u64> {
        Reply::now(Ok(self.fences.fetch_add(1, Ordering::AcqRel)))
    }

    fn next_number(&self) -> Reply<Number> {
        Reply::now(Ok(self.minted.next_number()))
    }

    fn move_version(&self, to: Move, now: Millis) -> Reply<()> {
        self.minted.apply(to, now);
        // Without a record nothing else asks for room; where only records are left, no counter is kept.
        self.make_room(0, now).ok();
        Reply::now(Ok(()))
    }

    fn minted(&self, resource: ResourceId, now: Millis) -> Reply<Box<str>> {
        Reply::now(Ok(self.minted.tag(resource, now)))
    }

    fn minted_tag(&self, resource: ResourceId, number: Number) -> Box<str> {
        self.minted.tag_of(resource, number)
    }

    fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Reply<Vec<(RecordId, Record)>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let fitting = shard.iter().filter(|(_, stored)| {
                !stored.record.is_expired(now)
                    && phase.is_none_or(|phase| stored.record.state.phase() == phase)
            });
            found.extend(fitting.take(most - found.len()).map(|(id, stored)| (*id, stored.record.clone())));
            if found.len() >= most {
                break;
            }
        }
        Reply::now(Ok(found))
    }

    fn cell(&self, id: CellId, now: Millis) -> Reply<Option<Cell>> {
        if self.cell_bytes.load(Ordering::Relaxed) == 0 {
            return Reply::now(Ok(None));
        }
        Reply::now(Ok(self.cells.lock().get(id).map(|cell| cell.at(now))))
    }

    fn swap(&self, swap: Swap, now: Millis) -> Reply<bool> {
        let done = self.swap_with(&swap.puts, now, || Ok(Step::Apply));
        if let (Ok(Step::Apply), Some(event)) = (done, swap.event) {
            self.log.append(event, now);
        }
        Reply::now(done.map(|done| done != Step::Lost))
    }

    fn due(&self, kind: Kind, within: Duration, most: usize, now: Millis) -> Reply<Vec<(Name, Cell)>> {
        let until = now.saturating_add(crate::protocol::record::millis(within));
        Reply::now(Ok(self.cells.lock().due(kind, until, most, now)))
    }

    fn cells(&self, kind: Kind, most: usize, now: Millis) -> Reply<Vec<(Name, Cell)>> {
        Reply::now(Ok(self.cells.lock().all(kind, most, now)))
    }

    fn keep_events(&self, keep: Keep) {
        self.log.keep(keep);
    }

    fn last_event(&self) -> Reply<Place> {
        Reply::now(Ok(self.log.end()))
    }

    fn events(&self, after: Place, most: usize, now: Millis) -> Reply<Option<Vec<Event>>> {
        self.log.sweep(now);
        Reply::now(Ok(self.log.since(after, most)))
    }

    fn event_signal(&self) -> watch::Receiver<u64> {
        self.log.signal()
    }

    fn outlives_process(&self) -> bool {
        false
    }

    fn reach(&self) -> Reply<()> {
        Reply::now(Ok(()))
    }

    fn close(&self) -> Reply<()> {
        Reply::now(Ok(()))
    }

    fn unknown(&self) -> Reply<u64> {
        Reply::now(Ok(self.unknown.load(Ordering::Relaxed)))
    }

    fn fill_ratio(&self) -> Reply<f64> {
        let used = self.used() + self.minted.bytes();
        // Bytes of memory are far below 2^52.
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = used as f64 / self.limit.max(1) as f64;
        Reply::now(Ok(ratio.min(1.0)))
    }

    fn sweep(&self, now: Millis) {
        let next = self.swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
        if let Some(shard) = self.shards.get(next) {
            shard.lock().retain(|id, stored| {
                let keep = !stored.record.is_expired(now);
                if !keep {
                    self.removed(stored);
                    let phase = Some(stored.record.state.phase());
                    self.unsettled.moved(*id, &stored.record.resource, phase, None);
                }
                keep
            });
        }
        if next == 0 {
            self.log.sweep(now);
            self.answers.sweep(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::conformance::{Case, on_each_case, on_each_cell_case};
    use super::*;

    on_each_case!((Case { store: Arc::new(Memory::new(8 << 20, 7)), now: 1_000_000 }, ()));
    on_each_cell_case!((Case { store: Arc::new(Memory::new(8 << 20, 7)), now: 1_000_000 }, ()));

    // S2, V8
    #[test]
    fn counters_are_bounded_too_and_a_dropped_one_matches_nothing() {
        let store = Memory::new(1 << 20, 7);
        let first = ResourceId::new("0");
        let mut tags = Vec::new();
        for n in 0..30_000 {
            let to = store.minted.next_number();
            let resource = ResourceId::new(&n.to_string());
            drop(store.move_version(Move { resource, to, later: None, ends_rest: false }, 0));
            tags.push(store.minted.tag(first, 0));
            assert!(store.used() + store.minted.bytes() <= 1 << 20, "after {n} resources");
        }
        tags.dedup();
        let different: std::collections::HashSet<_> = tags.iter().collect();
        assert!(tags.len() > 1 && different.len() == tags.len(), "a tag came back: {tags:?}");
    }
}
