//! Idempotency keys (K1, K16).
//!
//! 1. The field is sent once: two lines, or a list in one line, are refused.
//! 2. A key is a structured-field string (`"a b"`, RFC 9651 §3.3.3) or bare (`ab`). Both spell the same key.
//! 3. It has 1 to 255 characters of visible ASCII; a space, a comma or a quote stands inside quotes only.
//! 4. Parameters behind a structured-field string are allowed by its grammar, and mean nothing here.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest key, in characters of its unescaped text (K1).
const MAX_CHARACTERS: usize = 255;

/// A key and how its agent spelled it. Two keys are equal when their texts are, quoted or not (K1).
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    text: Box<str>,
    quoted: bool,
}

impl IdempotencyKey {
    /// Reads the key from all `Idempotency-Key` field lines of a request (K1). An empty slice is an empty
    /// key; whether one is needed at all (K2) is asked before.
    ///
    /// # Errors
    /// What is wrong with it, for `invalid-idempotency-key`.
    pub fn parse(values: &[&[u8]]) -> Result<Self, KeyProblem> {
        let value = match values {
            [] => return Err(KeyProblem::Empty),
            [value] => trim(value),
            [_, _, ..] => return Err(KeyProblem::Twice),
        };
        match value {
            [] => Err(KeyProblem::Empty),
            [b'"', inside @ ..] => quoted(value, inside),
            bare => Self::checked(bare, false),
        }
    }

    /// A key from its text alone, without quotes and escapes, as in `/.onceward/operations/{key}` (K17).
    /// `quoted` says how it may be spelled and is: a space, a comma and a quote need it.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_text(text: &str, quoted: bool) -> Result<Self, KeyProblem> {
        Self::checked(text.as_bytes(), quoted)
    }

    fn checked(text: &[u8], quoted: bool) -> Result<Self, KeyProblem> {
        for &byte in text {
            match byte {
                b' ' | b',' | b'"' if !quoted => return Err(KeyProblem::NeedsQuotes),
                b' '..=b'~' => {}
                _ => return Err(KeyProblem::BadByte),
            }
        }
        match text.len() {
            0 => return Err(KeyProblem::Empty),
            1..=MAX_CHARACTERS => {}
            _ => return Err(KeyProblem::TooLong),
        }
        let text = std::str::from_utf8(text).map_err(|_| KeyProblem::BadByte)?;
        Ok(Self { text: text.into(), quoted })
    }

    /// The key itself: without quotes, escapes undone. 1 to 255 characters of visible ASCII and spaces.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The field value for the upstream: spelled as the agent did, without parameters (K16).
    pub fn as_sent(&self) -> String {
        if !self.quoted {
            return self.text.to_string();
        }
        let mut sent = String::with_capacity(self.text.len() + 2);
        sent.push('"');
        for character in self.text.chars() {
            if matches!(character, '"' | '\\') {
                sent.push('\\');
            }
            sent.push(character);
        }
        sent.push('"');
        sent
    }

    /// The same key, spelled as its first run's agent spelled it (K16).
    #[must_use]
    pub fn spelled(self, quoted: bool) -> Self {
        Self { quoted, ..self }
    }

    /// Whether it was sent as a structured-field string.
    pub fn quoted(&self) -> bool {
        self.quoted
    }
}

impl PartialEq for IdempotencyKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for IdempotencyKey {}

impl Hash for IdempotencyKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// Reads a structured-field string; `inside` is `value` behind its opening quote.
fn quoted(value: &[u8], inside: &[u8]) -> Result<IdempotencyKey, KeyProblem> {
    let (text, behind) = match inside.iter().position(|&byte| matches!(byte, b'"' | b'\\')) {
        None => return Err(KeyProblem::Unterminated),
        Some(end) => match inside.split_at_checked(end) {
            Some((text, [b'"', behind @ ..])) => (Cow::Borrowed(text), behind),
            Some(_) | None => unescape(inside)?,
        },
    };
    match trim(behind) {
        [] => {}
        [b',', ..] => return Err(KeyProblem::Twice),
        _ if sfv::Parser::new(value).parse::<sfv::Item>().is_ok() => {}
        _ => return Err(KeyProblem::Trailing),
    }
    IdempotencyKey::checked(&text, true)
}

