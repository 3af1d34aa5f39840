//! A key whose first run has no end yet: who is refused, who waits, and who takes its place (K6, W1).

use std::time::{Duration, Instant};

use crate::harness::{Agent, Gate, Raw, Reply, proxied};

const TOOL: &str = "guard = \"tool\"";

// K6
#[tokio::test]
async fn a_retry_is_refused_while_the_first_runs() {
    let (upstream, proxy) = proxied(TOOL).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::new(201).held(&gate));
    let first = agent.post("/x").key("k").spawn();
    upstream.received(1).await;
    let problem = agent.post("/x").key("k").await.refused("in-flight");
    assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("pending", "same-key"));
    agent.post("/x").key("k").wait(0).await.refused("in-flight");
    agent.post("/x").key("other").await.is(200);
    gate.open();
    let first = first.await.unwrap();
    agent.post("/x").key("k").await.replays(first.is(201));
}

// K6, W1
#[tokio::test]
async fn a_retry_waits_where_it_says_so() {
    for (extra, waits) in [("", true), ("\nidempotency.in_flight = \"wait\"", false)] {
        let (upstream, proxy) = proxied(&format!("{TOOL}{extra}")).await;
        let (agent, gate) = (Agent::new(&proxy), Gate::closed());
        upstream.next(Reply::new(201).body("made").held(&gate));
        let call = agent.post("/x").key("k");
        let call = if waits { call.wait(5) } else { call };
        let first = agent.post("/x").key("k").spawn();
        upstream.received(1).await;
        let retries: Vec<_> = (0..3).map(|_| call.clone().spawn()).collect();
        // Answered behind the retries, so they wait by now or come to a finished record; both are a replay.
        agent.get("/y").await.is(200);
        gate.open();
        let first = first.await.unwrap();
        for retry in retries {
            let retry = retry.await.unwrap();
            retry.replays(first.is(201));
            if waits {
                assert!(retry.needs("preference-applied").contains("wait=5"), "{retry}");
            }
        }
        assert_eq!(upstream.with_method("POST").len(), 1);
    }
}

// K6, W1
#[tokio::test]
async fn waiting_has_its_bound() {
    let extra = "\nidempotency.in_flight = \"wait\"\nidempotency.max_wait = \"300ms\"";
    let (upstream, proxy) = proxied(&format!("{TOOL}{extra}")).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("ok").held(&gate));
    let first = agent.post("/x").key("k").spawn();
    upstream.received(1).await;
    let start = Instant::now();
    agent.post("/x").key("k").await.refused("in-flight");
    agent.post("/x").key("k").wait(60).await.refused("in-flight");
    assert!(start.elapsed() >= Duration::from_millis(600), "it did not wait");
    agent.post("/x").key("k").wait(0).await.refused("in-flight");
    gate.open();
    first.await.unwrap().is(200);
}

// K6
#[tokio::test]
async fn the_longest_waiting_takes_the_place_of_a_released_one() {
    let (upstream, proxy) = proxied(TOOL).await;
    let (agent, gate, second_gate) = (Agent::new(&proxy), Gate::closed(), Gate::closed());
    upstream.next(Reply::new(503).body("not now").held(&gate));
    let first = agent.post("/x").key("k").spawn();
    upstream.received(1).await;
    let waiting: Vec<_> = (0..3).map(|_| agent.post("/x").key("k").wait(15).spawn()).collect();
    agent.get("/y").await.is(200);
    upstream.next(Reply::new(201).body("made").held(&second_gate));
    gate.open();
    first.await.unwrap().is(503);
    upstream.until("a second run", |seen| seen.iter().filter(|one| one.method == "POST").count() == 2).await;
    second_gate.open();
    let mut runs = 0;
    for one in waiting {
        let one = one.await.unwrap();
        assert_eq!(one.is(201).text(), "made");
        runs += usize::from(one.header("idempotent-replayed").is_none());
    }
    assert_eq!((runs, upstream.with_method("POST").len()), (1, 2));
}

// K6, K11
#[tokio::test]
async fn all_who_wait_learn_that_the_outcome_is_unknown() {
    let (upstream, proxy) = proxied(TOOL).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("lost").held(&gate).cut());
    let first = agent.post("/x").key("k").spawn();
    upstream.received(1).await;
    let waiting: Vec<_> = (0..3).map(|_| agent.post("/x").key("k").wait(15).spawn()).collect();
    agent.get("/y").await.is(200);
    gate.open();
    first.await.unwrap().refused("upstream-broke-off");
    for one in waiting {
        one.await.unwrap().refused("outcome-unknown");
    }
    assert_eq!(upstream.with_method("POST").len(), 1);
}

// K6, K11, Q5
#[tokio::test]
async fn all_who_wait_learn_at_once_that_the_outcome_is_unknown_while_the_resource_rests() {
    let long = "idempotency.settle = \"60s\"\nidempotency.max_wait = \"60s\"\nqueue.max_wait = \"60s\"";
    let (upstream, proxy) = proxied(&format!("version = \"hash\"\n{long}")).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    let tag = agent.tag("/x").await;
    let write = agent.put("/x").key("k").if_match(&tag).body("1");
    // The probe in the turn, then the write.
    upstream.next(Reply::ok("ok")).next(Reply::ok("lost").held(&gate).cut());
    let first = write.clone().spawn();
    upstream.until("the write", |seen| seen.iter().any(|one| one.method == "PUT")).await;
    let waiting: Vec<_> = (0..3).map(|_| write.clone().wait(60).spawn()).collect();
    agent.get("/y").await.is(200);
    gate.open();
    first.await.unwrap().refused("upstream-broke-off");
    for one in waiting {
        // Not after a wait for a turn that the rest keeps from everybody, which is longer than a test's patience.
        one.await.unwrap().refused("outcome-unknown");
    }
    assert_eq!(upstream.with_method("PUT").len(), 1);
}

// K6, Q2
#[tokio::test]
async fn nobody_takes_the_place_of_a_released_one_who_has_left() {
    let (upstream, proxy) = proxied(TOOL).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::new(503).held(&gate));
    let first = agent.post("/x").key("k").spawn();
    upstream.received(1).await;
    let mut left = Raw::connect(&proxy).await;
    left.send(
        "POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nPrefer: wait=15\r\nContent-Length: 0\r\n",
    )
    .await;
    left.send("X-Who: left\r\n\r\n").await;
    agent.get("/y").await.is(200);
    let stays = agent.post("/x").key("k").wait(15).header("x-who", "stays").spawn();
    agent.get("/y").await.is(200);
    left.reset();
    agent.get("/y").await.is(200);
    gate.open();
    first.await.unwrap().is(503);
    stays.await.unwrap().is(200).is_first_run();
    let ran: Vec<_> = upstream.with_method("POST").iter().map(|seen| seen.field("x-who")).collect();
    assert_eq!(ran, [None, Some("stays".to_owned())]);
}
