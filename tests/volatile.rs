//! The store in memory (S1, S2): it is bounded, lets bodies go first, and never drops a claim or a record.

use crate::harness::{Agent, Proxy, Reply, Upstream};

async fn bounded(body: usize) -> (Upstream, Proxy) {
    let upstream = Upstream::answering(move |_| Reply::new(201).body("x".repeat(body))).await;
    let route = "guard = \"tool\"\n[store]\nurl = \"memory:\"\nmax_memory = \"1MiB\"";
    let proxy = Proxy::route(&upstream, route).await;
    (upstream, proxy)
}

// S1, S2, K10
#[tokio::test]
async fn bodies_are_let_go_first_and_nothing_runs_again() {
    let (upstream, proxy) = bounded(64 << 10).await;
    let agent = Agent::new(&proxy);
    for n in 0..40 {
        agent.post("/x").key(&n.to_string()).await.is(201).is_first_run();
    }
    let mut let_go = 0;
    for n in 0..40 {
        let retry = agent.post("/x").key(&n.to_string()).await;
        if retry.is_refusal() {
            assert_eq!(retry.refused("response-not-kept").json["upstream_status"], 201);
            let_go += 1;
        } else {
            assert_eq!(retry.is(201).needs("idempotent-replayed"), "true");
        }
    }
    assert!((20..40).contains(&let_go), "{let_go} of 40 bodies of 64 KiB were let go for 1 MiB");
    assert_eq!(upstream.requests().len(), 40, "a record was dropped");
}

// S2
#[tokio::test]
async fn when_only_records_are_left_new_keys_are_refused() {
    let (upstream, proxy) = bounded(0).await;
    let agent = Agent::new(&proxy);
    let long = "x".repeat(240);
    let mut stored = 0;
    let problem = loop {
        let answer = agent.post("/x").key(&format!("{long}-{stored}")).await;
        if answer.is_refusal() {
            break answer.refused("store-full");
        }
        stored += 1;
        assert!(stored < 20_000, "1 MiB holds 20,000 records");
    };
    assert_eq!(problem.executed, "no");
    assert!(proxy.metric("onceward_store_fill_ratio").await > 0.8);
    let warning = proxy.logged(&["WARN", "80 % full"]).await;
    assert_eq!(proxy.logs().matches("80 % full").count(), 1, "{warning}");
    for n in [0, stored / 2, stored - 1] {
        let retry = agent.post("/x").key(&format!("{long}-{n}")).await;
        assert_eq!(retry.is(201).needs("idempotent-replayed"), "true", "record {n} of {stored}");
    }
    assert_eq!(upstream.requests().len(), stored);
    // What needs no record goes on.
    agent.get("/x").await.is(201);
}
