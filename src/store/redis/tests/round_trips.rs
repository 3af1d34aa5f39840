//! What a write costs, counted by the server itself.

use std::time::Duration;

use super::server::{self, Monitor};
use super::{Options, Redis, now, options};
use crate::protocol::record::{Owner, Record, ResourceId, State};
use crate::store::conformance::shared::claim_in_turn;
use crate::store::conformance::{answer, done, forwarded, id, mark, record};
use crate::store::shared::{TurnEnd, Turned, Wish};
use crate::store::{Before, Change, Claimed, Event, Move, Store};

/// Quiet beside what is asked of it.
fn quiet(server: &server::Redis) -> Options {
    Options { alive: Duration::from_secs(600), ..options(server.url()) }
}

/// How many round trips there were, each a script that the server knew.
async fn trips(monitor: &mut Monitor) -> usize {
    let seen = monitor.seen().await;
    assert!(seen.iter().all(|line| line.contains("\"EVALSHA\"")), "{seen:?}");
    seen.len()
}

// S3: two for a fresh keyed write and its event, one or none for its replay.
#[tokio::test]
async fn a_write_without_a_turn_is_two_and_its_replay_one_or_none() {
    let server = server::Redis::start().await;
    let (one, two) = (Redis::open(quiet(&server)).await.unwrap(), Redis::open(quiet(&server)).await.unwrap());
    let (mut monitor, now) = (server.monitor().await, now());
    let sent = Record { state: State::Forwarded { mark: mark(0), status: None }, ..record(1, "/d") };
    assert!(matches!(one.claim(id(1), sent, now).await.unwrap(), Claimed::New));
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(now + 60_000));
    let event = Some(Event::from(&b"changed"[..]));
    assert!(one.commit(Change { answer: answer(b"x"), event, ..change }, now).await.unwrap());
    assert_eq!(trips(&mut monitor).await, 2);
    for (store, wanted) in [(&two, 1), (&two, 0), (&one, 0)] {
        let claimed = store.claim(id(1), record(2, "/d"), now).await.unwrap();
        assert!(matches!(claimed, Claimed::Taken { .. }));
        assert_eq!(&store.answer(id(1)).await.unwrap().unwrap().body[..], b"x");
        assert_eq!(trips(&mut monitor).await, wanted);
    }
}

// S3: three where it takes a turn, moves a version and tells of it.
#[tokio::test]
async fn a_write_in_its_turn_is_three() {
    let server = server::Redis::start().await;
    let store = Redis::open(quiet(&server)).await.unwrap();
    let (mut monitor, now, resource) = (server.monitor().await, now(), ResourceId::new("/d"));
    let wish = Wish { resource, name: "/d".into(), token: Owner(1) };
    let (_, turned) = claim_in_turn(&*store, id(1), record(1, "/d"), wish, now).await.unwrap();
    let Some(Turned::Granted(grant)) = turned else { panic!("{turned:?}") };
    let change = Change::new(id(1), Owner(1), Before::Claimed, forwarded(grant.fence));
    assert!(store.commit(change, now).await.unwrap());
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(now + 60_000));
    let version = Some(Move { resource, to: grant.numbers[0], later: None, ends_rest: false });
    let turn = Some(TurnEnd { resource, token: Owner(1), rest: None });
    let change = Change { answer: answer(b"x"), event: Some(Event::from(&b"changed"[..])), ..change };
    assert!(store.commit(Change { version, turn, ..change }, now).await.unwrap());
    assert_eq!(trips(&mut monitor).await, 3);
    assert_eq!(store.minted(resource, now).await.unwrap(), store.minted_tag(resource, grant.numbers[0]));
    assert_eq!(trips(&mut monitor).await, 1);
}

// S3: a server that forgot the scripts learns them again.
#[tokio::test]
async fn a_forgotten_script_is_said_again() {
    let server = server::Redis::start().await;
    let store = Redis::open(quiet(&server)).await.unwrap();
    server.ask(&["SCRIPT", "FLUSH"]).await;
    let mut monitor = server.monitor().await;
    assert!(matches!(store.claim(id(1), record(1, "/d"), now()).await.unwrap(), Claimed::New));
    let seen = monitor.seen().await;
    assert!(seen.len() == 2 && seen[1].contains("\"EVAL\""), "{seen:?}");
    assert!(matches!(store.claim(id(2), record(1, "/d"), now()).await.unwrap(), Claimed::New));
    assert_eq!(trips(&mut monitor).await, 1);
}
