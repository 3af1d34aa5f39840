//! A write, stage by stage (R7): up to its record here, then in its turn, then as it goes out.

mod accept;
mod in_turn;
mod leased;
mod sent;
#[cfg(test)]
mod teeth;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;

use self::accept::accepted;

use super::telling::Telling;
use super::{Besides, Gate, Journey, Rules};
use crate::config::checked::{InFlight, OnStoreFailure, Source};
use crate::http::budget::Budget;
use crate::http::refusal::Unknown;
use crate::http::{Body, Reason, Refusal, Request, Response};
use crate::observe::{Outcome, Story};
use crate::policy::admission::{self, Held};
use crate::policy::detach::MustFinish;
use crate::policy::idempotency::{self, Ask, Claim, Entry as Entered, First, Keys, Rerun, With};
use crate::policy::lease;
use crate::policy::turn::Turn;
use crate::policy::version;
use crate::protocol::entity_tag::Preconditions;
use crate::protocol::fingerprint::{Fingerprint, Parts, fingerprint};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::lease::LeaseId;
use crate::protocol::path::percent_encode_non_ascii;
use crate::protocol::record::{Mark, Owner, Principal, RecordId, ResourceId, Space};
use crate::route::{self, Entry};
use crate::store::shared::{Also, Beside, Instance, Turned, Wish};
use crate::store::{Cell, Shared, StoreError};

/// One write on its way.
pub(super) struct Write {
    gate: Arc<Gate>,
    rules: Arc<Rules>,
    entry: Arc<Entry>,
    principal: Principal,
    request: Request,
    budget: Budget,
    must_finish: MustFinish,
    /// The body's share of `limits.buffered`.
    held: Option<Held>,
    /// It was accepted before, and is to run now (J1).
    job: Option<Claim>,
    /// The life of this instance before anything was claimed in it (S3).
    life: Option<Instance>,
    /// The store could not be reached and the write passes all the same (S4): there is nobody to tell of it.
    past_store: bool,
    /// The lease that it shows (L2).
    lease: Option<LeaseId>,
    told: Told,
    /// What is committed with its end (J2).
    besides: Option<Besides>,
}

/// What the journey takes over when a write is done.
pub(super) struct Told {
    pub(super) story: Story,
    pub(super) resource: Option<Box<str>>,
    pub(super) wait_bound: Option<Duration>,
}

/// A write that has its claim and its resource.
struct Claimed {
    claim: Option<Claim>,
    rerun: Option<Rerun>,
    preconditions: Preconditions,
    resource: ResourceId,
    name: Box<str>,
    key: Option<IdempotencyKey>,
    /// Whole where there is a key, else as it comes.
    body: Body,
    /// What a probe reads instead of the write's own target.
    probe_target: Option<PathAndQuery>,
    /// This instance's turn, with what the store said when it was asked for its own together with the claim (Q4).
    early: Option<(Turn, Option<Turned>)>,
    /// What was said of its resource's lease together with the claim.
    leased: Option<Option<Cell>>,
    /// That of the lease that it goes under (L3).
    fence: Option<u64>,
}

impl Write {
    pub(super) fn new(
        gate: &Arc<Gate>,
        journey: &mut Journey,
        entry: &Arc<Entry>,
        principal: Principal,
        request: Request,
    ) -> Self {
        Self {
            gate: Arc::clone(gate),
            rules: Arc::clone(&journey.rules),
            entry: Arc::clone(entry),
            principal,
            request,
            budget: journey.budget,
            must_finish: MustFinish::default(),
            held: None,
            job: None,
            life: None,
            past_store: false,
            lease: None,
            told: Told { story: journey.story.clone(), resource: None, wait_bound: None },
            besides: None,
        }
    }

    /// The same for a job that this instance has taken in this life.
    pub(super) fn run_job(
        mut self,
        claim: Claim,
        life: Option<Instance>,
    ) -> impl Future<Output = (Result<Response, Refusal>, Told)> + Send {
        self.told.story.key = Some(claim.id);
        (self.job, self.life) = (Some(claim), life);
        self.run()
    }

    /// With this in its commit, and under the fingerprint of the request that it came in.
    pub(super) fn with(mut self, besides: Besides) -> Self {
        self.besides = Some(besides);
        self
    }

    pub(super) fn must_finish(&self) -> MustFinish {
        self.must_finish.clone()
    }

    #[allow(clippy::manual_async_fn, reason = "the other spelling has all of it in the future twice")]
    pub(super) fn run(mut self) -> impl Future<Output = (Result<Response, Refusal>, Told)> + Send {
        async move {
            let result = self.stages().await;
            (result, self.told)
        }
    }

