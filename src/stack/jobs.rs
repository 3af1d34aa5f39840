//! Runs the writes that were answered before (J1), through the very same stages as every other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::recovery::Terms;
use super::write::Write;
use super::{Gate, Journey, Rules};
use crate::http::request::{Gone, Peer};
use crate::http::timestamp::now;
use crate::http::{Body, Reason, Refusal, Request, Response, fields};
use crate::policy::idempotency::With;
use crate::policy::jobs::{self, Asked, Ran, Running, TOPIC};
use crate::protocol::path::NormalPath;
use crate::protocol::record::{Millis, RecordId, State};
use crate::route::Entry;
use crate::store::cells::Kind;
use crate::store::{Answer, Cell, Put, Shared, StoreError, Swap};

/// So many run at once; those of one resource never do.
const AT_ONCE: usize = 64;
/// There are never so many: each of them takes memory of the store.
const MOST: usize = 1 << 20;
/// How often other instances' jobs are looked for, beside their word.
const LOOK: Duration = Duration::from_secs(1);
/// Without other instances and without a pause nothing changes but by word.
const IDLE: Duration = Duration::from_secs(60);

/// When it is looked for others' jobs: by their word and each [`LOOK`], for at most a tenth of the time. It may tell of
/// thousands, and each job that begins or ends is a word.
struct Look {
    is_wanted: bool,
    began: Instant,
    not_before: Instant,
}

impl Look {
    fn new() -> Self {
        let now = Instant::now();
        Self { is_wanted: true, began: now, not_before: now }
    }

    /// Whether it is time; then it begins now.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.not_before && (self.is_wanted || now >= self.began + LOOK);
        if is_due {
            (self.is_wanted, self.began) = (false, now);
        }
        is_due
    }

    fn looked(&mut self) {
        let now = Instant::now();
        self.not_before = now + (now - self.began).saturating_mul(9).min(LOOK);
    }

    /// How long until the one that is wanted.
    fn pause(&self) -> Option<Duration> {
        self.is_wanted.then(|| self.not_before.saturating_duration_since(Instant::now()))
    }
}

impl Gate {
    /// Finds the jobs that the last process left, or others have on the same store.
    ///
    /// # Errors
    /// A sentence for the operator: the store cannot be asked, or they were sealed with another secret.
    pub async fn find_jobs(&self) -> Result<(), String> {
        if !self.store.outlives_process() {
            return Ok(());
        }
        let (found, foreign) = match self.sealed_by_others().await {
            Ok(found) => found,
            // A store that others are on too may go away during a start, and comes back; jobs are looked for again.
            Err(_) if self.store.shared().is_some() => return Ok(()),
            Err(_) => return Err("store.url: the store cannot be read".to_owned()),
        };
        if foreign > 0 {
            return Err(format!(
                "store.secret: {foreign} of {} accepted writes that wait in the store were sealed with another secret, \
                 and cannot be run. Start with the secret that they were accepted under",
                found.len()
            ));
        }
        self.jobs.found(&found);
        Ok(())
    }

    /// The heads of all, and how many of them another secret sealed.
    async fn sealed_by_others(&self) -> Result<(Vec<(RecordId, Cell)>, usize), StoreError> {
        let found = self.all_jobs().await?;
        let mut foreign = 0;
        // One by one: each may be as long as a request.
        for (id, _) in &found {
            let cell = self.store.cell(jobs::cell(*id), now()).await?;
            foreign += usize::from(cell.is_some_and(|cell| self.jobs.opened(*id, &cell.value).is_none()));
        }
        Ok((found, foreign))
    }

    /// The heads of all.
    async fn all_jobs(&self) -> Result<Vec<(RecordId, Cell)>, StoreError> {
        let cells = self.store.cells(Kind::Job, MOST, now()).await?;
        Ok(cells.into_iter().map(|(name, cell)| (RecordId(name), cell)).collect())
    }

