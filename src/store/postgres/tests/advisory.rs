//! Turns that are held by session locks too: the same lists, and what the locks are for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;

use super::servers::PgBouncer;
use super::{behind, case_of, look, options, schema, server, servers};
use crate::protocol::record::{Owner, Phase, ResourceId};
use crate::store::conformance::shared::claim_in_turn;
use crate::store::conformance::wire::Wire;
use crate::store::conformance::{answer, done, forwarded, id, record, unknown};
use crate::store::postgres::{Options, Postgres};
use crate::store::shared::{Grant, Lapsed, TurnEnd, Turned, Wish};
use crate::store::{Before, Change, Claimed, Set, Shared, Store, StoreError};

const NOW: u64 = 1_000_000;
const REST: Duration = Duration::from_secs(600);

fn locked(url: &str, schema: &str) -> Options {
    Options { advisory: true, ..options(url, schema) }
}

async fn open(url: &str, schema: &str) -> Arc<Postgres> {
    Postgres::open(locked(url, schema)).await.unwrap()
}

mod alone {
    use super::*;
    use crate::store::conformance::{Case, on_each_case, on_each_cell_case};

    on_each_case!((Case { store: open(&server().await.url(), &schema()).await, now: 1_000_000 }, ()));
    on_each_cell_case!((Case { store: open(&server().await.url(), &schema()).await, now: 1_000_000 }, ()));
}

mod shared {
    use super::*;
    use crate::store::conformance::shared::{SharedCase, on_each_shared_case};

    fn case(url: &str) -> SharedCase {
        let (url, schema) = (url.to_owned(), schema());
        case_of(move || locked(&url, &schema))
    }

    on_each_shared_case!((case(&server().await.url()), ()));
}

/// Asks until the answer is there.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn resource() -> ResourceId {
    ResourceId::new("/d")
}

fn wish(token: u64) -> Wish {
    Wish { resource: resource(), name: "/d".into(), token: Owner(token) }
}

fn end(token: u64, rest: Option<Duration>) -> TurnEnd {
    TurnEnd { resource: resource(), token: Owner(token), rest }
}

async fn asks(store: &Postgres, token: u64) -> Turned {
    store.take_turn(wish(token), NOW).await.unwrap()
}

/// A turn, as soon as there is one.
async fn granted(store: &Postgres, token: u64) -> Grant {
    until("a turn", || async {
        match store.take_turn(wish(token), NOW).await {
            Ok(Turned::Granted(grant)) => Some(grant),
            Ok(Turned::Busy | Turned::Rests(_)) | Err(_) => None,
        }
    })
    .await
}

/// A write that goes out in a turn.
async fn goes_out(store: &Postgres, n: u64) -> Grant {
    let claimed = claim_in_turn(store, id(n), record(n, "/d"), wish(n), NOW).await.unwrap();
    let (Claimed::New, Some(Turned::Granted(grant))) = claimed else { panic!("{claimed:?}") };
    let sent = Change::new(id(n), Owner(n), Before::Claimed, forwarded(grant.fence));
    assert!(store.commit(sent, NOW).await.unwrap());
    grant
}

/// The process of the session that holds an instance's turns.
async fn process(look: &Client, schema: &str, store: &Postgres) -> i32 {
    let sql = format!("select pid from \"{schema}\".instance where id = $1");
    let instance = store.core.instance().0.cast_signed();
    look.query_one(&sql, &[&instance]).await.unwrap().get(0)
}

async fn terminate(look: &Client, process: i32) {
    look.query_one("select pg_terminate_backend($1)", &[&process]).await.unwrap();
}

/// What another program locks: docs/STORES-POSTGRES.md says how the number is made.
fn key(schema: &str, resource: &str) -> i64 {
    use sha2::Digest;
    let hash = sha2::Sha256::digest(format!("onceward:{schema}:turn:{resource}"));
    i64::from_be_bytes(hash[..8].try_into().unwrap())
}

async fn takes(look: &Client, key: i64) -> bool {
    look.query_one("select pg_try_advisory_lock($1)", &[&key]).await.unwrap().get(0)
}

async fn lets_go(look: &Client, key: i64) -> bool {
    look.query_one("select pg_advisory_unlock($1)", &[&key]).await.unwrap().get(0)
}

async fn the_lapsed(store: &Postgres) -> Lapsed {
    until("a lapse", || async { store.lapsed().await.unwrap().first().copied() }).await
}

