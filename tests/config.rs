//! The configuration: C1 to C3 and section T.

use onceward::config;
use onceward::config::checked::{Guard, Source};

fn nothing(_: &str) -> Option<String> {
    None
}

// C1: with only an upstream, one `state` route on `/{*path}`
#[test]
fn an_upstream_alone_is_a_configuration() {
    let config = config::quick("http://127.0.0.1:3000", Some("127.0.0.1:0")).unwrap();
    let [route] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!(route.path.as_str(), "/{*path}");
    assert_eq!(route.guard, Guard::State);
    assert_eq!(route.version.source, Source::Hash);
    assert_eq!(route.upstream.authority, "127.0.0.1:3000");
    assert_eq!(config.server.listen, ["127.0.0.1:0".parse().unwrap()]);
}

// C1: every problem at once, each with its place and what would be right
#[test]
fn all_problems_are_told_at_once() {
    let text = "[server]\ntheads = 1\n[[routes]]\nguard = \"stat\"\nupstream = \"http://h\"\n[idempotency]\nttl = 24";
    let problems = config::load(text, "onceward.toml", &nothing).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "onceward.toml:2:1: server: unknown key \"theads\"; did you mean \"threads\"?\n\
         onceward.toml:3:1: routes[0]: \"path\" is missing\n\
         onceward.toml:4:9: routes[0].guard: \"stat\" is not a guard; one of state, tool, read, none (did you mean \"state\"?)\n\
         onceward.toml:7:7: idempotency.ttl: a number needs a unit; write \"24s\" for seconds"
    );
}
