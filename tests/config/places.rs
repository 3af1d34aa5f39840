//! C1: every problem at once, each with file, line, column and what would be right.

use onceward::config::{self, Kind};

use super::{load, with_route, wrong};

// C1
#[test]
fn all_problems_are_told_at_once() {
    let text = "[server]
theads = 1
[[routes]]
guard = \"stat\"
upstream = \"http://h\"
[idempotency]
ttl = 24
";
    assert_eq!(
        wrong(load(text)),
        [
            "onceward.toml:2:1: server: unknown key \"theads\"; did you mean \"threads\"?",
            "onceward.toml:3:1: routes[0]: \"path\" is missing: a path, such as \"/documents/{id}\"",
            "onceward.toml:4:9: routes[0].guard: \"stat\" is not a guard; one of state, tool, read, none \
             (did you mean \"state\"?)",
            "onceward.toml:7:7: idempotency.ttl: a number needs a unit; write \"24s\" for seconds",
        ]
    );
}

// C1: a wrong path hides nothing else of its route, and one mistake makes no second
#[test]
fn one_mistake_neither_hides_nor_makes_another() {
    let text = "[[routes]]
path = \"/{\"
guard = \"read\"
queue = true
resource = \"{id}\"
[[routes]]
path = \"/b\"
guard = \"tool\"
upstream = \"h\"
version = { source = \"hsah\", required = [\"PUT\"] }
[[routes]]
path = \"/c\"
upstream = \"http://h\"
version = { source = \"field\", field = \"rev\" }
";
    let lines = wrong(load(text));
    let places: Vec<_> =
        lines.iter().map(|line| line.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        places,
        [
            "onceward.toml:1:1 routes[0]",
            "onceward.toml:2:10 routes[0].path",
            "onceward.toml:4:9 routes[0].queue",
            "onceward.toml:9:12 routes[1].upstream",
            "onceward.toml:10:22 routes[1].version.source",
            "onceward.toml:14:39 routes[2].version.field",
        ]
    );
}

// C1: a text that is not TOML, and what is wrong beside that
#[test]
fn broken_toml_does_not_hide_the_rest() {
    let text = "[limits]\nhed = \"1KiB\"\nidle = 75\nuri = 8KiB\n= 5\n[[routes]]\npath = \"/\"\nupstream = \"http://h\"\n";
    let lines = wrong(load(text));
    assert_eq!(lines[0], "onceward.toml:2:1: limits: unknown key \"hed\"; did you mean \"head\"?");
    assert_eq!(lines[1], "onceward.toml:3:8: limits.idle: a number needs a unit; write \"75s\" for seconds");
    assert!(lines[2].starts_with("onceward.toml:4:"), "{lines:?}");
    assert!(lines[3].starts_with("onceward.toml:5:"), "{lines:?}");
    assert_eq!(lines.len(), 4, "{lines:?}");
}

// C1: what would be right, for each kind of value
#[test]
fn each_problem_says_what_would_be_right() {
    for (rest, expected) in [
        ("[server]\nlisten = \"localhost:80\"", "write for example \"127.0.0.1:80\""),
        ("[server]\nlisten = \":80\"", "write for example \"0.0.0.0:80\""),
        ("[server]\nlisten = \"127.0.0.1:99999\"", "is not an address with a port"),
        ("[server]\nlisten = []", "the list is empty; give at least one, or leave the key out"),
        ("[server]\nadmin = \"of\"", "is not an address with a port"),
        ("[server]\nthreads = -1", "-1 is not a number from 0 to 1024"),
        ("[server]\nthreads = \"4\"", "must be a number from 0 to 1024, not a string"),
        ("[server]\nshutdown_grace = \"25\"", "\"25\" is not a time; write for example \"25s\""),
        ("[limits]\nhead = \"64KB\"", "\"64KB\" is not a size; write for example \"64KiB\""),
        ("[limits]\nhead = 65536", "a number needs a unit; write \"65536B\" for bytes"),
        ("[limits]\nhead = \"0B\"", "\"0B\" is no size; at least \"1B\""),
        ("[limits]\nidle = \"0s\"", "\"0s\" is no time; at least \"1ms\""),
        ("[limits]\nidle = \"99999h\"", "is too long; at most \"87600h\""),
        ("[queue]\nmax_waiting = 0", "0 is not a number from 1 to 1000000"),
        ("[version]\nstale_status = 410", "410 is not 409 or 412"),
        ("[log]\nlevel = \"inof\"", "(did you mean \"info\"?)"),
        ("[log]\nlevel = \"onceward=loud\"", "\"onceward=loud\" is not one of off, error, warn"),
        ("methods = [\"get\"]", "methods are upper-case: \"GET\""),
        ("methods = [\"G T\"]", "\"G T\" is not a method"),
        ("name = \"\"", "a name is not empty"),
        ("version = \"hsah\"", "(did you mean \"hash\"?)"),
        ("version = 5", "must be one of hash, etag, field, mint, upstream, none, or a table, not an integer"),
        ("version = { field = \"rev\" }", "\"rev\" is not a JSON pointer; write for example \"/rev\""),
        ("version = { field = \"$.a.b\" }", "write for example \"/a/b\""),
        ("version = \"field\"", "write for example version = { field = \"/rev\" }"),
        ("version.probe = \"documents\"", "a probe is a path; begin it with \"/\""),
        ("version.probe = \"/documents/{di}\"", "is not a probe: the route's path captures no di, only {id}"),
        ("version.probe = \"/documents/{json:/id}\"", "{json:…} cannot be in it"),
        ("version.accept = \"\"", "a header's value is visible ASCII"),
        ("resource = \"\"", "a template is not empty"),
        ("[identity]\nheader = \"X Agent\"", "\"X Agent\" is not a header's name"),
        ("[identity]\nheader = 5", "must be a header's name, or a list of such, not an integer"),
        ("[store]\nurl = \"memory\"", "not a store; one of \"memory:\""),
    ] {
        let lines = wrong(with_route(rest));
        assert!(lines.len() == 1 && lines[0].contains(expected), "{rest}: {lines:?}");
    }
}

// C1: an upstream is a scheme, a host and a port
#[test]
fn an_upstream_that_cannot_be_meant_is_told() {
    for (url, expected) in [
        ("127.0.0.1:3000", "write for example \"http://127.0.0.1:3000\""),
        ("", "write for example \"http://127.0.0.1:3000\""),
        ("ftp://h", "not a URL of http:// or https://"),
        ("http://", "names no host"),
        ("http://a b", "names no host"),
        ("http://h/api", "an upstream has no path of its own, requests keep theirs; write \"http://h\""),
        ("http://h:80/?x", "write \"http://h:80\""),
        ("http://user:secret@h", "a user or password in the URL would not be sent"),
        ("http://h:", "has no valid host and port"),
        ("http://h:0", "has no valid host and port"),
        ("http://h:70000", "has no valid host and port"),
        ("http://:80", "has no valid host and port"),
        ("http://[::1", "has no valid host and port"),
        ("https://h", "https:// is not built yet"),
    ] {
        let lines = wrong(load(&format!("[[routes]]\npath = \"/\"\nupstream = {url:?}")));
        assert!(lines.len() == 1 && lines[0].contains(expected), "{url}: {lines:?}");
        assert!(!lines[0].contains("secret"), "{url}: {lines:?}");
    }
    for (url, authority) in [
        ("http://h", "h:80"),
        ("http://h/", "h:80"),
        ("http://tool_api:3000", "tool_api:3000"),
        ("http://[::1]", "[::1]:80"),
        ("http://[::1]:3000/", "[::1]:3000"),
    ] {
        for given in [format!("{url:?}"), format!("{{ url = {url:?}, http2 = false }}")] {
            let config = load(&format!("[[routes]]\npath = \"/\"\nupstream = {given}")).unwrap();
            assert_eq!(config.routes[0].upstream.authority, authority);
        }
    }
}

// C1: the place is inside the string, where it stands there as it was read
#[test]
fn a_place_inside_a_template_is_found() {
    let text = "[[routes]]\npath = \"/ü/{id}/{id}\"\nupstream = \"http://h\"\nresource = \"/${EMPTY}{no}\"\n";
    let lines = wrong(load(text));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("onceward.toml:2:17: routes[0].path: "), "{lines:?}");
    let text = text.replace("/{id}\"", "\"");
    let lines = wrong(load(&text));
    assert!(lines[0].starts_with("onceward.toml:4:12: routes[0].resource: "), "{lines:?}");
}

// C2
#[test]
fn an_unknown_key_is_told_with_the_nearest_one_or_its_place() {
    for (rest, expected) in [
        ("gaurd = \"tool\"", "routes[0]: unknown key \"gaurd\"; did you mean \"guard\"?"),
        ("Guard = \"tool\"", "routes[0]: unknown key \"Guard\"; did you mean \"guard\"?"),
        (
            "idempotency.on5xx = \"keep\"",
            "routes[0].idempotency: unknown key \"on5xx\"; did you mean \"on_5xx\"?",
        ),
        ("limits.buffered = \"1MiB\"", "unknown key \"buffered\"; it stands elsewhere: limits.buffered"),
        ("[store]\non_failure = \"open\"", "it stands elsewhere: routes[].store.on_failure"),
        (
            "[queue]\ntimeout = \"1s\"",
            "unknown key \"timeout\"; the keys here are turns, max_waiting, max_wait, reads",
        ),
        ("[authentication]", "unknown key \"authentication\"; the keys here are server, identity"),
    ] {
        let lines = wrong(with_route(rest));
        assert!(lines.len() == 1 && lines[0].contains(expected), "{rest}: {lines:?}");
    }
}

// C2: from the environment, in string values
#[test]
fn variables_are_filled_in() {
    let guard = |text: &str| with_route(&format!("guard = {text:?}")).map(|config| config.routes[0].guard);
    assert_eq!(guard("${SET}").unwrap(), config::checked::Guard::Read);
    assert_eq!(guard("${UNSET:-tool}").unwrap(), config::checked::Guard::Tool);
    let lines = wrong(with_route("guard = \"${UNSET}\"\nname = \"${ALSO}${UNSET}\"\n[log]\n\"${SET}\" = 1"));
    assert_eq!(
        lines,
        [
            "onceward.toml:4:9: routes[0].guard: the environment has no UNSET; set it, or write \
             \"${UNSET:-default}\" with a default",
            "onceward.toml:5:8: routes[0].name: the environment has no ALSO; set it, or write \
             \"${ALSO:-default}\" with a default",
            "onceward.toml:5:8: routes[0].name: the environment has no UNSET; set it, or write \
             \"${UNSET:-default}\" with a default",
            "onceward.toml:7:1: log: unknown key \"${SET}\"; the keys here are format, level, otlp",
        ]
    );
}

// C1: nothing given, and arguments that cannot be meant
#[test]
fn a_command_line_can_be_wrong_too() {
    assert_eq!(
        wrong(load("")),
        ["onceward.toml:1:1: \"routes\" is missing: a list of tables, written with [[ ]]"]
    );
    assert_eq!(
        wrong(config::quick("h", Some("x"))),
        [
            "command line: --upstream: not a URL of http:// or https://; write for example \"http://h\"",
            "command line: --listen: \"x\" is not an address with a port; write for example \"127.0.0.1:8080\"",
        ]
    );
}

// C1: a file that is not there, or is no text
#[test]
fn a_file_that_cannot_be_read_is_told() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("onceward.toml");
    let told = |file: &std::path::Path| {
        let problems = config::read(file).unwrap_err();
        assert!(problems.iter().all(|problem| problem.kind == Kind::File));
        problems.to_string()
    };
    assert!(told(&file).contains("onceward.toml: cannot be read: "));
    assert!(told(place.path()).contains(": cannot be read: "));
    std::fs::write(&file, b"name = \"\xff\"").unwrap();
    assert!(told(&file).ends_with("onceward.toml: byte 8 is not UTF-8, as TOML has to be"));
}