    /// The order of R7: the first that fails answers.
    async fn stages(&mut self) -> Result<Response, Refusal> {
        let job = self.job.take();
        let (mut claimed, content) = match self.prepare().await {
            Ok(prepared) => prepared,
            Err(refusal) => {
                if let Some(job) = job {
                    job.give_up(With::default()).await;
                }
                return Err(refusal);
            }
        };
        // A job has its record already (J1).
        if job.is_some() {
            claimed.claim = job;
        } else if let Some(answer) = self.record(&mut claimed, &content).await? {
            return Ok(answer);
        }
        // In an allocation of its own: a replay never comes here, and would be moved at the size of what does.
        Box::pin(self.ahead(claimed)).await
    }

    /// The record, before lease, turn and version: a retry whose own first run moved the version is no conflict. Some:
    /// this is its answer.
    async fn record(&mut self, claimed: &mut Claimed, content: &Bytes) -> Result<Option<Response>, Refusal> {
        let route = Arc::clone(&self.entry.route);
        if let Some(key) = claimed.key.clone() {
            let own = self.besides.as_ref().map(|besides| besides.fingerprint);
            let print = own.unwrap_or_else(|| self.fingerprint(content));
            let mut entered = self.enter(&key, print, claimed).await?;
            if self.wants_job()
                && let Some(Entered::Run(claim)) = entered
            {
                // Boxed: every write would be as large as one that is accepted ahead.
                let waits = Box::pin(self.accept(claimed, claim, content)).await?;
                entered = match waits {
                    true => self.wait_for_job(&key, print, claimed).await?,
                    false => Some(Entered::Accepted),
                };
            }
            match entered {
                Some(Entered::Replayed(response)) => {
                    self.told.story.outcome = Outcome::Replayed;
                    return Ok(Some(response));
                }
                Some(Entered::Accepted) => return Ok(Some(accepted(&key))),
                Some(Entered::Run(claim)) => claimed.claim = Some(claim),
                Some(Entered::Again(claim, rerun)) => {
                    if let Some(mark) = claim.first_mark() {
                        // An upstream that honors keys may know it only as it was spelled first (K16).
                        claimed.key = Some(key.spelled(mark.quoted_key));
                    }
                    (claimed.claim, claimed.rerun) = (Some(claim), Some(rerun));
                }
                None => {}
            }
        } else if self.takes_turn() || route.version.source == Source::Mint {
            claimed.claim = self.note(claimed).await?;
        }
        Ok(None)
    }

    /// What comes before the record.
    async fn prepare(&mut self) -> Result<(Claimed, Bytes), Refusal> {
        let route = Arc::clone(&self.entry.route);
        // A key where one is required, before the body is read (K1, K2).
        let key = idempotency::key(&self.request.headers, route.idempotency.required)?;
        // A precondition where one is required; compared much later (V3, V4).
        let preconditions = version::required(&self.request.headers, &self.request.method, &route.version)?;
        if route.leases.is_some() {
            self.lease = lease::shown(&self.request.headers)?;
        }
        // The whole body before anything is claimed: one that breaks off claims nothing (F3).
        let gate = Arc::clone(&self.gate);
        let (body, content) = tokio::select! {
            // In this order: most bodies are here with their heads, and then nothing waits.
            biased;
            content = self.content(key.is_some()) => content?,
            () = gate.closing.cancelled() => return Err(Reason::ShuttingDown.into()),
        };
        // What it changes (R6).
        let name = route::resource(&route, &self.request, &content)?;
        self.told.resource = Some(name.clone());
        let probe_target = match &route.version.probe {
            Some(template) => Some(probe_target(&route::render(&route, template, &self.request, &content)?)?),
            None => None,
        };
        let resource = ResourceId::new(&name);
        let claimed = Claimed {
            claim: None,
            rerun: None,
            preconditions,
            resource,
            name,
            key,
            body,
            probe_target,
            early: None,
            leased: None,
            fence: None,
        };
        Ok((claimed, content))
    }

    /// Into the turn, with what was claimed.
    async fn ahead(&mut self, mut claimed: Claimed) -> Result<Response, Refusal> {
        if let Some(besides) = &self.besides {
            // A replay needs none of it; a run does (J2).
            if let Err(reason) = besides.may_run(claimed.claim.is_some()) {
                if let Some(claim) = claimed.claim.take() {
                    claim.give_up(With::default()).await;
                }
                return Err(reason.into());
            }
        }
        let again = claimed.rerun.is_some();
        let operation = claimed.claim.as_ref().map(|claim| claim.id);
        // The lease before the line, so that a stranger does not wait in it (L3).
        let result = match self.may_come(&mut claimed).await {
            Ok(()) => self.turn(&mut claimed).await,
            Err(reason) => Err(reason.into()),
        };
        if let Some(claim) = claimed.claim.take() {
            // Nothing went out: the key is free again before the agent is told so (K8).
            claim.give_up(With::default()).await;
        }
        result.map_err(|refusal| self.refused(refusal, again, operation))
    }

