//! The integer in a JSON document that a race counts up: a JSON pointer (RFC 6901).

use std::str::FromStr;

use serde_json::{Value, json};

use crate::protocol::json::canonical;

/// `/value`, `/stats/hits`; the empty pointer is a document that is the number itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field(String);

impl FromStr for Field {
    type Err = String;

    fn from_str(pointer: &str) -> Result<Self, String> {
        match pointer.is_empty() || pointer.starts_with('/') {
            true => Ok(Self(pointer.to_owned())),
            false => Err(format!("a JSON pointer starts with a slash: /{pointer}")),
        }
    }
}

impl Field {
    /// `/value`.
    pub(crate) fn value() -> Self {
        Self("/value".to_owned())
    }

    /// The one integer among a document's members, `id` aside, since that names the document.
    pub(crate) fn only(document: &Value) -> Result<Self, String> {
        let integers: Vec<_> = document
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, value)| *name != "id" && value.as_i64().is_some())
            .map(|(name, _)| format!("/{}", name.replace('~', "~0").replace('/', "~1")))
            .collect();
        match integers.as_slice() {
            [one] => Ok(Self(one.clone())),
            [] => Err("found no integer to count up; name one with --field".to_owned()),
            _ => {
                Err(format!("found more than one integer; choose one with --field: {}", integers.join(", ")))
            }
        }
    }

    pub(crate) fn get(&self, document: &Value) -> Result<i64, String> {
        document.pointer(&self.0).and_then(Value::as_i64).ok_or_else(|| self.missing())
    }

    /// The whole document with another number in it, to PUT.
    pub(crate) fn put(&self, mut document: Value, number: i64) -> Result<Value, String> {
        *document.pointer_mut(&self.0).ok_or_else(|| self.missing())? = json!(number);
        Ok(document)
    }

    /// A merge patch (RFC 7386) with nothing in it but the number.
    pub(crate) fn patch(&self, document: &Value, number: i64) -> Result<Value, String> {
        let mut at = document;
        let mut names = Vec::new();
        for token in self.0.split('/').skip(1) {
            let name = token.replace("~1", "/").replace("~0", "~");
            let object = at.as_object().ok_or("a PATCH cannot reach into an array; use --method PUT")?;
            at = object.get(&name).ok_or_else(|| self.missing())?;
            names.push(name);
        }
        let wrap = |inner, name: String| Value::Object([(name, inner)].into_iter().collect());
        Ok(names.into_iter().rev().fold(json!(number), wrap))
    }

    fn missing(&self) -> String {
        format!("there is no integer at `{}` in the document", self.0)
    }
}

/// Whether a document means the same when it is written back. One with a number of more digits than are kept, or
/// with a name twice, does not.
pub(crate) fn survives(body: &[u8], document: &Value) -> bool {
    let meaning = |body: &[u8]| {
        let mut meaning = Vec::new();
        canonical(body, &mut meaning).map(|()| meaning)
    };
    meaning(body).is_ok_and(|before| meaning(document.to_string().as_bytes()) == Ok(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(pointer: &str) -> Field {
        pointer.parse().unwrap()
    }

    #[test]
    fn the_only_integer_is_found() {
        assert_eq!(
            Field::only(&json!({"id": 1, "name": "a", "value": 3, "share": 0.5})),
            Ok(field("/value"))
        );
        assert_eq!(Field::only(&json!({"a/b~c": 3})), Ok(field("/a~1b~0c")));
    }

    #[test]
    fn none_or_two_are_not_guessed() {
        assert!(Field::only(&json!({"id": 1})).is_err());
        assert!(Field::only(&json!([1])).is_err());
        let two = Field::only(&json!({"a": 1, "b": 2})).unwrap_err();
        assert!(two.ends_with("/a, /b"), "{two}");
    }

    #[test]
    fn a_pointer_starts_with_a_slash() {
        assert_eq!("value".parse::<Field>(), Err("a JSON pointer starts with a slash: /value".to_owned()));
        assert_eq!(field("").get(&json!(4)), Ok(4));
    }

    #[test]
    fn a_put_keeps_the_rest() {
        let document = json!({"list": [{"n": 1}, {"n": 2}], "other": null});
        let put = field("/list/1/n").put(document, 9);
        assert_eq!(put, Ok(json!({"list": [{"n": 1}, {"n": 9}], "other": null})));
        assert!(field("/list/2/n").put(json!({"list": []}), 9).is_err());
    }

    #[test]
    fn a_patch_has_only_the_number() {
        let document = json!({"a/b": {"n": 1, "m": 2}, "list": [1]});
        assert_eq!(field("/a~1b/n").patch(&document, 9), Ok(json!({"a/b": {"n": 9}})));
        assert_eq!(field("").patch(&json!(1), 9), Ok(json!(9)));
        assert!(field("/list/0").patch(&document, 9).unwrap_err().contains("PUT"));
    }

    #[test]
    fn a_document_that_would_be_changed_is_found() {
        let survives = |body: &str| survives(body.as_bytes(), &serde_json::from_str(body).unwrap());
        assert!(survives(r#"{ "b": 1.50, "a": [18446744073709551615, 1e3, null] }"#));
        assert!(!survives(r#"{"big": 12345678901234567890123}"#));
        assert!(!survives(r#"{"a": 1, "a": 2}"#));
    }
}
