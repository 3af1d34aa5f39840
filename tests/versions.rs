//! Where a resource's version comes from and what it costs (V1), what reads carry (V2), what writes answer (V7).

use serde_json::json;

use crate::harness::ledger::Ledger;
use crate::harness::{Agent, Gate, Proxy, Raw, Reply, Upstream, proxied};

/// The sources of a version with the requests that a read, then a write, then a stale write cost the upstream.
const SOURCES: [(&str, &[&str]); 5] = [
    ("\"hash\"", &["GET", "GET", "PUT", "GET", "GET"]),
    ("\"etag\"", &["GET", "HEAD", "PUT", "HEAD"]),
    ("{ field = \"/rev\" }", &["GET", "GET", "PUT", "GET", "GET"]),
    ("\"mint\"", &["GET", "PUT"]),
    ("\"upstream\"", &["GET", "PUT", "PUT"]),
];

async fn with_document(source: &str) -> (Ledger, Proxy) {
    let ledger = Ledger::start().await;
    ledger.holds("/d", json!({"value": 1, "rev": 1}));
    let proxy = Proxy::route(&ledger.upstream, &format!("version = {source}")).await;
    (ledger, proxy)
}

// V1, V2, V6, V7
#[tokio::test]
async fn every_source_lets_one_write_through_and_refuses_the_next_on_its_old_tag() {
    for (source, costs) in SOURCES {
        let (ledger, proxy) = with_document(source).await;
        let agent = Agent::new(&proxy);
        let old = agent.tag("/d").await;
        assert!(old.starts_with('"') && old.ends_with('"'), "{source}: a tag that is not strong: {old}");
        let put = |key: &str, tag: &str, rev: u64| {
            agent.put("/d").key(key).if_match(tag).json(&json!({"rev": rev}))
        };
        let written = put("1", &old, 2).await;
        let new = written.is(200).needs("onceward-version");
        assert_ne!(new, old, "{source}");

        let stale = put("2", &old, 3).await;
        stale.refused("stale-version");
        let seen: Vec<_> = ledger.upstream.requests().into_iter().map(|seen| seen.method).collect();
        assert_eq!(seen, costs, "{source}: what it costs");
        if source != "\"upstream\"" {
            assert_eq!(
                (stale.json()["current_etag"].as_str(), stale.etag()),
                (Some(new.as_str()), new.clone()),
                "{source}"
            );
        }
        assert_eq!(agent.tag("/d").await, new, "{source}: a read after the write");
        // V6: the claim was released, so the same key may come with the right tag.
        put("2", &new, 3).await.is(200).is_first_run();
        assert_eq!(ledger.document("/d"), Some(json!({"rev": 3})));
    }
}

// V5
#[tokio::test]
async fn a_precondition_goes_on_only_where_the_upstream_checks_it_too() {
    for (source, forwarded) in [
        ("\"hash\"", false),
        ("\"etag\"", true),
        ("{ field = \"/rev\" }", false),
        ("\"mint\"", false),
        ("\"upstream\"", true),
    ] {
        let (ledger, proxy) = with_document(source).await;
        let agent = Agent::new(&proxy);
        let tag = agent.tag("/d").await;
        agent.put("/d").key("k").if_match(&tag).json(&json!({"rev": 2})).await.is(200);
        let seen = ledger.upstream.with_method("PUT").remove(0);
        assert_eq!(seen.field("if-match"), forwarded.then_some(tag), "{source}");
    }
}

// V5, Q1
#[tokio::test]
async fn of_many_writes_on_one_tag_one_goes_through() {
    for (source, _) in SOURCES {
        let (ledger, proxy) = with_document(source).await;
        let agent = Agent::new(&proxy);
        let tag = agent.tag("/d").await;
        let writes: Vec<_> = (0..8)
            .map(|n| agent.put("/d").key(&n.to_string()).if_match(&tag).json(&json!({"rev": n + 2})).spawn())
            .collect();
        let mut through = 0;
        for write in writes {
            let answer = write.await.unwrap();
            if answer.is_refusal() {
                answer.refused("stale-version");
            } else {
                answer.is(200);
                through += 1;
            }
        }
        assert_eq!((through, ledger.effects().len()), (1, 1), "{source}");
    }
}

