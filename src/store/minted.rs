//! Versions that are counted here (V8).
//!
//! A tag is an epoch, a number that only grows over the whole store, and a digest of the resource. A resource without
//! a counter of its own has the store's `floor`; when counters are dropped the floor rises above all of them, so no
//! tag that was ever given can match again, and a read writes nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::{ById, Move};
use crate::protocol::record::{Millis, ResourceId};

/// Grows over the whole store.
pub type Number = u64;

const SHARDS: usize = 64;
/// What one counter costs, with its share of the table.
const COST: usize = 96;

#[derive(Clone, Copy)]
struct Counter {
    number: Number,
    later: Option<(Millis, Number)>,
}

impl Counter {
    fn at(&self, now: Millis) -> Number {
        self.later.filter(|(at, _)| *at <= now).map_or(self.number, |(_, later)| later)
    }
}

/// All counters.
pub(super) struct Minted {
    epoch: u64,
    next: AtomicU64,
    floor: AtomicU64,
    shards: Vec<Mutex<HashMap<ResourceId, Counter, ById>>>,
    /// How many there are, so that room is reckoned without a look into each shard.
    count: AtomicUsize,
}

impl Minted {
    /// Counters of a store that begins to be at `epoch`, microseconds since the Unix epoch.
    pub(super) fn new(epoch: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { epoch, next: AtomicU64::new(1), floor: AtomicU64::new(0), shards, count: AtomicUsize::new(0) }
    }

    fn shard(&self, resource: ResourceId) -> Option<&Mutex<HashMap<ResourceId, Counter, ById>>> {
        self.shards.get(usize::from(resource.0.first()?.to_owned()) % SHARDS)
    }

    pub(super) fn next_number(&self) -> Number {
        self.next.fetch_add(1, Ordering::AcqRel)
    }

    /// Moves a counter; never back.
    pub(super) fn apply(&self, to: Move, now: Millis) {
        let Some(shard) = self.shard(to.resource) else { return };
        let mut counters = shard.lock();
        let counter = counters.entry(to.resource).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            Counter { number: 0, later: None }
        });
        let standing = counter.at(now);
        let later = counter.later.filter(|(at, _)| *at > now && !to.ends_rest);
        counter.number = standing.max(to.to);
        counter.later = match (later, to.later) {
            (Some(old), Some(new)) => Some((old.0.max(new.0), old.1.max(new.1))),
            (one, other) => one.or(other),
        };
        // Numbers are given in another order than they are due, and none goes back.
        if let Some((_, later)) = &mut counter.later
            && *later < counter.number
        {
            *later = self.next_number();
        }
    }

    pub(super) fn tag(&self, resource: ResourceId, now: Millis) -> Box<str> {
        let standing = self.shard(resource).and_then(|shard| shard.lock().get(&resource).map(|c| c.at(now)));
        self.tag_of(resource, standing.unwrap_or_else(|| self.floor.load(Ordering::Acquire)))
    }

    pub(super) fn tag_of(&self, resource: ResourceId, number: Number) -> Box<str> {
        let digest = u128::from_be_bytes(resource.0) >> 72;
        format!("\"{:x}.{number:x}.{digest:x}\"", self.epoch).into()
    }

    /// Bytes that the counters take.
    pub(super) fn bytes(&self) -> usize {
        self.count.load(Ordering::Relaxed) * COST
    }

    /// Drops all counters; no tag given before matches afterwards (V8).
    pub(super) fn drop_all(&self, now: Millis) {
        let above = self.next_number();
        self.floor.fetch_max(above, Ordering::AcqRel);
        for shard in &self.shards {
            let mut counters = shard.lock();
            // A number given between the two lines above and here stays, or its write's tag would not be the last.
            // So does one whose second move is still to come.
            let before = counters.len();
            counters.retain(|_, counter| {
                counter.number > above || counter.later.is_some_and(|(at, later)| at > now || later > above)
            });
            self.count.fetch_sub(before - counters.len(), Ordering::Relaxed);
            counters.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(minted: &Minted, name: &str, later: Option<Millis>) -> Box<str> {
        let resource = ResourceId::new(name);
        let to = minted.next_number();
        minted.apply(
            Move { resource, to, later: later.map(|at| (at, minted.next_number())), ends_rest: false },
            0,
        );
        minted.tag(resource, 0)
    }

    // V8
    #[test]
    fn no_tag_fits_two_resources_or_comes_back() {
        let minted = Minted::new(7);
        let (a, b) = (ResourceId::new("a"), ResourceId::new("b"));
        assert_ne!(minted.tag(a, 0), minted.tag(b, 0));
        let mut seen = vec![minted.tag(a, 0)];
        for _ in 0..3 {
            seen.push(moved(&minted, "a", None));
        }
        minted.drop_all(0);
        seen.push(minted.tag(a, 0));
        seen.push(moved(&minted, "a", None));
        seen.push(Minted::new(8).tag(a, 0));
        let different: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(different.len(), seen.len(), "{seen:?}");
    }

    // V8
    #[test]
    fn an_unknown_outcome_moves_it_twice() {
        let minted = Minted::new(7);
        let resource = ResourceId::new("a");
        let before = minted.tag(resource, 0);
        let unknown = moved(&minted, "a", Some(30));
        assert_ne!(before, unknown);
        assert_eq!(minted.tag(resource, 29), unknown);
        assert_ne!(minted.tag(resource, 30), unknown);
    }

    // V8
    #[test]
    fn a_write_before_the_second_move_does_not_turn_it_back() {
        let minted = Minted::new(7);
        let resource = ResourceId::new("a");
        moved(&minted, "a", Some(30));
        moved(&minted, "a", None);
        let before = minted.shard(resource).unwrap().lock()[&resource].at(29);
        assert!(minted.shard(resource).unwrap().lock()[&resource].at(30) > before);
    }

    // V8, Q5
    #[test]
    fn an_operator_who_ends_the_rest_makes_the_second_move_the_last() {
        let minted = Minted::new(7);
        let resource = ResourceId::new("a");
        let unknown = moved(&minted, "a", Some(30));
        minted.apply(Move { resource, to: minted.next_number(), later: None, ends_rest: true }, 5);
        let resolved = minted.tag(resource, 5);
        assert_ne!(unknown, resolved);
        assert_eq!(minted.tag(resource, 30), resolved);
    }

    // V8
    #[test]
    fn a_dropped_counter_moves_a_resource_that_was_never_written_too() {
        let minted = Minted::new(7);
        let before = minted.tag(ResourceId::new("read only"), 0);
        minted.drop_all(0);
        assert_ne!(minted.tag(ResourceId::new("read only"), 0), before);
    }
}
