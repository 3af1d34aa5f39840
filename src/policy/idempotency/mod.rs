//! One write, one key: the first request runs, every other gets its answer (section K).
//!
//! 1. `key`: a key where one is required (K1, K2);
//! 2. `Keys::claim`: claim it, or `Keys::meet` the record that stands there (K5–K7, K10–K12);
//! 3. `Claim`: the one right to run, whose end is recorded whatever happens to its holder (K4, K8).

mod claim;
mod enter;
mod jobs;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio_util::task::TaskTracker;

use crate::config::checked::{On5xx, OnUnknown};
use crate::http::refusal::Unknown;
use crate::http::timestamp::http_date;
use crate::http::{Body, Reason, Response, fields};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::{Mark, Millis, Owner, ServerErrors};
use crate::store::{Answer, Bells, Store};

pub use claim::{Claim, Ended, NotRecorded, With};
pub use enter::{Ask, Entry, First, Rerun, refused, unavailable};
use waiting::Waiting;

/// The records of all keys.
pub struct Keys {
    store: Arc<dyn Store>,
    waiting: Waiting,
    bells: Arc<Bells>,
    owners: AtomicU64,
    /// Steps that must outlive whoever began them.
    tasks: TaskTracker,
}

impl Keys {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>, bells: Arc<Bells>, tasks: TaskTracker) -> Arc<Self> {
        let owners = AtomicU64::new(fastrand::u64(..) >> 1);
        Arc::new(Self { store, waiting: Waiting::default(), bells, owners, tasks })
    }

    /// Names an execution, and the turn that it takes.
    pub fn next_owner(&self) -> Owner {
        Owner(self.owners.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends the wait of all who wait for the end of this record: an operator resolved it, or it ended elsewhere.
    pub fn resolved(&self, id: crate::protocol::record::RecordId) {
        self.waiting.wake_all(id);
    }

    /// Lets all who wait look for themselves: word of an end may have been missed.
    pub fn all_look(&self) {
        self.waiting.wake_everybody();
    }
}

/// The key of a write (K1, K2).
///
/// # Errors
/// 400 where it is malformed, or missing and required.
pub fn key(headers: &HeaderMap, required: bool) -> Result<Option<IdempotencyKey>, Reason> {
    let lines = fields::lines(headers, &fields::IDEMPOTENCY_KEY);
    if lines.is_empty() {
        return if required { Err(Reason::MissingKey) } else { Ok(None) };
    }
    IdempotencyKey::parse(&lines).map(Some).map_err(|problem| Reason::InvalidKey(problem.to_string()))
}

/// What `on_5xx` says, in the words of the rules.
pub fn server_errors(policy: On5xx) -> ServerErrors {
    match policy {
        On5xx::Keep => ServerErrors::Keep,
        On5xx::Release => ServerErrors::Release,
        On5xx::Hold => ServerErrors::Hold,
    }
}

/// What can be done about an unknown outcome, by the policy and by what was marked (K12, P5).
pub fn unknown(policy: OnUnknown, mark: Option<&Mark>) -> Unknown {
    if policy == OnUnknown::Rerun {
        return Unknown::Rerun;
    }
    match mark {
        Some(mark) if mark.compared.is_some() || mark.forwarded.is_some() => Unknown::Compared,
        Some(_) | None => Unknown::Held,
    }
}

/// The recorded answer, again (K7).
pub fn replay(answer: Answer, expires_at: Millis) -> Response {
    let Answer { status, headers, body } = answer;
    let mut response = Response::new(Body::Full(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().insert(fields::IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    set_expires(&mut response, expires_at);
    response
}

/// `Idempotency-Expires`, rounded down to the second (K7).
pub fn set_expires(response: &mut Response, expires_at: Millis) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(http_date(expires_at / 1000))) {
        response.headers_mut().insert(fields::IDEMPOTENCY_EXPIRES, value);
    }
}
