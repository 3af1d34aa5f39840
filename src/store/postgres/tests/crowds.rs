//! Many at once, on several instances, with every step there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{look, options, servers};
use crate::protocol::record::{Owner, Phase, Record, ResourceId, State};
use crate::store::conformance::shared::claim_in_turn;
use crate::store::conformance::{done, forwarded, id, mark, record, unknown};
use crate::store::postgres::{Options, Postgres};
use crate::store::shared::{TurnEnd, Turned, Wish};
use crate::store::{Before, Change, Claimed, Move, Resolution, Set, Shared, Store};

const NOW: u64 = 1_000_000;
const RESOURCES: usize = 3;

/// One of the crowd.
struct One {
    stores: Vec<Arc<Postgres>>,
    held: Arc<Vec<AtomicBool>>,
    dice: fastrand::Rng,
    next_owner: u64,
    /// Each turn is ended where it was taken.
    keeps_to_one: bool,
}

impl One {
    fn store(&mut self) -> Arc<Postgres> {
        Arc::clone(&self.stores[self.dice.usize(..self.stores.len())])
    }

    fn owner(&mut self) -> u64 {
        self.next_owner += 1;
        self.next_owner
    }

    async fn does_something(&mut self) {
        let (n, at) = (self.dice.u64(0..40), self.dice.usize(0..RESOURCES));
        let (store, owner) = (self.store(), self.owner());
        let name = format!("/{at}");
        let resource = ResourceId::new(&name);
        match self.dice.u8(0..14) {
            0 => drop(store.lapsed().await.unwrap()),
            1 => drop(store.busy(9).await.unwrap()),
            2 => drop(store.watch(id(n), NOW).await.unwrap()),
            3 => store.end_rest(resource).await.unwrap(),
            4 => store.bury(store.core.instance()).await.unwrap(),
            5 => store.sweep(NOW + self.dice.u64(0..3000)),
            6 => self.moves(&store, resource).await,
            7 => self.runs_without_a_turn(&store, n, owner, &name).await,
            _ => self.writes(&store, n, owner, at).await,
        }
    }

    async fn moves(&mut self, store: &Postgres, resource: ResourceId) {
        let to = store.next_number().await.unwrap();
        let later = self.dice.bool().then_some((NOW + 5, to + 1));
        store.move_version(Move { resource, to, later, ends_rest: self.dice.bool() }, NOW).await.unwrap();
    }

    async fn runs_without_a_turn(&mut self, store: &Postgres, n: u64, owner: u64, name: &str) {
        let sent = Record { state: State::Forwarded { mark: mark(0), status: None }, ..record(owner, name) };
        if matches!(store.claim(id(n), sent, NOW).await.unwrap(), Claimed::New) {
            let end = if self.dice.bool() { done(NOW + 900) } else { unknown(0, NOW + 900) };
            assert!(
                store.commit(Change::new(id(n), Owner(owner), Before::Forwarded, end), NOW).await.unwrap()
            );
        }
    }

    async fn writes(&mut self, store: &Arc<Postgres>, n: u64, owner: u64, at: usize) {
        let name = format!("/{at}");
        let wish = Wish { resource: ResourceId::new(&name), name: name.clone().into(), token: Owner(owner) };
        let claim = claim_in_turn(&**store, id(n), record(owner, &name), wish, NOW).await.unwrap();
        match claim {
            (Claimed::New, Some(Turned::Granted(grant))) => {
                assert!(!self.held[at].swap(true, Ordering::SeqCst), "two at once");
                let step = |before, set| Change::new(id(n), Owner(owner), before, set);
                assert!(store.commit(step(Before::Claimed, forwarded(grant.fence)), NOW).await.unwrap());
                let other = if self.keeps_to_one { Arc::clone(store) } else { self.store() };
                let change = step(Before::Forwarded, self.end(grant.fence));
                let rest = self.dice.bool().then_some(Duration::from_millis(2));
                let resource = ResourceId::new(&name);
                let turn = Some(TurnEnd { resource, token: Owner(owner), rest });
                let [to, later] = grant.numbers;
                let later = self.dice.bool().then_some((NOW + 5, later));
                let version = Some(Move { resource, to, later, ends_rest: false });
                assert!(self.held[at].swap(false, Ordering::SeqCst));
                assert!(other.commit(Change { turn, version, ..change }, NOW).await.unwrap());
            }
            (Claimed::New, _) => {
                let change = Change::new(id(n), Owner(owner), Before::Claimed, Set::Remove);
                assert!(store.commit(change, NOW).await.unwrap());
                store.leave_line(ResourceId::new(&name)).await.unwrap();
            }
            (Claimed::Taken { standing, .. }, _) if standing.state.phase() == Phase::Unknown => {
                self.settles(store, n, owner, *standing).await;
            }
            (Claimed::Taken { .. }, _) => {}
        }
    }

