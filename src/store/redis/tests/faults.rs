//! What happens to a server while instances are on it.

use std::time::{Duration, Instant};

use super::server;
use super::{Options, PATIENCE, Redis, now, open, options, soon};
use crate::protocol::record::{Owner, Phase, ResourceId};
use crate::store::conformance::{answer, done, forwarded, id, record};
use crate::store::shared::{News, Shared, Turned, Wish};
use crate::store::{Before, Change, Claimed, Move, Store, StoreError};

/// What failed so at once queued up nowhere.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn claims(store: &Redis, n: u64) -> Result<bool, StoreError> {
    store.claim(id(n), record(n, "/d"), now()).await.map(|claimed| matches!(claimed, Claimed::New))
}

async fn finishes(store: &Redis, n: u64, body: &[u8]) -> Result<bool, StoreError> {
    let change = Change::new(id(n), Owner(n), Before::Running, done(now() + 60_000));
    store.commit(Change { answer: answer(body), ..change }, now()).await
}

/// Moves a version; the tag it has then.
async fn moves(store: &Redis) -> Box<str> {
    let resource = ResourceId::new("/minted");
    let to = store.next_number().await.unwrap();
    let moved = Move { resource, to, later: None, ends_rest: false };
    store.move_version(moved, now()).await.unwrap();
    store.minted_tag(resource, to)
}

async fn stands(store: &Redis) -> Result<Box<str>, StoreError> {
    store.minted(ResourceId::new("/minted"), now()).await
}

