//! Which keys go with which source (C1, C2).

use onceward::config::{Kind, load};

/// What is wrong with a queue of these lines.
fn wrong(lines: &str) -> Vec<String> {
    let text = format!("[[routes]]\npath = \"/x\"\nupstream = \"http://127.0.0.1:1\"\n\n{lines}\n");
    match load(&text, "test.toml", &|_| None) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            problems.iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect()
        }
    }
}

fn queue(lines: &str) -> String {
    format!("[[queues]]\nname = \"q\"\n{lines}")
}

const HTTP: &str = "source = \"http://127.0.0.1:1\"\nlist = \"GET /tasks\"";

// C1, J2
#[test]
fn each_source_has_its_own_keys() {
    assert_eq!(wrong(&queue(HTTP)), [""; 0]);
    for (lines, key, word) in [
        ("source = \"http://127.0.0.1:1\"", "queues[0].source", "need a list"),
        ("source = \"http://127.0.0.1:1\"\nlist = \"/tasks\"", "queues[0].list", "a method and a path"),
        ("source = \"http://127.0.0.1:1\"\nlist = \"POST /tasks\"", "queues[0].list", "by GET"),
        ("source = \"http://127.0.0.1:1/api\"\nlist = \"GET /\"", "queues[0].source", "stands in `list`"),
        ("source = \"ftp://a\"", "queues[0].source", "not a source of tasks"),
        (&format!("{HTTP}\ntable = \"t\""), "queues[0].table", "does not go with"),
        (&format!("{HTTP}\nid = \"id\""), "queues[0].id", "\"/id\""),
        (&format!("{HTTP}\ndone_body = \"x\""), "queues[0].done_body", "goes with `done`"),
        (&format!("{HTTP}\nheaders = {{ \"a b\" = \"x\" }}"), "queues[0].headers", "not a header's name"),
    ] {
        let wrong = wrong(&queue(lines));
        assert!(
            wrong.len() == 1 && wrong[0].starts_with(key) && wrong[0].contains(word),
            "{lines}: {wrong:?}"
        );
    }
    let twice = format!("{}\n{}", queue(HTTP), queue(HTTP));
    assert!(wrong(&twice)[0].contains("\"q\" is the name of queues[0] already"), "{:?}", wrong(&twice));
    let segment = format!("[[queues]]\nname = \"a/b\"\n{HTTP}");
    assert!(wrong(&segment)[0].contains("one segment"), "{:?}", wrong(&segment));
}

// C1
#[cfg(all(feature = "postgres", feature = "redis", feature = "amqp"))]
#[test]
fn what_a_broker_needs_is_said() {
    for (lines, word) in [
        ("source = \"postgres://a\"", "need a table"),
        ("source = \"redis://a\"", "need a stream"),
        ("source = \"amqp://a\"", "need a queue"),
        ("source = \"postgres://a\"\ntable = \"t\"\nlist = \"GET /\"", "does not go with"),
        ("source = \"redis://\"\nstream = \"s\"", "names no host"),
    ] {
        let wrong = wrong(&queue(lines));
        assert!(wrong.len() == 1 && wrong[0].contains(word), "{lines}: {wrong:?}");
    }
    let secret = load(
        "[[routes]]\npath = \"/x\"\nupstream = \"http://127.0.0.1:1\"\n[[queues]]\nname = \"q\"\nsource = \"amqp://u:pa ss@h\"\n",
        "test.toml",
        &|_| None,
    );
    let problems = secret.expect_err("a space in a URL");
    assert!(problems.iter().any(|problem| problem.kind == Kind::Type), "{problems}");
    assert!(!problems.to_string().contains("pa ss"), "{problems}");
}
