//! Templates of resources and probes (R5, V1).
//!
//! 1. A template is literal text and parts: `{capture}`, `{query:NAME}`, `{header:NAME}`, `{json:/pointer}`.
//!    Two parts have literal text between them, else `ab` + `c` and `a` + `bc` would be one resource.
//! 2. A part that finds nothing, or the empty string, leaves the template unrendered (R6).
//! 3. A capture is part of a path in normal form, and is taken as it is.
//! 4. Any other value is plain text, and is spelled as one segment of a path in normal form would spell it:
//!    `/`, `%`, spaces and all that is neither unreserved, a sub-delimiter, `:`, `@` nor non-ASCII as `%XX`.
//!    So `/documents/{json:/id}` gives `a/b` the string that the path `/documents/a%2Fb` has, and no value
//!    can pass for two, as `a/b` + `c` for `a` + `b/c`.
//! 5. Only where such a part is the whole template its value names the whole resource, so that its slashes
//!    part segments; one that begins with `/` is put to normal form like a path: `{query:path}` meets the
//!    path itself.
//! 6. Behind a literal `?` also sub-delimiters, `:` and `@` are encoded: a value cannot add a parameter to a
//!    probe.
//! 7. In a template that begins with `/` no value may make a dot segment: a probe cannot be led elsewhere.

use std::borrow::Cow;
use std::fmt;

use http::HeaderName;

use super::TemplateProblem;
use crate::protocol::json;
use crate::protocol::path::{NormalPath, is_plain, is_unreserved, push_encoded, spell};

/// The longest string that a template renders to, in bytes: it travels in a field.
const MAX_RENDERED: usize = 8192;

/// A resource's or a probe's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    pieces: Vec<Piece>,
    /// Whether it begins with `/` and has a part that could make a dot segment (rule 7).
    watched: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// In normal form.
    Literal(Box<str>),
    Part(Part),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// As it was written, with its braces.
    text: Box<str>,
    source: Source,
    spelling: Spelling,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Capture(Box<str>),
    Query(Box<str>),
    Header(Box<str>),
    Json(Box<str>),
}

/// How a value is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// Rule 3.
    AsItIs,
    /// Rule 4.
    Segment,
    /// Rule 5.
    Whole,
    /// Rule 6.
    Query,
    /// Rule 6, for what is in normal form already.
    CaptureInQuery,
}

/// Where a template finds the values of its parts: strings and numbers as text, `None` for all else and for
/// nothing.
pub trait Lookup {
    /// What the route's path captured, in normal form.
    fn capture(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A query parameter, decoded.
    fn query(&self, name: &str) -> Option<Cow<'_, str>>;
    /// A field value; the name is in lower case.
    fn header(&self, name: &str) -> Option<Cow<'_, str>>;
    /// What an RFC 6901 pointer finds in the JSON body.
    fn json(&self, pointer: &str) -> Option<Cow<'_, str>>;
}

/// A part that could not be rendered (R6). Its `Display` is the end of a sentence for the agent's model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrendered {
    /// As it was written, with its braces: `{json:/doc_id}`.
    pub part: String,
    /// What is wrong with what was found there.
    pub reason: &'static str,
}

impl fmt::Display for Unrendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.part, self.reason)
    }
}

impl std::error::Error for Unrendered {}

