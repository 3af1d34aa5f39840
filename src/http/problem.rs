//! How a refusal is written out: problem details (RFC 9457) or Markdown (P1–P4).

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::fields;
use super::refusal::{Executed, Reason, Refusal, Retry, Unknown};
use super::{Body, Response};
use crate::protocol::entity_tag::EntityTag;
use crate::protocol::path::percent_encode_non_ascii;

/// What the sentences of a refusal name of the request it refuses.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    pub method: String,
    pub path: String,
    /// What is to be read again: the path, or the resource where the operator set it by hand.
    pub resource: String,
    /// `Accept: text/markdown` (P1).
    pub markdown: bool,
}

impl Subject {
    /// Of a request's head; `accept` are the lines of that field.
    pub fn new<'a>(method: &http::Method, path: &str, accept: impl Iterator<Item = &'a HeaderValue>) -> Self {
        let path = quoted(path);
        Self {
            method: quoted(method.as_str()),
            resource: path.clone(),
            path,
            markdown: wants_markdown(accept),
        }
    }
}

/// Whether `Accept` names Markdown, and JSON not with the same or a higher weight (RFC 9110 §12.5.1).
fn wants_markdown<'a>(accept: impl Iterator<Item = &'a HeaderValue>) -> bool {
    let (mut markdown, mut json) = (0.0_f32, 0.0_f32);
    for part in accept.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
        let mut pieces = part.split(';').map(str::trim);
        let media_type = pieces.next().unwrap_or_default().to_ascii_lowercase();
        let weight =
            pieces.find_map(|piece| piece.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match media_type.as_str() {
            "text/markdown" => markdown = markdown.max(weight),
            "application/problem+json" | "application/json" => json = json.max(weight),
            _ => {}
        }
    }
    markdown > json
}

/// A value from outside as it may stand in a sentence: no control characters, and so short that the sentence stays
/// under 200 characters (P2). Of a longer one the middle is left out: what tells it from its like is mostly at its end.
/// One that ends as a sentence does is set apart, or it would end the one that it stands in.
pub fn quoted(value: &str) -> String {
    if value.ends_with(['.', '!', '?']) {
        return format!("`{}`", shortened(value, 58));
    }
    shortened(value, 60)
}

fn shortened(value: &str, most: usize) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let length = value.chars().count();
    if length <= most {
        return value.chars().map(clean).collect();
    }
    let head = most / 3;
    let tail = length - (most - 1 - head);
    let ends = value.chars().take(head).chain(std::iter::once('…')).chain(value.chars().skip(tail));
    ends.map(clean).collect()
}

impl Refusal {
    /// The refusal as an answer.
    pub fn into_response(self, subject: &Subject) -> Response {
        let reason = &self.reason;
        let retry_after = self.retry_after();
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = reason.status();
        let headers = response.headers_mut();
        set(headers, header::LINK, &format!("</.onceward/problems/{}>; rel=\"describedby\"", reason.code()));
        set(headers, header::CACHE_CONTROL, "no-store");
        set(headers, fields::X_SHOULD_RETRY, if retry_after.is_some() { "true" } else { "false" });
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kept {
            set(headers, fields::ONCEWARD_RETRY, "new-key");
        }
        if let Some(allow) = &self.allow {
            set(headers, header::ALLOW, allow);
        }
        if let Reason::StaleVersion { current: Some(tag), .. } = reason {
            set(headers, header::ETAG, tag.as_str());
        }
        if let Some(resource) = &self.resource {
            set(headers, fields::ONCEWARD_RESOURCE, &percent_encode_non_ascii(resource));
        }
        let (media_type, text) = if subject.markdown {
            ("text/markdown; charset=utf-8", self.markdown(subject, retry_after))
        } else {
            ("application/problem+json", self.json(subject, retry_after))
        };
        set(headers, header::CONTENT_TYPE, media_type);
        *response.body_mut() = Body::Full(Bytes::from(text));
        response
    }