// V1
#[tokio::test]
async fn a_probe_is_the_write_as_a_get() {
    let ledger = Ledger::start().await;
    ledger.holds("/meta/7", json!({"rev": 1}));
    let route = "version = { field = \"/rev\", probe = \"/meta/{id}\", accept = \"application/json\" }";
    let config =
        format!("[[routes]]\npath = \"/d/{{id}}\"\nupstream = \"{}\"\n{route}\n", ledger.upstream.url());
    let proxy = Proxy::start(&config).await;
    let agent = Agent::named(&proxy, "ann");
    let missing = agent.put("/d/7").key("k").if_match("\"no\"").header("prefer", "return=minimal");
    let missing = missing.header("x-tenant", "t").header("accept", "text/plain").json(&json!({"rev": 2}));
    let missing = missing.header("content-language", "en").header("content-digest", "sha-256=:AA==:");
    let missing = missing.header("if-none-match", "\"b\"").header("if-unmodified-since", "then");
    let missing = missing.header("range", "bytes=0-1").header("if-range", "\"b\"").header("cookie", "a=b");
    let missing = missing.header("onceward-fence", "1").header("if-modified-since", "then");
    missing.await.refused("stale-version");
    let probe = ledger.upstream.received(1).await.remove(0);
    assert_eq!((probe.method.as_str(), probe.target.as_str()), ("GET", "/meta/7"));
    for (name, value) in [
        ("authorization", "Bearer ann"),
        ("x-tenant", "t"),
        ("cookie", "a=b"),
        ("accept", "application/json"),
    ] {
        assert_eq!(probe.head.all(name), [value], "{name}");
    }
    for name in [
        "content-type",
        "content-length",
        "content-language",
        "content-digest",
        "transfer-encoding",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "range",
        "onceward-fence",
        "idempotency-key",
        "prefer",
        "expect",
    ] {
        assert!(!probe.head.has(name), "a probe with {name}: {:?}", probe.head);
    }
    assert_eq!(ledger.effects().len(), 0);
}

// V1
#[tokio::test]
async fn a_probe_that_finds_no_version_forwards_nothing() {
    let json = |body: &str| Reply::ok(body).field("Content-Type", "application/json");
    let cases = [
        ("\"hash\"", Reply::new(500)),
        ("\"hash\"", Reply::new(204)),
        ("\"hash\"", Reply::new(302).field("Location", "/")),
        ("\"hash\"", Reply::ok("whole").cut_after(2)),
        ("\"etag\"", Reply::ok("no tag")),
        ("\"etag\"", Reply::ok("weak").field("ETag", "W/\"1\"")),
        ("{ field = \"/rev\" }", json("{\"other\":1}")),
        ("{ field = \"/rev\" }", json("no json")),
        ("{ field = \"/rev\" }", json("{\"rev\":{}}")),
    ];
    for (source, reply) in cases {
        // An etag is asked for twice where HEAD has none.
        let upstream = Upstream::answering(move |_| reply.clone()).await;
        let proxy = Proxy::route(&upstream, &format!("version = {source}")).await;
        let answer = Agent::new(&proxy).put("/d").key("k").if_match("\"x\"").await;
        assert!(answer.is_refusal(), "{source}: {answer}");
        answer.refused("version-unavailable");
        assert!(upstream.with_method("PUT").is_empty(), "{source}: forwarded without a version");
    }
}

// V1
#[tokio::test]
async fn a_probe_that_is_forbidden_answers_for_the_write() {
    let (upstream, proxy) = proxied("version = \"hash\"").await;
    let agent = Agent::new(&proxy);
    for status in [401, 403] {
        upstream.next(Reply::new(status).body("who are you").field("WWW-Authenticate", "Bearer"));
        let answer = agent.put("/d").key("k").if_match("\"x\"").await;
        assert_eq!(
            (answer.is(status).text().as_str(), answer.needs("www-authenticate").as_str()),
            ("who are you", "Bearer")
        );
    }
    assert!(upstream.with_method("PUT").is_empty());
}

// V1, V3
#[tokio::test]
async fn what_is_not_there_has_no_version() {
    for (source, _) in SOURCES {
        let (ledger, proxy) = with_document(source).await;
        let agent = Agent::new(&proxy);
        if source != "\"upstream\"" && source != "\"mint\"" {
            let stale = agent.put("/new").key("1").if_match("\"x\"").json(&json!({"rev": 1})).await;
            stale.refused("stale-version");
            assert_eq!(
                (stale.json().get("current_etag"), stale.header("etag")),
                (Some(&json!(null)), None),
                "{source}"
            );
        }
        agent.put("/new").key("2").if_none_match("*").json(&json!({"rev": 1})).await.is(201);
        if source != "\"upstream\"" {
            agent
                .put("/d")
                .key("3")
                .if_none_match("*")
                .json(&json!({"rev": 1}))
                .await
                .refused("stale-version");
            assert_eq!(ledger.effects().len(), 1, "{source}");
        }
    }
}

