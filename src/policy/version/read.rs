//! Reads that carry their version (V2).

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::BodyExt;

use super::CONDITIONAL;
use super::probe::{digest_tag, field_tag, strong_tag};
use crate::config::checked::{Source, Version};
use crate::http::body::BoxError;
use crate::http::{Body, Response, fields};
use crate::protocol::entity_tag::{EntityTag, none_match_read};

/// What is known of a read before it goes upstream.
pub struct Reading {
    /// The agent asked by HEAD.
    is_head: bool,
    if_none_match: Vec<Vec<u8>>,
    /// Read before the content is fetched, so that it is never newer than the content.
    minted: Option<EntityTag>,
    /// Every 2xx has the version, not only a 200 to GET or HEAD: APIs that read by POST.
    any_method: bool,
}

/// Makes the request that goes upstream, and its method, from the agent's.
pub fn prepare(
    method: &Method,
    headers: &mut HeaderMap,
    version: &Version,
    minted: Option<EntityTag>,
    any_method: bool,
) -> (Method, Reading) {
    let reading = Reading {
        is_head: *method == Method::HEAD,
        if_none_match: fields::lines(headers, &header::IF_NONE_MATCH)
            .into_iter()
            .map(<[u8]>::to_vec)
            .collect(),
        minted,
        any_method,
    };
    match version.source {
        Source::Hash | Source::Field(_) | Source::Mint => {
            for name in &CONDITIONAL {
                headers.remove(name);
            }
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        Source::Etag | Source::Upstream | Source::None => {}
    }
    if let Some(accept) = &version.accept {
        headers.insert(header::ACCEPT, accept.clone());
    }
    let by_body = matches!(version.source, Source::Hash | Source::Field(_));
    let method = if reading.is_head && by_body { Method::GET } else { method.clone() };
    (method, reading)
}

/// Gives an answer its version, or makes a 304 of it.
///
/// # Errors
/// Where the content broke off before its version was known.
pub async fn with_version(
    answer: Response,
    reading: Reading,
    version: &Version,
) -> Result<Response, BoxError> {
    match &version.source {
        Source::None => Ok(answer),
        Source::Upstream => Ok(strong_or_none(answer)),
        Source::Etag => Ok(by_etag(answer, &reading)),
        Source::Mint => Ok(by_mint(answer, &reading)),
        Source::Hash | Source::Field(_) => by_body(answer, &reading, version).await,
    }
}

/// An answer to a read that has no version (R6): nor has it one of the upstream's where those are no versions here.
pub fn without_version(mut answer: Response, version: &Version) -> Response {
    match version.source {
        Source::Hash | Source::Field(_) | Source::Mint => drop(answer.headers_mut().remove(header::ETAG)),
        Source::Etag | Source::Upstream | Source::None => {}
    }
    answer
}

fn by_etag(mut answer: Response, reading: &Reading) -> Response {
    // A part and a 304 are of the 200 that has the tag; on anything else a tag is no version.
    let of_it =
        matches!(answer.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED);
    match strong_tag(answer.headers()).filter(|_| of_it) {
        Some(tag) if answer.status() == StatusCode::OK => finish(answer, &tag, reading),
        Some(_) => answer,
        None => {
            answer.headers_mut().remove(header::ETAG);
            answer
        }
    }
}

/// A weak tag cannot be sent back in If-Match (V4), so it is worth less than none.
fn strong_or_none(mut answer: Response) -> Response {
    if strong_tag(answer.headers()).is_none() {
        answer.headers_mut().remove(header::ETAG);
    }
    answer
}

fn by_mint(mut answer: Response, reading: &Reading) -> Response {
    answer.headers_mut().remove(header::ETAG);
    // A range is answered whole.
    answer.headers_mut().remove(header::ACCEPT_RANGES);
    let has_version =
        if reading.any_method { answer.status().is_success() } else { answer.status() == StatusCode::OK };
    match &reading.minted {
        Some(tag) if has_version => finish(answer, tag, reading),
        Some(_) | None => answer,
    }
}

async fn by_body(answer: Response, reading: &Reading, version: &Version) -> Result<Response, BoxError> {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(header::ETAG);
    head.headers.remove(header::ACCEPT_RANGES);
    if head.status != StatusCode::OK {
        return Ok(headless(Response::from_parts(head, body), reading));
    }
    let known_large = body.known_length().is_some_and(|length| length > version.max_body as u64);
    // Who follows a stream would wait for its end, and it may have none.
    if known_large || fields::is_stream(&head.headers) {
        return Ok(headless(Response::from_parts(head, body), reading));
    }
    match up_to(body, version.max_body).await? {
        Read::Whole(bytes) => {
            let tag = if let Source::Field(pointer) = &version.source {
                field_tag(&bytes, pointer)
            } else {
                digest_tag(blake3::Hasher::new().update(&bytes))
            };
            let answer = headless(Response::from_parts(head, Body::Full(bytes)), reading);
            Ok(match tag {
                Some(tag) => finish(answer, &tag, reading),
                None => answer,
            })
        }
        Read::Larger(body) => Ok(headless(Response::from_parts(head, body), reading)),
    }
}

/// The answer to a HEAD that was a GET upstream: its length, and no content.
fn headless(answer: Response, reading: &Reading) -> Response {
    if !reading.is_head {
        return answer;
    }
    answer.map(|body| body.known_length().map_or(Body::Empty, Body::Head))
}

fn finish(mut answer: Response, tag: &EntityTag, reading: &Reading) -> Response {
    if let Some(value) = fields::value(tag.as_str()) {
        answer.headers_mut().insert(header::ETAG, value);
    }
    let lines: Vec<&[u8]> = reading.if_none_match.iter().map(Vec::as_slice).collect();
    if lines.is_empty() || !none_match_read(&lines, tag) {
        return answer;
    }
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    for name in
        [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::LAST_MODIFIED]
    {
        answer.headers_mut().remove(name);
    }
    answer.map(|_| Body::Empty)
}

/// An answer whose content is in memory, unless it is larger than `version.max_body`: then the rest streams.
///
/// # Errors
/// Where the content broke off.
pub async fn in_memory(answer: Response, version: &Version) -> Result<Response, BoxError> {
    let (head, body) = answer.into_parts();
    if matches!(body, Body::Empty)
        || body.known_length().is_some_and(|length| length > version.max_body as u64)
        || fields::is_stream(&head.headers)
    {
        return Ok(Response::from_parts(head, body));
    }
    let body = match up_to(body, version.max_body).await? {
        Read::Whole(bytes) => Body::Full(bytes),
        Read::Larger(body) => body,
    };
    Ok(Response::from_parts(head, body))
}

/// What came of reading a body up to a limit.
enum Read {
    Whole(Bytes),
    /// Larger than the limit: all of it, from its first byte on.
    Larger(Body),
}

async fn up_to(mut body: Body, limit: usize) -> Result<Read, BoxError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        whole.extend_from_slice(&data);
        if whole.len() > limit {
            return Ok(Read::Larger(body.after(whole.freeze())));
        }
    }
    Ok(Read::Whole(whole.freeze()))
}
