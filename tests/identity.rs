//! Who an agent is, and that nothing of another can be reached or guessed (I1, I2).

use crate::harness::{Agent, Proxy, Reply, Upstream, proxied};

const TOOL: &str = "guard = \"tool\"";

// I1, I2
#[tokio::test]
async fn an_equal_key_of_another_is_another_key() {
    let upstream =
        Upstream::answering(|seen| Reply::ok(seen.field("authorization").unwrap_or_default())).await;
    let proxy = Proxy::route(&upstream, TOOL).await;
    let (ann, bob) = (Agent::named(&proxy, "ann-secret"), Agent::named(&proxy, "bob-secret"));
    let of_ann = ann.post("/x").key("k").await;
    let of_bob = bob.post("/x").key("k").body("something else").await;
    assert_eq!(of_ann.is(200).text(), "Bearer ann-secret");
    assert_eq!(of_bob.is(200).is_first_run().text(), "Bearer bob-secret");
    ann.post("/x").key("k").await.replays(&of_ann);
    let nobody = Agent::new(&proxy).post("/x").key("k").await;
    nobody.is(200).is_first_run();
    assert_eq!(upstream.requests().len(), 3);
    ann.get("/.onceward/operations/k").await.is(200);
    Agent::named(&proxy, "eve").get("/.onceward/operations/k").await.refused("not-found");
    let log = proxy.logs();
    assert!(!log.contains("ann-secret") && !log.contains("bob-secret"), "a credential in the log:\n{log}");
}

// I1
#[tokio::test]
async fn the_first_present_field_counts() {
    let (upstream, proxy) =
        proxied("guard = \"tool\"\n[identity]\nheader = [\"X-Agent\", \"Authorization\"]").await;
    let agent = Agent::new(&proxy).with("x-agent", "ann");
    let first = agent.post("/x").key("k").header("authorization", "Bearer 1").await;
    agent.post("/x").key("k").header("authorization", "Bearer 2").await.replays(first.is(200));
    let bare = Agent::new(&proxy).post("/x").key("k").header("authorization", "Bearer 1").await;
    bare.is(200).is_first_run();
    assert_eq!(upstream.requests().len(), 2);
}

// I1
#[tokio::test]
async fn two_identities_are_none() {
    let (upstream, proxy) = proxied(TOOL).await;
    let call = Agent::new(&proxy).post("/x").key("k");
    call.header("authorization", "Bearer 1").header("authorization", "Bearer 2").await.refused("bad-request");
    // A read too, though nothing is kept of it.
    let call = Agent::new(&proxy).get("/x");
    call.header("authorization", "Bearer 1").header("authorization", "Bearer 2").await.refused("bad-request");
    assert!(upstream.requests().is_empty());
}

// I1, F5
#[tokio::test]
async fn a_cookie_in_pieces_is_one_identity() {
    let (upstream, proxy) = proxied(&format!("{TOOL}\n[identity]\nheader = \"Cookie\"")).await;
    let agent = Agent::http2(&proxy);
    let call = || agent.post("/x").key("k").header("cookie", "a=1").header("cookie", "b=2");
    let first = call().await;
    call().await.replays(first.is(200));
    let http_1 = Agent::new(&proxy).post("/x").key("k").header("cookie", "a=1; b=2").await;
    http_1.replays(&first);
    let seen = upstream.requests();
    assert_eq!((seen.len(), seen[0].head.all("cookie")), (1, vec!["a=1; b=2".to_owned()]));
}
