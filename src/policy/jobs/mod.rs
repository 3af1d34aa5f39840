//! Writes that run after they were answered (J1).
//!
//! 1. `seal`: what is stored of a request, which nobody reads without `store.secret`;
//! 2. `line`: which jobs wait, and which runs next: in order per resource.

mod line;
mod seal;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::line::Line;
use self::seal::Sealer;
use crate::http::{Reason, Request};
use crate::protocol::record::{Owner, Principal, RecordId, ResourceId};
use crate::store::cells::{Kind, Topic};
use crate::store::{Cell, CellId, Put};

pub use self::line::{Job, Ran};
pub use self::seal::Asked;

/// What is told when a job is put, or has ended.
pub const TOPIC: Topic = Topic(*b"onceward.jobs...");

/// Jobs that wait or run, as far as this instance knows.
pub struct Jobs {
    /// `None`: there is no `store.secret`, and no route takes jobs.
    sealer: Option<Sealer>,
    line: Mutex<Line>,
}

/// Room for one more, given back unless it was taken.
pub struct Room<'a>(&'a Jobs);

/// A job that this instance tries now. Dropped without a word it is tried again.
pub struct Running {
    jobs: Arc<Jobs>,
    pub job: Job,
    ran: Ran,
}

/// What names the cell of a job.
pub fn cell(id: RecordId) -> CellId {
    CellId { kind: Kind::Job, name: id.0 }
}

/// Takes the cell of a job away.
pub fn gone(id: RecordId, stamp: Owner) -> Put {
    Put { id: cell(id), was: Some(stamp), to: None, tell: Some(TOPIC) }
}

impl Jobs {
    /// None yet.
    pub fn new(secret: Option<&[u8; 32]>) -> Arc<Self> {
        Arc::new(Self { sealer: secret.and_then(Sealer::new), line: Mutex::default() })
    }

    /// Room for one more job, if not so many wait already.
    ///
    /// # Errors
    /// 429 `queue-full`.
    pub fn room(&self, most: usize) -> Result<Room<'_>, Reason> {
        let mut line = self.line.lock();
        if line.waiting() >= most {
            return Err(Reason::QueueFull { waiting: line.waiting() });
        }
        line.reserve();
        Ok(Room(self))
    }

    /// A request as a cell of the store, with its place in the order in which jobs were accepted.
    pub fn sealed(
        &self,
        job: &Job,
        asked: (&Request, &[u8]),
        principal: &Principal,
        route: &str,
        stamp: Owner,
    ) -> Option<Put> {
        let value = self.sealer.as_ref()?.seal(job, asked, principal, route)?;
        let to = Some(Cell { stamp, left: None, value: value.into() });
        Some(Put { id: cell(job.id), was: None, to, tell: Some(TOPIC) })
    }

    /// The request of a job; `None` where it was sealed with another secret.
    pub fn opened(&self, id: RecordId, value: &[u8]) -> Option<Asked> {
        self.sealer.as_ref()?.open(id, value)
    }

    /// All jobs that there are, by the heads of their cells; those that run here run on.
    pub fn found(&self, cells: &[(RecordId, Cell)]) {
        let jobs = cells.iter().filter_map(|(id, cell)| seal::job(*id, &cell.value));
        self.line.lock().become_these(jobs);
    }

    /// Whether none waits or runs.
    pub fn is_empty(&self) -> bool {
        self.line.lock().is_empty()
    }

    /// The next that may run: the first of a resource where none runs.
    pub fn next(self: &Arc<Self>, now: Instant) -> Option<Running> {
        let job = self.line.lock().next(now)?;
        Some(Running { jobs: Arc::clone(self), job, ran: Ran::Again })
    }

    /// How long until one that pauses may run again.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.line.lock().pause(now)
    }
}

impl Room<'_> {
    /// A job takes it: it is in the store.
    pub fn taken_by(self, job: Job) {
        self.0.line.lock().add(job);
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.line.lock().unreserve();
    }
}

impl Running {
    /// What the try came to.
    pub fn came_to(mut self, ran: Ran) {
        self.ran = ran;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.jobs.line.lock().ran(self.job, self.ran, Instant::now());
    }
}

/// The resource of a request, in the order of jobs.
pub fn job(id: RecordId, resource: ResourceId, order: u64) -> Job {
    Job { id, resource, order }
}
