//! What operators see: the names of all metrics (O2), the line of each request and its spans (O3).

mod exposition;
mod fill;
mod log;
mod metrics;
#[cfg(feature = "otlp")]
mod spans;
#[cfg(not(feature = "otlp"))]
#[path = "no_spans.rs"]
mod spans;

use std::time::{Duration, Instant};

pub use exposition::Exposition;
pub use fill::Fill;
pub use log::{Logging, Request, init, line, request_id};
pub use metrics::{Metrics, RouteMetrics};
pub use spans::{Open, Spans};

use http::{HeaderMap, Method};

use crate::protocol::record::RecordId;
use crate::protocol::trace_context::TraceContext;

/// How a request ended: one of them per request (O2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Executed,
    Replayed,
    InFlight,
    KeyReused,
    Stale,
    MissingKey,
    MissingPrecondition,
    QueuedOut,
    Leased,
    Unknown,
    Refused,
    Passed,
}

impl Outcome {
    pub const ALL: [Self; 12] = [
        Self::Executed,
        Self::Replayed,
        Self::InFlight,
        Self::KeyReused,
        Self::Stale,
        Self::MissingKey,
        Self::MissingPrecondition,
        Self::QueuedOut,
        Self::Leased,
        Self::Unknown,
        Self::Refused,
        Self::Passed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::Replayed => "replayed",
            Self::InFlight => "in_flight",
            Self::KeyReused => "key_reused",
            Self::Stale => "stale",
            Self::MissingKey => "missing_key",
            Self::MissingPrecondition => "missing_precondition",
            Self::QueuedOut => "queued_out",
            Self::Leased => "leased",
            Self::Unknown => "unknown",
            Self::Refused => "refused",
            Self::Passed => "passed",
        }
    }

    /// The outcome of a refusal with this code.
    pub fn of_code(code: &str) -> Self {
        match code {
            "in-flight" => Self::InFlight,
            "key-reused" => Self::KeyReused,
            "stale-version" => Self::Stale,
            "missing-idempotency-key" => Self::MissingKey,
            "missing-precondition" => Self::MissingPrecondition,
            "queue-full" | "queue-timeout" => Self::QueuedOut,
            "leased" | "lease-lost" => Self::Leased,
            "outcome-unknown" => Self::Unknown,
            _ => Self::Refused,
        }
    }
}

/// What is told of one request once it is over.
#[derive(Debug, Clone)]
pub struct Story {
    pub began: Instant,
    pub outcome: Outcome,
    pub code: Option<&'static str>,
    pub key: Option<RecordId>,
    pub upstream_status: Option<u16>,
    pub upstream_time: Duration,
    /// From the first call of the upstream to the end of the last.
    pub upstream_calls: Option<(Instant, Instant)>,
    pub waited: Duration,
}

impl Story {
    /// Of a request whose head was there then.
    pub fn new(began: Instant) -> Self {
        Self {
            began,
            outcome: Outcome::Passed,
            code: None,
            key: None,
            upstream_status: None,
            upstream_time: Duration::ZERO,
            upstream_calls: None,
            waited: Duration::ZERO,
        }
    }

    /// A call of the upstream is over that began then.
    pub fn called(&mut self, began: Instant) {
        let now = Instant::now();
        self.upstream_time += now - began;
        self.upstream_calls = Some((self.upstream_calls.map_or(began, |(first, _)| first), now));
    }
}

/// The trace that a request says it belongs to; one that says so twice belongs to none.
pub fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut lines = headers.get_all("traceparent").iter();
    let only = lines.next().filter(|_| lines.next().is_none())?;
    TraceContext::parse(only.as_bytes())
}

/// A method as a label: only registered ones, or an agent could make labels without end.
pub fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 21] = [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "REPORT",
        "SEARCH",
        "QUERY",
        "MKCALENDAR",
        "ACL",
    ];
    KNOWN.iter().find(|known| **known == method.as_str()).copied().unwrap_or("other")
}
