//! What operators see: the names of all metrics (O2), and the line of each request (O3).

mod log;
mod metrics;

use std::time::{Duration, Instant};

pub use log::{Request, init, line, request_id};
pub use metrics::{Metrics, RouteMetrics};

use crate::protocol::record::RecordId;

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
    pub waited: Duration,
}

impl Default for Story {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            outcome: Outcome::Passed,
            code: None,
            key: None,
            upstream_status: None,
            upstream_time: Duration::ZERO,
            waited: Duration::ZERO,
        }
    }
}
