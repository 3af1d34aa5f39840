//! One call: a request goes out once, and an answer, or one of three failures, comes back.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::body::AnswerBody;
use super::connection::Connection;
use super::pool::{Checkout, Client};
use super::upload::Upload;
use crate::http::{Body, Response, fields};

/// Whether a call may have an effect: decides which connection it may use (K14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
}

/// What goes out. The fields are those that the upstream gets, `Host` included.
pub struct Call {
    pub kind: Kind,
    pub method: Method,
    /// Path and query, in the agent's bytes.
    pub target: PathAndQuery,
    pub headers: HeaderMap,
    pub body: Body,
    /// How long an agent whose content streams may send nothing (`limits.body_time`).
    pub body_time: Duration,
    /// How long the whole answer may take; `None`: as long as its parts may.
    pub total: Option<Duration>,
}

/// Keeps the connection of an answer that changed to another protocol (101) in use.
#[derive(Clone)]
pub struct Tunnel {
    _checkout: Arc<Checkout>,
}

/// Why no answer came (K11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Before the first byte went out: surely not run.
    NotSent(String),
    /// After the first byte may have gone out.
    BrokeOff(String),
    TimedOut,
    /// The agent's own body broke off while it was passed on; `sent`: a byte of the request may have gone out.
    AgentBroke {
        sent: bool,
    },
    /// The agent sent nothing of its own body for too long.
    AgentLate {
        sent: bool,
    },
    /// Onceward was stopped while it waited.
    ShutDown,
}

/// The answer's head; on a failure the request too, where the connection took nothing of it.
type Answered = Result<http::Response<hyper::body::Incoming>, (Failure, Option<Box<Request<Body>>>)>;

impl Client {
    /// Sends one request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Failure`]; a [`Call`] is never sent twice, except that a connection which provably took no byte of it is
    /// replaced once (K14).
    pub async fn call(self: &Arc<Self>, call: Call) -> Result<Response, Failure> {
        self.timed(call).await.map(|(answer, _)| answer)
    }

    /// The same, with when the last byte of the request had gone out as its answer came.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn timed(self: &Arc<Self>, call: Call) -> Result<(Response, Instant), Failure> {
        #[cfg(test)]
        if let Some(upstream) = super::simulated::upstream() {
            let answer = upstream.call(call, self.limits, &self.place.authority).await?;
            return Ok((answer, Instant::now()));
        }
        let Call { kind, method, target, mut headers, body, body_time, total } = call;
        let uri = Uri::from(target);
        let is_head = method == Method::HEAD;
        let asks_upgrade = headers.contains_key(header::UPGRADE);
        let (body, upload) = Upload::watch(body, body_time);
        if body.known_length().is_none() {
            // hyper takes a GET to have no content unless its fields say so.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        let mut replaced = false;
        loop {
            let mut checkout = self.check_out(kind).await.map_err(|error| Failure::NotSent(error.0))?;
            upload.goes_over(&checkout.connection.wire);
            match self.send(&mut checkout, request, &upload, total).await {
                Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS && !asks_upgrade => {
                    return Err(Failure::BrokeOff("it changed to another protocol unasked".to_owned()));
                }
                Ok(answer) if has_foreign_coding(answer.headers()) => {
                    return Err(Failure::BrokeOff("its answer has an unknown transfer coding".to_owned()));
                }
                Ok(answer) => {
                    upload.answered();
                    let sent = Instant::from_std(checkout.connection.wire.last_write());
                    return Ok((self.answer(answer, checkout, upload, is_head), sent));
                }
                Err((failure, None)) => return Err(failure),
                Err((failure, Some(_))) if replaced => return Err(failure),
                Err((_, Some(unsent))) => request = *unsent,
            }
            replaced = true;
        }
    }

