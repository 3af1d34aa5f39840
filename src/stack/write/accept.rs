//! A write that is answered before it runs (J1): stored sealed, then 202.

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::{Claimed, Write};
use crate::http::{Body, Reason, Refusal, Response, fields};
use crate::policy::idempotency::{Claim, Entry as Entered, With};
use crate::policy::jobs;
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::key::IdempotencyKey;
use crate::protocol::prefer::Prefer;

impl Write {
    /// Whether the agent asks to be answered before its write runs, and may.
    pub(super) fn wants_job(&self) -> bool {
        self.entry.route.takes_jobs
            && self.job.is_none()
            && self.besides.is_none()
            && self.request.method != Method::CONNECT
            && Prefer::parse(&fields::lines(&self.request.headers, &fields::PREFER)).respond_async
    }

    /// Makes a job of a write that may run: accepted means stored. Whether its end is to be waited for (W1).
    pub(super) async fn accept(
        &mut self,
        claimed: &Claimed,
        claim: Claim,
        content: &[u8],
    ) -> Result<bool, Refusal> {
        let id = claim.id;
        let refused = |reason: Reason| Refusal::from(reason).about(id.to_text());
        let gate = std::sync::Arc::clone(&self.gate);
        let room = match gate.jobs.room(self.rules.config.jobs.max_waiting) {
            Ok(room) => room,
            Err(reason) => {
                claim.give_up(With::default()).await;
                return Err(refused(reason));
            }
        };
        let order = match gate.store.next_number().await {
            Ok(order) => order,
            Err(_) => {
                claim.give_up(With::default()).await;
                return Err(refused(Reason::StoreUnavailable));
            }
        };
        let job = jobs::job(id, claimed.resource, order);
        let stamp = gate.keys.next_owner();
        let asked = (&self.request, content);
        let Some(put) = gate.jobs.sealed(&job, asked, &self.principal, &self.entry.route.name, stamp) else {
            claim.give_up(With::default()).await;
            return Err(refused(Reason::InternalError(crate::http::Executed::No)));
        };
        // An agent that leaves meanwhile would leave a job behind that nobody knows of.
        self.must_finish.set();
        claim.queue(put, jobs::gone(id, stamp)).await.map_err(refused)?;
        match gate.store.shared() {
            // It is found with all that were accepted before it, wherever, so that none of its resource is overtaken.
            Some(_) => drop(room),
            None => room.taken_by(job),
        }
        gate.bells.ring(jobs::TOPIC);
        let bound = self.entry.route.idempotency.max_wait;
        Ok(self.budget.waits_until(bound, std::time::Duration::ZERO).is_some())
    }

    /// Waits for the end of what was just accepted. That is stored, whatever the store says now.
    pub(super) async fn wait_for_job(
        &mut self,
        key: &IdempotencyKey,
        print: Fingerprint,
        claimed: &mut Claimed,
    ) -> Result<Option<Entered>, Refusal> {
        match Box::pin(self.enter(key, print, claimed)).await {
            Ok(Some(entered)) => Ok(Some(entered)),
            // Where writes pass a failed store (S4) this one must not: it will run.
            Ok(None) => Ok(Some(Entered::Accepted)),
            Err(refusal) if matches!(refusal.reason, Reason::StoreUnavailable | Reason::StoreFull) => {
                Ok(Some(Entered::Accepted))
            }
            Err(refusal) => Err(refusal),
        }
    }
}

/// The answer to a write whose end is open, the same for every try.
pub(super) fn accepted(key: &IdempotencyKey) -> Response {
    let place = format!("/.onceward/operations/{}", percent_encoded(key.text()));
    let detail = format!("The write is accepted and will run. Read {place} to see what becomes of it.");
    let text = json!({ "operation": place, "detail": detail }).to_string();
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(fields::PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    if let Some(place) = fields::value(&place) {
        headers.insert(header::LOCATION, place);
    }
    response
}

/// A key as a segment of a path.
fn percent_encoded(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
