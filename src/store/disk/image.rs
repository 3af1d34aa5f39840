//! What of the file is in memory: all that decides, and nothing that is not in the file already.
//!
//! Records that run or are unknown are here whole, finished ones by id and expiry, counters whole. A cache before the
//! file holds what finished last, since it never changes any more (invariant 10). Only the writer changes what is
//! stored, after it is durable; a claim that nothing went out for is nobody's business but ours (invariant 6).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::file::{Found, Meta};
use crate::protocol::record::{Millis, Phase, Record, RecordId, ResourceId, Set, Step, step};
use crate::store::minted::{Counter, Minted, Number};
use crate::store::unsettled::Unsettled;
use crate::store::{Answer, ById, Change, StoreError};

const SHARDS: usize = 64;
/// What a finished record costs here: its place in a table that is two thirds full.
const DONE_COST: usize = 48;
/// What one that runs or is unknown costs beside its text.
const OPEN_COST: usize = std::mem::size_of::<Entry>() + 64;
/// Numbers are reserved in the file so many at a time.
pub(super) const RESERVED: u64 = 1 << 20;

/// A record that runs or is unknown.
struct Entry {
    record: Record,
    /// Steps that are on their way to the file.
    pending: u32,
    /// Whether it stands in the file.
    stored: bool,
}

#[derive(Default)]
struct Shard {
    open: HashMap<RecordId, Entry, ById>,
    done: HashMap<RecordId, Millis, ById>,
}

/// A finished record, as the file has it.
pub(super) struct Finished {
    pub(super) record: Record,
    /// Encoded.
    pub(super) answer: Bytes,
}

impl Finished {
    /// The kept answer; `None` where none was kept.
    pub(super) fn answer(&self) -> Option<Answer> {
        if self.answer.is_empty() { None } else { Answer::decode(self.answer.clone()) }
    }
}

/// What stands under an id, as far as memory knows.
pub(super) enum Known {
    Nothing,
    Open(Box<Record>),
    Finished(Arc<Finished>),
    /// In the file only.
    Stored(Millis),
}

/// Which way a step goes.
pub(super) enum Way {
    /// It is done, or never will be.
    Here(bool),
    /// Through the file. `noted`: the record here knows that it is on its way.
    File { noted: bool },
}

/// A number that is given one by one, and reserved in the file many at a time.
pub(super) struct Reserved {
    next: AtomicU64,
    until: AtomicU64,
}

impl Reserved {
    fn new(next: u64, until: u64) -> Self {
        Self { next: next.into(), until: until.into() }
    }

    /// `None` where the file does not allow for more yet.
    pub(super) fn give(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::AcqRel);
        (number < self.until.load(Ordering::Acquire)).then_some(number)
    }

    /// What has to be reserved now, if it is time.
    pub(super) fn due(&self) -> Option<u64> {
        let (next, until) = (self.next.load(Ordering::Acquire), self.until.load(Ordering::Acquire));
        (next.saturating_add(RESERVED / 2) >= until).then(|| next.saturating_add(RESERVED))
    }

    pub(super) fn reserve(&self, until: u64) {
        self.until.fetch_max(until, Ordering::AcqRel);
    }
}

