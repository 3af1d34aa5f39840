//! Which route and which resource a request has (R1, R5, R6), what its guard asks (R2, R3), and in which order (R7).

use serde_json::json;

use crate::harness::proxy::one_route;
use crate::harness::{Agent, Gate, Proxy, Raw, Reply, Upstream, proxied, within};

/// A proxy with these routes, each a path and its further lines, all to an upstream that answers 200.
async fn routed(routes: &[(&str, &str)]) -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    let config = routes.iter().map(|(path, lines)| {
        format!("[[routes]]\npath = \"{path}\"\nupstream = \"{}\"\n{lines}\n", upstream.url())
    });
    let proxy = Proxy::start(&config.collect::<String>()).await;
    (upstream, proxy)
}

// R1
#[tokio::test]
async fn the_most_specific_route_wins_and_nothing_unmatched_is_forwarded() {
    let routes = [
        ("/files/{*rest}", "guard = \"tool\"\nresource = \"rest\""),
        ("/files/{id}", "guard = \"tool\"\nresource = \"id\""),
        ("/files/special", "guard = \"tool\"\nresource = \"special\""),
        ("/files/{id}/parts/{part}", "guard = \"tool\"\nresource = \"part {part} of {id}\""),
        ("/only", "guard = \"none\"\nmethods = [\"GET\", \"PUT\"]"),
    ];
    let (upstream, proxy) = routed(&routes).await;
    let agent = Agent::new(&proxy);
    let paths = [
        ("/files/special", "special"),
        ("/files/%73pecial", "special"),
        ("/files/x/../special", "special"),
        ("/files//special/", "special"),
        ("/files/7", "id"),
        ("/files/7/parts/8", "part%208%20of%207"),
        ("/files/7/parts", "rest"),
        ("/files/a/b/c", "rest"),
        ("/files", "rest"),
        ("/files/", "rest"),
    ];
    for (n, (path, resource)) in paths.into_iter().enumerate() {
        let mut raw = Raw::connect(&proxy).await;
        let fields = format!("Host: a\r\nIdempotency-Key: {n}\r\nContent-Length: 0");
        raw.send(format!("POST {path} HTTP/1.1\r\n{fields}\r\n\r\n")).await;
        assert_eq!(raw.answer().await.is(200).needs("onceward-resource"), resource, "{path}");
        // R5: the upstream gets the bytes as they were sent.
        assert_eq!(upstream.received(n + 1).await[n].target, path);
    }
    for path in ["/", "/file", "/filesystem", "/other/files/7", "/only/this"] {
        agent.get(path).await.refused("no-route");
    }
    let refused = agent.delete("/only").await;
    refused.refused("method-not-allowed");
    let mut allowed: Vec<_> =
        refused.all("allow").join(",").split(',').map(|one| one.trim().to_owned()).collect();
    allowed.sort();
    assert_eq!(allowed, ["GET", "PUT"]);
    assert_eq!(upstream.requests().len(), paths.len());
}

// R1
#[tokio::test]
async fn a_path_that_cannot_be_is_refused() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    for path in [
        "/%zz",
        "/%",
        "/%4",
        "/a%00b",
        "/%ff",
        "/%c3",
        "/..",
        "/a/../..",
        "/a/%2e%2e/../b",
        "/../a",
        "/%2e%2e/a",
    ] {
        let answer = Raw::ask(&proxy, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert!(answer.is_refusal(), "{path}: {}", answer.answer);
        answer.refused("bad-request");
    }
    assert!(upstream.requests().is_empty());
}

// R1
#[tokio::test]
async fn routes_that_cannot_be_told_apart_are_an_error() {
    let route = |path: &str| format!("[[routes]]\npath = \"{path}\"\nupstream = \"http://127.0.0.1:1\"\n");
    for (one, other) in [("/a/{x}", "/a/{y}"), ("/a", "/a/"), ("/a/{*x}", "/a/{*y}"), ("/b", "/%62")] {
        let Err(log) = Proxy::try_start(&[route(one), route(other)].concat()).await else {
            panic!("{one} and {other} were taken for two routes")
        };
        assert!(log.contains("onceward.toml"), "the error names no place:\n{log}");
    }
}