    /// P2; where the key keeps this answer, the next try needs another one.
    fn detail(&self, subject: &Subject) -> String {
        let detail = self.reason.detail(subject);
        if !self.kept {
            return detail;
        }
        if self.reason.retry() == Retry::SameKey {
            let Subject { method, path, .. } = subject;
            let why =
                if let Reason::UpstreamUnreachable(why) = &self.reason { why } else { self.reason.title() };
            return format!(
                "{method} {path} could not be sent ({}) for as long as a job is tried, so nothing was done. Send it again \
                 with a new Idempotency-Key.",
                quoted(why)
            );
        }
        format!("{}, with a new Idempotency-Key.", detail.trim_end_matches('.'))
    }

    fn json(&self, subject: &Subject, retry_after: Option<u64>) -> String {
        let mut text = Value::Object(self.members(subject, retry_after)).to_string();
        if let Some(current) = self.current() {
            text.pop();
            text.push_str(",\"current\":");
            text.push_str(&current);
            text.push('}');
        }
        text
    }

    /// What is there now (V6), as JSON. In the upstream's own bytes: an agent writes its change into it, so no number
    /// may lose a digit.
    fn current(&self) -> Option<std::borrow::Cow<'_, str>> {
        let Reason::StaleVersion { body: Some(body), .. } = &self.reason else { return None };
        let text = std::str::from_utf8(body).ok()?;
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        Some(if is_json { text.trim_ascii().into() } else { Value::from(text).to_string().into() })
    }

    fn members(&self, subject: &Subject, retry_after: Option<u64>) -> Map<String, Value> {
        let reason = &self.reason;
        let mut members = Map::new();
        let mut put = |name: &str, value: Value| {
            members.insert(name.to_owned(), value);
        };
        put("type", format!("urn:problem:onceward:{}", reason.code()).into());
        put("title", reason.title().into());
        put("status", reason.status().as_u16().into());
        put("detail", self.detail(subject).into());
        put("code", reason.code().into());
        put("executed", reason.executed().as_str().into());
        put("retry", self.retry().as_str().into());
        if let Some(seconds) = retry_after {
            put("retry_after", seconds.into());
        }
        if let Some(route) = &self.route {
            put("route", route.as_ref().into());
        }
        if let Some(resource) = &self.resource {
            put("resource", resource.as_ref().into());
        }
        if let Some(operation) = &self.operation {
            put("operation", operation.as_str().into());
        }
        if let Reason::StaleVersion { current, .. } = reason {
            put("current_etag", tag_value(current.as_ref()));
        }
        if let Reason::OutcomeUnknown(Unknown::Moved { compared, current }) = reason {
            put("compared_etag", tag_value(compared.as_ref()));
            put("current_etag", tag_value(current.as_ref()));
        }
        if let Reason::ResponseNotKept { upstream_status } | Reason::ResultNotStored { upstream_status } =
            reason
        {
            put("upstream_status", (*upstream_status).into());
        }
        members
    }

    fn markdown(&self, subject: &Subject, retry_after: Option<u64>) -> String {
        let mut text = format!("# {}\n\n{}\n\n", self.reason.title(), self.detail(subject));
        let current = self.current().map(|current| ("current".to_owned(), Value::from(current)));
        for (name, value) in self.members(subject, retry_after).into_iter().chain(current) {
            if matches!(name.as_str(), "title" | "detail") {
                continue;
            }
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.push_str(&format!("- {name}: `{}`\n", shown.replace('`', "'")));
        }
        text
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Some(value) = fields::value(text) {
        headers.insert(name, value);
    }
}

fn tag_value(tag: Option<&EntityTag>) -> Value {
    tag.map_or(Value::Null, |tag| tag.as_str().into())
}

