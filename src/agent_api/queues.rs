//! `/.onceward/queues/{name}/`: tasks, one agent at a time (J2, J3).

mod ack;
mod claim;
mod put;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use super::operations::percent_decoded;
use super::own;
use crate::http::{Reason, Refusal, Request, Response};
use crate::observe::Outcome;
use crate::policy::idempotency::{self, Claim};
use crate::policy::identity;
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::{Principal, RecordId, Space};
use crate::queues::Queue;
use crate::stack::{Gate, Journey};

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
        mut request: Request,
        queue: Arc<Queue>,
        needs_key: bool,
    ) -> Result<Self, Refusal> {
        let rules = Arc::clone(&journey.rules);
        let principal = identity::principal(&request.headers, &rules.config.identity)?;
        gate.metrics.principal(&principal);
        let key = idempotency::key(&request.headers, needs_key)?;
        let (body, _held) = own::content(gate, &rules, &mut request, queue.settings.max_body).await?;
        let print = own::print(&request, &body, &queue.settings.idempotency);
        let path: Box<str> = request.normal.as_str().into();
        let (headers, peer, host) = (request.headers, request.peer, request.host);
        Ok(Self { gate: Arc::clone(gate), queue, principal, key, headers, body, print, path, peer, host })
    }

    fn id(&self, key: &IdempotencyKey) -> RecordId {
        RecordId::new(Space::Enforced, &self.principal, key.text())
    }

    /// What may run, with its claim where there is a key; or the answer that is replayed.
    async fn run(&self, journey: &mut Journey) -> Result<Result<Option<Claim>, Response>, Refusal> {
        let Some(key) = &self.key else { return Ok(Ok(None)) };
        let keyed = own::Keyed {
            principal: &self.principal,
            key,
            fingerprint: self.print,
            policy: &self.queue.settings.idempotency,
            place: &format!("queue {}", self.queue.settings.name),
            resource: &self.path,
            gone: self.peer.gone.as_ref(),
        };
        Ok(match own::enter(&self.gate, journey, keyed).await? {
            own::Entered::Run(claim) => {
                journey.story.outcome = Outcome::Executed;
                Ok(Some(claim))
            }
            own::Entered::Replayed(response) => Err(response),
        })
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
