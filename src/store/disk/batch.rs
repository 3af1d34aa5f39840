//! One transaction's worth of steps: decided in order, each on what the ones before it made; written as one; and in
//! memory only after that.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::beside;
use super::file::{Meta, Rows};
use super::image::Image;
use super::mend::Doubt;
use super::queue::{Answered, Job, OnItsWay};
use super::read::Finished;
use super::reserved::RESERVED;
use crate::protocol::record::{Millis, Owner, Phase, Record, RecordId, ResourceId, Set, State, Step, step};
use crate::store::cells::Fit;
use crate::store::minted::{Counter, Number};
use crate::store::unsettled::follow;
use crate::store::{ById, Change, Encoded, Move, Put, Resolution, StoreError, Swap};

/// Finished records that are forgotten at once; few enough that nobody waits for it.
pub(super) const FORGOTTEN: usize = 512;

/// What a record comes to be.
#[derive(Clone)]
struct Staged {
    record: Option<Record>,
    answer: Option<Encoded>,
    /// Only where it is still this execution's in memory: nobody holds the key for this step, and it may have expired
    /// and been claimed anew meanwhile.
    of: Option<Owner>,
}

/// Someone who waits for a step.
struct Asked {
    answer: Answered,
    done: Result<bool, StoreError>,
    /// Kept until the step is so in memory.
    noted: Option<OnItsWay>,
}

/// Steps that become durable together.
#[derive(Default)]
pub(super) struct Batch {
    staged: HashMap<RecordId, Staged, ById>,
    minted: HashMap<ResourceId, Counter, ById>,
    /// The floor that all counters are dropped to.
    dropped: Option<(Number, Vec<(ResourceId, Counter)>)>,
    resolutions: Vec<Resolution>,
    reserved: Vec<(Meta, u64)>,
    forget: Option<(Millis, usize)>,
    tended: Option<Millis>,
    beside: beside::Staged,
    asked: Vec<Asked>,
    /// Who waits for the end.
    pub(super) closing: Option<Answered>,
}

impl Batch {
    /// Decides on all jobs.
    pub(super) fn of(jobs: Vec<Job>, image: &Image) -> Self {
        let mut batch = Self::default();
        for job in jobs {
            match job {
                // Whoever asked is told that it could not be done: so it is not, or a write that goes nowhere were noted
                // as out, and a key were handed to nobody.
                Job::Step { answer, .. } | Job::Move { answer, .. } | Job::Swap { answer, .. }
                    if answer.is_closed() => {}
                Job::Step { change, now, noted, answer } => {
                    let done = batch.step(*change, now, image);
                    batch.asked.push(Asked { answer, done, noted: Some(noted) });
                }
                Job::Move { to, now, answer } => {
                    batch.move_version(to, now, image);
                    batch.asked.push(Asked { answer, done: Ok(true), noted: None });
                }
                Job::Swap { swap, now, answer } => {
                    let done = batch.swap(*swap, now, image);
                    batch.asked.push(Asked { answer, done, noted: None });
                }
                Job::Tend { now } => batch.tend(now, image),
                Job::Close { answer } => batch.closing = Some(answer),
            }
        }
        batch.reserve(image);
        batch
    }

    fn standing(&self, id: RecordId, image: &Image) -> Option<Record> {
        match self.staged.get(&id) {
            Some(staged) => staged.record.clone(),
            None => image.standing(id),
        }
    }

    fn step(&mut self, change: Change, now: Millis, image: &Image) -> Result<bool, StoreError> {
        let id = change.id;
        let goes_out = change.goes_out();
        let standing = self.standing(id, image);
        match step(standing.as_ref(), change.owner, change.before, &change.set) {
            Step::Lost => return Ok(false),
            Step::Already => return Ok(true),
            Step::Apply => {}
        }
        if !change.cells.is_empty() && self.puts(change.cells, now, image)? == Fit::Lost {
            return Ok(false);
        }
        self.beside.tell(change.event, now, &image.beside);
        if let Some(standing) = standing {
            self.apply(id, standing, change.set, change.answer, goes_out, image);
        }
        if let Some(to) = change.version {
            self.move_version(to, now, image);
        }
        self.resolutions.extend(change.resolution);
        Ok(true)
    }

