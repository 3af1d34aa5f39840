//! Replies that are lost on their way: the step is done, nobody was told, and asked again it is the same one (S3, S4).

use std::time::Duration;

use super::super::script;
use super::{Options, PATIENCE, Redis, now, open, options, server, soon};
use crate::protocol::record::{Owner, Phase, ResourceId};
use crate::store::cells::Kind;
use crate::store::conformance::shared::claim_in_turn;
use crate::store::conformance::wire::Wire;
use crate::store::conformance::{answer, done, forwarded, id, record};
use crate::store::shared::{Shared, TurnEnd, Turned, Wish};
use crate::store::{
    Before, Cell, CellId, Change, Claimed, Event, Move, Place, Put, Set, Store, StoreError, Swap,
};

/// One instance whose replies can be lost, and one beside it that sees what was done.
struct Case {
    server: server::Redis,
    wire: Wire,
    store: std::sync::Arc<Redis>,
    beside: std::sync::Arc<Redis>,
    start: Place,
}

impl Case {
    async fn new() -> Self {
        let server = server::Redis::start().await;
        let wire = Wire::to(server.port()).await;
        let quiet = Options {
            alive: Duration::from_secs(600),
            ..options(format!("redis://127.0.0.1:{}", wire.port()))
        };
        let (store, beside) = (Redis::open(quiet).await.unwrap(), open(server.url()).await);
        let start = beside.last_event().await.unwrap();
        Self { server, wire, store, beside, start }
    }

    /// Takes a step whose reply is lost, looks whether it was done, and takes it again.
    async fn twice<T: std::fmt::Debug + PartialEq, F: Future<Output = Result<T, StoreError>>>(
        &self,
        step: &script::Script,
        ask: impl Fn() -> F,
        was_done: impl AsyncFn(&Redis) -> bool,
    ) -> T {
        self.wire.lose_the_reply_to(step.hash());
        assert_eq!(ask().await, Err(StoreError::Unavailable), "it was sent, and may be done");
        assert!(self.wire.has_lost());
        let is_done = async {
            while !was_done(&self.beside).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_done).await.expect("it was not done");
        soon("the same step again", ask).await
    }

    async fn commits(&self, change: Change, phase: Option<Phase>) -> bool {
        let (record, was_done) = (change.id, async |beside: &Redis| {
            beside.read(change.id, now()).await.unwrap().map(|record| record.state.phase()) == phase
        });
        assert_eq!(record, id(1));
        self.twice(&script::COMMIT, || self.store.commit(change.clone(), now()), was_done).await
    }

    async fn events(&self) -> usize {
        self.beside.events(self.start, 99, now()).await.unwrap().unwrap().len()
    }
}

fn resource() -> ResourceId {
    ResourceId::new("/d")
}

fn wish(token: u64) -> Wish {
    Wish { resource: resource(), name: "/d".into(), token: Owner(token) }
}

fn put(was: Option<u64>, to: Option<u64>) -> Put {
    let cell =
        |stamp: u64| Cell { stamp: Owner(stamp), left: Some(PATIENCE), value: stamp.to_be_bytes().into() };
    let id = CellId { kind: Kind::Lease, name: [1; 16] };
    Put { id, was: was.map(Owner), to: to.map(cell), tell: None }
}

fn event(text: &str) -> Option<Event> {
    Some(Event::from(text.as_bytes()))
}

// S3, S4, Q4, V8, E1: a write's whole life, each of its replies lost: one claim, one turn, one move, one event
#[tokio::test]
async fn a_write_whose_every_reply_is_lost_is_one_write() {
    let case = Case::new().await;
    let (store, beside) = (&case.store, &case.beside);
    let is_claimed = async |beside: &Redis| beside.read(id(1), now()).await.unwrap().is_some();
    let claim = async || {
        let (claimed, turned) = claim_in_turn(&**store, id(1), record(1, "/d"), wish(1), now()).await?;
        let Some(Turned::Granted(grant)) = turned else { panic!("{claimed:?}, {turned:?}") };
        Ok((matches!(claimed, Claimed::New), grant))
    };
    let (is_new, grant) = case.twice(&script::CLAIM, claim, is_claimed).await;
    assert!(is_new, "its own claim is not another's");
    let other = beside.claim(id(1), record(2, "/d"), now()).await.unwrap();
    assert!(matches!(other, Claimed::Taken { .. }));
    assert_eq!(beside.take_turn(wish(2), now()).await.unwrap(), Turned::Busy);

    let sent = Change::new(id(1), Owner(1), Before::Claimed, forwarded(grant.fence));
    assert!(case.commits(sent, Some(Phase::Forwarded)).await);

    let end = Change::new(id(1), Owner(1), Before::Forwarded, done(now() + 60_000));
    let version = Some(Move { resource: resource(), to: grant.numbers[0], later: None, ends_rest: false });
    let turn = Some(TurnEnd { resource: resource(), token: Owner(1), rest: None });
    let cells = vec![put(None, Some(1))];
    let end = Change { answer: answer(b"x"), version, turn, cells, event: event("changed"), ..end };
    assert!(case.commits(end, Some(Phase::Done)).await);
    assert_eq!(&store.answer(id(1)).await.unwrap().unwrap().body[..], b"x");
    let tag = store.minted_tag(resource(), grant.numbers[0]);
    assert_eq!(beside.minted(resource(), now()).await.unwrap(), tag);
    assert_eq!(case.events().await, 1, "told once");
    let next = beside.take_turn(wish(2), now()).await.unwrap();
    assert!(matches!(next, Turned::Granted(next) if next.fence > grant.fence), "the turn has ended");
    assert!(store.is_alive() && store.lapsed().await.unwrap().is_empty(), "it is still the same instance");
}

