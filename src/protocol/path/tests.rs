use proptest::prelude::*;

use super::*;

fn normal(raw: &str) -> Result<String, PathProblem> {
    NormalPath::parse(raw).map(|path| path.to_string())
}

// R1, R5
#[test]
fn normal_forms() {
    let table = [
        ("/", "/"),
        ("", "/"),
        ("/documents/7", "/documents/7"),
        ("/a!$&'()*+,;=:@b", "/a!$&'()*+,;=:@b"),
        // Unreserved characters, once.
        ("/%61%5A%30%2D%2e%5f%7E", "/aZ0-._~"),
        ("/%2561", "/%2561"),
        ("/%25%36%31", "/%2561"),
        // All others stay, in upper case.
        ("/a%2fb", "/a%2Fb"),
        ("/a%21", "/a%21"),
        ("/a%3f%23%5c%0a%7f", "/a%3F%23%5C%0A%7F"),
        // Non-ASCII, however it came.
        ("/%C3%a9", "/é"),
        ("/é", "/é"),
        ("/%F0%9F%A6%80/x", "/🦀/x"),
        // What no path may have as it is.
        ("/a\"b|c\\d{e}", "/a%22b%7Cc%5Cd%7Be%7D"),
        ("/a?b", "/a%3Fb"),
        // Dot segments, encoded ones too.
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b/%2e", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a"),
        ("/.", "/"),
        ("/.../..a/.b", "/.../..a/.b"),
        ("/a%2f..%2fb", "/a%2F..%2Fb"),
        // First dot segments, then doubled slashes: `..` takes an empty segment away.
        ("/a//../b", "/a/b"),
        ("//..", "/"),
        ("/a//b///c", "/a/b/c"),
        ("//", "/"),
        ("/a/", "/a"),
        ("/a//", "/a"),
        ("/a/./", "/a"),
        ("/.onceward/operations/k", "/.onceward/operations/k"),
    ];
    for (raw, wanted) in table {
        assert_eq!(normal(raw).as_deref(), Ok(wanted), "{raw}");
        assert_eq!(normal(wanted).as_deref(), Ok(wanted), "{raw}");
    }
}

// R1
#[test]
fn what_has_none() {
    let table = [
        ("*", PathProblem::NotAbsolute),
        ("a/b", PathProblem::NotAbsolute),
        ("%2Fa", PathProblem::NotAbsolute),
        ("/%zz", PathProblem::BadEscape),
        ("/%", PathProblem::BadEscape),
        ("/%4", PathProblem::BadEscape),
        ("/%4/1", PathProblem::BadEscape),
        ("/%+1", PathProblem::BadEscape),
        ("/%00", PathProblem::Nul),
        ("/\0", PathProblem::Nul),
        ("/%ff", PathProblem::NotUtf8),
        ("/%C3", PathProblem::NotUtf8),
        ("/%C3%C3%A9", PathProblem::NotUtf8),
        ("/%C0%AE", PathProblem::NotUtf8),
        ("/%ED%A0%80", PathProblem::NotUtf8),
        ("/..", PathProblem::AboveRoot),
        ("/a/../..", PathProblem::AboveRoot),
        ("/%2e%2e/a", PathProblem::AboveRoot),
        ("/./../a", PathProblem::AboveRoot),
    ];
    for (raw, problem) in table {
        assert_eq!(normal(raw), Err(problem), "{raw}");
    }
}

#[test]
fn segments_are_not_empty() {
    let segments = |raw| NormalPath::parse(raw).unwrap().segments().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(segments("/a//b%2Fc/"), ["a", "b%2Fc"]);
    assert_eq!(segments("/"), Vec::<String>::new());
}

// R5
#[test]
fn field_values() {
    let table = [("/documents/7", "/documents/7"), ("/é%2F", "/%C3%A9%2F"), ("a b\n\u{7f}", "a%20b%0A%7F")];
    for (text, wanted) in table {
        assert_eq!(percent_encode_non_ascii(text), wanted);
    }
}

// L1: an agent may name a resource as it likes.
#[test]
fn resources_however_named() {
    let table = [
        ("/documents/%C3%A9/", "/documents/é"),
        ("/documents/é", "/documents/é"),
        ("my table", "my%20table"),
        ("my%20table", "my%20table"),
        ("doc/%c3%A9", "doc/é"),
        ("doc/../a//", "doc/../a//"),
        ("/search/?q=a%2fb&r=/x/", "/search?q=a%2Fb&r=/x/"),
    ];
    for (named, wanted) in table {
        assert_eq!(normal_resource(named).as_deref(), Ok(wanted), "{named}");
        assert_eq!(normal_resource(&percent_encode_non_ascii(wanted)).as_deref(), Ok(wanted), "{named}");
    }
    assert_eq!(normal_resource("50%"), Err(PathProblem::BadEscape));
    assert_eq!(normal_resource("/.."), Err(PathProblem::AboveRoot));
}

/// The three steps, each as its RFC words it.
fn model(raw: &str) -> Option<String> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        if raw.as_bytes()[at] == b'%' {
            let digits =
                raw.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
            let byte = u8::from_str_radix(digits, 16).unwrap();
            match char::from(byte) {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' | '\u{80}'.. => decoded.push(byte),
                '\0' => return None,
                _ => decoded.extend(format!("%{}", digits.to_uppercase()).bytes()),
            }
            at += 3;
        } else {
            decoded.push(raw.as_bytes()[at]);
            at += 1;
        }
    }
    let mut input = String::from_utf8(decoded).ok()?;
    let mut output = String::new();
    while !input.is_empty() {
        if input.starts_with("/./") || input == "/." {
            input = format!("/{}", input.get(3..).unwrap_or(""));
        } else if input.starts_with("/../") || input == "/.." {
            input = format!("/{}", input.get(4..).unwrap_or(""));
            output.truncate(output.rfind('/')?);
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output.extend(input.drain(..end));
        }
    }
    while output.contains("//") {
        output = output.replace("//", "/");
    }
    Some(if output == "/" { output } else { output.trim_end_matches('/').to_owned() })
}

proptest! {
    #[test]
    fn it_is_what_the_rules_say(raw in "(/(\\.|%2e|%2E|a|é|%C3%A9|%C3|%2f|%25|%61|%00|%z|:){0,3}){1,7}") {
        let path = normal(&raw).ok();
        prop_assert_eq!(&path, &model(&raw));
        if let Some(path) = path {
            let again = normal(&path).unwrap();
            prop_assert_eq!(&again, &path);
            let encoded = normal(&percent_encode_non_ascii(&path)).unwrap();
            prop_assert_eq!(&encoded, &path);
        }
    }

    #[test]
    fn any_text_has_a_stable_form(raw in "/\\PC{0,20}") {
        if let Ok(path) = normal(&raw) {
            prop_assert_eq!(normal(&path).unwrap(), path);
        }
        if let Ok(name) = normal_resource(&raw[1..]) {
            prop_assert_eq!(normal_resource(&name).unwrap(), name);
        }
    }
}
