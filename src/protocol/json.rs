//! JSON by meaning (K3, RFC 8259).
//!
//! 1. Members are sorted by name, white space goes, strings count by their characters, numbers by their exact
//!    decimal value.
//! 2. What is no JSON, is nested over 128 deep, or has a lone surrogate or a name twice in one object, has no
//!    meaning that all readers share.
//!
//! A body is scanned once into a flat list of tokens; nothing here recurses deeper than the nesting that is
//! allowed.

mod items;
mod number;
mod scan;
#[cfg(test)]
mod tests;

use scan::{Kind, Token};

/// The deepest nesting of arrays and objects (K3).
const MAX_DEPTH: usize = 128;

/// The body is not JSON that all readers understand alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson;

impl std::fmt::Display for NotJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("The body is not JSON that all readers understand alike.")
    }
}

impl std::error::Error for NotJson {}

/// Takes a canonical form, piece by piece.
pub trait Out {
    /// Takes what comes next.
    fn put(&mut self, bytes: &[u8]);

    /// Takes a text with its kind and length before it, so that no two sequences of texts look alike.
    fn put_text(&mut self, kind: u8, text: &[u8]) {
        put_text(self, kind, text);
    }
}

impl Out for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// As [`Out::put_text`] does it where it knows no shorter way.
pub(super) fn put_text<O: Out + ?Sized>(out: &mut O, kind: u8, text: &[u8]) {
    match short(text) {
        Some(length) => out.put(&[kind, length]),
        None => {
            out.put(&[kind, LONG]);
            out.put(&(text.len() as u64).to_le_bytes());
        }
    }
    out.put(text);
}

/// Stands in the place of a length that does not fit into one byte.
const LONG: u8 = 255;

/// The length of a text that has less than 255 bytes, as nearly all have.
#[inline]
pub(super) fn short(text: &[u8]) -> Option<u8> {
    u8::try_from(text.len()).ok().filter(|length| *length < LONG)
}

/// Hands `body` out in a form that is the same for all spellings of one value, and different for different
/// values. It is not JSON itself: each string and number goes with its length before it.
///
/// # Errors
/// Rule 2 above; what was handed out before does not count then.
pub fn canonical(body: &[u8], out: &mut impl Out) -> Result<(), NotJson> {
    Document::parse(body)?.canonical(out)
}

/// The string or number at an RFC 6901 pointer as text, numbers in one spelling (`1` for `1.0`). `None`:
/// nothing is there, or something else, or the body is not JSON. See [`Document::text_at`].
pub fn pointer_text(body: &[u8], pointer: &str) -> Option<String> {
    Document::parse(body).ok()?.text_at(pointer)
}

/// Whether `pointer` is well-formed by RFC 6901 §3: empty, or begins with `/`, and `~` only in `~0` and `~1`.
pub fn is_pointer(pointer: &str) -> bool {
    (pointer.is_empty() || pointer.starts_with('/'))
        && pointer.split('~').skip(1).all(|behind| behind.starts_with(['0', '1']))
}

/// A body that was scanned.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    /// In document order; a member's name stands before its value.
    tokens: Vec<Token>,
    /// The characters of all strings that had escapes.
    unescaped: String,
}

