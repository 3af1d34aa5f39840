//! Hosts and request targets, the same for every protocol version (F1).

use http::uri::Authority;

/// Whether a `Host` or `:authority` is a host with an optional port, and nothing else.
pub fn is_host(host: &str) -> bool {
    let plain = host.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'@' | b'/' | b'\\'));
    let port_ok = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    if host.is_empty() || !plain {
        return false;
    }
    host.parse::<Authority>().is_ok_and(|authority| {
        let port = host.get(authority.host().len()..).unwrap_or_default();
        !authority.host().is_empty() && port.strip_prefix(':').map_or(port.is_empty(), port_ok)
    })
}

/// Whether a target holds only characters that a target may hold (RFC 3986 §2).
pub fn is_visible(target: &str) -> bool {
    target.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>' | b'\\'))
}
