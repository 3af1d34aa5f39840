//! Which resources are leased, and how an operator ends a lease whose holder does not (O4).

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operations::{MOST, unavailable};
use super::problem;
use crate::agent_api::time;
use crate::http::timestamp::{millis, now};
use crate::protocol::lease::{LeaseId, Standing, Told};
use crate::stack::Gate;
use crate::store::StoreError;

/// So often a lease that changes meanwhile is looked at again.
const TRIES: u32 = 20;

/// `GET /leases`: by ids that are not their tokens.
pub(super) async fn list(State(gate): State<Arc<Gate>>) -> Response {
    match gate.leases.all(MOST).await {
        Ok(mut held) => {
            held.sort_by_key(|standing| standing.left);
            let rows: Vec<_> = held.iter().map(row).collect();
            Json(json!({"leases": rows})).into_response()
        }
        Err(_) => unavailable(),
    }
}

fn row(standing: &Standing) -> Value {
    let lease = &standing.lease;
    let expires_at = time(now().saturating_add(millis(standing.left)));
    json!({"id": lease.id.to_text(), "resource": lease.resource, "fence": lease.fence, "expires_at": expires_at})
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Break {
    who: String,
    why: String,
}

/// `DELETE /leases/{id}`: its holder's next write is refused, and the next one may have it. Who breaks it and why stands in
/// its body, or in the query, as not every client sends a body with DELETE.
pub(super) async fn break_one(
    State(gate): State<Arc<Gate>>,
    Path(id): Path<String>,
    uri: Uri,
    body: Bytes,
) -> Response {
    let said = match body.is_empty() {
        true => Query::<Break>::try_from_uri(&uri).map(|Query(said)| said).map_err(|error| error.body_text()),
        false => serde_json::from_slice(&body).map_err(|error| error.to_string()),
    };
    let Break { who, why } = match said {
        Ok(said) => said,
        Err(error) => {
            let what = format!("Neither the body nor the query says who and why: {error}.");
            return problem(StatusCode::BAD_REQUEST, &what);
        }
    };
    if who.trim().is_empty() || why.trim().is_empty() {
        return problem(
            StatusCode::BAD_REQUEST,
            "who and why say who decided this and by what; neither is empty.",
        );
    }
    let broken = match LeaseId::parse(&id) {
        Some(id) => broken(&gate, id).await,
        None => Ok(None),
    };
    match broken {
        Ok(Some(standing)) => {
            let route = standing.lease.route.as_ref();
            tracing::warn!(target: "onceward::operator", lease = id, route, who, why, "a lease was broken");
            Json(json!({"id": id, "resource": standing.lease.resource, "broken": true})).into_response()
        }
        Ok(None) => problem(StatusCode::NOT_FOUND, "There is no lease with this id, or it has ended."),
        Err(_) => unavailable(),
    }
}

/// The lease that was ended; `None` where there is none.
async fn broken(gate: &Gate, id: LeaseId) -> Result<Option<Standing>, StoreError> {
    for _ in 0..TRIES {
        let Some(standing) = gate.leases.held(id).await? else { return Ok(None) };
        // Otherwise it was renewed just now, or ended.
        if gate.leases.end(&standing, Told::Broken).await? {
            return Ok(Some(standing));
        }
    }
    Err(StoreError::Unavailable)
}
