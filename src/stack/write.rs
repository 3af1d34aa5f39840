//! A write, stage by stage (R7).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode, response};
use tokio::time::Instant as Deadline;

use super::ending::Pending;
use super::{Gate, Journey, Rules};
use crate::config::checked::{InFlight, OnStoreFailure, Source};
use crate::http::budget::Budget;
use crate::http::refusal::Unknown;
use crate::http::timestamp::now;
use crate::http::{Body, Reason, Refusal, Request, Response, fields, forward};
use crate::observe::{Outcome, Story};
use crate::policy::admission::{self, Held};
use crate::policy::detach::MustFinish;
use crate::policy::idempotency::{self, Ask, Claim, Entry as Entered, Rerun};
use crate::policy::publish::{self, Bounds, Content};
use crate::policy::turn::{Turn, Wanted};
use crate::policy::version::{self, Compared, Current, Probe, Stop};
use crate::protocol::entity_tag::{Condition, EntityTag, Preconditions};
use crate::protocol::fingerprint::{Fingerprint, Parts, fingerprint};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::line::Want;
use crate::protocol::path::percent_encode_non_ascii;
use crate::protocol::record::{Mark, Meaning, Principal, RecordId, ResourceId, Space};
use crate::route::{self, Entry};
use crate::upstream::{Call, Failure, Kind};

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
    told: Told,
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
            told: Told { story: std::mem::take(&mut journey.story), resource: None, wait_bound: None },
        }
    }

    pub(super) fn must_finish(&self) -> MustFinish {
        self.must_finish.clone()
    }

    pub(super) async fn run(mut self) -> (Result<Response, Refusal>, Told) {
        let result = self.stages().await;
        (result, self.told)
    }

    /// The order of R7: the first that fails answers.
    async fn stages(&mut self) -> Result<Response, Refusal> {
        let route = Arc::clone(&self.entry.route);
        // A key where one is required, before the body is read (K1, K2).
        let key = idempotency::key(&self.request.headers, route.idempotency.required)?;
        // A precondition where one is required; compared much later (V3, V4).
        let preconditions = version::required(&self.request.headers, &self.request.method, &route.version)?;
        // The whole body before anything is claimed: one that breaks off claims nothing (F3).
        let (body, content) = self.content(key.is_some()).await?;
        // What it changes (R6).
        let name = route::resource(&route, &self.request, &content)?;
        self.told.resource = Some(name.clone());
        let probe_target = match &route.version.probe {
            Some(template) => Some(probe_target(&route::render(&route, template, &self.request, &content)?)?),
            None => None,
        };
        let resource = ResourceId::new(&name);
        // The record, before lease, turn and version: a retry whose own first run moved the version is no conflict.
        let mut claimed =
            Claimed { claim: None, rerun: None, preconditions, resource, name, key, body, probe_target };
        if let Some(key) = claimed.key.clone() {
            let print = self.fingerprint(&content);
            match self.enter(&key, print, &claimed).await? {
                Some(Entered::Replayed(response)) => {
                    self.told.story.outcome = Outcome::Replayed;
                    return Ok(response);
                }
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
        } else if route.queue.turns || route.version.source == Source::Mint {
            claimed.claim = self.note(&claimed).await?;
        }
        let again = claimed.rerun.is_some();
        let operation = claimed.claim.as_ref().map(|claim| claim.id);
        let result = self.turn(&mut claimed).await;
        if let Some(claim) = claimed.claim.take() {
            // Nothing went out: the key is free again before the agent is told so (K8).
            claim.give_up().await;
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
        if !keyed && !needed {
            return Ok((body, Bytes::new()));
        }
        let time = self.rules.config.limits.body_time;
        let (content, held) = admission::whole(body, route.limits.body, time, &self.gate.buffers).await?;
        self.held = held;
        Ok((Body::Full(content.clone()), content))
    }

    fn fingerprint(&self, content: &Bytes) -> Fingerprint {
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
        asking: &Claimed,
    ) -> Result<Option<Entered>, Refusal> {
        let route = &self.entry.route;
        let id = RecordId::new(Space::Enforced, &self.principal, key.text());
        self.told.story.key = Some(id);
        let policy = &route.idempotency;
        let unasked = if policy.in_flight == InFlight::Wait { policy.max_wait } else { Duration::ZERO };
        let until = self.budget.until(policy.max_wait, unasked);
        let rests = || self.gate.turns.rests(asking.resource);
        let ask = Ask {
            id,
            fingerprint,
            route: &route.name,
            resource: &asking.name,
            policy,
            wait_until: (until > Deadline::now()).then_some(until),
            version_ends_unknown: match &route.version.source {
                Source::Hash | Source::Etag | Source::Field(_) => Some(true),
                Source::Upstream => Some(false),
                Source::Mint | Source::None => None,
            },
            gone: self.request.peer.gone.as_ref(),
            preconditions: &asking.preconditions,
            rests: &rests,
        };
        let began = Instant::now();
        let entered = self.gate.keys.enter(&ask).await;
        self.told.wait_bound = Some(policy.max_wait);
        self.told.story.waited += began.elapsed();
        self.pass_failed_store(entered.map(Some))
    }

    /// A write without a key leaves a record too where its turn has to be known after a restart (Q5).
    async fn note(&self, claimed: &Claimed) -> Result<Option<Claim>, Refusal> {
        let route = &self.entry.route;
        self.pass_failed_store(self.gate.keys.note(&route.name, &claimed.name, &route.idempotency).await)
    }

    /// S4: a store that cannot be reached stops a write, unless its route lets them through.
    fn pass_failed_store<T>(&self, asked: Result<Option<T>, Refusal>) -> Result<Option<T>, Refusal> {
        let route = &self.entry.route;
        let Err(refusal) = asked else { return asked };
        if !matches!(refusal.reason, Reason::StoreUnavailable | Reason::StoreFull) {
            return Err(refusal);
        }
        self.gate.metrics.store_errors.inc();
        let unavailable = matches!(refusal.reason, Reason::StoreUnavailable);
        if unavailable && route.on_store_failure == OnStoreFailure::Open {
            tracing::warn!(route = %route.name, "the store cannot be reached: a write passes without a record");
            return Ok(None);
        }
        Err(refusal)
    }

    /// Waits for the turn, looks at the version inside it, and forwards (Q1, V5).
    async fn turn(&mut self, claimed: &mut Claimed) -> Result<Response, Refusal> {
        let turn = self.take_turn(claimed).await?;
        let mut headers = forward::headers(&mut self.request);
        let closing = self.gate.closing.clone();
        let compared = tokio::select! {
            biased;
            compared = self.compare(claimed, &headers) => compared,
            () = closing.cancelled() => Err(Reason::ShuttingDown.into()),
        };
        let compared = match compared {
            Ok(compared) => compared,
            Err(Stop::Refused(reason)) => return Err(reason.into()),
            // The claim is released with this answer: nothing was forwarded (V1).
            Err(Stop::GivenOn(answer)) => return Ok(*answer),
        };
        version::strip_preconditions(&mut headers, &self.entry.route.version.source);
        self.forward(claimed, turn, compared, headers).await
    }

    async fn take_turn(&mut self, claimed: &Claimed) -> Result<Option<Turn>, Refusal> {
        let queue = &self.entry.route.queue;
        if !queue.turns {
            return Ok(None);
        }
        let until = self.budget.until(queue.max_wait, queue.max_wait);
        self.told.wait_bound = Some(queue.max_wait);
        let began = Instant::now();
        let wanted = Wanted {
            want: Want::Write,
            resource: claimed.resource,
            name: &claimed.name,
            max_waiting: queue.max_waiting,
            until,
            gone: self.request.peer.gone.as_ref(),
        };
        let turn = self.gate.turns.take(wanted).await;
        let waited = began.elapsed();
        self.told.story.waited += waited;
        self.entry.metrics.turn_waited(waited);
        Ok(Some(turn?))
    }

    fn probe<'a>(&'a self, target: Option<&PathAndQuery>, headers: &'a HeaderMap) -> Probe<'a> {
        Probe {
            client: &self.entry.client,
            version: &self.entry.route.version,
            target: target.unwrap_or(&self.request.target).clone(),
            headers,
        }
    }

    async fn compare(&mut self, claimed: &Claimed, headers: &HeaderMap) -> Result<Compared, Stop> {
        let probe = self.probe(claimed.probe_target.as_ref(), headers);
        if let Some(Rerun::IfUnchanged(mark)) = &claimed.rerun {
            return self.compare_again(mark, claimed, &probe).await;
        }
        if claimed.rerun == Some(Rerun::UpstreamHonorsKey) {
            return Ok(Compared::default());
        }
        let mints = self.entry.route.version.source == Source::Mint && !claimed.preconditions.is_empty();
        let minted = if mints {
            let minted = self.gate.store.minted(claimed.resource, now()).await;
            EntityTag::parse(&minted.map_err(|_| Reason::StoreUnavailable)?)
        } else {
            None
        };
        let began = Instant::now();
        let compared = version::compare(&probe, &claimed.preconditions, minted).await;
        if !claimed.preconditions.is_empty() && self.entry.route.version.source != Source::Mint {
            self.told.story.called(began);
        }
        compared
    }

    /// K12: an unknown write runs again only while nothing has happened to its resource since.
    async fn compare_again(
        &self,
        mark: &Mark,
        claimed: &Claimed,
        probe: &Probe<'_>,
    ) -> Result<Compared, Stop> {
        let was = mark.compared.clone().flatten();
        let current = match probe.current().await? {
            Current::Tag(tag, _) => Some(tag),
            Current::Nothing => None,
            Current::GivenOn(_) => return Err(Reason::OutcomeUnknown(Unknown::Compared).into()),
        };
        let is_last = match &claimed.claim {
            Some(claim) => !self.gate.keys.is_followed(claim.id).await?,
            None => false,
        };
        if current != was || !is_last {
            return Err(Reason::OutcomeUnknown(Unknown::Moved { compared: was, current }).into());
        }
        if !claimed.preconditions.holds(current.as_ref()) {
            // This retry was built on another version than the first run; that one is as unknown as before.
            return Err(Reason::OutcomeUnknown(Unknown::Compared).into());
        }
        Ok(Compared { with: Some(current), forwarded: mark.forwarded.is_some() })
    }

    /// Stores "forwarded", calls once, and records what became of it (K4, K11).
    async fn forward(
        &mut self,
        claimed: &mut Claimed,
        mut turn: Option<Turn>,
        compared: Compared,
        mut headers: HeaderMap,
    ) -> Result<Response, Refusal> {
        let route = Arc::clone(&self.entry.route);
        let probed = headers.clone();
        // In the turn, so that it grows in the order in which writes go out (L3).
        let fence = match &turn {
            Some(_) => self.gate.store.next_fence().await.map_err(|_| Reason::StoreUnavailable)?,
            None => 0,
        };
        self.own_fields(claimed, fence, &mut headers);
        let mark = Mark {
            compared: compared.with.clone(),
            forwarded: compared.forwarded.then(|| claimed.preconditions.clone()),
            fence,
            quoted_key: claimed.key.as_ref().is_some_and(IdempotencyKey::quoted),
            followed: false,
        };
        let unknown = idempotency::unknown(route.idempotency.on_unknown, Some(&mark));
        // From here on the work outlives its agent (K13): one that leaves while this is stored would leave a record
        // behind that nobody ends.
        self.must_finish.set();
        if let Some(mut claim) = claimed.claim.take() {
            match self.pass_failed_store(claim.forward(mark).await.map(Some).map_err(Refusal::from)) {
                Ok(Some(())) => claimed.claim = Some(claim),
                Ok(None) => claim.give_up().await,
                Err(refusal) => {
                    claimed.claim = Some(claim);
                    return Err(refusal);
                }
            }
        }
        // And it ends with a rest unless its end becomes known (Q5).
        if let Some(turn) = &mut turn {
            turn.forwarded(route.idempotency.settle);
        }
        let ran_before = matches!(&claimed.rerun, Some(Rerun::UpstreamCompares | Rerun::UpstreamHonorsKey));
        let prior = claimed.claim.as_mut().is_some_and(|claim| {
            let second = claim.is_second_try();
            claim.run_again();
            second
        });
        let pending = Pending {
            store: Arc::clone(&self.gate.store),
            route: Arc::clone(&route),
            resource: claimed.resource,
            claim: claimed.claim.take(),
            turn,
            ran_before: ran_before && prior,
        };
        let total = Deadline::now() + route.limits.upstream_total;
        let call = Call {
            kind: Kind::Write,
            method: self.request.method.clone(),
            target: self.request.target.clone(),
            headers,
            body: std::mem::replace(&mut claimed.body, Body::Empty),
            until: Some(total),
        };
        let answer = self.call(call).await;
        let operation = pending.claim.as_ref().map(|claim| claim.id);
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Err(self.failed(failure, pending, unknown, operation).await),
        };
        self.told.story.upstream_status = Some(answer.status().as_u16());
        if answer.status() == StatusCode::PRECONDITION_FAILED && compared.forwarded {
            return Err(self.stale_upstream(pending, &answer, claimed, &probed, unknown).await);
        }
        self.answered(pending, answer, total, claimed, probed, unknown).await
    }

    fn own_fields(&self, claimed: &Claimed, fence: u64, headers: &mut HeaderMap) {
        forward::of_write(headers, claimed.key.is_some());
        if let Some(key) = &claimed.key {
            // Spelled as the agent spelled it: many APIs know only bare keys (K16).
            if let Some(value) = fields::value(&key.as_sent()) {
                headers.insert(fields::IDEMPOTENCY_KEY, value);
            }
        }
        if fence != 0 {
            headers.insert(fields::ONCEWARD_FENCE, http::HeaderValue::from(fence));
        }
    }

    async fn call(&mut self, call: Call) -> Result<Response, Failure> {
        let began = Instant::now();
        let client = Arc::clone(&self.entry.client);
        let answer = tokio::select! {
            biased;
            answer = client.call(call) => answer,
            () = self.gate.closing.cancelled() => Err(Failure::ShutDown),
        };
        self.told.story.called(began);
        answer
    }

    /// K11: no answer came.
    async fn failed(
        &mut self,
        failure: Failure,
        pending: Pending,
        unknown: Unknown,
        operation: Option<RecordId>,
    ) -> Refusal {
        let reason = match failure {
            Failure::NotSent(why) => {
                pending.not_sent().await;
                return Reason::UpstreamUnreachable(why).into();
            }
            Failure::AgentBroke => {
                Reason::BadRequest("The request's body broke off or is malformed.".to_owned())
            }
            Failure::BrokeOff(_) => Reason::UpstreamBrokeOff { write: Some(unknown) },
            Failure::TimedOut => Reason::UpstreamTimeout { write: Some(unknown) },
            Failure::ShutDown => Reason::OutcomeUnknown(unknown),
        };
        pending.unknown(&self.gate.tasks).await;
        let refusal = Refusal::from(reason);
        match operation {
            Some(operation) => refusal.about(operation.to_text()),
            None => refusal,
        }
    }

    /// The upstream's own 412 is a stale version like any other (V6); after an unknown run it tells nothing (K12).
    async fn stale_upstream(
        &mut self,
        pending: Pending,
        answer: &Response,
        claimed: &Claimed,
        probed: &HeaderMap,
        unknown: Unknown,
    ) -> Refusal {
        let again = pending.ran_before;
        let current = answer.headers().get(http::header::ETAG).and_then(|value| value.to_str().ok());
        let current = current.and_then(EntityTag::parse);
        let shows_body = self.entry.route.version.include_current && !again;
        // Still in the turn, so that it is what this write met.
        let body = match shows_body {
            true => self.probe(claimed.probe_target.as_ref(), probed).body().await,
            false => None,
        };
        pending.not_sent().await;
        if again {
            return Reason::OutcomeUnknown(unknown).into();
        }
        let wanted_none = claimed.preconditions.if_none_match == Some(Condition::Any);
        let status = self.entry.route.version.stale_status;
        Reason::StaleVersion { status, current, body, wanted_none }.into()
    }

    /// An answer came: reads it, looks at the version after it, records both, and gives it on.
    async fn answered(
        &mut self,
        pending: Pending,
        answer: Response,
        total: Deadline,
        claimed: &Claimed,
        probed: HeaderMap,
        unknown: Unknown,
    ) -> Result<Response, Refusal> {
        let (head, body) = answer.into_parts();
        let began = Instant::now();
        let content = tokio::select! {
            biased;
            content = publish::content(&head, body, &self.entry.route, total) => content,
            () = self.gate.closing.cancelled() => Content::Left,
        };
        self.told.story.called(began);
        let tasks = self.gate.tasks.clone();
        match content {
            Content::Whole(body) => {
                let meaning = pending.meaning(head.status);
                self.told.story.outcome = outcome(meaning);
                let (next, names_next) = self.next_version(&head, claimed, meaning, &probed).await;
                Ok(pending.answered(head, body, next, names_next, &tasks).await?)
            }
            Content::Streams(body) => {
                self.told.story.outcome = outcome(pending.meaning(head.status));
                let names_next = self.names_next(&head);
                let told = version::told(&self.entry.route.version.source, &head.headers);
                let bounds = Bounds {
                    total,
                    write_time: self.rules.config.limits.write_time,
                    closing: self.gate.closing.clone(),
                };
                Ok(pending.streams(head, body, (told, names_next), bounds, &tasks).await?)
            }
            Content::Left => {
                let operation = pending.claim.as_ref().map(|claim| claim.id);
                Err(self.failed(Failure::ShutDown, pending, unknown, operation).await)
            }
            Content::Broke(error) => {
                let idle = error.is::<crate::upstream::Idle>() || Deadline::now() >= total;
                let failure = if idle { Failure::TimedOut } else { Failure::BrokeOff(error.to_string()) };
                let operation = pending.claim.as_ref().map(|claim| claim.id);
                Err(self.failed(failure, pending, unknown, operation).await)
            }
        }
    }

    fn names_next(&self, head: &response::Parts) -> bool {
        let by_hand = self.entry.route.resource.is_some();
        version::names_next_version(&self.request.method, head.status, &head.headers, by_hand)
    }

    /// The version to send next (V7), and whether the answer may name it.
    async fn next_version(
        &mut self,
        head: &response::Parts,
        claimed: &Claimed,
        meaning: Meaning,
        probed: &HeaderMap,
    ) -> (Option<EntityTag>, bool) {
        let names = self.names_next(head);
        if !names || meaning != Meaning::Keep {
            return (None, names);
        }
        let began = Instant::now();
        let probe = self.probe(claimed.probe_target.as_ref(), probed);
        let next = tokio::select! {
            biased;
            next = version::refresh(&probe, &self.request.method, &head.headers) => next,
            // The write's own answer is there, and it is told without (V7).
            () = self.gate.closing.cancelled() => None,
        };
        self.told.story.called(began);
        (next, names)
    }
}

/// A rendered `version.probe` as a target.
fn probe_target(rendered: &str) -> Result<PathAndQuery, Reason> {
    let encoded = percent_encode_non_ascii(rendered);
    let target =
        Some(&*encoded).filter(|target| target.starts_with('/')).and_then(|target| target.parse().ok());
    target.ok_or_else(|| Reason::VersionUnavailable("version.probe gave no path".to_owned()))
}

fn outcome(meaning: Meaning) -> Outcome {
    match meaning {
        Meaning::Keep | Meaning::Release => Outcome::Executed,
        Meaning::Unknown => Outcome::Unknown,
    }
}
