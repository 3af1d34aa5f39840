//! What a stream's entry says, and the entry of a task that an agent puts in.

use std::collections::BTreeMap;

use super::super::super::source::{Content, NewTask};

/// The field with the task, where an entry is written by Onceward or like it.
const TASK: &str = "task";
/// What may stand beside it without being part of it.
const CONTENT_TYPE: &str = "content_type";
const OPERATION: &str = "operation";

/// An entry's task: the value of the field `task` where no other field says more; else all fields, as a JSON object of
/// strings. `words`: field, value, field, value.
pub(super) fn content(words: Vec<Vec<u8>>) -> Content {
    let is_beside = |name: &[u8]| name == CONTENT_TYPE.as_bytes() || name == OPERATION.as_bytes();
    let mut task = None;
    let mut fields = BTreeMap::new();
    let mut more = false;
    let mut words = words.into_iter();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        if name == TASK.as_bytes() && task.is_none() {
            task = Some(value.clone());
        } else if !is_beside(&name) {
            more = true;
        }
        // A field may stand twice in an entry: the last one counts.
        fields.insert(String::from_utf8_lossy(&name).into_owned(), text(value));
    }
    match task {
        Some(task) if !more => Content::Bytes(task.into()),
        Some(_) | None => Content::Json(serde_json::Value::from_iter(fields).to_string().into()),
    }
}

/// A value that is no UTF-8 is told as other bytes are.
fn text(value: Vec<u8>) -> serde_json::Value {
    match String::from_utf8(value) {
        Ok(text) => text.into(),
        Err(error) => {
            let bytes = Content::Bytes(error.into_bytes().into()).to_json();
            serde_json::from_str(&bytes).unwrap_or_default()
        }
    }
}

/// The fields of a task that is put in, each with its value.
pub(super) fn fields(task: &NewTask) -> Vec<(&'static str, &[u8])> {
    let mut fields = vec![(TASK, task.body.as_ref()), (OPERATION, task.operation.as_bytes())];
    if let Some(kind) = &task.content_type {
        fields.push((CONTENT_TYPE, kind.as_bytes()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&[u8]]) -> String {
        content(words.iter().map(|word| word.to_vec()).collect()).to_json()
    }

    // J2: a task is what its entry says, whoever wrote it.
    #[test]
    fn an_entry_is_one_task() {
        assert_eq!(told(&[b"task", b"{\"id\": 7}"]), "{\"id\": 7}");
        assert_eq!(told(&[b"task", b"x", b"content_type", b"text/plain", b"operation", b"o"]), "\"x\"");
        assert_eq!(told(&[b"id", b"7", b"kind", b"resize"]), r#"{"id":"7","kind":"resize"}"#);
        assert_eq!(told(&[b"task", b"x", b"priority", b"5"]), r#"{"priority":"5","task":"x"}"#);
        assert_eq!(told(&[b"n", b"1", b"n", b"2"]), r#"{"n":"2"}"#);
        assert_eq!(told(&[b"raw", b"\xff"]), r#"{"raw":{"base64":"/w=="}}"#);
    }
}
