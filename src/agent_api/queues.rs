//! `/.onceward/queues/{name}/`: tasks, one agent at a time (J2, J3).

mod ack;
mod claim;
mod put;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::operations::percent_decoded;
use crate::http::{Body, Reason, Refusal, Request, Response, fields};
use crate::policy::idempotency::{self, Ask, Claim, Entry, First};
use crate::policy::{admission, identity};
use crate::protocol::entity_tag::Preconditions;
use crate::protocol::fingerprint::{Fingerprint, Parts, fingerprint};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::{Principal, RecordId, Space};
use crate::queues::Queue;
use crate::stack::{Gate, Journey};
use crate::store::{Answer, Encoded};

/// What is asked of a queue.
pub(super) struct Asked {
    queue: String,
    what: What,
}

enum What {
    Claim,
    Put,
    Ack(String),
    Release(String),
    Extend(String),
}

impl Asked {
    /// By what follows `queues/`; `None`: there is nothing at this path.
    pub(super) fn of(queue: &str, rest: &[&str]) -> Option<Self> {
        let what = match rest {
            ["claim"] => What::Claim,
            ["tasks"] => What::Put,
            ["claims", claim, "ack"] => What::Ack((*claim).to_owned()),
            ["claims", claim, "release"] => What::Release((*claim).to_owned()),
            ["claims", claim, "extend"] => What::Extend((*claim).to_owned()),
            _ => return None,
        };
        Some(Self { queue: percent_decoded(queue)?, what })
    }
}

/// A request about a queue, read whole.
struct Read {
    gate: Arc<Gate>,
    queue: Arc<Queue>,
    principal: Principal,
    key: Option<IdempotencyKey>,
    headers: HeaderMap,
    body: Bytes,
    print: Fingerprint,
    path: Box<str>,
    peer: Arc<crate::http::request::Peer>,
    host: HeaderValue,
}

/// Answers it.
///
/// # Errors
/// 404 for a queue that there is not, 405, those of keys and bodies, and those of each place.
pub(super) async fn answer(
    gate: &Arc<Gate>,
    journey: &mut Journey,
    request: Request,
    asked: Asked,
) -> Result<Response, Refusal> {
    if gate.draining.load(Ordering::Acquire) {
        return Err(Reason::ShuttingDown.into());
    }
    let queues = gate.queues.load();
    let queue = queues.get(&asked.queue).map(Arc::clone).ok_or_else(|| {
        let name = crate::http::problem::quoted(&asked.queue);
        Reason::NotFound(format!("There is no queue {name}. Check its name for a spelling mistake."))
    })?;
    drop(queues);
    if matches!(asked.what, What::Put) && !queue.can_put() {
        let what =
            "Tasks cannot be put into this queue through Onceward. Put them where its tasks come from.";
        return Err(Reason::NotFound(what.to_owned()).into());
    }
    if request.method != Method::POST {
        let mut refusal = Refusal::from(Reason::MethodNotAllowed("POST".to_owned()));
        refusal.allow = Some("POST".to_owned());
        return Err(refusal);
    }
    let needs_key = matches!(asked.what, What::Claim | What::Put);
    let read = Read::of(gate, journey, request, queue, needs_key).await?;
    match asked.what {
        What::Claim => claim::claim(read, journey).await,
        What::Put => put::put(read, journey).await,
        What::Ack(claim) => ack::ack(read, journey, &claim).await,
        What::Release(claim) => ack::release(read, journey, &claim).await,
        What::Extend(claim) => ack::extend(read, journey, &claim).await,
    }
}