    fn swap(&mut self, swap: Swap, now: Millis, image: &Image) -> Result<bool, StoreError> {
        let fit = self.puts(swap.puts, now, image)?;
        if fit == Fit::Apply {
            self.beside.tell(swap.event, now, &image.beside);
        }
        Ok(fit != Fit::Lost)
    }

    /// Swaps cells where they fit.
    fn puts(&mut self, puts: Vec<Put>, now: Millis, image: &Image) -> Result<Fit, StoreError> {
        let fit = self.beside.fit(&puts, &image.beside);
        if fit == Fit::Apply {
            let room = self.beside.room(&puts);
            if room > 0 && !image.has_room(room) {
                return Err(StoreError::Full);
            }
            self.beside.apply(puts, now);
        }
        Ok(fit)
    }

    fn apply(
        &mut self,
        id: RecordId,
        standing: Record,
        set: Set,
        answer: Option<Encoded>,
        goes_out: bool,
        image: &Image,
    ) {
        if goes_out {
            for other in image.unsettled.others(id, &standing.resource) {
                self.follow(other, image);
            }
        }
        let record = match set {
            Set::State(state) => {
                let state = state.after(&standing.state);
                Some(Record { state, ..standing })
            }
            Set::Replace(record) => {
                let state = record.state.after(&standing.state);
                Some(Record { state, ..record })
            }
            Set::Remove => None,
        };
        self.staged.insert(id, Staged { record, answer, of: None });
    }

    /// K12: another write has gone to the resource of this one.
    fn follow(&mut self, id: RecordId, image: &Image) {
        let Some(mut record) = self.standing(id, image) else { return };
        if follow(&mut record) {
            let of = match self.staged.get(&id) {
                Some(staged) => staged.of,
                None => Some(record.owner),
            };
            // What runs or is unknown has no answer.
            self.staged.insert(id, Staged { record: Some(record), answer: None, of });
        }
    }

    fn move_version(&mut self, to: Move, now: Millis, image: &Image) {
        let standing = self.minted.get(&to.resource).copied().or_else(|| image.counter(to.resource));
        self.minted.insert(to.resource, image.minted.moved(standing, to, now));
    }

    fn tend(&mut self, now: Millis, image: &Image) {
        (self.forget, self.tended) = (Some((now, FORGOTTEN)), Some(now));
        self.beside.outlived = image.beside.outlived(now);
        for (id, owner) in image.expired(now) {
            self.staged.entry(id).or_insert(Staged { record: None, answer: None, of: Some(owner) });
        }
        if image.has_many_counters()
            && let Some(floor) = image.next_number()
        {
            self.dropped = Some((floor, image.minted.kept(now)));
        }
    }

    /// Numbers are in the file before they are given.
    fn reserve(&mut self, image: &Image) {
        let next = image.minted.next();
        let until = image.numbers_until.load(Ordering::Acquire);
        if next.saturating_add(RESERVED / 2) >= until {
            self.reserved.push((Meta::Numbers, next.saturating_add(RESERVED)));
        }
        if let Some(until) = image.fences.due() {
            self.reserved.push((Meta::Fences, until));
        }
    }

    /// Whether there may be more to forget than one transaction does.
    pub(super) fn forgets_more(&self, forgotten: usize) -> Option<Millis> {
        let events = self.beside.outlived.map_or(0, |(first, last)| last - first + 1);
        let most = forgotten == FORGOTTEN || events == FORGOTTEN as u64;
        self.tended.filter(|_| most)
    }

    /// Whether it would forget what has expired by then.
    pub(super) fn forgets(&self) -> Option<Millis> {
        self.forget.map(|(until, _)| until)
    }

    /// There is nothing to forget.
    pub(super) fn forget_nothing(&mut self) {
        self.forget = None;
    }

