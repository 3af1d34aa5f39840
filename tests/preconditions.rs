//! Which precondition a write needs and which is one (V3, V4), and what an agent on an old version is told (V6).

use serde_json::json;

use crate::harness::ledger::Ledger;
use crate::harness::{Agent, Proxy, Reply, Upstream, proxied};

async fn with_document(route: &str) -> (Ledger, Proxy) {
    let ledger = Ledger::start().await;
    ledger.holds("/d", json!({"value": 1}));
    let proxy = Proxy::route(&ledger.upstream, route).await;
    (ledger, proxy)
}

// V3, R2
#[tokio::test]
async fn a_change_of_a_state_needs_a_precondition() {
    let (ledger, proxy) = with_document("").await;
    let agent = Agent::new(&proxy);
    for method in ["PUT", "PATCH", "DELETE"] {
        for call in [
            agent.call(method, "/d").key("k"),
            agent.call(method, "/d").key("k").if_match("*"),
            agent.call(method, "/d").key("k").if_none_match("\"x\""),
        ] {
            let problem = call.await.refused("missing-precondition");
            assert!(problem.detail.contains("/d"), "P2: it names not what to read: {}", problem.detail);
        }
    }
    assert!(ledger.effects().is_empty());
    // A POST makes something new; it needs none, yet one that is there is compared.
    agent.post("/d").key("1").if_match("\"x\"").json(&json!({"add": 1})).await.refused("stale-version");
    agent.post("/d").key("2").json(&json!({"add": 1})).await.is(200);
}

// V3
#[tokio::test]
async fn what_is_required_is_the_operators_choice() {
    let (_ledger, proxy) = with_document("version = { source = \"hash\", required = [] }").await;
    Agent::new(&proxy).put("/d").key("k").json(&json!({})).await.is(200);
    let (_ledger, proxy) = with_document("version = { source = \"hash\", required = [\"POST\"] }").await;
    Agent::new(&proxy).post("/d").key("k").json(&json!({})).await.refused("missing-precondition");
    Agent::new(&proxy).put("/d").key("k").json(&json!({})).await.is(200);
    let (ledger, proxy) = with_document("version = { source = \"hash\", allow_any = true }").await;
    let agent = Agent::new(&proxy);
    agent.put("/d").key("k").if_match("*").json(&json!({})).await.is(200);
    agent.put("/new").key("n").if_match("*").json(&json!({})).await.refused("stale-version");
    assert_eq!(ledger.effects().len(), 1);
}

// V3
#[tokio::test]
async fn all_preconditions_that_are_there_must_hold() {
    let (ledger, proxy) = with_document("").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let put = |key: &str| agent.put("/d").key(key).json(&json!({"value": 2}));
    put("1").if_match(&tag).if_none_match(&tag).await.refused("stale-version");
    put("2").if_match("\"x\"").if_none_match("\"y\"").await.refused("stale-version");
    put("3").if_match(&tag).if_none_match("*").await.refused("stale-version");
    assert!(ledger.effects().is_empty());
    put("4").if_match(&tag).if_none_match("\"y\"").await.is(200);
}

// V4
#[tokio::test]
async fn a_list_of_tags_is_compared_strongly() {
    let (_ledger, proxy) = with_document("").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let put = |key: &str, list: &str| agent.put("/d").key(key).if_match(list).json(&json!({"value": 1}));
    put("1", &format!("\"a,b\", {tag} ,\"c\"")).await.is(200);
    put("2", "\"a\", \"b\"").await.refused("stale-version");
    put("3", "\"a\"").if_match(&tag).await.is(200);
}

// V4
#[tokio::test]
async fn what_can_never_match_is_refused_at_once() {
    let (upstream, proxy) = proxied("").await;
    let agent = Agent::new(&proxy);
    let bad = [
        "",
        "x",
        "\"x",
        "x\"",
        "\"a\" \"b\"",
        "\"a\", b",
        "\"a b\"",
        "*, \"a\"",
        "W/\"a\"",
        "\"a\", W/\"b\"",
        "w/\"a\"",
    ];
    for value in bad {
        let answer = agent.put("/d").key("k").if_match(value).await;
        assert!(answer.is_refusal(), "{value:?}: {answer}");
        let problem = answer.refused("invalid-precondition");
        if value.contains("W/") {
            let told = problem.detail.to_lowercase();
            assert!(told.contains("weak") || told.contains("compress"), "V4: {told}");
        }
        agent.put("/d").key("k").if_none_match(value).await.refused("invalid-precondition");
    }
    assert!(upstream.requests().is_empty());
}