// S3, K8: a key that is freed is free, and a claim of another's meanwhile is not touched
#[tokio::test]
async fn a_release_whose_reply_is_lost_frees_nothing_of_others() {
    let case = Case::new().await;
    assert!(matches!(case.store.claim(id(1), record(1, "/d"), now()).await.unwrap(), Claimed::New));
    case.wire.lose_the_reply_to(script::COMMIT.hash());
    let release = Change::new(id(1), Owner(1), Before::Claimed, Set::Remove);
    assert_eq!(case.store.commit(release.clone(), now()).await, Err(StoreError::Unavailable));
    let claims = async || case.beside.claim(id(1), record(2, "/d"), now()).await;
    let claimed = async { while !matches!(claims().await.unwrap(), Claimed::New) {} };
    tokio::time::timeout(PATIENCE, claimed).await.expect("the key is not freed");
    assert!(!soon("the same release again", || case.store.commit(release.clone(), now())).await);
    assert_eq!(case.beside.read(id(1), now()).await.unwrap().unwrap().owner, Owner(2));
}

// S3, Q4: a turn that was given or ended without a word is that turn
#[tokio::test]
async fn a_turn_whose_replies_are_lost_is_one_turn() {
    let case = Case::new().await;
    let is_busy = async |beside: &Redis| !beside.busy(9).await.unwrap().is_empty();
    // Somebody else asks, so that it is seen.
    let took = async |beside: &Redis| {
        assert_eq!(beside.take_turn(wish(2), now()).await.unwrap(), Turned::Busy);
        is_busy(beside).await
    };
    let turned = case.twice(&script::TAKE, || case.store.take_turn(wish(1), now()), took).await;
    let Turned::Granted(first) = turned else { panic!("{turned:?}") };
    let end = TurnEnd { resource: resource(), token: Owner(1), rest: None };
    let next = std::cell::Cell::new(0);
    let ended = async |beside: &Redis| match beside.take_turn(wish(2), now()).await.unwrap() {
        Turned::Granted(grant) => {
            next.set(grant.fence);
            true
        }
        Turned::Busy | Turned::Rests(_) => false,
    };
    case.twice(&script::END, || case.store.end_turn(end), ended).await;
    assert!(next.get() > first.fence);
    let held = case.beside.take_turn(wish(2), now()).await.unwrap();
    assert!(
        matches!(held, Turned::Granted(held) if held.fence == next.get()),
        "the end ended the next one's turn"
    );
}

// S3, E1: cells that were swapped without a word are swapped once, and told once
#[tokio::test]
async fn a_swap_whose_reply_is_lost_is_one_swap() {
    let case = Case::new().await;
    let stands = async |beside: &Redis, stamp: Option<u64>| {
        let cell = beside.cell(put(None, None).id, now()).await.unwrap();
        cell.map(|cell| cell.stamp) == stamp.map(Owner)
    };
    for (told, (was, to)) in [(None, Some(1)), (Some(1), Some(2)), (Some(2), None)].into_iter().enumerate() {
        let swap = || Swap { puts: vec![put(was, to)], event: event("swapped"), turn: None };
        let was_done = async |beside: &Redis| stands(beside, to).await;
        assert!(case.twice(&script::SWAP, || case.store.swap(swap(), now()), was_done).await);
        assert!(stands(&case.beside, to).await);
        assert_eq!(case.events().await, told + 1);
    }
    drop(case.server);
}
