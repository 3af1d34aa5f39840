//! What makes two requests under one key the same (K3).
//!
//! 1. Method, path, query, content type and the whole body count; preconditions and other fields do not.
//! 2. With [`Compare::Json`] a JSON body counts by its meaning and a multipart one by its parts, the boundary
//!    left out of it and of the content type. What does not parse counts by its bytes.
//! 3. Each field goes into the hash with its length, each body with its kind: nothing can pass for something
//!    else.

use super::{json, multipart};

/// How bodies are compared (K3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// JSON by meaning, multipart by its parts, all else by bytes.
    Json,
    Bytes,
}

/// The first 16 bytes of a BLAKE3 hash over all that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// One that was stored.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// For storing.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// What of a request counts.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    pub method: &'a str,
    /// Counts as it stands here: whether aliases of a path are one is the caller's to say.
    pub path: &'a str,
    /// Without its `?`. `None` and the empty query differ.
    pub query: Option<&'a str>,
    pub content_type: Option<&'a [u8]>,
    pub body: &'a [u8],
}

/// The fingerprint of a request.
pub fn fingerprint(compare: Compare, parts: &Parts<'_>) -> Fingerprint {
    let by_meaning = match compare {
        Compare::Bytes => None,
        Compare::Json => by_meaning(parts),
    };
    by_meaning.unwrap_or_else(|| {
        let mut sink = Sink::of(parts, b"b");
        sink.optional(parts.content_type);
        sink.field(parts.body);
        sink.finish()
    })
}

/// `None`: neither JSON nor multipart, or it does not parse.
fn by_meaning(parts: &Parts<'_>) -> Option<Fingerprint> {
    let content_type = parts.content_type?;
    if is_json(content_type) {
        let mut sink = Sink::of(parts, b"j");
        sink.field(content_type);
        json::canonical(parts.body, &mut sink).ok()?;
        return Some(sink.finish());
    }
    let content_type = multipart::content_type(content_type)?;
    let body = multipart::parts(parts.body, &content_type.boundary)?;
    let mut sink = Sink::of(parts, b"m");
    sink.field(content_type.essence);
    sink.push(&(content_type.others.len() as u64).to_le_bytes());
    for parameter in content_type.others {
        sink.field(parameter);
    }
    for part in body {
        sink.field(part.headers);
        sink.field(part.content);
    }
    Some(sink.finish())
}

/// Whether a content type says JSON: `application/json` or `*/*+json`, whatever its parameters.
pub fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let suffix = essence.len().checked_sub(5).and_then(|at| essence.get(at..)).unwrap_or_default();
    essence.eq_ignore_ascii_case(b"application/json") || suffix.eq_ignore_ascii_case(b"+json")
}

/// Gathers what is hashed. Small requests are hashed in one go, which saves setting a hasher up.
struct Sink {
    buffer: Vec<u8>,
    hasher: Option<Box<blake3::Hasher>>,
}

/// How much is gathered before it is hashed, in bytes.
const GATHERED: usize = 4096;

impl Sink {
    /// With what counts of every request already in it, and what kind of body comes behind.
    fn of(parts: &Parts<'_>, kind: &[u8; 1]) -> Self {
        let expected = 128 + parts.path.len() + parts.query.map_or(0, str::len) + parts.body.len();
        let mut sink = Self { buffer: Vec::with_capacity(expected.min(GATHERED)), hasher: None };
        sink.push(kind);
        sink.field(parts.method.as_bytes());
        sink.field(parts.path.as_bytes());
        sink.optional(parts.query.map(str::as_bytes));
        sink
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() <= GATHERED {
            return self.buffer.extend_from_slice(bytes);
        }
        let hasher = self.hasher.get_or_insert_default();
        hasher.update(&self.buffer);
        self.buffer.clear();
        hasher.update(bytes);
    }

    fn field(&mut self, field: &[u8]) {
        self.push(&(field.len() as u64).to_le_bytes());
        self.push(field);
    }

    fn optional(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.push(b"-"),
            Some(field) => {
                self.push(b"+");
                self.field(field);
            }
        }
    }

    fn finish(self) -> Fingerprint {
        let hash = match self.hasher {
            None => blake3::hash(&self.buffer),
            Some(mut hasher) => hasher.update(&self.buffer).finalize(),
        };
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        Fingerprint(first)
    }
}

