//! The normal form of paths (R1, R5).
//!
//! In this order:
//! 1. `%XX` of an unreserved or non-ASCII character is decoded, once. All other `%XX` stay, in upper-case
//!    hex: `%2F` is no separator, `%25` begins no further escape. A raw character that no path may have (RFC
//!    3986 §3.3) is encoded.
//! 2. Dot segments are removed (RFC 3986 §5.2.4); a path that climbs above the root is refused, not clamped.
//! 3. Doubled slashes become one, a trailing one goes.

use std::borrow::Cow;
use std::fmt;

/// A path in normal form: begins with `/`, ends with one only as the root, has no empty and no dot segment,
/// is UTF-8. Equal paths mean the same resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NormalPath(Box<str>);

impl NormalPath {
    /// Puts the path part of a request target (without query) into normal form. The empty path is the root's
    /// (RFC 9110 §4.2.3).
    ///
    /// # Errors
    /// The path cannot be decoded or climbs above the root: 400 `bad-request` (R1).
    pub fn parse(raw: &str) -> Result<Self, PathProblem> {
        if is_normal(raw) {
            return Ok(Self(raw.into()));
        }
        if raw.is_empty() {
            return Ok(Self("/".into()));
        }
        if !raw.starts_with('/') {
            return Err(PathProblem::NotAbsolute);
        }
        tidy(&spell(raw, b"/")?)
    }

    /// The whole path, non-ASCII characters as UTF-8.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands between the slashes, none of it empty. The root has none.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }
}

impl fmt::Display for NormalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a path has no normal form. Its `Display` is a sentence for the agent's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathProblem {
    /// It does not begin with `/`.
    NotAbsolute,
    /// A `%` without two hexadecimal digits.
    BadEscape,
    /// `%00`.
    Nul,
    /// Not UTF-8 once it is decoded.
    NotUtf8,
    /// More `..` than segments.
    AboveRoot,
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "The path does not begin with a slash.",
            Self::BadEscape => "The path has a % in it without two hexadecimal digits behind it.",
            Self::Nul => "The path has a NUL character in it.",
            Self::NotUtf8 => "The path is not UTF-8 once it is decoded.",
            Self::AboveRoot => "The path climbs above the root.",
        })
    }
}

impl std::error::Error for PathProblem {}

/// The one spelling of a resource that was named in any (L1): paths in normal form, all else by its first
/// step. What [`Template::render`](super::template::Template::render) gave, and what `Onceward-Resource` said
/// of it, both come out as the former.
///
/// # Errors
/// As [`NormalPath::parse`].
pub fn normal_resource(name: &str) -> Result<String, PathProblem> {
    if name.starts_with('/') {
        let (path, query) = name.split_at(name.find('?').unwrap_or(name.len()));
        let mut normal = NormalPath::parse(path)?.0.into_string();
        normal.push_str(&spell(query, b"/?")?);
        return Ok(normal);
    }
    spell(name, b"/?")
}

/// Percent-encodes what cannot stand in a field value or a target as it is: non-ASCII, control characters, spaces. For
/// `Onceward-Resource` (R5) and the target of a probe. `%` stays, so a normal form comes out as a valid path.
pub fn percent_encode_non_ascii(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_graphic() {
            encoded.push(char::from(byte));
        } else {
            push_encoded(&mut encoded, byte);
        }
    }
    Cow::Owned(encoded)
}

/// Adds `%XX`.
pub(super) fn push_encoded(out: &mut String, byte: u8) {
    for character in encoded(byte) {
        out.push(char::from(character));
    }
}

/// `%XX`.
fn encoded(byte: u8) -> [u8; 3] {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'A' + (value - 10) };
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

/// `unreserved` of RFC 3986 §2.3.
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 §3.3 without escapes, and non-ASCII: what a segment in normal form has as it is.
pub(super) fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
        )
        || !byte.is_ascii()
}

/// Whether this is a normal form for sure: also `false` for some that are (escapes, names with a dot first).
fn is_normal(raw: &str) -> bool {
    let mut after_slash = false;
    for (at, byte) in raw.bytes().enumerate() {
        match byte {
            b'/' if after_slash => return false,
            b'/' => after_slash = true,
            _ if at == 0 => return false,
            b'.' if after_slash => return false,
            _ if is_plain(byte) => after_slash = false,
            _ => return false,
        }
    }
    raw == "/" || !(raw.is_empty() || after_slash)
}

/// Step 1. Characters of `keep` stay as they are beside those of a segment.
pub(super) fn spell(raw: &str, keep: &[u8]) -> Result<String, PathProblem> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, escaped) = match byte {
            b'%' => (hex(bytes.next())? << 4 | hex(bytes.next())?, true),
            _ => (byte, false),
        };
        let as_it_is = match escaped {
            true => is_unreserved(byte) || !byte.is_ascii(),
            false => is_plain(byte) || keep.contains(&byte),
        };
        match byte {
            0 => return Err(PathProblem::Nul),
            _ if as_it_is => out.push(byte),
            _ => out.extend_from_slice(&encoded(byte)),
        }
    }
    String::from_utf8(out).map_err(|_| PathProblem::NotUtf8)
}

fn hex(digit: Option<u8>) -> Result<u8, PathProblem> {
    match digit {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        Some(_) | None => Err(PathProblem::BadEscape),
    }
}

/// Steps 2 and 3, on a path that begins with a slash.
fn tidy(path: &str) -> Result<NormalPath, PathProblem> {
    let mut segments = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                segments.pop().ok_or(PathProblem::AboveRoot)?;
            }
            _ => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(path.len());
    for segment in segments.into_iter().filter(|segment| !segment.is_empty()) {
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    Ok(NormalPath(normal.into()))
}

#[cfg(test)]
mod tests;
