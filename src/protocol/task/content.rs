//! What a task is about, and how agents get it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a task is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// The text of one JSON value.
    Json(Box<str>),
    /// Bytes: given to agents as JSON where they are JSON, as a string where they are UTF-8, else as
    /// `{"base64": "…"}`.
    Bytes(Box<[u8]>),
}

impl Content {
    /// As one JSON value, in its text: numbers keep their spelling.
    pub fn to_json(&self) -> String {
        match self {
            Self::Json(text) => text.to_string(),
            Self::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => text.to_owned(),
                Ok(text) => Value::from(text).to_string(),
                Err(_) => format!("{{\"base64\":\"{}\"}}", base64(bytes)),
            },
        }
    }

    /// As bytes, for a place that takes bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Json(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |place| u32::from(three.get(place).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or_default();
            let letter = LETTERS.get(six).map_or('=', |letter| char::from(*letter));
            text.push(if place > three.len() { '=' } else { letter });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_as_what_they_are() {
        let told = |bytes: &[u8]| Content::Bytes(bytes.into()).to_json();
        assert_eq!(told(b"{\"n\": 1.50}"), "{\"n\": 1.50}");
        assert_eq!(told(b"say \"hi\""), "\"say \\\"hi\\\"\"");
        assert_eq!(told(b"\xff"), "{\"base64\":\"/w==\"}");
        assert_eq!(told(b"\xff\xfe"), "{\"base64\":\"//4=\"}");
        assert_eq!(told(b"\xff\xfe\xfd"), "{\"base64\":\"//79\"}");
        assert_eq!(told(b"\xff\xfe\xfd\x00"), "{\"base64\":\"//79AA==\"}");
    }
}
