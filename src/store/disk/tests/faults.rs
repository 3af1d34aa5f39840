//! The disk fails, once, for a while or for ever (S4): closed meanwhile, and back by itself.

use std::sync::Arc;
use std::time::Duration;

use super::medium::{Fault, Kind, Medium};
use super::told::{Agent, Book};
use super::{NOW, each_seed, options, runtime};
use crate::protocol::record::{Owner, Phase};
use crate::store::conformance::{done, forwarded, id, record};
use crate::store::disk::{Disk, Options};
use crate::store::{Before, Change, Claimed, Set, Store, StoreError};

/// Sweeps as the server does, until it is stopped.
fn sweeping(store: &Arc<Disk>) -> tokio::task::JoinHandle<()> {
    let store = Arc::clone(store);
    tokio::spawn(async move {
        loop {
            store.sweep(NOW);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

// S4, S5, K4, invariant 2
#[test]
fn after_failures_the_file_says_what_everybody_was_told() {
    each_seed(40, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let medium = Medium::formatted();
        let book = Arc::new(Book::default());
        let store = Arc::new(medium.open(options()).unwrap());
        runtime().block_on(async {
            let sweeps = sweeping(&store);
            for round in 0..3 {
                let kinds = [None, Some(Kind::Read), Some(Kind::Write), Some(Kind::SetLen), Some(Kind::Sync)];
                medium.fail(Fault {
                    kind: kinds[random.usize(..kinds.len())],
                    after: random.u64(..60),
                    times: [1, 2, 30][random.usize(..3)],
                    synced_anyway: random.bool(),
                });
                let mut crowd = tokio::task::JoinSet::new();
                for n in 0..6 {
                    let (store, book) = (Arc::clone(&store), Arc::clone(&book));
                    let agent = Agent { store, book, random: random.fork(), insists: true };
                    let from = 1000 * round + n * 3;
                    crowd.spawn(agent.work(from..from + 3));
                }
                while crowd.join_next().await.is_some() {}
            }
            // What still fails is nothing that anybody waits for.
            medium.fail(Fault { kind: Some(Kind::Sync), after: u64::MAX, times: 1, synced_anyway: false });
            until_up(&store).await;
            book.check(&store, true).await;
            sweeps.abort();
            store.close().await.unwrap();
        });
        if random.bool() {
            medium.cut(&mut random)
        } else {
            medium.kill()
        }
        let store = medium.open(options()).unwrap();
        runtime().block_on(book.check(&store, true));
    });
}

async fn until_up(store: &Disk) {
    while store.reach().await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn step(n: u64, before: Before, set: Set) -> Change {
    Change::new(id(n), Owner(n), before, set)
}

// S4, O1, K4: nothing half is told, and what could not be stored is when the disk is back.
#[test]
fn while_it_fails_it_says_so_and_what_nobody_was_told_is_not_there() {
    let medium = Medium::formatted();
    let store = Arc::new(medium.open(options()).unwrap());
    runtime().block_on(async {
        for n in [1, 2, 3] {
            assert!(matches!(store.claim(id(n), record(n, "/d"), NOW).await.unwrap(), Claimed::New));
        }
        assert!(store.commit(step(1, Before::Claimed, forwarded(1)), NOW).await.unwrap());
        // The commit is in the file, and nobody is told so.
        medium.fail(Fault { kind: Some(Kind::Sync), after: 0, times: u64::MAX, synced_anyway: true });
        let end = step(1, Before::Forwarded, done(NOW + 9));
        assert_eq!(store.commit(end.clone(), NOW).await, Err(StoreError::Unavailable));
        assert_eq!(
            store.commit(end.clone(), NOW).await,
            Err(StoreError::Unavailable),
            "again, while it is closed"
        );
        assert_eq!(
            store.commit(step(2, Before::Claimed, forwarded(2)), NOW).await,
            Err(StoreError::Unavailable)
        );
        assert_eq!(store.reach().await, Err(StoreError::Unavailable));
        assert_eq!(store.read(id(1), NOW).await.unwrap().unwrap().state.phase(), Phase::Forwarded);
        // It frees the key that it could not forward.
        assert!(store.commit(step(2, Before::Running, Set::Remove), NOW).await.unwrap());
        medium.fail(Fault { kind: Some(Kind::Sync), after: u64::MAX, times: 1, synced_anyway: false });
        let sweeps = sweeping(&store);
        until_up(&store).await;
        sweeps.abort();
        medium.kill();
        let as_told = medium.open(options()).unwrap();
        assert_eq!(as_told.read(id(1), NOW).await.unwrap().unwrap().state.phase(), Phase::Forwarded);
        assert!(as_told.read(id(2), NOW).await.unwrap().is_none());
    });
}

// S4, K4: a hanging disk is waited for as long as limits.store allows; then nothing more is done for whoever gave up,
// and all who wait are one transaction.
#[test]
fn a_hanging_disk_is_waited_for_within_bounds() {
    let medium = Medium::formatted();
    let patience = Duration::from_millis(200);
    let store = Arc::new(medium.open(Options { patience, ..options() }).unwrap());
    runtime().block_on(async {
        for n in 0..100 {
            assert!(matches!(store.claim(id(n), record(n, "/d"), NOW).await.unwrap(), Claimed::New));
        }
        medium.hang(true);
        let go = |n| store.commit(step(n, Before::Claimed, forwarded(n)), NOW);
        let first = tokio::spawn(go(0));
        medium.until_it_hangs().await;
        let mut crowd = tokio::task::JoinSet::new();
        (1..50).for_each(|n| drop(crowd.spawn(go(n))));
        assert!(crowd.join_all().await.into_iter().all(|told| told == Err(StoreError::Unavailable)));
        assert_eq!(first.await.unwrap(), Err(StoreError::Unavailable));
        let mut crowd = tokio::task::JoinSet::new();
        (50..100).for_each(|n| drop(crowd.spawn(go(n))));
        tokio::task::yield_now().await;
        let before = medium.syncs();
        medium.hang(false);
        assert!(crowd.join_all().await.into_iter().all(|told| told == Ok(true)));
        assert!(medium.syncs() - before <= 2, "{} syncs for one crowd", medium.syncs() - before);
        for n in 1..50 {
            let standing = store.read(id(n), NOW).await.unwrap().unwrap();
            assert_eq!(standing.state.phase(), Phase::Claimed, "key {n} was given up, and went out");
        }
        // The one that was on its way when its agent gave up may be there; a release finds out.
        assert!(store.commit(step(0, Before::Running, Set::Remove), NOW).await.unwrap());
        assert!(store.read(id(0), NOW).await.unwrap().is_none());
    });
}