impl Reason {
    /// The same for every occurrence of the code (RFC 9457 §3.1.3).
    pub fn title(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "The request is malformed",
            Self::MissingKey => "This write needs an Idempotency-Key",
            Self::InvalidKey(_) => "The Idempotency-Key is malformed",
            Self::InvalidPrecondition(_) => "The precondition is malformed",
            Self::NoResource(_) => "The request does not say which resource it changes",
            Self::NoRoute => "No route for this path",
            Self::NotFound(_) => "Nothing of this name",
            Self::MethodNotAllowed(_) => "This method is not allowed here",
            Self::RequestTimeout(_) => "The request took too long to arrive",
            Self::StaleVersion { .. } => "The resource has changed since it was read",
            Self::InFlight => "The first request with this key is still running",
            Self::OutcomeUnknown(_) => "Whether this write was executed is unknown",
            Self::ResponseNotKept { .. } => "The write was executed, its answer was not kept",
            Self::BodyTooLarge { .. } => "The body is too large",
            Self::UriTooLong { .. } => "The target is too long",
            Self::HeadersTooLarge(_) => "The header fields are too large",
            Self::KeyReused => "This Idempotency-Key belongs to another request",
            Self::MissingPrecondition { .. } => "This write needs the version it was built on",
            // Of one code there is one title (RFC 9457 §3.1.3).
            Self::QueueFull { .. } | Self::LeasesFull { .. } => {
                "The limit of what may wait or be held is reached"
            }
            Self::QueueTimeout { .. } => "The wait for a turn was too long",
            Self::InternalError(_) => "Onceward itself failed",
            Self::UpstreamUnreachable(_) => "The upstream cannot be reached",
            Self::VersionUnavailable(_) => "The resource's version cannot be read",
            // Of one code there is one title (RFC 9457 §3.1.3).
            Self::UpstreamBrokeOff { .. } | Self::RequestBrokeOff(_) => "The upstream broke off",
            Self::UpstreamTimeout { .. } => "The upstream took too long",
            Self::StoreUnavailable => "The store cannot be reached",
            Self::StoreFull => "The store is full",
            Self::ShuttingDown => "Onceward is shutting down",
            Self::TooBusy(_) => "Onceward is at its limit",
            Self::ResultNotStored { .. } => "The write was executed, its result could not be stored",
            Self::Leased { .. } => "Another agent holds this resource",
            Self::LeaseLost => "The lease has ended",
            Self::ClaimLost => "The claim on the task has ended",
            Self::Gone => "The event to resume from is no longer held",
        }
    }

    /// One or two sentences for the agent's model: what happened, and what to do next (P2).
    pub fn detail(&self, subject: &Subject) -> String {
        let Subject { method, path, resource, .. } = subject;
        match self {
            Self::BadRequest(what) => {
                format!("{what} Nothing was forwarded; correct the request and send it again.")
            }
            Self::MissingKey => format!(
                "{method} {path} is a write and needs an Idempotency-Key header. Send it again with a new unique key, \
                 such as a UUID, and repeat that key only when you retry this same write."
            ),
            Self::InvalidKey(what) => format!(
                "{what} Send 1 to 255 visible ASCII characters, such as a UUID, in one Idempotency-Key header."
            ),
            Self::InvalidPrecondition(what) => {
                format!("{what} Read {resource} again, and send the ETag that you get as it is in If-Match.")
            }
            Self::NoResource(part) => format!(
                "{method} {path} does not say what it changes: {} gave no text or number. Add it and send the \
                 request again.",
                quoted(part)
            ),
            Self::NoRoute => {
                format!("No route is configured for {path}. Check the path for a spelling mistake.")
            }
            Self::NotFound(what) => what.clone(),
            Self::MethodNotAllowed(allow) => {
                format!("{method} is not allowed on {path}. Use one of these methods: {allow}.")
            }
            Self::RequestTimeout(what) => {
                format!(
                    "{what} did not arrive in time, and nothing was forwarded. Send the whole request again."
                )
            }
            Self::StaleVersion { current, wanted_none, .. } => {
                stale(resource, current.as_ref(), *wanted_none)
            }
            Self::InFlight => format!(
                "The first {method} {path} with this Idempotency-Key is still running. Send it again with the same \
                 key after the time in Retry-After to get its answer."
            ),
            Self::OutcomeUnknown(unknown) => unknown_detail(unknown, subject),
            Self::ResponseNotKept { upstream_status } => format!(
                "{method} {path} was executed and the upstream answered {upstream_status}, but the answer was not \
                 kept. Do not send it again; read {resource} to see the result."
            ),
            Self::BodyTooLarge { limit } => format!(
                "The body of {method} {path} is larger than {limit} bytes, and nothing was forwarded. Send less in \
                 one request."
            ),
            Self::UriTooLong { limit } => {
                format!("The request target is longer than {limit} bytes. Send a shorter one.")
            }
            Self::HeadersTooLarge(what) => format!("{what} Send fewer or shorter header fields."),
            Self::KeyReused => format!(
                "This Idempotency-Key was first used for a different request than this {method} {path}. Send this \
                 write with a new key."
            ),
            Self::MissingPrecondition { any } => missing_precondition(*any, subject),
            Self::QueueFull { waiting } => format!(
                "{waiting} writes already wait for {resource}, and nothing was done. Send the same request with the same \
                 Idempotency-Key after the time in Retry-After."
            ),
            Self::QueueTimeout { resting, .. } => queue_timeout(*resting, resource),
            Self::InternalError(executed) => internal(*executed, method, path),
            Self::UpstreamUnreachable(why) => format!(
                "The API behind {path} could not be reached ({}), so nothing was done. Send the same request again \
                 after the time in Retry-After.",
                quoted(why)
            ),
            Self::VersionUnavailable(why) => format!(
                "The current version of {resource} could not be read ({}), so nothing was done. Send the same request \
                 again after the time in Retry-After.",
                quoted(why)
            ),
            Self::UpstreamBrokeOff { write } => {
                upstream_failed("broke off before its answer was whole", write.as_ref(), subject)
            }
            Self::RequestBrokeOff(unknown) => {
                upstream_failed("got only a part of the request's body", Some(unknown), subject)
            }
            Self::UpstreamTimeout { write } => {
                upstream_failed("did not answer in time", write.as_ref(), subject)
            }
            Self::StoreUnavailable => format!(
                "Onceward's store cannot be reached, so {method} {path} was not forwarded. Send the same request \
                 again after the time in Retry-After."
            ),
            Self::StoreFull => format!(
                "Onceward's store is full, so {method} {path} was not forwarded. Send the same request again after \
                 the time in Retry-After."
            ),
            Self::ShuttingDown => {
                "Onceward is being stopped, and nothing was done. Send the same request again after \
                                   the time in Retry-After."
                    .to_owned()
            }
            Self::TooBusy(what) => {
                format!(
                    "{what}, and nothing was done. Send the same request again after the time in Retry-After."
                )
            }
            Self::Leased { seconds } => format!(
                "Another agent holds {resource} for up to {seconds} seconds more, and nothing was done. Send the same \
                 request with the same Idempotency-Key after the time in Retry-After."
            ),
            Self::LeaseLost => format!(
                "Your lease of {resource} does not hold any more, and nothing was done. Acquire a new lease, read \
                 {resource} again, and then send your change with the new lease."
            ),
            Self::LeasesFull { most } => format!(
                "You hold {most} leases already, and no more are granted to one agent. Give one back, or send the same \
                 request with the same Idempotency-Key after the time in Retry-After."
            ),
            Self::ClaimLost => {
                "Your claim on this task has ended, and another agent may have it now. Do not finish \
                                it; claim the next task."
                    .to_owned()
            }
            Self::Gone => {
                "The event that you want to resume from is no longer held. Read the resources that you \
                           follow again, then follow the events from now on."
                    .to_owned()
            }
            Self::ResultNotStored { upstream_status } => format!(
                "{method} {path} was executed and the upstream answered {upstream_status}, but the result could not \
                 be stored yet. Send it again with the same key to get the result."
            ),
        }
    }
}

