//! What makes two requests under one key the same (K3).
//!
//! 1. Method, path, query, content type and the whole body count; preconditions and other fields do not.
//! 2. With [`Compare::Json`] a JSON body counts by its meaning and a multipart one by its parts, the boundary left out
//!    of it and of the content type. What does not parse counts by its bytes.
//! 3. Each field goes into the hash with its length, each body with its kind: nothing can pass for something else.

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
        let mut sink = Sink::of(parts);
        sink.optional(parts.content_type);
        sink.push(b"b");
        sink.field(parts.body);
        sink.finish()
    })
}

/// `None`: neither JSON nor multipart, or it does not parse.
fn by_meaning(parts: &Parts<'_>) -> Option<Fingerprint> {
    let content_type = parts.content_type?;
    let mut sink = Sink::of(parts);
    if is_json(content_type) {
        sink.field(content_type);
        sink.push(b"j");
        json::canonical(parts.body, &mut |bytes| sink.push(bytes)).ok()?;
        return Some(sink.finish());
    }
    let content_type = multipart::content_type(content_type)?;
    let body = multipart::parts(parts.body, &content_type.boundary)?;
    sink.field(content_type.essence);
    for parameter in content_type.others {
        sink.field(parameter);
    }
    sink.push(b"m");
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
    /// With what counts of every request already in it.
    fn of(parts: &Parts<'_>) -> Self {
        let expected = 128 + parts.path.len() + parts.query.map_or(0, str::len) + parts.body.len();
        let mut sink = Self { buffer: Vec::with_capacity(expected.min(GATHERED)), hasher: None };
        sink.field(parts.method.as_bytes());
        sink.field(parts.path.as_bytes());
        sink.optional(parts.query.map(str::as_bytes));
        sink
    }

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
