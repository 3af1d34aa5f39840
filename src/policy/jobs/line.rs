//! Which job runs next: those of one resource in the order in which they were accepted, those of others beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::protocol::record::{RecordId, ResourceId};

/// How long a job pauses that could not be sent: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How often it is looked whether one that runs elsewhere has come back. Its end comes by word.
const ELSEWHERE: Duration = Duration::from_millis(500);

/// One job, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub id: RecordId,
    pub resource: ResourceId,
    /// Grows with every job that was accepted.
    pub order: u64,
}

/// What a try came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    Ended,
    /// It could not be sent.
    Again,
    /// Somebody else runs it, and those behind it wait.
    Elsewhere,
}

/// All jobs.
#[derive(Debug, Default)]
pub(super) struct Line {
    rows: HashMap<ResourceId, Row>,
    ready: VecDeque<ResourceId>,
    pausing: BTreeSet<(Instant, [u8; 16])>,
    known: HashSet<RecordId>,
    running: usize,
    /// Jobs that are on their way into the store.
    reserved: usize,
}

/// The jobs of one resource.
#[derive(Debug)]
struct Row {
    jobs: BTreeMap<u64, RecordId>,
    at: At,
    /// How long it paused last.
    paused: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Ready,
    Running,
    Pausing(Instant),
}

