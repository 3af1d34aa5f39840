//! Field names that Onceward speaks, and what is done with fields on the way (F2).

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub const IDEMPOTENCY_EXPIRES: HeaderName = HeaderName::from_static("idempotency-expires");
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub const ONCEWARD_RESOURCE: HeaderName = HeaderName::from_static("onceward-resource");
pub const ONCEWARD_VERSION: HeaderName = HeaderName::from_static("onceward-version");
pub const ONCEWARD_RETRY: HeaderName = HeaderName::from_static("onceward-retry");
pub const ONCEWARD_LEASE: HeaderName = HeaderName::from_static("onceward-lease");
pub const ONCEWARD_FENCE: HeaderName = HeaderName::from_static("onceward-fence");
pub const ONCEWARD_OBSERVED: HeaderName = HeaderName::from_static("onceward-observed");
pub const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Hop-by-hop fields that are taken off both ways, with or without `Connection` naming them (RFC 9110 §7.6.1).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding" | "upgrade"
    )
}

/// Fields of an agent's request that never go upstream as they came: those of this hop, ours, those with `_` in the
/// name (which some servers read as `-`), and those that this proxy states itself (F2).
pub fn strip_request(headers: &mut HeaderMap) {
    strip(headers, |name| {
        is_hop_by_hop(name)
            // The content's length is told by the body that goes out, never twice.
            || matches!(name, "proxy-authorization" | "expect" | "forwarded" | "content-length")
            || name.starts_with("onceward-")
            || name.starts_with("x-forwarded-")
            || memchr(b'_', name.as_bytes()).is_some()
    });
}

/// Takes off what was for one hop only, and all that `Connection` names (RFC 9110 §7.6.1).
pub fn strip_hops(headers: &mut HeaderMap) {
    strip(headers, |name| is_hop_by_hop(name) || matches!(name, "expect" | "content-length"));
}

/// Fields of an upstream's answer that never reach the agent (F2).
pub fn strip_answer(headers: &mut HeaderMap) {
    strip(headers, |name| {
        is_hop_by_hop(name)
            || matches!(name, "proxy-authenticate" | "idempotent-replayed" | "idempotency-expires")
            || name.starts_with("onceward-")
            || memchr(b'_', name.as_bytes()).is_some()
    });
}

/// Takes off what is unwanted and what `Connection` names; looks at each name once, as most messages have nothing to
/// take off.
fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let mut named: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    if headers.contains_key(header::CONNECTION) {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        // What most upstreams say, and is taken off anyway.
        let values = values.filter(|value| !value.eq_ignore_ascii_case("keep-alive"));
        named.extend(values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()));
    }
    for name in named {
        headers.remove(name);
    }
}

/// Adds this hop to `Via`, with the version that the message came in (RFC 9110 §7.6.3).
pub fn add_via(headers: &mut HeaderMap, version: Version) {
    const VIA_2: HeaderValue = HeaderValue::from_static("2.0 onceward");
    const VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 onceward");
    const VIA_1_0: HeaderValue = HeaderValue::from_static("1.0 onceward");
    let via = match version {
        Version::HTTP_2 => VIA_2,
        Version::HTTP_10 => VIA_1_0,
        _ => VIA_1_1,
    };
    headers.append(header::VIA, via);
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