// S3, Q5, L3: whose session is ended with a write out is dead at once, whatever its sign of life says. Nobody has the
// turn before that is settled and its rest is over; its own late end counts; fences grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_without_its_session_is_dead_at_once() {
    let (url, schema) = (server().await.url(), schema());
    // No sign of life runs out here.
    let alive = Duration::from_secs(3600);
    let open = || async { Postgres::open(Options { alive, ..locked(&url, &schema) }).await.unwrap() };
    let (holder, other) = (open().await, open().await);
    let look = look(server().await).await;
    let fence = goes_out(&holder, 1).await.fence;
    assert_eq!(asks(&other, 2).await, Turned::Busy);
    let first = holder.core.instance();
    assert!(other.lapsed().await.unwrap().is_empty());
    terminate(&look, process(&look, &schema, &holder).await).await;

    let lapsed = the_lapsed(&other).await;
    assert_eq!(lapsed.instance, first);
    let look_again = || async { (holder.core.instance() != first && holder.is_alive()).then_some(()) };
    until("a new life", look_again).await;
    for store in [&holder, &other] {
        assert_eq!(asks(store, 2).await, Turned::Busy, "what was out is not settled");
    }
    let left = other.left_by(lapsed.instance, 9).await.unwrap();
    assert_eq!(left.len(), 1);
    let change = Change::new(id(1), Owner(1), Before::Forwarded, unknown(fence, NOW + 1000));
    assert!(other.commit(Change { turn: Some(end(1, Some(REST))), ..change }, NOW).await.unwrap());
    other.bury(lapsed.instance).await.unwrap();
    assert!(other.lapsed().await.unwrap().is_empty());
    for store in [&holder, &other] {
        assert!(matches!(asks(store, 2).await, Turned::Rests(_)));
    }

    // It is there still, and knows how its write ended.
    let late = Change::new(id(1), Owner(1), Before::Forwarded, done(NOW + 1000));
    let late = Change { answer: answer(b"late"), turn: Some(end(1, None)), ..late };
    assert!(holder.commit(late, NOW).await.unwrap());
    assert!(matches!(asks(&other, 2).await, Turned::Rests(_)), "a rest is not ended by that");
    other.end_rest(resource()).await.unwrap();
    assert!(granted(&other, 2).await.fence > fence);
    assert_eq!(asks(&holder, 3).await, Turned::Busy);
    other.end_turn(end(2, None)).await.unwrap();
    granted(&holder, 3).await;
}

// S3: a process that is killed need not be silent first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_is_dead_at_once() {
    let (url, schema) = (server().await.url(), schema());
    let alive = Duration::from_secs(3600);
    let open = || async { Postgres::open(Options { alive, ..locked(&url, &schema) }).await.unwrap() };
    let (dies, other) = (open().await, open().await);
    let fence = goes_out(&dies, 1).await.fence;
    assert!(other.lapsed().await.unwrap().is_empty());
    drop(dies);
    let lapsed = the_lapsed(&other).await;
    assert!(lapsed.ago < Duration::from_secs(20));
    other.bury(lapsed.instance).await.unwrap();
    assert_eq!(asks(&other, 2).await, Turned::Busy, "what was out is not settled");
    let change = Change::new(id(1), Owner(1), Before::Forwarded, unknown(fence, NOW + 1000));
    assert!(other.commit(Change { turn: Some(end(1, None)), ..change }, NOW).await.unwrap());
    assert!(granted(&other, 2).await.fence > fence);
}

// S3: what such a life had claimed and not sent does not go out any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_sent_before_its_session_ended_is_not_sent() {
    let (url, schema) = (server().await.url(), schema());
    let store = open(&url, &schema).await;
    let look = look(server().await).await;
    let claimed = claim_in_turn(&*store, id(1), record(1, "/d"), wish(1), NOW).await.unwrap();
    assert!(matches!(claimed, (Claimed::New, Some(Turned::Granted(_)))));
    let first = store.core.instance();
    terminate(&look, process(&look, &schema, &store).await).await;
    until("a new life", || async { (store.core.instance() != first).then_some(()) }).await;
    let sent = Change::new(id(1), Owner(1), Before::Claimed, forwarded(1));
    assert!(!store.commit(sent, NOW).await.unwrap());
    let lapsed = the_lapsed(&store).await;
    let free = Change::new(id(1), Owner(1), Before::Claimed, Set::Remove);
    assert!(store.commit(Change { turn: Some(end(1, None)), ..free }, NOW).await.unwrap());
    store.bury(lapsed.instance).await.unwrap();
    goes_out(&store, 2).await;
}

