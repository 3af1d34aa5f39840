//! Field names that Onceward speaks, and what is done with fields on the way (F2).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub const IDEMPOTENCY_EXPIRES: HeaderName = HeaderName::from_static("idempotency-expires");
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub const ONCEWARD_RESOURCE: HeaderName = HeaderName::from_static("onceward-resource");
pub const ONCEWARD_VERSION: HeaderName = HeaderName::from_static("onceward-version");
pub const ONCEWARD_RETRY: HeaderName = HeaderName::from_static("onceward-retry");
pub const ONCEWARD_FENCE: HeaderName = HeaderName::from_static("onceward-fence");
pub const ONCEWARD_OBSERVED: HeaderName = HeaderName::from_static("onceward-observed");
pub const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const VIA_VALUE: HeaderValue = HeaderValue::from_static("1.1 onceward");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Hop-by-hop fields that are taken off both ways, with or without `Connection` naming them (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes off hop-by-hop fields and all that `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        strip_named_by_connection(headers);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn strip_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Fields of an agent's request that never go upstream as they came: ours, those with `_` in the name (which some
/// servers read as `-`), those that this proxy states itself, and those of this hop (F2).
pub fn strip_request(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(header::PROXY_AUTHORIZATION);
    headers.remove(header::EXPECT);
    headers.remove(header::TRAILER);
    let ours: Vec<HeaderName> = headers.keys().filter(|name| not_forwarded(name.as_str())).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

fn not_forwarded(name: &str) -> bool {
    name.contains('_')
        || name.starts_with("onceward-")
        || name.starts_with("x-forwarded-")
        || name == "forwarded"
}

/// Fields of an upstream's answer that never reach the agent (F2).
pub fn strip_answer(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(header::TRAILER);
    let ours: Vec<HeaderName> = headers.keys().filter(|name| forged(name.as_str())).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

fn forged(name: &str) -> bool {
    name.starts_with("onceward-") || name == "idempotent-replayed" || name == "idempotency-expires"
}

/// Adds this hop to `Via` (RFC 9110 §7.6.3).
pub fn add_via(headers: &mut HeaderMap) {
    headers.append(header::VIA, VIA_VALUE);
}

/// All lines of a field as bytes, for the parsers in `protocol`.
pub fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// A header value from text that was made here; `None` where it holds what no field may hold.
pub fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}

/// What is kept of an answer for its replays (K9).
pub fn is_kept(name: &HeaderName) -> bool {
    let name = name.as_str();
    // The length is the body's own, and is written anew.
    !matches!(
        name,
        "set-cookie" | "www-authenticate" | "date" | "server-timing" | "alt-svc" | "content-length"
    ) && !name.starts_with("ratelimit")
}

/// Whether an answer is a stream, which is passed through as it comes (K10) and has no version.
pub fn is_stream(headers: &HeaderMap) -> bool {
    const STREAMS: [&str; 4] =
        ["text/event-stream", "application/x-ndjson", "application/jsonl", "multipart/x-mixed-replace"];
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    STREAMS.iter().any(|stream| essence.eq_ignore_ascii_case(stream))
}
