//! The suite of all stores on a file, and what only a disk can do.

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
use crate::store::conformance::{Case, on_each_case};

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
