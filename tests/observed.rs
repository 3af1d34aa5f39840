//! What is only observed (R4) goes through at once, however its content comes.

use crate::harness::{Agent, Gate, Proxy, Raw, Reply, Upstream, proxied};

const OBSERVED: &str = "guard = \"tool\"\nmode = \"observe\"";

/// A keyed POST, up to where its content begins.
fn head(key: &str, framing: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\n{framing}\r\n\r\n")
}

const LENGTH: &str = "Content-Length: 5";
const CHUNKED: &str = "Transfer-Encoding: chunked";

// R4
#[tokio::test]
async fn a_slow_body_goes_through_as_it_comes_and_is_judged_by_its_end() {
    let (upstream, proxy) = proxied(OBSERVED).await;
    let agent = Agent::new(&proxy);
    let cases = [("a", LENGTH, "hel", "lo"), ("b", CHUNKED, "3\r\nhel\r\n", "2\r\nlo\r\n0\r\n\r\n")];
    for (n, (key, framing, first, rest)) in cases.into_iter().enumerate() {
        let mut slow = Raw::connect(&proxy).await;
        slow.send(format!("{}{first}", head(key, framing))).await;
        // Its upstream has it before the rest is there, and nothing is said of its key yet.
        upstream.arrived(3 * n + 1).await;
        slow.send(rest).await;
        assert_eq!(slow.answer().await.is(200).header("onceward-observed"), None);
        assert_eq!(upstream.received(3 * n + 1).await[3 * n].text(), "hello");
        for (body, code) in [("hello", "replayed"), ("other", "key-reused")] {
            let again = agent.post("/x").key(key).body(body).await;
            assert_eq!(again.is(200).needs("onceward-observed"), code, "{framing}");
        }
    }
}

// R4
#[tokio::test]
async fn two_slow_ones_under_a_key_are_seen_as_they_meet() {
    let (upstream, proxy) = proxied(OBSERVED).await;
    let gate = Gate::closed();
    upstream.next(Reply::ok("late").held(&gate));
    let mut slow = Raw::connect(&proxy).await;
    slow.send(format!("{}hel", head("k", LENGTH))).await;
    upstream.arrived(1).await;
    slow.send("lo").await;
    upstream.received(1).await;
    let mut second = Raw::connect(&proxy).await;
    second.send(format!("{}hel", head("k", LENGTH))).await;
    upstream.arrived(2).await;
    second.send("lo").await;
    assert_eq!(second.answer().await.is(200).needs("onceward-observed"), "in-flight");
    gate.open();
    assert_eq!(slow.answer().await.is(200).header("onceward-observed"), None);
}

// R4, F3
#[tokio::test]
async fn an_observed_body_that_breaks_off_claims_nothing() {
    let (upstream, proxy) = proxied(OBSERVED).await;
    let mut halved = Raw::connect(&proxy).await;
    halved.send(format!("{}hel", head("k", LENGTH))).await;
    upstream.arrived(1).await;
    halved.half_close().await;
    halved.answer().await.refused("upstream-broke-off");
    let other = Agent::new(&proxy).post("/x").key("k").body("other").await;
    assert_eq!(other.is(200).header("onceward-observed"), None);
}

// R4, F3
#[tokio::test]
async fn an_observed_body_may_be_larger_than_what_is_read_of_it() {
    let (upstream, proxy) = proxied(&format!("{OBSERVED}\nlimits.body = \"1KiB\"")).await;
    let large = "x".repeat(2000);
    let with_length = Agent::new(&proxy).post("/x").key("a").body(large.clone()).await;
    assert_eq!(with_length.is(200).needs("onceward-observed"), "body-too-large");
    let chunk = format!("7d0\r\n{large}\r\n");
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!("{}{chunk}", head("b", CHUNKED))).await;
    raw.send(format!("{chunk}0\r\n\r\n")).await;
    assert_eq!(raw.answer().await.is(200).needs("onceward-observed"), "body-too-large");
    let sizes: Vec<_> = upstream.received(2).await.iter().map(|seen| seen.body.len()).collect();
    assert_eq!(sizes, [2000, 4000]);
}

// R4, F4
#[tokio::test]
async fn no_full_buffer_refuses_what_is_only_observed() {
    let upstream = Upstream::start().await;
    let enforced = "guard = \"tool\"\nresource = \"one\"";
    let observed = format!("[[routes]]\npath = \"/seen\"\nupstream = \"{}\"\n{OBSERVED}", upstream.url());
    let limits = "[limits]\nbuffered = \"100KiB\"";
    let proxy = Proxy::route(&upstream, &format!("{enforced}\n{observed}\n{limits}")).await;
    let (agent, gate, body) = (Agent::new(&proxy), Gate::closed(), "x".repeat(60 << 10));
    upstream.next(Reply::ok("late").held(&gate));
    let first = agent.post("/x").key("1").spawn();
    upstream.arrived(1).await;
    // It waits for its turn with its body in memory.
    let second = agent.post("/x").key("2").body(body.clone()).spawn();
    proxy.waiting(1).await;
    let seen = agent.post("/seen").key("3").body(body.clone()).await;
    assert_eq!(seen.is(200).header("onceward-observed"), None);
    assert_eq!(upstream.received(2).await[1].body.len(), body.len());
    gate.open();
    first.await.unwrap().is(200);
    second.await.unwrap().is(200);
}
