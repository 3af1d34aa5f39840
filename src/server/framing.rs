//! F1 on the bytes: one head is looked at before the HTTP library sees it, and where the content behind it ends.
//!
//! The library mends what must not be mended (it drops a `Content-Length` beside a `Transfer-Encoding`, folds equal
//! lengths into one, answers a malformed head without a body), and nothing of that can be seen afterwards. So each
//! head passes here first:
//!
//! 1. the target is origin-form, or absolute-form with the authority of `Host`, and within `limits.uri` (414);
//! 2. exactly one `Host`, an authority without user information, not empty;
//! 3. at most one `Transfer-Encoding`, `chunked`, on HTTP/1.1 only, and then no `Content-Length`;
//! 4. at most one `Content-Length`, digits only;
//! 5. head and field count within `limits.head` and `limits.headers` (431);
//! 6. every line ends in CRLF: a bare LF, or an empty line that is none, is read differently elsewhere.

use std::mem::MaybeUninit;

use memchr::{memchr, memchr_iter};

use crate::http::Reason;
use crate::http::target::{is_host, is_visible};

/// What of the configuration a head is measured by.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    pub(super) head: usize,
    pub(super) headers: usize,
    pub(super) uri: usize,
}

/// How the content behind a head ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Length(u64),
    Chunked,
}

/// Most fields that are parsed without an allocation.
const USUAL_HEADERS: usize = 100;

/// Where the head in front of `bytes` ends, if it is whole.
pub(super) fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        let line_end = at + found;
        match bytes.get(line_end + 1..) {
            Some([b'\n', ..]) => return Some(line_end + 2),
            Some([b'\r', b'\n', ..]) => return Some(line_end + 3),
            Some(_) | None => at = line_end + 1,
        }
    }
    None
}

/// Checks one whole head.
///
/// # Errors
/// The refusal that the agent gets before its connection is closed.
pub(super) fn check(head: &[u8], limits: HeadLimits) -> Result<Content, Reason> {
    if limits.headers <= USUAL_HEADERS {
        // Not cleared first: that would cost more than to parse a usual head.
        let mut fields = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
        return check_with(head, limits, fields.get_mut(..limits.headers).unwrap_or_default());
    }
    check_with(head, limits, &mut vec![MaybeUninit::uninit(); limits.headers])
}

fn check_with<'b>(
    head: &'b [u8],
    limits: HeadLimits,
    fields: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Content, Reason> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, fields) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Reason::HeadersTooLarge(format!(
                "The request has more than {} header fields.",
                limits.headers
            )));
        }
        Ok(httparse::Status::Partial) => return Err(bad("The request's head is incomplete.")),
        Err(error) => return Err(bad(&format!("The request's head is malformed: {error}."))),
    }
    if has_bare_line_feed(head) {
        return Err(bad("A line of the request's head ends without CRLF."));
    }
    let target = request.path.unwrap_or_default();
    if target.len() > limits.uri {
        return Err(Reason::UriTooLong { limit: limits.uri });
    }
    let host = one_host(request.headers)?;
    check_target(target, host)?;
    content(request.headers, request.version == Some(1))
}

fn bad(what: &str) -> Reason {
    Reason::BadRequest(what.to_owned())
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    let starts_empty = matches!(head, [b'\r' | b'\n', ..]);
    let is_bare = |at: usize| at.checked_sub(1).and_then(|before| head.get(before)) != Some(&b'\r');
    starts_empty || memchr_iter(b'\n', head).any(is_bare)
}

fn one_host<'b>(fields: &[httparse::Header<'b>]) -> Result<&'b str, Reason> {
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let host = hosts.next().ok_or_else(|| bad("The request has no Host header."))?;
    if hosts.next().is_some() {
        return Err(bad("The request has more than one Host header."));
    }
    let host = std::str::from_utf8(host.value).map_err(|_| bad("The Host header is not a host."))?;
    if is_host(host) { Ok(host) } else { Err(bad("The Host header is not a host with an optional port.")) }
}

fn check_target(target: &str, host: &str) -> Result<(), Reason> {
    // What the library cannot read as a target it would refuse itself, without a problem (P1).
    if !is_usual(target) && (!is_visible(target) || target.parse::<http::Uri>().is_err()) {
        return Err(bad("The request target holds a character that no target may hold."));
    }
    if target.starts_with('/') {
        return Ok(());
    }
    let rest = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")).and(target.get(7..));
    let authority = rest.and_then(|rest| rest.split(['/', '?']).next());
    match authority {
        Some(authority) if authority.eq_ignore_ascii_case(host) => Ok(()),
        Some(_) => Err(bad("The request target names another host than the Host header.")),
        None => Err(bad("The request target is not a path.")),
    }
}

/// Whether it is a path that every reader reads, as nearly all are; what is not may be one all the same.
fn is_usual(target: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'.' | b'_' | b'~');
    target.starts_with('/') && target.len() < usize::from(u16::MAX) && target.bytes().all(plain)
}

fn content(fields: &[httparse::Header<'_>], is_http_11: bool) -> Result<Content, Reason> {
    let mut lengths = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let mut codings = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("transfer-encoding"));
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || codings.next().is_some() {
        return Err(bad("Content-Length or Transfer-Encoding stands more than once in the request."));
    }
    match (length, coding) {
        (None, None) => Ok(Content::Length(0)),
        (Some(length), None) => digits(length.value).map(Content::Length),
        (Some(_), Some(_)) => Err(bad("The request has both Content-Length and Transfer-Encoding.")),
        (None, Some(coding)) if is_http_11 && coding.value.eq_ignore_ascii_case(b"chunked") => {
            Ok(Content::Chunked)
        }
        (None, Some(_)) => Err(bad("The request's Transfer-Encoding is something else than chunked.")),
    }
}

