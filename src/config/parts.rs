//! The kinds of value that section T is made of, each with how it is spelled.

use std::time::Duration;

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::checked::Secret;
use super::problem::Kind;
use super::reader::{At, Node, Part, Reader, Wrong, quoted};
use super::units;

/// The schema of a string that matches a pattern, or has a variable in it (C2).
pub(super) fn string_like(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": format!("^(?:{pattern})$|\\$\\{{") })
}

impl Part for bool {
    fn what() -> String {
        "true or false".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let value = node.get_ref().as_bool();
        if value.is_none() {
            reader.mismatch::<Self>(node);
        }
        value
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }

    fn is_off(&self) -> bool {
        !self
    }
}

/// A bare number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<const MIN: u32, const MAX: u32> Part for Count<MIN, MAX> {
    fn what() -> String {
        format!("a number from {MIN} to {MAX}")
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(number) = node.get_ref() else {
            reader.mismatch::<Self>(node);
            return None;
        };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
        match value.and_then(|value| u32::try_from(value).ok()).filter(|value| (MIN..=MAX).contains(value)) {
            Some(value) => Some(Self(value)),
            None => {
                let shown: String = number.to_string().chars().take(24).collect();
                let what = format!("{shown} is not {}", Self::what());
                reader.wrong(Kind::Type, node, what);
                None
            }
        }
    }

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl<const MIN: u32, const MAX: u32> From<Count<MIN, MAX>> for u32 {
    fn from(count: Count<MIN, MAX>) -> Self {
        count.0
    }
}

impl<const MIN: u32, const MAX: u32> From<Count<MIN, MAX>> for usize {
    fn from(count: Count<MIN, MAX>) -> Self {
        Self::try_from(count.0).unwrap_or(Self::MAX)
    }
}

/// The status of a stale write: 409 or 412.
#[derive(Debug, Clone, Copy)]
pub(super) struct StaleStatus(pub(super) http::StatusCode);

impl Part for StaleStatus {
    fn what() -> String {
        "409 or 412".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match Count::<100, 999>::read(node, reader)?.0 {
            409 => Some(Self(http::StatusCode::CONFLICT)),
            412 => Some(Self(http::StatusCode::PRECONDITION_FAILED)),
            other => {
                reader.wrong(Kind::Type, node, format!("{other} is not {}", Self::what()));
                None
            }
        }
    }

    fn schema() -> Json {
        json!({ "enum": [409, 412] })
    }
}

/// A time; where `LEAST` is 1 it is not zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<const LEAST: u8>(pub(super) Duration);

pub(super) type Time = Span<1>;
pub(super) type TimeOrZero = Span<0>;

impl<const LEAST: u8> Part for Span<LEAST> {
    fn what() -> String {
        "a time in quotes, such as \"250ms\", \"30s\", \"5m\" or \"24h\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if let DeValue::Integer(number) = node.get_ref() {
            let what = format!("a number needs a unit; write \"{number}s\" for seconds");
            reader.wrong(Kind::Type, node, what);
            return None;
        }
        reader.spelled::<Self, _>(node, |text| {
            let time = units::time(text)?;
            if LEAST > 0 && time.is_zero() {
                return Err(Wrong::spelling(format!("{} is no time; at least \"1ms\"", quoted(text))));
            }
            Ok(Self(time))
        })
    }

    fn schema() -> Json {
        string_like(if LEAST > 0 { "0*[1-9][0-9]*(?:ms|s|m|h)" } else { "[0-9]+(?:ms|s|m|h)" })
    }
}

impl<const LEAST: u8> From<Span<LEAST>> for Duration {
    fn from(span: Span<LEAST>) -> Self {
        span.0
    }
}

/// A size in bytes; where `LEAST` is 1 it is not zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<const LEAST: u8>(pub(super) usize);

pub(super) type Size = Bytes<1>;
pub(super) type SizeOrZero = Bytes<0>;

impl<const LEAST: u8> Part for Bytes<LEAST> {
    fn what() -> String {
        "a size in quotes, such as \"512B\", \"64KiB\", \"1MiB\" or \"2GiB\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if let DeValue::Integer(number) = node.get_ref() {
            let what = format!("a number needs a unit; write \"{number}B\" for bytes");
            reader.wrong(Kind::Type, node, what);
            return None;
        }
        reader.spelled::<Self, _>(node, |text| {
            let size = units::size(text)?;
            if LEAST > 0 && size == 0 {
                return Err(Wrong::spelling(format!("{} is no size; at least \"1B\"", quoted(text))));
            }
            Ok(Self(size))
        })
    }

    fn schema() -> Json {
        string_like(if LEAST > 0 { "0*[1-9][0-9]*(?:B|KiB|MiB|GiB)" } else { "[0-9]+(?:B|KiB|MiB|GiB)" })
    }
}

impl<const LEAST: u8> From<Bytes<LEAST>> for usize {
    fn from(bytes: Bytes<LEAST>) -> Self {
        bytes.0
    }
}

/// A string of any kind.
#[derive(Debug, Clone)]
pub(super) struct Text(pub(super) String);

impl Part for Text {
    fn what() -> String {
        "a string".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.string::<Self>(node).map(Self)
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }

    fn is_off(&self) -> bool {
        self.0.is_empty()
    }
}

impl Part for Secret {
    fn what() -> String {
        "a string".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.string::<Self>(node).map(Self::new)
    }

    fn schema() -> Json {
        Text::schema()
    }

    fn is_off(&self) -> bool {
        self.expose().is_empty()
    }
}

/// A name for people, metrics and logs.
#[derive(Debug, Clone)]
pub(super) struct Name(pub(super) String);

impl Part for Name {
    fn what() -> String {
        "a name".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            if text.is_empty() || text.chars().any(char::is_control) {
                return Err(Wrong::spelling("a name is not empty and has no control characters"));
            }
            Ok(Self(text.to_owned()))
        })
    }

    fn schema() -> Json {
        string_like(r"[^\u0000-\u001f\u007f-\u009f]+")
    }
}

/// A list of at least `LEAST`.
#[derive(Debug, Clone)]
pub(super) struct List<T, const LEAST: usize>(pub(super) Vec<At<T>>);

impl<T: Part, const LEAST: usize> Part for List<T, LEAST> {
    fn what() -> String {
        match T::what().as_str() {
            "a table" => "a list of tables, written with [[ ]]".into(),
            each => format!("a list, each {each}"),
        }
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(items) = node.get_ref().as_array() else {
            reader.mismatch::<Self>(node);
            return None;
        };
        if items.len() < LEAST {
            reader.wrong(Kind::Type, node, "the list is empty; give at least one, or leave the key out");
            return None;
        }
        let read = |(index, item)| reader.enter(&format!("[{index}]"), item);
        let read: Vec<_> = items.iter().enumerate().filter_map(read).collect();
        Some(Self(read))
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema(), "minItems": LEAST })
    }

    fn is_off(&self) -> bool {
        self.0.is_empty()
    }
}

/// One, or a list of at least one.
#[derive(Debug, Clone)]
pub(super) struct OneOrMore<T>(pub(super) Vec<At<T>>);

impl<T: Part> Part for OneOrMore<T> {
    fn what() -> String {
        format!("{}, or a list of such", T::what())
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Array(_) => List::<T, 1>::read(node, reader).map(|list| Self(list.0)),
            DeValue::String(_) => reader.enter("", node).map(|one| Self(vec![one])),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => {
                reader.mismatch::<Self>(node);
                None
            }
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [T::schema(), List::<T, 1>::schema()] })
    }
}
