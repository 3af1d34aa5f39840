//! The normal form of paths (R1, R5).
//!
//! In this order:
//! 1. `%XX` of an unreserved or non-ASCII character is decoded, once. All other `%XX` stay, in upper-case hex: `%2F` is
//!    no separator, `%25` begins no further escape. A raw character that no path may have (RFC 3986 §3.3) is encoded.
//! 2. Dot segments are removed (RFC 3986 §5.2.4); a path that climbs above the root is refused, not clamped.
//! 3. Doubled slashes become one, a trailing one goes.

use std::borrow::Cow;
use std::fmt;

/// A path in normal form: begins with `/`, ends with one only as the root, has no empty and no dot segment, is UTF-8.
/// Equal paths mean the same resource.
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

/// The one spelling of a resource that was named in any (L1): paths in normal form, all else by its first step.
/// What [`Template::render`](super::template::Template::render) gave, and what `Onceward-Resource` said of it, both
/// come out as the former.
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

/// Percent-encodes what cannot stand in a field value as it is: non-ASCII, control characters, spaces. For
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(raw: &str) -> Result<String, PathProblem> {
        NormalPath::parse(raw).map(|path| path.to_string())
    }

    // R1, R5
    #[test]
    fn normal_forms() {
        let table = [
            ("/", "/"),
            ("", "/"),
            ("/documents/7", "/documents/7"),
            ("/a!$&'()*+,;=:@b", "/a!$&'()*+,;=:@b"),
            // Unreserved characters, once.
            ("/%61%5A%30%2D%2e%5f%7E", "/aZ0-._~"),
            ("/%2561", "/%2561"),
            ("/%25%36%31", "/%2561"),
            // All others stay, in upper case.
            ("/a%2fb", "/a%2Fb"),
            ("/a%21", "/a%21"),
            ("/a%3f%23%5c%0a%7f", "/a%3F%23%5C%0A%7F"),
            // Non-ASCII, however it came.
            ("/%C3%a9", "/é"),
            ("/é", "/é"),
            ("/%F0%9F%A6%80/x", "/🦀/x"),
            // What no path may have as it is.
            ("/a\"b|c\\d{e}", "/a%22b%7Cc%5Cd%7Be%7D"),
            ("/a?b", "/a%3Fb"),
            // Dot segments, encoded ones too.
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b/%2e", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a"),
            ("/.", "/"),
            ("/.../..a/.b", "/.../..a/.b"),
            ("/a%2f..%2fb", "/a%2F..%2Fb"),
            // First dot segments, then doubled slashes: `..` takes an empty segment away.
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("/a//b///c", "/a/b/c"),
            ("//", "/"),
            ("/a/", "/a"),
            ("/a//", "/a"),
            ("/a/./", "/a"),
            ("/.onceward/operations/k", "/.onceward/operations/k"),
        ];
        for (raw, wanted) in table {
            assert_eq!(normal(raw).as_deref(), Ok(wanted), "{raw}");
            assert_eq!(normal(wanted).as_deref(), Ok(wanted), "{raw}");
        }
    }

    // R1
    #[test]
    fn what_has_none() {
        let table = [
            ("*", PathProblem::NotAbsolute),
            ("a/b", PathProblem::NotAbsolute),
            ("%2Fa", PathProblem::NotAbsolute),
            ("/%zz", PathProblem::BadEscape),
            ("/%", PathProblem::BadEscape),
            ("/%4", PathProblem::BadEscape),
            ("/%4/1", PathProblem::BadEscape),
            ("/%+1", PathProblem::BadEscape),
            ("/%00", PathProblem::Nul),
            ("/\0", PathProblem::Nul),
            ("/%ff", PathProblem::NotUtf8),
            ("/%C3", PathProblem::NotUtf8),
            ("/%C3%C3%A9", PathProblem::NotUtf8),
            ("/%C0%AE", PathProblem::NotUtf8),
            ("/%ED%A0%80", PathProblem::NotUtf8),
            ("/..", PathProblem::AboveRoot),
            ("/a/../..", PathProblem::AboveRoot),
            ("/%2e%2e/a", PathProblem::AboveRoot),
            ("/./../a", PathProblem::AboveRoot),
        ];
        for (raw, problem) in table {
            assert_eq!(normal(raw), Err(problem), "{raw}");
        }
    }

    #[test]
    fn segments_are_not_empty() {
        let segments =
            |raw| NormalPath::parse(raw).unwrap().segments().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(segments("/a//b%2Fc/"), ["a", "b%2Fc"]);
        assert_eq!(segments("/"), Vec::<String>::new());
    }

    // R5
    #[test]
    fn field_values() {
        let table =
            [("/documents/7", "/documents/7"), ("/é%2F", "/%C3%A9%2F"), ("a b\n\u{7f}", "a%20b%0A%7F")];
        for (text, wanted) in table {
            assert_eq!(percent_encode_non_ascii(text), wanted);
        }
    }

    // L1: an agent may name a resource as it likes.
    #[test]
    fn resources_however_named() {
        let table = [
            ("/documents/%C3%A9/", "/documents/é"),
            ("/documents/é", "/documents/é"),
            ("my table", "my%20table"),
            ("my%20table", "my%20table"),
            ("doc/%c3%A9", "doc/é"),
            ("doc/../a//", "doc/../a//"),
            ("/search/?q=a%2fb&r=/x/", "/search?q=a%2Fb&r=/x/"),
        ];
        for (named, wanted) in table {
            assert_eq!(normal_resource(named).as_deref(), Ok(wanted), "{named}");
            assert_eq!(normal_resource(&percent_encode_non_ascii(wanted)).as_deref(), Ok(wanted), "{named}");
        }
        assert_eq!(normal_resource("50%"), Err(PathProblem::BadEscape));
        assert_eq!(normal_resource("/.."), Err(PathProblem::AboveRoot));
    }

    /// The three steps, each as its RFC words it.
    fn model(raw: &str) -> Option<String> {
        let mut decoded = Vec::new();
        let mut at = 0;
        while at < raw.len() {
            if raw.as_bytes()[at] == b'%' {
                let digits =
                    raw.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
                let byte = u8::from_str_radix(digits, 16).unwrap();
                match char::from(byte) {
                    'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' | '\u{80}'.. => {
                        decoded.push(byte)
                    }
                    '\0' => return None,
                    _ => decoded.extend(format!("%{}", digits.to_uppercase()).bytes()),
                }
                at += 3;
            } else {
                decoded.push(raw.as_bytes()[at]);
                at += 1;
            }
        }
        let mut input = String::from_utf8(decoded).ok()?;
        let mut output = String::new();
        while !input.is_empty() {
            if input.starts_with("/./") || input == "/." {
                input = format!("/{}", input.get(3..).unwrap_or(""));
            } else if input.starts_with("/../") || input == "/.." {
                input = format!("/{}", input.get(4..).unwrap_or(""));
                output.truncate(output.rfind('/')?);
            } else {
                let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
                output.extend(input.drain(..end));
            }
        }
        while output.contains("//") {
            output = output.replace("//", "/");
        }
        Some(if output == "/" { output } else { output.trim_end_matches('/').to_owned() })
    }

    proptest! {
        #[test]
        fn it_is_what_the_rules_say(raw in "(/(\\.|%2e|%2E|a|é|%C3%A9|%C3|%2f|%25|%61|%00|%z|:){0,3}){1,7}") {
            let path = normal(&raw).ok();
            prop_assert_eq!(&path, &model(&raw));
            if let Some(path) = path {
                let again = normal(&path).unwrap();
                prop_assert_eq!(&again, &path);
                let encoded = normal(&percent_encode_non_ascii(&path)).unwrap();
                prop_assert_eq!(&encoded, &path);
            }
        }

        #[test]
        fn any_text_has_a_stable_form(raw in "/\\PC{0,20}") {
            if let Ok(path) = normal(&raw) {
                prop_assert_eq!(normal(&path).unwrap(), path);
            }
            if let Ok(name) = normal_resource(&raw[1..]) {
                prop_assert_eq!(normal_resource(&name).unwrap(), name);
            }
        }
    }
}
