//! Tags that the proxy mints itself (V8), and the reads that carry them (V2).

use serde_json::json;

use crate::harness::ledger::{Fault, Ledger};
use crate::harness::{Agent, Gate, Proxy, Reply, Upstream};

async fn minted(extra: &str) -> (Ledger, Proxy) {
    let ledger = Ledger::with(false, |seen| match seen.field("x-fault").as_deref() {
        Some("drop") => Fault::Drop,
        Some(status) => Fault::Refuse(status.parse().expect("a status")),
        None => Fault::None,
    });
    let ledger = ledger.await;
    ledger.holds("/a", json!({"value": 1})).holds("/b", json!({"value": 1}));
    let proxy = Proxy::route(&ledger.upstream, &format!("version = \"mint\"\n{extra}")).await;
    (ledger, proxy)
}

// V8
#[tokio::test]
async fn no_tag_fits_two_resources_and_none_comes_back() {
    let (_ledger, proxy) = minted("").await;
    let agent = Agent::new(&proxy);
    let put =
        |path: &str, key: &str, tag: &str| agent.put(path).key(key).if_match(tag).json(&json!({"value": 1}));
    let (a, b) = (agent.tag("/a").await, agent.tag("/b").await);
    assert_ne!(a, b);
    put("/b", "1", &a).await.refused("stale-version");
    let second = put("/a", "2", &a).await.is(200).needs("onceward-version");
    agent.delete("/a").key("3").if_match(&second).await.is(200);
    let made = agent.put("/a").key("4").if_none_match("*").json(&json!({"value": 1})).await;
    let third = made.is(201).needs("onceward-version");
    for (n, old) in [a, second].iter().enumerate() {
        assert_ne!(*old, third);
        put("/a", &format!("old-{n}"), old).await.refused("stale-version");
    }
    put("/a", "5", &third).await.is(200);
}

// V8, S2
#[tokio::test]
async fn a_volatile_store_that_starts_anew_matches_no_old_tag() {
    let (ledger, mut proxy) = minted("").await;
    let tag = Agent::new(&proxy).tag("/a").await;
    proxy.kill();
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    let put = |key: &str, tag: &str| agent.put("/a").key(key).if_match(tag).json(&json!({"value": 2}));
    put("1", &tag).await.refused("stale-version");
    assert!(ledger.effects().is_empty());
    put("2", &agent.tag("/a").await).await.is(200);
}

// V8
#[tokio::test]
async fn what_may_have_had_an_effect_moves_the_tag() {
    let (_ledger, proxy) = minted("").await;
    let agent = Agent::new(&proxy);
    for (status, moves) in [
        (200, true),
        (302, true),
        (500, true),
        (520, true),
        (400, false),
        (404, false),
        (409, false),
        (503, false),
    ] {
        let before = agent.tag("/a").await;
        let put = agent.put("/a").key(&status.to_string()).if_match(&before).json(&json!({"value": 1}));
        let put = if status == 200 { put } else { put.header("x-fault", &status.to_string()) };
        put.await.is(status);
        assert_eq!(agent.tag("/a").await != before, moves, "{status}");
    }
}

// V8, Q5
#[tokio::test]
async fn an_unknown_outcome_moves_the_tag_twice() {
    let (_ledger, proxy) = minted("idempotency.settle = \"1s\"").await;
    let agent = Agent::new(&proxy);
    let before = agent.tag("/a").await;
    let lost =
        agent.put("/a").key("1").if_match(&before).header("x-fault", "drop").json(&json!({"value": 2}));
    lost.await.refused("upstream-broke-off");
    let during = agent.tag("/a").await;
    assert_ne!(during, before, "the tag did not move when the outcome became unknown");
    // It waits for the end of the rest, which moves the tag once more.
    let late = agent.put("/a").key("2").if_match(&during).json(&json!({"value": 3})).await;
    late.refused("stale-version");
    assert_eq!(late.etag(), agent.tag("/a").await);
    assert_ne!(late.etag(), during);
}

// V2
#[tokio::test]
async fn a_minted_tag_is_never_newer_than_its_body() {
    let (ledger, proxy) = minted("").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    let tag = agent.tag("/a").await;
    ledger.upstream.next(Reply::json(200, &json!({"value": 1})).held(&gate));
    let slow = agent.get("/a").spawn();
    ledger.upstream.arrived(2).await;
    let new = agent
        .put("/a")
        .key("1")
        .if_match(&tag)
        .json(&json!({"value": 2}))
        .await
        .is(200)
        .needs("onceward-version");
    gate.open();
    let slow = slow.await.unwrap();
    assert_eq!((slow.is(200).etag(), slow.json()), (tag.clone(), json!({"value": 1})));
    assert_ne!(new, tag);
    agent.put("/a").key("2").if_match(&slow.etag()).json(&json!({"value": 2})).await.refused("stale-version");
}

// V2, R2
#[tokio::test]
async fn reads_by_post_carry_the_version_of_their_resource() {
    let upstream = Upstream::start().await;
    let route = |path: &str, lines: &str| {
        format!(
            "[[routes]]\npath = \"{path}\"\nupstream = \"{}\"\nversion = \"mint\"\n{lines}\n",
            upstream.url()
        )
    };
    let write = route("/items/{id}", "resource = \"item/{id}\"");
    let read = route("/items/{id}/query", "guard = \"read\"\nresource = \"item/{id}\"");
    let proxy = Proxy::start(&[write, read].concat()).await;
    let agent = Agent::new(&proxy);
    let read = agent.post("/items/7/query").json(&json!({"all": true})).await.is(200).etag();
    assert_eq!(agent.tag("/items/7").await, read);
    agent.put("/items/7").key("k").if_match(&read).await.is(200);
    assert_ne!(agent.post("/items/7/query").await.is(200).etag(), read);
}

// V8, V3
#[tokio::test]
async fn whether_there_is_none_is_asked_of_the_upstream() {
    let (ledger, proxy) = minted("").await;
    let agent = Agent::new(&proxy);
    agent.put("/a").key("1").if_none_match("*").json(&json!({})).await.refused("stale-version");
    agent.put("/new").key("2").if_none_match("*").json(&json!({})).await.is(201);
    let seen: Vec<_> = ledger.upstream.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(seen, ["HEAD", "HEAD", "PUT"]);

    let upstream = Upstream::answering(|seen| match seen.method.as_str() {
        "HEAD" => Reply::new(501),
        "GET" => Reply::new(404),
        _ => Reply::new(201),
    });
    let upstream = upstream.await;
    let proxy = Proxy::route(&upstream, "version = \"mint\"").await;
    Agent::new(&proxy).put("/a").key("1").if_none_match("*").await.is(201);
    let seen: Vec<_> = upstream.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(seen, ["HEAD", "GET", "PUT"]);
}
