//! An acknowledgment that carries the write which finishes the task: both or neither (J2).

use serde_json::{Value, json};

use super::board::Board;
use super::{claims, none};
use crate::harness::{Agent, Gate, Proxy, Reply, Upstream};

fn finishes(id: u64) -> Value {
    let write = json!({"method": "PATCH", "path": format!("/tasks/{id}"), "body": {"status": "done"}});
    json!({ "write": write })
}

/// Over another source with one task: refused, late and done. `hears` waits until the source knows that it is done, or
/// that it is not.
pub async fn is_one_with_its_write(proxy: &Proxy, upstream: &Upstream, hears: impl AsyncFn(bool)) {
    let (one, two) = (Agent::named(proxy, "one"), Agent::named(proxy, "two"));
    let first = claims(&one, "a").await;
    let write = finishes(first.task["id"].as_u64().expect("an id"));
    upstream.next(Reply::new(422).body("no"));
    one.post(&first.path("ack")).key("no").json(&write).await.is(422);
    hears(false).await;
    none(&two, "none").await;
    one.post(&first.path("extend")).json(&json!({"visibility": "200ms"})).await.is(200);
    let second = claims(&two, "b").await;
    assert_eq!((second.task.clone(), second.attempt), (first.task.clone(), 2));
    one.post(&first.path("ack")).key("late").json(&write).await.refused("claim-lost");
    assert_eq!(upstream.with_method("PATCH").len(), 1, "a late acknowledgment wrote");
    upstream.next(Reply::ok("done"));
    let acked = two.post(&second.path("ack")).key("w").json(&write).await;
    assert_eq!(acked.is(200).is_first_run().text(), "done");
    hears(true).await;
    two.post(&second.path("ack")).key("w").json(&write).await.replays(&acked);
    two.post(&second.path("ack")).await.is(204);
    two.post(&second.path("release")).await.refused("claim-lost");
    none(&two, "c").await;
    let patches = upstream.with_method("PATCH");
    assert_eq!(patches.len(), 2);
    assert_eq!(patches[1].field("idempotency-key").as_deref(), Some("w"));
}

// J2, K7
#[tokio::test]
async fn the_write_and_the_acknowledgment_are_one() {
    let board = Board::with(2).await;
    let proxy = board.proxy("").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    agent.post(&claim.path("ack")).json(&finishes(1)).await.refused("missing-idempotency-key");
    let acked = agent.post(&claim.path("ack")).key("w").json(&finishes(1)).await;
    assert_eq!(acked.is(200).is_first_run().json(), json!({"changed": true}));
    let patches = board.upstream.with_method("PATCH");
    assert_eq!(patches[0].field("idempotency-key").as_deref(), Some("w"));
    assert_eq!(patches[0].field("content-type").as_deref(), Some("application/json"));
    agent.post(&claim.path("ack")).key("w").json(&finishes(1)).await.replays(&acked);
    agent.post(&claim.path("ack")).key("w").json(&finishes(2)).await.refused("key-reused");
    agent.post(&claim.path("ack")).await.is(204);
    assert_eq!(board.upstream.with_method("PATCH").len(), 1);
    assert_eq!(claims(&agent, "b").await.task["id"], json!(2));
    none(&agent, "c").await;
}

// J2: a write that is refused leaves the claim
#[tokio::test]
async fn a_refused_write_is_no_acknowledgment() {
    let board = Board::with(1).await;
    let proxy = board.proxy("visibility = \"30s\"").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    // By the upstream, kept or not, and by Onceward.
    board.upstream.next(Reply::new(422).body("no"));
    agent.post(&claim.path("ack")).key("k1").json(&finishes(1)).await.is(422);
    board.upstream.next(Reply::new(503));
    agent.post(&claim.path("ack")).key("k2").json(&finishes(1)).await.is(503);
    let elsewhere = json!({"write": {"method": "GET", "path": "/tasks/1"}});
    agent.post(&claim.path("ack")).key("k3").json(&elsewhere).await.refused("bad-request");
    for bad in [json!(1), json!({"method": "PUT"}), json!({"method": "PUT", "path": "/x", "other": 1})] {
        agent.post(&claim.path("ack")).key("k4").json(&json!({ "write": bad })).await.refused("bad-request");
    }
    let headers = json!({"write": {"method": "PUT", "path": "/x", "headers": {"Idempotency-Key": "other"}}});
    agent.post(&claim.path("ack")).key("k4").json(&headers).await.refused("bad-request");
    none(&agent, "b").await;
    agent.post(&claim.path("ack")).key("k5").json(&finishes(1)).await.is(200);
    assert_eq!(board.status(1), "done");
}

// J3: the claim has ended, and so nothing is written
#[tokio::test]
async fn a_late_acknowledgment_writes_nothing() {
    let board = Board::with(1).await;
    let proxy = board.proxy("visibility = \"200ms\"").await;
    let (one, two) = (Agent::new(&proxy), Agent::named(&proxy, "two"));
    let claim = claims(&one, "a").await;
    let second = claims(&two, "b").await;
    one.post(&claim.path("ack")).key("w").json(&finishes(1)).await.refused("claim-lost");
    two.post(&claim.path("ack")).key("w").json(&finishes(1)).await.refused("not-found");
    assert_eq!(board.upstream.with_method("PATCH").len(), 0);
    two.post(&second.path("ack")).key("x").json(&finishes(1)).await.is(200);
}

// J3: nobody else gets the task as long as the write runs
#[tokio::test]
async fn the_claim_lives_as_long_as_its_write() {
    let board = Board::with(1).await;
    let proxy = board.proxy("visibility = \"400ms\"").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    let gate = Gate::closed();
    board.upstream.next(Reply::ok("slow").held(&gate));
    let acks = agent.post(&claim.path("ack")).key("w").json(&finishes(1)).spawn();
    board.upstream.until("the write", |seen| seen.iter().any(|one| one.method == "PATCH")).await;
    agent.post("/.onceward/queues/tasks/claim").key("b").wait(2).await.is(204);
    gate.open();
    acks.await.unwrap().is(200);
    agent.post(&claim.path("ack")).await.is(204);
}

// J2, K13: it is finished even if its agent vanishes
#[tokio::test]
async fn a_vanished_agent_stops_neither() {
    let board = Board::with(1).await;
    let proxy: Proxy = board.proxy("visibility = \"30s\"").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    let gate = Gate::closed();
    board.upstream.next(Reply::ok("slow").held(&gate));
    let acks = agent.post(&claim.path("ack")).key("w").json(&finishes(1)).spawn();
    board.upstream.until("the write", |seen| seen.iter().any(|one| one.method == "PATCH")).await;
    acks.abort();
    gate.open();
    let other = Agent::new(&proxy);
    let replayed = other.post(&claim.path("ack")).key("w").json(&finishes(1)).wait(10).await;
    assert_eq!(replayed.is(200).is_replay().text(), "slow");
    other.post(&claim.path("ack")).await.is(204);
}
