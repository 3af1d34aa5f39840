//! What a store says, and what stands in it, when the server or the way to it fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{behind, look, options, schema, server, servers};
use crate::protocol::record::{Owner, Phase, Record, ResourceId, State};
use crate::store::conformance::shared::claim_in_turn;
use crate::store::conformance::wire::Wire;
use crate::store::conformance::{answer, done, forwarded, id, mark, record};
use crate::store::postgres::{Options, Postgres};
use crate::store::shared::{News, TurnEnd, Turned, Wish};
use crate::store::{Before, Change, Claimed, Move, Shared, Store, StoreError};

const NOW: u64 = 1_000_000;

/// Asks until the store takes it, as who lost a reply does.
async fn at_last<T, F: Future<Output = Result<T, StoreError>>>(mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "never again: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn claims(store: &Postgres, n: u64) -> bool {
    matches!(at_last(|| store.claim(id(n), record(n, "/d"), NOW)).await, Claimed::New)
}

async fn is_unreached(store: &Postgres, n: u64) -> bool {
    matches!(store.claim(id(n), record(n, "/d"), NOW).await, Err(StoreError::Unreached))
}

fn to_done(n: u64) -> Change {
    Change::new(id(n), Owner(n), Before::Forwarded, done(NOW + 1000))
}

async fn writes(store: &Postgres, n: u64) {
    assert!(claims(store, n).await, "the same claim again is the same claim");
    let sent = Change::new(id(n), Owner(n), Before::Claimed, forwarded(n));
    assert!(at_last(|| store.commit(sent.clone(), NOW)).await);
    assert!(at_last(|| store.commit(Change { answer: answer(b"x"), ..to_done(n) }, NOW)).await);
}

async fn is_done(store: &Postgres, n: u64) -> bool {
    let found = at_last(|| store.read(id(n), NOW)).await;
    found.is_some_and(|record| record.owner == Owner(n) && record.state.phase() == Phase::Done)
}

// S3, S4: a step whose reply was lost may be done, and asked again it is the same step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_asked_for_again() {
    let wire = Wire::to(server().await.port()).await;
    let options =
        Options { connections: 1, alive: Duration::from_secs(600), ..options(&behind(&wire), &schema()) };
    let store = Postgres::open(options).await.unwrap();
    let resource = ResourceId::new("/d");
    let wish = || Wish { resource, name: "/d".into(), token: Owner(1) };
    wire.lose_the_reply_to("claim_1");
    let lost = claim_in_turn(&*store, id(1), record(1, "/d"), wish(), NOW).await;
    assert_eq!(lost.unwrap_err(), StoreError::Unavailable);
    assert!(wire.has_lost());
    let (claimed, turned) = claim_in_turn(&*store, id(1), record(1, "/d"), wish(), NOW).await.unwrap();
    assert!(matches!(claimed, Claimed::New));
    let Some(Turned::Granted(grant)) = turned else { panic!("{turned:?}") };

    let sent = Change::new(id(1), Owner(1), Before::Claimed, forwarded(grant.fence));
    let turn = Some(TurnEnd { resource, token: Owner(1), rest: None });
    let version = Some(Move { resource, to: grant.numbers[0], later: None, ends_rest: false });
    let ended = Change { answer: answer(b"x"), turn, version, ..to_done(1) };
    for change in [sent, ended] {
        wire.lose_the_reply_to("commit_1");
        assert_eq!(store.commit(change.clone(), NOW).await, Err(StoreError::Unavailable));
        assert!(wire.has_lost());
        assert_eq!(store.commit(change, NOW).await, Ok(true));
    }
    assert!(is_done(&store, 1).await);
    let tag = store.minted_tag(resource, grant.numbers[0]);
    assert_eq!(store.minted(resource, NOW).await.unwrap(), tag);
    let next = store.take_turn(Wish { token: Owner(2), ..wish() }, NOW).await.unwrap();
    assert!(matches!(next, Turned::Granted(next) if next.fence > grant.fence));
}

