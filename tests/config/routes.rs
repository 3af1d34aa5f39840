//! R2 and the rules between routes: what guard, top and route make of one another.

use std::time::Duration;

use http::Method;
use onceward::config::checked::{EventsOf, Guard, Mode, Route, Source};
use onceward::config::{self, Over};

use super::{load, with_route, wrong};

fn route(rest: &str) -> Route {
    let config = with_route(rest).unwrap_or_else(|problems| panic!("{rest}: {problems}"));
    Route::clone(&config.routes[0])
}

/// What R2's table tells apart: key, methods that need a precondition, turns, source.
fn row(rest: &str) -> (bool, Vec<Method>, bool, Source) {
    let route = route(rest);
    (route.idempotency.required, route.version.required, route.queue.turns, route.version.source)
}

fn preconditions() -> Vec<Method> {
    vec![Method::PUT, Method::PATCH, Method::DELETE]
}

// R2: the table
#[test]
fn a_guard_is_a_set_of_defaults() {
    for (rest, expected) in [
        ("", (true, preconditions(), true, Source::Hash)),
        ("guard = \"state\"", (true, preconditions(), true, Source::Hash)),
        ("guard = \"tool\"", (true, vec![], false, Source::None)),
        ("guard = \"tool\"\nresource = \"x\"", (true, vec![], true, Source::None)),
        ("guard = \"tool\"\nversion = \"mint\"", (true, preconditions(), true, Source::Mint)),
        ("guard = \"tool\"\nversion = \"none\"", (true, vec![], false, Source::None)),
        ("guard = \"tool\"\nversion.refresh = false", (true, vec![], false, Source::None)),
        ("guard = \"read\"", (false, vec![], false, Source::None)),
        ("guard = \"read\"\nversion = \"mint\"\nresource = \"x\"", (false, vec![], false, Source::Mint)),
        ("guard = \"none\"", (false, vec![], false, Source::None)),
    ] {
        assert_eq!(row(rest), expected, "{rest}");
    }
}

// R2: every one of them can be set by hand
#[test]
fn every_default_of_a_guard_can_be_set_by_hand() {
    for (rest, expected) in [
        ("idempotency.required = false", (false, preconditions(), true, Source::Hash)),
        ("version.required = []", (true, vec![], true, Source::Hash)),
        ("version.required = [\"POST\", \"POST\"]", (true, vec![Method::POST], true, Source::Hash)),
        ("queue = false", (true, preconditions(), false, Source::Hash)),
        ("version = \"none\"", (true, vec![], true, Source::None)),
        ("version = { field = \"/rev\" }", (true, preconditions(), true, Source::Field("/rev".into()))),
        ("guard = \"tool\"\nqueue.turns = true", (true, vec![], true, Source::None)),
        ("guard = \"tool\"\nversion = \"etag\"\nqueue = false", (true, preconditions(), false, Source::Etag)),
        ("guard = \"tool\"\nidempotency.required = false", (false, vec![], false, Source::None)),
        ("guard = \"none\"\nidempotency.required = true", (true, vec![], false, Source::None)),
        ("guard = \"none\"\nqueue = true", (false, vec![], true, Source::None)),
        ("guard = \"none\"\nversion = \"hash\"", (false, vec![], false, Source::Hash)),
        (
            "guard = \"none\"\nversion = { source = \"hash\", required = [\"PUT\"] }",
            (false, vec![Method::PUT], false, Source::Hash),
        ),
    ] {
        assert_eq!(row(rest), expected, "{rest}");
    }
}

// R2: `none` is a plain pass-through until something is set by hand
#[test]
fn a_none_route_passes_through() {
    for (rest, passes) in [
        ("guard = \"none\"", true),
        ("guard = \"none\"\nidempotency.ttl = \"1h\"", true),
        ("guard = \"none\"\nidempotency.required = true", false),
        ("guard = \"none\"\nqueue = true", false),
        ("guard = \"none\"\nversion = \"upstream\"", false),
        ("guard = \"tool\"\nidempotency.required = false", false),
        ("guard = \"read\"", false),
    ] {
        assert_eq!(route(rest).passes_through(), passes, "{rest}");
    }
}

