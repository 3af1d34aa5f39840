//! The one right to run an operation, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use super::Keys;
use super::waiting::Wake;
use crate::http::Reason;
use crate::http::timestamp::now;
use crate::protocol::record::{Mark, Millis, Owner, Phase, Record, RecordId, State};
use crate::store::shared::TurnEnd;
use crate::store::{Before, Bells, Change, Encoded, Event, Move, Put, Set, StoreError};

/// A claim. Dropped before it was forwarded it is released, dropped afterwards its outcome is unknown.
pub struct Claim {
    keys: Arc<Keys>,
    pub id: RecordId,
    owner: Owner,
    phase: Phase,
    /// The record may be forwarded already: the store did not say whether it took that, or it was claimed so.
    doubtful: bool,
    /// It was claimed as forwarded.
    outright: bool,
    /// The record's life from its end (K15), milliseconds.
    ttl: Millis,
    mark: Option<Box<Mark>>,
    /// It has no key of an agent's: nobody asks for its answer, and its record ends with it.
    keyless: bool,
    /// The unknown record that this claim took over (K12), to be put back if nothing comes of it.
    prior: Option<State>,
    /// What is told of the end that it gets when it is dropped (E1).
    last_word: Option<Event>,
    /// It is a job's (J1): what takes its cell away goes with its end. Released it is queued again, not freed.
    job: Option<Box<Put>>,
    /// It is becoming a job, and nobody knows whether the store took that.
    queues: bool,
    /// It is being ended in the background: dropped there, the runtime itself ends.
    is_left: bool,
}

/// Why a step was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotRecorded {
    /// The store did not take it; it may be asked again.
    Store(StoreError),
    /// The record is another's now, and theirs counts.
    Lost,
}

/// What goes into the commit of an end besides.
#[derive(Clone, Default)]
pub struct With {
    pub version: Option<Move>,
    pub turn: Option<TurnEnd>,
    /// Cells that must stand so, and are swapped with it.
    pub cells: Vec<Put>,
    /// What is told of it (E1).
    pub event: Option<Event>,
}

/// How an operation ended.
pub enum Ended {
    /// With an answer, which is kept unless it is `None` (K10).
    Done { status: u16, answer: Option<Encoded> },
    /// Surely without an effect: the key is free again.
    Released,
    /// Without a whole answer.
    Unknown,
}

impl Claim {
    pub(super) fn new(keys: &Arc<Keys>, id: RecordId, owner: Owner, ttl: Millis) -> Self {
        Self {
            keys: Arc::clone(keys),
            id,
            owner,
            phase: Phase::Claimed,
            doubtful: false,
            outright: false,
            ttl,
            mark: None,
            keyless: false,
            prior: None,
            last_word: None,
            job: None,
            queues: false,
            is_left: false,
        }
    }

    pub(super) fn of_job(keys: &Arc<Keys>, id: RecordId, owner: Owner, ttl: Millis, gone: Put) -> Self {
        let mut claim = Self::new(keys, id, owner, ttl);
        claim.job = Some(Box::new(gone));
        claim
    }

    /// Whether its agent was answered before it runs.
    pub fn is_job(&self) -> bool {
        self.job.is_some()
    }

    /// Makes a job of it (J1): from here on it is nobody's until somebody takes it. `gone` takes its cell away again.
    ///
    /// # Errors
    /// 503 where it is surely not stored. 409 `in-flight` where the store does not say: another instance may run it by
    /// now, or tell of it.
    pub async fn queue(mut self, cell: Put, gone: Put) -> Result<(), Reason> {
        (self.job, self.queues) = (Some(Box::new(gone)), true);
        let with = With { cells: vec![cell], ..With::default() };
        let queued = self.step(Before::Claimed, Set::State(State::Queued), None, with, now()).await;
        let result = match queued {
            // Who waits for the key waits for a job now.
            Ok(()) => Ok(()),
            Err(NotRecorded::Store(StoreError::Unavailable)) => match self.undo_queue().await {
                Ok(()) => Err(Reason::StoreUnavailable),
                Err(NotRecorded::Lost) => Err(Reason::InFlight),
                Err(NotRecorded::Store(_)) => return Err(Reason::InFlight),
            },
            Err(error) => return Err(refused(error)),
        };
        self.phase = Phase::Done;
        self.keys.waiting.wake_all(self.id);
        result
    }

    /// Claimed as forwarded, where there is such a mark: dropped before the call it is released all the same.
    pub(super) fn outright(mut self, mark: Option<&Mark>) -> Self {
        self.outright = mark.is_some();
        self.doubtful = self.outright;
        self
    }