// R1
#[tokio::test]
async fn this_proxys_own_paths_go_nowhere_else() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    for path in [
        "/.onceward/operations/k",
        "//.onceward/operations/k",
        "/%2eonceward/operations/k",
        "/a/../.onceward/operations/k",
    ] {
        let answer = Raw::ask(&proxy, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert!(answer.is_refusal(), "{path}: {}", answer.answer);
        answer.refused("not-found");
    }
    Agent::new(&proxy).get("/.onceward/nothing/like/this").await.refused("not-found");
    assert!(upstream.requests().is_empty());
}

// R2, R3
#[tokio::test]
async fn a_guard_is_a_set_of_defaults() {
    let (_upstream, proxy) = proxied("guard = \"read\"").await;
    Agent::new(&proxy).post("/x").await.is(200);
    Agent::new(&proxy).delete("/x").await.is(200);
    let (_upstream, proxy) = proxied("guard = \"none\"").await;
    Agent::new(&proxy).put("/x").key("k").await.is(200);
    Agent::new(&proxy).put("/x").key("k").await.is(200).is_first_run();
    let (_upstream, proxy) = proxied("guard = \"tool\"").await;
    Agent::new(&proxy).put("/x").key("k").await.is(200);
    let (_upstream, proxy) = proxied("guard = \"tool\"\nversion = \"hash\"").await;
    Agent::new(&proxy).put("/x").key("k").await.refused("missing-precondition");
    let (_upstream, proxy) = proxied("").await;
    Agent::new(&proxy).put("/x").key("k").await.refused("missing-precondition");
    Agent::new(&proxy).put("/x").if_match("\"x\"").await.refused("missing-idempotency-key");
    // R3: a method more that reads.
    let (_upstream, proxy) = proxied("reads = [\"POST\"]").await;
    Agent::new(&proxy).post("/x").await.is(200);
    Agent::new(&proxy).put("/x").await.refused("missing-idempotency-key");
}

// R2, Q1
#[tokio::test]
async fn a_tool_takes_turns_only_on_a_resource() {
    for (extra, takes) in
        [("", false), ("resource = \"one\"", true), ("resource = \"one\"\nqueue = false", false)]
    {
        let (upstream, proxy) = proxied(&format!("guard = \"tool\"\n{extra}")).await;
        let (agent, gate) = (Agent::new(&proxy), Gate::closed());
        upstream.next(Reply::ok("late").held(&gate));
        let first = agent.post("/x").key("1").spawn();
        upstream.arrived(1).await;
        let second = agent.post("/x").key("2").wait(0).await;
        if takes {
            second.refused("queue-timeout");
        } else {
            second.is(200);
        }
        gate.open();
        first.await.unwrap().is(200);
    }
}

// R4
#[tokio::test]
async fn what_is_only_observed_is_forwarded_as_it_came() {
    let (upstream, proxy) = proxied("mode = \"observe\"").await;
    let agent = Agent::new(&proxy);
    let first = agent.put("/x").key("k").if_match("\"v\"").json(&json!({"n": 1})).await;
    assert_eq!(first.is(200).header("etag"), None);
    let again = agent.put("/x").key("k").if_match("\"v\"").json(&json!({"n": 1})).await;
    again.is(200).is_first_run();
    let cases = [
        (agent.put("/x").if_match("\"v\""), "missing-idempotency-key"),
        (agent.put("/x").key("n"), "missing-precondition"),
        (agent.put("/x").key("k").if_match("\"v\"").json(&json!({"n": 2})), "key-reused"),
    ];
    for (call, code) in cases {
        assert_eq!(call.await.is(200).needs("onceward-observed"), code);
    }
    let seen = upstream.requests();
    assert_eq!(
        seen.iter().map(|seen| seen.method.as_str()).collect::<Vec<_>>(),
        ["PUT"; 5],
        "a probe, or a refusal"
    );
    assert_eq!(seen[0].field("if-match").as_deref(), Some("\"v\""));
    let gate = Gate::closed();
    upstream.next(Reply::ok("late").held(&gate));
    let slow = agent.put("/x").key("s").if_match("\"v\"").spawn();
    upstream.arrived(6).await;
    agent.put("/x").key("t").if_match("\"v\"").await.is(200);
    gate.open();
    slow.await.unwrap().is(200);
    assert!(proxy.metric("onceward_requests_total").await >= 7.0);
    let page = Agent::admin(&proxy).get("/metrics").await.text();
    assert!(page.contains("mode=\"observe\""), "{page}");
}