/// All of it.
pub(super) struct Image {
    shards: Vec<Mutex<Shard>>,
    cache: Cache<RecordId, Arc<Finished>>,
    pub(super) minted: Minted,
    pub(super) numbers_until: AtomicU64,
    pub(super) fences: Reserved,
    pub(super) unsettled: Unsettled,
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
            .weigher(|_, finished: &Arc<Finished>| {
                u32::try_from(finished.answer.len() + finished.record.resource.len() + 400)
                    .unwrap_or(u32::MAX)
            })
            .build();
        let image = Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            cache,
            minted: Minted::resumed(
                meta(Meta::Epoch).unwrap_or(epoch),
                numbers,
                meta(Meta::Floor).unwrap_or_default(),
            ),
            numbers_until: numbers.into(),
            fences: Reserved::new(fences, fences),
            unsettled: Unsettled::default(),
            unknown: AtomicU64::new(0),
            records: AtomicUsize::new(0),
            limit,
            swept: AtomicUsize::new(0),
        };
        for (id, record) in found.open {
            image.set(id, Some(record));
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

    /// Bytes in use, but for the cache.
    fn used(&self) -> usize {
        self.records.load(Ordering::Relaxed) + self.minted.bytes()
    }

    pub(super) fn fill_ratio(&self) -> f64 {
        let used = self.used() + usize::try_from(self.cache.weighted_size()).unwrap_or(usize::MAX);
        // Bytes of memory are far below 2^52.
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = used as f64 / self.limit.max(1) as f64;
        ratio.min(1.0)
    }

    /// Whether counters take more than their share.
    pub(super) fn has_many_counters(&self) -> bool {
        self.minted.bytes() > self.limit / 4
    }

    pub(super) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
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
                standing @ (Known::Open(_) | Known::Finished(_) | Known::Stored(_)) => {
                    return Ok(Some(standing));
                }
            }
            if self.used() + cost(record) > self.limit / 4 * 3 {
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
            shard.open.insert(id, Entry { record: record.clone(), pending: 0, stored });
            Ok(None)
        });
        claimed.unwrap_or(Err(StoreError::Unavailable))
    }

    fn known(&self, shard: &Shard, id: RecordId, now: Millis) -> Known {
        if let Some(entry) = shard.open.get(&id) {
            if entry.record.is_expired(now) && entry.pending == 0 {
                return Known::Nothing;
            }
            return Known::Open(Box::new(entry.record.clone()));
        }
        match shard.done.get(&id) {
            Some(expires_at) if *expires_at > now => match self.cache.get(&id) {
                Some(finished) => Known::Finished(finished),
                None => Known::Stored(*expires_at),
            },
            Some(_) | None => Known::Nothing,
        }
    }

    /// What stands under an id.
    pub(super) fn find(&self, id: RecordId, now: Millis) -> Known {
        self.with(id, |shard| self.known(shard, id, now)).unwrap_or(Known::Nothing)
    }

    /// A step that only memory need know of is done at once; every other is noted as on its way to the file.
    pub(super) fn step_in_memory(&self, change: &Change) -> Way {
        let way = self.with(change.id, |shard| {
            let Some(entry) = shard.open.get_mut(&change.id) else { return Way::File { noted: false } };
            let only_here = entry.pending == 0
                && !entry.stored
                && change.version.is_none()
                && change.resolution.is_none()
                && stays_claimed(&change.set);
            if !only_here {
                entry.pending += 1;
                return Way::File { noted: true };
            }
            match step(Some(&entry.record), change.owner, change.before, &change.set) {
                Step::Apply => {}
                Step::Already => return Way::Here(true),
                Step::Lost => return Way::Here(false),
            }
            match &change.set {
                Set::Replace(record) => entry.record = record.clone(),
                Set::State(_) | Set::Remove => {
                    self.uncount(&entry.record);
                    shard.open.remove(&change.id);
                }
            }
            Way::Here(true)
        });
        way.unwrap_or(Way::File { noted: false })
    }

    /// A step that was on its way is there, or is not to be.
    pub(super) fn arrived(&self, id: RecordId) {
        self.with(id, |shard| {
            if let Some(entry) = shard.open.get_mut(&id) {
                entry.pending = entry.pending.saturating_sub(1);
            }
        });
    }

    /// The record of an id as the file has it: for the writer, which alone changes that.
    pub(super) fn standing(&self, id: RecordId) -> Option<Record> {
        let open = self.with(id, |shard| shard.open.get(&id).map(|entry| entry.record.clone()));
        open.flatten().or_else(|| self.cache.get(&id).map(|finished| finished.record.clone()))
    }

    /// Whether a record that runs or is unknown stands in the file, and what it is.
    pub(super) fn stored(&self, id: RecordId) -> (Option<Record>, Option<Millis>) {
        let stored = self.with(id, |shard| {
            let open = shard.open.get(&id).filter(|entry| entry.stored).map(|entry| entry.record.clone());
            (open, shard.done.get(&id).copied())
        });
        stored.unwrap_or_default()
    }

    /// A record stands in the file now, or no longer.
    pub(super) fn set(&self, id: RecordId, record: Option<Record>) {
        self.with(id, |shard| {
            let before = shard.open.remove(&id);
            let from = before.as_ref().map(|entry| entry.record.state.phase());
            let to = record.as_ref().map(|record| record.state.phase());
            let text = record.as_ref().or(before.as_ref().map(|entry| &entry.record));
            if let Some(text) = text {
                self.unsettled.moved(id, &text.resource, from, to);
            }
            let pending = before.as_ref().map_or(0, |entry| entry.pending);
            if let Some(entry) = &before {
                self.uncount(&entry.record);
            }
            if let Some(record) = record {
                self.count(&record);
                let stored = to != Some(Phase::Claimed);
                shard.open.insert(id, Entry { record, pending, stored });
            }
        });
    }

    /// A finished record stands in the file now.
    pub(super) fn finish(&self, id: RecordId, finished: Finished) {
        let expires_at = finished.record.state.expires_at().unwrap_or_default();
        self.cache.insert(id, Arc::new(finished));
        self.set(id, None);
        self.with(id, |shard| self.mark_done(shard, id, expires_at));
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

    /// Records that run or are unknown, in one phase or all.
    pub(super) fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Vec<(RecordId, Record)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let fitting = shard.open.iter().map(|(id, entry)| (id, &entry.record)).filter(|(_, record)| {
                !record.is_expired(now) && phase.is_none_or(|phase| record.state.phase() == phase)
            });
            found.extend(fitting.take(most - found.len()).map(|(id, record)| (*id, record.clone())));
        }
        found
    }

    /// Unknown records of one part that have expired, a part a call.
    pub(super) fn expired(&self, now: Millis) -> Vec<RecordId> {
        let next = self.swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let Some(shard) = self.shards.get(next) else { return Vec::new() };
        let shard = shard.lock();
        let over = shard.open.iter().filter(|(_, entry)| entry.pending == 0 && entry.record.is_expired(now));
        over.map(|(id, _)| *id).collect()
    }

    /// Where a resource's counter stands.
    pub(super) fn counter(&self, resource: ResourceId) -> Option<Counter> {
        self.minted.counter(resource)
    }
}

fn cost(record: &Record) -> usize {
    OPEN_COST + record.resource.len()
}

/// Whether nothing of it concerns the file, as long as the record does not stand there.
fn stays_claimed(set: &Set) -> bool {
    match set {
        Set::Remove => true,
        Set::Replace(record) => record.state.phase() == Phase::Claimed,
        Set::State(_) => false,
    }
}
