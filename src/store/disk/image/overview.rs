//! What is there and how much of it: for operators, and for what has to be forgotten.

use std::sync::atomic::Ordering;

use super::{Image, Open, SHARDS};
use crate::protocol::record::{Millis, Owner, Phase, Record, RecordId};

impl Image {
    /// Bytes in use, but for the cache.
    fn used(&self) -> usize {
        self.records.load(Ordering::Relaxed) + self.minted.bytes() + self.beside.bytes()
    }

    /// Whether so many bytes more have room: a quarter of the memory is the cache's, and events are let go first (S2).
    pub(in crate::store::disk) fn has_room(&self, more: usize) -> bool {
        while self.used() + more > self.limit / 4 * 3 {
            if !self.beside.log.drop_oldest() {
                return false;
            }
        }
        true
    }

    pub(in crate::store::disk) fn fill_ratio(&self) -> f64 {
        let used = self.used() + usize::try_from(self.cache.weighted_size()).unwrap_or(usize::MAX);
        // Bytes of memory are far below 2^52.
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = used as f64 / self.limit.max(1) as f64;
        ratio.min(1.0)
    }

    /// Whether counters take more than their share.
    pub(in crate::store::disk) fn has_many_counters(&self) -> bool {
        self.minted.bytes() > self.limit / 4
    }

    pub(in crate::store::disk) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Records that run or are unknown, in one phase or all.
    pub(in crate::store::disk) fn scan(
        &self,
        phase: Option<Phase>,
        most: usize,
        now: Millis,
    ) -> Vec<(RecordId, Record)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let fitting = shard.open.iter().map(|(id, open)| (id, &open.record)).filter(|(_, record)| {
                !record.is_expired(now) && phase.is_none_or(|phase| record.state.phase() == phase)
            });
            found.extend(fitting.take(most - found.len()).map(|(id, record)| (*id, record.clone())));
        }
        found
    }

    /// Unknown records of one part that have expired, a part a call.
    pub(in crate::store::disk) fn expired(&self, now: Millis) -> Vec<(RecordId, Owner)> {
        let next = self.swept.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let Some(shard) = self.shards.get(next) else { return Vec::new() };
        let shard = shard.lock();
        let expired =
            |id: &RecordId, open: &Open| open.record.is_expired(now) && !shard.pending.contains_key(id);
        let over = shard.open.iter().filter(|(id, open)| expired(id, open));
        over.map(|(id, open)| (*id, open.record.owner)).collect()
    }
}