// R4
#[tokio::test]
async fn what_is_observed_ends_as_it_would_have_ended() {
    let (upstream, proxy) = proxied("guard = \"tool\"\nmode = \"observe\"").await;
    let agent = Agent::new(&proxy);
    for (status, code) in [(201, Some("replayed")), (503, None), (502, Some("outcome-unknown"))] {
        let key = status.to_string();
        upstream.next(Reply::new(status));
        agent.post("/x").key(&key).await.is(status);
        let retry = agent.post("/x").key(&key).await;
        assert_eq!(retry.is(200).header("onceward-observed").as_deref(), code, "after a {status}");
    }
    upstream.next(Reply::ok("lost").cut());
    agent.post("/x").key("cut").await.refused("upstream-broke-off");
    assert_eq!(agent.post("/x").key("cut").await.is(200).needs("onceward-observed"), "outcome-unknown");
}

// R4, S2
#[tokio::test]
async fn an_observed_key_whose_agent_left_is_not_in_flight_for_ever() {
    let (upstream, proxy) = proxied("guard = \"tool\"\nmode = \"observe\"").await;
    let agent = Agent::http2(&proxy);
    upstream.next(Reply::never());
    let left = agent.post("/x").key("k").spawn();
    upstream.received(1).await;
    left.abort();
    upstream.until("the call to be given up", |seen| seen[0].abandoned).await;
    // The record ends a moment after the call that the upstream saw given up.
    within("the record to end", async {
        while agent.post("/x").key("k").await.is(200).needs("onceward-observed") != "outcome-unknown" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

// R5
#[tokio::test]
async fn aliases_of_a_resource_give_one_name() {
    let (_upstream, proxy) = proxied("guard = \"tool\"\nqueue.turns = true").await;
    let aliases = [
        ("/a/b", "/a/b"),
        ("/a//b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/c/../b", "/a/b"),
        ("/%61/b", "/a/b"),
        ("/a/%2E%2e/a/b", "/a/b"),
        ("/a%2fb", "/a%2Fb"),
        ("/%C3%A4", "/%C3%A4"),
        ("/%25", "/%25"),
        ("/%2561", "/%2561"),
        ("/a%20b", "/a%20b"),
        ("/", "/"),
    ];
    let mut raw = Raw::connect(&proxy).await;
    for (n, (path, resource)) in aliases.into_iter().enumerate() {
        raw.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {n}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        assert_eq!(raw.answer().await.is(200).needs("onceward-resource"), resource, "{path}");
    }
}

// R5, R6
#[tokio::test]
async fn a_resource_is_rendered_from_what_a_request_has() {
    let cases = [
        ("doc/{json:/doc_id}", "doc/7"),
        ("doc/{json:/list/1}", "doc/b"),
        ("{query:table}", "users"),
        ("{header:X-Tenant}/x", "t1/x"),
        ("{id}:{query:table}", "9:users"),
    ];
    for (template, resource) in cases {
        let (_upstream, proxy) =
            routed(&[("/call/{id}", &format!("guard = \"tool\"\nresource = \"{template}\""))]).await;
        let agent = Agent::new(&proxy);
        let call = agent.post("/call/9?table=users").key("k").header("x-tenant", "t1");
        let answer = call.json(&json!({"doc_id": 7, "list": ["a", "b"]})).await;
        assert_eq!(answer.is(200).needs("onceward-resource"), resource, "{template}");
    }
}

// R6
#[tokio::test]
async fn a_write_whose_resource_cannot_be_found_is_refused() {
    let bodies = [
        json!({}),
        json!({"id": null}),
        json!({"id": ""}),
        json!({"id": {}}),
        json!({"id": [1]}),
        json!({"id": true}),
    ];
    let (upstream, proxy) = proxied("guard = \"tool\"\nresource = \"{json:/id}\"").await;
    let agent = Agent::new(&proxy);
    for body in bodies {
        let answer = agent.post("/x").key("k").json(&body).await;
        assert!(answer.is_refusal(), "{body}: {answer}");
        answer.refused("no-resource");
    }
    agent.post("/x").key("k").typed("application/json", "{broken").await.refused("no-resource");
    agent.post("/x").key("k").await.refused("no-resource");
    assert!(upstream.requests().is_empty());
    // Nothing was claimed; and a read without one only has no version.
    agent.post("/x").key("k").json(&json!({"id": 1})).await.is(200).is_first_run();
    agent.get("/x").await.is(200);
}

// R7
#[tokio::test]
async fn the_first_check_that_fails_answers() {
    let route = "methods = [\"GET\", \"PUT\"]\nresource = \"{json:/id}\"\nlimits.body = \"1KiB\"";
    let (upstream, proxy) = routed(&[("/d", route)]).await;
    let agent = Agent::new(&proxy);
    let large = json!({"large": "x".repeat(2000)});
    // Each line mends what the line before it was refused for.
    agent.delete("/other").key("a b").await.refused("no-route");
    agent.delete("/d").key("a b").if_match("W/\"x\"").await.refused("method-not-allowed");
    agent.put("/d").key("a b").if_match("W/\"x\"").json(&large).await.refused("invalid-idempotency-key");
    agent.put("/d").if_match("W/\"x\"").json(&large).await.refused("missing-idempotency-key");
    agent.put("/d").key("k").if_match("W/\"x\"").json(&large).await.refused("invalid-precondition");
    agent.put("/d").key("k").json(&large).await.refused("missing-precondition");
    agent.put("/d").key("k").if_match("\"x\"").json(&large).await.refused("body-too-large");
    agent.put("/d").key("k").if_match("\"x\"").json(&json!({})).await.refused("no-resource");
    assert!(upstream.requests().is_empty());
    agent.put("/d").key("k").if_match("\"x\"").json(&json!({"id": 1})).await.refused("stale-version");
    assert!(upstream.with_method("PUT").is_empty());
}

// R7, K5, K7
#[tokio::test]
async fn a_record_answers_before_the_line_does() {
    let (upstream, proxy) = proxied("guard = \"tool\"\nresource = \"one\"").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    let done = agent.post("/x").key("done").await;
    upstream.next(Reply::ok("late").held(&gate));
    let first = agent.post("/x").key("1").spawn();
    upstream.arrived(2).await;
    agent.post("/x").key("done").wait(0).await.replays(done.is(200));
    agent.post("/x").key("done").wait(0).body("other").await.refused("key-reused");
    agent.post("/x").key("1").wait(0).await.refused("in-flight");
    gate.open();
    first.await.unwrap().is(200);
}

// R1, C1
#[tokio::test]
async fn one_route_takes_every_path() {
    let upstream = Upstream::start().await;
    let proxy = Proxy::start(&one_route(&upstream.url(), "")).await;
    for path in ["/", "/a", "/a/b/c", "/?q"] {
        Agent::new(&proxy).get(path).await.is(200);
    }
    let targets: Vec<_> = upstream.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/", "/a", "/a/b/c", "/?q"]);
}

// R6, V2
#[tokio::test]
async fn a_read_whose_resource_cannot_be_found_has_no_version() {
    for (source, has) in [("hash", false), ("mint", false), ("etag", true), ("none", true)] {
        let (upstream, proxy) = proxied(&format!("resource = \"{{query:r}}\"\nversion = \"{source}\"")).await;
        let agent = Agent::new(&proxy);
        for path in ["/x", "/x?r=", "/x?r=1&r=2"] {
            upstream.next(Reply::ok("ok").field("ETag", "\"upstream's\""));
            let answer = agent.get(path).await;
            assert_eq!(answer.is(200).headers.contains_key("etag"), has, "{source}: {answer}");
            assert_eq!(answer.header("onceward-resource"), None);
        }
        upstream.next(Reply::ok("ok").field("ETag", "\"upstream's\""));
        assert_eq!(agent.get("/x?r=1").await.is(200).needs("onceward-resource"), "1");
    }
}

// R6, F3
#[tokio::test]
async fn a_read_too_large_to_be_looked_into_streams_without_a_version() {
    let route = "guard = \"read\"\nversion = \"mint\"\nresource = \"{json:/c}\"\nlimits.body = \"1KiB\"";
    let (upstream, proxy) = proxied(route).await;
    let agent = Agent::new(&proxy);
    agent.post("/query").json(&json!({"c": "a"})).await.is(200).etag();
    let large = json!({"c": "a", "vector": "x".repeat(5000)});
    let answer = agent.post("/query").json(&large).await;
    assert_eq!((answer.is(200).header("etag"), answer.header("onceward-resource")), (None, None));
    assert_eq!(upstream.received(2).await[1].text(), large.to_string());
}
