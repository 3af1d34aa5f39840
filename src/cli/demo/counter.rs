//! The demo's upstream: counters over HTTP, made like most such APIs, without a thought for two writers at once.
//!
//! - `GET /counters/{id}` answers `{"value": n}`, with the revision it was read at in `Demo-Revision`.
//! - `PUT /counters/{id}` sets `{"value": n}`; `Demo-Revision` says what `n` was computed from.
//! - `POST /counters/{id}/increments` reads the value, works for a moment, and writes it back plus one.
//!
//! It performs each request it gets, to the end, also if nobody waits for the answer any more. Revisions and
//! `Idempotency-Key` go into its [`Ledger`] and change nothing of what it does.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ledger::{Audit, Ledger};

/// On a read's answer its revision, on a write the revision that its value was computed from.
pub(crate) const REVISION: HeaderName = HeaderName::from_static("demo-revision");

/// How long an increment works between reading the value and writing it back.
const WORK: Duration = Duration::from_millis(2);
const MAX_BODY: usize = 1024;
/// How long [`CounterServer::quiet`] waits for connections that nobody closes.
const QUIET: Duration = Duration::from_secs(5);

/// A running counter upstream; it stops when dropped.
pub(crate) struct CounterServer {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

struct Counters {
    ledgers: Mutex<HashMap<String, Ledger>>,
    /// Every connection and every request at work.
    tasks: TaskTracker,
}

impl CounterServer {
    /// Counters of these names, at 0, on a free port of this machine.
    pub(crate) async fn start(names: &[&str]) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let ledgers = names.iter().map(|name| ((*name).to_owned(), Ledger::new(0))).collect();
        let counters = Arc::new(Counters { ledgers: Mutex::new(ledgers), tasks: TaskTracker::new() });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, Arc::clone(&counters))));
        Ok(Self { address, counters, stop })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until every connection is closed and every request performed, then asks the counter's ledger.
    pub(crate) async fn audit(&self, name: &str, done: &[String]) -> Result<Audit, String> {
        let tasks = &self.counters.tasks;
        tasks.close();
        let quiet = tokio::time::timeout(QUIET, tasks.wait()).await;
        tasks.reopen();
        quiet.map_err(|_| format!("the connections to the counter {name} did not end"))?;
        let ledgers = self.counters.ledgers.lock();
        ledgers.get(name).map(|ledger| ledger.audit(done)).ok_or(format!("there is no counter {name}"))
    }
}

impl Drop for CounterServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, counters: Arc<Counters>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let tasks = counters.tasks.clone();
                tasks.spawn(connection(stream, Arc::clone(&counters)));
            }
            // Out of descriptors, most likely: some come back when connections end.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(stream: TcpStream, counters: Arc<Counters>) {
    let service = service_fn(move |request| {
        let counters = Arc::clone(&counters);
        // A task of its own, because a connection that is closed takes its requests with it, and an API that
        // has begun does not stop for that.
        let work = counters.tasks.spawn(answer(request, Arc::clone(&counters)));
        async move {
            Ok::<_, Infallible>(
                work.await.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "broken")),
            )
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).half_close(true);
    // How a connection ends is the agent's business: the ledger says what was done.
    drop(stream.set_nodelay(true));
    drop(http.serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(request: Request<Incoming>, counters: Arc<Counters>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
        return text(StatusCode::BAD_REQUEST, "the body broke off or is too large");
    };
    let Some(target) = head.uri.path().strip_prefix("/counters/") else {
        return text(StatusCode::NOT_FOUND, "nothing here but /counters/");
    };
    let operation = field(&head.headers, "idempotency-key").unwrap_or_default();
    let done = match (head.method, target.strip_suffix("/increments")) {
        (Method::GET, None) => counters.read(target),
        (Method::PUT, None) => {
            let base = field(&head.headers, REVISION.as_str()).and_then(|base| base.parse().ok());
            match value(&body.to_bytes()) {
                Some(value) => counters.set(target, value, base, operation),
                None => return text(StatusCode::BAD_REQUEST, "send {\"value\": n}"),
            }
        }
        (Method::POST, Some(name)) => counters.increment(name, operation).await,
        _ => return text(StatusCode::METHOD_NOT_ALLOWED, "GET and PUT a counter, POST its increments"),
    };
    match done {
        Some((revision, value)) => counter(revision, value),
        None => text(StatusCode::NOT_FOUND, "no such counter"),
    }
}

/// Each gives the revision and the value the counter then has; `None`: there is no such counter.
impl Counters {
    fn read(&self, name: &str) -> Option<(usize, i64)> {
        self.ledgers.lock().get(name).map(Ledger::current)
    }

    fn set(&self, name: &str, value: i64, base: Option<usize>, operation: &str) -> Option<(usize, i64)> {
        let mut ledgers = self.ledgers.lock();
        let revision = ledgers.get_mut(name)?.write(value, base, operation);
        Some((revision, value))
    }

    /// Not atomic, which is the point: whoever increments in between is overwritten.
    async fn increment(&self, name: &str, operation: &str) -> Option<(usize, i64)> {
        let (revision, value) = self.read(name)?;
        tokio::time::sleep(WORK).await;
        self.set(name, value.saturating_add(1), Some(revision), operation)
    }
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn value(body: &[u8]) -> Option<i64> {
    serde_json::from_slice::<serde_json::Value>(body).ok()?.get("value")?.as_i64()
}

fn counter(revision: usize, value: i64) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(json!({ "value": value }).to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(REVISION, HeaderValue::from(revision));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
