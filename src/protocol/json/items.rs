//! The items of an array, as they are spelled: what passes through keeps its numbers.

use super::Document;
use super::scan::Kind;

impl<'a> Document<'a> {
    /// The texts of the items of the array at an RFC 6901 pointer; `None`: there is no array. Linear in the text.
    pub fn items_at(&self, pointer: &str) -> Option<Vec<&'a str>> {
        let array = self.tokens.get(self.at(pointer)?).filter(|token| token.kind == Kind::Array)?;
        let inside = self.text.get(array.range().start..)?;
        let (mut items, mut begin) = (Vec::new(), 0);
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        for (at, byte) in inside.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'[' | b'{' => depth += 1,
                b',' if depth == 0 => {
                    items.push(inside.get(begin..at)?.trim());
                    begin = at + 1;
                }
                b']' if depth == 0 => {
                    let last = inside.get(begin..at)?.trim();
                    items.extend(Some(last).filter(|last| !last.is_empty()));
                    return Some(items);
                }
                b']' | b'}' => depth = depth.checked_sub(1)?,
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // J2: a task is told as it stands in the list.
    #[test]
    fn items_keep_their_spelling() {
        let items = |text: &'static str, pointer| Document::parse(text.as_bytes()).unwrap().items_at(pointer);
        assert_eq!(items("[]", ""), Some(vec![]));
        assert_eq!(items(" [ 1.50 , \"a,]\\\\\\\"\" ] ", ""), Some(vec!["1.50", "\"a,]\\\\\\\"\""]));
        let text = r#"{"n": 1, "items": [{"id": [7, {"a": "}"}]}, [], 12345678901234567890123] , "z": [0]}"#;
        assert_eq!(
            items(text, "/items"),
            Some(vec![r#"{"id": [7, {"a": "}"}]}"#, "[]", "12345678901234567890123"])
        );
        assert_eq!(items(text, "/items/0/id"), Some(vec!["7", r#"{"a": "}"}"#]));
        assert_eq!(items(text, "/n"), None);
        assert_eq!(items(text, "/missing"), None);
    }
}