/// Waits until a step fails at once, for there is no link.
async fn unreached(store: &Redis) {
    let began = Instant::now();
    while claims(store, 99).await != Err(StoreError::Unreached) {
        assert!(began.elapsed() < PATIENCE, "it never was out of reach");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(claims(store, 99).await, Err(StoreError::Unreached));
    }
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

// S4, V8: a volatile server that ends forgets all, and no tag or number of before comes back.
#[tokio::test]
async fn a_volatile_server_starts_again_with_another_history() {
    let mut server = server::Redis::start().await;
    let store = open(server.url()).await;
    let mut news = store.news().unwrap();
    let tag = moves(&store).await;
    assert_eq!(stands(&store).await.unwrap(), tag);
    let number = store.next_number().await.unwrap();
    assert!(claims(&store, 1).await.unwrap());
    while news.try_recv().is_ok() {}
    server.kill();
    unreached(&store).await;
    server.start_again().await;
    let after = soon("the server is back", || stands(&store)).await;
    assert_ne!(after, tag);
    assert_eq!(tokio::time::timeout(PATIENCE, news.recv()).await.unwrap(), Some(News::Anything));
    assert!(store.next_number().await.unwrap() > number);
    assert!(store.is_alive());
    assert!(!finishes(&store, 1, b"x").await.unwrap(), "its record is gone, and nothing is made up");
    assert!(claims(&store, 1).await.unwrap());
}

// S3, V8: what was on disk is there again; the instance is another, and its own past is settled as anyone's.
#[tokio::test]
async fn a_durable_server_starts_again_with_what_it_had() {
    let mut server = server::Redis::durable().await;
    let (one, two) = (open(server.url()).await, open(server.url()).await);
    let tag = moves(&one).await;
    for n in [1, 2] {
        assert!(claims(&one, n).await.unwrap());
    }
    assert!(finishes(&one, 1, b"kept").await.unwrap());
    server.kill();
    unreached(&one).await;
    server.start_again().await;
    assert_ne!(soon("the server is back", || stands(&one)).await, tag, "it may have lost its last moments");
    soon("for both", || stands(&two)).await;
    assert!(!claims(&two, 1).await.unwrap());
    assert_eq!(&two.answer(id(1)).await.unwrap().unwrap().body[..], b"kept");
    let began = Instant::now();
    let lapsed = loop {
        if let [lapsed] = two.lapsed().await.unwrap()[..] {
            break lapsed;
        }
        assert!(began.elapsed() < PATIENCE, "its life before the restart never lapsed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let left = two.left_by(lapsed.instance, 9).await.unwrap();
    assert_eq!(left.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(2)]);
    assert!(finishes(&one, 2, b"x").await.unwrap(), "and it may still end itself");
}

// S3, S4: a server that stops answering takes one step's patience, then nothing waits; who lapsed begins anew.
#[tokio::test]
async fn a_silent_server_is_waited_for_once() {
    let server = server::Redis::start().await;
    let patience = Duration::from_secs(2);
    let short = Options { patience, alive: Duration::from_secs(2), ..options(server.url()) };
    let store = Redis::open(short).await.unwrap();
    assert!(claims(&store, 1).await.unwrap());
    server.pause();
    let began = Instant::now();
    assert_eq!(claims(&store, 2).await, Err(StoreError::Unavailable), "it was sent, and may be done");
    assert!(began.elapsed() < patience + AT_ONCE, "{:?}", began.elapsed());
    unreached(&store).await;
    let began = Instant::now();
    while store.is_alive() {
        assert!(began.elapsed() < PATIENCE, "it does not lapse by its own clock");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.resume();
    let phase = soon("the server goes on", || store.read(id(2), now())).await;
    assert!(phase.is_none_or(|record| record.state.phase() == Phase::Claimed));
    assert!(store.is_alive());
    let lapsed = store.lapsed().await.unwrap();
    assert_eq!(lapsed.len(), 1, "its own earlier life");
    assert!(finishes(&store, 1, b"x").await.unwrap(), "what was begun before is ended by its owner");
}

// V8: an emptied store says so to whoever believes in what it was.
#[tokio::test]
async fn an_emptied_server_is_another_history() {
    let server = server::Redis::start().await;
    let store = open(server.url()).await;
    let tag = moves(&store).await;
    assert!(claims(&store, 1).await.unwrap());
    server.ask(&["FLUSHALL"]).await;
    let began = Instant::now();
    assert_eq!(
        claims(&store, 2).await,
        Err(StoreError::Unreached),
        "nothing is done in a history that is over"
    );
    assert!(began.elapsed() < AT_ONCE);
    let after = soon("hello is said again", || stands(&store)).await;
    assert_ne!(after, tag);
    assert_ne!(moves(&store).await, tag);
    assert!(claims(&store, 1).await.unwrap());
}

// S3: a connection that is cut is no other history.
#[tokio::test]
async fn a_cut_connection_changes_nothing() {
    let server = server::Redis::start().await;
    let store = open(server.url()).await;
    let tag = moves(&store).await;
    let wish = || Wish { resource: ResourceId::new("/d"), name: "/d".into(), token: Owner(7) };
    let Turned::Granted(grant) = store.take_turn(wish(), now()).await.unwrap() else { panic!("no turn") };
    for kind in ["normal", "pubsub", "normal"] {
        server.ask(&["CLIENT", "KILL", "TYPE", kind]).await;
        assert_eq!(soon("connected again", || stands(&store)).await, tag);
    }
    let again = soon("still", || store.take_turn(wish(), now())).await;
    assert!(matches!(again, Turned::Granted(same) if same.fence == grant.fence));
    assert!(store.lapsed().await.unwrap().is_empty());
}

// S2: where memory is full nothing new begins, and all that began ends.
#[tokio::test]
async fn a_full_server_still_ends_what_it_holds() {
    let server = server::Redis::start().await;
    let (one, two) = (open(server.url()).await, open(server.url()).await);
    for n in [1, 2, 3] {
        assert!(claims(&one, n).await.unwrap());
    }
    let change = Change::new(id(2), Owner(2), Before::Claimed, forwarded(1));
    assert!(one.commit(change, now()).await.unwrap());
    server.ask(&["CONFIG", "SET", "maxmemory", "100kb"]).await;
    assert_eq!(claims(&one, 4).await, Err(StoreError::Full));
    assert!(one.fill_ratio().await.unwrap() >= 1.0);
    let change = Change::new(id(3), Owner(3), Before::Claimed, forwarded(1));
    assert_eq!(one.commit(change, now()).await, Err(StoreError::Full), "nothing goes out on nothing");
    let another = one.claim(id(2), record(9, "/d"), now()).await.unwrap();
    assert!(matches!(another, Claimed::Taken { .. }), "it knows what it holds");
    assert!(finishes(&one, 2, b"the end").await.unwrap());
    assert!(!claims(&two, 2).await.unwrap());
    assert_eq!(&two.answer(id(2)).await.unwrap().unwrap().body[..], b"the end");
    let release = Change::new(id(1), Owner(1), Before::Claimed, crate::store::Set::Remove);
    assert!(one.commit(release, now()).await.unwrap());
    server.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    soon("a full server is greeted too", || stands(&one)).await;
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(soon("there is room", || claims(&one, 4)).await);
}

// S3: what became a replica answers nothing, not even a read.
#[tokio::test]
async fn a_demoted_server_answers_nothing() {
    let (server, other) = (server::Redis::start().await, server::Redis::start().await);
    let store = open(server.url()).await;
    assert!(claims(&store, 1).await.unwrap());
    server.ask(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).await;
    assert_eq!(store.read(id(1), now()).await, Err(StoreError::Unreached));
    unreached(&store).await;
    server.ask(&["REPLICAOF", "NO", "ONE"]).await;
    soon("it is a primary again", || stands(&store)).await;
}
