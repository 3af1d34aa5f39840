//! The one thread that writes (S5): it takes all that waits, makes one transaction of it, and wakes everybody. There
//! is no timer: while one transaction is on its way to the disk, the next one gathers.
//!
//! A transaction that fails fails all who are in it. The file is then closed and opened again, until that works: what
//! memory holds is what everybody was told, so the records of the failed transaction are written again as they stand
//! there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::Database;

use super::batch::Batch;
use super::file::{self, Opener, Rows};
use super::image::Image;
use super::lock::Lock;
use super::mend::Doubts;
use super::queue::{Job, Queue};
use super::read;
use crate::protocol::record::{Millis, RecordId};

/// Steps of one transaction at most.
const MOST: usize = 1024;
/// How long a file that failed is left alone: at first, and at most.
const PAUSE: (Duration, Duration) = if cfg!(test) {
    (Duration::from_millis(1), Duration::from_millis(20))
} else {
    (Duration::from_millis(100), Duration::from_secs(2))
};

/// The database, where it is open; readers share it.
pub(super) type Shared = Arc<Mutex<Option<Arc<Database>>>>;

/// The writing thread.
pub(super) struct Writer {
    pub(super) opener: Opener,
    pub(super) image: Arc<Image>,
    pub(super) queue: Arc<Queue>,
    pub(super) database: Shared,
    pub(super) up: Arc<AtomicBool>,
    /// Held until the file is closed.
    pub(super) lock: Option<Lock>,
    doubts: Doubts,
    failed: Option<Failed>,
}

struct Failed {
    retry_at: Instant,
    pause: Duration,
}

impl Writer {
    pub(super) fn new(
        opener: Opener,
        image: Arc<Image>,
        queue: Arc<Queue>,
        database: Shared,
        up: Arc<AtomicBool>,
        lock: Option<Lock>,
    ) -> Self {
        Self { opener, image, queue, database, up, lock, doubts: Doubts::default(), failed: None }
    }

    /// Writes until it is told to close.
    pub(super) fn run(mut self) {
        // Whatever ends this thread, nobody gives it work after that.
        let _ends = Ends(Arc::clone(&self.queue), Arc::clone(&self.up));
        loop {
            let jobs = self.queue.take(MOST);
            let batch = Batch::of(jobs, &self.image);
            self.try_again(batch.closing.is_some());
            if let Some(closing) = self.write(batch) {
                *self.database.lock() = None;
                self.up.store(false, Ordering::Release);
                drop(self.lock.take());
                // A shutdown that no longer waits has ended anyhow.
                closing.send(Ok(true)).ok();
                return;
            }
        }
    }

    /// Writes a batch, and tells everybody; who waits for the end.
    fn write(&mut self, mut batch: Batch) -> Option<super::queue::Answered> {
        let closing = batch.closing.take();
        let database = self.database.lock().clone();
        let written = match &database {
            Some(database) => {
                if let Some(until) = batch.forgets()
                    && file::guarded(|| read::has_expired(database, until)) == Ok(false)
                {
                    batch.forget_nothing();
                }
                commit(database, &batch.rows())
            }
            None => Err("it is closed".to_owned()),
        };
        match written {
            Ok(forgotten) => {
                if let Some(now) = batch.forgets_more(forgotten.len()) {
                    // There is more; who waits to write comes in between. At a shutdown it is left for the next start.
                    drop(self.queue.put(Job::Tend { now }));
                }
                batch.apply_to(&self.image, &forgotten);
            }
            Err(why) => {
                if database.is_some() {
                    self.doubts.extend(batch.doubts());
                    self.failed(&why, PAUSE.0);
                }
                batch.fail();
            }
        }
        closing
    }

    fn failed(&mut self, why: &str, pause: Duration) {
        *self.database.lock() = None;
        self.up.store(false, Ordering::Release);
        tracing::error!(why, retry_in = ?pause, "the store cannot be written");
        self.failed = Some(Failed { retry_at: Instant::now() + pause, pause });
    }

    /// Opens the file again when it is time, and mends what the failed transactions may have left.
    fn try_again(&mut self, at_once: bool) {
        let Some(Failed { retry_at, pause }) = self.failed else { return };
        if Instant::now() < retry_at && !at_once {
            return;
        }
        let mended = file::open(&self.opener).and_then(|database| {
            if file::guarded(|| read::epoch(&database))? != Some(self.image.minted.epoch()) {
                return Err("another store stands in its place now".to_owned());
            }
            self.doubts.settle(&database, &self.image)?;
            Ok(database)
        });
        match mended {
            Ok(database) => {
                *self.database.lock() = Some(Arc::new(database));
                self.up.store(true, Ordering::Release);
                self.doubts = Doubts::default();
                self.failed = None;
                tracing::warn!("the store can be written again");
            }
            Err(why) => self.failed(&why, (pause * 2).min(PAUSE.1)),
        }
    }
}

struct Ends(Arc<Queue>, Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.1.store(false, Ordering::Release);
        self.0.close();
    }
}

/// Writes rows, where there are any.
fn commit(database: &Database, rows: &Rows<'_>) -> Result<Vec<(RecordId, Millis)>, String> {
    if rows.is_empty() { Ok(Vec::new()) } else { file::guarded(|| file::write(database, rows)) }
}
