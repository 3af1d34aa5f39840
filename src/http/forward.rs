//! The fields that go upstream (F2).

use http::header::{self, HeaderMap, HeaderValue};

use super::fields;
use super::request::Request;

/// Takes a request's fields and makes the upstream's of them: without those of this hop, with those of this proxy.
///
/// `Host` is the agent's, so that absolute links and WebDAV destinations made from it are the agent's too.
pub fn headers(request: &mut Request) -> HeaderMap {
    let mut headers = std::mem::take(&mut request.headers);
    fields::strip_request(&mut headers);
    // The content's length is told by the body that goes out, never twice.
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::HOST, request.host.clone());
    fields::add_via(&mut headers);
    headers.insert(fields::X_FORWARDED_FOR, request.peer.ip.clone());
    headers.insert(fields::X_FORWARDED_HOST, request.host.clone());
    headers.insert(fields::X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    let host = request.host.to_str().unwrap_or_default();
    if let Some(forwarded) =
        fields::value(&format!("{};host=\"{host}\";proto=http", request.peer.forwarded_for))
    {
        headers.insert(fields::FORWARDED, forwarded);
    }
    headers
}
