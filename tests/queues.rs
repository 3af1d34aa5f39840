//! Task queues (J2, J3): one agent at a time, over what is there.

#[path = "queues/ack_with_write.rs"]
mod ack_with_write;
#[path = "queues/board.rs"]
mod board;
#[cfg(feature = "amqp")]
#[path = "queues/brokers.rs"]
mod brokers;
#[path = "queues/configured.rs"]
mod configured;
#[path = "queues/crew.rs"]
mod crew;
#[path = "queues/drained.rs"]
mod drained;
#[path = "queues/lists.rs"]
mod lists;
#[path = "queues/stores.rs"]
mod stores;
#[cfg(feature = "redis")]
#[path = "queues/streams.rs"]
mod streams;
#[cfg(feature = "postgres")]
#[path = "queues/tables.rs"]
mod tables;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Agent, Answer, Upstream, within};
use board::Board;

/// A claim as its agent got it.
#[derive(Clone, Debug)]
struct Claim {
    claim: String,
    task: Value,
    fence: u64,
    attempt: u64,
}

impl Claim {
    #[track_caller]
    fn of(answer: &Answer) -> Claim {
        let json = answer.is(200).json();
        Claim {
            claim: json["claim"].as_str().expect("a claim").to_owned(),
            task: json["task"].clone(),
            fence: json["fence"].as_u64().expect("a fence"),
            attempt: json["attempt"].as_u64().expect("an attempt"),
        }
    }

    fn path(&self, word: &str) -> String {
        format!("/.onceward/queues/tasks/claims/{}/{word}", self.claim)
    }
}

async fn claims(agent: &Agent, key: &str) -> Claim {
    Claim::of(&agent.post("/.onceward/queues/tasks/claim").key(key).wait(10).await)
}

async fn none(agent: &Agent, key: &str) {
    agent.post("/.onceward/queues/tasks/claim").key(key).await.is(204);
}

/// Until what this agent asks for under that key is under way.
async fn asks(agent: &Agent, key: &str) {
    let operation = format!("/.onceward/operations/{key}");
    within(format!("{key} to be asked for"), async { while agent.get(&operation).await.status != 200 {} })
        .await;
}

/// A configuration of a source alone, with a route to this upstream.
fn routed(config: &str, upstream: &Upstream) -> String {
    let nowhere = "path = \"/x\"\nupstream = \"http://127.0.0.1:9\"\n";
    assert!(config.contains(nowhere), "{config}");
    let route = format!("path = \"/{{*path}}\"\nupstream = \"{}\"\nguard = \"tool\"\n", upstream.url());
    config.replace(nowhere, &route)
}

// J2
#[tokio::test]
async fn a_claim_is_one_under_its_key() {
    let board = Board::with(3).await;
    let proxy = board.proxy("").await;
    let agent = Agent::new(&proxy);
    let first = agent.post("/.onceward/queues/tasks/claim").key("a").await;
    let claim = Claim::of(&first);
    assert_eq!((claim.task["id"].clone(), claim.attempt), (json!(1), 1));
    assert!(first.json()["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{first}");
    // As it stands in the list, to the last digit.
    assert!(first.text().contains("\"weight\": 1.50"), "{first}");
    first.needs("idempotency-expires");
    agent.post("/.onceward/queues/tasks/claim").key("a").await.replays(&first);
    let second = claims(&agent, "b").await;
    assert_eq!(second.task["id"], json!(2));
    assert!(second.fence > claim.fence);
    assert_eq!(claims(&agent, "c").await.task["id"], json!(3));
    none(&agent, "d").await;
    // That there was none is not kept: the same key asks again.
    board.add(4);
    let late = agent.post("/.onceward/queues/tasks/claim").key("d").wait(10).await;
    assert_eq!(Claim::of(late.is_first_run()).task["id"], json!(4));
    agent.post("/.onceward/queues/tasks/claim").await.refused("missing-idempotency-key");
    agent.post("/.onceward/queues/tasks/claim").key("a").body("{}").await.refused("key-reused");
}

// J2
#[tokio::test]
async fn what_is_not_there_is_said() {
    let board = Board::with(0).await;
    let proxy = board.proxy("").await;
    let agent = Agent::new(&proxy);
    agent.post("/.onceward/queues/other/claim").key("a").await.refused("not-found");
    agent.post("/.onceward/queues/tasks").key("a").await.refused("not-found");
    agent.post("/.onceward/queues/tasks/tasks").key("a").body("1").await.refused("not-found");
    let answer = agent.get("/.onceward/queues/tasks/claim").await;
    answer.refused("method-not-allowed");
    assert_eq!(answer.needs("allow"), "POST");
    agent.post("/.onceward/queues/tasks/claims/00/ack").await.refused("not-found");
}

// J2: acknowledged once, and again
#[tokio::test]
async fn an_acknowledgment_may_come_again() {
    let board = Board::with(1).await;
    let proxy = board.proxy("done = \"PATCH /tasks/{id}\"\ndone_body = '{\"status\":\"done\"}'").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    agent.post(&claim.path("ack")).await.is(204);
    agent.post(&claim.path("ack")).await.is(204);
    let keyed = agent.post(&claim.path("ack")).key("k").await;
    agent.post(&claim.path("ack")).key("k").await.replays(keyed.is(204));
    assert_eq!(board.status(1), "done");
    assert_eq!(board.upstream.with_method("PATCH").len(), 1, "it is told once where it hears it");
    agent.post(&claim.path("release")).await.refused("claim-lost");
    agent.post(&claim.path("extend")).await.refused("claim-lost");
    none(&agent, "b").await;
}

// J3
#[tokio::test]
async fn what_is_not_acknowledged_in_time_is_handed_out_again() {
    let board = Board::with(1).await;
    let proxy = board.proxy("visibility = \"300ms\"").await;
    let (one, two) = (Agent::new(&proxy), Agent::new(&proxy));
    let first = claims(&one, "a").await;
    let began = Instant::now();
    let second = claims(&two, "b").await;
    assert!(began.elapsed() >= Duration::from_millis(150), "it was with two at once");
    assert_eq!((second.task.clone(), second.attempt), (first.task.clone(), 2));
    assert!(second.fence > first.fence, "{second:?} after {first:?}");
    let problem = one.post(&first.path("ack")).await.refused("claim-lost");
    assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("no", "after-fixing"));
    one.post(&first.path("release")).key("r").await.refused("claim-lost");
    one.post(&first.path("extend")).await.refused("claim-lost");
    two.post(&second.path("ack")).await.is(204);
    one.post(&first.path("ack")).await.refused("claim-lost");
}

