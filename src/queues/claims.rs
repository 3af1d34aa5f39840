//! The claims of a queue: one cell per task, and what an agent's word makes of it.

use std::sync::Arc;
use std::time::Duration;

use super::desk::Offered;
use super::source::{Content, Dead, Identity, SourceError, Told};
use super::{Base, Queue};
use crate::http::timestamp::now;
use crate::protocol::record::{Millis, Owner, Principal, millis};
use crate::protocol::task::{
    self, Claim, Ended, Held, How, Offered as May, Standing, Tag, Task, Word, acknowledge, extend, release,
};
use crate::store::cells::{Kind, Name, Topic};
use crate::store::{Cell, CellId, Put, StoreError, Swap};

/// When a source that did not take it is told again.
pub(super) const RETELL: Duration = Duration::from_secs(5);
/// The same where another instance has to tell it.
pub(super) const ELSEWHERE: Duration = Duration::from_secs(60);
/// How long the attempts of a task are remembered that nobody takes.
const WAITING: Duration = Duration::from_secs(24 * 3600);
/// How long a task that was given up is kept for operators, where it has no other place.
const BURIED: Duration = Duration::from_secs(7 * 24 * 3600);
/// What is due is looked after by the keeper first.
const SOON: Duration = Duration::from_millis(500);
/// How often a step is tried that another came before.
const TRIES: usize = 8;

/// What stands of a task.
pub(super) struct Seen {
    pub(super) id: CellId,
    pub(super) cell: Option<Cell>,
    /// `None`: nothing stands, or what another program wrote.
    pub(super) task: Option<Task>,
    /// Its time is over.
    pub(super) due: bool,
}

impl Seen {
    pub(super) fn of(name: Name, cell: Option<Cell>) -> Self {
        let task = cell.as_ref().and_then(|cell| Task::decode(&cell.value));
        let due = cell.as_ref().and_then(|cell| cell.left).is_some_and(|left| left.is_zero());
        Self { id: CellId { kind: Kind::Task, name }, cell, task, due }
    }

    pub(super) fn standing(&self) -> Option<&Standing> {
        self.task.as_ref().map(|task| &task.standing)
    }

    /// Something stands that this program cannot read: hands off.
    pub(super) fn is_foreign(&self) -> bool {
        self.cell.is_some() && self.task.is_none()
    }

    /// A swap of this for that.
    pub(super) fn put(&self, task: &Task, left: Option<Duration>, tell: Option<Topic>) -> Put {
        let to = Cell { stamp: Owner(fastrand::u64(..)), left, value: task.encode() };
        Put { id: self.id, was: self.stamp(), to: Some(to), tell }
    }

    pub(super) fn gone(&self) -> Put {
        Put { id: self.id, was: self.stamp(), to: None, tell: None }
    }

    fn stamp(&self) -> Option<Owner> {
        self.cell.as_ref().map(|cell| cell.stamp)
    }
}

/// A claim that stands once its cells are committed.
pub struct Draft {
    pub cells: Vec<Put>,
    /// What the agent gets: one JSON object.
    pub answer: String,
}

/// What an offered task came to.
pub enum Prepared {
    Claim(Draft),
    /// It is not to be had: ask for the next.
    Next,
}

/// What an agent's word on its claim came to, before anything is committed.
pub enum Settled {
    /// These cells are to be committed.
    Stands(Box<Settling>),
    /// It was said before.
    Already,
    Lost,
    /// No claim of this principal's, ever.
    Never,
}

/// A word on a claim.
pub struct Settling {
    pub cells: Vec<Put>,
    identity: Identity,
    standing: Standing,
    /// Where it is extended.
    pub expires_at: Option<Millis>,
    pub fence: u64,
    pub attempt: u32,
    /// What the claim had left.
    left: Duration,
}

/// What an agent says of its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acked {
    Done,
    Released,
    Extended(Duration),
}

impl Base {
    pub(super) async fn look(&self, name: Name) -> Result<Seen, StoreError> {
        let id = CellId { kind: Kind::Task, name };
        Ok(Seen::of(name, self.store.cell(id, now()).await?))
    }

