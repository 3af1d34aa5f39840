//! Who is let in: a request in values of our own (F1), and its content within the limits (F3, F4).

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Version};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;

use crate::config::checked::Limits;
use crate::http::request::Peer;
use crate::http::target::{is_host, is_visible};
use crate::http::{Body, Reason, Request};
use crate::protocol::path::NormalPath;

/// Rebuilds a request from what the HTTP library read (F1).
///
/// # Errors
/// 400, 414 or 431 for what no version of HTTP allows, or what is over a limit.
pub fn request<B: Into<Body>>(
    request: http::Request<B>,
    peer: &Arc<Peer>,
    limits: &Limits,
) -> Result<Request, Reason> {
    let (mut parts, body) = request.into_parts();
    if parts.headers.len() > limits.headers {
        return Err(Reason::HeadersTooLarge(format!(
            "The request has more than {} header fields.",
            limits.headers
        )));
    }
    let host = host(&parts.uri, &parts.headers, parts.version)?;
    let target =
        parts.uri.path_and_query().cloned().ok_or_else(|| bad("The request target is not a path."))?;
    // What HTTP/1 sends was looked at byte by byte before it came here.
    if parts.version == Version::HTTP_2 {
        check_http2(target.as_str(), &host, &parts.method, limits)?;
        check_size(&parts.headers, target.as_str(), limits)?;
        join_cookies(&mut parts.headers);
    }
    let normal = NormalPath::parse(target.path()).map_err(|problem| bad(&problem.to_string()))?;
    Ok(Request {
        method: parts.method,
        version: parts.version,
        target,
        normal,
        host,
        headers: parts.headers,
        body: body.into(),
        upgrade: parts.extensions.remove(),
        peer: Arc::clone(peer),
    })
}

fn bad(what: &str) -> Reason {
    Reason::BadRequest(what.to_owned())
}

/// The one host of a request: `:authority` or `Host`, and where both are there they agree.
fn host(uri: &http::Uri, headers: &HeaderMap, version: Version) -> Result<HeaderValue, Reason> {
    let mut lines = headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(bad("The request has more than one Host header."));
    }
    let authority = uri.authority().map(http::uri::Authority::as_str);
    match (line, authority) {
        (Some(line), Some(authority)) if !line.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            let place = if version == Version::HTTP_2 { ":authority" } else { "target" };
            Err(bad(&format!("The request's {place} names another host than its Host header.")))
        }
        (Some(line), _) => Ok(line.clone()),
        (None, Some(authority)) => {
            HeaderValue::from_str(authority).map_err(|_| bad("The request's authority is not a host."))
        }
        (None, None) => Err(bad("The request has no Host header.")),
    }
}

/// What only a byte stream shows was checked before HTTP/1 came here; HTTP/2 has it in fields of its own.
fn check_http2(target: &str, host: &HeaderValue, method: &Method, limits: &Limits) -> Result<(), Reason> {
    if target.len() > limits.uri {
        return Err(Reason::UriTooLong { limit: limits.uri });
    }
    if !target.starts_with('/') || !is_visible(target) || *method == Method::CONNECT {
        return Err(bad("The request target is not a path."));
    }
    if !host.to_str().is_ok_and(is_host) {
        return Err(bad("The request's authority is not a host with an optional port."));
    }
    Ok(())
}

/// `limits.head` for HTTP/2, whose head has no bytes of its own: names and values as HTTP/1 would write them.
fn check_size(headers: &HeaderMap, target: &str, limits: &Limits) -> Result<(), Reason> {
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if lines.sum::<usize>() + target.len() > limits.head {
        let text = format!("The request's head is larger than {} bytes.", limits.head);
        return Err(Reason::HeadersTooLarge(text));
    }
    Ok(())
}

/// HTTP/2 may send one `Cookie` in pieces, and nobody behind it knows them as one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() < 2 {
        return;
    }
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(header::COOKIE, whole);
    }
}

/// Memory for bodies that are held whole, shared by all requests (`limits.buffered`).
pub struct Buffers {
    kibibytes: Arc<Semaphore>,
    total: u32,
}

/// A part of [`Buffers`], given back when dropped.
pub struct Held(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Buffers {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3);
        Self { kibibytes: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Takes room where there is some.
    pub fn try_take(&self, bytes: usize) -> Option<Held> {
        Arc::clone(&self.kibibytes).try_acquire_many_owned(self.wanted(bytes)).ok().map(Held)
    }

    fn wanted(&self, bytes: usize) -> u32 {
        u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.total)
    }

    /// Takes room, and waits up to `patience` for it.
    ///
    /// # Errors
    /// 503 where there was none in time.
    pub async fn take(&self, bytes: usize, patience: Duration) -> Result<Held, Reason> {
        if let Some(held) = self.try_take(bytes) {
            return Ok(held);
        }
        let wanted = self.wanted(bytes);
        match tokio::time::timeout(patience, Arc::clone(&self.kibibytes).acquire_many_owned(wanted)).await {
            Ok(Ok(permit)) => Ok(Held(permit)),
            Ok(Err(_)) | Err(_) => Err(Reason::TooBusy("Too many request bodies are held in memory")),
        }
    }
}

