use proptest::prelude::*;

use super::*;

fn tag(opaque: &str) -> EntityTag {
    EntityTag::from_opaque(opaque).unwrap()
}

fn lines<'a>(values: &[&'a str]) -> Vec<&'a [u8]> {
    values.iter().map(|value| value.as_bytes()).collect()
}

fn if_match(values: &[&str]) -> Result<Preconditions, PreconditionProblem> {
    Preconditions::parse(&lines(values), &[])
}

#[test]
fn strong_tags() {
    for field in ["\"\"", "\"v8\"", "\"a,b\"", "\"a\\b\"", "\"é\"", "\"W/\""] {
        assert_eq!(EntityTag::parse(field).map(|tag| tag.to_string()).as_deref(), Some(field));
    }
    for field in ["", "\"", "v8", "W/\"v8\"", "\"v8", "v8\"", "\"a b\"", "\"a\"b\"", "\"a\u{7f}\"", " \"a\""]
    {
        assert_eq!(EntityTag::parse(field), None, "{field}");
    }
    assert_eq!(EntityTag::from_opaque("a b"), None);
    assert_eq!(tag("v8").as_str(), "\"v8\"");
}

// V1: a field's text may be anything.
#[test]
fn tags_of_values() {
    let table = [
        ("v8", "\"v8\""),
        ("", "\"\""),
        ("a b\"", "\"a%20b%22\""),
        ("a%20b", "\"a%2520b\""),
        ("é", "\"%C3%A9\""),
    ];
    for (value, field) in table {
        let made = EntityTag::from_value(value).unwrap();
        assert_eq!(made.as_str(), field);
        assert_eq!(EntityTag::parse(field), Some(made));
    }
    assert_eq!(EntityTag::from_value(&"a".repeat(1025)), None);
}

// V4
#[test]
fn lists_of_tags() {
    let table: [(&[&str], &[&str]); 7] = [
        (&["\"a\""], &["a"]),
        (&["\"a\",\"b\""], &["a", "b"]),
        (&[" \"a\" \t, \"b\" "], &["a", "b"]),
        (&["\"a\"", "\"b\""], &["a", "b"]),
        (&[", ,\"a\",,\"b\","], &["a", "b"]),
        (&["\"a\"", ""], &["a"]),
        (&["\"a,b\", \"W/\""], &["a,b", "W/"]),
    ];
    for (values, tags) in table {
        let wanted = Condition::Tags(tags.iter().map(|opaque| tag(opaque)).collect());
        assert_eq!(if_match(values).unwrap().if_match, Some(wanted), "{values:?}");
    }
    assert_eq!(if_match(&[" * "]).unwrap().if_match, Some(Condition::Any));
}

// V4
#[test]
fn what_is_no_precondition() {
    use PreconditionProblem::{Malformed, Weak};
    let table: [(&[&str], PreconditionProblem); 20] = [
        (&[""], Malformed),
        (&[" , "], Malformed),
        (&["a"], Malformed),
        (&["\"a"], Malformed),
        (&["a\""], Malformed),
        (&["\"a\" \"b\""], Malformed),
        (&["\"a\"\"b\""], Malformed),
        (&["\"a\";x"], Malformed),
        (&["'a'"], Malformed),
        (&["\"a, b\""], Malformed),
        (&["* *"], Malformed),
        (&["*,*"], Malformed),
        (&["*", "*"], Malformed),
        (&["*, \"a\""], Malformed),
        (&["\"a\"", "*"], Malformed),
        (&["*, W/\"a\""], Malformed),
        (&["w/\"a\""], Malformed),
        (&["W/\"a\""], Weak),
        (&["\"a\", W/\"b\""], Weak),
        (&["W/\"a\", b"], Malformed),
    ];
    for (values, problem) in table {
        assert_eq!(if_match(values), Err(problem), "{values:?}");
        assert_eq!(Preconditions::parse(&[], &lines(values)), Err(problem), "{values:?}");
    }
    assert_eq!(if_match(&["*, "]).unwrap().if_match, Some(Condition::Any));
    assert_eq!(Preconditions::parse(&[b"\"\xff\""], &[]), Err(Malformed));
    assert_eq!(Preconditions::parse(&[b"W/\"a\""], &[b"a"]), Err(Malformed));
}

