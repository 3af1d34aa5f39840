//! What waits for the writer: many may ask, one thread takes all that is there.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::image::Image;
use crate::protocol::record::{Millis, RecordId};
use crate::store::{Change, Move, StoreError, Swap};

/// Steps that may wait at once; requests that are in flight are far fewer.
const MOST: usize = 1 << 16;

/// So many may wait without a look at whether somebody still waits for them.
const FEW: usize = 256;

/// Where the writer says what became of a step.
pub(super) type Answered = oneshot::Sender<Result<bool, StoreError>>;

/// One thing to write.
pub(super) enum Job {
    Step {
        change: Box<Change>,
        now: Millis,
        noted: OnItsWay,
        answer: Answered,
    },
    Move {
        to: Move,
        now: Millis,
        answer: Answered,
    },
    Swap {
        swap: Box<Swap>,
        now: Millis,
        answer: Answered,
    },
    /// Look after reserved numbers and what has expired.
    Tend {
        now: Millis,
    },
    Close {
        answer: Answered,
    },
}

/// A step on its way to the file, until this is dropped.
pub(super) struct OnItsWay {
    image: Arc<Image>,
    id: RecordId,
}

impl OnItsWay {
    /// Of a step that [`Image::step_in_memory`] noted.
    pub(super) fn noted(image: &Arc<Image>, id: RecordId) -> Self {
        Self { image: Arc::clone(image), id }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.image.arrived(self.id);
    }
}

impl Job {
    /// Whether nobody waits for it any more: whoever asked was told that it could not be done.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Step { answer, .. } | Self::Move { answer, .. } | Self::Swap { answer, .. } => {
                answer.is_closed()
            }
            Self::Tend { .. } | Self::Close { .. } => false,
        }
    }
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// When so many wait, those that were given up are taken out.
    tidy_at: usize,
    tends: bool,
    closed: bool,
}

/// The writer's queue.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    came: Condvar,
}

impl Queue {
    /// Puts a job at the end. It is handed back where nobody takes it any more, or too many wait.
    pub(super) fn put(&self, job: Job) -> Result<(), Job> {
        let mut waiting = self.waiting.lock();
        if waiting.closed || waiting.jobs.len() >= MOST {
            return Err(job);
        }
        match &job {
            // One look after things is as good as many.
            Job::Tend { .. } if waiting.tends => return Ok(()),
            Job::Tend { .. } => waiting.tends = true,
            Job::Close { .. } => waiting.closed = true,
            Job::Step { .. } | Job::Move { .. } | Job::Swap { .. } => {}
        }
        waiting.jobs.push_back(job);
        let given_up = waiting.tidy();
        drop(waiting);
        self.came.notify_one();
        drop(given_up);
        Ok(())
    }

    /// Waits until there is something, and takes all of it, `most` at most.
    pub(super) fn take(&self, most: usize) -> Vec<Job> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            self.came.wait(&mut waiting);
        }
        let all = waiting.jobs.len().min(most);
        let jobs: Vec<_> = waiting.jobs.drain(..all).collect();
        if jobs.iter().any(|job| matches!(job, Job::Tend { .. })) {
            waiting.tends = false;
        }
        jobs
    }

    /// Takes nothing more, and lets go of what waits.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let left = std::mem::take(&mut waiting.jobs);
        drop(waiting);
        drop(left);
    }
}

impl Waiting {
    /// While the disk hangs the same ends are brought again and again, each with its answer: only the last one of each
    /// is still waited for. Those that are not, to be dropped outside of the lock.
    fn tidy(&mut self) -> VecDeque<Job> {
        if self.jobs.len() < self.tidy_at.max(FEW) {
            return VecDeque::new();
        }
        let (given_up, jobs) = std::mem::take(&mut self.jobs).into_iter().partition(Job::is_given_up);
        self.jobs = jobs;
        self.tidy_at = self.jobs.len() * 2;
        given_up
    }
}