fn digits(value: &[u8]) -> Result<u64, Reason> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok())
        .filter(|length| *length < u64::MAX - 1)
        .ok_or_else(|| bad("The request's Content-Length is not a length."))
}

/// Finds the end of chunked content (RFC 9112 §7.1) without changing a byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In a chunk's size; digits so far.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size, up to its line's end.
    Extension {
        size: u64,
        bytes: u16,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataEnd,
    DataEndLf,
    /// In the trailer section: bytes so far, and whether its line is still empty.
    Trailer {
        bytes: u16,
        empty: bool,
    },
    TrailerEnd {
        bytes: u16,
        empty: bool,
    },
    Done,
}

/// A byte that no chunked content may have here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadChunk;

impl Chunks {
    pub(super) const START: Self = Self::Size { size: 0, digits: 0 };

    /// Walks over `bytes`; how many belong to the content, up to its end.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let Self::Data { left } = self {
                let step = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= step as u64;
                at += step;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                continue;
            }
            if *self == Self::Done {
                break;
            }
            let Some(byte) = rest.first() else { break };
            *self = self.step(*byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(self, byte: u8) -> Result<Self, BadChunk> {
        const MOST: u16 = 8192;
        Ok(match (self, byte) {
            (Self::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits >= 15 {
                    return Err(BadChunk);
                }
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                Self::Size { size: size * 16 + digit, digits: digits + 1 }
            }
            (Self::Size { digits: 0, .. }, _) => return Err(BadChunk),
            (Self::Size { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Size { size, .. }, b';' | b' ' | b'\t') => Self::Extension { size, bytes: 0 },
            (Self::Extension { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size, bytes }, _) if byte != b'\n' && bytes < MOST => {
                Self::Extension { size, bytes: bytes + 1 }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailer { bytes: 0, empty: true },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataEnd, b'\r') => Self::DataEndLf,
            (Self::DataEndLf, b'\n') => Self::START,
            (Self::Trailer { bytes, empty }, b'\r') => Self::TrailerEnd { bytes, empty },
            (Self::Trailer { bytes, .. }, _) if byte != b'\n' && bytes < MOST => {
                Self::Trailer { bytes: bytes + 1, empty: false }
            }
            (Self::TrailerEnd { empty: true, .. }, b'\n') => Self::Done,
            (Self::TrailerEnd { bytes, .. }, b'\n') => Self::Trailer { bytes, empty: true },
            _ => return Err(BadChunk),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head: 1024, headers: 5, uri: 64 };

    fn verdict(head: &str) -> Result<Content, &'static str> {
        check(head.as_bytes(), LIMITS).map_err(|reason| reason.code())
    }

    // F1
    #[test]
    fn heads_are_taken_or_refused() {
        let ok = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Content::Length(0)),
            ("GET http://a:1/x HTTP/1.1\r\nHost: a:1\r\n\r\n", Content::Length(0)),
            ("PUT /x HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 7\r\n\r\n", Content::Length(7)),
            ("PUT /x HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", Content::Chunked),
        ];
        for (head, content) in ok {
            assert_eq!(verdict(head), Ok(content), "{head:?}");
        }
        let bad = [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
            "GET ! HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "PUT / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost : a\r\n\r\n",
            "PUT / HTTP/1.1\nHost: a\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\n\n",
            "\rPUT / HTTP/1.1\r\nHost: a\r\n\r\n",
            "PUT /` HTTP/1.1\r\nHost: a\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
        ];
        for head in bad {
            assert_eq!(verdict(head), Err("bad-request"), "{head:?}");
        }
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(5));
        assert_eq!(verdict(&many), Err("headers-too-large"));
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(64));
        assert_eq!(verdict(&long), Err("uri-too-long"));
    }

    // F1
    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        assert_eq!(head_end(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest", 0), Some(27));
        assert_eq!(head_end(b"a\n\nb", 0), Some(3));
        assert_eq!(head_end(b"a\r\nb\r\n", 0), None);
    }

    // F1
    #[test]
    fn chunked_content_ends_where_it_ends() {
        for (content, rest) in [
            ("0\r\n\r\n", "GET"),
            ("5\r\nhello\r\n0\r\n\r\n", "x"),
            ("a;x=y\r\n0123456789\r\n00\r\nT: 1\r\nU: 2\r\n\r\n", ""),
        ] {
            let bytes = format!("{content}{rest}");
            for cut in 0..content.len() {
                let mut chunks = Chunks::START;
                let first = chunks.advance(&bytes.as_bytes()[..cut]).unwrap();
                assert_eq!(first, cut);
                let second = chunks.advance(&bytes.as_bytes()[cut..]).unwrap();
                assert_eq!((cut + second, chunks), (content.len(), Chunks::Done), "{bytes:?} cut at {cut}");
            }
        }
        for bad in
            ["\r\n", "x\r\n", "5\nhello", "1\r\nab", "1\r\na\n", "0\r\n\n", "fffffffffffffffff\r\n", "-1\r\n"]
        {
            let mut chunks = Chunks::START;
            assert_eq!(chunks.advance(bad.as_bytes()), Err(BadChunk), "{bad:?}");
        }
    }
}