// V3
#[test]
fn when_they_hold() {
    let (a, b) = (tag("a"), tag("b"));
    let table = [
        ("", "", [true, true, true]),
        ("*", "", [true, true, false]),
        ("\"a\"", "", [true, false, false]),
        ("\"a\", \"b\"", "", [true, true, false]),
        ("\"A\"", "", [false, false, false]),
        ("", "*", [false, false, true]),
        ("", "\"a\"", [false, true, true]),
        ("*", "\"a\"", [false, true, false]),
        ("\"a\"", "*", [false, false, false]),
        ("\"a\", \"b\"", "\"a\"", [false, true, false]),
    ];
    for (if_match, if_none_match, wanted) in table {
        let sent = |value: &'static str| if value.is_empty() { vec![] } else { vec![value.as_bytes()] };
        let conditions = Preconditions::parse(&sent(if_match), &sent(if_none_match)).unwrap();
        let got = [Some(&a), Some(&b), None].map(|current| conditions.holds(current));
        assert_eq!(got, wanted, "{if_match} {if_none_match}");
        assert_eq!(conditions.is_empty(), if_match.is_empty() && if_none_match.is_empty());
    }
}

// V3
#[test]
fn which_name_a_version() {
    let table: [(&[&str], &[&str], bool, bool); 7] = [
        (&[], &[], false, false),
        (&["\"a\""], &[], true, true),
        (&["*"], &[], false, true),
        (&[], &["*"], true, true),
        (&[], &["\"a\""], false, false),
        (&["*"], &["\"a\""], false, true),
        (&["*"], &["*"], true, true),
    ];
    for (if_match, if_none_match, strictly, with_any) in table {
        let conditions = Preconditions::parse(&lines(if_match), &lines(if_none_match)).unwrap();
        assert_eq!(conditions.names_version(false), strictly, "{if_match:?} {if_none_match:?}");
        assert_eq!(conditions.names_version(true), with_any, "{if_match:?} {if_none_match:?}");
    }
}

// V2
#[test]
fn reads_compare_weakly() {
    let table: [(&[&str], bool); 10] = [
        (&[], false),
        (&["\"a\""], true),
        (&["W/\"a\""], true),
        (&["\"b\", W/\"a\""], true),
        (&["\"b\"", "\"a\""], true),
        (&["*"], true),
        (&["\"b\""], false),
        (&["a"], false),
        (&["\"a\", b"], false),
        (&["*, \"a\""], false),
    ];
    for (values, due) in table {
        assert_eq!(none_match_read(&lines(values), &tag("a")), due, "{values:?}");
    }
}

proptest! {
    #[test]
    fn lists_are_read_back(
        members in prop::collection::vec(("[!#-~]{0,4}", any::<bool>()), 1..5),
        spaces in prop::collection::vec("[ \t]{0,2}(,[ \t]?){1,2}", 5),
        current in "[a-c]",
    ) {
        let mut sent = String::new();
        for ((opaque, weak), space) in members.iter().zip(&spaces) {
            sent += &format!("{}\"{opaque}\"{space}", if *weak { "W/" } else { "" });
        }
        let parsed = if_match(&[&sent]);
        if members.iter().any(|(_, weak)| *weak) {
            prop_assert_eq!(parsed, Err(PreconditionProblem::Weak));
        } else {
            let named = members.iter().any(|(opaque, _)| *opaque == current);
            let parsed = parsed.unwrap();
            prop_assert_eq!(parsed.holds(Some(&tag(&current))), named);
            let inverse = Preconditions { if_none_match: parsed.if_match, if_match: None };
            prop_assert_eq!(inverse.holds(Some(&tag(&current))), !named);
        }
        let named = members.iter().any(|(opaque, _)| *opaque == current);
        prop_assert_eq!(none_match_read(&[sent.as_bytes()], &tag(&current)), named);
    }

    #[test]
    fn any_bytes_are_read(
        value: Vec<u8>,
        text in r#"[*"aW/ ,]{0,8}"#,
        values in "[a% \"é]{0,2}",
        other in "[a% \"é2]{0,3}",
    ) {
        for value in [value.as_slice(), text.as_bytes()] {
            let problem = Preconditions::parse(&[value], &[]).err();
            if problem == Some(PreconditionProblem::Malformed) {
                prop_assert!(!none_match_read(&[value], &tag("a")));
            }
        }
        prop_assert_eq!(EntityTag::from_value(&values) == EntityTag::from_value(&other), values == other);
    }
}
