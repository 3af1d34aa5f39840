//! `mode = "observe"`: every well-framed request goes through as it came, and what `enforce` would have decided by what
//! costs no upstream call is said (R4).

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use super::{Gate, Journey};
use crate::http::timestamp::{millis, now};
use crate::http::{Body, Reason, Refusal, Request, Response, fields, forward};
use crate::observe::Outcome;
use crate::policy::lease::{self, Shown};
use crate::policy::{admission, idempotency, identity, version};
use crate::protocol::fingerprint::{Parts, fingerprint};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::{
    Meaning, Millis, Owner, Record, RecordId, ResourceId, Space, State, Verdict, meaning,
};
use crate::route::{self, Entry};
use crate::store::{Before, CellId, Change, Claimed, Set};
use crate::upstream::{Call, Kind};

/// What `enforce` would have said: a refusal's code, or `replayed`.
type Observed = Option<&'static str>;

/// A record of an observed key that this request made; ended when its answer is there, or its agent has left.
struct Made {
    gate: Arc<Gate>,
    id: RecordId,
    owner: Owner,
    ttl: Millis,
    ended: bool,
}

/// What `enforce` would have made of the record (K8, K11), but for what was kept of the answer.
fn end_of(answer: &Result<Response, Refusal>, entry: &Entry) -> Meaning {
    match answer {
        Ok(answer) => {
            meaning(answer.status().as_u16(), idempotency::server_errors(entry.route.idempotency.on_5xx))
        }
        Err(Refusal { reason: Reason::UpstreamUnreachable(_), .. }) => Meaning::Release,
        Err(_) => Meaning::Unknown,
    }
}

impl Made {
    async fn end(mut self, meaning: Meaning) {
        self.ended = true;
        self.record(meaning).await;
    }

    async fn record(&self, meaning: Meaning) {
        let at = now();
        let expires_at = at.saturating_add(self.ttl);
        let set = match meaning {
            Meaning::Keep => Set::State(State::Done { status: 0, kept: false, completed_at: at, expires_at }),
            Meaning::Release => Set::Remove,
            Meaning::Unknown => Set::State(State::Unknown { mark: None, since: at, expires_at }),
        };
        let Self { id, owner, .. } = *self;
        let change = Change::new(id, owner, Before::Claimed, set);
        if self.gate.observed.commit(change, at).await.is_err() {
            self.gate.metrics.store_errors.inc();
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // The agent left, and the call with it: a claim that nobody ends would never expire.
        let gate = Arc::clone(&self.gate);
        let left = Self { gate: Arc::clone(&gate), ended: true, ..*self };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            gate.tasks.spawn_on(async move { left.record(Meaning::Unknown).await }, &runtime);
        }
    }
}

impl Gate {
    /// Forwards a request as it came, and says what would have been decided.
    pub(super) async fn observe(
        self: &Arc<Self>,
        journey: &mut Journey,
        entry: &Entry,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        let is_read = entry.route.is_read(&request.method);
        let (observed, made) =
            if is_read { (None, None) } else { self.would(journey, entry, &mut request).await? };
        let kind = if is_read { Kind::Read } else { Kind::Write };
        let body = std::mem::replace(&mut request.body, Body::Empty);
        let headers = forward::headers(&mut request);
        let (method, target) = (request.method.clone(), request.target.clone());
        let body_time = journey.rules.config.limits.body_time;
        let call = Call { kind, method, target, headers, body, body_time, total: None };
        let answer = self.send(journey, entry, call).await;
        if let Some(made) = made {
            made.end(end_of(&answer, entry)).await;
        }
        let mut answer = answer?;
        journey.story.outcome = match observed {
            Some("replayed") => Outcome::Replayed,
            Some(code) => Outcome::of_code(code),
            None if is_read => Outcome::Passed,
            None => Outcome::Executed,
        };
        if let Some(code) = observed {
            answer.headers_mut().insert(fields::ONCEWARD_OBSERVED, HeaderValue::from_static(code));
        }
        Ok(answer)
    }

