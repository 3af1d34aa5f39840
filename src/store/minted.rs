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

/// The counter of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counter {
    number: Number,
    later: Option<(Millis, Number)>,
}

impl Counter {
    /// As it stands in a file: the number, and when it becomes the other one (0: never).
    pub(super) fn to_stored(self) -> (u64, u64, u64) {
        let (at, later) = self.later.unwrap_or_default();
        (self.number, at, later)
    }

    /// The other way round.
    pub(super) fn from_stored((number, at, later): (u64, u64, u64)) -> Self {
        Self { number, later: (at != 0).then_some((at, later)) }
    }

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

    /// Counters of a store that is read back: no number below `next` is given again.
    pub(super) fn resumed(epoch: u64, next: Number, floor: Number) -> Self {
        let minted = Self::new(epoch);
        minted.next.store(next, Ordering::Release);
        minted.floor.store(floor, Ordering::Release);
        minted
    }

    /// Which store these belong to.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next number that will be given.
    pub(super) fn next(&self) -> Number {
        self.next.load(Ordering::Acquire)
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
        let moved = self.moved(counters.get(&to.resource).copied(), to, now);
        if counters.insert(to.resource, moved).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Where a counter stands after a move, for a store that writes it down before it is so.
    pub(super) fn moved(&self, standing: Option<Counter>, to: Move, now: Millis) -> Counter {
        let standing = standing.unwrap_or(Counter { number: 0, later: None });
        let number = standing.at(now).max(to.to);
        let before = standing.later.filter(|(at, _)| *at > now && !to.ends_rest);
        let later = match (before, to.later) {
            (Some(old), Some(new)) => Some((old.0.max(new.0), old.1.max(new.1))),
            (one, other) => one.or(other),
        };
        // Numbers are given in another order than they are due, and none goes back.
        let later = later.map(|(at, later)| (at, if later < number { self.next_number() } else { later }));
        Counter { number, later }
    }

    /// The counter of a resource, where it has one.
    pub(super) fn counter(&self, resource: ResourceId) -> Option<Counter> {
        self.shard(resource)?.lock().get(&resource).copied()
    }

    /// Puts a counter where it was written down to stand.
    pub(super) fn put(&self, resource: ResourceId, counter: Counter) {
        let Some(shard) = self.shard(resource) else { return };
        if shard.lock().insert(resource, counter).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn tag(&self, resource: ResourceId, now: Millis) -> Box<str> {
        let standing = self.shard(resource).and_then(|shard| shard.lock().get(&resource).map(|c| c.at(now)));
        self.tag_of(resource, standing.unwrap_or_else(|| self.floor.load(Ordering::Acquire)))
    }

    pub(super) fn tag_of(&self, resource: ResourceId, number: Number) -> Box<str> {
        tag_of(self.epoch, resource, number)
    }

    /// Bytes that the counters take.
    pub(super) fn bytes(&self) -> usize {
        self.count.load(Ordering::Relaxed) * COST
    }

    /// The counters that stay when the others are dropped: their second move is still to come.
    pub(super) fn kept(&self, now: Millis) -> Vec<(ResourceId, Counter)> {
        let waits = |counter: &Counter| counter.later.is_some_and(|(at, _)| at > now);
        let mut kept = Vec::new();
        for shard in &self.shards {
            kept.extend(shard.lock().iter().filter(|(_, c)| waits(c)).map(|(id, counter)| (*id, *counter)));
        }
        kept
    }

    /// Has only these counters from now on; every other resource is at `floor`.
    pub(super) fn drop_to(&self, floor: Number, kept: Vec<(ResourceId, Counter)>) {
        self.floor.fetch_max(floor, Ordering::AcqRel);
        for shard in &self.shards {
            let mut counters = shard.lock();
            self.count.fetch_sub(counters.len(), Ordering::Relaxed);
            *counters = HashMap::default();
        }
        for (resource, counter) in kept {
            self.put(resource, counter);
        }
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

/// The entity tag of a resource whose counter stands at `number`.
pub(super) fn tag_of(epoch: u64, resource: ResourceId, number: Number) -> Box<str> {
    let digest = u128::from_be_bytes(resource.0) >> 72;
    let mut tag = String::with_capacity(52);
    tag.push('"');
    push_hex(&mut tag, epoch.into());
    tag.push('.');
    push_hex(&mut tag, number.into());
    tag.push('.');
    push_hex(&mut tag, digest);
    tag.push('"');
    tag.into()
}

/// As `{:x}` has it, at a tenth of what formatting costs: each write on a minted route makes two tags.
fn push_hex(text: &mut String, number: u128) {
    let digits = (128 - number.leading_zeros()).div_ceil(4).max(1);
    for at in (0..digits).rev() {
        let digit = u32::try_from(number >> (4 * at) & 15).unwrap_or(0);
        text.push(char::from_digit(digit, 16).unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // V8
    #[test]
    fn numbers_stand_in_a_tag_as_formatted() {
        for number in [0, 1, 15, 16, 255, 0xabc_def0, u128::from(u64::MAX), u128::MAX >> 72, u128::MAX] {
            let mut text = String::new();
            push_hex(&mut text, number);
            assert_eq!(text, format!("{number:x}"));
        }
    }

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
