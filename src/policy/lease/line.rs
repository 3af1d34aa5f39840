//! Who wants the lease of a resource on this instance, first come first served. Only the head looks whether it is
//! free, and stands in the line of its writes when it is: while it is held its holder's writes have nobody before them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Leases;
use crate::protocol::record::ResourceId;
use crate::store::ById;

#[derive(Default)]
pub(super) struct Lines {
    lines: Mutex<HashMap<ResourceId, Line, ById>>,
    waiting: AtomicUsize,
}

struct Line {
    /// Whoever has the one permit is the head; it is given on in the order in which it was asked for.
    head: Arc<Semaphore>,
    standing: usize,
}

/// A place in the line of one resource; given up when it is dropped.
pub struct Place<'a> {
    lines: &'a Lines,
    resource: ResourceId,
    head: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

/// Counts somebody who waits.
pub struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Leases {
    /// A place in the line, behind at most `most` who wait.
    ///
    /// # Errors
    /// How many wait where that is so many.
    pub fn join(&self, resource: ResourceId, most: usize) -> Result<Place<'_>, usize> {
        let mut lines = self.lines.lines.lock();
        let line =
            lines.entry(resource).or_insert_with(|| Line { head: Arc::new(Semaphore::new(1)), standing: 0 });
        // The head waits for nobody in this line.
        if line.standing > most {
            return Err(line.standing - 1);
        }
        line.standing += 1;
        Ok(Place { lines: &self.lines, resource, head: Arc::clone(&line.head), permit: None })
    }

    /// Counts its caller among those who wait, as long as it lives.
    pub fn waits(&self) -> Waits<'_> {
        Waits::new(&self.lines.waiting)
    }

    /// How many wait now for the end of a lease, or behind one who does.
    pub fn waiting(&self) -> usize {
        self.lines.waiting.load(Ordering::Relaxed)
    }
}

impl Place<'_> {
    /// Waits until it is the head.
    pub async fn come_first(&mut self) {
        if let Ok(permit) = Arc::clone(&self.head).try_acquire_owned() {
            self.permit = Some(permit);
            return;
        }
        let _waits = Waits::new(&self.lines.waiting);
        // It is never closed.
        self.permit = Arc::clone(&self.head).acquire_owned().await.ok();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.lines.lines.lock();
        if let Some(line) = lines.get_mut(&self.resource) {
            line.standing -= 1;
            if line.standing == 0 {
                lines.remove(&self.resource);
            }
        }
    }
}