// R2, R3
#[test]
fn a_method_reads_by_guard_by_registration_or_by_hand() {
    let plain = route("reads = [\"POST\", \"PUT\"]");
    for (method, reads) in [("GET", true), ("QUERY", true), ("POST", true), ("PUT", true), ("PATCH", false)] {
        assert_eq!(plain.is_read(&method.parse().unwrap()), reads, "{method}");
    }
    assert!(route("guard = \"read\"").is_read(&Method::DELETE));
}

// Section T: the top is a default, a route overrides it key by key
#[test]
fn a_route_overrides_the_top_key_by_key() {
    let top = "mode = \"observe\"
idempotency = { ttl = \"1h\", settle = \"5s\", required = false }
version = \"mint\"
queue = { turns = false, max_waiting = 7 }
limits = { body = \"2MiB\", upstream_idle = \"1s\", head = \"1KiB\" }
[[routes]]
path = \"/a\"
upstream = \"http://h\"
[[routes]]
path = \"/b\"
upstream = \"http://h\"
mode = \"enforce\"
idempotency.ttl = \"2h\"
version = { field = \"/rev\" }
queue = true
limits.body = \"3MiB\"
";
    let config = load(top).unwrap();
    let [a, b] = config.routes.as_slice() else { panic!() };
    assert_eq!(config.limits.head, 1024);
    let seen = |route: &Route| {
        let Route { mode, idempotency, version, queue, limits, .. } = route.clone();
        let times = (idempotency.ttl.as_secs(), idempotency.settle.as_secs(), limits.upstream_idle.as_secs());
        (mode, times, version.source, queue.turns, queue.max_waiting, limits.body >> 20)
    };
    assert_eq!(seen(a), (Mode::Observe, (3600, 5, 1), Source::Mint, false, 7, 2));
    assert_eq!(seen(b), (Mode::Enforce, (7200, 5, 1), Source::Field("/rev".into()), true, 7, 3));
    assert!(!a.idempotency.required && !b.idempotency.required);
}

// R2: what a guard decides, the top decides for `state` and `tool` only
#[test]
fn the_top_turns_no_plain_route_into_a_guarded_one() {
    let top = "version = { source = \"mint\", required = [\"POST\"], refresh = false }
idempotency.required = true
queue = true
";
    for (guard, expected) in [
        ("state", (true, vec![Method::POST], true, Source::Mint)),
        ("tool", (true, vec![Method::POST], true, Source::Mint)),
        ("read", (false, vec![], false, Source::None)),
        ("none", (false, vec![], false, Source::None)),
    ] {
        let text = format!("{top}[[routes]]\npath = \"/\"\nupstream = \"http://h\"\nguard = {guard:?}");
        let config = load(&text).unwrap();
        let route = Route::clone(&config.routes[0]);
        let row =
            (route.idempotency.required, route.version.required, route.queue.turns, route.version.source);
        assert_eq!(row, expected, "{guard}");
        assert!(!route.version.refresh, "{guard}");
    }
    // A field at the top is used by the route that says `field`, and does not disturb one that says otherwise.
    let text = "version.field = \"/rev\"
[[routes]]
path = \"/a\"
upstream = \"http://h\"
version = \"hash\"
[[routes]]
path = \"/b\"
upstream = \"http://h\"
guard = \"read\"
version = \"field\"
";
    let sources: Vec<_> =
        load(text).unwrap().routes.iter().map(|route| route.version.source.clone()).collect();
    assert_eq!(sources, [Source::Hash, Source::Field("/rev".into())]);
}

// C1: what cannot hold together
#[test]
fn what_contradicts_itself_is_told() {
    for (rest, expected) in [
        (
            "version = { source = \"hash\", field = \"/rev\" }",
            "version.field: goes with source = \"field\" only",
        ),
        ("version = { source = \"none\", required = [\"PUT\"] }", "without versions no precondition can be"),
        ("guard = \"tool\"\nversion.required = [\"PUT\"]", "without versions no precondition can be"),
        ("version.required = [\"GET\"]", "version.required[0]: GET is a read here"),
        (
            "reads = [\"POST\"]\nversion.required = [\"PUT\", \"POST\"]",
            "version.required[1]: POST is a read here",
        ),
        ("[version]\nrequired = [\"GET\"]", "version.required[0]: GET is a read here"),
        ("guard = \"read\"\nidempotency.required = true", "a read needs no key; use another guard"),
        ("guard = \"read\"\nqueue = true", "a read takes no turn; use another guard"),
        (
            "guard = \"read\"\nversion = { source = \"mint\", required = [\"POST\"] }",
            "a read needs no precondition",
        ),
        ("[server]\nlisten = \"0.0.0.0:9090\"", "server.listen and server.admin are both 127.0.0.1:9090"),
        ("[server]\nlisten = [\"[::1]:80\", \"[::]:80\"]", "server.listen[1]: [::]:80 is listened to twice"),
        (
            "[[routes]]\npath = \"/documents/{it}/\"\nupstream = \"http://h\"",
            "matches the same paths as routes[0]",
        ),
        (
            "methods = [\"GET\"]\n[[routes]]\npath = \"/documents/{id}\"\nupstream = \"http://h\"\nmethods = [\"PUT\"]",
            "methods do not tell routes apart",
        ),
        (
            "name = \"a\"\n[[routes]]\npath = \"/b\"\nname = \"a\"\nupstream = \"http://h\"",
            "onceward.toml:7:8: routes[1].name: \"a\" is the name of routes[0] already",
        ),
        (
            "[[routes]]\npath = \"/b\"\nname = \"/documents/{id}\"\nupstream = \"http://h\"",
            "is the name of routes[0] already",
        ),
    ] {
        let lines = wrong(with_route(rest));
        assert!(lines.len() == 1 && lines[0].contains(expected), "{rest}: {lines:?}");
    }
    for path in ["/.onceward", "/.onceward/x", "//.onceward/", "/%2eonceward/{x}", "/.%6fnceward"] {
        let lines = wrong(load(&format!("[[routes]]\npath = {path:?}\nupstream = \"http://h\"")));
        assert!(lines.len() == 1 && lines[0].contains("are Onceward's own"), "{path}: {lines:?}");
    }
    load("[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[[routes]]\npath = \"/.x\"\nupstream = \"http://h\"")
        .unwrap();
}

// L1, R2: leases are there where writes are protected, or where the route asks for them
#[test]
fn leases_are_where_writes_are_protected() {
    let of = |top: &str, lines: &str| {
        let text = format!("{top}\n[[routes]]\npath = \"/\"\nupstream = \"http://h\"\n{lines}");
        load(&text).map(|config| config.routes[0].leases.map(|leases| leases.max_ttl.as_secs()))
    };
    let tuned = "leases = { max_ttl = \"20s\" }";
    for (top, lines, max_ttl) in [
        ("", "", Some(600)),
        ("", "guard = \"tool\"", Some(600)),
        ("", "guard = \"none\"", None),
        ("", "guard = \"read\"", None),
        ("", "leases = false", None),
        ("leases = false", "", None),
        ("leases = false", "leases = true", Some(600)),
        (tuned, "", Some(20)),
        (tuned, "guard = \"none\"", None),
        (tuned, "guard = \"none\"\nleases = true", Some(20)),
        (tuned, "leases = { max_ttl = \"5s\" }", Some(5)),
        ("leases = true", "guard = \"read\"", None),
    ] {
        assert_eq!(of(top, lines).unwrap(), max_ttl, "{top} {lines}");
    }
    let problems = of("", "guard = \"read\"\nleases = true").unwrap_err().to_string();
    assert!(problems.contains("no lease keeps a read back"), "{problems}");
    let config = load(&format!("{tuned}\n[[routes]]\npath = \"/\"\nupstream = \"http://h\"")).unwrap();
    assert_eq!(
        config.routes[0].leases.unwrap().default_ttl,
        Duration::from_secs(20),
        "cut to what is the most"
    );
}

// E1, T: who is told is a default of the guard, the top's counts for what writes, and the route's own for itself
#[test]
fn who_is_told_is_said_at_the_top_and_on_routes() {
    for (guard, expected) in
        [("state", EventsOf::All), ("tool", EventsOf::All), ("read", EventsOf::Off), ("none", EventsOf::Off)]
    {
        let guard = format!("guard = {guard:?}");
        assert_eq!(route(&guard).events, expected, "{guard}");
        let below = |top: &str| {
            let route = format!("[[routes]]\npath = \"/\"\nupstream = \"http://h\"\n{guard}");
            load(&format!("{top}\n{route}")).unwrap().routes[0].events
        };
        let own = if expected == EventsOf::Off { EventsOf::Off } else { EventsOf::Own };
        assert_eq!((below("events = \"own\""), below("[events]\nttl = \"1m\"")), (own, expected), "{guard}");
        assert_eq!(route(&format!("{guard}\nevents = \"off\"")).events, EventsOf::Off, "{guard}");
    }
    let keyed = "guard = \"none\"\nidempotency.required = true\nevents = \"own\"";
    assert_eq!(route(keyed).events, EventsOf::Own);
    for guard in ["none", "read"] {
        let lines = wrong(with_route(&format!("guard = {guard:?}\nevents = \"all\"")));
        assert!(lines.len() == 1 && lines[0].contains("routes[0].events: nothing is told"), "{lines:?}");
    }
    let lines = wrong(with_route("events = \"al\""));
    assert!(lines[0].contains("did you mean \"all\"?"), "{lines:?}");
    wrong(with_route("[routes.events]\nhistory = 5"));
    let events =
        load("[events]\nhistory = 0\n[[routes]]\npath = \"/\"\nupstream = \"http://h\"").unwrap().events;
    assert_eq!((events.history, events.readers, events.ttl), (0, 1024, Duration::from_secs(3600)));
}

// C1: a key of what is to come is known, checked, and refused; switching it off is not
#[test]
fn what_is_not_built_is_told() {
    for rest in [
        "[server]\ntls = { cert = \"c\", key = \"k\" }",
        "upstream.http2 = true",
        "upstream.ca = \"ca.pem\"",
        "[log]\notlp = \"https://h\"",
    ] {
        let text = match rest.strip_prefix("upstream.") {
            Some(rest) => format!("[[routes]]\npath = \"/\"\nupstream = {{ url = \"http://h\", {rest} }}"),
            None => format!("[[routes]]\npath = \"/\"\nupstream = \"http://h\"\n{rest}"),
        };
        let problems = load(&text).unwrap_err();
        let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, [config::Kind::NotBuilt], "{rest}: {problems}");
        assert!(!problems.to_string().contains("pw"), "{problems}");
    }
    let off = "leases = false\nevents = \"off\"\nasync = false\n[store]\nsecret = \"${UNSET:-}\"\n[log]\notlp = \"\"";
    let text = format!(
        "leases = false\nevents = \"off\"\nqueues = []\n[[routes]]\npath = \"/\"\nupstream = \"http://h\"\n{off}"
    );
    load(&text).unwrap();
    // Nor does what only tunes something that nothing switches on.
    let tunes = "[store]\nalive = \"10s\"\nwait_replicas = 0\nprefix = \"o:\"\nschema = \"o\"\nturns = \"rows\"\n\
        connections = 16\n[leases]\nmax_ttl = \"1m\"\n[jobs]\ngive_up = \"1m\"\n[events]\nttl = \"1m\"";
    load(&format!("[[routes]]\npath = \"/\"\nupstream = \"http://h\"\n{tunes}")).unwrap();
    // A wrong type of what is not built is told as such.
    let problems = with_route("[jobs]\nmax_waiting = \"5\"\ngive = 1").unwrap_err();
    let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds, [config::Kind::Type, config::Kind::Name], "{problems}");
}

// J1, C1: jobs need a store that keeps them, and a secret that seals them
#[test]
fn what_jobs_need_is_told() {
    let hex = "0123456789abcdefABCDEF0123456789000102030405060708090a0b0c0d0e0f";
    let jobs = |guard: &str, store: &str| {
        load(&format!(
            "[[routes]]\npath = \"/\"\nupstream = \"http://h\"\nguard = \"{guard}\"\nasync = true\n[store]\n{store}"
        ))
    };
    let disk = |secret: &str| format!("url = \"disk:/s\"\nsecret = \"{secret}\"");
    let read = |secret: &str| {
        let config = jobs("tool", &disk(secret)).unwrap_or_else(|problems| panic!("{secret}: {problems}"));
        *config.store.secret.expect("a secret").expose()
    };
    let bytes = read(hex);
    assert_eq!((bytes[0], bytes[9], bytes[16], bytes[31]), (0x01, 0xcd, 0x00, 0x0f));
    assert_eq!(
        read("ASNFZ4mrze+rze8BI0VniQABAgMEBQYHCAkKCwwNDg8="),
        read("ASNFZ4mrze-rze8BI0VniQABAgMEBQYHCAkKCwwNDg8")
    );
    for (guard, store, place, expected) in [
        ("tool", "", "onceward.toml:5:9", "memory:"),
        ("state", "url = \"disk:/s\"", "onceward.toml:5:9", "needs store.secret"),
        ("tool", &disk(""), "onceward.toml:5:9", "needs store.secret"),
        ("tool", &disk(&hex[1..]), "onceward.toml:8:10", "is not 32 bytes in hex"),
        ("tool", &disk(&hex.replace('a', "g")), "onceward.toml:8:10", "is not 32 bytes in hex"),
        ("tool", &disk("AAAA"), "onceward.toml:8:10", "is not 32 bytes in hex"),
        ("read", &disk(hex), "onceward.toml:5:9", "no keyed writes"),
        ("none", &disk(hex), "onceward.toml:5:9", "no keyed writes"),
    ] {
        let lines = wrong(jobs(guard, store));
        let fits = lines.len() == 1 && lines[0].starts_with(place) && lines[0].contains(expected);
        assert!(fits, "{guard} {store}: {lines:?}");
        assert!(!lines[0].contains("0405060708"), "the secret is told: {lines:?}");
    }
}

// C1: with only an upstream, one `state` route on `/{*path}`
#[test]
fn an_upstream_alone_is_a_configuration() {
    let config = config::quick("http://127.0.0.1:3000", Some("127.0.0.1:0")).unwrap();
    let [route] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!(route.path.as_str(), "/{*path}");
    assert_eq!((route.guard, &route.version.source), (Guard::State, &Source::Hash));
    assert_eq!(route.upstream.authority, "127.0.0.1:3000");
    assert_eq!(config.server.listen, ["127.0.0.1:0".parse().unwrap()]);
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(25));
    let default = config::quick("http://127.0.0.1:3000", None).unwrap();
    assert_eq!(default.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
}

// C1: `--upstream` and `--listen` over a file
#[test]
fn arguments_go_over_the_file() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("onceward.toml");
    let over = Over { upstream: Some("http://other:1"), listen: Some("127.0.0.1:1") };
    std::fs::write(&file, "[server]\nlisten = \"127.0.0.1:2\"\n[idempotency]\nttl = \"1h\"").unwrap();
    let config = config::read_over(&file, &over).unwrap();
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].idempotency.ttl, Duration::from_secs(3600));
    assert_eq!(config.server.listen, ["127.0.0.1:1".parse().unwrap()]);
    std::fs::write(&file, "[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/b\"\nupstream = \"http://h\"")
        .unwrap();
    let config = config::read_over(&file, &over).unwrap();
    let upstreams: Vec<_> = config.routes.iter().map(|route| route.upstream.authority.as_str()).collect();
    assert_eq!(upstreams, ["other:1", "other:1"]);
    config::read(&file).unwrap_err();
}
