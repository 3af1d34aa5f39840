//! What waits for the writer: many may ask, one thread takes all that is there.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::protocol::record::Millis;
use crate::store::{Change, Move, StoreError};

/// Steps that may wait at once; requests that are in flight are far fewer.
const MOST: usize = 1 << 16;

/// Where the writer says what became of a step.
pub(super) type Answered = oneshot::Sender<Result<bool, StoreError>>;

/// One thing to write.
pub(super) enum Job {
    Step {
        change: Box<Change>,
        now: Millis,
        /// The record in memory knows of it.
        noted: bool,
        answer: Answered,
    },
    Move {
        to: Move,
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

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
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
            Job::Step { .. } | Job::Move { .. } => {}
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.came.notify_one();
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

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
    }
}
