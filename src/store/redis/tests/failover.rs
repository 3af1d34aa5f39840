//! Replication: what a failover loses, and what it may not (S3, V8).

use std::time::{Duration, Instant};

use super::server::{self, watched::Watched};
use super::{Options, Redis, now, options, soon};
use crate::protocol::record::{Owner, Record, ResourceId, State};
use crate::store::conformance::{answer, done, id, mark, record};
use crate::store::shared::Shared;
use crate::store::{Before, Change, Claimed, Move, Store, StoreError};

fn sent(owner: u64) -> Record {
    Record { state: State::Forwarded { mark: mark(0), status: None }, ..record(owner, "/d") }
}

async fn claims(store: &Redis, n: u64) -> Result<bool, StoreError> {
    store.claim(id(n), sent(n), now()).await.map(|claimed| matches!(claimed, Claimed::New))
}

// S3, V8: after a failover what was copied is there, under another epoch.
#[tokio::test]
async fn a_failover_keeps_what_was_copied() {
    let mut watched = Watched::start().await;
    let store = Redis::open(Options { wait_replicas: 1, ..options(watched.url()) }).await.unwrap();
    let resource = ResourceId::new("/minted");
    let to = store.next_number().await.unwrap();
    let moved = Move { resource, to, later: None, ends_rest: false };
    store.move_version(moved, now()).await.unwrap();
    assert!(claims(&store, 1).await.unwrap());
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(now() + 60_000));
    assert!(store.commit(Change { answer: answer(b"copied"), ..change }, now()).await.unwrap());
    assert!(claims(&store, 2).await.unwrap());
    let tag = store.minted_tag(resource, to);
    assert_eq!(store.minted(resource, now()).await.unwrap(), tag);
    watched.primary.kill();
    watched.replica.reaches("role", "master").await;
    let two = soon("the replica is the store", || async {
        Redis::open(options(watched.url())).await.map_err(|_| StoreError::Unreached)
    })
    .await;
    let after = soon("the first one found it too", || store.minted(resource, now())).await;
    assert_ne!(after, tag, "no tag of before matches");
    assert!(store.next_number().await.unwrap() > to);
    assert!(!claims(&two, 1).await.unwrap());
    assert_eq!(&two.answer(id(1)).await.unwrap().unwrap().body[..], b"copied");
    let record = two.read(id(2), now()).await.unwrap().unwrap();
    assert!(matches!(record.state, State::Forwarded { .. }), "what went out is not forgotten");
    assert!(store.is_alive());
}

// V8: what a failover lost is lost visibly: its numbers and tags never come back.
#[tokio::test]
async fn what_a_failover_lost_does_not_come_back() {
    let mut watched = Watched::start().await;
    let store = Redis::open(options(watched.url())).await.unwrap();
    let resource = ResourceId::new("/minted");
    let before = store.minted(resource, now()).await.unwrap();
    // From now on the replica is cut off, and gets nothing more.
    watched.cut().await;
    let to = store.next_number().await.unwrap();
    let moved = Move { resource, to, later: None, ends_rest: false };
    store.move_version(moved, now()).await.unwrap();
    assert!(claims(&store, 1).await.unwrap());
    let lost = store.minted_tag(resource, to);
    watched.primary.kill();
    watched.replica.reaches("role", "master").await;
    let after = soon("the replica is the store", || store.minted(resource, now())).await;
    assert!(after != lost && after != before);
    assert!(store.next_number().await.unwrap() > to);
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(now() + 60_000));
    assert!(!store.commit(change, now()).await.unwrap(), "its claim was not copied");
}

// S3: `wait_replicas` replicas have what must last, or it is not said to be done.
#[tokio::test]
async fn too_few_replicas_are_told() {
    let primary = server::Redis::start().await;
    let replica = server::Redis::replica_of(&primary).await;
    replica.reaches("master_link_status", "up").await;
    let waits = Options { wait_replicas: 1, patience: Duration::from_secs(2), ..options(primary.url()) };
    let another = Redis::open(waits.clone()).await.unwrap();
    let store = Redis::open(waits).await.unwrap();
    assert!(claims(&store, 1).await.unwrap());
    replica.pause();
    let began = Instant::now();
    assert_eq!(claims(&store, 2).await, Err(StoreError::Unavailable));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // What is done already is no more copied than it was, whatever connection asks again.
    for _ in 0..2 {
        let change = Change::new(id(1), Owner(1), Before::Forwarded, done(now() + 60_000));
        let said = store.commit(change, now()).await;
        assert!(matches!(said, Err(StoreError::Unavailable | StoreError::Unreached)), "{said:?}");
    }
    // Who finds there what another has done does not tell it either: it may be lost yet.
    let found = another.claim(id(1), record(2, "/d"), now()).await;
    assert!(matches!(found, Err(StoreError::Unavailable | StoreError::Unreached)), "{found:?}");
    assert!(another.read(id(1), now()).await.is_err() && another.answer(id(1)).await.is_err());
    let other = soon("a look", || store.claim(id(2), sent(9), now())).await;
    assert!(matches!(other, Claimed::Taken { .. }), "nothing is there to be copied");
    let claimed = soon("what need not last", || store.claim(id(3), record(3, "/d"), now())).await;
    assert!(matches!(claimed, Claimed::New));
    replica.resume();
    let change = || Change::new(id(1), Owner(1), Before::Forwarded, done(now() + 60_000));
    assert!(soon("it is copied now", || store.commit(change(), now())).await);
    let found = soon("it may be told now", || another.claim(id(1), record(2, "/d"), now())).await;
    assert!(matches!(found, Claimed::Taken { standing, .. } if matches!(standing.state, State::Done { .. })));
    assert!(soon("copied again", || claims(&store, 4)).await);
}
