//! `disk:`, one instance's own file (S5): durable before anything depends on it.
//!
//! `file` is what stands on the disk, `image` what of it is in memory and decides. Steps go through `queue` to the one
//! `writer`, which makes a `batch` of all that waits, writes it as one transaction, and then lets it be so.

mod batch;
mod beside;
mod file;
pub(super) mod format;
mod image;
mod lock;
mod mend;
mod queue;
mod read;
mod reserved;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redb::Database;
use tokio::sync::{oneshot, watch};

use self::file::{Meta, Opener, Rows};
use self::image::{Image, Known};
use self::lock::Lock;
use self::queue::{Answered, Job, OnItsWay, Queue};
use self::read::Finished;
use self::reserved::RESERVED;
use self::writer::{Shared, Writer};
use super::cells::{Cell, CellId, Kind, Name, Swap};
use super::log::{Event, Keep, Place};
use super::minted::Number;
use super::{Answer, Change, Claimed, Move, Reply, Resolution, Store, StoreError};
use crate::protocol::record::{Millis, Phase, Record, RecordId, ResourceId};

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of memory for the index, counters and the cache of answers (`store.max_memory`).
    pub max_memory: usize,
    /// How long a step may take (`limits.store`).
    pub patience: Duration,
    /// Microseconds since the Unix epoch: where fences begin at the earliest (L4).
    pub epoch: u64,
    pub now: Millis,
}

/// A store in a file.
pub struct Disk {
    image: Arc<Image>,
    queue: Arc<Queue>,
    database: Shared,
    up: Arc<AtomicBool>,
    patience: Duration,
}

impl Disk {
    /// Opens the file, or makes it; a folder holds it as `onceward.redb`.
    ///
    /// # Errors
    /// A sentence for the operator: who else has it, what is wrong with it, and the way out.
    pub fn open(path: &Path, options: Options) -> Result<Self, String> {
        let path = if path.is_dir() { path.join("onceward.redb") } else { path.to_owned() };
        let lock = Lock::take(&path)?;
        file::make(&path).map_err(|why| format!("{} cannot be made: {why}", path.display()))?;
        Self::open_by(file::opener(&path), Some(lock), options).map_err(|why| way_out(&path, &why))
    }

    fn open_by(opener: Opener, lock: Option<Lock>, options: Options) -> Result<Self, String> {
        let database = file::open(&opener)?;
        let found = file::guarded(|| read::load(&database))?;
        let is_new = found.meta.is_empty();
        if is_new && !found.is_empty() {
            return Err("its numbers are gone".to_owned());
        }
        let image = Image::new(found, options.max_memory, options.epoch, options.now);
        begin(&database, &image, is_new.then_some(options.epoch))?;
        let image = Arc::new(image);
        let queue = Arc::new(Queue::default());
        let database: Shared = Arc::new(Mutex::new(Some(Arc::new(database))));
        let up = Arc::new(AtomicBool::new(true));
        let writer = Writer::new(
            opener,
            Arc::clone(&image),
            Arc::clone(&queue),
            Arc::clone(&database),
            Arc::clone(&up),
            lock,
        );
        let thread = std::thread::Builder::new().name("store".to_owned());
        thread.spawn(move || writer.run()).map_err(|error| error.to_string())?;
        Ok(Self { image, queue, database, up, patience: options.patience })
    }

