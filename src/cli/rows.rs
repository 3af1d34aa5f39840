//! What an operator reads of an answer: a table, or a member a line.

use serde_json::Value;

/// A column of a list: the member, and what stands above it.
pub(super) type Column = (&'static str, &'static str);

/// The answer to a listing under `name`, as a table. The last column is not padded.
pub(super) fn list<const N: usize>(answer: &Value, name: &str, columns: &[Column; N]) -> String {
    let rows = answer[name].as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    let mut lines = vec![columns.map(|(_, title)| title.to_owned())];
    lines.extend(rows.iter().map(|row| columns.map(|(member, _)| plain(&row[member]))));
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One thing, a member a line.
pub(super) fn one(answer: &Value) -> String {
    let members = answer.as_object();
    let width = members.into_iter().flatten().map(|(name, _)| name.len()).max().unwrap_or_default();
    members.into_iter().flatten().map(|(name, value)| format!("{name:<width$}  {}\n", plain(value))).collect()
}

/// A value on a terminal: a resource is an agent's words, and must not move a cursor.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // O4
    #[test]
    fn a_table_lines_up_and_moves_no_cursor() {
        let columns = [("id", "ID"), ("state", "STATE"), ("status", "STATUS"), ("resource", "RESOURCE")];
        let one = json!({"id": "aa", "state": "unknown", "resource": "é\u{1b}[2J"});
        let two = json!({"id": "b", "state": "done", "status": 201, "resource": "/"});
        assert_eq!(
            list(&json!({"operations": [one, two]}), "operations", &columns),
            "ID  STATE    STATUS  RESOURCE\n\
             aa  unknown  -       é\\u{1b}[2J\n\
             b   done     201     /\n"
        );
        assert_eq!(list(&json!({"operations": []}), "operations", &columns), "none\n");
    }

    // O4
    #[test]
    fn one_operation_is_a_member_a_line() {
        assert_eq!(
            super::one(&json!({"id": "aa", "compared_etag": null})),
            "compared_etag  -\nid             aa\n"
        );
    }
}