    /// A refusal before a second run says nothing of the first: it stays unknown (K12).
    fn refused(&self, mut refusal: Refusal, again: bool, operation: Option<RecordId>) -> Refusal {
        let unsure = matches!(refusal.reason.executed(), crate::http::Executed::No);
        let already = matches!(refusal.reason, Reason::OutcomeUnknown(_));
        if again && unsure && !already {
            refusal.reason = Reason::OutcomeUnknown(self.unknown(None));
        }
        if refusal.operation.is_none() {
            refusal.operation = operation.map(RecordId::to_text);
        }
        refusal
    }

    fn unknown(&self, mark: Option<&Mark>) -> Unknown {
        let policy = self.entry.route.idempotency.on_unknown;
        match (mark, policy) {
            (None, crate::config::checked::OnUnknown::Version) => Unknown::Compared,
            _ => idempotency::unknown(policy, mark),
        }
    }

    /// Reads a keyed body whole; lets every other one stream.
    async fn content(&mut self, keyed: bool) -> Result<(Body, Bytes), Refusal> {
        let route = &self.entry.route;
        let body = std::mem::replace(&mut self.request.body, Body::Empty);
        let needed = route.resource.as_ref().is_some_and(crate::protocol::template::Template::needs_body);
        let time = self.rules.config.limits.body_time;
        let (limit, buffers) = (route.limits.body, &self.gate.buffers);
        if keyed || needed {
            let (content, held) = admission::whole(body, limit, time, buffers).await?;
            self.held = held;
            return Ok((Body::Full(content.clone()), content));
        }
        let mut body = body;
        if self.takes_turn() {
            // A slow agent costs no turn (F4): what fits is here before one is taken, and only the rest streams.
            (body, self.held) = admission::ahead(body, limit, time, buffers).await?;
        }
        Ok((body, Bytes::new()))
    }

    fn fingerprint(&self, content: &Bytes) -> Fingerprint {
        #[cfg(test)]
        let content = teeth::of_body(content);
        let parts = Parts {
            method: self.request.method.as_str(),
            path: self.request.target.path(),
            query: self.request.target.query(),
            content_type: self
                .request
                .headers
                .get(http::header::CONTENT_TYPE)
                .map(http::HeaderValue::as_bytes),
            body: content,
        };
        fingerprint(self.entry.route.idempotency.compare, &parts)
    }

    /// K5–K7, K10–K12. `None`: without a record, where the operator lets writes pass a failed store (S4).
    async fn enter(
        &mut self,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        asking: &mut Claimed,
    ) -> Result<Option<Entered>, Refusal> {
        let route = Arc::clone(&self.entry.route);
        let id = RecordId::new(Space::Enforced, &self.principal, key.text());
        self.told.story.key = Some(id);
        let policy = &route.idempotency;
        let waits = policy.in_flight == InFlight::Wait && !self.wants_job();
        let unasked = if waits { policy.max_wait } else { Duration::ZERO };
        let wait_until = self.budget.waits_until(policy.max_wait, unasked);
        let resource = asking.resource;
        let gate = Arc::clone(&self.gate);
        self.life = gate.store.shared().and_then(Shared::living);
        let rests = || gate.turns.rests(resource);
        let outright = self.outright(asking);
        let owner = gate.keys.next_owner();
        let (turn, beside) = match self.early(asking, owner) {
            Some((turn, wish)) => (Some(turn), Some(Beside::Turn(wish))),
            None => (None, self.asks_lease().then_some(Beside::Lease(resource))),
        };
        let ask = Ask {
            id,
            fingerprint,
            route: &route.name,
            resource: &asking.name,
            policy,
            wait_until,
            version_ends_unknown: match &route.version.source {
                Source::Hash | Source::Etag | Source::Field(_) => Some(true),
                Source::Upstream => Some(false),
                Source::Mint | Source::None => None,
            },
            gone: self.request.peer.gone.as_ref(),
            preconditions: &asking.preconditions,
            rests: &rests,
            jobs: route.takes_jobs,
            outright: outright.as_ref(),
        };
        let began = wait_until.map(|_| Instant::now());
        let entered = enter(&gate.keys, &ask, owner, turn, beside).await;
        self.told.wait_bound = Some(policy.max_wait);
        self.told.story.waited += began.map_or(Duration::ZERO, |began| began.elapsed());
        let entered = entered.map(|(entered, turn, also)| {
            let (turned, leased) = match also {
                Some(Also::Turned(turned)) => (Some(turned), None),
                Some(Also::Lease(lease)) => (None, Some(lease)),
                None => (None, None),
            };
            asking.early = turn.map(|turn| (turn, turned));
            asking.leased = leased;
            Some(entered)
        });
        self.pass_failed_store(entered)
    }