    /// Swaps without a record, and tells who waits.
    pub(super) async fn swap(&self, puts: Vec<Put>) -> Result<bool, StoreError> {
        self.bells.swap(&*self.store, Swap { puts, ..Swap::default() }, now()).await
    }
}

impl Queue {
    pub(super) async fn seen(&self, identity: &str) -> Result<Seen, StoreError> {
        self.base.look(Claim::cell(&self.settings.name, identity)).await
    }

    pub(super) fn task(&self, identity: &str, standing: Standing) -> Task {
        Task { queue: (*self.settings.name).into(), identity: identity.into(), standing }
    }

    /// How long what stands so is left alone.
    pub(super) fn left(&self, standing: &Standing) -> Duration {
        match standing {
            Standing::Held(_) => self.settings.visibility,
            Standing::Waiting { .. } => self.settings.done_for.max(WAITING),
            Standing::Ended(Ended { told: true, .. }) => self.settings.done_for,
            Standing::Ended(Ended { told: false, .. }) => RETELL,
        }
    }

    /// The cells of a task that stands otherwise from now on; one that is given up is buried with them.
    pub(super) fn puts(&self, seen: &Seen, identity: &str, mut standing: Standing) -> Vec<Put> {
        let mut puts = Vec::new();
        if let Standing::Ended(Ended { how: How::Dead { attempts, content }, .. }) = &mut standing
            && !self.source.buries()
        {
            let content = content.take().unwrap_or_else(|| Content::Json("null".into()));
            puts.push(self.bury(identity, *attempts, content));
        }
        let free = matches!(standing, Standing::Waiting { .. }).then_some(self.free);
        let left = self.left(&standing);
        puts.push(seen.put(&self.task(identity, standing), Some(left), free));
        puts
    }

    fn bury(&self, identity: &str, attempts: u32, content: Content) -> Put {
        let how = How::Dead { attempts, content: Some(content) };
        let task = self.task(identity, Standing::Ended(Ended { how, told: true, absent: false }));
        let name = fastrand::u128(..).to_be_bytes();
        let to = Cell { stamp: Owner(fastrand::u64(..)), left: Some(BURIED), value: task.encode() };
        Put { id: CellId { kind: Kind::Dead, name }, was: None, to: Some(to), tell: None }
    }