impl json::Out for Sink {
    fn put(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    #[inline]
    fn put_text(&mut self, kind: u8, text: &[u8]) {
        match json::short(text) {
            Some(length) if self.buffer.len() + text.len() + 2 <= GATHERED => {
                self.buffer.extend_from_slice(&[kind, length]);
                self.buffer.extend_from_slice(text);
            }
            Some(_) | None => json::put_text(self, kind, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: Option<&[u8]> = Some(b"application/json");

    fn of<'a>(content_type: Option<&'a [u8]>, body: &'a [u8]) -> Parts<'a> {
        Parts { method: "POST", path: "/documents", query: None, content_type, body }
    }

    fn same(one: &Parts<'_>, other: &Parts<'_>) -> [bool; 2] {
        [Compare::Json, Compare::Bytes]
            .map(|compare| fingerprint(compare, one) == fingerprint(compare, other))
    }

    // K3
    #[test]
    fn each_part_counts() {
        let first = of(JSON, b"{\"a\":1}");
        let others = [
            Parts { method: "PUT", ..first },
            Parts { path: "/documents/", ..first },
            Parts { query: Some(""), ..first },
            Parts { query: Some("a=1"), ..first },
            Parts { content_type: None, ..first },
            Parts { content_type: Some(b"application/problem+json"), ..first },
            Parts { body: b"{\"a\":2}", ..first },
            Parts { body: b"", ..first },
            Parts { method: "POST/", path: "documents", ..first },
            Parts { path: "/document", query: Some("s"), ..first },
        ];
        assert_eq!(same(&first, &first), [true, true]);
        for other in others {
            assert_eq!(same(&first, &other), [false, false], "{other:?}");
        }
    }

    // K3
    #[test]
    fn json_counts_by_meaning() {
        let (one, other) = (b"{\"a\":1,\"b\":[null]}".as_slice(), b" {\"b\":[null], \"a\":1.0}".as_slice());
        let kinds = [
            b"application/json".as_slice(),
            b"Application/JSON ; charset=utf-8",
            b"application/merge-patch+json",
            b"application/vnd.x+JSON;v=1",
        ];
        for kind in kinds {
            assert_eq!(same(&of(Some(kind), one), &of(Some(kind), other)), [true, false]);
            assert!(is_json(kind));
        }
        for kind in [
            b"text/plain".as_slice(),
            b"application/jsonl",
            b"text/plain; a=application/json",
            b"+json/x",
            b"",
        ] {
            assert_eq!(same(&of(Some(kind), one), &of(Some(kind), other)), [false, false]);
        }
        assert_eq!(same(&of(None, one), &of(None, other)), [false, false]);
    }

    // K3: a repeated name, bad JSON and what is nested too deep, by bytes.
    #[test]
    fn what_does_not_parse_counts_by_bytes() {
        let deep = ("[".repeat(129) + &"]".repeat(129)).into_bytes();
        for body in [b"{\"a\":1,\"a\":2}".as_slice(), b"{\"a\":1", b"\xff", b"", &deep] {
            assert_eq!(same(&of(JSON, body), &of(JSON, body)), [true, true]);
            let spaced = [b" ", body].concat();
            assert_eq!(same(&of(JSON, body), &of(JSON, &spaced)), [false, false]);
        }
    }

    // K3
    #[test]
    fn multipart_counts_by_its_parts() {
        let kind = |boundary: &str| format!("multipart/form-data; boundary={boundary}").into_bytes();
        let body = |boundary: &str, content: &str| {
            let header = "Content-Disposition: form-data; name=a";
            format!("--{boundary}\r\n{header}\r\n\r\n{content}\r\n--{boundary}--\r\n").into_bytes()
        };
        let (kind_x, kind_y) = (kind("xxx"), kind("yyy"));
        let (x, y, z) = (body("xxx", "hello"), body("yyy", "hello"), body("yyy", "hullo"));
        assert_eq!(same(&of(Some(&kind_x), &x), &of(Some(&kind_y), &y)), [true, false]);
        assert_eq!(same(&of(Some(&kind_x), &x), &of(Some(&kind_y), &z)), [false, false]);
        let renamed = String::from_utf8_lossy(&y).replace("name=a", "name=b").into_bytes();
        assert_eq!(same(&of(Some(&kind_x), &x), &of(Some(&kind_y), &renamed)), [false, false]);
        // With the wrong boundary it does not parse.
        assert_eq!(same(&of(Some(&kind_x), &y), &of(Some(&kind_y), &y)), [false, false]);
        let mixed = b"multipart/mixed; boundary=yyy".as_slice();
        assert_eq!(same(&of(Some(&kind_x), &x), &of(Some(mixed), &y)), [false, false]);
        let more = b"multipart/form-data; boundary=yyy; a=b".as_slice();
        assert_eq!(same(&of(Some(&kind_x), &x), &of(Some(more), &y)), [false, false]);
    }

    // Records outlive an update: this may only change together with their format.
    #[test]
    fn it_stays_the_same() {
        let json = fingerprint(Compare::Json, &of(JSON, b"{\"a\": 1}"));
        assert_eq!(
            format!("{:032x}", u128::from_be_bytes(*json.as_bytes())),
            "e906614c2816aa491f891643d14700d0"
        );
        assert_eq!(Fingerprint::from_bytes(*json.as_bytes()), json);
    }

    proptest! {
        #[test]
        fn any_difference_shows(
            requests in prop::array::uniform2((
                "[ab]{0,2}",
                "[ab]{0,2}",
                prop::option::of("[ab]{0,2}"),
                prop::option::of(prop::collection::vec(b'a'..=b'b', 0..3)),
                prop::collection::vec(b'a'..=b'b', 0..3),
            )),
        ) {
            let hashed = requests.each_ref().map(|(method, path, query, content_type, body)| {
                let (query, content_type) = (query.as_deref(), content_type.as_deref());
                fingerprint(Compare::Json, &Parts { method, path, query, content_type, body })
            });
            prop_assert_eq!(hashed[0] == hashed[1], requests[0] == requests[1]);
        }

        /// Hashing in one go and piece by piece give the same.
        #[test]
        fn size_does_not_matter(pieces in prop::collection::vec(0..3000_usize, 0..6)) {
            let empty = of(None, b"");
            let (mut sink, mut whole) = (Sink::of(&empty, b"b"), Sink::of(&empty, b"b").buffer);
            for length in pieces {
                sink.push(&vec![7; length]);
                whole.extend(vec![7; length]);
            }
            let (piecewise, at_once) = (sink.finish(), blake3::hash(&whole));
            prop_assert_eq!(&piecewise.as_bytes()[..], &at_once.as_bytes()[..16]);
        }
    }
}
