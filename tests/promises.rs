//! What is asked of this proxy first, each from end to end on a route with versions.

use std::time::Duration;

use serde_json::json;

use crate::harness::ledger::Ledger;
use crate::harness::proxy::one_route;
use crate::harness::{Agent, Gate, Proxy, Raw, Reply, proxied};

// K7, K13, R7: an answer that was lost on its way back is replayed, though the write itself moved the version.
#[tokio::test]
async fn a_lost_answer_is_replayed_on_a_route_with_versions() {
    for source in ["\"hash\"", "\"etag\"", "{ field = \"/rev\" }", "\"mint\"", "\"upstream\""] {
        let ledger = Ledger::start().await;
        ledger.holds("/d", json!({"rev": 1}));
        let proxy = Proxy::route(&ledger.upstream, &format!("version = {source}")).await;
        let agent = Agent::new(&proxy);
        let tag = agent.tag("/d").await;
        let gate = Gate::closed();
        let sent = json!({"rev": 2}).to_string();
        // The ledger's own answer to the probe, then one that the agent does not live to see.
        let is_probed = !["\"mint\"", "\"upstream\""].contains(&source);
        if is_probed {
            ledger.upstream.next(Reply::json(200, &json!({"rev": 1})).field("ETag", tag.as_str()));
        }
        ledger.upstream.next(Reply::json(200, &json!({"rev": 2})).field("ETag", "\"r2\"").held(&gate));
        let mut raw = Raw::connect(&proxy).await;
        raw.send(format!(
            "PUT /d HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nIf-Match: {tag}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{sent}",
            sent.len()
        ))
        .await;
        ledger
            .upstream
            .until("the write", |seen| seen.iter().any(|one| one.method == "PUT" && one.whole))
            .await;
        raw.reset();
        gate.open();
        let put = |key: &str| agent.put("/d").key(key).if_match(&tag).json(&json!({"rev": 2}));
        let replay = put("k").wait(10).await;
        assert_eq!(replay.is(200).needs("idempotent-replayed"), "true", "{source}: {replay}");
        put("k").await.replays(&replay);
        assert_eq!(ledger.upstream.with_method("PUT").len(), 1, "{source}");
    }
}

// V6, P2: what an agent is told of two conflicts on two resources is not the same.
#[tokio::test]
async fn two_conflicts_on_two_resources_are_told_apart() {
    let (_upstream, proxy) = proxied("").await;
    let agent = Agent::new(&proxy);
    let project = "/api/v1/projects/0192f1c0-7b7e-7cc0-8000-aaaaaaaaaaaa";
    let long = format!("{project}/documents/0192f1c0-7b7e-7cc0-8000-bbbbbbbbbbb");
    let mut told = std::collections::HashSet::new();
    for path in ["/documents/7", "/documents/8", &format!("{long}1"), &format!("{long}2")] {
        let stale = agent.put(path).key(path).if_match("\"old\"").await.refused("stale-version");
        let end = &path[path.len() - 12..];
        assert!(stale.detail.contains(end), "{path} is not told: {}", stale.detail);
        told.insert(stale.detail);
    }
    assert_eq!(told.len(), 4, "{told:?}");

    // R5: one path, two resources.
    let (_upstream, proxy) = proxied("resource = \"doc/{json:/id}\"").await;
    let agent = Agent::new(&proxy);
    for id in [7, 8] {
        let put = agent.put("/documents").key(&id.to_string()).if_match("\"old\"").json(&json!({"id": id}));
        let stale = put.await.refused("stale-version");
        assert!(stale.detail.contains(&format!("Read doc/{id} again")), "{}", stale.detail);
        assert_eq!(stale.json["resource"], format!("doc/{id}"));
    }
}

// R5, V2, F3: a large read comes byte for byte, on every source, in every framing.
#[tokio::test]
async fn twenty_mebibytes_are_read_byte_for_byte() {
    let mut random = fastrand::Rng::with_seed(20);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(20 << 20).collect();
    let reply = Reply::ok(bytes.clone()).field("ETag", "\"large\"");
    for (source, reply) in
        [("hash", reply.clone()), ("etag", reply.clone().chunked()), ("mint", reply.until_close())]
    {
        let (upstream, proxy) = proxied(&format!("version = \"{source}\"")).await;
        upstream.next(reply);
        let agent = if source == "etag" { Agent::http2(&proxy) } else { Agent::new(&proxy) };
        let answer = agent.get("/large").await;
        assert!(answer.is(200).body == bytes, "{source}: other bytes, {} of them", answer.body.len());
        // Over `version.max_body` a digest would have to be held back, so there is none.
        assert_eq!(answer.headers.contains_key("etag"), source != "hash", "{source}");
    }
}

