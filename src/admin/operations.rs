//! What became of operations, and how an operator ends an unknown one (O4).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::problem;
use crate::agent_api::shown;
use crate::http::fields;
use crate::http::timestamp::{now, rfc3339};
use crate::protocol::record::{Phase, Record, RecordId, ResourceId, State as RecordState};
use crate::stack::{Gate, Terms};
use crate::store::{Answer, Before, Change, Encoded, Move, Resolution, Set};

/// Most rows of one listing.
pub(super) const MOST: usize = 1000;

#[derive(Deserialize)]
pub(super) struct Which {
    state: Option<String>,
}

/// `GET /operations?state=unknown`.
pub(super) async fn list(State(gate): State<Arc<Gate>>, Query(which): Query<Which>) -> Response {
    let phases: &[_] = match which.state.as_deref() {
        None => &[None],
        // A job that nobody runs, and a write that waits for its turn.
        Some("queued") => &[Some(Phase::Queued), Some(Phase::Claimed)],
        Some("running") => &[Some(Phase::Forwarded)],
        Some("done") => &[Some(Phase::Done)],
        Some("unknown") => &[Some(Phase::Unknown)],
        Some(_) => {
            return problem(StatusCode::BAD_REQUEST, "state is one of queued, running, done, unknown.");
        }
    };
    let mut found = Vec::new();
    for phase in phases {
        match gate.store.scan(*phase, MOST - found.len(), now()).await {
            Ok(more) => found.extend(more),
            Err(_) => return unavailable(),
        }
    }
    found.sort_by_key(|(_, record)| std::cmp::Reverse(record.started_at));
    let rows: Vec<_> = found.iter().map(|(id, record)| row(*id, record)).collect();
    Json(json!({"operations": rows})).into_response()
}

/// `GET /operations/{id}`, with what operators decided of it; that is known even when its key is free again.
pub(super) async fn show(State(gate): State<Arc<Gate>>, Path(id): Path<String>) -> Response {
    let Some(id) = RecordId::parse(&id) else { return nothing() };
    let (Ok(record), Ok(resolutions)) =
        (gate.store.read(id, now()).await, gate.store.resolutions(id, now()).await)
    else {
        return unavailable();
    };
    let mut members = match record {
        Some(record) => row(id, &record),
        None if resolutions.is_empty() => return nothing(),
        None => Map::from_iter([("id".into(), id.to_text().into()), ("state".into(), "released".into())]),
    };
    members.insert("resolutions".into(), resolutions.iter().map(resolved).collect());
    Json(Value::Object(members)).into_response()
}

fn resolved(resolution: &Resolution) -> Value {
    let decided = if resolution.executed { "executed" } else { "not-executed" };
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(resolution.at);
    json!({"as": decided, "who": resolution.who, "why": resolution.why, "at": rfc3339(at)})
}

fn row(id: RecordId, record: &Record) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("id".into(), id.to_text().into());
    members.extend(shown(record));
    if let RecordState::Unknown { mark: Some(mark), .. } | RecordState::Forwarded { mark: Some(mark), .. } =
        &record.state
    {
        if let Some(compared) = &mark.compared {
            let tag = compared.as_ref().map(|tag| tag.as_str());
            members.insert("compared_etag".into(), json!(tag));
        }
        if mark.fence != 0 {
            members.insert("fence".into(), mark.fence.into());
        }
    }
    members
}

async fn find(gate: &Gate, id: &str) -> Result<(RecordId, Record), Response> {
    let id = RecordId::parse(id).ok_or_else(nothing)?;
    let record = gate.store.read(id, now()).await.map_err(|_| unavailable())?;
    record.map(|record| (id, record)).ok_or_else(nothing)
}

fn nothing() -> Response {
    problem(StatusCode::NOT_FOUND, "There is no operation with this id, or it has expired.")
}

