//! Requests that change something of Onceward's own: under a key as any write is, and never forwarded.
//!
//! Such a record goes from claimed to done in the one commit that does what was asked for, so a lost answer is
//! replayed and a crash leaves the key free.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;

use crate::config::checked::InFlight;
use crate::http::timestamp::now;
use crate::http::{Body, Executed, Reason, Refusal, Request, Response, fields};
use crate::observe::Outcome;
use crate::policy::admission::{self, Held};
use crate::policy::idempotency::{self, Ask, Claim, Entry, First, With};
use crate::protocol::entity_tag::Preconditions;
use crate::protocol::fingerprint::{Parts, fingerprint};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::{Principal, RecordId, Space};
use crate::stack::{Gate, Journey, Rules};
use crate::store::{Answer, StoreError, Swap};

/// The largest body: a resource's name and a little more.
const MOST: usize = 64 * 1024;

/// So often something is tried again that others change at the same time.
pub(super) const TRIES: u32 = 20;

/// 503, as for every write.
pub(super) fn unavailable(error: StoreError) -> Reason {
    match error {
        StoreError::Unavailable | StoreError::Unreached => Reason::StoreUnavailable,
        StoreError::Full => Reason::StoreFull,
    }
}

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

/// The content of a request, whole (F3), with its share of `limits.buffered`.
pub(super) async fn content(
    gate: &Gate,
    rules: &Rules,
    request: &mut Request,
) -> Result<(Bytes, Option<Held>), Refusal> {
    let body = std::mem::replace(&mut request.body, Body::Empty);
    Ok(admission::whole(body, MOST, rules.config.limits.body_time, &gate.buffers).await?)
}

/// K5 to K7, by what the top of the configuration says of keys.
pub(super) async fn enter(
    gate: &Arc<Gate>,
    journey: &mut Journey,
    request: &Request,
    (principal, key): (&Principal, &IdempotencyKey),
    (place, resource, content): (&'static str, &str, &[u8]),
) -> Result<Entered, Refusal> {
    let rules = Arc::clone(&journey.rules);
    let policy = &rules.config.own;
    let id = RecordId::new(Space::Enforced, principal, key.text());
    journey.story.key = Some(id);
    let parts = Parts {
        method: request.method.as_str(),
        path: request.target.path(),
        query: request.target.query(),
        content_type: request.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes),
        body: content,
    };
    let unasked = if policy.in_flight == InFlight::Wait { policy.max_wait } else { Duration::ZERO };
    let ask = Ask {
        id,
        fingerprint: fingerprint(policy.compare, &parts),
        route: &Arc::from(place),
        resource,
        policy,
        wait_until: journey.budget.waits_until(policy.max_wait, unasked),
        version_ends_unknown: None,
        gone: request.peer.gone.as_ref(),
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
        // What is never forwarded is never unknown.
        Entry::Again(claim, _) => {
            claim.give_up(With::default()).await;
            Err(Reason::InternalError(Executed::No).into())
        }
        // A job's fingerprint is of another path.
        Entry::Accepted => Err(Reason::InternalError(Executed::No).into()),
    }
}

impl Made {
    fn response(&self) -> (Response, String) {
        let text = self.content.as_ref().map(Value::to_string).unwrap_or_default();
        let body = if text.is_empty() { Body::Empty } else { Body::text(text.clone()) };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !text.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (response, text)
    }

    /// Commits what it tells, with the request's record where it has one. `None`: something else stands in the cells
    /// by now, or the record is another's.
    pub(super) async fn commit(
        &self,
        gate: &Gate,
        claim: Option<&mut Claim>,
        with: With,
    ) -> Result<Option<Response>, StoreError> {
        let (mut response, text) = self.response();
        let Some(claim) = claim else {
            let With { cells, event, .. } = with;
            if cells.is_empty() {
                return Ok(Some(response));
            }
            let told = cells.clone();
            if !gate.store.swap(Swap { puts: cells, event, turn: None }, now()).await? {
                return Ok(None);
            }
            gate.bells.ring_for(&told);
            return Ok(Some(response));
        };
        let answer = Answer::encode(self.status, response.headers(), fields::is_kept, text.as_bytes());
        let ended = claim.end_where(self.status.as_u16(), answer, with).await?;
        Ok(ended.map(|expires_at| {
            idempotency::set_expires(&mut response, expires_at);
            response
        }))
    }
}