// J2, J3
#[tokio::test]
async fn a_released_task_goes_to_who_waits_at_once() {
    let board = Board::with(1).await;
    let proxy = board.proxy("poll = \"60s\"").await;
    let agent = Agent::new(&proxy);
    let first = claims(&agent, "a").await;
    let waits = agent.post("/.onceward/queues/tasks/claim").key("b").wait(10).spawn();
    asks(&agent, "b").await;
    let released = Instant::now();
    agent.post(&first.path("release")).await.is(204);
    let second = Claim::of(&waits.await.unwrap());
    assert!(released.elapsed() < Duration::from_secs(2), "{:?}", released.elapsed());
    assert_eq!((second.task.clone(), second.attempt), (first.task.clone(), 2));
    agent.post(&first.path("release")).await.is(204);
    agent.post(&first.path("ack")).await.refused("claim-lost");
}

// J2
#[tokio::test]
async fn an_extended_claim_lives_on() {
    let board = Board::with(1).await;
    let proxy = board.proxy("visibility = \"600ms\"").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    let extended = agent.post(&claim.path("extend")).json(&json!({"visibility": "30s"})).await;
    assert_eq!(extended.is(200).json()["fence"], json!(claim.fence));
    agent.post(&claim.path("extend")).json(&json!({"visibility": 30})).await.refused("bad-request");
    agent.post(&claim.path("extend")).json(&json!({"other": 1})).await.refused("bad-request");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    none(&agent, "b").await;
    agent.post(&claim.path("ack")).await.is(204);
}

// J3
#[tokio::test]
async fn after_its_last_attempt_a_task_is_dead() {
    let board = Board::with(1).await;
    let proxy = board.proxy("max_attempts = 2\nvisibility = \"200ms\"").await;
    let (agent, admin) = (Agent::new(&proxy), Agent::admin(&proxy));
    let first = claims(&agent, "a").await;
    agent.post(&first.path("release")).await.is(204);
    let dead = || async { admin.get("/queues/tasks/dead").await.is(200).json()["tasks"].clone() };
    assert_eq!(dead().await, json!([]));
    let second = claims(&agent, "b").await;
    assert_eq!(second.attempt, 2);
    within("the task to be dead", async {
        while dead().await == json!([]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(dead().await, json!([{"task": second.task, "attempt": 2}]));
    agent.post(&second.path("ack")).await.refused("claim-lost");
    none(&agent, "c").await;
    admin.get("/queues/other/dead").await.is(404);
}

// I2, J2
#[tokio::test]
async fn a_claim_is_its_principals_own() {
    let board = Board::with(1).await;
    let proxy = board.proxy("").await;
    let (mine, other) = (Agent::named(&proxy, "mine"), Agent::named(&proxy, "other"));
    let claim = claims(&mine, "a").await;
    for word in ["ack", "release", "extend"] {
        other.post(&claim.path(word)).await.refused("not-found");
    }
    none(&other, "a").await;
    mine.post(&claim.path("ack")).await.is(204);
}

// W1, J2
#[tokio::test]
async fn a_wait_is_bounded_and_told() {
    let board = Board::with(0).await;
    let proxy = board.proxy("max_wait = \"1s\"").await;
    let agent = Agent::new(&proxy);
    let began = Instant::now();
    let answer = agent.post("/.onceward/queues/tasks/claim").key("a").wait(60).await;
    assert_eq!(answer.is(204).needs("preference-applied"), "wait=1");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(900) && waited < Duration::from_secs(5), "{waited:?}");
}

// J2, O5
#[tokio::test]
async fn a_shutdown_ends_the_wait() {
    let board = Board::with(0).await;
    let mut proxy = board.proxy("").await;
    let agent = Agent::new(&proxy);
    let waits = agent.post("/.onceward/queues/tasks/claim").key("a").wait(20).spawn();
    board.upstream.arrived(1).await;
    let began = Instant::now();
    assert!(proxy.terminate().await.success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    waits.await.unwrap().refused("shutting-down");
}
