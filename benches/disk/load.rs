//! Records by the store's own door.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use onceward::protocol::fingerprint::Fingerprint;
use onceward::protocol::record::{Owner, Phase, Record, RecordId, State};
use onceward::store::disk::{Disk, Options};
use onceward::store::{Answer, Before, Change, Claimed, Set, Store};

use crate::measure;

pub(crate) const NOW: u64 = 1_800_000_000_000;
const DAY: u64 = 24 * 60 * 60 * 1000;
const AT_ONCE: u64 = 512;

pub(crate) fn open(folder: &Path, now: u64) -> Arc<Disk> {
    let options = Options {
        max_memory: 512 << 20,
        patience: Duration::from_secs(60),
        epoch: 1_800_000_000_000_000,
        now,
    };
    Arc::new(Disk::open(folder, options).expect("a store"))
}

pub(crate) fn close(store: &Disk) {
    runtime().block_on(store.close()).expect("a close");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn id(n: u64) -> RecordId {
    let hash = blake3::hash(&n.to_le_bytes());
    RecordId(hash.as_bytes()[..16].try_into().expect("16 bytes"))
}

/// Two commits, as every write has (S5).
async fn write(store: &dyn Store, n: u64, body: &[u8], now: u64) {
    let owner = Owner(n);
    let record = Record {
        owner,
        fingerprint: Fingerprint::from_bytes([7; 16]),
        started_at: now,
        route: "documents".into(),
        resource: format!("/documents/{n}").into(),
        state: State::Claimed,
    };
    let claimed = store.claim(id(n), record, now).await.expect("a claim");
    assert!(matches!(claimed, Claimed::New));
    let forwarded = Set::State(State::Forwarded { mark: None, status: None });
    assert!(
        store.commit(Change::new(id(n), owner, Before::Claimed, forwarded), now).await.expect("a commit")
    );
    let done = State::Done { status: 200, kept: true, completed_at: now, expires_at: now + DAY };
    let answer = Some(Answer::encode(StatusCode::OK, &HeaderMap::new(), |_| true, body));
    let change = Change { answer, ..Change::new(id(n), owner, Before::Forwarded, Set::State(done)) };
    assert!(store.commit(change, now).await.expect("a commit"));
}

/// Writes `from..to`, many at once; the slowest of all.
async fn write_all(store: &Arc<Disk>, from: u64, to: u64, body: u64, now: u64) -> Duration {
    let next = Arc::new(AtomicU64::new(from));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (store, next) = (Arc::clone(store), Arc::clone(&next));
        crowd.spawn(async move {
            let body = vec![b'x'; usize::try_from(body).expect("a length")];
            let mut slowest = Duration::ZERO;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= to {
                    return slowest;
                }
                let begun = Instant::now();
                write(&*store, n, &body, now).await;
                slowest = slowest.max(begun.elapsed());
            }
        });
    }
    crowd.join_all().await.into_iter().max().unwrap_or_default()
}

pub(crate) fn fill(folder: &Path, records: u64, body: u64, closes: bool) {
    let store = open(folder, NOW);
    let begun = Instant::now();
    runtime().block_on(write_all(&store, 0, records, body, NOW));
    let took = begun.elapsed().as_secs_f64();
    println!(
        "filled in {took:.1} s: {:.0} durable commits a second, {AT_ONCE} at once",
        2.0 * records as f64 / took
    );
    if closes {
        close(&store);
    } else {
        std::process::abort();
    }
}

pub(crate) fn spot_check(store: &Disk, records: u64) {
    runtime().block_on(async {
        for n in [0, records / 2, records - 1] {
            let record = store.read(id(n), NOW).await.expect("a read").expect("a record");
            assert_eq!(record.state.phase(), Phase::Done);
            assert!(store.answer(id(n)).await.expect("a read").is_some());
        }
        assert!(store.read(id(records), NOW).await.expect("a read").is_none());
    });
}

/// Four days of writing; the clock is ours. From the second day on as much expires as comes.
pub(crate) fn expiry(folder: &Path, a_day: u64) {
    let store = open(folder, NOW);
    let runtime = runtime();
    let slices = 24;
    println!("{a_day} records a day of 300 bytes; live records, memory, file and slowest write:");
    for hour in 0..slices * 4 {
        let now = NOW + hour * DAY / slices;
        let (from, to) = (hour * a_day / slices, (hour + 1) * a_day / slices);
        store.sweep(now);
        let begun = Instant::now();
        let slowest = runtime.block_on(write_all(&store, from, to, 300, now));
        if hour % 6 == 5 {
            let rate = (to - from) as f64 / begun.elapsed().as_secs_f64();
            println!(
                "  hour {:>3}: {rate:.0} writes/s, fill {:.4}, memory {:.0} MiB, file {:.0} MiB, slowest {:.0} ms",
                hour + 1,
                runtime.block_on(store.fill_ratio()).expect("a ratio"),
                measure::memory().now / super::MIB,
                measure::file_size(folder) as f64 / super::MIB,
                slowest.as_secs_f64() * 1000.0,
            );
        }
    }
    close(&store);
}