// C1: for a terminal, with the line it is about
#[test]
fn the_pretty_form_shows_the_line() {
    let problems = with_route("guard = \"stat\"").unwrap_err();
    let page = problems.pretty();
    assert!(page.contains("onceward.toml:4:9") && page.contains("guard = \"stat\""), "{page}");
    assert!(page.contains("did you mean \"state\"?"), "{page}");
}

// O3: where spans go
#[test]
fn a_collector_is_a_place_without_a_path() {
    let with = |url: &str| with_route(&format!("[log]\notlp = {url:?}"));
    let otlp = |url: &str| with(url).map(|config| config.log.otlp);
    assert_eq!(otlp("").unwrap(), None);
    for (url, authority, over_http) in [
        ("http://127.0.0.1:4317", "127.0.0.1:4317", false),
        ("http://collector/", "collector:4317", false),
        ("http://[::1]:4318", "[::1]:4318", true),
    ] {
        let otlp = otlp(url).map_err(|problems| problems.to_string());
        if cfg!(feature = "otlp") {
            let otlp = otlp.unwrap().unwrap();
            assert_eq!((otlp.authority.as_str(), otlp.over_http), (authority, over_http));
        } else {
            assert!(otlp.unwrap_err().contains("build with the feature `otlp`"));
        }
    }
    assert_eq!(
        wrong(with("http://h:4318/v1/traces")),
        ["onceward.toml:5:8: log.otlp: spans go to the collector's own path by themselves; write \
             \"http://h:4318\""]
    );
}
