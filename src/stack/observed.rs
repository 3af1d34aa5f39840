//! `mode = "observe"`: every well-framed request goes through as it came, and what `enforce` would have decided by what
//! costs no upstream call is said (R4).

mod copied;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::oneshot;

use self::copied::Copied;
use super::{Gate, Journey};
use crate::http::timestamp::{millis, now};
use crate::http::{Body, Executed, Reason, Refusal, Request, Response, fields, forward};
use crate::observe::Outcome;
use crate::policy::admission::{self, Held, Here};
use crate::policy::lease::{self, Shown};
use crate::policy::{idempotency, identity, version};
use crate::protocol::fingerprint::{Parts, fingerprint};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::lease::LeaseId;
use crate::protocol::record::{
    Meaning, Millis, Owner, Principal, Record, RecordId, ResourceId, Space, State, Verdict, meaning,
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
        Err(refusal) if refusal.reason.executed() == Executed::No => Meaning::Release,
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

/// What a write's head says of it (R7).
enum ByHead {
    Said(Observed),
    /// The rest is said when its content is there.
    Keyed(Keyed),
}

struct Keyed {
    principal: Principal,
    key: IdempotencyKey,
    lease: Option<LeaseId>,
    /// Room for its content.
    _held: Held,
}

/// What was said, and the record that was made for it.
type Judged = (Observed, Option<Made>);

impl Gate {
    /// Forwards a request as it came, and says what would have been decided.
    pub(super) async fn observe(
        self: &Arc<Self>,
        journey: &mut Journey,
        entry: &Entry,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        let is_read = entry.route.is_read(&request.method);
        let kind = if is_read { Kind::Read } else { Kind::Write };
        let by_head = if is_read { ByHead::Said(None) } else { self.by_head(journey, entry, &request) };
        let body = std::mem::replace(&mut request.body, Body::Empty);
        let (body, judged, comes) = match by_head {
            ByHead::Said(code) => (body, (code, None), None),
            ByHead::Keyed(keyed) => match admission::here(body, entry.route.limits.body).await? {
                Here::Whole(content) => {
                    let judged = self.judge(entry, &request, &keyed, &content).await;
                    (Body::Full(content), judged, None)
                }
                // It goes out as it comes, and what it says is known when it has.
                Here::Streams(body) => {
                    let (body, content) = Copied::of(body, entry.route.limits.body);
                    (body, (None, None), Some((content, keyed, request.without_body())))
                }
            },
        };
        let headers = forward::headers(&mut request);
        let (method, target) = (request.method.clone(), request.target.clone());
        let body_time = journey.rules.config.limits.body_time;
        let call = Call { kind, method, target, headers, body, body_time, total: None };
        let sends = self.send(journey, entry, call);
        let (answer, (observed, made)) = match comes {
            None => (sends.await, judged),
            Some((content, keyed, request)) => {
                let judges = async |content| match content {
                    Some(content) => self.judge(entry, &request, &keyed, &content).await,
                    None => (Some(too_large(entry)), None),
                };
                beside(sends, content, judges).await
            }
        };
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

    /// The checks of a write that its head is enough for, in the order of R7.
    fn by_head(&self, journey: &mut Journey, entry: &Entry, request: &Request) -> ByHead {
        let route = &entry.route;
        if route.methods.as_ref().is_some_and(|methods| !methods.contains(&request.method)) {
            return ByHead::Said(Some("method-not-allowed"));
        }
        let asked =
            identity::principal(&request.headers, &journey.rules.config.identity).and_then(|principal| {
                let key = idempotency::key(&request.headers, route.idempotency.required)?;
                version::required(&request.headers, &request.method, &route.version)?;
                let lease = route.leases.map(|_| lease::shown(&request.headers)).transpose()?;
                Ok((principal, key, lease.flatten()))
            });
        let (principal, key, lease) = match asked {
            Ok(asked) => asked,
            Err(reason) => return ByHead::Said(Some(reason.code())),
        };
        let known = request.body.known_length();
        if known.is_some_and(|length| length > route.limits.body as u64) {
            return ByHead::Said(Some(too_large(entry)));
        }
        let room = known.and_then(|length| usize::try_from(length).ok()).unwrap_or(route.limits.body);
        // Without room for a copy nothing can be said of its key: nothing waits for what is only observed.
        let Some((key, held)) = key.zip(self.buffers.try_take(room)) else { return ByHead::Said(None) };
        journey.story.key = Some(RecordId::new(Space::Observed, &principal, key.text()));
        ByHead::Keyed(Keyed { principal, key, lease, _held: held })
    }

    /// The checks that need the content, as far as they need no upstream.
    async fn judge(
        self: &Arc<Self>,
        entry: &Entry,
        request: &Request,
        keyed: &Keyed,
        content: &Bytes,
    ) -> Judged {
        let Keyed { principal, key, lease, .. } = keyed;
        let name = match route::resource(&entry.route, request, content) {
            Ok(name) => name,
            Err(reason) => return (Some(reason.code()), None),
        };
        let id = RecordId::new(Space::Observed, principal, key.text());
        let resource = ResourceId::new(&name);
        let (observed, made) = self.observed_claim(entry, request, id, name, content).await;
        let shown = Shown { principal, lease: *lease };
        match self.observed_lease(entry, shown, resource).await.filter(|_| observed.is_none()) {
            Some(code) => {
                if let Some(made) = made {
                    // It would have been refused, and its key free again.
                    made.end(Meaning::Release).await;
                }
                (Some(code), None)
            }
            None => (observed, made),
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
        id: RecordId,
        resource: Box<str>,
        content: &Bytes,
    ) -> Judged {
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

fn too_large(entry: &Entry) -> &'static str {
    Reason::BodyTooLarge { limit: entry.route.limits.body }.code()
}

/// Judges the content when all of it has gone by, while the upstream works on it. Nothing is said of content that its
/// upstream did not wait for, or that broke off.
async fn beside(
    sends: impl Future<Output = Result<Response, Refusal>>,
    mut content: oneshot::Receiver<Option<Bytes>>,
    judges: impl AsyncFnOnce(Option<Bytes>) -> Judged,
) -> (Result<Response, Refusal>, Judged) {
    let mut sends = std::pin::pin!(sends);
    let content = tokio::select! {
        // In this order: an answer to the whole request may be here as well.
        biased;
        content = &mut content => content,
        answer = sends.as_mut() => return (answer, (None, None)),
    };
    match content {
        Ok(content) => tokio::join!(sends, judges(content)),
        Err(_) => (sends.await, (None, None)),
    }
}
