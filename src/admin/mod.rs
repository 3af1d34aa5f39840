//! The second listener: health, metrics, configuration and what only an operator may do (O1, O4).

mod leases;
mod operations;
mod queues;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::config::shown;
use crate::observe::Exposition;
use crate::stack::Gate;

/// Serves the admin listener until it is stopped.
pub async fn serve(listener: TcpListener, gate: Arc<Gate>) {
    let local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let router = router(gate, local);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an operator's connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        let router = router.clone();
        // An operator's connection may end at any moment; nothing that must be finished runs on it.
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    router.clone().oneshot(request.map(axum::body::Body::new))
                });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new());
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(error, "an operator's connection ended early");
            }
        });
    }
}

fn router(gate: Arc<Gate>, local: bool) -> Router {
    let guarded = Arc::clone(&gate);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/config", get(config))
        .route("/operations", get(operations::list))
        .route("/operations/{id}", get(operations::show))
        .route("/operations/{id}/resolve", post(operations::resolve))
        .route("/leases", get(leases::list))
        .route("/leases/{id}", delete(leases::break_one))
        .route("/resources", get(operations::resources))
        .route("/queues/{name}/dead", get(queues::dead))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "There is nothing at this path.") })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed at this path.")
        })
        .layer(middleware::from_fn(move |request, next| {
            authorized(Arc::clone(&guarded), local, request, next)
        }))
        .with_state(gate)
}

/// O4: away from loopback what changes something needs the token.
async fn authorized(gate: Arc<Gate>, local: bool, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if local || !changes {
        return next.run(request).await;
    }
    let rules = gate.rules.load_full();
    let Some(token) = &rules.config.server.admin_token else {
        return problem(
            StatusCode::FORBIDDEN,
            "Away from loopback this needs server.admin_token, which is not set.",
        );
    };
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Digests, so that the time of comparing says nothing of the token.
    if blake3::hash(sent.as_bytes()) != blake3::hash(token.expose().as_bytes()) {
        return problem(
            StatusCode::UNAUTHORIZED,
            "This needs Authorization: Bearer with server.admin_token.",
        );
    }
    next.run(request).await
}

/// A problem of the admin listener's own (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let mut response = (status, Json(body)).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, axum::http::HeaderValue::from_static("application/problem+json"));
    response
}

async fn ready(State(gate): State<Arc<Gate>>) -> Response {
    if gate.draining.load(Ordering::Acquire) {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "Onceward is shutting down.");
    }
    match gate.store.reach().await {
        Ok(_) => "ready\n".into_response(),
        Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "The store cannot be reached."),
    }
}

async fn metrics(State(gate): State<Arc<Gate>>, headers: HeaderMap) -> Response {
    // Of a store that cannot be reached the last is told.
    let (unknown, fill) = (gate.store.unknown().await.ok(), gate.store.fill_ratio().await.ok());
    let text = gate.metrics.text(gate.turns.waiting() + gate.leases.waiting(), unknown, fill);
    let asked = Exposition::of(&headers);
    ([(header::CONTENT_TYPE, asked.content_type())], asked.spell(text)).into_response()
}

async fn config(State(gate): State<Arc<Gate>>) -> Response {
    Json(shown(&gate.rules.load().config)).into_response()
}
