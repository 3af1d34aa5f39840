//! Every refusal of Onceward's own, as one closed enum (P5).
//!
//! A [`Reason`] holds what its sentence needs to know; code, status, `executed` and `retry` are total functions of
//! it, so that no place in the code can pair them differently. How it is written out is in `problem`.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use crate::protocol::entity_tag::EntityTag;

/// A refusal with what is known of the request it refuses.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub reason: Reason,
    pub route: Option<Arc<str>>,
    pub resource: Option<Box<str>>,
    /// The operator's id of the record that it is about.
    pub operation: Option<String>,
    /// Fields beside the problem itself, such as `Allow`.
    pub allow: Option<String>,
    /// It is the answer that is kept under its key (J1): another try needs another key.
    pub kept: bool,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, route: None, resource: None, operation: None, allow: None, kept: false }
    }
}

impl Refusal {
    /// What to do next: not under a key that keeps this answer.
    pub fn retry(&self) -> Retry {
        let retry = self.reason.retry();
        if self.kept && retry == Retry::SameKey { Retry::NewKey } else { retry }
    }

    /// As [`Reason::retry_after`].
    pub fn retry_after(&self) -> Option<u64> {
        if self.kept { None } else { self.reason.retry_after() }
    }

    /// Says which record the refusal is about (P1).
    #[must_use]
    pub fn about(mut self, operation: String) -> Self {
        self.operation = Some(operation);
        self
    }
}

/// Whether the write had an effect (P1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    No,
    Yes,
    Pending,
    Unknown,
}

impl Executed {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Yes => "yes",
            Self::Pending => "pending",
            Self::Unknown => "unknown",
        }
    }
}

/// What an agent should do next (P2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    SameKey,
    NewKey,
    AfterReread,
    AfterFixing,
    AskOperator,
}

impl Retry {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SameKey => "same-key",
            Self::NewKey => "new-key",
            Self::AfterReread => "after-reread",
            Self::AfterFixing => "after-fixing",
            Self::AskOperator => "ask-operator",
        }
    }
}

/// What makes an unknown outcome end (K12), as far as the agent can do something about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Nothing was compared: only an operator can tell.
    Held,
    /// The write carried a version that was compared here or forwarded.
    Compared,
    /// The same, and the version was looked at again: it is not the one compared.
    Moved { compared: Option<EntityTag>, current: Option<EntityTag> },
    /// The upstream itself honors the key (`on_unknown = "rerun"`).
    Rerun,
}

