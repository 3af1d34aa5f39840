//! What of the file is in memory: all that decides, and nothing that is not in the file already.
//!
//! Records that run or are unknown are here whole, finished ones by id and expiry, counters whole. A cache before the
//! file holds what finished last, since it never changes any more (invariant 10). Only the writer changes what is
//! stored, after it is durable; a claim that nothing went out for is nobody's business but ours (invariant 6).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::beside::Beside;
use super::file::Meta;
use super::read::{Finished, Found};
use super::reserved::Reserved;
use crate::protocol::record::{Millis, Owner, Phase, Record, RecordId, ResourceId, Set, State, Step, step};
use crate::store::minted::{Counter, Minted, Number};
use crate::store::unsettled::Unsettled;
use crate::store::{ById, Change, StoreError};

mod overview;

const SHARDS: usize = 64;
/// What a finished record costs here: its place in a table that is two thirds full.
const DONE_COST: usize = 48;
/// What one that runs or is unknown costs beside its text.
const OPEN_COST: usize = std::mem::size_of::<Open>() + 64;

/// A record that runs or is unknown.
struct Open {
    record: Record,
    /// Whether it stands in the file.
    stored: bool,
    /// It stands there as a job that nobody runs, which is what it is again after a crash (J1).
    queued: bool,
}

#[derive(Default)]
struct Shard {
    open: HashMap<RecordId, Open, ById>,
    done: HashMap<RecordId, Millis, ById>,
    /// Steps that are on their way to the file.
    pending: HashMap<RecordId, u32, ById>,
}

/// What stands under an id, as far as memory knows.
pub(super) enum Known {
    Nothing,
    Open(Box<Record>),
    Finished(Arc<Finished>),
    /// In the file only.
    Stored(Millis),
}

/// All of it.
pub(super) struct Image {
    shards: Vec<Mutex<Shard>>,
    cache: Cache<RecordId, Arc<Finished>>,
    pub(super) minted: Minted,
    pub(super) numbers_until: AtomicU64,
    pub(super) fences: Reserved,
    pub(super) unsettled: Unsettled,
    pub(super) beside: Beside,
    unknown: AtomicU64,
    records: AtomicUsize,
    limit: usize,
    swept: AtomicUsize,
}

