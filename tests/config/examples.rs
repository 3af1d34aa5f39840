//! The files in `config/`, section T's defaults, and the configuration as it is shown.

use std::collections::BTreeSet;

use http::Method;
use onceward::config::checked::{Guard, LogFormat, Mode, Source, StoreUrl};
use onceward::config::{self, Config, Kind, needs_restart, shown};
use serde_json::Value as Json;

use super::{load, with_route};

const REFERENCE: &str = include_str!("../../config/reference.toml");
const MINIMAL: &str =
    "[[routes]]\npath = \"/documents/{id}\"\nname = \"documents\"\nupstream = \"http://127.0.0.1:3000\"";

fn example(name: &str, text: &str) -> Config {
    load(text).unwrap_or_else(|problems| panic!("{name}: {problems}"))
}

fn names(config: &Config) -> Vec<&str> {
    config.routes.iter().map(|route| &*route.name).collect()
}

/// Every example there is, with its text.
pub(super) fn examples() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = std::fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let programs = programs.filter(|path| path.join("onceward.toml").exists());
    let places = ["config", "config/real"].map(|place| root.join(place)).into_iter().chain(programs);
    let files = places.flat_map(|place| std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()));
    let examples = files.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    examples.map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_example_loads_without_a_variable_set() {
    let examples = examples();
    assert!(examples.len() >= 19, "{examples:?}");
    for (name, text) in examples {
        let config = example(&name, &text);
        assert_eq!(config::notes(&config), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_quickstart_is_three_lines() {
    let text = include_str!("../../config/quickstart.toml");
    assert_eq!(text.lines().count(), 3);
    let quick = config::quick("http://127.0.0.1:3000", None).unwrap();
    assert_eq!(example("quickstart", text), quick);
}

#[test]
fn the_examples_say_what_they_claim() {
    let state = example("state-api", include_str!("../../config/state-api.toml"));
    assert_eq!(names(&state), ["documents", "collection", "settings", "files"]);
    assert_eq!(state.identity, ["x-agent-id", "authorization"]);
    assert!(state.routes[0].version.include_current && !state.routes[1].version.include_current);
    assert_eq!(state.routes[2].version.source, Source::Field("/rev".into()));

    let tools = example("tool-api", include_str!("../../config/tool-api.toml"));
    assert_eq!(names(&tools), ["tools", "bookings", "payments", "lookup"]);
    assert_eq!(tools.identity, state.identity);
    assert_eq!(
        tools.routes.iter().map(|route| route.queue.turns).collect::<Vec<_>>(),
        [false, true, false, false]
    );

    let vectors = example("vector-database", include_str!("../../config/vector-database.toml"));
    let (query, upsert) = (&vectors.routes[0], &vectors.routes[2]);
    assert_eq!((query.guard, &query.version.source), (Guard::Read, &Source::Mint));
    assert_eq!((&upsert.version.source, &upsert.version.required), (&Source::Mint, &vec![Method::POST]));
    assert_eq!(query.resource, upsert.resource);

    let container = example("container", include_str!("../../config/container.toml"));
    assert_eq!(container.server.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!((container.server.admin_token, container.log.format), (None, LogFormat::Json));
    assert_eq!(container.store.url, StoreUrl::Disk("/var/lib/onceward".into()));

    let redis = example("redis", include_str!("../../config/redis.toml"));
    let postgres = example("postgres", include_str!("../../config/postgres.toml"));
    assert!(matches!((&redis.store.url, &postgres.store.url), (StoreUrl::Redis(_), StoreUrl::Postgres(_))));
    // What they say of a store that is shared is what holds without it, so that it may be left out.
    let without = load(MINIMAL).unwrap().store;
    for store in [redis.store, postgres.store] {
        let (url, max_memory) = (store.url.clone(), store.max_memory);
        assert_eq!(store, onceward::config::checked::Store { url, max_memory, ..without.clone() });
    }
}

// C2, C5: the container's file is told by the environment, as its head says
#[test]
fn the_container_is_told_by_its_environment() {
    let text = include_str!("../../config/container.toml");
    let told = |name: &str| match name {
        "UPSTREAM" => Some("http://api:3000".into()),
        "GUARD" => Some("tool".into()),
        "MODE" => Some("observe".into()),
        "STORE" => Some("memory:".into()),
        "MAX_MEMORY" => Some("1GiB".into()),
        "LOG_LEVEL" => Some("warn".into()),
        "ADMIN_TOKEN" => Some("sesame".into()),
        _ => None,
    };
    let container = config::load(text, "onceward.toml", &told).unwrap();
    let route = &container.routes[0];
    assert_eq!((route.guard, route.mode), (Guard::Tool, Mode::Observe));
    assert_eq!(route.upstream.authority, "api:3000");
    assert_eq!((container.store.max_memory, container.log.level.as_str()), (1 << 30, "warn"));
    assert!(container.server.admin_token.is_some() && container.store.url == StoreUrl::Memory);
}

// Section T: the values shown are the defaults
#[test]
fn the_reference_sets_nothing_but_defaults() {
    assert_eq!(example("reference", REFERENCE), load(MINIMAL).unwrap());
}

// Section T: what is not built is known, and refused for that alone
#[test]
fn the_reference_names_what_is_not_built() {
    let text = REFERENCE.replace("#~ ", "");
    let problems = load(&text).unwrap_err();
    assert!(problems.iter().all(|problem| problem.kind == Kind::NotBuilt), "{problems}");
    let mut keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    keys.sort_unstable();
    // What only tunes them switches nothing on.
    assert_eq!(keys.join(" "), "server.tls");
}

// Section T: the reference has every key there is
#[test]
fn the_reference_is_whole() {
    fn keys(schema: &Json, found: &mut BTreeSet<String>) {
        for choice in schema["anyOf"].as_array().into_iter().flatten() {
            keys(choice, found);
        }
        keys_of_items(schema, found);
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            found.insert(key.clone());
            keys(below, found);
        }
    }
    fn keys_of_items(schema: &Json, found: &mut BTreeSet<String>) {
        if schema["items"].is_object() {
            keys(&schema["items"], found);
        }
    }
    let mut found = BTreeSet::new();
    keys(&config::schema(), &mut found);
    assert!(found.len() > 80, "{found:?}");
    for key in found {
        let written = [format!("{key} = "), format!("[{key}]"), format!("{key}.on_failure")];
        assert!(written.iter().any(|written| REFERENCE.contains(written)), "{key} is not in the reference");
    }
}

/// The value at a path of keys.
fn at<'j>(shown: &'j Json, path: &[&str]) -> Option<&'j Json> {
    path.iter().try_fold(shown, |shown, key| shown.get(key))
}

// C1: the schema's defaults are the ones that hold
#[test]
fn the_schema_tells_the_defaults_that_hold() {
    fn compare(schema: &Json, path: &mut Vec<String>, shown: &Json, compared: &mut usize) {
        for choice in schema["anyOf"].as_array().into_iter().flatten() {
            compare(choice, path, shown, compared);
        }
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            path.push(key.clone());
            let keys: Vec<_> = path.iter().map(String::as_str).collect();
            // At the top, the policies are shown where they end up: in the route.
            let real = at(shown, &keys).or_else(|| at(&shown["routes"][0], &keys));
            if let (Some(real), Some(default)) = (real, below.get("default")) {
                assert!(same(real, default), "{}: {real} is not {default}", keys.join("."));
                *compared += 1;
            }
            compare(below, path, shown, compared);
            path.pop();
        }
    }
    fn same(real: &Json, default: &Json) -> bool {
        match (real, default) {
            (Json::Array(real), default) if !default.is_array() => real.len() == 1 && real[0] == *default,
            (Json::Array(_), _) => real.to_string().eq_ignore_ascii_case(&default.to_string()),
            _ => real == default,
        }
    }
    let shown = shown(&load(MINIMAL).unwrap());
    let mut compared = 0;
    compare(&config::schema(), &mut Vec::new(), &shown, &mut compared);
    let route = &config::schema()["properties"]["routes"]["items"];
    compare(route, &mut Vec::new(), &shown["routes"][0], &mut compared);
    assert!(compared > 40, "{compared}");
}

