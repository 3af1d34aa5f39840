//! Tasks that were given up, where their queue has no other place for them (J3).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem;
use crate::stack::Gate;

/// Most cells that are looked at.
const MOST: usize = 10_000;

/// `GET /queues/{name}/dead`.
pub(super) async fn dead(State(gate): State<Arc<Gate>>, Path(name): Path<String>) -> Response {
    let Some(queue) = gate.queues.load().get(&name).map(Arc::clone) else {
        return problem(StatusCode::NOT_FOUND, "There is no queue of this name.");
    };
    match queue.dead(MOST).await {
        Ok(dead) => {
            // Each task is JSON already, in its own spelling.
            let rows =
                dead.iter().map(|(task, attempt)| format!("{{\"task\":{task},\"attempt\":{attempt}}}"));
            let text = format!("{{\"tasks\":[{}]}}", rows.collect::<Vec<_>>().join(","));
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "The store cannot be asked."),
    }
}