// V6, P2
#[tokio::test]
async fn a_stale_write_is_told_what_is_current() {
    let (ledger, proxy) = with_document("version = { source = \"hash\", include_current = true }").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let stale = agent.put("/d").key("k").if_match("\"old\"").json(&json!({"value": 9})).await;
    let problem = stale.refused("stale-version");
    assert_eq!(
        (stale.status, stale.etag(), problem.json["current_etag"].as_str()),
        (409, tag.clone(), Some(tag.as_str()))
    );
    assert_eq!((&problem.json["current"], &problem.json["resource"]), (&json!({"value": 1}), &json!("/d")));
    assert!(problem.detail.contains("/d") && problem.detail.contains(&tag), "P2: {}", problem.detail);
    assert!(ledger.effects().is_empty());

    let (_ledger, proxy) = with_document("version = { source = \"hash\", stale_status = 412 }").await;
    let stale = Agent::new(&proxy).put("/d").key("k").if_match("\"old\"").json(&json!({})).await;
    stale.refused("stale-version");
    assert_eq!((stale.status, stale.json().get("current")), (412, None));
}

// R7, V5
#[tokio::test]
async fn a_retry_whose_own_first_run_moved_the_version_is_a_replay() {
    for source in ["hash", "etag", "mint", "upstream"] {
        let (ledger, proxy) = with_document(&format!("version = \"{source}\"")).await;
        let agent = Agent::new(&proxy);
        let tag = agent.tag("/d").await;
        let put = || agent.put("/d").key("k").if_match(&tag).json(&json!({"value": 2}));
        let first = put().await;
        put().await.replays(first.is(200));
        // Presence and syntax hold for a retry too; which tag it names does not count.
        agent.put("/d").key("k").if_match("\"any\"").json(&json!({"value": 2})).await.replays(&first);
        agent.put("/d").key("k").json(&json!({"value": 2})).await.refused("missing-precondition");
        assert_eq!(ledger.effects().len(), 1);
    }
}

// V6
#[tokio::test]
async fn what_is_current_is_shown_in_the_upstreams_own_bytes() {
    for source in ["hash", "etag", "mint", "upstream"] {
        for (body, shown) in [
            (
                "{\"n\": 12345678901234567890123.10, \"a\": 1}\n",
                "{\"n\": 12345678901234567890123.10, \"a\": 1}",
            ),
            ("plain \"text\"", "\"plain \\\"text\\\"\""),
        ] {
            let upstream = Upstream::answering(move |seen| match seen.method.as_str() {
                "GET" | "HEAD" => Reply::ok(body).field("ETag", "\"e\""),
                _ => Reply::new(412),
            });
            let upstream = upstream.await;
            let route = format!("version = {{ source = \"{source}\", include_current = true }}");
            let proxy = Proxy::route(&upstream, &route).await;
            let stale = Agent::new(&proxy).put("/d").key("k").if_match("\"old\"").json(&json!({})).await;
            stale.refused("stale-version");
            let whole = stale.text();
            assert!(whole.contains(&format!("\"current\":{shown}")), "{source}: {whole}");
            let agent = Agent::new(&proxy).with("accept", "text/markdown");
            let markdown = agent.put("/d").key("k").if_match("\"old\"").json(&json!({})).await.text();
            assert!(markdown.contains(&format!("- current: `{shown}`")), "{source}: {markdown}");
        }
    }
    // What is neither JSON nor text is not shown.
    let upstream = Upstream::answering(|_| Reply::ok(b"\xff\xfe".to_vec())).await;
    let proxy = Proxy::route(&upstream, "version = { source = \"hash\", include_current = true }").await;
    let stale = Agent::new(&proxy).put("/d").key("k").if_match("\"old\"").await;
    assert_eq!(stale.refused("stale-version").json.get("current"), None);
}