/// Why a request is refused.
#[derive(Debug, Clone)]
pub enum Reason {
    /// Framing, target or identity (F1, R1, I1).
    BadRequest(String),
    /// K2.
    MissingKey,
    /// K1, with the sentence that says what is wrong with it.
    InvalidKey(String),
    /// V4, with the sentence that says what is wrong with it.
    InvalidPrecondition(String),
    /// R6, with the part of the template that gave nothing.
    NoResource(String),
    NoRoute,
    /// Nothing of this name below `/.onceward/`, or not the principal's own (I2).
    NotFound(String),
    MethodNotAllowed(String),
    RequestTimeout(&'static str),
    StaleVersion {
        /// 409 or 412 (`version.stale_status`).
        status: StatusCode,
        current: Option<EntityTag>,
        /// What is there now, where `version.include_current` asks for it.
        body: Option<Bytes>,
        /// The agent asked that there be none (`If-None-Match: *`).
        wanted_none: bool,
    },
    InFlight,
    OutcomeUnknown(Unknown),
    ResponseNotKept {
        upstream_status: u16,
    },
    BodyTooLarge {
        limit: usize,
    },
    UriTooLong {
        limit: usize,
    },
    HeadersTooLarge(String),
    KeyReused,
    /// V3: `any` when the agent sent `If-Match: *`.
    MissingPrecondition {
        any: bool,
    },
    QueueFull {
        waiting: usize,
    },
    /// `resting`: an unknown outcome keeps the resource at rest (Q5).
    QueueTimeout {
        resting: bool,
        retry_after: u64,
    },
    InternalError(Executed),
    /// Before the first byte went out.
    UpstreamUnreachable(String),
    VersionUnavailable(String),
    /// `write`: `None` for a read.
    UpstreamBrokeOff {
        write: Option<Unknown>,
    },
    UpstreamTimeout {
        write: Option<Unknown>,
    },
    /// The content of a write that streams ended early, or stopped coming, when a part of it had gone out (K11).
    RequestBrokeOff(Unknown),
    StoreUnavailable,
    StoreFull,
    ShuttingDown,
    /// Connections, or buffered bodies, are all in use (F4).
    TooBusy(&'static str),
    ResultNotStored {
        upstream_status: u16,
    },
    /// L1, L2: another agent holds it for so many seconds more.
    Leased {
        seconds: u64,
    },
    /// L2: this agent's lease has ended, or is none of this resource.
    LeaseLost,
    /// L1: this principal holds so many leases already.
    LeasesFull {
        most: u32,
    },
    /// J3: the claim on a task has ended.
    ClaimLost,
    /// E1: the event to resume from is no longer held.
    Gone,
}

impl Reason {
    /// The code of P5.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::MissingKey => "missing-idempotency-key",
            Self::InvalidKey(_) => "invalid-idempotency-key",
            Self::InvalidPrecondition(_) => "invalid-precondition",
            Self::NoResource(_) => "no-resource",
            Self::NoRoute => "no-route",
            Self::NotFound(_) => "not-found",
            Self::MethodNotAllowed(_) => "method-not-allowed",
            Self::RequestTimeout(_) => "request-timeout",
            Self::StaleVersion { .. } => "stale-version",
            Self::InFlight => "in-flight",
            Self::OutcomeUnknown(_) => "outcome-unknown",
            Self::ResponseNotKept { .. } => "response-not-kept",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::UriTooLong { .. } => "uri-too-long",
            Self::HeadersTooLarge(_) => "headers-too-large",
            Self::KeyReused => "key-reused",
            Self::MissingPrecondition { .. } => "missing-precondition",
            Self::QueueFull { .. } | Self::LeasesFull { .. } => "queue-full",
            Self::QueueTimeout { .. } => "queue-timeout",
            Self::InternalError(_) => "internal-error",
            Self::UpstreamUnreachable(_) => "upstream-unreachable",
            Self::VersionUnavailable(_) => "version-unavailable",
            Self::UpstreamBrokeOff { .. } | Self::RequestBrokeOff(_) => "upstream-broke-off",
            Self::UpstreamTimeout { .. } => "upstream-timeout",
            Self::StoreUnavailable => "store-unavailable",
            Self::StoreFull => "store-full",
            Self::ShuttingDown => "shutting-down",
            Self::TooBusy(_) => "too-many-connections",
            Self::ResultNotStored { .. } => "result-not-stored",
            Self::Leased { .. } => "leased",
            Self::LeaseLost => "lease-lost",
            Self::ClaimLost => "claim-lost",
            Self::Gone => "gone",
        }
    }