    /// The mark of a write that nothing stands in front of: no turn, and nothing to compare. Where each step is a
    /// round trip it is claimed as forwarded.
    fn outright(&self, asking: &Claimed) -> Option<Mark> {
        let at_once = !self.takes_turn() && asking.preconditions.is_empty() && !self.wants_job();
        let quoted_key = asking.key.as_ref().is_some_and(IdempotencyKey::quoted);
        (at_once && self.gate.store.shared().is_some()).then_some(Mark {
            compared: None,
            forwarded: None,
            fence: 0,
            quoted_key,
            followed: false,
        })
    }

    /// The turn on this instance, if it is free and the store has to be asked for another (Q4).
    fn early(&self, asking: &Claimed, token: Owner) -> Option<(Turn, Wish)> {
        if !self.takes_turn() || !self.gate.turns.are_shared() || self.wants_job() {
            return None;
        }
        let turn = self.gate.turns.at_once(&self.wanted(asking, Some(token)))?;
        Some((turn, Wish { resource: asking.resource, name: asking.name.clone(), token }))
    }

    /// A write without a key leaves a record too where its turn has to be known after a restart (Q5).
    async fn note(&mut self, claimed: &Claimed) -> Result<Option<Claim>, Refusal> {
        self.life = self.gate.store.shared().and_then(Shared::living);
        let route = &self.entry.route;
        let noted = self.gate.keys.note(&route.name, &claimed.name, &route.idempotency).await;
        self.pass_failed_store(noted)
    }

    /// What is told of the write from now on; the resource's name goes with it.
    fn telling(&self, claimed: &mut Claimed) -> Option<Telling> {
        if self.past_store {
            return None;
        }
        let name = std::mem::take(&mut claimed.name);
        Telling::of(&self.entry.route, name, &self.request.method, &self.principal)
    }

    /// S4: a store that cannot be reached stops a write, unless its route lets them through.
    fn pass_failed_store<T>(&mut self, asked: Result<Option<T>, Refusal>) -> Result<Option<T>, Refusal> {
        let route = &self.entry.route;
        let Err(refusal) = asked else { return asked };
        if !matches!(refusal.reason, Reason::StoreUnavailable | Reason::StoreFull) {
            return Err(refusal);
        }
        self.gate.metrics.store_errors.inc();
        let unavailable = matches!(refusal.reason, Reason::StoreUnavailable);
        if unavailable && route.on_store_failure == OnStoreFailure::Open {
            tracing::warn!(route = %route.name, "the store cannot be reached: a write passes without a record");
            self.past_store = true;
            return Ok(None);
        }
        Err(refusal)
    }
}

/// Claims the key, with what is asked beside it; one that stands already is met without that. `turn`: of this instance.
async fn enter(
    keys: &Arc<Keys>,
    ask: &Ask<'_>,
    owner: Owner,
    turn: Option<Turn>,
    beside: Option<Beside>,
) -> Result<(Entered, Option<Turn>, Option<Also>), Refusal> {
    match keys.claim(ask, owner, beside).await {
        Err(error) => {
            if error == StoreError::Unreached
                && let Some(turn) = turn
            {
                // As with the claim: there is no turn in the store that would have to be ended.
                turn.unasked();
            }
            Err(idempotency::refused(error))
        }
        Ok(First::Claimed(claim, also)) => Ok((Entered::Run(claim), turn, also)),
        Ok(First::Taken { standing, yours }) => {
            if let Some(turn) = turn {
                turn.unasked();
            }
            keys.meet(ask, standing, yours).await.map(|entry| (entry, None, None))
        }
    }
}

/// A rendered `version.probe` as a target.
fn probe_target(rendered: &str) -> Result<PathAndQuery, Reason> {
    let encoded = percent_encode_non_ascii(rendered);
    let target =
        Some(&*encoded).filter(|target| target.starts_with('/')).and_then(|target| target.parse().ok());
    target.ok_or_else(|| Reason::VersionUnavailable("version.probe gave no path".to_owned()))
}
