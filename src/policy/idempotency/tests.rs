//! A store that does what it is asked, and does not say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::{Claim, Ended, Keys, NotRecorded};
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::record::{Millis, Owner, Phase, Record, RecordId, ResourceId, State};
use crate::store::memory::Memory;
use crate::store::{Answer, Change, Claimed, Move, Number, Reply, Resolution, Store, StoreError};

struct Mute {
    inner: Memory,
    steps: AtomicU32,
}

impl Store for Mute {
    fn commit(&self, change: Change, now: Millis) -> Reply<bool> {
        let told = self.inner.commit(change, now);
        let mute = self.steps.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if mute.is_ok() { Reply::now(Err(StoreError::Unavailable)) } else { told }
    }

    fn claim(&self, id: RecordId, record: Record, now: Millis) -> Reply<Claimed> {
        self.inner.claim(id, record, now)
    }

    fn read(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        self.inner.read(id, now)
    }

    fn answer(&self, id: RecordId) -> Reply<Option<Answer>> {
        self.inner.answer(id)
    }

    fn resolutions(&self, id: RecordId, now: Millis) -> Reply<Vec<Resolution>> {
        self.inner.resolutions(id, now)
    }

    fn next_fence(&self) -> Reply<u64> {
        self.inner.next_fence()
    }

    fn next_number(&self) -> Reply<Number> {
        self.inner.next_number()
    }

    fn move_version(&self, to: Move, now: Millis) -> Reply<()> {
        self.inner.move_version(to, now)
    }

    fn minted(&self, resource: ResourceId, now: Millis) -> Reply<Box<str>> {
        self.inner.minted(resource, now)
    }

    fn minted_tag(&self, resource: ResourceId, number: Number) -> Box<str> {
        self.inner.minted_tag(resource, number)
    }

    fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Reply<Vec<(RecordId, Record)>> {
        self.inner.scan(phase, most, now)
    }

    fn reach(&self) -> Reply<()> {
        self.inner.reach()
    }

    fn close(&self) -> Reply<()> {
        self.inner.close()
    }

    fn outlives_process(&self) -> bool {
        self.inner.outlives_process()
    }

    fn unknown(&self) -> u64 {
        self.inner.unknown()
    }

    fn fill_ratio(&self) -> f64 {
        self.inner.fill_ratio()
    }

    fn sweep(&self, now: Millis) {
        self.inner.sweep(now);
    }
}

const ID: RecordId = RecordId([1; 16]);

fn record(owner: u64) -> Record {
    Record {
        owner: Owner(owner),
        fingerprint: Fingerprint::from_bytes([7; 16]),
        started_at: 1,
        route: "documents".into(),
        resource: "/d".into(),
        state: State::Claimed,
    }
}

// K6, invariant 1: a key that was handed on, while the store did not say so, is not held by nobody for ever.
#[tokio::test]
async fn a_key_that_may_have_been_handed_on_becomes_free() {
    let store = Arc::new(Mute { inner: Memory::new(1 << 20, 7), steps: AtomicU32::new(0) });
    let keys = Keys::new(Arc::clone(&store) as Arc<dyn Store>, TaskTracker::new());
    assert!(matches!(store.claim(ID, record(1), 0).await.unwrap(), Claimed::New));
    let mut claim = Claim::new(&keys, ID, Owner(1), 1000);
    let waits = keys.waiting.join(ID, record(2));
    store.steps.store(1, Ordering::Release);
    let ended = claim.end(Ended::Released, None).await;
    assert!(matches!(ended, Err(NotRecorded::Store(StoreError::Unavailable))));
    drop((claim, waits));
    tokio::time::timeout(Duration::from_secs(20), async {
        while store.read(ID, 0).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("the key is held by nobody");
}