// S3, S4: sessions that an administrator ends cost a try, never a record; news comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_may_be_ended_at_any_time() {
    let server = servers::Postgres::start().await;
    let store = Postgres::open(options(&server.url(), "onceward")).await.unwrap();
    let mut news = store.news().unwrap();
    let look = look(&server).await;
    let ends = tokio::spawn(async move {
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'onceward'";
        let mut ended = 0;
        loop {
            ended += look.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
            if ended >= 100 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut n = 0;
    while !ends.is_finished() {
        n += 1;
        writes(&store, n).await;
    }
    ends.await.unwrap();
    for n in 1..=n {
        assert!(is_done(&store, n).await);
    }
    assert!(claims(&store, 0).await);
    hears_the_end(&store, &mut news, 0).await;
}

// S3: what is told while nobody listens is missed, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_missed_something_is_told_so() {
    let server = servers::Postgres::start().await;
    let store = Postgres::open(options(&server.url(), "onceward")).await.unwrap();
    let mut news = store.news().unwrap();
    let anything = async |news: &mut tokio::sync::mpsc::Receiver<News>| {
        let heard = async { while news.recv().await.unwrap() != News::Anything {} };
        tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap();
    };
    anything(&mut news).await;
    let look = look(&server).await;
    // The one that listens says nothing but that, and looks whether it is still itself.
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where application_name = 'onceward' and (query like 'listen%' or query like '%onceward.session%')";
    assert!(look.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0);
    anything(&mut news).await;
    assert!(claims(&store, 1).await);
    hears_the_end(&store, &mut news, 1).await;
}

/// Watches as one who is told that something was missed: he looks again.
async fn hears_the_end(store: &Arc<Postgres>, news: &mut tokio::sync::mpsc::Receiver<News>, n: u64) {
    let began = Instant::now();
    while !store.core.listens() {
        assert!(began.elapsed() < Duration::from_secs(20), "no session that listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while news.try_recv().is_ok() {}
    assert!(at_last(|| store.watch(id(n), NOW)).await.is_some());
    let sent = Change::new(id(n), Owner(n), Before::Claimed, forwarded(n));
    assert!(at_last(|| store.commit(sent.clone(), NOW)).await);
    assert!(at_last(|| store.commit(to_done(n), NOW)).await);
    let heard = async { while news.recv().await.unwrap() != News::Ended(id(n)) {} };
    tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap();
}

// S4: a server that is started anew, or killed and started, is found again, with what was said to be in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_found_again() {
    let mut server = servers::Postgres::start().await;
    let store = Postgres::open(options(&server.url(), "onceward")).await.unwrap();
    let mut news = store.news().unwrap();
    for round in 0..2_u64 {
        let n = round * 10;
        writes(&store, n).await;
        assert!(claims(&store, n + 1).await);
        if round == 0 {
            server.stop()
        } else {
            server.kill()
        }
        let began = Instant::now();
        // Both are known: what was out may be done, what comes later is not.
        while !is_unreached(&store, n + 2).await {
            assert!(began.elapsed() < Duration::from_secs(20), "it did not end");
        }
        let asked = Instant::now();
        assert_eq!(store.next_number().await, Err(StoreError::Unreached));
        assert!(store.reach().await.is_err());
        assert!(asked.elapsed() < Duration::from_secs(2), "in an outage a step fails at once");
        server.start_again().await;
        assert!(claims(&store, n + 2).await);
        assert!(store.reach().await.is_ok() && store.is_alive());
        assert!(is_done(&store, n).await);
        hears_the_end(&store, &mut news, n + 1).await;
    }
}

// S3, S4: a server that says nothing costs each step its patience once; who was silent for too long begins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_not_waited_for() {
    let server = servers::Postgres::start().await;
    let short = |alive| {
        let patience = Duration::from_secs(3);
        Options { patience, alive: Duration::from_millis(alive), ..options(&server.url(), "onceward") }
    };
    let store = Postgres::open(short(2500)).await.unwrap();
    let first = store.core.instance();
    writes(&store, 1).await;
    assert!(claims(&store, 2).await);
    let sent = Record { state: State::Forwarded { mark: mark(0), status: None }, ..record(3, "/d") };
    assert!(matches!(store.claim(id(3), sent, NOW).await.unwrap(), Claimed::New));
    server.pause();
    let asked = Instant::now();
    assert_eq!(store.commit(to_done(3), NOW).await, Err(StoreError::Unavailable), "it may yet be done");
    assert!(asked.elapsed() < Duration::from_secs(15));
    assert_eq!(store.next_number().await, Err(StoreError::Unreached));
    while store.is_alive() {
        assert!(asked.elapsed() < Duration::from_secs(30), "its own clock does not count");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.resume();
    assert!(claims(&store, 4).await);
    assert!(is_done(&store, 1).await);
    assert!(at_last(|| store.commit(to_done(3), NOW)).await, "the end of what it had begun counts");
    let began = Instant::now();
    while !store.is_alive() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not begin anew");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(store.core.instance(), first);
    let left = loop {
        if let Some(lapsed) = store.lapsed().await.unwrap().first() {
            break store.left_by(lapsed.instance, 9).await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "its earlier life left something");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(left.iter().any(|(left, _)| *left == id(2)));
}

// S4: a server that takes no writes is as one that is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_reads_is_not_served_from() {
    let server = servers::Postgres::start().await;
    let store = Postgres::open(options(&server.url(), "onceward")).await.unwrap();
    let look = look(&server).await;
    let set = async |value: &str| {
        look.batch_execute(&format!("alter system set default_transaction_read_only = {value}"))
            .await
            .unwrap();
        look.batch_execute("select pg_reload_conf()").await.unwrap();
    };
    set("on").await;
    let began = Instant::now();
    while !is_unreached(&store, 1).await {
        assert!(began.elapsed() < Duration::from_secs(20), "it still writes");
    }
    assert!(store.reach().await.is_err());
    look.batch_execute("set default_transaction_read_only = off").await.unwrap();
    set("off").await;
    writes(&store, 2).await;
    assert!(store.reach().await.is_ok());
}

// S4: a pooler that is there hides no outage of the server behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_behind_a_pooler_is_one() {
    let mut server = servers::Postgres::start().await;
    let pooler = servers::PgBouncer::before(&server, 3).await;
    let store = Postgres::open(options(&pooler.url(), "onceward")).await.unwrap();
    writes(&store, 1).await;
    server.kill();
    let began = Instant::now();
    while !is_unreached(&store, 2).await {
        assert!(began.elapsed() < Duration::from_secs(20), "it did not end");
    }
    server.start_again().await;
    writes(&store, 3).await;
    assert!(is_done(&store, 1).await);
}