fn stale(resource: &str, current: Option<&EntityTag>, wanted_none: bool) -> String {
    match (current, wanted_none) {
        (Some(tag), false) => format!(
            "{resource} has changed since you read it. Read {resource} again, apply your change to it, and send it with a \
             new Idempotency-Key and If-Match {}.",
            shown_tag(Some(tag))
        ),
        (Some(tag), true) => format!(
            "{resource} already exists. Read {resource}, apply your change to it, and send it with a new Idempotency-Key and \
             If-Match {}.",
            shown_tag(Some(tag))
        ),
        (None, false) => format!(
            "{resource} does not have the version that you sent, and its current version is not known here or it no \
             longer exists. Read {resource} again before you decide what to write."
        ),
        (None, true) => {
            format!(
                "{resource} already exists. Read {resource}, and send your change with the ETag that you get in If-Match."
            )
        }
    }
}

fn missing_precondition(any: bool, subject: &Subject) -> String {
    let Subject { method, path, resource, .. } = subject;
    if any {
        return format!(
            "If-Match: * names no version, and {method} {path} needs one. Read {resource}, apply your change to it, and \
             send it with the ETag that you get in If-Match."
        );
    }
    format!(
        "{method} {path} needs the version it was built on. Read {resource}, apply your change to it, and send it with \
         the ETag that you get in If-Match (If-None-Match: * to create it)."
    )
}

