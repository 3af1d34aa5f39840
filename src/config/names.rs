//! What was meant by a name that is not known (C2).

use serde_json::Value as Json;

use super::reader::quoted;

/// Says that a key is not known, and which one was most likely meant.
pub(super) fn unknown_key(name: &str, known: &[&str]) -> String {
    let unknown = format!("unknown key {}", quoted(name));
    if let Some(near) = nearest(name, known) {
        return format!("{unknown}; did you mean {near:?}?");
    }
    let mut elsewhere = Vec::new();
    places(name, "", &super::schema(), &mut elsewhere);
    match elsewhere.as_slice() {
        [] => format!("{unknown}; the keys here are {}", known.join(", ")),
        places => format!("{unknown}; it stands elsewhere: {}", places.join(", ")),
    }
}

/// The known name that a misspelt one most likely stands for.
pub(super) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let name: String = name.chars().take(64).flat_map(char::to_lowercase).collect();
    let allowed = (name.chars().count() / 3).max(1);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&name, known), *known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Collects the keys of this name in all tables of a schema.
fn places(name: &str, table: &str, schema: &Json, found: &mut Vec<String>) {
    let any = schema.get("anyOf").and_then(Json::as_array);
    for choice in any.into_iter().flatten() {
        places(name, table, choice, found);
    }
    if let Some(items) = schema.get("items") {
        places(name, &format!("{table}[]"), items, found);
    }
    for (key, below) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let place = if table.is_empty() { key.clone() } else { format!("{table}.{key}") };
        places(name, &place, below, found);
        if key == name {
            found.push(place);
        }
    }
}
