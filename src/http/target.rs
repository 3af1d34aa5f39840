//! Hosts and request targets, the same for every protocol version (F1).

use http::uri::Authority;

/// Whether a `Host` or `:authority` is a host with an optional port, and nothing else.
pub fn is_host(host: &str) -> bool {
    let plain = host.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'@' | b'/' | b'\\'));
    if host.is_empty() || !plain {
        return false;
    }
    if let Some(usual) = is_usual_host(host) {
        return usual;
    }
    host.parse::<Authority>().is_ok_and(|authority| {
        let port = host.get(authority.host().len()..).unwrap_or_default();
        !authority.host().is_empty() && port.strip_prefix(':').map_or(port.is_empty(), is_port)
    })
}

/// For a name or an IPv4 address with an optional port, as nearly every request has it; `None`: it must be parsed.
fn is_usual_host(host: &str) -> Option<bool> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    (is_name && !name.is_empty()).then(|| port.is_none_or(is_port))
}

/// Digits alone: a number as the language reads it may have a sign.
fn is_port(port: &str) -> bool {
    port.is_empty() || (port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

/// Whether a target holds only characters that a target may hold (RFC 3986 §2).
pub fn is_visible(target: &str) -> bool {
    target.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    // F1: the short way says what the long one says.
    #[test]
    fn hosts() {
        for (host, is) in [
            ("a", true),
            ("a.b-c.9", true),
            ("127.0.0.1:8080", true),
            ("a:", true),
            ("a:0", true),
            ("a:65535", true),
            ("a:65536", false),
            ("a:+1", false),
            ("a:b", false),
            ("a:1:2", false),
            (":80", false),
            ("", false),
            ("[::1]:80", true),
            ("[::1", false),
            ("a_b", true),
            ("u@a", false),
            ("a,b", false),
            ("a/b", false),
        ] {
            assert_eq!(is_host(host), is, "{host}");
        }
    }
}