impl<'a> Document<'a> {
    /// Scans a body, in time and memory linear to its length: 12 bytes for each value and each name in it.
    ///
    /// # Errors
    /// Rule 2 above, but for a name twice in one object.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotJson> {
        let text = std::str::from_utf8(body).map_err(|_| NotJson)?;
        let (tokens, unescaped) = scan::scan(text)?;
        Ok(Self { text, tokens, unescaped })
    }

    /// As [`canonical`](canonical()).
    ///
    /// # Errors
    /// A name that comes twice in one object.
    pub fn canonical(&self, out: &mut impl Out) -> Result<(), NotJson> {
        self.write(0, &mut Vec::with_capacity(16), out)
    }

    /// The string or number at an RFC 6901 pointer as text. `None`: nothing is there, or something else, or
    /// one of the names on the way comes twice in its object, so that readers may differ about what is meant.
    ///
    /// A number comes in one spelling for its value: without exponent and trailing zeros up to 40 of them
    /// (`1.50` is `1.5`, `1e2` is `100`), else as `1.5e-60`. One whose exponent has over 18 digits gives
    /// `None`.
    pub fn text_at(&self, pointer: &str) -> Option<String> {
        let token = self.tokens.get(self.at(pointer)?)?;
        match token.kind {
            Kind::String | Kind::Escaped => Some(self.content(token).to_owned()),
            Kind::Number => number::text(self.content(token)),
            Kind::Null | Kind::True | Kind::False | Kind::Array | Kind::Object => None,
        }
    }

    /// The index of the value that a pointer leads to.
    fn at(&self, pointer: &str) -> Option<usize> {
        if pointer.is_empty() {
            return Some(0);
        }
        pointer.strip_prefix('/')?.split('/').try_fold(0, |at, step| self.step(at, &unescape_step(step)))
    }

    /// The index of the value that one step of a pointer leads to.
    fn step(&self, at: usize, step: &str) -> Option<usize> {
        let container = self.tokens.get(at)?;
        match container.kind {
            Kind::Array => {
                let canonical = step == "0" || (!step.starts_with(['0', '+']) && !step.is_empty());
                let index: usize = canonical.then(|| step.parse().ok())??;
                self.values(at, container).nth(index)
            }
            Kind::Object => {
                let mut named = self.names(at, container).filter(|&name| self.name(name) == step.as_bytes());
                match (named.next(), named.next()) {
                    (Some(name), None) => Some(name + 1),
                    (_, _) => None,
                }
            }
            Kind::Null | Kind::True | Kind::False | Kind::Number | Kind::String | Kind::Escaped => None,
        }
    }

    /// The indexes of the values of an array that is at `index`.
    fn values(&self, index: usize, array: &Token) -> impl Iterator<Item = usize> {
        let (mut next, end) = (index + 1, array.next(index));
        std::iter::from_fn(move || {
            let value = (next < end).then_some(next)?;
            next = self.tokens.get(value)?.next(value);
            Some(value)
        })
    }

    /// The indexes of the names in an object that is at `index`. The value of each is the next token.
    fn names(&self, index: usize, object: &Token) -> impl Iterator<Item = usize> {
        let (mut next, end) = (index + 1, object.next(index));
        std::iter::from_fn(move || {
            let name = (next < end).then_some(next)?;
            next = self.tokens.get(name + 1)?.next(name + 1);
            Some(name)
        })
    }

    /// The characters of a string, or a number as it is spelled.
    fn content(&self, token: &Token) -> &str {
        let text = if token.kind == Kind::Escaped { &self.unescaped } else { self.text };
        text.get(token.range()).unwrap_or_default()
    }

    /// The same in bytes, which is cheaper.
    fn bytes(&self, token: &Token) -> &[u8] {
        let text = if token.kind == Kind::Escaped { &self.unescaped } else { self.text };
        text.as_bytes().get(token.range()).unwrap_or_default()
    }

    /// The characters of a name.
    fn name(&self, index: usize) -> &[u8] {
        self.tokens.get(index).map_or(b"", |token| self.bytes(token))
    }

    /// Hands out the value at `at`. `order` is scratch for the members of all objects that are open.
    fn write(&self, at: usize, order: &mut Vec<Member>, out: &mut impl Out) -> Result<(), NotJson> {
        let token = self.tokens.get(at).ok_or(NotJson)?;
        match token.kind {
            Kind::Null => out.put(b"n"),
            Kind::True => out.put(b"t"),
            Kind::False => out.put(b"f"),
            Kind::Number => number::canonical(self.content(token), out),
            Kind::String | Kind::Escaped => out.put_text(b's', self.bytes(token)),
            Kind::Array => {
                out.put(b"[");
                for value in self.values(at, token) {
                    self.write(value, order, out)?;
                }
                out.put(b"]");
            }
            Kind::Object => {
                out.put(b"{");
                let own = order.len();
                order.extend(self.names(at, token).map(|at| Member { lead: lead(self.name(at)), at }));
                self.sort(order.get_mut(own..).unwrap_or_default())?;
                let mut next = own;
                while let Some(&Member { at: name, .. }) = order.get(next) {
                    out.put_text(b's', self.name(name));
                    self.write(name + 1, order, out)?;
                    next += 1;
                }
                order.truncate(own);
                out.put(b"}");
            }
        }
        Ok(())
    }

    /// Sorts members by the bytes of their names' characters.
    fn sort(&self, members: &mut [Member]) -> Result<(), NotJson> {
        members
            .sort_unstable_by(|a, b| a.lead.cmp(&b.lead).then_with(|| self.name(a.at).cmp(self.name(b.at))));
        let twice = members.windows(2).any(|pair| match pair {
            [a, b] => a.lead == b.lead && self.name(a.at) == self.name(b.at),
            _ => false,
        });
        if twice { Err(NotJson) } else { Ok(()) }
    }
}

/// A member of an object that is being put in order.
#[derive(Clone, Copy)]
struct Member {
    /// The first bytes of its name, which nearly always tell two apart without a look at the text.
    lead: u64,
    /// The index of its name.
    at: usize,
}

/// The first eight bytes as a number that compares as they do; less is filled up with zeros.
fn lead(name: &[u8]) -> u64 {
    match name.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let bytes = name.iter().fold(0, |lead, &byte| (lead << 8) | u64::from(byte));
            bytes << ((64 - 8 * name.len()) % 64)
        }
    }
}

/// Undoes `~1` and `~0` (RFC 6901 §4).
fn unescape_step(step: &str) -> std::borrow::Cow<'_, str> {
    if step.contains('~') { step.replace("~1", "/").replace("~0", "~").into() } else { step.into() }
}