    /// Sends it over this connection, which is closed where the answer takes too long.
    async fn send(
        &self,
        checkout: &mut Checkout,
        request: Request<Body>,
        upload: &Upload,
        total: Option<Duration>,
    ) -> Answered {
        let before = checkout.connection.wire.bytes();
        let failed = match self.ended(&mut checkout.connection, request, upload, total).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(failed)) => Some(failed),
            None => None,
        };
        // Nothing of it may go out once it was said what became of it, so that is asked after the end.
        checkout.connection.close().await;
        let sent = checkout.connection.wire.bytes() != before;
        if upload.is_late() {
            return Err((Failure::AgentLate { sent }, None));
        }
        if upload.broke() {
            return Err((Failure::AgentBroke { sent }, None));
        }
        let late = || Failure::NotSent("it takes no bytes".to_owned());
        Err(failed.unwrap_or_else(|| (if sent { Failure::TimedOut } else { late() }, None)))
    }

    /// How the wait for an answer ended; `None`: by its limits.
    async fn ended(
        &self,
        connection: &mut Connection,
        request: Request<Body>,
        upload: &Upload,
        total: Option<Duration>,
    ) -> Option<Answered> {
        let Connection { sender, wire, .. } = connection;
        let before = wire.bytes();
        let started = Instant::now();
        let mut answer = std::pin::pin!(sender.try_send_request(request));
        // Both count from the last byte sent.
        let limit = self.limits.upstream_response;
        let limit = total.map_or(limit, |total| total.min(limit));
        let mut due = started + limit;
        loop {
            match tokio::time::timeout_at(due, answer.as_mut()).await {
                Ok(Ok(answer)) => return Some(Ok(answer)),
                Ok(Err(mut error)) => {
                    let unsent = error.take_message().filter(|_| wire.bytes() == before).map(Box::new);
                    let why = plain(error.error());
                    let sent = wire.bytes() != before;
                    let failure = if sent { Failure::BrokeOff(why) } else { Failure::NotSent(why) };
                    return Some(Err((failure, unsent)));
                }
                // The upstream owes nothing while its request is not whole; the content has an alarm of its own.
                Err(_elapsed) if upload.waits() => due = Instant::now() + limit,
                Err(_elapsed) => {
                    // A long body may still be going out.
                    due = Instant::from_std(wire.last_write()).max(started) + limit;
                    if due < Instant::now() + Duration::from_millis(1) {
                        return None;
                    }
                }
            }
        }
    }

    fn answer(
        self: &Arc<Self>,
        answer: http::Response<hyper::body::Incoming>,
        mut checkout: Checkout,
        upload: Upload,
        is_head: bool,
    ) -> Response {
        let (mut head, incoming) = answer.into_parts();
        // The version is this hop's (RFC 9110 §6.2): in HTTP/1.0 an agent could not tell a cut body from a whole one.
        head.version = Version::HTTP_11;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // The connection belongs to the new protocol now, and is not given back. Its handle lives as long: without
            // one the connection might be closed before it is handed over.
            head.extensions.insert(Tunnel { _checkout: Arc::new(checkout) });
            return Response::from_parts(head, Body::Empty);
        }
        // Of a length and a transfer coding the coding counts (RFC 9112 §6.3).
        // Who sends both may be two that disagree, so nothing else is read from there.
        if head.headers.contains_key(header::TRANSFER_ENCODING)
            && head.headers.remove(header::CONTENT_LENGTH).is_some()
        {
            checkout.reusable = false;
        }
        fields::strip_answer(&mut head.headers);
        let no_content = is_head || matches!(head.status.as_u16(), 204 | 304);
        let refuses = head.status.is_client_error() || head.status.is_server_error();
        let is_empty = no_content || http_body::Body::is_end_stream(&incoming);
        let mut body = AnswerBody::new(incoming, checkout, upload, refuses, self.limits.upstream_idle);
        if is_empty && body.ends_at_once() {
            return Response::from_parts(head, Body::Empty);
        }
        Response::from_parts(head, Body::Stream(Box::pin(body)))
    }
}

/// Whether an answer's content is coded as this hop cannot undo: passed on it would be something else (F1).
fn has_foreign_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let known = |value: &HeaderValue| {
        [&b"chunked"[..], b"identity"]
            .iter()
            .any(|known| value.as_bytes().trim_ascii().eq_ignore_ascii_case(known))
    };
    codings.next().is_some_and(|coding| !known(coding)) || codings.next().is_some()
}

/// What broke, in words.
fn plain(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() {
        return "the connection was closed".to_owned();
    }
    if error.is_parse() {
        return "its answer is not HTTP".to_owned();
    }
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// Reads a body to its end.
///
/// # Errors
/// Where it breaks off, takes too long, or is larger than `limit` bytes (`Ok(None)`).
pub(crate) async fn collect(body: Body, limit: usize) -> Result<Option<bytes::Bytes>, crate::http::BoxError> {
    let mut body = body;
    let mut whole = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Ok(None);
        }
        if whole.is_empty() && body.known_length() == Some(0) {
            return Ok(Some(data));
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}
