//! What a write costs in round trips, as the server counts them.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;

use super::servers;
use super::{look, options};
use crate::protocol::record::{Owner, Record, ResourceId, State};
use crate::store::conformance::shared::claim_in_turn;
use crate::store::conformance::{answer, done, forwarded, id, mark, record};
use crate::store::postgres::Postgres;
use crate::store::shared::{TurnEnd, Turned, Wish};
use crate::store::{Before, Change, Claimed, Event, Move, Store};

const NOW: u64 = 1_000_000;

/// All statements that the server took since the last look, of whatever kind.
async fn taken(look: &Client) -> Vec<String> {
    // Every 3 s a listener looks after its session; that costs no write anything.
    let sql = "select query from pg_stat_statements, generate_series(1, calls)
        where query not like '%pg_stat%' and query not like '%current_setting%'";
    let taken = look.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    look.batch_execute("select pg_stat_statements_reset()").await.unwrap();
    taken
}

// S3: two round trips for a write without a turn and its event, three with turn and version, one for a replay and none for the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_costs_as_many_round_trips_as_it_must() {
    costs_what_it_must(false).await;
}

// S3: the same where turns are held by session locks too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_costs_no_round_trip() {
    costs_what_it_must(true).await;
}

async fn costs_what_it_must(advisory: bool) {
    let server = servers::Postgres::start().await;
    let look = look(&server).await;
    look.batch_execute("create extension pg_stat_statements").await.unwrap();
    // The sign of life comes once, and is counted with the start.
    let alive = Duration::from_secs(3600);
    let quiet = || super::Options { alive, advisory, ..options(&server.url(), "onceward") };
    let store = Postgres::open(quiet()).await.unwrap();
    let other = Postgres::open(quiet()).await.unwrap();
    until_listening(&look).await;
    taken(&look).await;

    let sent = Record { state: State::Forwarded { mark: mark(0), status: None }, ..record(1, "/a") };
    assert!(matches!(store.claim(id(1), sent, NOW).await.unwrap(), Claimed::New));
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(NOW + 1000));
    let event = Some(Event::from(&b"changed"[..]));
    assert!(store.commit(Change { answer: answer(b"x"), event, ..change }, NOW).await.unwrap());
    let two = taken(&look).await;
    assert_eq!(two.len(), 2, "a write without a turn: {two:#?}");

    with_turn_and_version(&store).await;
    let three = taken(&look).await;
    assert_eq!(three.len(), 3, "a write with turn and version: {three:#?}");

    for wanted in [1, 0] {
        assert!(matches!(other.claim(id(2), record(9, "/b"), NOW).await.unwrap(), Claimed::Taken { .. }));
        assert_eq!(&other.answer(id(2)).await.unwrap().unwrap().body[..], b"y");
        let one = taken(&look).await;
        assert_eq!(one.len(), wanted, "a replay: {one:#?}");
    }
}

async fn with_turn_and_version(store: &Arc<Postgres>) {
    let resource = ResourceId::new("/b");
    let wish = Wish { resource, name: "/b".into(), token: Owner(2) };
    let (claimed, turned) = claim_in_turn(&**store, id(2), record(2, "/b"), wish, NOW).await.unwrap();
    assert!(matches!(claimed, Claimed::New));
    let Some(Turned::Granted(grant)) = turned else { panic!("{turned:?}") };
    let change = Change::new(id(2), Owner(2), Before::Claimed, forwarded(grant.fence));
    assert!(store.commit(change, NOW).await.unwrap());
    let change = Change::new(id(2), Owner(2), Before::Forwarded, done(NOW + 1000));
    let turn = Some(TurnEnd { resource, token: Owner(2), rest: None });
    let version = Some(Move { resource, to: grant.numbers[0], later: None, ends_rest: false });
    let change = Change { answer: answer(b"y"), event: Some(Event::from(&b"changed"[..])), ..change };
    assert!(store.commit(Change { turn, version, ..change }, NOW).await.unwrap());
}

/// A listener signs itself on a moment after the start.
async fn until_listening(look: &Client) {
    let sql = "select count(*) from pg_stat_statements where query like 'update%instance%' and calls >= 2";
    while look.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