impl Template {
    /// Reads a template. `allowed_captures` are those of the route's path.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str, allowed_captures: &[&str]) -> Result<Self, TemplateProblem> {
        if text.is_empty() {
            return Err(TemplateProblem::new(0, "a template is not empty"));
        }
        let path_like = text.starts_with('/');
        let (mut pieces, mut in_query) = (Vec::new(), false);
        let (mut rest, mut offset) = (text, 0);
        while !rest.is_empty() {
            let Some(inside) = rest.strip_prefix('{') else {
                let end = rest.find('{').unwrap_or(rest.len());
                let (literal, behind) = rest.split_at(end);
                let last = behind.is_empty();
                pieces.push(Piece::Literal(normal_literal(literal, offset, path_like, last, &mut in_query)?));
                (rest, offset) = (behind, offset + end);
                continue;
            };
            let Some((name, behind)) = inside.split_once('}') else {
                return Err(TemplateProblem::new(offset, "{ without }"));
            };
            if matches!(pieces.last(), Some(Piece::Part(_))) {
                return Err(TemplateProblem::new(offset, "two parts need something between them, such as /"));
            }
            let source = Source::parse(name, allowed_captures)
                .map_err(|reason| TemplateProblem::new(offset, reason))?;
            let spelling = match (&source, in_query) {
                (Source::Capture(_), true) => Spelling::CaptureInQuery,
                (Source::Capture(_), false) => Spelling::AsItIs,
                (_, true) => Spelling::Query,
                (_, false) if pieces.is_empty() && behind.is_empty() => Spelling::Whole,
                (_, false) => Spelling::Segment,
            };
            pieces.push(Piece::Part(Part { text: format!("{{{name}}}").into(), source, spelling }));
            (rest, offset) = (behind, offset + name.len() + 2);
        }
        let watched = path_like && pieces.iter().any(Piece::is_segment);
        Ok(Self { text: text.into(), pieces, watched })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a part looks into the body.
    pub fn needs_body(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Literal(_) => false,
            Piece::Part(part) => matches!(part.source, Source::Json(_)),
        })
    }

    /// Whether there are values with which it gives this text, which is in its one spelling.
    pub fn could_give(&self, text: &str) -> bool {
        let (mut rest, mut after_part) = (text, false);
        let mut pieces = self.pieces.iter().peekable();
        while let Some(piece) = pieces.next() {
            let Piece::Literal(literal) = piece else {
                after_part = true;
                continue;
            };
            let found = match (after_part, pieces.peek()) {
                (false, _) => rest.strip_prefix(&**literal),
                // A value is not empty.
                (true, None) => return rest.len() > literal.len() && rest.ends_with(&**literal),
                (true, Some(_)) => {
                    let first = rest.chars().next().map_or(0, char::len_utf8);
                    rest.get(first..).and_then(|behind| Some(behind.split_once(&**literal)?.1))
                }
            };
            let Some(behind) = found else { return false };
            (rest, after_part) = (behind, false);
        }
        after_part != rest.is_empty()
    }

    /// Puts the values in: the one string for all aliases of a resource, with non-ASCII characters as they
    /// are.
    ///
    /// # Errors
    /// The first part that has no value to put in: 400 `no-resource` for a write (R6).
    pub fn render(&self, from: &dyn Lookup) -> Result<String, Unrendered> {
        let mut out = String::with_capacity(self.text.len() + 32);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => out.push_str(literal),
                Piece::Part(part) => part.render(from, &mut out)?,
            }
        }
        if self.watched && has_dot_segment(&out) {
            return Err(Unrendered {
                part: self.text.to_string(),
                reason: "becomes a path with a dot segment, which names no resource",
            });
        }
        Ok(out)
    }
}

impl Piece {
    fn is_segment(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Part(part) => part.spelling == Spelling::Segment,
        }
    }
}

/// Whether the path before a `?` has a `.` or `..` segment.
fn has_dot_segment(rendered: &str) -> bool {
    rendered.contains("/.")
        && rendered
            .split('?')
            .next()
            .is_some_and(|path| path.split('/').any(|segment| matches!(segment, "." | "..")))
}

impl Source {
    /// Reads what stands between the braces.
    fn parse(name: &str, allowed_captures: &[&str]) -> Result<Self, String> {
        let Some((kind, name)) = name.split_once(':') else {
            if allowed_captures.contains(&name) {
                return Ok(Self::Capture(name.into()));
            }
            let known: Vec<_> = allowed_captures.iter().map(|known| format!("{{{known}}}")).collect();
            return Err(match known.as_slice() {
                [] => format!("the route's path captures no {name}"),
                known => format!("the route's path captures no {name}, only {}", known.join(", ")),
            });
        };
        match kind {
            "query" if name.is_empty() => Err("{query:NAME} needs a name".to_owned()),
            "query" => Ok(Self::Query(name.into())),
            "header" => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(Self::Header(name.as_str().into())),
                Err(_) => Err(format!("{name:?} is not a header's name")),
            },
            "json" if json::is_pointer(name) => Ok(Self::Json(name.into())),
            "json" => Err(format!("{name:?} is not a JSON pointer, such as /doc_id")),
            _ => Err(format!("{kind}: is none of query:, header:, json:")),
        }
    }
}