/// Reads a body whole, before anything is claimed (F3).
///
/// # Errors
/// 413 over `limit`, 408 over `time`, 400 where it breaks off, 503 where there is no room.
pub async fn whole(
    body: Body,
    limit: usize,
    time: Duration,
    buffers: &Buffers,
) -> Result<(Bytes, Option<Held>), Reason> {
    if matches!(body, Body::Empty) {
        return Ok((Bytes::new(), None));
    }
    let known = body.known_length();
    if known.is_some_and(|length| length > limit as u64) {
        return Err(Reason::BodyTooLarge { limit });
    }
    let known = known.and_then(|length| usize::try_from(length).ok());
    let held = buffers.take(known.unwrap_or(limit), time).await?;
    let read = within(time, collect(body, limit, known));
    let bytes = read.await.map_err(|_| Reason::RequestTimeout("The request's body"))??;
    Ok((bytes, Some(held)))
}

/// Reads as much of a body as may be held before anything waits for it; what is larger streams on behind that.
///
/// # Errors
/// 408 over `time`, 400 where it breaks off, 503 where there is no room.
pub async fn ahead(
    body: Body,
    limit: usize,
    time: Duration,
    buffers: &Buffers,
) -> Result<(Body, Option<Held>), Reason> {
    let known = body.known_length();
    if matches!(body, Body::Empty) || known.is_some_and(|length| length > limit as u64) {
        return Ok((body, None));
    }
    let room = known.and_then(|length| usize::try_from(length).ok()).unwrap_or(limit);
    let held = buffers.take(room, time).await?;
    let read = tokio::time::timeout(time, up_to(body, limit));
    let body = read.await.map_err(|_| Reason::RequestTimeout("The request's body"))??;
    Ok((body, Some(held)))
}

/// What of a body is here.
pub enum Here {
    /// All of it.
    Whole(Bytes),
    /// What is here with the rest behind it.
    Streams(Body),
}

/// Looks how much of a body is here already, and waits for nothing. `limit`: one that is larger streams.
///
/// # Errors
/// 400 where it breaks off.
pub async fn here(mut body: Body, limit: usize) -> Result<Here, Reason> {
    let mut first = Vec::new();
    while first.len() <= limit {
        let frame =
            std::future::poll_fn(|cx| Poll::Ready(http_body::Body::poll_frame(Pin::new(&mut body), cx)));
        let frame = frame.await;
        match frame {
            Poll::Pending => break,
            Poll::Ready(None) => return Ok(Here::Whole(Bytes::from(first))),
            Poll::Ready(Some(frame)) => {
                let frame = frame.map_err(|_| bad("The request's body broke off or is malformed."))?;
                first.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            }
        }
    }
    Ok(Here::Streams(if first.is_empty() { body } else { body.after(Bytes::from(first)) }))
}

async fn up_to(mut body: Body, limit: usize) -> Result<Body, Reason> {
    let mut first = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| bad("The request's body broke off or is malformed."))?;
        let Ok(data) = frame.into_data() else { continue };
        first.extend_from_slice(&data);
        if first.len() > limit {
            return Ok(body.after(Bytes::from(first)));
        }
    }
    Ok(Body::Full(Bytes::from(first)))
}

/// As [`tokio::time::timeout`]; what is there at once, as most bodies are, costs no timer.
async fn within<F: Future>(time: Duration, work: F) -> Result<F::Output, Elapsed> {
    let mut work = std::pin::pin!(work);
    let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    match first {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => tokio::time::timeout(time, work).await,
    }
}

async fn collect(mut body: Body, limit: usize, known: Option<usize>) -> Result<Bytes, Reason> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| bad("The request's body broke off or is malformed."))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(Reason::BodyTooLarge { limit });
        }
        if whole.is_empty() && known == Some(data.len()) {
            // The usual case: all of it in one piece, and nothing is copied.
            return rest_is_empty(body).await.map(|()| data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Bytes::from(whole))
}

/// Reads the end of a body whose announced length is there; trailers are dropped.
async fn rest_is_empty(mut body: Body) -> Result<(), Reason> {
    if http_body::Body::is_end_stream(&body) {
        return Ok(());
    }
    while let Some(frame) = body.frame().await {
        frame.map_err(|_| bad("The request's body broke off or is malformed."))?;
    }
    Ok(())
}