// Q1, Q2, V5, V6: of two hundred agents with one tag one gets through, and the others are told the new one.
#[tokio::test]
async fn two_hundred_agents_write_one_resource() {
    let ledger = Ledger::start().await;
    ledger.holds("/counter", json!({"value": 0}));
    let route = "version.required = []\nqueue.max_waiting = 200\nqueue.max_wait = \"20s\"";
    let proxy = Proxy::route(&ledger.upstream, route).await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/counter").await;
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..200 {
        let agent = Agent::named(&proxy, &n.to_string());
        let tag = tag.clone();
        crowd.spawn(async move {
            // A queue of writes without a version, all under one key that is each agent's own (I2).
            let add = agent.post("/counter").key("add").json(&json!({"add": 1}));
            let added = add.clone().await;
            add.await.replays(added.is(200).is_first_run());
            // A change that was built on what was there before all of them.
            let put = agent.put("/counter").key("put").if_match(&tag).json(&json!({"value": -1}));
            put.await.refused("stale-version").json["current_etag"].as_str().is_some()
        });
    }
    assert!(crowd.join_all().await.into_iter().all(|told| told));
    assert_eq!(ledger.document("/counter"), Some(json!({"value": 200})));
    assert_eq!(ledger.effects().len(), 200);

    let tag = agent.tag("/counter").await;
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (agent, tag) = (Agent::named(&proxy, &n.to_string()), tag.clone());
        crowd.spawn(async move {
            let key = format!("{n}");
            let put = agent.put("/counter").key(&key).if_match(&tag).json(&json!({"value": n + 1000}));
            put.await
        });
    }
    let told = crowd.join_all().await;
    let through: Vec<_> = told.iter().filter(|one| !one.is_refusal()).collect();
    assert_eq!(through.len(), 1, "one goes through");
    through[0].is(200);
    told.iter().filter(|one| one.is_refusal()).for_each(|one| drop(one.refused("stale-version")));
    assert_eq!(ledger.effects().len(), 201);
}

// R5, Q1, V5: aliases of one resource are one line and one version, and no alias of a guarded path goes around its
// guard.
#[tokio::test]
async fn aliases_of_a_guarded_path_are_guarded_as_one() {
    const ALIASES: [&str; 7] = [
        "//documents/a-7",
        "/documents/a-7/",
        "/documents//a-7",
        "/./documents/x/../a-7",
        "/%64ocuments/a%2d7",
        "/documents/%61-7",
        "/.onceward/../documents/a-7",
    ];
    let ledger = Ledger::start().await;
    let (url, unguarded) = (ledger.upstream.url(), "guard = \"none\"");
    let config = format!(
        "[[routes]]\npath = \"/documents/{{id}}\"\nupstream = \"{url}\"\nversion = \"mint\"\n\
         [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"{url}\"\n{unguarded}\n"
    );
    let proxy = Proxy::start(&config).await;
    let agent = Raw::connect;
    let ask = |path: &str, fields: &str| {
        let request = format!("PUT {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 2\r\n\r\n{{}}");
        let raw = agent(&proxy);
        async move {
            let mut raw = raw.await;
            raw.send(request).await;
            raw.answer().await.answer
        }
    };
    let mut tag = String::new();
    for (n, alias) in ALIASES.iter().enumerate() {
        ask(alias, "").await.refused("missing-idempotency-key");
        let key = format!("Idempotency-Key: {n}\r\n");
        ask(alias, &key).await.refused("missing-precondition");
        if n == 0 {
            let created = ask(alias, &format!("{key}If-None-Match: *\r\n")).await;
            assert_eq!(created.is(201).needs("onceward-resource"), "/documents/a-7");
            tag = created.needs("onceward-version");
            continue;
        }
        let stale = ask(alias, &format!("{key}If-Match: \"old\"\r\n")).await;
        assert_eq!(stale.refused("stale-version").json["current_etag"], tag.as_str(), "{alias}");
        let written = ask(alias, &format!("{key}If-Match: {tag}\r\n")).await;
        assert!(written.status < 300, "{alias}: {written}");
        tag = written.needs("onceward-version");
    }

    // One line: while one alias is written, no other is.
    let gate = Gate::closed();
    let before = ledger.upstream.requests().len();
    ledger.upstream.next(Reply::ok("ok").held(&gate));
    let mut first = Raw::connect(&proxy).await;
    first
        .send(format!(
            "PUT /documents/a-7 HTTP/1.1\r\nHost: a\r\nIdempotency-Key: first\r\nIf-Match: {tag}\r\nContent-Length: 2\r\n\r\n{{}}"
        ))
        .await;
    ledger.upstream.arrived(before + 1).await;
    for alias in ALIASES {
        let fields = format!("Idempotency-Key: {alias}\r\nIf-Match: {tag}\r\nPrefer: wait=0\r\n");
        ask(alias, &fields).await.refused("queue-timeout");
    }
    gate.open();
    tokio::time::timeout(Duration::from_secs(20), first.answer()).await.expect("an answer").is(200);
}

// C3, K3, Q1: rules that change while writes go through lose and double none of them.
#[tokio::test]
async fn a_reload_under_load_loses_no_write() {
    let ledger = Ledger::start().await;
    ledger.holds("/counter", json!({"value": 0}));
    let config = |waiting: u32| {
        let queue = format!("queue = {{ max_waiting = {waiting}, max_wait = \"20s\" }}");
        one_route(&ledger.upstream.url(), &format!("guard = \"tool\"\nresource = \"{{path}}\"\n{queue}"))
    };
    let proxy = Proxy::start(&config(100)).await;
    let mut crowd = tokio::task::JoinSet::new();
    for name in 0..8 {
        let agent = Agent::named(&proxy, &name.to_string());
        crowd.spawn(async move {
            for n in 0..25 {
                let key = format!("{name}-{n}");
                let add = agent.post("/counter").key(&key).json(&json!({"add": 1}));
                let first = add.clone().await;
                add.await.replays(first.is(200).is_first_run());
            }
        });
    }
    let mut reloads = 0;
    while !crowd.is_empty() {
        proxy.rewrite(&config(101 + reloads));
        proxy.signal("HUP");
        reloads += 1;
        tokio::select! {
            done = crowd.join_next() => done.expect("an agent").expect("all its writes"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    assert_eq!(ledger.document("/counter"), Some(json!({"value": 200})), "after {reloads} reloads");
    assert_eq!(ledger.effects().len(), 200);
}