    /// Gives a job to the writer and waits for it, for so long as `limits.store` allows.
    fn write(&self, job: impl FnOnce(Answered) -> Job) -> Reply<bool> {
        let (answer, answered) = oneshot::channel();
        if self.queue.put(job(answer)).is_err() {
            return Reply::now(Err(StoreError::Unavailable));
        }
        let patience = self.patience;
        Reply::later(async move {
            match tokio::time::timeout(patience, answered).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable),
            }
        })
    }

    /// Reads in the file, on a thread that may wait for the disk.
    fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        let database = self.database.lock().clone();
        let patience = self.patience;
        async move {
            let database = database.ok_or(StoreError::Unavailable)?;
            let work = tokio::task::spawn_blocking(move || file::guarded(|| read(&database)));
            match tokio::time::timeout(patience, work).await {
                Ok(Ok(Ok(read))) => Ok(read),
                Ok(Ok(Err(why))) => {
                    tracing::error!(why, "the store cannot be read");
                    Err(StoreError::Unavailable)
                }
                Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable),
            }
        }
    }

    /// A finished record, from the file.
    fn finished(
        &self,
        id: RecordId,
        expires_at: Millis,
    ) -> impl Future<Output = Result<Option<Arc<Finished>>, StoreError>> + Send + 'static {
        let read = self.reading(move |database| read::finished(database, id, expires_at));
        let image = Arc::clone(&self.image);
        async move {
            let found = read.await?;
            Ok(found
                .map(|(record, answer)| image.cached(id, Finished { record, answer: Bytes::from(answer) })))
        }
    }
}

/// A new store has an epoch, and every start reserves its first numbers.
fn begin(database: &Database, image: &Image, epoch: Option<u64>) -> Result<(), String> {
    let numbers = image.minted.next().saturating_add(RESERVED);
    let fences = image.fences.due().unwrap_or_default();
    let mut rows = Rows { meta: vec![(Meta::Numbers, numbers), (Meta::Fences, fences)], ..Rows::default() };
    rows.meta.extend(epoch.map(|epoch| (Meta::Epoch, epoch)));
    file::guarded(|| file::write(database, &rows))?;
    image.numbers_until.store(numbers, Ordering::Release);
    image.fences.reserve(fences);
    Ok(())
}

fn way_out(path: &Path, why: &str) -> String {
    let path: PathBuf = path.to_owned();
    format!(
        "{} cannot be opened: {why}. Restore it from a copy; or move it away to begin with an empty store, which \
         forgets every answer, version and unknown outcome in it",
        path.display()
    )
}

impl Store for Disk {
    fn claim(&self, id: RecordId, record: Record, now: Millis) -> Reply<Claimed> {
        let expires_at = match self.image.claim(id, &record, now) {
            Ok(None) => return Reply::now(Ok(Claimed::New)),
            Ok(Some(Known::Open(standing))) => return Reply::now(Ok(taken(*standing, record))),
            Ok(Some(Known::Finished(finished))) => {
                return Reply::now(Ok(taken(finished.record.clone(), record)));
            }
            Ok(Some(Known::Stored(expires_at))) => expires_at,
            Ok(Some(Known::Nothing)) => return Reply::now(Err(StoreError::Unavailable)),
            Err(error) => return Reply::now(Err(error)),
        };
        let read = self.finished(id, expires_at);
        Reply::later(async move {
            match read.await? {
                Some(finished) => Ok(taken(finished.record.clone(), record)),
                // It was just forgotten, or the file does not hold what its index says: no first use, either way.
                None => Err(StoreError::Unavailable),
            }
        })
    }

    fn read(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        match self.image.find(id, now) {
            Known::Nothing => Reply::now(Ok(None)),
            Known::Open(record) => Reply::now(Ok(Some(*record))),
            Known::Finished(finished) => Reply::now(Ok(Some(finished.record.clone()))),
            Known::Stored(expires_at) => {
                let read = self.finished(id, expires_at);
                Reply::later(async move { Ok(read.await?.map(|finished| finished.record.clone())) })
            }
        }
    }

    fn answer(&self, id: RecordId) -> Reply<Option<Answer>> {
        match self.image.find(id, 0) {
            Known::Nothing | Known::Open(_) => Reply::now(Ok(None)),
            Known::Finished(finished) => Reply::now(Ok(finished.answer())),
            Known::Stored(expires_at) => {
                let read = self.finished(id, expires_at);
                Reply::later(async move { Ok(read.await?.and_then(|finished| finished.answer())) })
            }
        }
    }