pub(super) fn unavailable() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "The store cannot be reached.")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolve {
    r#as: As,
    response: Option<Resolved>,
    who: String,
    why: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
enum As {
    Executed,
    NotExecuted,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolved {
    status: u16,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: Value,
}

/// `POST /operations/{id}/resolve`.
pub(super) async fn resolve(State(gate): State<Arc<Gate>>, Path(id): Path<String>, body: Bytes) -> Response {
    let resolution: Resolve = match serde_json::from_slice(&body) {
        Ok(resolution) => resolution,
        Err(error) => {
            return problem(StatusCode::BAD_REQUEST, &format!("The body is not a resolution: {error}."));
        }
    };
    if resolution.who.trim().is_empty() || resolution.why.trim().is_empty() {
        return problem(
            StatusCode::BAD_REQUEST,
            "who and why say who decided this and by what; neither is empty.",
        );
    }
    if resolution.r#as == As::NotExecuted && resolution.response.is_some() {
        return problem(StatusCode::BAD_REQUEST, "What was not executed has no response.");
    }
    let (id, record) = match find(&gate, &id).await {
        Ok(found) => found,
        Err(response) => return response,
    };
    if record.state.phase() != Phase::Unknown {
        return problem(
            StatusCode::CONFLICT,
            "This operation is not unknown; only an unknown one can be resolved.",
        );
    }
    match apply(&gate, id, &record, &resolution).await {
        Ok(true) => {
            let Resolve { who, why, .. } = &resolution;
            let route = record.route.as_ref();
            tracing::warn!(target: "onceward::operator", operation = id.to_text(), route, who, why,
                resolved_as = ?resolution.r#as, "an unknown operation was resolved");
            settled(&gate, id, &record).await;
            Json(json!({"id": id.to_text(), "resolved": true})).into_response()
        }
        Ok(false) => problem(StatusCode::CONFLICT, "This operation has changed meanwhile; look at it again."),
        Err(response) => response,
    }
}

async fn apply(gate: &Gate, id: RecordId, record: &Record, resolution: &Resolve) -> Result<bool, Response> {
    let rules = gate.rules.load_full();
    let at = now();
    let expires_at = at.saturating_add(Terms::of(&rules, record).ttl);
    let executed = resolution.r#as == As::Executed;
    let (set, answer) = if executed {
        let (status, answer) = answer(resolution.response.as_ref())?;
        let done = RecordState::Done { status: status.as_u16(), kept: true, completed_at: at, expires_at };
        (Set::State(done), Some(answer))
    } else {
        (Set::Remove, None)
    };
    let (who, why) = (resolution.who.clone(), resolution.why.clone());
    let resolution = Some(Resolution { id, executed, who, why, at, expires_at });
    let change = Change { answer, resolution, ..Change::new(id, record.owner, Before::Unknown, set) };
    gate.store.commit(change, at).await.map_err(|_| unavailable())
}

/// The answer that is replayed from now on; 204 without one.
fn answer(resolved: Option<&Resolved>) -> Result<(StatusCode, Encoded), Response> {
    let bad = |what: &str| problem(StatusCode::BAD_REQUEST, what);
    let Some(resolved) = resolved else {
        let status = StatusCode::NO_CONTENT;
        return Ok((status, Answer::encode(status, &axum::http::HeaderMap::new(), |_| true, b"")));
    };
    let status = StatusCode::from_u16(resolved.status).ok().filter(|status| status.as_u16() >= 200);
    let status = status.ok_or_else(|| bad("response.status is not the status of an answer."))?;
    let mut headers = axum::http::HeaderMap::new();
    for (name, value) in &resolved.headers {
        let name: HeaderName =
            name.parse().map_err(|_| bad("A name in response.headers is not a field name."))?;
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            let text = value.as_str().ok_or_else(|| bad("A value in response.headers is not a string."))?;
            let value = HeaderValue::from_str(text)
                .map_err(|_| bad("A value in response.headers is no field value."))?;
            headers.append(name.clone(), value);
        }
    }
    // The same that never comes from an upstream: fields of a connection, and Onceward's own.
    fields::strip_answer(&mut headers);
    let body = match &resolved.body {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            let json = HeaderValue::from_static("application/json");
            headers.entry(axum::http::header::CONTENT_TYPE).or_insert(json);
            other.to_string()
        }
    };
    Ok((status, Answer::encode(status, &headers, fields::is_kept, body.as_bytes())))
}

/// An operator's word ends the rest (Q5), and with it the second move of a minted version is due (V8).
async fn settled(gate: &Gate, id: RecordId, record: &Record) {
    let resource = ResourceId::new(&record.resource);
    let rules = gate.rules.load_full();
    // Elsewhere nothing moved when it became unknown, and a counter would be made that nobody reads.
    let to = if Terms::of(&rules, record).mints { gate.store.next_number().await.ok() } else { None };
    if let Some(to) = to {
        let moved = gate.store.move_version(Move { resource, to, later: None, ends_rest: true }, now()).await;
        if moved.is_err() {
            gate.metrics.store_errors.inc();
        }
    }
    match gate.store.shared() {
        None => gate.turns.end_rest(resource),
        Some(shared) => {
            if shared.end_rest(resource).await.is_err() {
                gate.metrics.store_errors.inc();
            }
        }
    }
    gate.keys.resolved(id);
}

#[derive(Deserialize)]
pub(super) struct Busy {
    #[serde(default)]
    busy: bool,
}

/// `GET /resources?busy=true`; on a shared store those of all instances, with who waits on this one.
pub(super) async fn resources(State(gate): State<Arc<Gate>>, Query(busy): Query<Busy>) -> Response {
    if !busy.busy {
        return problem(StatusCode::BAD_REQUEST, "Only busy resources are known: ask with ?busy=true.");
    }
    let here = gate.turns.busy(MOST);
    let row = |name: &str, in_flight: bool, waiting: usize, rest: Option<Duration>| {
        let rest = rest.map(|rest| rest.as_secs_f64());
        json!({"resource": name, "in_flight": in_flight, "waiting": waiting, "rest_seconds": rest})
    };
    let rows: Vec<Value> = match gate.store.shared() {
        None => {
            here.iter().map(|busy| row(&busy.resource, busy.in_flight, busy.waiting, busy.rest)).collect()
        }
        Some(shared) => match shared.busy(MOST).await {
            Ok(all) => all
                .iter()
                .map(|busy| {
                    let waiting =
                        here.iter().find(|one| *one.resource == *busy.name).map_or(0, |one| one.waiting);
                    row(&busy.name, busy.in_flight, waiting, busy.rest)
                })
                .collect(),
            Err(_) => return unavailable(),
        },
    };
    Json(json!({"resources": rows})).into_response()
}
