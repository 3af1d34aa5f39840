//! No text makes the reader fall over, whatever it is.

use onceward::config;
use proptest::collection::vec;
use proptest::prelude::*;

use super::load;

const REFERENCE: &str = include_str!("../../config/reference.toml");

/// Loads a text and says all there is to say about it.
fn survive(text: &str) {
    match load(text) {
        Ok(config) => {
            assert!(
                config.routes.iter().all(|route| route.methods.as_ref().is_none_or(|list| !list.is_empty()))
            );
            assert!(
                !config.routes.is_empty() && !config.identity.is_empty() && !config.server.listen.is_empty()
            );
            config::shown(&config);
            config::notes(&config);
        }
        Err(problems) => {
            assert!(problems.iter().count() > 0);
            assert!(problems.to_string().lines().count() >= problems.iter().count());
            assert!(!problems.pretty().is_empty());
            for problem in problems.iter() {
                let (line, column) = problems.place(problem).unwrap();
                assert!(line <= text.matches('\n').count() + 1 && column <= text.len() + 1);
            }
        }
    }
}

/// One change to a text.
#[derive(Debug, Clone)]
enum Change {
    Delete(prop::sample::Index, usize),
    Insert(prop::sample::Index, String),
    SwapLines(prop::sample::Index, prop::sample::Index),
    RepeatLine(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    let bits = prop_oneof![
        Just("\"".to_owned()),
        Just("'''".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("[".to_owned()),
        Just("]]".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("${".to_owned()),
        Just("=".to_owned()),
        Just(".".to_owned()),
        Just(",".to_owned()),
        Just("\n".to_owned()),
        Just("é".to_owned()),
        Just("\u{0}".to_owned()),
        Just("\r".to_owned()),
        Just("9".to_owned()),
        Just("-".to_owned()),
        Just("\\".to_owned()),
        Just("[[routes]]\n".to_owned()),
        any::<String>(),
    ];
    prop_oneof![
        (index(), 1..40_usize).prop_map(|(at, length)| Change::Delete(at, length)),
        (index(), bits).prop_map(|(at, bit)| Change::Insert(at, bit)),
        (index(), index()).prop_map(|(one, other)| Change::SwapLines(one, other)),
        index().prop_map(Change::RepeatLine),
    ]
}

fn apply(text: &str, change: &Change) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut lines: Vec<&str> = text.lines().collect();
    match change {
        Change::Delete(at, length) => {
            let at = at.index(characters.len() + 1);
            characters.iter().take(at).chain(characters.iter().skip(at + length)).collect()
        }
        Change::Insert(at, bit) => {
            let (before, after) = characters.split_at(at.index(characters.len() + 1));
            before.iter().copied().chain(bit.chars()).chain(after.iter().copied()).collect()
        }
        Change::SwapLines(one, other) if !lines.is_empty() => {
            let count = lines.len();
            lines.swap(one.index(count), other.index(count));
            lines.join("\n")
        }
        Change::RepeatLine(at) if !lines.is_empty() => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at]);
            lines.join("\n")
        }
        Change::SwapLines(..) | Change::RepeatLine(_) => text.to_owned(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    // C1
    #[test]
    fn a_mutated_reference_is_read_or_refused(changes in vec(change(), 1..8), whole in any::<bool>()) {
        let start = if whole { REFERENCE.replace("#~ ", "") } else { REFERENCE.to_owned() };
        survive(&changes.iter().fold(start, |text, change| apply(&text, change)));
    }

    // C1
    #[test]
    fn a_string_of_any_kind_is_read_or_refused(value in any::<String>(), key in 0..14_usize) {
        let keys = [
            "path", "upstream", "name", "resource", "version.probe", "version.field", "version.accept", "guard",
            "limits.body", "limits.upstream_idle", "server.listen", "store.url", "log.level", "identity.header",
        ];
        let value = toml::Value::String(value);
        let table = |key: &str| format!("{key} = {value}\n");
        let text = match keys[key] {
            key @ ("server.listen" | "store.url" | "log.level" | "identity.header") => {
                format!("{}[[routes]]\npath = \"/\"\nupstream = \"http://h\"\n", table(key))
            }
            key @ "path" => format!("[[routes]]\n{}upstream = \"http://h\"\n", table(key)),
            key @ "upstream" => format!("[[routes]]\npath = \"/\"\n{}", table(key)),
            key => format!("[[routes]]\npath = \"/\"\nupstream = \"http://h\"\n{}", table(key)),
        };
        survive(&text);
    }

    // C1
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        survive(&text);
    }
}

// C1: a table in a table in a table
#[test]
fn depth_is_no_danger() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        survive(&format!("routes = {}1{}", open.repeat(5000), close.repeat(5000)));
    }
    survive(&"a.".repeat(20_000));
    survive(&format!("[{}]\n", vec!["a"; 5000].join(".")));
}
