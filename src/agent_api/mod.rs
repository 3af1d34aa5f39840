//! `/.onceward/`: what agents ask of Onceward itself.

mod events;
mod leases;
mod operations;
mod own;
pub mod problems;
mod queues;

pub use operations::{shown, time};

use std::sync::Arc;

use http::{Method, StatusCode, header};

use crate::http::{Body, Reason, Refusal, Request, Response};
use crate::protocol::path::NormalPath;
use crate::stack::{Gate, Journey, Rules};

/// Whether a path is one of Onceward's own, however it is spelled (R1).
pub fn is_own(path: &NormalPath) -> bool {
    path.segments().next() == Some(".onceward")
}

/// Answers a request for one of them.
///
/// # Errors
/// 404 for what is not there, 405 for what is asked by another method, and those of the places themselves.
pub(crate) async fn answer(
    gate: &Arc<Gate>,
    rules: &Rules,
    journey: &mut Journey,
    request: Request,
) -> Result<Response, Refusal> {
    let segments: Vec<&str> = request.normal.segments().collect();
    match segments.as_slice() {
        [_, "events"] => events::stream(gate, rules, &request).await,
        [_, "problems", code] => read_only(&request).and_then(|()| problems::page(code)),
        [_, "operations", key] => {
            read_only(&request)?;
            operations::state(gate, rules, journey, &request, key).await
        }
        [_, "operations", key, "response"] => {
            read_only(&request)?;
            operations::response(gate, rules, journey, &request, key).await
        }
        [_, "leases"] => leases::all(gate, rules, journey, request).await,
        [_, "leases", token] => {
            let token = (*token).to_owned();
            leases::one(gate, rules, journey, request, &token).await
        }
        [_, "queues", name, rest @ ..] => {
            let asked = queues::Asked::of(name, rest).ok_or_else(|| not_found(&request))?;
            Box::pin(queues::answer(gate, journey, request, asked)).await
        }
        _ => Err(not_found(&request)),
    }
}

fn read_only(request: &Request) -> Result<(), Refusal> {
    only(request, &[Method::GET, Method::HEAD], "GET, HEAD")
}

/// Refuses every other method; `allow`: these, as the answer has them.
fn only(request: &Request, methods: &[Method], allow: &str) -> Result<(), Refusal> {
    if methods.contains(&request.method) {
        return Ok(());
    }
    Err(allowed(allow))
}

/// 405, with the methods that are there.
fn allowed(methods: &str) -> Refusal {
    let mut refusal = Refusal::from(Reason::MethodNotAllowed(methods.to_owned()));
    refusal.allow = Some(methods.to_owned());
    refusal
}

fn not_found(request: &Request) -> Refusal {
    let path = crate::http::problem::quoted(request.normal.as_str());
    Reason::NotFound(format!("Onceward has nothing at {path}. Check the path for a spelling mistake.")).into()
}

/// A JSON answer that no cache keeps.
fn json(value: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::text(value.to_string()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}
