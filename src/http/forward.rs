//! The fields that go upstream (F2).

use http::header::{self, HeaderMap, HeaderValue};

use super::fields;
use super::request::{Peer, Request};

/// Takes a request's fields and makes the upstream's of them: without those of this hop, with those of this proxy.
///
/// `Host` is the agent's, so that absolute links and WebDAV destinations made from it are the agent's too.
pub fn headers(request: &mut Request) -> HeaderMap {
    let mut headers = std::mem::take(&mut request.headers);
    fields::strip_request(&mut headers);
    // At most seven are added here, and four by a write.
    headers.reserve(11);
    headers.insert(header::HOST, request.host.clone());
    fields::add_via(&mut headers);
    headers.insert(fields::X_FORWARDED_FOR, request.peer.ip.clone());
    headers.insert(fields::X_FORWARDED_HOST, request.host.clone());
    headers.insert(fields::X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(forwarded) = forwarded(&request.host, &request.peer) {
        headers.insert(fields::FORWARDED, forwarded);
    }
    headers
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
