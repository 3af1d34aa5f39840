//! Requests that change something of Onceward's own, leases and claims of tasks: under a key as any write is.
//!
//! Where nothing but the store is asked, such a record goes from claimed to done in the one commit that does what was
//! asked for, so a lost answer is replayed and a crash leaves the key free.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;

use crate::config::checked::{Idempotency, InFlight};
use crate::http::request::Gone;
use crate::http::timestamp::now;
use crate::http::{Body, Executed, Reason, Refusal, Request, Response, fields};
use crate::observe::Outcome;
use crate::policy::admission::{self, Held};
use crate::policy::idempotency::{self, Ask, Claim, Ended, Entry, First, NotRecorded, With};
use crate::protocol::entity_tag::Preconditions;
use crate::protocol::fingerprint::{Fingerprint, Parts, fingerprint};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::{Principal, RecordId, Space};
use crate::stack::{Gate, Journey, Rules};
use crate::store::{Answer, Encoded, StoreError, Swap};

/// So often something is tried again that others change at the same time.
pub(super) const TRIES: u32 = 20;

/// What becomes of a request that has a key.
pub(super) enum Entered {
    Run(Claim),
    /// Its first run was before (K7).
    Replayed(Response),
}

/// An answer of Onceward's own.
pub(super) struct Made {
    pub(super) status: StatusCode,
    /// `None`: without content.
    pub(super) content: Option<Value>,
}

/// A request under a key, and what its record says of it.
pub(super) struct Keyed<'a> {
    pub(super) principal: &'a Principal,
    pub(super) key: &'a IdempotencyKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) policy: &'a Idempotency,
    /// Stands in its record where other records name their route.
    pub(super) place: &'a str,
    pub(super) resource: &'a str,
    pub(super) gone: &'a dyn Gone,
}

/// The content of a request, whole (F3), with its share of `limits.buffered`.
pub(super) async fn content(
    gate: &Gate,
    rules: &Rules,
    request: &mut Request,
    most: usize,
) -> Result<(Bytes, Option<Held>), Refusal> {
    let body = std::mem::replace(&mut request.body, Body::Empty);
    Ok(admission::whole(body, most, rules.config.limits.body_time, &gate.buffers).await?)
}

/// K3, as for a write.
pub(super) fn print(request: &Request, content: &[u8], policy: &Idempotency) -> Fingerprint {
    let parts = Parts {
        method: request.method.as_str(),
        path: request.target.path(),
        query: request.target.query(),
        content_type: request.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes),
        body: content,
    };
    fingerprint(policy.compare, &parts)
}

/// K5 to K7.
pub(super) async fn enter(
    gate: &Arc<Gate>,
    journey: &mut Journey,
    keyed: Keyed<'_>,
) -> Result<Entered, Refusal> {
    let policy = keyed.policy;
    let id = RecordId::new(Space::Enforced, keyed.principal, keyed.key.text());
    journey.story.key = Some(id);
    let unasked = if policy.in_flight == InFlight::Wait { policy.max_wait } else { Duration::ZERO };
    let ask = Ask {
        id,
        fingerprint: keyed.fingerprint,
        route: &Arc::from(keyed.place),
        resource: keyed.resource,
        policy,
        wait_until: journey.budget.waits_until(policy.max_wait, unasked),
        version_ends_unknown: None,
        gone: keyed.gone,
        preconditions: &Preconditions::default(),
        rests: &|| false,
        outright: None,
        jobs: false,
    };
    journey.wait_bound = Some(policy.max_wait);
    let began = Instant::now();
    let first = gate.keys.claim(&ask, gate.keys.next_owner(), None).await.map_err(idempotency::refused)?;
    let entry = match first {
        First::Claimed(claim, _) => Ok(Entry::Run(claim)),
        First::Taken { standing, yours } => gate.keys.meet(&ask, standing, yours).await,
    };
    journey.story.waited += began.elapsed();
    match entry? {
        Entry::Run(claim) => Ok(Entered::Run(claim)),
        Entry::Replayed(response) => {
            journey.story.outcome = Outcome::Replayed;
            Ok(Entered::Replayed(response))
        }
        // No version tells what became of it (K12): what is unknown holds.
        Entry::Again(claim, _) => {
            claim.give_up(With::default()).await;
            Err(Reason::InternalError(Executed::No).into())
        }
        // A job's fingerprint is of another path.
        Entry::Accepted => Err(Reason::InternalError(Executed::No).into()),
    }
}

/// An answer that no cache keeps: JSON, or nothing.
pub(super) fn answered(status: StatusCode, text: String) -> Response {
    let has_content = !text.is_empty();
    let mut response = Response::new(if has_content { Body::text(text) } else { Body::Empty });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_content {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What is kept of it (K9).
pub(super) fn kept(response: &Response) -> Encoded {
    let body = match response.body() {
        Body::Full(bytes) => bytes.clone(),
        Body::Empty | Body::Incoming(_) | Body::Stream(_) | Body::Head(_) => Bytes::new(),
    };
    Answer::encode(response.status(), response.headers(), fields::is_kept, &body)
}

impl Made {
    /// Commits what it tells, with the request's record where it has one. `None`: something else stands in the cells
    /// by now, or the record is another's.
    pub(super) async fn commit(
        &self,
        gate: &Gate,
        claim: Option<&mut Claim>,
        with: With,
    ) -> Result<Option<Response>, StoreError> {
        let text = self.content.as_ref().map(Value::to_string).unwrap_or_default();
        let mut response = answered(self.status, text);
        let Some(claim) = claim else {
            let With { cells, event, .. } = with;
            let swap = Swap { puts: cells, event, turn: None };
            let done = swap.puts.is_empty() || gate.bells.swap(&*gate.store, swap, now()).await?;
            return Ok(done.then_some(response));
        };
        let ended = Ended::Done { status: self.status.as_u16(), answer: Some(kept(&response)) };
        match claim.end(ended, with).await {
            Ok(expires_at) => {
                idempotency::set_expires(&mut response, expires_at);
                Ok(Some(response))
            }
            Err(NotRecorded::Lost) => Ok(None),
            Err(NotRecorded::Store(error)) => Err(error),
        }
    }
}