impl Image {
    /// Of what a start found. `epoch`: microseconds since the Unix epoch, for a new store and for fences (L4).
    pub(super) fn new(found: Found, limit: usize, epoch: u64, now: Millis) -> Self {
        let meta = |which| found.meta.iter().find(|(meta, _)| *meta == which).map(|(_, number)| *number);
        let numbers = meta(Meta::Numbers).unwrap_or(1);
        let fences = meta(Meta::Fences).unwrap_or_default().max(epoch);
        let cache = Cache::builder()
            .max_capacity(limit as u64 / 4)
            // What finished last is asked for next; it must not have to earn its place.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, finished: &Arc<Finished>| {
                u32::try_from(finished.answer.len() + finished.record.resource.len() + 400)
                    .unwrap_or(u32::MAX)
            })
            .build();
        let epoch = meta(Meta::Epoch).unwrap_or(epoch);
        let image = Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            cache,
            minted: Minted::resumed(epoch, numbers, meta(Meta::Floor).unwrap_or_default()),
            numbers_until: numbers.into(),
            fences: Reserved::new(fences, fences),
            unsettled: Unsettled::default(),
            beside: Beside::new(epoch, found.cells, found.told),
            unknown: AtomicU64::new(0),
            records: AtomicUsize::new(0),
            limit,
            swept: AtomicUsize::new(0),
        };
        for (id, record) in found.open {
            image.set(id, Some(record), None);
        }
        for shard in &image.shards {
            // A million records are not to be moved from table to table as these grow.
            shard.lock().done.reserve(found.done.len() / SHARDS);
        }
        for (id, expires_at) in found.done.into_iter().filter(|(_, expires_at)| *expires_at > now) {
            image.with(id, |shard| image.mark_done(shard, id, expires_at));
        }
        for (resource, counter) in found.minted {
            image.minted.put(resource, counter);
        }
        image
    }

    fn with<T>(&self, id: RecordId, act: impl FnOnce(&mut Shard) -> T) -> Option<T> {
        let [.., last] = id.0;
        self.shards.get(usize::from(last) % SHARDS).map(|shard| act(&mut shard.lock()))
    }

    /// A minted number; `None` where the file does not allow for more yet.
    pub(super) fn next_number(&self) -> Option<Number> {
        let number = self.minted.next_number();
        (number < self.numbers_until.load(Ordering::Acquire)).then_some(number)
    }

    /// Puts a claim where nothing stands. What stands, else.
    ///
    /// # Errors
    /// Full: a quarter of the memory is the cache's, and what is left holds records only.
    pub(super) fn claim(
        &self,
        id: RecordId,
        record: &Record,
        now: Millis,
    ) -> Result<Option<Known>, StoreError> {
        let claimed = self.with(id, |shard| {
            match self.known(shard, id, now) {
                Known::Nothing => {}
                // A step on its way decides of it; nobody may wait for that in a loop.
                Known::Open(record) if record.is_expired(now) => return Err(StoreError::Unavailable),
                standing @ (Known::Open(_) | Known::Finished(_) | Known::Stored(_)) => {
                    return Ok(Some(standing));
                }
            }
            if !self.has_room(cost(record)) {
                return Err(StoreError::Full);
            }
            self.unmark_done(shard, id);
            // An expired one may still stand in the file; what is written next takes its place.
            let stored = shard.open.remove(&id).is_some_and(|expired| {
                self.uncount(&expired.record);
                self.unsettled.moved(id, &expired.record.resource, Some(Phase::Unknown), None);
                expired.stored
            });
            self.count(record);
            shard.open.insert(id, Open { record: record.clone(), stored, queued: false });
            Ok(None)
        });
        claimed.unwrap_or(Err(StoreError::Unavailable))
    }

    fn known(&self, shard: &Shard, id: RecordId, now: Millis) -> Known {
        if let Some(open) = shard.open.get(&id) {
            if open.record.is_expired(now) && !shard.pending.contains_key(&id) {
                return Known::Nothing;
            }
            return Known::Open(Box::new(open.record.clone()));
        }
        match shard.done.get(&id) {
            Some(expires_at) if *expires_at > now => match self.in_cache(id, *expires_at) {
                Some(finished) => Known::Finished(finished),
                None => Known::Stored(*expires_at),
            },
            Some(_) | None => Known::Nothing,
        }
    }

    /// A finished record, if it is the one that expires then: a slow reader may have put an older one of its id there.
    fn in_cache(&self, id: RecordId, expires_at: Millis) -> Option<Arc<Finished>> {
        self.cache.get(&id).filter(|finished| finished.record.state.expires_at() == Some(expires_at))
    }

    /// What stands under an id.
    pub(super) fn find(&self, id: RecordId, now: Millis) -> Known {
        self.with(id, |shard| self.known(shard, id, now)).unwrap_or(Known::Nothing)
    }

    /// A step that only memory need know of is done at once, or never will be. `None`: it has to go through the file,
    /// and is noted as on its way there.
    pub(super) fn step_in_memory(&self, change: &Change) -> Option<bool> {
        let done = self.with(change.id, |shard| {
            let on_its_way = shard.pending.contains_key(&change.id);
            if on_its_way && shard.open.get(&change.id).is_some_and(|open| takes_job(change, open)) {
                // The file is not to lose the job for who runs it; there is another look soon.
                return Some(false);
            }
            let here = shard.open.get_mut(&change.id).filter(|open| !on_its_way && only_here(change, open));
            let Some(open) = here else {
                *shard.pending.entry(change.id).or_default() += 1;
                return None;
            };
            match step(Some(&open.record), change.owner, change.before, &change.set) {
                Step::Apply => {}
                Step::Already => return Some(true),
                Step::Lost => return Some(false),
            }
            match &change.set {
                Set::Replace(record) => open.record = record.clone(),
                Set::State(state) => open.record.state = state.clone(),
                Set::Remove => {
                    self.uncount(&open.record);
                    shard.open.remove(&change.id);
                }
            }
            Some(true)
        });
        done.flatten()
    }

    /// A step that was on its way is there, or is not to be.
    pub(super) fn arrived(&self, id: RecordId) {
        self.with(id, |shard| {
            if let Entry::Occupied(mut pending) = shard.pending.entry(id) {
                *pending.get_mut() -= 1;
                if *pending.get() == 0 {
                    pending.remove();
                }
            }
        });
    }

    /// The record of an id as the file has it: for the writer, which alone changes that.
    pub(super) fn standing(&self, id: RecordId) -> Option<Record> {
        let standing = self.with(id, |shard| match shard.open.get(&id) {
            Some(open) => Some(open.record.clone()),
            None => self.in_cache(id, *shard.done.get(&id)?).map(|finished| finished.record.clone()),
        });
        standing.flatten()
    }

    /// Whether a record that runs or is unknown stands in the file, and what it is.
    pub(super) fn stored(&self, id: RecordId) -> (Option<Record>, Option<Millis>) {
        let stored = self.with(id, |shard| {
            let is_there =
                |open: &&Open| open.stored && (open.queued || open.record.state.phase() != Phase::Claimed);
            let open = shard.open.get(&id).filter(is_there).map(|open| match open.queued {
                true => Record { state: State::Queued, ..open.record.clone() },
                false => open.record.clone(),
            });
            (open, shard.done.get(&id).copied())
        });
        stored.unwrap_or_default()
    }

    /// A record stands in the file now, or no longer. `of`: only where it is still this execution's.
    pub(super) fn set(&self, id: RecordId, record: Option<Record>, of: Option<Owner>) {
        self.with(id, |shard| {
            let standing = shard.open.get(&id).map(|open| open.record.owner);
            if of.is_none() || of == standing {
                self.put(shard, id, record);
            }
        });
    }

    fn put(&self, shard: &mut Shard, id: RecordId, record: Option<Record>) {
        let before = shard.open.remove(&id);
        let from = before.as_ref().map(|open| open.record.state.phase());
        let to = record.as_ref().map(|record| record.state.phase());
        let text = record.as_ref().or(before.as_ref().map(|open| &open.record));
        if let Some(text) = text {
            self.unsettled.moved(id, &text.resource, from, to);
        }
        if let Some(open) = &before {
            self.uncount(&open.record);
        }
        if let Some(record) = record {
            self.count(&record);
            let (stored, queued) = (to != Some(Phase::Claimed), to == Some(Phase::Queued));
            shard.open.insert(id, Open { record, stored, queued });
        }
    }

    /// A finished record stands in the file now.
    pub(super) fn finish(&self, id: RecordId, finished: Finished) {
        let expires_at = finished.record.state.expires_at().unwrap_or_default();
        let finished = Arc::new(finished);
        // In one step: between two, the key would be free (invariant 1).
        self.with(id, |shard| {
            self.put(shard, id, None);
            self.mark_done(shard, id, expires_at);
        });
        self.cache.insert(id, finished);
    }

    /// A finished record was read from the file.
    pub(super) fn cached(&self, id: RecordId, finished: Finished) -> Arc<Finished> {
        let finished = Arc::new(finished);
        self.cache.insert(id, Arc::clone(&finished));
        finished
    }

    /// A finished record is no longer in the file.
    pub(super) fn forgot(&self, id: RecordId, expires_at: Millis) {
        let gone = self.with(id, |shard| {
            let stands = shard.done.get(&id) == Some(&expires_at);
            if stands {
                self.unmark_done(shard, id);
            }
            stands
        });
        if gone == Some(true) {
            self.cache.invalidate(&id);
        }
    }

    fn mark_done(&self, shard: &mut Shard, id: RecordId, expires_at: Millis) {
        if shard.done.insert(id, expires_at).is_none() {
            self.records.fetch_add(DONE_COST, Ordering::Relaxed);
        }
    }

    fn unmark_done(&self, shard: &mut Shard, id: RecordId) {
        if shard.done.remove(&id).is_some() {
            self.records.fetch_sub(DONE_COST, Ordering::Relaxed);
        }
    }

    fn count(&self, record: &Record) {
        self.records.fetch_add(cost(record), Ordering::Relaxed);
        self.unknown.fetch_add(u64::from(record.state.phase() == Phase::Unknown), Ordering::Relaxed);
    }

    fn uncount(&self, record: &Record) {
        self.records.fetch_sub(cost(record), Ordering::Relaxed);
        self.unknown.fetch_sub(u64::from(record.state.phase() == Phase::Unknown), Ordering::Relaxed);
    }

    /// Where a resource's counter stands.
    pub(super) fn counter(&self, resource: ResourceId) -> Option<Counter> {
        self.minted.counter(resource)
    }
}

fn cost(record: &Record) -> usize {
    OPEN_COST + record.resource.len()
}

/// Whether a step begins to run a job.
fn takes_job(change: &Change, open: &Open) -> bool {
    let claims = matches!(&change.set, Set::Replace(Record { state: State::Claimed, .. }));
    claims && open.record.state == State::Queued && change.cells.is_empty() && change.event.is_none()
}

/// Whether nothing of a step concerns the file: its record does not stand there, and will not, or it stands there as
/// a job that is queued, and is to stand so.
fn only_here(change: &Change, open: &Open) -> bool {
    let gives_back = open.queued && matches!(change.set, Set::State(State::Queued));
    let stays_claimed = match &change.set {
        Set::Remove => true,
        Set::Replace(record) => record.state.phase() == Phase::Claimed,
        Set::State(_) => false,
    };
    let alone = change.version.is_none() && change.resolution.is_none();
    let here = gives_back || takes_job(change, open) || (stays_claimed && !open.stored);
    here && alone && change.cells.is_empty() && change.event.is_none()
}