    /// What has to be written.
    pub(super) fn rows(&self) -> Rows<'_> {
        let mut rows = Rows { forget: self.forget, ..Rows::default() };
        for (id, staged) in &self.staged {
            match &staged.record {
                Some(record) if record.state.phase() == Phase::Done => {
                    rows.open.push((*id, None));
                    rows.done.push((*id, record, staged.answer.as_ref().map_or(&[], Encoded::bytes)));
                }
                Some(record) if record.state.phase() != Phase::Claimed => rows.open.push((*id, Some(record))),
                // A claim stands in no file (invariant 6).
                Some(_) | None => rows.open.push((*id, None)),
            }
        }
        if let Some((floor, kept)) = &self.dropped {
            rows.drops_minted = true;
            rows.meta.push((Meta::Floor, *floor));
            rows.minted.extend(kept.iter().map(|(resource, counter)| (*resource, Some(*counter))));
        }
        rows.minted.extend(self.minted.iter().map(|(resource, counter)| (*resource, Some(*counter))));
        rows.resolutions.extend(&self.resolutions);
        rows.meta.extend(self.reserved.iter().copied());
        rows.cells.extend(self.beside.cells());
        (rows.told, rows.outlived) = (&self.beside.told, self.beside.outlived);
        rows
    }

    /// All of it is durable: so it is, and so everybody is told.
    pub(super) fn apply_to(self, image: &Image, forgotten: &[(RecordId, Millis)]) {
        for (id, Staged { record, answer, of }) in self.staged {
            match record {
                Some(record) if matches!(record.state, State::Done { .. }) => {
                    let answer = answer.map(Encoded::into_bytes).unwrap_or_default();
                    image.finish(id, Finished { record, answer });
                }
                record => image.set(id, record, of),
            }
        }
        if let Some((floor, kept)) = self.dropped {
            image.minted.drop_to(floor, kept);
        }
        for (resource, counter) in self.minted {
            image.minted.put(resource, counter);
        }
        for (meta, until) in self.reserved {
            match meta {
                Meta::Numbers => {
                    image.numbers_until.fetch_max(until, Ordering::AcqRel);
                }
                Meta::Fences => image.fences.reserve(until),
                Meta::Epoch | Meta::Floor => {}
            }
        }
        for (id, expires_at) in forgotten {
            image.forgot(*id, *expires_at);
        }
        // Last: whoever is told of a step finds it done.
        self.beside.apply_to(&image.beside);
        for asked in self.asked {
            let done = asked.done;
            asked.tell(done);
        }
    }

    /// Tells everybody that it could not be done.
    pub(super) fn fail(self) {
        for asked in self.asked {
            asked.tell(Err(StoreError::Unavailable));
        }
    }

    /// What of it may be in the file or not, where writing it failed.
    pub(super) fn doubts(&self) -> impl Iterator<Item = Doubt> + '_ {
        let records = self.staged.iter().map(|(id, staged)| Doubt::Record(*id, staged.finished_until()));
        let minted = self.minted.keys().copied().map(Doubt::Minted);
        let resolutions = self.resolutions.iter().map(|one| Doubt::Resolution(one.id, one.expires_at));
        let cells = self.beside.cells().map(|(id, _)| Doubt::Cell(id));
        let events = (!self.beside.told.is_empty()).then_some(Doubt::Events);
        records.chain(minted).chain(resolutions).chain(cells).chain(events)
    }
}

impl Staged {
    /// Where a finished record stands in the file.
    fn finished_until(&self) -> Option<Millis> {
        match self.record.as_ref()?.state {
            State::Done { expires_at, .. } => Some(expires_at),
            State::Claimed | State::Queued | State::Forwarded { .. } | State::Unknown { .. } => None,
        }
    }
}

impl Asked {
    fn tell(self, result: Result<bool, StoreError>) {
        // Before it is told: whoever asked may take the next step at once.
        drop(self.noted);
        // Who waits no longer need not be told.
        self.answer.send(result).ok();
    }
}