// O1: what is shown is a configuration again, but for its secrets
#[test]
fn what_is_shown_loads_as_the_same() {
    let full = "[server]
listen = [\"127.0.0.1:1\", \"[::1]:2\"]
admin = \"off\"
threads = 3
[identity]
header = \"X-Agent\"
[log]
format = \"json\"
level = \"onceward=debug,info\"
[[routes]]
path = \"/a/{id}\"
upstream = \"http://h\"
name = \"a\"
methods = [\"GET\", \"PUT\", \"POST\"]
reads = [\"POST\"]
mode = \"observe\"
resource = \"a/{id}\"
store.on_failure = \"open\"
idempotency = { compare = \"bytes\", on_5xx = \"hold\", on_unknown = \"rerun\", in_flight = \"wait\", settle = \"0s\" }
version = { field = \"/rev\", probe = \"/b/{id}?x=1\", accept = \"application/json\", stale_status = 412 }
queue = { reads = \"wait\", max_wait = \"1500ms\" }
limits = { body = \"0B\", upstream_keep = \"0ms\" }
";
    let texts = examples().into_iter().map(|(_, text)| text).chain([full.to_owned()]);
    for text in texts {
        let config = load(&text).unwrap();
        let again = toml::to_string(&shown(&config)).unwrap();
        let again = load(&again).unwrap_or_else(|problems| panic!("{again}\n{problems}"));
        assert_eq!(again, config, "{text}");
    }
}

// O1
#[test]
fn secrets_are_not_shown() {
    let config = with_route("[server]\nadmin_token = \"hunter2\"").unwrap();
    assert_eq!(config.server.admin_token.as_ref().unwrap().expose(), "hunter2");
    let shown = shown(&config);
    assert_eq!(shown["server"]["admin_token"], "***");
    assert!(!shown.to_string().contains("hunter2") && !format!("{config:?}").contains("hunter2"));
}

#[test]
fn an_open_admin_without_a_token_is_remarked_on() {
    let notes = |rest: &str| config::notes(&with_route(rest).unwrap());
    assert_eq!(notes("[server]\nadmin = \"0.0.0.0:9090\"").len(), 1);
    assert!(notes("[server]\nadmin = \"0.0.0.0:9090\"\nadmin_token = \"t\"").is_empty());
    assert!(notes("[server]\nadmin = \"[::1]:9090\"").is_empty());
    assert!(notes("[server]\nadmin = \"off\"").is_empty());
    assert_eq!(notes("[limits]\nbuffered = \"1KiB\"").len(), 1);
}

// C3: what of [server] and [store] differs needs a restart
#[test]
fn what_needs_a_restart_is_named() {
    let old = load(MINIMAL).unwrap();
    assert!(
        needs_restart(&old, &with_route("mode = \"observe\"\n[limits]\nhead = \"1KiB\"").unwrap()).is_empty()
    );
    let all = "[server]
listen = \"127.0.0.1:1\"
admin = \"off\"
admin_token = \"t\"
shutdown_grace = \"1s\"
threads = 1
[store]
max_memory = \"1GiB\"";
    assert_eq!(
        needs_restart(&old, &with_route(all).unwrap()),
        [
            "server.listen",
            "server.admin",
            "server.admin_token",
            "server.shutdown_grace",
            "server.threads",
            "store.max_memory"
        ]
    );
}