// V1
#[tokio::test]
async fn where_head_is_refused_a_get_gives_the_tag() {
    let upstream = Upstream::answering(|seen| match seen.method.as_str() {
        "HEAD" => Reply::new(405),
        _ => Reply::ok("ok").field("ETag", "\"r1\""),
    });
    let upstream = upstream.await;
    let proxy = Proxy::route(&upstream, "version = \"etag\"").await;
    Agent::new(&proxy).put("/d").key("k").if_match("\"r1\"").await.is(200);
    let seen: Vec<_> = upstream.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(seen[..3], ["HEAD", "GET", "PUT"]);
}

// V2, V4: it could not be sent back in If-Match
#[tokio::test]
async fn a_weak_tag_of_the_upstream_is_worth_less_than_none() {
    for source in ["etag", "upstream"] {
        let upstream = Upstream::answering(|seen| {
            let tag = if seen.target == "/weak" { "W/\"1\"" } else { "\"1\"" };
            let fresh = seen.field("if-none-match").is_some_and(|theirs| theirs == tag);
            (if fresh { Reply::new(304) } else { Reply::ok("{}") }).field("ETag", tag)
        });
        let upstream = upstream.await;
        let proxy = Proxy::route(&upstream, &format!("version = \"{source}\"")).await;
        let agent = Agent::new(&proxy);
        for (path, tag) in [("/weak", None), ("/strong", Some("\"1\""))] {
            for call in [agent.get(path), agent.head(path)] {
                assert_eq!(call.await.is(200).header("etag").as_deref(), tag, "{source} {path}");
            }
            let unchanged = agent.get(path).if_none_match(tag.unwrap_or("W/\"1\"")).await;
            assert_eq!(unchanged.header("etag").as_deref(), tag, "{source} {path}");
        }
    }
}

// V2
#[tokio::test]
async fn a_read_carries_its_version_and_honors_if_none_match() {
    for source in ["\"hash\"", "{ field = \"/rev\" }"] {
        let upstream =
            Upstream::answering(|_| Reply::json(200, &json!({"rev": 1})).field("ETag", "W/\"weak\"")).await;
        let proxy = Proxy::route(&upstream, &format!("version = {source}")).await;
        let agent = Agent::new(&proxy);
        let tag = agent.tag("/d").await;
        assert!(!tag.contains("weak"), "{source}: {tag}");
        let unchanged = agent.get("/d").if_none_match(&format!("\"other\", {tag}")).await;
        assert_eq!((unchanged.is(304).etag(), unchanged.body.len()), (tag.clone(), 0), "{source}");
        let fields = agent
            .get("/d")
            .if_none_match("\"other\"")
            .header("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT");
        let fields =
            fields.header("range", "bytes=0-1").header("if-range", &tag).header("accept-encoding", "gzip");
        assert_eq!(fields.await.is(200).json(), json!({"rev": 1}), "{source}: a range is answered whole");
        let head = agent.head("/d").await;
        assert_eq!((head.is(200).etag(), head.body.len()), (tag, 0), "{source}");

        let seen = upstream.requests();
        assert!(seen.iter().all(|seen| seen.method == "GET"), "{source}: {seen:?}");
        for name in ["if-none-match", "if-modified-since", "range", "if-range"] {
            assert!(seen.iter().all(|seen| !seen.head.has(name)), "{source}: {name} went upstream");
        }
        assert!(seen.iter().all(|seen| seen.head.all("accept-encoding") == ["identity"]), "{source}");
        assert!(seen.iter().all(|seen| seen.head.all("cache-control") == ["no-cache"]), "{source}");
    }
}

// V2
#[tokio::test]
async fn only_a_whole_200_of_a_fitting_size_has_a_version() {
    let (upstream, proxy) = proxied("version = { source = \"hash\", max_body = \"1KiB\" }").await;
    let agent = Agent::new(&proxy);
    for reply in [Reply::new(404), Reply::new(203).body("x"), Reply::new(500)] {
        upstream.next(reply);
        assert_eq!(agent.get("/d").await.header("etag"), None);
    }
    for reply in [Reply::ok("x".repeat(1025)), Reply::ok("x".repeat(100_000)).chunked()] {
        upstream.next(reply);
        let large = agent.get("/d").await;
        assert!(large.is(200).body.len() > 1024 && large.header("etag").is_none(), "{large}");
    }
    upstream.next(Reply::ok("x".repeat(1024)));
    agent.tag("/d").await;
}

