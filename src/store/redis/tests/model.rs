//! Random steps on a real Redis and on the plainest store there is: both have to say the same.

use std::sync::Arc;

use fastrand::Rng;

use super::{now, options, server};
use crate::protocol::record::{Millis, Owner, Phase, Record, ResourceId, State};
use crate::store::conformance::{answer, done, forwarded, id, record, unknown};
use crate::store::model::AtOnce;
use crate::store::redis::Redis;
use crate::store::{Before, Change, Claimed, Move, Set, Store};

const STEPS: usize = 300;

/// The same two stores, and what was minted on each.
struct Pair {
    real: Arc<dyn Store>,
    plain: Arc<dyn Store>,
    rng: Rng,
    now: Millis,
}

impl Pair {
    fn n(&mut self) -> u64 {
        self.rng.u64(1..=3)
    }

    fn resource(&mut self) -> &'static str {
        if self.rng.bool() { "/a" } else { "/b" }
    }

    fn later(&mut self) -> Millis {
        self.now + self.rng.u64(1..200)
    }

    fn record(&mut self) -> Record {
        let (owner, resource) = (self.n(), self.resource());
        let forwarded = State::Forwarded { mark: crate::store::conformance::mark(1), status: None };
        let state = if self.rng.bool() { State::Claimed } else { forwarded };
        Record { state, ..record(owner, resource) }
    }

    fn set(&mut self) -> Set {
        let until = self.later();
        match self.rng.u8(..6) {
            0 | 1 => forwarded(1),
            2 => done(until),
            3 => unknown(1, until),
            4 => Set::Replace(self.record()),
            _ => Set::Remove,
        }
    }

    async fn claim(&mut self) {
        let (n, record) = (self.n(), self.record());
        // The plain store knows no claim that goes out at once, and none that is asked for twice.
        let record = Record { owner: Owner(self.rng.u64(10..)), state: State::Claimed, ..record };
        let real = self.real.claim(id(n), record.clone(), self.now).await.unwrap();
        let plain = self.plain.claim(id(n), record, self.now).await.unwrap();
        match (real, plain) {
            (Claimed::New, Claimed::New) => {}
            (Claimed::Taken { standing: real, .. }, Claimed::Taken { standing: plain, .. }) => {
                same(Some(*real), Some(*plain));
            }
            (real, plain) => panic!("{real:?}, not {plain:?}"),
        }
    }

    /// A step by the owner that stands there, or by another.
    async fn commit(&mut self) {
        let n = self.n();
        let standing = self.plain.read(id(n), self.now).await.unwrap();
        let owner = match standing.filter(|_| self.rng.u8(..4) > 0) {
            Some(record) => record.owner,
            None => Owner(self.n()),
        };
        let befores = [Before::Claimed, Before::Forwarded, Before::Running, Before::Unknown];
        let before = befores[self.rng.usize(..befores.len())];
        let set = self.set();
        let answer = if matches!(&set, Set::State(State::Done { .. })) { answer(b"body") } else { None };
        let change = Change { answer, ..Change::new(id(n), owner, before, set) };
        let real = self.real.commit(change.clone(), self.now).await.unwrap();
        let plain = self.plain.commit(change.clone(), self.now).await.unwrap();
        assert_eq!(real, plain, "{change:?}");
    }

    async fn look(&mut self) {
        for n in 1..=3 {
            let real = self.real.read(id(n), self.now).await.unwrap();
            let plain = self.plain.read(id(n), self.now).await.unwrap();
            let is_done = plain.as_ref().is_some_and(|record| record.state.phase() == Phase::Done);
            same(real, plain);
            if is_done {
                let answers = (self.real.answer(id(n)).await, self.plain.answer(id(n)).await);
                let body = |answer: crate::store::Answer| answer.body;
                assert_eq!(answers.0.unwrap().map(body), answers.1.unwrap().map(body));
            }
        }
        for phase in
            [None, Some(Phase::Claimed), Some(Phase::Forwarded), Some(Phase::Done), Some(Phase::Unknown)]
        {
            let found = async |store: &Arc<dyn Store>| {
                let mut found: Vec<_> =
                    store.scan(phase, 9, self.now).await.unwrap().into_iter().map(|(id, _)| id).collect();
                found.sort();
                found
            };
            assert_eq!(found(&self.real).await, found(&self.plain).await, "{phase:?}");
        }
    }

    /// A version that moves stands at its number or above, moves again when it has to, and never goes back (V8).
    async fn mint(&mut self) {
        let resource = ResourceId::new(self.resource());
        let before = self.number(resource, self.now).await;
        let (to, then) = (self.real.next_number().await.unwrap(), self.real.next_number().await.unwrap());
        assert!(then > to && to > before);
        let (to, then) = if self.rng.bool() { (to, then) } else { (then, to) };
        let later = if self.rng.bool() { Some((self.later(), then)) } else { None };
        let moved = Move { resource, to, later, ends_rest: self.rng.u8(..4) == 0 };
        self.real.move_version(moved, self.now).await.unwrap();
        let mut last = self.number(resource, self.now).await;
        assert!(last >= to, "{moved:?}");
        for at in [self.now + 100, self.now + 400] {
            let stands = self.number(resource, at).await;
            assert!(stands >= last, "{moved:?} at {at}");
            if later.is_some_and(|(due, _)| due <= at && at > self.now + 200) {
                assert!(stands > self.number(resource, self.now).await, "{moved:?} at {at}");
            }
            last = stands;
        }
    }

    async fn number(&self, resource: ResourceId, at: Millis) -> u64 {
        let tag = self.real.minted(resource, at).await.unwrap();
        u64::from_str_radix(tag.split('.').nth(1).unwrap(), 16).unwrap()
    }
}

/// All but whether another write followed (K12): the plain store says that of more than what is unsettled.
fn same(real: Option<Record>, plain: Option<Record>) {
    let forget = |record: &mut Record| match &mut record.state {
        State::Forwarded { mark: Some(mark), .. } | State::Unknown { mark: Some(mark), .. } => {
            mark.followed = false;
        }
        State::Forwarded { mark: None, .. }
        | State::Unknown { mark: None, .. }
        | State::Claimed
        | State::Queued
        | State::Done { .. } => {}
    };
    match (real, plain) {
        (Some(mut real), Some(mut plain)) => {
            forget(&mut real);
            forget(&mut plain);
            assert_eq!(real, plain);
        }
        (real, plain) => assert_eq!(real, plain),
    }
}

// Invariant 2, K12, K15, V8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_does_what_the_plain_store_does() {
    let server = server::Redis::start().await;
    for seed in 0..8 {
        let prefix = format!("s*{seed}:");
        let options = super::Options { prefix, max_memory: 0, ..options(server.url()) };
        let real = Redis::open(options).await.unwrap();
        let mut pair = Pair { real, plain: AtOnce::store(), rng: Rng::with_seed(seed), now: now() };
        println!("seed {seed}");
        for _ in 0..STEPS {
            match pair.rng.u8(..10) {
                0..=2 => pair.claim().await,
                3..=6 => pair.commit().await,
                7 => pair.mint().await,
                8 => pair.now += pair.rng.u64(..30),
                _ => pair.look().await,
            }
        }
    }
}