// Q4: who holds the same lock holds off, and is held off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_takes_turns_too() {
    let (url, schema) = (server().await.url(), schema());
    let (one, two) = (open(&url, &schema).await, open(&url, &schema).await);
    let other = look(server().await).await;
    let key = key(&schema, "/d");
    let sql = format!("select \"{schema}\".turn_key_1('/d')");
    assert_eq!(other.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0), key);

    assert!(takes(&other, key).await);
    assert_eq!(asks(&one, 1).await, Turned::Busy);
    assert_eq!(asks(&two, 2).await, Turned::Busy);
    assert!(lets_go(&other, key).await);
    assert_eq!(asks(&two, 2).await, Turned::Busy, "one came first");
    granted(&one, 1).await;
    assert_eq!(asks(&one, 3).await, Turned::Busy);
    assert!(!takes(&other, key).await);

    one.end_turn(end(1, None)).await.unwrap();
    assert!(takes(&other, key).await);
    assert_eq!(asks(&two, 2).await, Turned::Busy);
    // Nobody is told when it is let go, so an offer that runs out meanwhile costs two nothing.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(lets_go(&other, key).await);
    assert_eq!(asks(&one, 3).await, Turned::Busy, "two came first");
    let fence = granted(&two, 2).await.fence;
    // The end of a write and of its lock are one step.
    assert!(matches!(two.claim(id(2), record(2, "/d"), NOW).await.unwrap(), Claimed::New));
    let ended = Change::new(id(2), Owner(2), Before::Claimed, Set::Remove);
    assert!(two.commit(Change { turn: Some(end(2, Some(REST))), ..ended }, NOW).await.unwrap());
    assert!(matches!(asks(&one, 3).await, Turned::Rests(_)));
    assert!(takes(&other, key).await && lets_go(&other, key).await, "a rest is of Onceward's own");
    one.end_rest(resource()).await.unwrap();
    assert!(granted(&one, 3).await.fence > fence);
}

// S3: a process that stands still keeps its session, but not what it had: its burial ends the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burial_ends_a_silent_session() {
    let (url, schema) = (server().await.url(), schema());
    let alive = Duration::from_secs(3600);
    let open = || async { Postgres::open(Options { alive, ..locked(&url, &schema) }).await.unwrap() };
    let (silent, other) = (open().await, open().await);
    let look = look(server().await).await;
    granted(&silent, 1).await;
    let first = silent.core.instance();
    let lapses = format!("update \"{schema}\".instance set until = clock_timestamp() where id = $1");
    look.execute(&lapses, &[&first.0.cast_signed()]).await.unwrap();
    assert_eq!(asks(&other, 2).await, Turned::Busy);
    assert!(!takes(&look, key(&schema, "/d")).await, "the session is there");
    let lapsed = the_lapsed(&other).await;
    assert_eq!(lapsed.instance, first);
    other.bury(first).await.unwrap();
    granted(&other, 2).await;
    until("a new life", || async { (silent.core.instance() != first).then_some(()) }).await;
    assert_eq!(asks(&silent, 3).await, Turned::Busy);
}