impl Line {
    /// How many wait, and do not run.
    pub(super) fn waiting(&self) -> usize {
        (self.known.len() + self.reserved).saturating_sub(self.running)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn reserve(&mut self) {
        self.reserved += 1;
    }

    pub(super) fn unreserve(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    pub(super) fn add(&mut self, job: Job) {
        if !self.known.insert(job.id) {
            return;
        }
        let row = self.rows.entry(job.resource).or_insert_with(|| {
            self.ready.push_back(job.resource);
            Row { jobs: BTreeMap::new(), at: At::Ready, paused: Duration::ZERO }
        });
        row.jobs.insert(job.order, job.id);
    }

    /// There are these and no others; what runs here is looked after by whoever runs it.
    pub(super) fn become_these(&mut self, jobs: impl Iterator<Item = Job>) {
        let jobs: Vec<_> = jobs.collect();
        let are: HashSet<_> = jobs.iter().map(|job| job.id).collect();
        let (known, pausing, ready) = (&mut self.known, &mut self.pausing, &mut self.ready);
        for (resource, row) in self.rows.iter_mut().filter(|(_, row)| row.at != At::Running) {
            let first = row.jobs.first_key_value().map(|(order, _)| *order);
            row.jobs.retain(|_, id| are.contains(id) || !known.remove(id));
            let is_same = row.jobs.first_key_value().map(|(order, _)| *order) == first;
            let At::Pausing(until) = row.at else { continue };
            if !is_same {
                // What it paused for has ended elsewhere.
                pausing.remove(&(until, resource.0));
                (row.at, row.paused) = (At::Ready, Duration::ZERO);
                ready.push_back(*resource);
            }
        }
        jobs.into_iter().for_each(|job| self.add(job));
    }

    /// The first of the next resource where none runs and none pauses.
    pub(super) fn next(&mut self, now: Instant) -> Option<Job> {
        while let Some((until, resource)) = self.pausing.first().copied().filter(|(until, _)| *until <= now) {
            self.pausing.remove(&(until, resource));
            let resource = ResourceId(resource);
            if let Some(row) = self.rows.get_mut(&resource) {
                row.at = At::Ready;
                self.ready.push_back(resource);
            }
        }
        while let Some(resource) = self.ready.pop_front() {
            let Some(row) = self.rows.get_mut(&resource) else { continue };
            let Some((order, id)) = row.jobs.first_key_value() else {
                self.rows.remove(&resource);
                continue;
            };
            let job = Job { id: *id, resource, order: *order };
            row.at = At::Running;
            self.running += 1;
            return Some(job);
        }
        None
    }

    /// How long until a pause ends.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        self.pausing.first().map(|(until, _)| until.saturating_duration_since(now))
    }

    /// A job that ran has ended, or has to be tried again.
    pub(super) fn ran(&mut self, job: Job, ran: Ran, now: Instant) {
        self.running = self.running.saturating_sub(1);
        let Some(row) = self.rows.get_mut(&job.resource) else { return };
        let pause = match ran {
            Ran::Ended => {
                row.jobs.remove(&job.order);
                self.known.remove(&job.id);
                (row.at, row.paused) = (At::Ready, Duration::ZERO);
                self.ready.push_back(job.resource);
                return;
            }
            Ran::Again => {
                row.paused = (row.paused * 2).clamp(PAUSE.0, PAUSE.1);
                row.paused
            }
            Ran::Elsewhere => ELSEWHERE,
        };
        row.at = At::Pausing(now + pause);
        self.pausing.insert((now + pause, job.resource.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(resource: u8, order: u64) -> Job {
        let id = RecordId((u128::from(resource) << 64 | u128::from(order)).to_be_bytes());
        Job { id, resource: ResourceId([resource; 16]), order }
    }

    // J1, Q1: in order per resource, others beside it, and the first keeps its place when it is tried again.
    #[test]
    fn jobs_of_one_resource_run_in_order() {
        let (mut line, now) = (Line::default(), Instant::now());
        for one in [job(1, 2), job(2, 3), job(1, 1), job(1, 4), job(1, 1)] {
            line.add(one);
        }
        assert_eq!(line.waiting(), 4);
        assert_eq!(
            [line.next(now), line.next(now), line.next(now)],
            [Some(job(1, 1)), Some(job(2, 3)), None]
        );
        assert_eq!(line.waiting(), 2);
        line.ran(job(1, 1), Ran::Again, now);
        line.ran(job(2, 3), Ran::Ended, now);
        assert_eq!((line.next(now), line.pause(now)), (None, Some(PAUSE.0)));
        assert_eq!(line.next(now + PAUSE.0), Some(job(1, 1)));
        line.ran(job(1, 1), Ran::Again, now);
        assert_eq!(line.pause(now), Some(PAUSE.0 * 2), "it grows");
        let late = now + PAUSE.0 * 2;
        for one in [job(1, 1), job(1, 2), job(1, 4)] {
            assert_eq!(line.next(late), Some(one));
            assert_eq!(line.next(late), None);
            line.ran(one, Ran::Ended, late);
        }
        assert_eq!((line.next(late), line.waiting(), line.is_empty()), (None, 0, true));
        assert!(line.rows.is_empty(), "a resource without jobs is forgotten");
    }

    // J1: what another instance put is found, what it ended is not waited for, and what runs here runs on.
    #[test]
    fn what_others_did_is_taken_over() {
        let (mut line, now) = (Line::default(), Instant::now());
        for one in [job(1, 1), job(2, 2), job(2, 5)] {
            line.add(one);
        }
        assert_eq!(line.next(now), Some(job(1, 1)));
        line.become_these([job(2, 5), job(2, 4), job(3, 6)].into_iter());
        assert_eq!((line.next(now), line.next(now)), (Some(job(2, 4)), Some(job(3, 6))));
        line.ran(job(1, 1), Ran::Ended, now);
        line.ran(job(2, 4), Ran::Ended, now);
        assert_eq!((line.next(now), line.next(now)), (Some(job(2, 5)), None));
        // Behind one that runs elsewhere the next waits until that has ended, and no longer.
        line.ran(job(2, 5), Ran::Elsewhere, now);
        line.become_these([job(2, 5), job(2, 7)].into_iter());
        assert_eq!((line.next(now), line.pause(now)), (None, Some(ELSEWHERE)));
        line.become_these([job(2, 7)].into_iter());
        assert_eq!((line.next(now), line.pause(now)), (Some(job(2, 7)), None));
    }
}
