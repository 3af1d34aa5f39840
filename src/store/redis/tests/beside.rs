//! Cells and the log of events, and what can happen to a server that holds them.

use std::time::Duration;

use super::server::{self, Said};
use super::{PATIENCE, Redis, now, open, soon};
use crate::protocol::record::Owner;
use crate::store::cells::Kind;
use crate::store::conformance::{done, id, record};
use crate::store::{Before, Cell, CellId, Change, Claimed, Event, Keep, Place, Put, Store, StoreError, Swap};

fn put(n: u8, was: Option<u64>, to: Option<u64>) -> Put {
    let cell = |stamp: u64| Cell { stamp: Owner(stamp), left: None, value: vec![b'x'; 100].into() };
    let id = CellId { kind: Kind::Lease, name: [n; 16] };
    Put { id, was: was.map(Owner), to: to.map(cell), tell: None }
}

async fn swap(store: &Redis, puts: Vec<Put>, event: &str) -> Result<bool, StoreError> {
    store.swap(Swap { puts, event: Some(Event::from(event.as_bytes())), turn: None }, now()).await
}

async fn since(store: &Redis, place: Place) -> Result<Option<usize>, StoreError> {
    Ok(store.events(place, 99, now()).await?.map(|told| told.len()))
}

// E1: a place in a history that is over is not held, whatever of that the server still has.
#[tokio::test]
async fn another_history_has_other_places() {
    let mut server = server::Redis::durable().await;
    let store = open(server.url()).await;
    let first = store.last_event().await.unwrap();
    assert!(swap(&store, vec![put(1, None, Some(1))], "one").await.unwrap());
    assert_eq!(since(&store, first).await, Ok(Some(1)));
    let mut signal = store.event_signal();
    signal.mark_unchanged();
    server.kill();
    server.start_again().await;
    assert_eq!(soon("the server is back", || since(&store, first)).await, None);
    assert!(tokio::time::timeout(PATIENCE, signal.changed()).await.is_ok(), "who reads looks again");
    let second = store.last_event().await.unwrap();
    assert!(second.epoch > first.epoch);
    assert!(store.cell(put(1, None, None).id, now()).await.unwrap().is_some(), "a lease lives on");
    server.ask(&["FLUSHALL"]).await;
    assert_eq!(soon("hello is said again", || since(&store, second)).await, None);
    let third = store.last_event().await.unwrap();
    assert!(third.epoch > second.epoch);
    assert!(swap(&store, vec![put(1, None, Some(1))], "one").await.unwrap(), "it holds nothing any more");
    assert_eq!(since(&store, third).await, Ok(Some(1)));
}

// S2: where memory is full nothing begins, not even a part of it; what stands goes on and ends.
#[tokio::test]
async fn a_full_server_takes_no_part_of_a_swap() {
    let server = server::Redis::start().await;
    let store = open(server.url()).await;
    let start = store.last_event().await.unwrap();
    assert!(swap(&store, vec![put(1, None, Some(1)), put(2, None, Some(2))], "both").await.unwrap());
    let claimed = store.claim(id(1), record(1, "/d"), now()).await.unwrap();
    assert!(matches!(claimed, Claimed::New));
    server.ask(&["CONFIG", "SET", "maxmemory", "100kb"]).await;
    let puts = vec![put(1, Some(1), None), put(3, None, Some(3))];
    assert_eq!(swap(&store, puts.clone(), "no").await, Err(StoreError::Full));
    let end = Change::new(id(1), Owner(1), Before::Claimed, done(now() + 60_000));
    let with = Change { cells: puts, event: Some(Event::from(&b"no"[..])), ..end };
    assert_eq!(store.commit(with.clone(), now()).await, Err(StoreError::Full));
    assert_eq!(since(&store, start).await, Ok(Some(1)), "nothing of it was done");
    assert!(store.cell(put(1, None, None).id, now()).await.unwrap().is_some());
    assert!(swap(&store, vec![put(1, Some(1), Some(11)), put(2, Some(2), None)], "on").await.unwrap());
    let with = Change { cells: vec![put(1, Some(11), None)], ..with };
    assert!(store.commit(with, now()).await.unwrap());
    assert_eq!(since(&store, start).await, Ok(Some(3)));
}

// E1, S2: events are kept no longer than they are to be, and no more of them.
#[tokio::test]
async fn old_events_are_let_go() {
    let server = server::Redis::start().await;
    let store = open(server.url()).await;
    let start = store.last_event().await.unwrap();
    for n in 1..=5 {
        assert!(swap(&store, vec![put(n, None, Some(n.into()))], "x").await.unwrap());
    }
    store.keep_events(Keep { history: 100, ttl: Duration::from_millis(1) });
    let gone = async {
        while since(&store, start).await.unwrap().is_some() {
            store.sweep(now() + 1000);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("they are kept for ever");
    let last = store.last_event().await.unwrap();
    assert_eq!(last, Place { number: start.number + 5, ..start });
    // Without a sweep there are never many more than they are to be.
    store.keep_events(Keep { history: 5, ttl: Duration::from_secs(3600) });
    for n in 0..150 {
        assert!(swap(&store, vec![put(9, (n > 0).then_some(n), Some(n + 1))], "x").await.unwrap());
    }
    let Said::Number(kept) = server.ask(&["LLEN", "onceward:ev"]).await else { panic!("no list") };
    assert!((5..=105).contains(&kept), "{kept}");
    assert_eq!(since(&store, last).await, Ok(None));
}