impl Read {
    /// In the order of R7.
    async fn of(
        gate: &Arc<Gate>,
        journey: &mut Journey,
        request: Request,
        queue: Arc<Queue>,
        needs_key: bool,
    ) -> Result<Self, Refusal> {
        let rules = Arc::clone(&journey.rules);
        let principal = identity::principal(&request.headers, &rules.config.identity)?;
        gate.metrics.principal(&principal);
        let key = idempotency::key(&request.headers, needs_key)?;
        let limit = queue.settings.max_body;
        let time = rules.config.limits.body_time;
        let (body, _held) = admission::whole(request.body, limit, time, &gate.buffers).await?;
        let parts = Parts {
            method: request.method.as_str(),
            path: request.target.path(),
            query: request.target.query(),
            content_type: request.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes),
            body: &body,
        };
        let print = fingerprint(queue.settings.idempotency.compare, &parts);
        let path: Box<str> = request.normal.as_str().into();
        let (headers, peer, host) = (request.headers, request.peer, request.host);
        Ok(Self { gate: Arc::clone(gate), queue, principal, key, headers, body, print, path, peer, host })
    }

    fn id(&self, key: &IdempotencyKey) -> RecordId {
        RecordId::new(Space::Enforced, &self.principal, key.text())
    }

    /// Claims the key, or meets the record that stands there; `None`: there is no key.
    async fn enter(&self, journey: &mut Journey) -> Result<Option<Entry>, Refusal> {
        let Some(key) = &self.key else { return Ok(None) };
        let id = self.id(key);
        journey.story.key = Some(id);
        let policy = &self.queue.settings.idempotency;
        let route: Arc<str> = format!("queue {}", self.queue.settings.name).into();
        let ask = Ask {
            id,
            fingerprint: self.print,
            route: &route,
            resource: &self.path,
            policy,
            wait_until: journey.budget.waits_until(policy.max_wait, Duration::ZERO),
            version_ends_unknown: None,
            gone: self.peer.gone.as_ref(),
            preconditions: &Preconditions::default(),
            rests: &|| false,
            outright: None,
            jobs: false,
        };
        let keys = &self.gate.keys;
        match keys.claim(&ask, keys.next_owner(), None).await.map_err(idempotency::refused)? {
            First::Claimed(claim, _) => Ok(Some(Entry::Run(claim))),
            First::Taken { standing, yours } => keys.meet(&ask, standing, yours).await.map(Some),
        }
    }

    /// What may run under the key; or the answer that is replayed.
    async fn run(&self, journey: &mut Journey) -> Result<Result<Option<Claim>, Response>, Refusal> {
        use crate::observe::Outcome;
        match self.enter(journey).await? {
            None => Ok(Ok(None)),
            Some(Entry::Run(claim) | Entry::Again(claim, _)) => {
                journey.story.outcome = Outcome::Executed;
                Ok(Ok(Some(claim)))
            }
            Some(Entry::Replayed(response)) => {
                journey.story.outcome = Outcome::Replayed;
                Ok(Err(response))
            }
            // A job's fingerprint is of another path.
            Some(Entry::Accepted) => Err(Reason::InternalError(crate::http::Executed::No).into()),
        }
    }

    /// The body's one JSON object; an empty body is one without members.
    fn object(&self, known: &[&str]) -> Result<serde_json::Map<String, serde_json::Value>, Refusal> {
        let bad = |what: String| Refusal::from(Reason::BadRequest(what));
        if self.body.is_empty() {
            return Ok(serde_json::Map::new());
        }
        let Ok(serde_json::Value::Object(members)) = serde_json::from_slice(&self.body) else {
            return Err(bad("The request's body is not a JSON object.".to_owned()));
        };
        match members.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(members),
            Some(unknown) => {
                let unknown = crate::http::problem::quoted(unknown);
                Err(bad(format!("The request's body has a member {unknown}, which is not known here.")))
            }
        }
    }
}

/// A JSON answer that no cache keeps.
fn answered(status: StatusCode, text: String) -> Response {
    let body = if text.is_empty() { Body::Empty } else { Body::text(text) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is kept of it (K9).
fn kept(response: &Response) -> Encoded {
    let body = match response.body() {
        Body::Full(bytes) => bytes.clone(),
        Body::Empty | Body::Incoming(_) | Body::Stream(_) | Body::Head(_) => Bytes::new(),
    };
    Answer::encode(response.status(), response.headers(), fields::is_kept, &body)
}