/// The text up to the closing quote with its escapes undone, and what is behind that quote.
fn unescape(inside: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), KeyProblem> {
    let mut text = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    loop {
        match bytes.next() {
            None => return Err(KeyProblem::Unterminated),
            Some(b'"') => return Ok((Cow::Owned(text), bytes.as_slice())),
            Some(b'\\') => match bytes.next() {
                None => return Err(KeyProblem::Unterminated),
                Some(&escaped @ (b'"' | b'\\')) => text.push(escaped),
                Some(_) => return Err(KeyProblem::BadEscape),
            },
            Some(&byte) => text.push(byte),
        }
    }
}

/// Takes optional white space (RFC 9110 §5.6.3) off both ends.
fn trim(value: &[u8]) -> &[u8] {
    let mut value = value;
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Why a key is refused (K1). Its `Display` is a sentence for the agent's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyProblem {
    /// No character, or no field at all.
    Empty,
    /// Over 255 characters.
    TooLong,
    /// A control character, or one that is not ASCII.
    BadByte,
    /// A space, a comma or a quote in a bare key.
    NeedsQuotes,
    /// More than one field line, or more than one key in it.
    Twice,
    /// No closing quote.
    Unterminated,
    /// A backslash before something else than a quote or a backslash.
    BadEscape,
    /// Something behind the closing quote that is no parameter.
    Trailing,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "The Idempotency-Key is empty.",
            Self::TooLong => "The Idempotency-Key is longer than 255 characters.",
            Self::BadByte => "The Idempotency-Key has a character in it that is not visible ASCII.",
            Self::NeedsQuotes => {
                "The Idempotency-Key has a space, a comma or a quote in it, and no double quotes around it."
            }
            Self::Twice => "The Idempotency-Key was sent more than once.",
            Self::Unterminated => "The Idempotency-Key opens a double quote and does not close it.",
            Self::BadEscape => {
                "The Idempotency-Key has a backslash in it that escapes neither a quote nor a backslash."
            }
            Self::Trailing => "The Idempotency-Key has something behind its closing quote.",
        })
    }
}

impl std::error::Error for KeyProblem {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(value: &str) -> Result<IdempotencyKey, KeyProblem> {
        IdempotencyKey::parse(&[value.as_bytes()])
    }

