//! The fields that go upstream (F2).

use http::header::{self, HeaderMap, HeaderValue};

use super::fields;
use super::request::{Peer, Request};
use crate::protocol::prefer::without_wait;

/// Takes a request's fields and makes the upstream's of them: without those of this hop, with those of this proxy.
///
/// `Host` is the agent's, so that absolute links and WebDAV destinations made from it are the agent's too.
pub fn headers(request: &mut Request) -> HeaderMap {
    let mut headers = std::mem::take(&mut request.headers);
    fields::strip_request(&mut headers);
    // At most seven are added here, and four by a write.
    headers.reserve(11);
    headers.insert(header::HOST, request.host.clone());
    fields::add_via(&mut headers, request.version);
    headers.insert(fields::X_FORWARDED_FOR, request.peer.ip.clone());
    headers.insert(fields::X_FORWARDED_HOST, request.host.clone());
    headers.insert(fields::X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(forwarded) = forwarded(&request.host, &request.peer) {
        headers.insert(fields::FORWARDED, forwarded);
    }
    headers
}

/// What a guarded write does not ask of the upstream: the wait that is used up here (W1), and with a key an encoding of
/// the answer that a replay's agent may not take (K9).
pub fn of_write(headers: &mut HeaderMap, keyed: bool) {
    if keyed {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    used_up_wait(headers);
}

/// What is left of `Prefer` where its wait was waited here (W1).
pub fn used_up_wait(headers: &mut HeaderMap) {
    if !headers.contains_key(fields::PREFER) {
        return;
    }
    let left = without_wait(&fields::lines(headers, &fields::PREFER));
    match left.and_then(|left| HeaderValue::from_bytes(&left).ok()) {
        Some(left) => drop(headers.insert(fields::PREFER, left)),
        None => drop(headers.remove(fields::PREFER)),
    }
}

/// `Forwarded` (RFC 7239), made anew only when the host is another than the last one of the connection.
fn forwarded(host: &HeaderValue, peer: &Peer) -> Option<HeaderValue> {
    let mut last = peer.forwarded.lock();
    if let Some((of, forwarded)) = &*last
        && of == host
    {
        return Some(forwarded.clone());
    }
    let text = format!("{};host=\"{}\";proto=http", peer.forwarded_for, host.to_str().ok()?);
    let forwarded = fields::value(&text)?;
    *last = Some((host.clone(), forwarded.clone()));
    Some(forwarded)
}
