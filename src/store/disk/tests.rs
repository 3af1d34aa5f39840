//! The suite of all stores on a file, and what only a disk can do.

mod beside;
mod damage;
mod faults;
mod golden;
mod medium;
mod power_cut;
mod races;
mod told;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{Disk, Options};
use crate::protocol::record::Owner;
use crate::store::conformance::{Case, answer, done, forwarded, id, on_each_case, on_each_cell_case, record};
use crate::store::{Before, Change, Claimed, Store, StoreError};

const NOW: u64 = 1_000_000;

fn options() -> Options {
    Options { max_memory: 8 << 20, patience: Duration::from_secs(20), epoch: 7, now: NOW }
}

fn fresh() -> (Case, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Disk::open(&folder.path().join("store"), options()).unwrap());
    (Case { store, now: NOW }, folder)
}

on_each_case!(fresh());
on_each_cell_case!(fresh());

// S1, K7: what was answered of late is answered from memory, and what was not is read from the file.
#[tokio::test]
async fn a_replay_of_a_hot_key_reads_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let keep = |store: Arc<Disk>| async move {
        assert!(matches!(store.claim(id(1), record(1, "/a"), NOW).await, Ok(Claimed::New)));
        for (before, set) in [(Before::Claimed, forwarded(1)), (Before::Forwarded, done(NOW + 1_000))] {
            let kept = (before == Before::Forwarded).then(|| answer(b"kept")).flatten();
            let change = Change { answer: kept, ..Change::new(id(1), Owner(1), before, set) };
            assert_eq!(store.commit(change, NOW).await, Ok(true));
        }
        store
    };
    let replayed = |store: Arc<Disk>| async move {
        let claimed = store.claim(id(1), record(2, "/a"), NOW).await?;
        assert!(matches!(claimed, Claimed::Taken { .. }));
        store.answer(id(1)).await.map(|answer| answer.map(|answer| answer.body))
    };
    let hot = keep(Arc::new(Disk::open(&path, options()).unwrap())).await;
    // Without its file it has nothing to read from.
    hot.close().await.unwrap();
    assert_eq!(replayed(Arc::clone(&hot)).await, Ok(Some("kept".into())));
    drop(hot);
    let cold = Arc::new(Disk::open(&path, options()).unwrap());
    cold.close().await.unwrap();
    assert_eq!(replayed(cold).await, Err(StoreError::Unavailable));
    let again = Arc::new(Disk::open(&path, options()).unwrap());
    assert_eq!(replayed(Arc::clone(&again)).await, Ok(Some("kept".into())));
    again.close().await.unwrap();
    assert_eq!(replayed(again).await, Ok(Some("kept".into())), "it is hot now");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs many seeds; `ONCEWARD_SEED=n` runs one of them again, `ONCEWARD_SEEDS=n` so many instead.
fn each_seed(many: u64, mut run: impl FnMut(u64)) {
    let given = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = given("ONCEWARD_SEED") {
        return run(seed);
    }
    for seed in 0..given("ONCEWARD_SEEDS").unwrap_or(many) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            let said = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("seed {seed}, again by ONCEWARD_SEED={seed}: {said}");
        }
    }
}
