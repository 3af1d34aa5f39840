//! `/.onceward/operations/{key}`: what became of a write (K17).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::json as answer_json;
use crate::config::checked::OnUnknown;
use crate::http::{Reason, Refusal, Request, Response};
use crate::observe::Outcome;
use crate::policy::identity;
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::{Millis, Record, RecordId, Space, State};
use crate::stack::{Gate, Journey, Rules};

/// `GET /.onceward/operations/{key}`; waits for the end by `Prefer: wait`.
pub(super) async fn state(
    gate: &Arc<Gate>,
    rules: &Rules,
    journey: &mut Journey,
    request: &Request,
    key: &str,
) -> Result<Response, Refusal> {
    let id = id(rules, request, key)?;
    let record = ended(gate, rules, journey, id).await?;
    Ok(answer_json(&Value::Object(shown(&record))))
}

/// `GET /.onceward/operations/{key}/response`: the recorded answer itself.
pub(super) async fn response(
    gate: &Arc<Gate>,
    rules: &Rules,
    journey: &mut Journey,
    request: &Request,
    key: &str,
) -> Result<Response, Refusal> {
    let id = id(rules, request, key)?;
    let record = ended(gate, rules, journey, id).await?;
    journey.story.outcome = Outcome::Replayed;
    // What is refused here is said of the write, not of the request that asks for its answer.
    journey.about = Some(("write to", record.resource.clone()));
    // As the write's own answer named it (R5).
    journey.resource = Some(record.resource.clone());
    let route = rules.route(&record.route);
    let on_unknown = route.map_or(OnUnknown::Hold, |route| route.idempotency.on_unknown);
    gate.keys.recorded(id, &record, on_unknown).await
}

/// The record's id: the principal's own key, percent-decoded, without quotes (I2).
fn id(rules: &Rules, request: &Request, key: &str) -> Result<RecordId, Refusal> {
    let principal = identity::principal(&request.headers, &rules.config.identity)?;
    let text = percent_decoded(key).ok_or_else(nothing)?;
    let key = IdempotencyKey::from_text(&text, true).map_err(|_| nothing())?;
    Ok(RecordId::new(Space::Enforced, &principal, key.text()))
}

fn nothing() -> Refusal {
    Reason::NotFound(
        "No operation is known under this Idempotency-Key, or it has expired. Check the key, and the credentials \
         that it was first sent with."
            .to_owned(),
    )
    .into()
}

/// The record, after waiting for its end as long as the agent asked.
async fn ended(gate: &Gate, rules: &Rules, journey: &mut Journey, id: RecordId) -> Result<Record, Refusal> {
    let bound = rules.config.routes.iter().map(|route| route.idempotency.max_wait).max().unwrap_or_default();
    journey.wait_bound = Some(bound);
    let until: Instant = journey.budget.until(bound, Duration::ZERO);
    let record = gate.keys.watch(id, until).await.map_err(|_| Reason::StoreUnavailable)?;
    record.ok_or_else(nothing)
}

pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match (first, behind) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest = after;
            }
            (plain, _) => bytes.push(*plain),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A record as agents and operators see it.
pub fn shown(record: &Record) -> serde_json::Map<String, Value> {
    let mut members = serde_json::Map::new();
    let (state, status, completed) = match &record.state {
        State::Claimed | State::Queued => ("queued", None, None),
        State::Forwarded { status, .. } => ("running", *status, None),
        State::Done { status, completed_at, .. } => ("done", Some(*status), Some(*completed_at)),
        State::Unknown { since, .. } => ("unknown", None, Some(*since)),
    };
    members.insert("state".into(), state.into());
    if let Some(status) = status {
        members.insert("status".into(), status.into());
    }
    members.insert("started_at".into(), time(record.started_at));
    if let Some(at) = completed {
        members.insert("completed_at".into(), time(at));
    }
    if let Some(at) = record.state.expires_at() {
        members.insert("expires_at".into(), time(at));
    }
    members.insert("route".into(), json!(record.route.as_ref()));
    members.insert("resource".into(), json!(record.resource.as_ref()));
    members
}

/// A time as RFC 3339 has it, in UTC with milliseconds.
pub fn time(at: Millis) -> Value {
    let rounded = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
    Value::String(crate::http::timestamp::rfc3339(rounded))
}