// V2
#[tokio::test]
async fn a_large_body_streams_and_its_writes_are_still_compared() {
    let (upstream, proxy) = proxied("version = { source = \"hash\", max_body = \"1KiB\" }").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("x".repeat(5000)).paused_after(3000, &gate));
    let mut raw = crate::harness::Raw::connect(&proxy).await;
    raw.send("GET /d HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The head is out while the rest of the body is not even sent.
    assert!(!raw.head().await.has("etag"));
    gate.open();
    upstream.next(Reply::ok("x".repeat(5000)));
    agent.put("/d").key("k").if_match("\"x\"").await.refused("stale-version");
}

// V7
#[tokio::test]
async fn without_refresh_nothing_is_asked_and_nothing_told() {
    let ledger = Ledger::with(false, |_| Default::default()).await;
    ledger.holds("/d", json!({"rev": 1}));
    let proxy = Proxy::route(&ledger.upstream, "version = { source = \"hash\", refresh = false }").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let answer = agent.put("/d").key("k").if_match(&tag).json(&json!({"rev": 2})).await;
    assert_eq!(answer.is(200).header("onceward-version"), None);
    let seen: Vec<_> = ledger.upstream.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(seen, ["GET", "GET", "PUT"]);
}

// V7
#[tokio::test]
async fn a_refresh_that_fails_costs_the_version_and_not_the_answer() {
    let (upstream, proxy) = proxied("version = \"hash\"").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    upstream.next(Reply::ok("ok")).next(Reply::new(200).body("written")).next(Reply::new(500));
    let answer = agent.put("/d").key("k").if_match(&tag).await;
    assert_eq!((answer.is(200).text().as_str(), answer.header("onceward-version")), ("written", None));
}

// V7
#[tokio::test]
async fn a_post_names_a_version_only_of_a_resource_set_by_hand() {
    for (resource, has) in [("", false), ("resource = \"/d\"\n", true)] {
        let (upstream, proxy) = proxied(&format!("{resource}version = \"hash\"")).await;
        let agent = Agent::new(&proxy);
        let answer = agent.post("/d").key("1").await;
        assert_eq!(answer.is(200).header("onceward-version").is_some(), has, "{answer}");
        // A 201 that names another place: this resource's version is not what was made.
        upstream.next(Reply::new(201).field("Location", "/d/1"));
        assert_eq!(agent.post("/d").key("2").await.is(201).header("onceward-version"), None);
    }
}

// V2
#[tokio::test]
async fn a_read_by_post_has_the_version_of_no_body() {
    for source in ["\"hash\"", "{ field = \"/rev\" }"] {
        let route = format!("guard = \"read\"\nresource = \"/d\"\nversion = {source}");
        let (upstream, proxy) = proxied(&route).await;
        let found = Reply::json(200, &json!({"rev": 1, "found": 2}));
        upstream.next(found.clone()).next(found);
        let agent = Agent::new(&proxy);
        assert_eq!(agent.post("/query").body("all").await.is(200).header("etag"), None);
        assert!(agent.get("/query").await.is(200).header("etag").is_some());
    }
}

// V2
#[tokio::test]
async fn a_stream_that_is_read_comes_as_it_goes_and_has_no_version() {
    for route in ["version = \"hash\"", "version = { field = \"/rev\" }", "queue.reads = \"wait\""] {
        let (upstream, proxy) = proxied(route).await;
        let gate = Gate::closed();
        let events = Reply::ok("data: 1\n\ndata: 2\n\n").field("Content-Type", "text/event-stream").chunked();
        upstream.next(events.paused_after(9, &gate));
        let mut raw = Raw::connect(&proxy).await;
        raw.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = raw.head().await;
        assert!(head.start.contains("200") && head.first("etag").is_none(), "{head:?}");
        gate.open();
    }
}

// V1
#[tokio::test]
async fn a_probe_that_is_not_allowed_is_given_on_with_its_content() {
    for source in ["hash", "etag"] {
        for status in [401, 403] {
            let denied = move |_: &_| Reply::new(status).field("WWW-Authenticate", "Basic").body("no entry");
            let upstream = Upstream::answering(denied).await;
            let proxy = Proxy::route(&upstream, &format!("version = \"{source}\"")).await;
            let answer = Agent::new(&proxy).put("/x").key("k").if_match("\"v\"").body("1").await;
            assert_eq!(answer.is(status).text(), "no entry", "{source}");
            assert_eq!(answer.needs("www-authenticate"), "Basic");
            assert!(upstream.with_method("PUT").is_empty());
        }
    }
}