    fn end(&mut self, fence: u64) -> Set {
        match self.dice.u8(0..3) {
            0 => done(NOW + 1000),
            1 => unknown(fence, NOW + 2000),
            _ => Set::Remove,
        }
    }

    /// Runs it again as the upstream allows, or decides by hand; another may be faster.
    async fn settles(&mut self, store: &Postgres, n: u64, owner: u64, standing: Record) {
        if self.dice.bool() {
            let again = State::Forwarded { mark: mark(0), status: None };
            let record = Record { owner: Owner(owner), state: again, ..standing.clone() };
            let change = Change::new(id(n), standing.owner, Before::Unknown, Set::Replace(record));
            if store.commit(change, NOW).await.unwrap() {
                let sent = Change::new(id(n), Owner(owner), Before::Forwarded, forwarded(0));
                assert!(store.commit(sent, NOW).await.unwrap());
                let end = Change::new(id(n), Owner(owner), Before::Forwarded, self.end(0));
                assert!(store.commit(end, NOW).await.unwrap());
            }
            return;
        }
        let (who, why) = ("ops".to_owned(), "seen".to_owned());
        let word = Resolution { id: id(n), executed: false, who, why, at: NOW, expires_at: NOW + 500 };
        let change = Change::new(id(n), standing.owner, Before::Unknown, Set::Remove);
        store.commit(Change { resolution: Some(word), ..change }, NOW).await.unwrap();
    }
}

// Invariants 2 and 4: whatever goes on at once, no two steps wait for each other, and no two have one turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_one_that_waits_for_him() {
    crowd(false).await;
}

// The same where turns are held by session locks too: none is left when all is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lock_is_left_by_a_crowd() {
    crowd(true).await;
}

async fn crowd(advisory: bool) {
    let server = servers::Postgres::start().await;
    let alive = Duration::from_secs(20);
    let options = || Options { advisory, alive, ..options(&server.url(), "onceward") };
    let open = || async { Postgres::open(options()).await.unwrap() };
    let stores = vec![open().await, open().await, open().await];
    let held: Arc<Vec<_>> = Arc::new((0..RESOURCES).map(|_| AtomicBool::new(false)).collect());
    let mut crowd = JoinSet::new();
    for n in 0..16_u64 {
        let (stores, held) = (stores.clone(), Arc::clone(&held));
        crowd.spawn(async move {
            let dice = fastrand::Rng::with_seed(n);
            let mut one = One { stores, held, dice, next_owner: (n + 1) << 32, keeps_to_one: advisory };
            for _ in 0..150 {
                one.does_something().await;
            }
        });
    }
    crowd.join_all().await;
    let look = look(&server).await;
    let met = look.query_one("select sum(deadlocks)::bigint from pg_stat_database", &[]).await.unwrap();
    assert_eq!(met.get::<_, i64>(0), 0);
    let locks = "select count(*) from pg_locks where locktype = 'advisory'";
    let lives = if advisory { 3 } else { 0 };
    assert_eq!(look.query_one(locks, &[]).await.unwrap().get::<_, i64>(0), lives);
    for store in &stores {
        assert!(store.scan(Some(Phase::Forwarded), 9, NOW).await.unwrap().is_empty());
    }
}

// L3, V8: numbers are given once, and in order, to however many ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_is_given_once() {
    let store = Postgres::open(options(&super::server().await.url(), &super::schema())).await.unwrap();
    let mut crowd = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        crowd.spawn(async move {
            let mut given = Vec::new();
            for _ in 0..100 {
                given.push(store.next_number().await.unwrap());
            }
            assert!(given.is_sorted_by(|a, b| a < b));
            given
        });
    }
    let mut given: Vec<u64> = crowd.join_all().await.concat();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 800);
}