// S3, S4: a reply that is lost is lost with its session. Asked again it is the same turn, if nobody settled it meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_is_the_same_in_the_next_life() {
    let schema = schema();
    let wire = Wire::to(server().await.port()).await;
    let alive = Duration::from_secs(3600);
    let store = Postgres::open(Options { alive, ..locked(&behind(&wire), &schema) }).await.unwrap();
    let first = store.core.instance();

    wire.lose_the_reply_to("claim_2");
    let lost = claim_in_turn(&*store, id(1), record(1, "/d"), wish(1), NOW).await;
    assert_eq!(lost.unwrap_err(), StoreError::Unavailable);
    assert!(wire.has_lost());
    let grant = until("the same turn", || async {
        match claim_in_turn(&*store, id(1), record(1, "/d"), wish(1), NOW).await.unwrap() {
            (Claimed::New, Some(Turned::Granted(grant))) => Some(grant),
            // The server has not seen yet that the session is gone.
            (Claimed::New, Some(Turned::Busy)) => None,
            other => panic!("{other:?}"),
        }
    })
    .await;
    assert_ne!(store.core.instance(), first);
    assert!(!takes(&look(server().await).await, key(&schema, "/d")).await);
    if let Some(lapsed) = store.lapsed().await.unwrap().first() {
        assert!(store.left_by(lapsed.instance, 9).await.unwrap().is_empty(), "it came along");
        store.bury(lapsed.instance).await.unwrap();
    }
    assert_eq!(asks(&store, 2).await, Turned::Busy);
    let sent = Change::new(id(1), Owner(1), Before::Claimed, forwarded(grant.fence));
    assert!(store.commit(sent, NOW).await.unwrap());

    wire.lose_the_reply_to("commit_2");
    let ended = Change::new(id(1), Owner(1), Before::Forwarded, done(NOW + 1000));
    let ended = Change { answer: answer(b"x"), turn: Some(end(1, None)), ..ended };
    assert_eq!(store.commit(ended.clone(), NOW).await, Err(StoreError::Unavailable));
    assert!(wire.has_lost());
    assert!(store.commit(ended, NOW).await.unwrap());
    let standing = store.read(id(1), NOW).await.unwrap().unwrap();
    assert_eq!(standing.state.phase(), Phase::Done);
    assert!(granted(&store, 2).await.fence > grant.fence);
}

// S4: a take that the server took back leaves no lock behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_take_that_failed_holds_nothing() {
    let (url, schema) = (server().await.url(), schema());
    let store = open(&url, &schema).await;
    let look = look(server().await).await;
    // After the lock: what the turn would be given.
    let fails = |name| format!("alter sequence \"{schema}\".number rename to {name}");
    look.batch_execute(&fails("elsewhere")).await.unwrap();
    assert_eq!(store.take_turn(wish(1), NOW).await, Err(StoreError::Unreached));
    let key = key(&schema, "/d");
    assert!(takes(&look, key).await && lets_go(&look, key).await);
    let renamed = format!("alter sequence \"{schema}\".elsewhere rename to number");
    look.batch_execute(&renamed).await.unwrap();
    granted(&store, 1).await;
    store.end_turn(end(1, None)).await.unwrap();
    assert!(takes(&look, key).await, "it was held once");
}

// S3, Q4: instances with locks and instances without take turns with each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_locks_go_together() {
    let (url, schema) = (server().await.url(), schema());
    let with = open(&url, &schema).await;
    let without = Postgres::open(options(&url, &schema)).await.unwrap();
    granted(&without, 1).await;
    assert_eq!(asks(&with, 2).await, Turned::Busy);
    assert!(with.lapsed().await.unwrap().is_empty(), "it has no session that could be gone");
    without.end_turn(end(1, None)).await.unwrap();
    granted(&with, 2).await;
    assert_eq!(asks(&without, 3).await, Turned::Busy);
    with.end_turn(end(2, None)).await.unwrap();
    granted(&without, 3).await;
}

// S3: a session that is somebody else's a moment later holds nothing: it is refused, with the reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_is_refused() {
    let pooler = PgBouncer::before(server().await, 3).await;
    let Err(why) = Postgres::open(locked(&pooler.url(), &schema())).await else { panic!("it opened") };
    assert!(why.contains("pooler") && why.contains("store.turns") && why.contains("rows"), "{why}");
    let pooler = PgBouncer::with(server().await, 20, "session").await;
    let store = open(&pooler.url(), &schema()).await;
    granted(&store, 1).await;
}

// S4: after an outage a new life begins, and takes turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_ends_a_life() {
    let mut server = servers::Postgres::start().await;
    let store = open(&server.url(), "onceward").await;
    let fence = goes_out(&store, 1).await.fence;
    let first = store.core.instance();
    server.kill();
    until("an outage", || async { store.take_turn(wish(2), NOW).await.is_err().then_some(()) }).await;
    let asked = Instant::now();
    assert!(store.take_turn(wish(2), NOW).await.is_err() && store.end_turn(end(9, None)).await.is_err());
    assert!(asked.elapsed() < Duration::from_secs(2), "in an outage a step fails at once");
    server.start_again().await;
    let ended = Change::new(id(1), Owner(1), Before::Forwarded, done(NOW + 1000));
    let ended = Change { turn: Some(end(1, None)), ..ended };
    until("the late end", || async { store.commit(ended.clone(), NOW).await.ok() }).await;
    assert!(granted(&store, 2).await.fence > fence);
    assert_ne!(store.core.instance(), first);
    assert!(store.is_alive());
}
