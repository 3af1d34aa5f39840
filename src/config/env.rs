//! `${NAME}` and `${NAME:-default}` in string values (C2).
//!
//! 1. `${NAME}` is the variable's value; that it is not set is a problem.
//! 2. `${NAME:-default}` is the default where the variable is not set or empty, as in a shell. The default runs
//!    to the next `}` and is taken as it stands.
//! 3. `$${` is the two characters `${`. A `$` before anything else is itself.
//! 4. What was filled in is not looked at again.

/// Where the environment's variables come from.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The text with its variables filled in, or everything that is wrong with them.
pub(super) fn fill(text: &str, env: Env<'_>) -> Result<String, Vec<String>> {
    let mut filled = String::with_capacity(text.len());
    let mut wrong = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
            continue;
        }
        filled.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            wrong.push(
                "\"${\" without \"}\"; write \"${NAME}\", or \"$${\" for the characters themselves".into(),
            );
            return Err(wrong);
        };
        match variable(inside, env) {
            Ok(value) => filled.push_str(&value),
            Err(reason) => wrong.push(reason),
        }
        rest = after;
    }
    filled.push_str(rest);
    if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
}

fn variable(inside: &str, env: Env<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(format!(
            "{:?} names no variable; write \"${{NAME}}\" or \"${{NAME:-default}}\"",
            format!("${{{inside}}}")
        ));
    }
    let value = env(name);
    match default {
        Some(default) => Ok(value.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())),
        None => value.ok_or_else(|| {
            format!("the environment has no {name}; set it, or write \"${{{name}:-default}}\" with a default")
        }),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|next| next.is_ascii_alphanumeric() || next == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Vec<String>> {
        fill(text, &|name| match name {
            "A" => Some("a}${B}".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    // C2
    #[test]
    fn variables_are_filled_in_once() {
        for (text, expected) in [
            ("", ""),
            ("plain $ {x} $x", "plain $ {x} $x"),
            ("${A}", "a}${B}"),
            ("<${A}|${A:-d}>", "<a}${B}|a}${B}>"),
            ("${NO:-d:-e}", "d:-e"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("${NO:-}", ""),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
    }

    // C2
    #[test]
    fn every_wrong_variable_is_named() {
        let wrong = filled("${NO} ${1} ${A-b} ${NEITHER} ${").unwrap_err();
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        assert!(wrong[0].contains("no NO") && wrong[3].contains("no NEITHER"), "{wrong:?}");
    }
}