    /// What a claim on an offered task would be.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn prepare(
        self: &Arc<Self>,
        offered: &mut Option<Box<Offered>>,
        principal: &Principal,
    ) -> Result<Prepared, StoreError> {
        let offer = offered.as_ref().and_then(|offered| offered.offer.as_ref());
        let Some((identity, content, asked)) =
            offer.map(|offer| (Identity::clone(&offer.identity), offer.content.clone(), offer.asked))
        else {
            return Ok(Prepared::Next);
        };
        // What was taken so long ago says nothing of a task that was done since, and is forgotten by now.
        if asked.elapsed() > self.settings.done_for {
            return Ok(Prepared::Next);
        }
        let seen = self.seen(&identity).await?;
        let max = self.settings.max_attempts;
        let left = seen.cell.as_ref().and_then(|cell| cell.left);
        if seen.is_foreign() {
            self.keep(offered, |known| known.held(identity, RETELL));
            return Ok(Prepared::Next);
        }
        let may = task::offered(seen.standing(), seen.due, max);
        if matches!(may, May::Held | May::Ended) && self.source.is_another(&identity, &content) {
            self.keep(offered, |_| {});
            return Ok(Prepared::Next);
        }
        match may {
            May::Claim { attempt, released } => {
                let fence = self.base.store.next_fence().await?;
                let draft = self.draft(&seen, &identity, content, principal, (fence, attempt, released));
                Ok(Prepared::Claim(draft))
            }
            May::Held => {
                self.keep(offered, |known| known.held(identity, left.unwrap_or(RETELL)));
                Ok(Prepared::Next)
            }
            May::Dead { attempts } => {
                let standing = task::dead(attempts, Some(content));
                if self.base.swap(self.puts(&seen, &identity, standing)).await? {
                    self.keep(offered, |known| known.ended(Identity::clone(&identity), RETELL));
                    self.tell_later(identity);
                }
                Ok(Prepared::Next)
            }
            May::Ended => {
                self.keep(offered, |known| {
                    known.ended(Identity::clone(&identity), left.unwrap_or(RETELL).max(SOON))
                });
                if self.source.is_told() {
                    // It missed that, or gave it to somebody else since.
                    self.tell_later(identity);
                }
                Ok(Prepared::Next)
            }
        }
    }

    fn keep(&self, offered: &mut Option<Box<Offered>>, note: impl FnOnce(&super::busy::Known)) {
        // First, so that it is not offered in between.
        note(&self.known);
        if let Some(offered) = offered.take() {
            offered.keep();
        }
    }

    fn draft(
        &self,
        seen: &Seen,
        identity: &str,
        content: Content,
        principal: &Principal,
        (fence, attempt, released): (u64, u32, Option<Tag>),
    ) -> Draft {
        let claim = Claim { task: seen.id.name, nonce: fastrand::u128(..).to_be_bytes() };
        let expires_at = now().saturating_add(millis(self.settings.visibility));
        let answer = format!(
            "{{\"task\":{},\"claim\":\"{}\",\"fence\":{fence},\"attempt\":{attempt},\"expires_at\":{}}}",
            content.to_json(),
            claim.text(&self.settings.name, principal),
            shown_time(expires_at),
        );
        let last = attempt >= self.settings.max_attempts;
        let held = Held {
            claim: claim.tag(),
            principal: principal.0,
            fence,
            attempt,
            content: last.then_some(content),
            released,
        };
        Draft { cells: self.puts(seen, identity, Standing::Held(held)), answer }
    }

    /// The claim stands: it is committed.
    pub fn claimed(&self, offered: Offered) {
        self.known.held(Identity::clone(&offered.identity), self.settings.visibility);
        offered.keep();
    }

    /// What an agent's word on its claim comes to.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn word(&self, claim: &str, principal: &Principal, word: Acked) -> Result<Settled, StoreError> {
        let Some(claim) = Claim::parse(claim, &self.settings.name, principal) else {
            return Ok(Settled::Never);
        };
        let seen = self.base.look(claim.task).await?;
        let (standing, tag) = (seen.standing(), claim.tag());
        let said = match word {
            Acked::Done => acknowledge(standing, seen.due, tag),
            Acked::Released => release(standing, seen.due, tag, self.settings.max_attempts),
            Acked::Extended(_) => extend(standing, seen.due, tag),
        };
        match said {
            Word::Already => Ok(Settled::Already),
            Word::Lost => Ok(Settled::Lost),
            Word::Stands(standing) => Ok(self
                .settling(&seen, standing, word)
                .map_or(Settled::Lost, |settling| Settled::Stands(Box::new(settling)))),
        }
    }

    fn settling(&self, seen: &Seen, standing: Standing, word: Acked) -> Option<Settling> {
        let task = seen.task.as_ref()?;
        let (fence, attempt) = match &task.standing {
            Standing::Held(held) => (held.fence, held.attempt),
            Standing::Waiting { .. } | Standing::Ended(_) => (0, 0),
        };
        let (cells, expires_at) = match word {
            Acked::Extended(by) => {
                let put = seen.put(&task.now(standing.clone()), Some(by), None);
                (vec![put], Some(now().saturating_add(millis(by))))
            }
            Acked::Done | Acked::Released => (self.puts(seen, &task.identity, standing.clone()), None),
        };
        let left = seen.cell.as_ref().and_then(|cell| cell.left).unwrap_or_default();
        let identity = Identity::from(task.identity.as_ref());
        Some(Settling { cells, identity, standing, expires_at, fence, attempt, left })
    }

    /// Commits a word without a record; `None`: another step came before it, and it is to be looked at again.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn settle(
        &self,
        claim: &str,
        principal: &Principal,
        word: Acked,
    ) -> Result<Settled, StoreError> {
        for _ in 0..TRIES {
            match self.word(claim, principal, word).await? {
                Settled::Stands(settling) => {
                    if self.base.swap(settling.cells.clone()).await? {
                        return Ok(Settled::Stands(settling));
                    }
                }
                said @ (Settled::Already | Settled::Lost | Settled::Never) => return Ok(said),
            }
        }
        Err(StoreError::Unavailable)
    }

    /// A word is committed: the source is told, and who waits. What it does not take now it is told later.
    pub async fn settled(self: &Arc<Self>, settling: &Settling) {
        let identity = Identity::clone(&settling.identity);
        match &settling.standing {
            Standing::Held(_) => self.known.held(identity, settling.left.max(self.settings.visibility)),
            Standing::Waiting { .. } => {
                self.known.forget(&identity);
                self.source.back(&identity).await;
                self.base.bells.ring(self.free);
            }
            Standing::Ended(_) => {
                self.known.ended(Identity::clone(&identity), self.settings.done_for);
                self.tell(&identity).await;
            }
        }
    }

    /// Tells the source in a task of its own.
    pub(super) fn tell_later(self: &Arc<Self>, identity: Identity) {
        let queue = Arc::clone(self);
        self.base.tasks.spawn(async move { queue.tell(&identity).await });
    }

    /// Tells the source of a task that is over.
    pub(super) async fn tell(&self, identity: &str) {
        if let Err(error) = self.try_tell(identity).await {
            tracing::warn!(queue = %self.settings.name, ?error, "a task's end is not recorded as told yet");
        }
    }

    async fn try_tell(&self, identity: &str) -> Result<(), StoreError> {
        let seen = self.seen(identity).await?;
        let Some(Standing::Ended(ended)) = seen.standing() else { return Ok(()) };
        let told = match &ended.how {
            How::Done { .. } => self.source.done(identity).await,
            How::Dead { attempts, content } => {
                let content = content.clone().unwrap_or_else(|| Content::Json("null".into()));
                let dead = Dead { identity: identity.into(), content, attempts: *attempts };
                self.source.dead(&dead).await
            }
        };
        self.reached(told.as_ref().err());
        if told == Ok(Told::Yes) && self.source.is_told() {
            // It does not offer it again, and what it offered before is looked up.
            self.known.forget(identity);
        }
        match told {
            Ok(Told::Yes) if ended.told => Ok(()),
            Ok(Told::Yes) => {
                let standing = Standing::Ended(Ended { told: true, ..without_content(ended) });
                let left = self.left(&standing);
                // Where another step came between, that one looks after it.
                self.base
                    .swap(vec![seen.put(&self.task(identity, standing), Some(left), None)])
                    .await
                    .map(drop)
            }
            Ok(Told::Elsewhere) => {
                let standing = Standing::Ended(Ended { told: false, ..ended.clone() });
                let put = seen.put(&self.task(identity, standing), Some(ELSEWHERE), None);
                self.base.swap(vec![put]).await.map(drop)
            }
            Err(SourceError::NotDone(_) | SourceError::Unsure(_)) => Ok(()),
        }
    }

    /// Tasks that were given up and have no other place: what they are about, and how often they were handed out.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn dead(&self, most: usize) -> Result<Vec<(String, u32)>, StoreError> {
        let cells = self.base.store.cells(Kind::Dead, most, now()).await?;
        let tasks = cells.into_iter().filter_map(|(_, cell)| Task::decode(&cell.value));
        let own = tasks.filter(|task| *task.queue == *self.settings.name);
        let shown = own.filter_map(|task| match task.standing {
            Standing::Ended(Ended { how: How::Dead { attempts, content: Some(content) }, .. }) => {
                Some((content.to_json(), attempts))
            }
            Standing::Ended(_) | Standing::Held(_) | Standing::Waiting { .. } => None,
        });
        Ok(shown.collect())
    }
}

impl Settling {
    /// What the claim had left when it was looked at.
    pub fn left(&self) -> Duration {
        self.left
    }
}

/// What was given up is in its place now.
fn without_content(ended: &Ended) -> Ended {
    let how = match &ended.how {
        How::Dead { attempts, .. } => How::Dead { attempts: *attempts, content: None },
        How::Done { claim } => How::Done { claim: *claim },
    };
    Ended { how, ..ended.clone() }
}

/// A time in JSON, as RFC 3339 has it.
fn shown_time(at: Millis) -> String {
    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(at);
    format!("\"{}\"", crate::http::timestamp::rfc3339(at))
}