    fn commit(&self, change: Change, now: Millis) -> Reply<bool> {
        if let Some(done) = self.image.step_in_memory(&change) {
            return Reply::now(Ok(done));
        }
        let noted = OnItsWay::noted(&self.image, change.id);
        self.write(|answer| Job::Step { change: Box::new(change), now, noted, answer })
    }

    fn resolutions(&self, id: RecordId, now: Millis) -> Reply<Vec<Resolution>> {
        Reply::later(self.reading(move |database| read::resolutions(database, id, now)))
    }

    fn next_fence(&self) -> Reply<u64> {
        Reply::now(self.image.fences.give().ok_or(StoreError::Unavailable))
    }

    fn next_number(&self) -> Reply<Number> {
        Reply::now(self.image.next_number().ok_or(StoreError::Unavailable))
    }

    fn move_version(&self, to: Move, now: Millis) -> Reply<()> {
        let moved = self.write(|answer| Job::Move { to, now, answer });
        Reply::later(async move { moved.await.map(drop) })
    }

    fn minted(&self, resource: ResourceId, now: Millis) -> Reply<Box<str>> {
        Reply::now(Ok(self.image.minted.tag(resource, now)))
    }

    fn minted_tag(&self, resource: ResourceId, number: Number) -> Box<str> {
        self.image.minted.tag_of(resource, number)
    }

    fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Reply<Vec<(RecordId, Record)>> {
        let mut found = self.image.scan(phase, most, now);
        let rest = most - found.len();
        if rest == 0 || phase.is_some_and(|phase| phase != Phase::Done) {
            return Reply::now(Ok(found));
        }
        let finished = self.reading(move |database| read::latest(database, rest, now));
        Reply::later(async move {
            found.extend(finished.await?);
            Ok(found)
        })
    }

    fn cell(&self, id: CellId, now: Millis) -> Reply<Option<Cell>> {
        Reply::now(Ok(self.image.beside.cell(id, now)))
    }

    fn swap(&self, swap: Swap, now: Millis) -> Reply<bool> {
        self.write(|answer| Job::Swap { swap: Box::new(swap), now, answer })
    }

    fn due(&self, kind: Kind, within: Duration, most: usize, now: Millis) -> Reply<Vec<(Name, Cell)>> {
        Reply::now(Ok(self.image.beside.due(kind, within, most, now)))
    }

    fn cells(&self, kind: Kind, most: usize, now: Millis) -> Reply<Vec<(Name, Cell)>> {
        Reply::now(Ok(self.image.beside.all(kind, most, now)))
    }

    fn keep_events(&self, keep: Keep) {
        self.image.beside.log.keep(keep);
    }

    fn last_event(&self) -> Reply<Place> {
        Reply::now(Ok(self.image.beside.log.end()))
    }

    fn events(&self, after: Place, most: usize, now: Millis) -> Reply<Option<Vec<Event>>> {
        let log = &self.image.beside.log;
        log.sweep(now);
        Reply::now(Ok(log.since(after, most)))
    }

    fn event_signal(&self) -> watch::Receiver<u64> {
        self.image.beside.log.signal()
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn reach(&self) -> Reply<()> {
        let up = self.up.load(Ordering::Acquire);
        Reply::now(if up { Ok(()) } else { Err(StoreError::Unavailable) })
    }

    fn close(&self) -> Reply<()> {
        let closed = self.write(|answer| Job::Close { answer });
        Reply::later(async move { closed.await.map(drop) })
    }

    fn unknown(&self) -> Reply<u64> {
        Reply::now(Ok(self.image.unknown()))
    }

    fn fill_ratio(&self) -> Reply<f64> {
        Reply::now(Ok(self.image.fill_ratio()))
    }

    fn sweep(&self, now: Millis) {
        // Nobody waits for it, and the next one comes soon.
        drop(self.queue.put(Job::Tend { now }));
    }
}

fn taken(standing: Record, yours: Record) -> Claimed {
    Claimed::Taken { standing: Box::new(standing), yours: Box::new(yours) }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What was given to the writer is still written; then it ends.
        let (answer, _) = oneshot::channel();
        drop(self.queue.put(Job::Close { answer }));
    }
}
