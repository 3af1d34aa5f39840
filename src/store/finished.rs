//! Finished records before a store that is elsewhere: they never change any more (invariant 10).

use std::sync::Arc;

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::{Answer, ById};
use crate::protocol::record::{Millis, Phase, Record, RecordId};

/// A finished record with its answer.
pub(super) struct Finished {
    pub(super) record: Record,
    /// Encoded; `None` where none was kept.
    pub(super) answer: Option<Bytes>,
}

impl Finished {
    /// The kept answer.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.answer.clone().and_then(Answer::decode)
    }

    fn weight(&self) -> u32 {
        let answer = self.answer.as_ref().map_or(0, Bytes::len);
        u32::try_from(answer + self.record.resource.len() + 400).unwrap_or(u32::MAX)
    }
}

/// Those that were asked for last, within so many bytes.
pub(super) struct FinishedCache(Cache<RecordId, Arc<Finished>, ById>);

impl FinishedCache {
    /// For at most `limit` bytes, each of them weighed with its overhead.
    pub(super) fn new(limit: usize) -> Self {
        let cache = Cache::builder()
            .max_capacity(limit as u64)
            // What was asked for last is asked for next; it must not have to earn its place.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, finished: &Arc<Finished>| finished.weight())
            .build_with_hasher(ById::default());
        Self(cache)
    }

    /// What is known of it, unless it has expired.
    pub(super) fn get(&self, id: RecordId, now: Millis) -> Option<Arc<Finished>> {
        let found = self.0.get(&id)?;
        if found.record.is_expired(now) {
            self.0.invalidate(&id);
            return None;
        }
        Some(found)
    }

    /// Keeps what is done; anything else may still change.
    pub(super) fn put(&self, id: RecordId, finished: Finished) {
        if finished.record.state.phase() == Phase::Done {
            self.0.insert(id, Arc::new(finished));
        }
    }

    /// Bytes in use.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.0.weighted_size()
    }

    /// Does what was put off.
    pub(super) fn tend(&self) {
        self.0.run_pending_tasks();
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::record;
    use super::*;
    use crate::protocol::record::State;

    fn finished(expires_at: Millis, size: usize) -> Finished {
        let state = State::Done { status: 200, kept: true, completed_at: 1, expires_at };
        Finished { record: Record { state, ..record(1, "/d") }, answer: Some(vec![0; size].into()) }
    }

    // K7, invariant 10: only what is done is answered from here, and only until it expires.
    #[test]
    fn what_is_done_is_known_until_it_expires() {
        let cache = FinishedCache::new(1 << 20);
        let id = RecordId([1; 16]);
        cache.put(id, Finished { record: record(1, "/d"), answer: None });
        assert!(cache.get(id, 0).is_none(), "what runs may still change");
        cache.put(id, finished(10, 3));
        assert!(cache.get(id, 9).is_some());
        assert!(cache.get(id, 10).is_none());
    }

    // S2
    #[test]
    fn it_stays_within_its_bytes() {
        let cache = FinishedCache::new(100_000);
        for n in 0..100_u8 {
            cache.put(RecordId([n; 16]), finished(10, 5000));
        }
        cache.tend();
        assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
        assert!(cache.get(RecordId([99; 16]), 0).is_some());
    }
}