    /// The checks of a write in the order of R7, as far as they need no upstream.
    async fn would(
        self: &Arc<Self>,
        journey: &mut Journey,
        entry: &Entry,
        request: &mut Request,
    ) -> Result<(Observed, Option<Made>), Refusal> {
        let route = &entry.route;
        if route.methods.as_ref().is_some_and(|methods| !methods.contains(&request.method)) {
            return Ok((Some("method-not-allowed"), None));
        }
        let principal = match identity::principal(&request.headers, &journey.rules.config.identity) {
            Ok(principal) => principal,
            Err(reason) => return Ok((Some(reason.code()), None)),
        };
        let key = match idempotency::key(&request.headers, route.idempotency.required) {
            Ok(key) => key,
            Err(reason) => return Ok((Some(reason.code()), None)),
        };
        if let Err(reason) = version::required(&request.headers, &request.method, &route.version) {
            return Ok((Some(reason.code()), None));
        }
        let lease = match entry.route.leases.map(|_| lease::shown(&request.headers)).transpose() {
            Ok(lease) => lease.flatten(),
            Err(reason) => return Ok((Some(reason.code()), None)),
        };
        let known = request.body.known_length();
        if known.is_some_and(|length| length > route.limits.body as u64) {
            return Ok((Some(Reason::BodyTooLarge { limit: route.limits.body }.code()), None));
        }
        // A body of unknown length goes through at once, so nothing can be said of its key.
        let Some((key, _)) = key.zip(known) else { return Ok((None, None)) };
        let body = std::mem::replace(&mut request.body, Body::Empty);
        let time = journey.rules.config.limits.body_time;
        let (content, _held) = admission::whole(body, route.limits.body, time, &self.buffers).await?;
        request.body = Body::Full(content.clone());
        let name = match route::resource(route, request, &content) {
            Ok(name) => name,
            Err(reason) => return Ok((Some(reason.code()), None)),
        };
        let id = RecordId::new(Space::Observed, &principal, key.text());
        journey.story.key = Some(id);
        let resource = ResourceId::new(&name);
        let (observed, made) = self.observed_claim(entry, request, &key, id, name, &content).await;
        let shown = Shown { principal: &principal, lease };
        match self.observed_lease(entry, shown, resource).await.filter(|_| observed.is_none()) {
            Some(code) => {
                if let Some(made) = made {
                    // It would have been refused, and its key free again.
                    made.end(Meaning::Release).await;
                }
                Ok((Some(code), None))
            }
            None => Ok((observed, made)),
        }
    }

    /// L2, by what is really held.
    async fn observed_lease(&self, entry: &Entry, shown: Shown<'_>, resource: ResourceId) -> Observed {
        entry.route.leases?;
        let Ok(cell) = self.store.cell(CellId::lease(resource), now()).await else {
            return Some(Reason::StoreUnavailable.code());
        };
        self.leases.admit(shown, resource, cell).await.err().map(|reason| reason.code())
    }

    async fn observed_claim(
        self: &Arc<Self>,
        entry: &Entry,
        request: &Request,
        _key: &IdempotencyKey,
        id: RecordId,
        resource: Box<str>,
        content: &Bytes,
    ) -> (Observed, Option<Made>) {
        let parts = Parts {
            method: request.method.as_str(),
            path: request.target.path(),
            query: request.target.query(),
            content_type: request.headers.get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes),
            body: content,
        };
        let owner = Owner(fastrand::u64(..));
        let record = Record {
            owner,
            fingerprint: fingerprint(entry.route.idempotency.compare, &parts),
            started_at: now(),
            route: Arc::clone(&entry.route.name),
            resource,
            state: State::Claimed,
        };
        let print = record.fingerprint;
        match self.observed.claim(id, record, now()).await {
            Ok(Claimed::New) => {
                let ttl = millis(entry.route.idempotency.ttl);
                (None, Some(Made { gate: Arc::clone(self), id, owner, ttl, ended: false }))
            }
            Ok(Claimed::Taken { standing, .. }) => {
                let code = match standing.verdict(&print, now()) {
                    Verdict::First => None,
                    Verdict::Reused => Some("key-reused"),
                    Verdict::Running => Some("in-flight"),
                    Verdict::Replay | Verdict::NotKept { .. } => Some("replayed"),
                    Verdict::Unknown => Some("outcome-unknown"),
                };
                (code, None)
            }
            Err(_) => (Some("store-unavailable"), None),
        }
    }
}
