//! Cells and the log of events: what a lost reply, a slow writer and another history of the server do to them.

use std::sync::Arc;
use std::time::Duration;

use super::{behind, look, open, schema, server};
use crate::protocol::record::Owner;
use crate::store::cells::Kind;
use crate::store::conformance::wire::Wire;
use crate::store::conformance::{done, id, record};
use crate::store::{Before, Cell, CellId, Change, Claimed, Event, Place, Put, Store, Swap};

const NOW: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

fn put(n: u8, was: Option<u64>, to: Option<u64>) -> Put {
    let cell = |stamp: u64| Cell { stamp: Owner(stamp), left: None, value: b"x"[..].into() };
    let id = CellId { kind: Kind::Lease, name: [n; 16] };
    Put { id, was: was.map(Owner), to: to.map(cell), tell: None }
}

fn tells(n: u8, text: &str) -> Swap {
    let puts = vec![put(n, None, Some(n.into()))];
    Swap { puts, event: Some(Event::from(text.as_bytes())), turn: None }
}

async fn since(store: &Arc<dyn Store>, place: Place) -> Option<Vec<String>> {
    let told = store.events(place, 99, NOW).await.unwrap()?;
    Some(told.iter().map(|event| String::from_utf8(event.to_vec()).unwrap()).collect())
}

/// Asks again for as long as nobody knows.
async fn at_last<F: Future<Output = Result<bool, crate::store::StoreError>>>(mut ask: impl FnMut() -> F) {
    let asked = async {
        loop {
            match ask().await {
                Ok(done) => return assert!(done),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it is known in the end");
}

// S3, E1: asked again after a lost reply it is the same step, and told once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_tells_nothing_twice() {
    let wire = Wire::to(server().await.port()).await;
    let store = open(&behind(&wire), &schema()).await;
    let start = store.last_event().await.unwrap();
    wire.lose_the_reply_to("swap_3");
    at_last(|| store.swap(tells(1, "swapped"), NOW)).await;
    assert!(wire.has_lost());
    assert!(matches!(store.claim(id(1), record(1, "/d"), NOW).await.unwrap(), Claimed::New));
    let end = Change {
        cells: vec![put(1, Some(1), Some(2))],
        event: Some(Event::from(&b"ended"[..])),
        ..Change::new(id(1), Owner(1), Before::Claimed, done(NOW + 1000))
    };
    wire.lose_the_reply_to("commit_3");
    at_last(|| store.commit(end.clone(), NOW)).await;
    assert!(wire.has_lost());
    assert_eq!(since(&store, start).await, Some(vec!["swapped".to_owned(), "ended".to_owned()]));
}

// E1: one that is committed late gets a number behind those that were read, and holds nobody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_writer_is_not_missed() {
    let schema = schema();
    let store = open(&server().await.url(), &schema).await;
    let start = store.last_event().await.unwrap();
    let slow = look(server().await).await;
    slow.batch_execute(&format!("begin; insert into \"{schema}\".outbox (value) values ('slow')"))
        .await
        .unwrap();
    assert!(store.swap(tells(1, "quick"), NOW).await.unwrap());
    assert_eq!(since(&store, start).await, Some(vec!["quick".to_owned()]));
    slow.batch_execute("commit").await.unwrap();
    let second = Place { number: start.number + 1, ..start };
    assert_eq!(since(&store, second).await, Some(vec!["slow".to_owned()]));
}

// E1: no write waits for who numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_does_not_wait_for_numbers() {
    let schema = schema();
    let store = open(&server().await.url(), &schema).await;
    let start = store.last_event().await.unwrap();
    let numbers = look(server().await).await;
    let lock = format!("select pg_advisory_xact_lock(hashtext('onceward {schema}'), 2)");
    numbers
        .batch_execute(&format!("begin; {lock}; select * from \"{schema}\".log for update"))
        .await
        .unwrap();
    assert!(store.swap(tells(1, "written"), NOW).await.unwrap());
    numbers.batch_execute("commit").await.unwrap();
    assert_eq!(since(&store, start).await, Some(vec!["written".to_owned()]));
}

// E1, S3: after a failover numbers may be given again, and no place of before is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_has_other_places() {
    let schema = schema();
    let store = open(&server().await.url(), &schema).await;
    let start = store.last_event().await.unwrap();
    assert!(store.swap(tells(1, "before"), NOW).await.unwrap());
    assert_eq!(since(&store, start).await.unwrap().len(), 1);
    let look = look(server().await).await;
    let line = format!("select timeline from \"{schema}\".log");
    assert_eq!(look.query_one(&line, &[]).await.unwrap().get::<_, String>(0), "00000001");
    look.batch_execute(&format!("update \"{schema}\".log set timeline = '00000000'")).await.unwrap();
    assert!(store.swap(tells(2, "after"), NOW).await.unwrap());
    let next = store.last_event().await.unwrap();
    assert!(next.epoch > start.epoch);
    assert_eq!(since(&store, start).await, None);
    assert_eq!(
        since(&store, Place { number: next.number - 1, ..next }).await,
        Some(vec!["after".to_owned()])
    );
}

// S3: a time beyond all that the server has is a very long one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_time_is_too_long() {
    let store = open(&server().await.url(), &schema()).await;
    let mut forever = put(1, None, Some(1));
    forever.to = forever.to.map(|to| Cell { left: Some(Duration::MAX), ..to });
    assert!(store.swap(Swap { puts: vec![forever], ..Swap::default() }, NOW).await.unwrap());
    let due = store.due(Kind::Lease, Duration::MAX, 9, NOW).await.unwrap();
    assert_eq!(due.len(), 1);
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    assert!(due[0].1.left.is_some_and(|left| left > year));
}