    /// Runs what waits, until a shutdown begins.
    pub async fn run_jobs(self: Arc<Self>) {
        if !self.store.outlives_process() {
            return;
        }
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let bell = self.bells.listen(TOPIC);
        let mut look = Look::new();
        while !self.draining.load(Ordering::Acquire) {
            let mut heard = std::pin::pin!(bell.heard());
            // From here on nothing is missed.
            heard.as_mut().enable();
            if look.is_due() {
                self.look_for_others().await;
                look.looked();
            }
            while let Ok(permit) = Arc::clone(&room).try_acquire_owned()
                && let Some(running) = self.jobs.next(Instant::now())
            {
                let work = Arc::clone(&self).run_one(running, permit);
                self.tasks.spawn(work);
            }
            let most = if self.store.shared().is_some() { LOOK } else { IDLE };
            let pauses = [Some(most), self.jobs.pause(Instant::now()), look.pause()];
            let pause = pauses.into_iter().flatten().min().unwrap_or(most);
            tokio::select! {
                () = heard => look.is_wanted = true,
                () = tokio::time::sleep(pause) => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    /// On a store that is shared others put jobs and end them.
    async fn look_for_others(&self) {
        let takes = self.rules.load().config.routes.iter().any(|route| route.takes_jobs);
        if self.store.shared().is_none() || (!takes && self.jobs.is_empty()) {
            return;
        }
        match self.all_jobs().await {
            Ok(found) => self.jobs.found(&found),
            Err(error) => tracing::debug!(?error, "other instances' jobs are not seen yet"),
        }
    }

    async fn run_one(self: Arc<Self>, running: Running, permit: OwnedSemaphorePermit) {
        let ran = self.try_job(running.job.id).await;
        running.came_to(ran);
        drop(permit);
        self.bells.ring(TOPIC);
    }

    async fn try_job(self: &Arc<Self>, id: RecordId) -> Ran {
        let (Ok(cell), Ok(record)) =
            (self.store.cell(jobs::cell(id), now()).await, self.store.read(id, now()).await)
        else {
            return Ran::Again;
        };
        let Some(cell) = cell else { return Ran::Ended };
        let gone = jobs::gone(id, cell.stamp);
        match record.as_ref().map(|record| &record.state) {
            Some(State::Queued) => {}
            // It runs, here or elsewhere, and its cell goes with its end.
            Some(State::Claimed | State::Forwarded { .. }) => return Ran::Elsewhere,
            // It ended, and left this behind.
            Some(State::Done { .. } | State::Unknown { .. }) | None => return self.forget(gone).await,
        }
        let Some(standing) = record else { return Ran::Again };
        let asked = self.jobs.opened(id, &cell.value);
        let rules = self.rules.load_full();
        let ttl = Terms::of(&rules, &standing).ttl;
        // Before it is taken: the others settle what an earlier life left (S3).
        let life = self.store.shared().and_then(Shared::living);
        let claim = match self.keys.take_job(id, &standing, ttl, gone.clone()).await {
            Ok(Some(claim)) => claim,
            Ok(None) => return Ran::Elsewhere,
            Err(_) => return Ran::Again,
        };
        let Some(asked) = asked else {
            tracing::error!(
                operation = id.to_text(),
                "an accepted write was sealed with another store.secret"
            );
            claim.give_up(With::default()).await;
            return Ran::Again;
        };
        let mut journey = begin(&rules, &asked);
        let result = match entry(&rules, &asked) {
            Ok((entry, request)) => {
                journey.set_entry(&entry);
                let write = Write::new(self, &mut journey, &entry, asked.principal, request);
                let (result, told) = Box::pin(write.run_job(claim, life)).await;
                journey.take_story(told);
                result
            }
            Err(refusal) => {
                claim.give_up(With::default()).await;
                Err(refusal)
            }
        };
        let result = match result {
            Err(refusal) if is_tried_again(&refusal.reason) => {
                if !self.is_given_up(id, &cell, &refusal.reason).await {
                    tracing::info!(
                        operation = id.to_text(),
                        code = refusal.reason.code(),
                        "a job is tried again"
                    );
                    return Ran::Again;
                }
                Err(given_up(refusal))
            }
            Err(refusal) => Err(Refusal { kept: true, ..refusal }),
            Ok(response) => Ok(response),
        };
        let response = journey.end(result);
        self.keep(id, response, ttl).await
    }

    async fn forget(&self, gone: Put) -> Ran {
        let swap = Swap { puts: vec![gone], ..Swap::default() };
        if self.store.swap(swap, now()).await.is_ok() { Ran::Ended } else { Ran::Again }
    }

    /// Keeps the answer of a job that was not sent, and is not to be tried again. Every other has ended by itself.
    async fn keep(&self, id: RecordId, response: Response, ttl: Millis) -> Ran {
        let (Ok(cell), Ok(standing)) =
            (self.store.cell(jobs::cell(id), now()).await, self.store.read(id, now()).await)
        else {
            return Ran::Again;
        };
        let (Some(cell), Some(standing)) = (cell, standing) else { return Ran::Ended };
        if standing.state != State::Queued {
            // Its end is still being stored, or its answer streams.
            return if standing.state.phase().runs() { Ran::Elsewhere } else { Ran::Ended };
        }
        let (mut head, body) = response.into_parts();
        // Each replay adds its own.
        head.headers.remove(http::header::VIA);
        let Ok(body) = content(body).await else { return Ran::Again };
        let answer = Answer::encode(head.status, &head.headers, fields::is_kept, &body);
        let end = (ttl, jobs::gone(id, cell.stamp));
        match self.keys.end_job(id, &standing, head.status.as_u16(), answer, end).await {
            Ok(()) => Ran::Ended,
            Err(_) => Ran::Again,
        }
    }

    /// Whether a job has been tried for `jobs.give_up`, counted from its first try that could not be sent: its cell is
    /// due then, wherever and whenever it is tried.
    async fn is_given_up(&self, id: RecordId, cell: &Cell, reason: &Reason) -> bool {
        if !counts(reason) {
            return false;
        }
        if let Some(left) = cell.left {
            return left.is_zero();
        }
        // One whose try is not put back yet may still be ended by that, with the cell as it stands.
        let record = self.store.read(id, now()).await;
        let queued = record.ok().flatten().filter(|record| record.state == State::Queued);
        let Some(standing) = queued else { return false };
        let left = Some(self.rules.load().config.jobs.give_up);
        let to = Cell { stamp: self.keys.next_owner(), left, value: cell.value.clone() };
        let put = Put { id: jobs::cell(id), was: Some(cell.stamp), to: Some(to), tell: None };
        // What is not stored now is at the next try.
        if self.keys.set_due(id, &standing, (jobs::gone(id, cell.stamp), put)).await.is_err() {
            tracing::debug!(operation = id.to_text(), "when a job is given up is not stored yet");
        }
        false
    }
}

/// Nothing was sent, and the next try may be luckier.
fn is_tried_again(reason: &Reason) -> bool {
    counts(reason)
        || matches!(
            reason,
            Reason::StoreUnavailable | Reason::StoreFull | Reason::ShuttingDown | Reason::TooBusy(_)
        )
}

/// What is not Onceward's own state: it is given up some time.
fn counts(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::UpstreamUnreachable(_)
            | Reason::VersionUnavailable(_)
            | Reason::QueueTimeout { .. }
            | Reason::QueueFull { .. }
            | Reason::Leased { .. }
    )
}

/// P5's 502, with why it could not be sent.
fn given_up(refusal: Refusal) -> Refusal {
    let unreachable = if let Reason::UpstreamUnreachable(why) = &refusal.reason { Some(why) } else { None };
    let why = unreachable.cloned().unwrap_or_else(|| refusal.reason.title().to_owned());
    Refusal { reason: Reason::UpstreamUnreachable(why), kept: true, ..refusal }
}

fn begin(rules: &Arc<Rules>, asked: &Asked) -> Journey {
    let mut head = http::Request::new(());
    *head.method_mut() = asked.method.clone();
    *head.uri_mut() = http::Uri::from(asked.target.clone());
    *head.version_mut() = asked.version;
    *head.headers_mut() = asked.headers.clone();
    Journey::begin(Arc::clone(rules), &mut head)
}

/// The request as it came, and the route that it has now: its own, or where that is gone what its path has.
fn entry(rules: &Rules, asked: &Asked) -> Result<(Arc<Entry>, Request), Refusal> {
    let malformed = |_| Reason::BadRequest("The request target is not a path.".to_owned());
    let normal = NormalPath::parse(asked.target.path()).map_err(malformed)?;
    let own = rules.table.entries().iter().find(|entry| entry.route.name == asked.route);
    let entry = match own {
        Some(entry) => entry,
        None => rules.table.find(&normal, &asked.method)?,
    };
    let peer = Peer {
        address: ([0, 0, 0, 0], 0).into(),
        ip: asked.ip.clone(),
        forwarded_for: asked.forwarded_for.clone(),
        forwarded: parking_lot::Mutex::default(),
        gone: Box::new(Stays),
        upgraded: Arc::new(AtomicBool::new(false)),
    };
    let request = Request {
        method: asked.method.clone(),
        version: asked.version,
        target: asked.target.clone(),
        normal,
        host: asked.host.clone(),
        headers: asked.headers.clone(),
        body: if asked.body.is_empty() { Body::Empty } else { Body::Full(asked.body.clone()) },
        upgrade: None,
        peer: Arc::new(peer),
    };
    Ok((Arc::clone(entry), request))
}

/// Its agent was answered, and is nobody's to see leave.
struct Stays;

impl Gone for Stays {
    fn gone(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

async fn content(body: Body) -> Result<bytes::Bytes, crate::http::BoxError> {
    body.collect().await.map(http_body_util::Collected::to_bytes)
}
