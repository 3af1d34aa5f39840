//! The suite of all stores, on a file.

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
