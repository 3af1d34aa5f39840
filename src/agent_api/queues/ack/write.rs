//! An acknowledgment that carries the write which finishes the task: `{"write": {"method", "path", "headers", "body"}}`.
//!
//! The two are one operation under one key: the write goes through the stages of a direct write of the same principal,
//! and its answer is the answer. A 2xx commits the write's result and the end of the claim together. Anything else leaves
//! the claim as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;

use super::super::Read;
use super::never;
use crate::http::timestamp::now;
use crate::http::{Body, Reason, Refusal, Request, Response, fields};
use crate::policy::admission;
use crate::policy::idempotency;
use crate::queues::{Acked, Settled, Settling};
use crate::stack::{Besides, Journey};

pub(super) async fn ack(
    read: Read,
    journey: &mut Journey,
    claim: &str,
    write: Value,
) -> Result<Response, Refusal> {
    if read.key.is_none() {
        return Err(Reason::MissingKey.into());
    }
    let request = request(&read, journey, write)?;
    let entry = read.gate.find_write(journey, &request)?;
    // As long as the write may take nobody else gets the task.
    let longest = entry.route.queue.max_wait + entry.route.limits.upstream_total;
    let first = !is_known(&read).await?;
    let (cells, settling) = hold(&read, claim, longest, first).await?;
    let done = Arc::new(AtomicBool::new(false));
    let besides = Besides { fingerprint: read.print, cells, done: Arc::clone(&done) };
    let result = read.gate.write_with(journey, &entry, read.principal, request, besides).await;
    let Some((settling, left)) = settling else { return result };
    let succeeded = result.as_ref().is_ok_and(|response| response.status().is_success());
    if done.load(Ordering::Acquire) {
        read.queue.settled(&settling).await;
    } else if succeeded {
        // The write was recorded by a run that was not this one; what it finished must not be handed out again.
        let said = read.queue.settle(claim, &read.principal, Acked::Done).await;
        if let Ok(Settled::Stands(settling)) = said {
            read.queue.settled(&settling).await;
        }
    } else if first && !is_out(&result) {
        // The claim stays, with the time that it had.
        let left = left.max(Duration::from_millis(1));
        drop(read.queue.settle(claim, &read.principal, Acked::Extended(left)).await);
    }
    result
}

/// Whether another request's run of it is out, which needs the time that the claim has now and gives it back itself.
fn is_out(result: &Result<Response, Refusal>) -> bool {
    matches!(result, Err(Refusal { reason: Reason::InFlight, .. }))
}

/// Whether the key was used before: then another run may be out with what it commits.
async fn is_known(read: &Read) -> Result<bool, Refusal> {
    let Some(key) = &read.key else { return Ok(false) };
    let record = read.gate.store.read(read.id(key), now()).await.map_err(idempotency::refused)?;
    Ok(record.is_some())
}

type Cells = Result<Vec<crate::store::Put>, Reason>;

/// Holds the claim for the time of the write. What is committed with it, and what the claim had left.
async fn hold(
    read: &Read,
    claim: &str,
    longest: Duration,
    first: bool,
) -> Result<(Cells, Option<(Box<Settling>, Duration)>), Refusal> {
    let (queue, principal) = (&read.queue, &read.principal);
    let lost = |said: &Settled| match said {
        Settled::Never => never(),
        Settled::Stands(_) | Settled::Already | Settled::Lost => Reason::ClaimLost,
    };
    let held = queue.word(claim, principal, Acked::Done).await.map_err(idempotency::refused)?;
    let Settled::Stands(before) = held else { return Ok((Err(lost(&held)), None)) };
    let left = before.left();
    if !first {
        return Ok((Ok(before.cells.clone()), Some((before, left))));
    }
    let extended = queue.settle(claim, principal, Acked::Extended(longest.max(left))).await;
    let extended = extended.map_err(idempotency::refused)?;
    if !matches!(extended, Settled::Stands(_)) {
        return Ok((Err(lost(&extended)), None));
    }
    match queue.word(claim, principal, Acked::Done).await.map_err(idempotency::refused)? {
        Settled::Stands(settling) => Ok((Ok(settling.cells.clone()), Some((settling, left)))),
        said @ (Settled::Already | Settled::Lost | Settled::Never) => Ok((Err(lost(&said)), None)),
    }
}

/// The write as a request of its own: who sends it, where from, and its key are the acknowledgment's.
fn request(read: &Read, journey: &Journey, write: Value) -> Result<Request, Refusal> {
    let bad = |what: &str| Refusal::from(Reason::BadRequest(what.to_owned()));
    let Value::Object(mut write) = write else { return Err(bad("`write` is a JSON object.")) };
    let method = write.remove("method");
    let method = method.as_ref().and_then(Value::as_str).and_then(|method| method.parse::<Method>().ok());
    let method = method.ok_or_else(|| bad("`write.method` is a method, such as \"PUT\"."))?;
    let path = write.remove("path");
    let path = path.as_ref().and_then(Value::as_str).filter(|path| path.starts_with('/'));
    let path = path.ok_or_else(|| bad("`write.path` is a path, such as \"/documents/7\"."))?;
    let mut headers = own_headers(read, journey);
    if let Some(given) = write.remove("headers") {
        let Value::Object(given) = given else { return Err(bad("`write.headers` is a JSON object.")) };
        for (name, value) in given {
            let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
            let (Ok(name), Some(value)) = (name.parse::<HeaderName>(), value) else {
                return Err(bad("`write.headers` holds names of headers with a string each."));
            };
            if headers.contains_key(&name)
                || name == header::CONTENT_LENGTH
                || name == header::TRANSFER_ENCODING
            {
                return Err(bad(
                    "`write.headers` names one that the acknowledgment itself says: leave it out.",
                ));
            }
            headers.insert(name, value);
        }
    }
    let body = match write.remove("body") {
        None => Body::Empty,
        Some(Value::String(text)) => Body::text(text),
        Some(json) => {
            headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            Body::text(json.to_string())
        }
    };
    if write.keys().next().is_some() {
        return Err(bad("`write` has members `method`, `path`, `headers` and `body`, and no other."));
    }
    let mut request = http::Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| bad("`write.path` is not a path."))?;
    *request.headers_mut() = headers;
    Ok(admission::request(request, &read.peer, &journey.rules.config.limits)?)
}

/// Who sends it, to whom, and under which key; what it prefers is said of both.
fn own_headers(read: &Read, journey: &Journey) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, read.host.clone());
    let names = [&fields::IDEMPOTENCY_KEY, &fields::PREFER, &header::ACCEPT];
    for name in journey.rules.config.identity.iter().chain(names) {
        for value in read.headers.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}