impl Part {
    fn render(&self, from: &dyn Lookup, out: &mut String) -> Result<(), Unrendered> {
        let value = match &self.source {
            Source::Capture(name) => from.capture(name),
            Source::Query(name) => from.query(name),
            Source::Header(name) => from.header(name),
            Source::Json(pointer) => from.json(pointer),
        };
        let refuse = |reason| Err(Unrendered { part: self.text.to_string(), reason });
        let value = match value.as_deref() {
            None | Some("") => return refuse("is missing, empty, or not a string or number"),
            Some(value) => value,
        };
        if value.len() > MAX_RENDERED {
            return refuse("is longer than 8 KiB");
        }
        match self.spelling {
            Spelling::AsItIs => out.push_str(value),
            Spelling::Segment => encode(value, is_plain, out),
            Spelling::Query => encode(value, |byte| is_unreserved(byte) || !byte.is_ascii(), out),
            Spelling::CaptureInQuery => {
                encode(value, |byte| is_unreserved(byte) || !byte.is_ascii() || byte == b'%', out);
            }
            Spelling::Whole => {
                let mut name = String::with_capacity(value.len());
                encode(value, |byte| is_plain(byte) || byte == b'/', &mut name);
                if !name.starts_with('/') {
                    out.push_str(&name);
                } else if let Ok(path) = NormalPath::parse(&name) {
                    out.push_str(path.as_str());
                } else {
                    return refuse("is a path that climbs above the root or has a NUL in it");
                }
            }
        }
        if out.len() > MAX_RENDERED {
            return refuse("makes it longer than 8 KiB");
        }
        Ok(())
    }
}

/// Adds `value` with what is not `plain` percent-encoded. Non-ASCII bytes are plain, so it stays UTF-8.
fn encode(value: &str, plain: impl Fn(u8) -> bool, out: &mut String) {
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| !plain(byte)) {
        let (before, behind) = rest.split_at(at);
        out.push_str(before);
        let mut characters = behind.chars();
        if let Some(character) = characters.next() {
            push_encoded(out, u8::try_from(character).unwrap_or(b'?'));
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
}

/// Puts literal text to normal form, its path and, behind a `?`, its query. `last`: nothing stands behind it.
fn normal_literal(
    literal: &str,
    offset: usize,
    path_like: bool,
    last: bool,
    in_query: &mut bool,
) -> Result<Box<str>, TemplateProblem> {
    if let Some(at) = literal.find('}') {
        return Err(TemplateProblem::new(offset + at, "} without {"));
    }
    let bad = |problem: crate::protocol::path::PathProblem| TemplateProblem::new(offset, problem.to_string());
    if *in_query {
        return Ok(spell(literal, b"/?").map_err(bad)?.into());
    }
    let (path, query) = literal.split_at(literal.find('?').unwrap_or(literal.len()));
    *in_query = !query.is_empty();
    let mut normal = spell(path, b"/").map_err(bad)?;
    if path_like {
        // What stands before the first slash, or behind the last with a part there, is only some of a
        // segment.
        let open = usize::from(!last && !*in_query);
        let mut whole = normal.split('/').skip(1).collect::<Vec<_>>();
        whole.truncate(whole.len().saturating_sub(open));
        if whole.iter().any(|segment| matches!(*segment, "." | "..")) {
            return Err(TemplateProblem::new(offset, "a template has no . and .. segments"));
        }
        while normal.contains("//") {
            normal = normal.replace("//", "/");
        }
        let whole = offset == 0 && normal == "/";
        if (last || *in_query) && normal.ends_with('/') && !whole {
            normal.pop();
        }
    }
    normal.push_str(&spell(query, b"/?").map_err(bad)?);
    Ok(normal.into())
}

#[cfg(test)]
mod tests;