    /// The status of P5.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_)
            | Self::MissingKey
            | Self::InvalidKey(_)
            | Self::InvalidPrecondition(_)
            | Self::NoResource(_) => StatusCode::BAD_REQUEST,
            Self::NoRoute | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::StaleVersion { status, .. } => *status,
            Self::InFlight
            | Self::OutcomeUnknown(_)
            | Self::ResponseNotKept { .. }
            | Self::LeaseLost
            | Self::ClaimLost => StatusCode::CONFLICT,
            Self::Leased { .. } => StatusCode::LOCKED,
            Self::Gone => StatusCode::GONE,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::MissingPrecondition { .. } => StatusCode::PRECONDITION_REQUIRED,
            Self::QueueFull { .. } | Self::QueueTimeout { .. } | Self::LeasesFull { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::InternalError(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UpstreamUnreachable(_)
            | Self::VersionUnavailable(_)
            | Self::UpstreamBrokeOff { .. }
            | Self::RequestBrokeOff(_) => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::StoreUnavailable
            | Self::StoreFull
            | Self::ShuttingDown
            | Self::TooBusy(_)
            | Self::ResultNotStored { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the write had an effect (P5).
    pub fn executed(&self) -> Executed {
        match self {
            Self::InFlight => Executed::Pending,
            Self::OutcomeUnknown(_) | Self::RequestBrokeOff(_) => Executed::Unknown,
            Self::ResponseNotKept { .. } | Self::ResultNotStored { .. } => Executed::Yes,
            Self::InternalError(executed) => *executed,
            Self::UpstreamBrokeOff { write } | Self::UpstreamTimeout { write } => match write {
                Some(_) => Executed::Unknown,
                None => Executed::No,
            },
            Self::BadRequest(_)
            | Self::MissingKey
            | Self::InvalidKey(_)
            | Self::InvalidPrecondition(_)
            | Self::NoResource(_)
            | Self::NoRoute
            | Self::NotFound(_)
            | Self::MethodNotAllowed(_)
            | Self::RequestTimeout(_)
            | Self::StaleVersion { .. }
            | Self::BodyTooLarge { .. }
            | Self::UriTooLong { .. }
            | Self::HeadersTooLarge(_)
            | Self::KeyReused
            | Self::MissingPrecondition { .. }
            | Self::QueueFull { .. }
            | Self::QueueTimeout { .. }
            | Self::UpstreamUnreachable(_)
            | Self::VersionUnavailable(_)
            | Self::StoreUnavailable
            | Self::StoreFull
            | Self::ShuttingDown
            | Self::TooBusy(_)
            | Self::Leased { .. }
            | Self::LeaseLost
            | Self::LeasesFull { .. }
            | Self::ClaimLost
            | Self::Gone => Executed::No,
        }
    }

    /// What to do next (P2, P5).
    pub fn retry(&self) -> Retry {
        match self {
            Self::BadRequest(_)
            | Self::MissingKey
            | Self::InvalidKey(_)
            | Self::InvalidPrecondition(_)
            | Self::NoResource(_)
            | Self::NoRoute
            | Self::NotFound(_)
            | Self::MethodNotAllowed(_)
            | Self::RequestTimeout(_)
            | Self::BodyTooLarge { .. }
            | Self::UriTooLong { .. }
            | Self::HeadersTooLarge(_)
            | Self::LeaseLost
            | Self::ClaimLost => Retry::AfterFixing,
            Self::StaleVersion { .. }
            | Self::ResponseNotKept { .. }
            | Self::MissingPrecondition { .. }
            | Self::Gone => Retry::AfterReread,
            Self::KeyReused => Retry::NewKey,
            Self::InternalError(_) => Retry::AskOperator,
            Self::OutcomeUnknown(unknown) | Self::RequestBrokeOff(unknown) => unknown.retry(),
            Self::UpstreamBrokeOff { write } | Self::UpstreamTimeout { write } => {
                write.as_ref().map_or(Retry::SameKey, Unknown::retry)
            }
            Self::InFlight
            | Self::QueueFull { .. }
            | Self::QueueTimeout { .. }
            | Self::UpstreamUnreachable(_)
            | Self::VersionUnavailable(_)
            | Self::StoreUnavailable
            | Self::StoreFull
            | Self::ShuttingDown
            | Self::TooBusy(_)
            | Self::ResultNotStored { .. }
            | Self::Leased { .. }
            | Self::LeasesFull { .. } => Retry::SameKey,
        }
    }

    /// Seconds until a retry makes sense, for the refusals that ask for one (P3).
    pub fn retry_after(&self) -> Option<u64> {
        if self.retry() != Retry::SameKey {
            return None;
        }
        if let Self::Leased { seconds } = self {
            return Some((*seconds).max(1));
        }
        // Spread, so that those who were refused together do not come back together (Q2).
        if let Self::QueueTimeout { retry_after, .. } = self {
            return Some(retry_after + fastrand::u64(0..2));
        }
        let of_many =
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status());
        Some(if of_many { 1 + fastrand::u64(0..3) } else { 1 })
    }
}

impl Unknown {
    fn retry(&self) -> Retry {
        match self {
            Self::Held => Retry::AskOperator,
            Self::Compared | Self::Moved { .. } => Retry::AfterReread,
            Self::Rerun => Retry::SameKey,
        }
    }
}