// V6
#[tokio::test]
async fn an_upstreams_own_412_shows_what_is_there_where_that_is_asked_for() {
    let upstream = Upstream::answering(|seen| match seen.method.as_str() {
        "PUT" => Reply::new(412).field("ETag", "\"v2\""),
        _ => Reply::json(200, &json!({"value": 2})),
    });
    let upstream = upstream.await;
    let route = "version = { source = \"upstream\", include_current = true }";
    let proxy = Proxy::route(&upstream, route).await;
    let agent = Agent::new(&proxy);
    let problem = agent.put("/d").key("k").if_match("\"v1\"").body("1").await.refused("stale-version");
    assert_eq!(
        (&problem.json["current_etag"], &problem.json["current"]),
        (&json!("\"v2\""), &json!({"value": 2}))
    );
    // A tag in If-None-Match that is the current one does not say that nothing was to be there.
    let both = agent.put("/d").key("l").if_match("\"v1\"").if_none_match("\"v2\"").body("1").await;
    assert!(!both.refused("stale-version").detail.contains("already exists"), "{both}");
}

// V2
#[tokio::test]
async fn an_upstreams_tag_on_anything_but_a_200_is_no_version() {
    let (upstream, proxy) = proxied("version = \"etag\"").await;
    let agent = Agent::new(&proxy);
    for (status, has) in [(200, true), (203, false), (206, true), (404, false), (410, false), (500, false)] {
        upstream.next(Reply::new(status).field("ETag", "\"e\""));
        let answer = agent.get("/d").header("range", "bytes=0-1").await;
        assert_eq!(answer.is(status).headers.contains_key("etag"), has, "{answer}");
    }
    upstream.next(Reply::new(304).field("ETag", "\"e\""));
    assert_eq!(agent.get("/d").if_none_match("\"e\"").await.is(304).etag(), "\"e\"");
    let (upstream, proxy) = proxied("version = \"mint\"").await;
    upstream.next(Reply::ok("ok").field("Accept-Ranges", "bytes"));
    let answer = Agent::new(&proxy).get("/d").header("range", "bytes=0-1").await;
    // A range is answered whole, and none is offered.
    assert_eq!((answer.is(200).text().as_str(), answer.header("accept-ranges")), ("ok", None));
}

// V7
#[tokio::test]
async fn what_was_made_elsewhere_has_no_version_here() {
    for source in ["hash", "etag", "mint"] {
        let (upstream, proxy) =
            proxied(&format!("version = {{ source = \"{source}\", required = [] }}")).await;
        let agent = Agent::new(&proxy);
        let made = Reply::new(201).field("ETag", "\"e\"");
        upstream.next(made.clone().field("Location", "/d/1"));
        assert_eq!(agent.put("/d").key("1").await.is(201).header("onceward-version"), None, "{source}");
        upstream.next(made);
        agent.put("/d").key("2").await.is(201).needs("onceward-version");
    }
}

// V7, K10
#[tokio::test]
async fn an_answer_that_is_passed_through_tells_the_version_that_is_known_by_then() {
    let large = "x".repeat(2 << 20);
    for (source, told) in [("mint", true), ("etag", true), ("upstream", true), ("hash", false)] {
        let (upstream, proxy) =
            proxied(&format!("version = {{ source = \"{source}\", required = [] }}")).await;
        let agent = Agent::new(&proxy);
        upstream.next(Reply::ok(large.clone()).field("ETag", "\"e\""));
        let answer = agent.put("/d").key("1").await;
        let version = answer.is(200).header("onceward-version");
        assert_eq!(version.is_some(), told, "{source}");
        if source == "mint" {
            agent.put("/d").key("2").if_match(&version.unwrap()).await.is(200);
        }
    }
    // One that breaks off moved to where nobody was told of.
    let (upstream, proxy) = proxied("version = \"mint\"\nidempotency.settle = \"0s\"").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    upstream.next(Reply::ok(large).cut_after(1 << 20));
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!(
        "PUT /d HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nIf-Match: {tag}\r\nContent-Length: 0\r\n\r\n"
    ))
    .await;
    let cut = raw.answer().await;
    assert!(!cut.whole, "a cut answer that looks whole");
    agent.put("/d").key("k").if_match(&tag).wait(10).await.refused("outcome-unknown");
    let told = cut.needs("onceward-version");
    agent.put("/d").key("2").if_match(&told).await.refused("stale-version");
}

// V2, K11
#[tokio::test]
async fn a_read_whose_body_stops_coming_took_too_long() {
    let (upstream, proxy) = proxied("version = \"hash\"\nlimits.upstream_idle = \"200ms\"").await;
    upstream.next(Reply::ok("half of it").paused_after(4, &Gate::closed()));
    let problem = Agent::new(&proxy).get("/d").await.refused("upstream-timeout");
    assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("no", "same-key"));
}
