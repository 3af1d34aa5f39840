//! The form of every refusal (P1 to P5); each answer in all other tests is held against it as it comes in.

use crate::harness::proxy::one_route;
use crate::harness::upstream::Nobody;
use crate::harness::{Agent, Answer, Proxy, proxied};

/// Every code of P5.
const CODES: [&str; 34] = [
    "bad-request",
    "missing-idempotency-key",
    "invalid-idempotency-key",
    "invalid-precondition",
    "no-resource",
    "no-route",
    "not-found",
    "method-not-allowed",
    "request-timeout",
    "stale-version",
    "in-flight",
    "outcome-unknown",
    "response-not-kept",
    "lease-lost",
    "claim-lost",
    "gone",
    "body-too-large",
    "uri-too-long",
    "headers-too-large",
    "key-reused",
    "leased",
    "missing-precondition",
    "queue-full",
    "queue-timeout",
    "internal-error",
    "upstream-unreachable",
    "version-unavailable",
    "upstream-broke-off",
    "upstream-timeout",
    "store-unavailable",
    "store-full",
    "shutting-down",
    "too-many-connections",
    "result-not-stored",
];

// P4, P5
#[tokio::test]
async fn every_code_is_documented_where_its_link_points() {
    let (upstream, proxy) = proxied("").await;
    let agent = Agent::new(&proxy);
    for code in CODES {
        let page = agent.get(&format!("/.onceward/problems/{code}")).await;
        assert!(page.is(200).text().contains(code), "{page}");
    }
    agent.get("/.onceward/problems/no-such-code").await.refused("not-found");
    assert!(upstream.requests().is_empty());
}

// P1, P2, P3
#[tokio::test]
async fn a_refusal_says_the_same_as_markdown() {
    let (_upstream, proxy) = proxied("").await;
    let agent = Agent::new(&proxy);
    let put = || agent.put("/documents/7").key("k");
    let problem = put().await.refused("missing-precondition");
    let page: Answer = put().header("accept", "text/markdown").await;
    assert_eq!(page.status, 428, "{page}");
    assert!(page.needs("content-type").starts_with("text/markdown"), "{page}");
    assert_eq!(page.needs("x-should-retry"), "false");
    assert!(page.needs("link").contains("/.onceward/problems/missing-precondition"), "{page}");
    for said in [&problem.code, &problem.executed, &problem.retry, &problem.detail] {
        assert!(page.text().contains(said.as_str()), "no {said:?} in {page}");
    }
    let preferred = put().header("accept", "application/json;q=0.5, text/markdown;q=0.1").await;
    preferred.refused("missing-precondition");
}

// P1
#[tokio::test]
async fn a_refusal_names_its_route_and_its_resource() {
    let (_upstream, proxy) = proxied("name = \"documents\"").await;
    let agent = Agent::new(&proxy);
    let problem = agent.put("/documents/7").key("k").if_match("\"old\"").await.refused("stale-version");
    assert_eq!(problem.json["route"], "documents");
    assert_eq!(problem.json["resource"], "/documents/7");
}

// P2
#[tokio::test]
async fn whatever_an_agent_sends_a_refusal_keeps_its_form() {
    let (_upstream, proxy) = proxied("resource = \"{header:X-Resource}\"").await;
    let agent = Agent::new(&proxy);
    let long = "x".repeat(5000);
    for resource in
        [long.as_str(), "a. b. c. d. e", "Ignore this. Do that!", "\u{202e}abc", "\"quoted\" . \"", "a\tb"]
    {
        let call =
            agent.put("/d").key("k").if_match("\"old\"").bytes_header("x-resource", resource.as_bytes());
        let answer = call.await;
        assert!(answer.is_refusal(), "{answer}");
        answer.refused("stale-version");
    }
    for path in [
        "/a.".to_owned(),
        "/a!".to_owned(),
        format!("/{long}"),
        "/a.%20b.%20c.%20d".to_owned(),
        "/%0d%0aX:%20y".to_owned(),
    ] {
        assert!(agent.put(&path).key("k").await.is_refusal());
        assert!(agent.put(&path).await.is_refusal());
    }
    let key = format!("{}.", "a.".repeat(120));
    agent.put("/d").key(&key).await.refused("missing-precondition");
}

// P3
#[tokio::test]
async fn what_may_be_tried_again_says_when() {
    let nobody = Nobody::new();
    let proxy = Proxy::start(&one_route(&nobody.url(), "")).await;
    let answer = Agent::new(&proxy).get("/x").await;
    let problem = answer.refused("upstream-unreachable");
    assert_eq!(problem.retry, "same-key");
    assert!(answer.needs("retry-after").parse::<u64>().unwrap() >= 1, "{answer}");
}
