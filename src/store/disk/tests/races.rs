//! What happens at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::medium::Medium;
use super::{NOW, options, runtime};
use crate::protocol::record::{Owner, Phase, Record, State};
use crate::store::conformance::{forwarded, id, mark, record, unknown};
use crate::store::disk::image::Image;
use crate::store::disk::read::{Finished, Found};
use crate::store::{Before, Change, Claimed, Set, Store};

// Invariant 1: a key was free for a moment when its record was finished.
#[test]
fn a_key_is_never_free_while_its_record_is_finished() {
    const MANY: u64 = 20_000;
    let image = Image::new(Found::default(), 64 << 20, 7, NOW);
    let finishing = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..MANY {
                let record = Record { state: done_state(), ..record(n, "/d") };
                image.set(id(n), Some(forwarded_by(n)), None);
                finishing.store(n, Ordering::Release);
                image.finish(id(n), Finished { record, answer: Bytes::new() });
            }
            finishing.store(MANY, Ordering::Release);
        });
        scope.spawn(|| {
            loop {
                let n = finishing.load(Ordering::Acquire);
                if n == MANY {
                    break;
                }
                if n > 0 {
                    let standing = image.claim(id(n), &record(MANY + n, "/d"), NOW).unwrap();
                    assert!(standing.is_some(), "key {n} was free");
                }
            }
        });
    });
}

fn done_state() -> State {
    State::Done { status: 201, kept: true, completed_at: 1, expires_at: NOW + 1000 }
}

fn forwarded_by(n: u64) -> Record {
    Record { state: State::Forwarded { mark: None, status: None }, ..record(n, "/d") }
}

// K12, K15: what a sweep or a follower writes of a record does not overwrite who claimed the key meanwhile.
#[test]
fn a_claim_on_an_expired_record_outlives_its_sweep() {
    for follows in [false, true] {
        let medium = Medium::formatted();
        let store = Arc::new(medium.open(options()).unwrap());
        runtime().block_on(async {
            let change = |n, owner, before, set| Change::new(id(n), Owner(owner), before, set);
            for n in [1, 2] {
                assert!(matches!(store.claim(id(n), record(n, "/d"), NOW).await.unwrap(), Claimed::New));
            }
            assert!(store.commit(change(1, 1, Before::Claimed, forwarded(1)), NOW).await.unwrap());
            assert!(store.commit(change(1, 1, Before::Forwarded, unknown(1, NOW + 10)), NOW).await.unwrap());
            medium.hang(true);
            let go =
                follows.then(|| tokio::spawn(store.commit(change(2, 2, Before::Claimed, forwarded(2)), NOW)));
            tokio::select! {
                () = medium.until_it_hangs() => {}
                // A part a call: one of them has it.
                () = async { loop {
                    if !follows { store.sweep(NOW + 10) }
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                } } => {}
            }
            let claim = store.claim(id(1), record(9, "/d"), NOW + 10).await.unwrap();
            assert!(matches!(claim, Claimed::New));
            medium.hang(false);
            if let Some(go) = go {
                assert!(go.await.unwrap().unwrap());
            }
            for _ in 0..64 {
                store.sweep(NOW + 10);
                assert!(store.commit(change(3, 3, Before::Running, Set::Remove), NOW).await.unwrap());
            }
            let standing = store.read(id(1), NOW + 10).await.unwrap().unwrap();
            assert_eq!((standing.owner, standing.state.phase()), (Owner(9), Phase::Claimed));
            assert!(store.commit(change(1, 9, Before::Claimed, forwarded(9)), NOW + 10).await.unwrap());
        });
    }
}

// K15: an expired record that somebody just takes over is nobody else's, and nobody spins for it.
#[test]
fn an_expired_record_with_a_step_on_its_way_is_not_claimed() {
    let medium = Medium::formatted();
    let store = Arc::new(medium.open(options()).unwrap());
    runtime().block_on(async {
        let change = |owner, before, set| Change::new(id(1), Owner(owner), before, set);
        assert!(matches!(store.claim(id(1), record(1, "/d"), NOW).await.unwrap(), Claimed::New));
        assert!(store.commit(change(1, Before::Claimed, forwarded(1)), NOW).await.unwrap());
        assert!(store.commit(change(1, Before::Forwarded, unknown(1, NOW + 10)), NOW).await.unwrap());
        medium.hang(true);
        let again = Record { state: State::Forwarded { mark: mark(1), status: None }, ..record(2, "/d") };
        let runs = tokio::spawn(store.commit(change(1, Before::Unknown, Set::Replace(again)), NOW));
        medium.until_it_hangs().await;
        assert!(store.claim(id(1), record(3, "/d"), NOW + 10).await.is_err());
        medium.hang(false);
        assert!(runs.await.unwrap().unwrap());
        let Claimed::Taken { standing, .. } = store.claim(id(1), record(3, "/d"), NOW + 10).await.unwrap()
        else {
            panic!("it runs, and was claimed")
        };
        assert_eq!(standing.owner, Owner(2));
    });
}