fn queue_timeout(resting: bool, resource: &str) -> String {
    if resting {
        return format!(
            "{resource} rests because an earlier write to it ended with an unknown outcome, and nothing was done. Send \
             the same request with the same Idempotency-Key after the time in Retry-After."
        );
    }
    format!(
        "Other writes to {resource} took longer than this one may wait, and nothing was done. Send the same request with \
         the same Idempotency-Key after the time in Retry-After."
    )
}

fn unknown_detail(unknown: &Unknown, subject: &Subject) -> String {
    let Subject { method, path, resource, .. } = subject;
    match unknown {
        Unknown::Held => format!(
            "No whole answer came to the first {method} {path}, so it may or may not have been executed. Do not send \
             it under a new key; ask an operator to resolve it."
        ),
        Unknown::Compared => format!(
            "No whole answer came to the first {method} {path}, so it may or may not have been executed. Read {resource} \
             to see whether your change is in it before you write again."
        ),
        Unknown::Moved { compared, current } if compared == current => format!(
            "{} has version {} again, but another write went to it since the first {method}, whose answer never \
             came. Read {resource} to see whether your change is in it before you write again.",
            shortened(resource, 40),
            shown_tag(current.as_ref())
        ),
        Unknown::Moved { compared, current } => format!(
            "{} went from version {} to {} since the first {method}, whose answer never came. Read {resource} to see \
             whether your change is in it before you write again.",
            shortened(resource, 40),
            shown_tag(compared.as_ref()),
            shown_tag(current.as_ref())
        ),
        Unknown::Rerun => format!(
            "No whole answer came to the first {method} {path}, so it may or may not have been executed. Send it \
             again with the same Idempotency-Key; the API behind honors it."
        ),
    }
}

/// At most 40 characters: with a path and two of them a sentence still stays under 200.
fn shown_tag(tag: Option<&EntityTag>) -> String {
    tag.map_or_else(|| "none".to_owned(), |tag| shortened(tag.as_str(), 40))
}

fn upstream_failed(what: &str, write: Option<&Unknown>, subject: &Subject) -> String {
    let Subject { method, path, resource, .. } = subject;
    match write {
        None => format!(
            "The API behind {path} {what}. Send the same request again after the time in Retry-After."
        ),
        Some(Unknown::Held) => format!(
            "The API behind {path} {what}, so {method} may or may not have been executed. Do not send it under a new \
             key; ask an operator to resolve it."
        ),
        Some(Unknown::Compared | Unknown::Moved { .. }) => format!(
            "The API behind {path} {what}, so {method} may or may not have been executed. Read {resource} to see whether \
             your change is in it before you write again."
        ),
        Some(Unknown::Rerun) => format!(
            "The API behind {path} {what}, so {method} may or may not have been executed. Send it again with the \
             same Idempotency-Key; the API honors it."
        ),
    }
}

fn internal(executed: Executed, method: &str, path: &str) -> String {
    let known = match executed {
        Executed::No => "nothing was done",
        Executed::Yes => "it was executed",
        Executed::Pending | Executed::Unknown => "it may or may not have been executed",
    };
    format!("Onceward failed while it handled {method} {path}; {known}. Ask an operator to look at it.")
}

/// Every `retry` there is, for the documentation.
pub const RETRIES: [Retry; 5] =
    [Retry::SameKey, Retry::NewKey, Retry::AfterReread, Retry::AfterFixing, Retry::AskOperator];