    /// Whose record it is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    pub(super) fn taken_over(
        keys: &Arc<Keys>,
        id: RecordId,
        owner: Owner,
        ttl: Millis,
        prior: State,
    ) -> Self {
        let mut claim = Self::new(keys, id, owner, ttl);
        // What was unknown counts as forwarded for everybody else, until it is put back or runs again.
        claim.phase = Phase::Forwarded;
        claim.prior = Some(prior);
        claim
    }

    pub(super) fn keyless(keys: &Arc<Keys>, id: RecordId, owner: Owner, ttl: Millis) -> Self {
        let mut claim = Self::new(keys, id, owner, ttl);
        claim.keyless = true;
        claim
    }

    /// The store said no: the record is another's, and there is nothing to end.
    pub(super) fn not_taken(mut self) {
        self.phase = Phase::Done;
    }

    /// Whether it went out and has no end yet.
    pub fn is_out(&self) -> bool {
        self.phase == Phase::Forwarded && self.prior.is_none()
    }

    /// What is told if it is dropped now (E1).
    pub fn has_last_word(&mut self, event: Event) {
        self.last_word = Some(event);
    }

    /// Whether an agent can ask for its answer again.
    pub fn is_keyed(&self) -> bool {
        !self.keyless
    }

    /// Whether it took over an unknown record that was not forwarded again yet.
    pub fn is_second_try(&self) -> bool {
        self.prior.is_some()
    }

    /// What was marked of the run that it took over.
    pub fn first_mark(&self) -> Option<&Mark> {
        match &self.prior {
            Some(State::Unknown { mark, .. }) => mark.as_deref(),
            Some(State::Claimed | State::Queued | State::Forwarded { .. } | State::Done { .. }) | None => {
                None
            }
        }
    }

    /// What is in the store before the first byte goes out (K11).
    ///
    /// # Errors
    /// 503 where it cannot be stored; nothing may go out then.
    pub async fn forward(&mut self, mark: Mark) -> Result<(), Reason> {
        let mark = Box::new(mark);
        if self.outright {
            (self.doubtful, self.phase, self.mark) = (false, Phase::Forwarded, Some(mark));
            return Ok(());
        }
        let state = State::Forwarded { mark: Some(mark.clone()), status: None };
        let before = self.before();
        // Set as long as nobody knows: this may be dropped while it waits.
        self.doubtful = true;
        self.step(before, Set::State(state), None, With::default(), now()).await.map_err(refused)?;
        self.doubtful = false;
        self.phase = Phase::Forwarded;
        self.mark = Some(mark);
        Ok(())
    }

    /// From here on a failure is this run's own: what was unknown before is no longer put back as it was.
    pub fn run_again(&mut self) {
        self.prior = None;
    }

    /// A streamed answer begins: its status is known, its end is not (K10).
    ///
    /// # Errors
    /// 503 where it cannot be stored.
    pub async fn streams(&mut self, status: u16) -> Result<(), Reason> {
        let state = State::Forwarded { mark: self.mark.clone(), status: Some(status) };
        self.step(self.before(), Set::State(state), None, With::default(), now()).await.map_err(refused)
    }

    fn before(&self) -> Before {
        match self.phase {
            Phase::Claimed if self.doubtful => Before::Running,
            Phase::Claimed => Before::Claimed,
            Phase::Queued => Before::Queued,
            Phase::Forwarded => Before::Forwarded,
            Phase::Done | Phase::Unknown => Before::Unknown,
        }
    }

    async fn step(
        &self,
        before: Before,
        set: Set,
        answer: Option<Encoded>,
        With { version, turn, cells, event }: With,
        at: Millis,
    ) -> Result<(), NotRecorded> {
        let topics = Bells::of(&cells);
        let change =
            Change { answer, version, turn, cells, event, ..Change::new(self.id, self.owner, before, set) };
        match self.keys.store.commit(change, at).await {
            Ok(true) => {
                self.keys.bells.ring_each(&topics);
                Ok(())
            }
            Ok(false) => Err(NotRecorded::Lost),
            Err(error) => Err(NotRecorded::Store(error)),
        }
    }

    /// Records the end, with the version it moves and the turn it ends, in one commit; wakes who waits for it. When it
    /// expires.
    ///
    /// # Errors
    /// Where the store cannot take it; the claim is then still forwarded, and can be ended again (K4). So it can where
    /// cells that go with it did not stand as they must: then this too is `Lost`, and [`Self::stands`] tells which it was.
    pub async fn end(&mut self, ended: Ended, mut with: With) -> Result<Millis, NotRecorded> {
        let at = now();
        match &ended {
            Ended::Released if self.job.is_some() => return self.queue_again(with, at).await.map(|()| at),
            Ended::Done { .. } | Ended::Unknown => with.cells.extend(self.job.as_deref().cloned()),
            Ended::Released => {}
        }
        let expires_at = at.saturating_add(self.ttl);
        let (state, answer, phase) = match ended {
            Ended::Done { .. } if self.keyless => {
                self.step(self.before(), Set::Remove, None, with, at).await?;
                self.phase = Phase::Done;
                return Ok(expires_at);
            }
            Ended::Done { status, answer } => {
                let kept = answer.is_some();
                (State::Done { status, kept, completed_at: at, expires_at }, answer, Phase::Done)
            }
            Ended::Unknown => {
                (State::Unknown { mark: self.mark.clone(), since: at, expires_at }, None, Phase::Unknown)
            }
            Ended::Released => {
                self.hand_on(with).await.map_err(NotRecorded::Store)?;
                self.phase = Phase::Done;
                return Ok(expires_at);
            }
        };
        let has_cells = !with.cells.is_empty();
        let recorded = self.step(self.before(), Set::State(state), answer, with, at).await;
        if has_cells || matches!(recorded, Err(NotRecorded::Store(_))) {
            recorded?;
        }
        self.phase = phase;
        self.keys.waiting.wake_all(self.id);
        recorded.map(|()| expires_at)
    }

    /// Whether the record is still this claim's.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn stands(&self) -> Result<bool, StoreError> {
        let record = self.keys.store.read(self.id, now()).await?;
        Ok(record.is_some_and(|record| record.owner == self.owner))
    }

    /// Nothing went out: the job waits for its next try.
    async fn queue_again(&mut self, with: With, at: Millis) -> Result<(), NotRecorded> {
        self.step(self.before(), Set::State(State::Queued), None, with, at).await?;
        self.phase = Phase::Done;
        Ok(())
    }

    /// It was to become a job, and nobody knows whether it did. Unless it did it is none from here on; where it did
    /// (`Lost`) it stays one, for others may have told so, or run it.
    async fn undo_queue(&self) -> Result<(), NotRecorded> {
        self.step(Before::Claimed, Set::Remove, None, With::default(), now()).await?;
        self.keys.waiting.wake_all(self.id);
        Ok(())
    }

    /// Gives the key to the one that has waited longest for it, or frees it (K6). No version moves with that.
    async fn hand_on(&self, With { version: _, turn, cells, event }: With) -> Result<(), StoreError> {
        let id = self.id;
        let topics = Bells::of(&cells);
        let change = |set| Change { turn, cells, event, ..Change::new(id, self.owner, self.before(), set) };
        if let Some((waiting, wake)) = self.keys.waiting.next(id) {
            let owner = self.keys.next_owner();
            let record = Record { owner, started_at: now(), ..waiting };
            // Whoever drops it ends it: here where the store's reply is lost, there where nobody waits any more.
            let next = Self::new(&self.keys, id, owner, self.ttl);
            if self.keys.store.commit(change(Set::Replace(record)), now()).await? {
                self.keys.bells.ring_each(&topics);
                drop(wake.send(Wake::Granted(Box::new(next))));
            } else {
                next.not_taken();
            }
            return Ok(());
        }
        if self.keys.store.commit(change(Set::Remove), now()).await? {
            self.keys.bells.ring_each(&topics);
        }
        // Who came between the last look and the removal looks for itself.
        self.keys.waiting.wake_all(id);
        Ok(())
    }

    /// Nothing went out: frees the key, or puts the unknown record back that was taken over (K8, K12). What the store
    /// does not take now is tried again in the background. Whether the store took all that goes `with` it: nothing does
    /// with what is put back.
    pub async fn give_up(mut self, with: With) -> bool {
        let is_released = self.prior.is_none();
        let ended = match self.prior.take() {
            Some(prior) => match self.put_back(prior.clone()).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.prior = Some(prior);
                    Err(error)
                }
            },
            None => {
                self.last_word.clone_from(&with.event);
                self.end(Ended::Released, with).await.map(drop)
            }
        };
        if ended.is_err() {
            tracing::warn!("a key could not be freed yet");
        }
        ended.is_ok() && is_released
    }

    async fn put_back(&mut self, prior: State) -> Result<(), NotRecorded> {
        self.step(self.before(), Set::State(prior), None, With::default(), now()).await?;
        self.phase = Phase::Unknown;
        self.keys.waiting.wake_all(self.id);
        Ok(())
    }

    /// Ends a claim that its holder let go without a word.
    async fn abandon(mut self) {
        let mut pause = Duration::from_millis(50);
        loop {
            let with = With { event: self.last_word.clone(), ..With::default() };
            let ended = match self.prior.clone() {
                Some(prior) => self.put_back(prior).await,
                None if self.queues => self.undo_queue().await,
                None if self.phase == Phase::Claimed => self.end(Ended::Released, with).await.map(drop),
                None => self.end(Ended::Unknown, with).await.map(drop),
            };
            match ended {
                Ok(()) | Err(NotRecorded::Lost) => break,
                Err(NotRecorded::Store(_)) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        self.phase = Phase::Done;
    }
}

fn refused(error: NotRecorded) -> Reason {
    match error {
        NotRecorded::Store(StoreError::Full) => Reason::StoreFull,
        NotRecorded::Store(StoreError::Unavailable | StoreError::Unreached) | NotRecorded::Lost => {
            Reason::StoreUnavailable
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A runtime that ends drops what is given to it at once: to spawn anew from there would never end.
        if self.is_left || matches!(self.phase, Phase::Done | Phase::Unknown) {
            return;
        }
        let (keys, mark, prior) = (Arc::clone(&self.keys), self.mark.take(), self.prior.take());
        let (last_word, job) = (self.last_word.take(), self.job.take());
        let left = Self { keys, mark, prior, last_word, job, is_left: true, ..*self };
        self.phase = Phase::Done;
        let keys = Arc::clone(&left.keys);
        // Outside of a runtime nobody is left who could be told.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            keys.tasks.spawn_on(left.abandon(), &runtime);
        }
    }
}