    // K1, K16
    #[test]
    fn keys_and_their_spelling() {
        let table = [
            ("ab", "ab", "ab"),
            (" \tab\t ", "ab", "ab"),
            (
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
                "8e03978e-40d5-43dd-bc93-6894a57f9324",
            ),
            (r"a\b;c=d", r"a\b;c=d", r"a\b;c=d"),
            (":YWI=:", ":YWI=:", ":YWI=:"),
            (r#""ab""#, "ab", r#""ab""#),
            (r#" "a b" "#, "a b", r#""a b""#),
            (r#"" ""#, " ", r#"" ""#),
            (r#""a,b""#, "a,b", r#""a,b""#),
            (r#""a\"b\\c""#, r#"a"b\c"#, r#""a\"b\\c""#),
            (r#""ab";x=1;y"#, "ab", r#""ab""#),
            (r#""ab"; x="c;d""#, "ab", r#""ab""#),
        ];
        for (sent, text, upstream) in table {
            let key = parse(sent).unwrap_or_else(|problem| panic!("{sent}: {problem}"));
            assert_eq!(key.text(), text, "{sent}");
            assert_eq!(key.as_sent(), upstream, "{sent}");
        }
    }

    // K1
    #[test]
    fn what_is_no_key() {
        let table = [
            ("", KeyProblem::Empty),
            (" \t", KeyProblem::Empty),
            (r#""""#, KeyProblem::Empty),
            ("a b", KeyProblem::NeedsQuotes),
            ("a,b", KeyProblem::NeedsQuotes),
            (r#"a"b"#, KeyProblem::NeedsQuotes),
            (r#"a""#, KeyProblem::NeedsQuotes),
            ("a\tb", KeyProblem::BadByte),
            ("a\u{7f}", KeyProblem::BadByte),
            ("é", KeyProblem::BadByte),
            (r#""é""#, KeyProblem::BadByte),
            ("\"a\tb\"", KeyProblem::BadByte),
            (r#"""#, KeyProblem::Unterminated),
            (r#""ab"#, KeyProblem::Unterminated),
            (r#""ab\"#, KeyProblem::Unterminated),
            (r#""ab\""#, KeyProblem::Unterminated),
            (r#""a\nb""#, KeyProblem::BadEscape),
            (r#""a"b"#, KeyProblem::Trailing),
            (r#""a" ;x"#, KeyProblem::Trailing),
            (r#""a";X=1"#, KeyProblem::Trailing),
            (r#""a", "b""#, KeyProblem::Twice),
        ];
        for (sent, problem) in table {
            assert_eq!(parse(sent), Err(problem), "{sent}");
        }
        assert_eq!(IdempotencyKey::parse(&[]), Err(KeyProblem::Empty));
        assert_eq!(IdempotencyKey::parse(&[b"a", b"a"]), Err(KeyProblem::Twice));
        assert_eq!(IdempotencyKey::parse(&[b"a\xff"]), Err(KeyProblem::BadByte));
    }

    // K1: the unescaped text counts.
    #[test]
    fn length_is_that_of_the_text() {
        assert!(parse(&"a".repeat(255)).is_ok());
        assert_eq!(parse(&"a".repeat(256)), Err(KeyProblem::TooLong));
        assert!(parse(&format!("\"{}\"", r"\\".repeat(255))).is_ok());
        assert_eq!(parse(&format!("\"{}\"", r"\\".repeat(256))), Err(KeyProblem::TooLong));
    }

    // K1, K17
    #[test]
    fn both_spellings_are_one_key() {
        assert_eq!(parse("ab").unwrap(), parse(r#""ab""#).unwrap());
        assert_ne!(parse("ab").unwrap(), parse("aB").unwrap());
        assert_eq!(IdempotencyKey::from_text("a b", true).unwrap(), parse(r#""a b""#).unwrap());
        assert_eq!(IdempotencyKey::from_text("a b", false), Err(KeyProblem::NeedsQuotes));
        assert_eq!(IdempotencyKey::from_text("", true), Err(KeyProblem::Empty));
    }

    proptest! {
        #[test]
        fn what_was_sent_is_parsed_again(text in "[ -~]{1,255}", quoted: bool) {
            if let Ok(key) = IdempotencyKey::from_text(&text, quoted) {
                let again = parse(&key.as_sent()).unwrap();
                prop_assert_eq!(again.text(), text.as_str());
                prop_assert_eq!(again.quoted(), quoted);
            } else {
                prop_assert!(!quoted && text.contains([' ', ',', '"']));
            }
        }

        #[test]
        fn strings_are_those_of_structured_fields(inside in r#"[a"\\ ;=1,]{0,8}"#) {
            let sent = format!("\"{inside}");
            let model = match sfv::Parser::new(&sent).parse::<sfv::Item>() {
                Ok(item) => item.bare_item.as_string().map(|text| text.as_str().to_owned()),
                Err(_) => None,
            };
            let model = model.filter(|text| !text.is_empty());
            prop_assert_eq!(parse(&sent).ok().map(|key| key.text().to_owned()), model);
        }

        #[test]
        fn any_bytes_are_a_key_or_a_problem(value: Vec<u8>) {
            if let Ok(key) = IdempotencyKey::parse(&[&value]) {
                prop_assert!((1..=255).contains(&key.text().len()));
                prop_assert!(key.text().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
}
