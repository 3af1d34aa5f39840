//! Claims on stores that outlive their instance or are shared by several (J2, J3, S3, S5).

use std::time::{Duration, Instant};

use serde_json::json;

use super::board::Board;
use super::crew::{self, Crew};
use super::{Claim, asks, claims, none};
use crate::harness::ground::{Ground, on_each_store};
use crate::harness::{Agent, Proxy, within};

const CLAIM: &str = "/.onceward/queues/tasks/claim";
/// A board hears what is done.
const TOLD: &str = "done = \"PATCH /tasks/{id}\"\ndone_body = '{\"status\":\"done\"}'";

/// One more instance on that store.
async fn on(ground: &Ground, board: &Board, lines: &str) -> Proxy {
    let (url, more) = (ground.url(), ground.lines());
    Proxy::start(&format!("[store]\nurl = \"{url}\"\nalive = \"2s\"\n{more}{}", board.config(lines))).await
}

// J2, J3: a task's whole life: claimed, claimed again after its time, acknowledged with a write, dead
async fn a_task_lives_on_it(store: &str) {
    let (board, ground) = (Board::with(2).await, Ground::of(store).await);
    let proxy = on(&ground, &board, "visibility = \"1s\"\nmax_attempts = 2").await;
    let (one, two) = (Agent::named(&proxy, "one"), Agent::named(&proxy, "two"));
    let first = claims(&one, "a").await;
    one.post(CLAIM).key("a").await.is(200).is_replay();
    two.post(&first.path("ack")).await.refused("not-found");
    let kept = claims(&two, "a").await;
    two.post(&kept.path("extend")).json(&json!({"visibility": "60s"})).await.is(200);
    let second = claims(&two, "b").await;
    assert_eq!((second.task.clone(), second.attempt), (first.task.clone(), 2));
    assert!(second.fence > first.fence, "{second:?} after {first:?}");
    one.post(&first.path("ack")).await.refused("claim-lost");
    two.post(&second.path("release")).await.is(204);
    let admin = Agent::admin(&proxy);
    within("the task to be dead", async {
        let dead = json!([{"task": second.task, "attempt": 2}]);
        while admin.get("/queues/tasks/dead").await.is(200).json()["tasks"] != dead {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // With the write that finishes it, in one commit.
    let write = json!({"write": {"method": "PATCH", "path": "/tasks/2", "body": {"status": "done"}}});
    let acked = two.post(&kept.path("ack")).key("w").json(&write).await;
    assert_eq!((acked.is(200).json(), board.status(2)), (json!({"changed": true}), "done".to_owned()));
    two.post(&kept.path("ack")).key("w").json(&write).await.replays(&acked);
    two.post(&kept.path("release")).await.refused("claim-lost");
    none(&one, "c").await;
}

// J2, J3, S5: what was claimed stays so, and only its holder may end it
#[tokio::test]
async fn claims_live_on_after_a_kill() {
    let (board, ground) = (Board::with(4).await, Ground::of("disk").await);
    let mut proxy = on(&ground, &board, &format!("visibility = \"30s\"\n{TOLD}")).await;
    let holder = Agent::named(&proxy, "holder");
    let (first, second) = (claims(&holder, "1").await, claims(&holder, "2").await);
    holder.post(&second.path("release")).await.is(204);
    let again = claims(&holder, "3").await;
    assert_eq!((again.task.clone(), again.attempt), (second.task.clone(), 2));
    let (short, done) = (claims(&holder, "4").await, claims(&holder, "5").await);
    holder.post(&done.path("ack")).await.is(204);
    holder.post(&short.path("extend")).json(&json!({"visibility": "1s"})).await.is(200);
    let extended = Instant::now();
    proxy.kill();
    proxy.restart().await;
    let (holder, other) = (Agent::named(&proxy, "holder"), Agent::named(&proxy, "other"));
    // Only that one whose time is over is to be had.
    let taken = claims(&other, "1").await;
    assert!(extended.elapsed() >= Duration::from_millis(950), "{:?}", extended.elapsed());
    assert_eq!((taken.task.clone(), taken.attempt), (short.task.clone(), 2));
    assert!(taken.fence > short.fence.max(done.fence), "{taken:?} after {short:?} and {done:?}");
    none(&other, "2").await;
    holder.post(&short.path("ack")).await.refused("claim-lost");
    other.post(&first.path("ack")).await.refused("not-found");
    assert_eq!(Claim::of(&holder.post(CLAIM).key("1").await).claim, first.claim);
    holder.post(&first.path("ack")).await.is(204);
    holder.post(&done.path("ack")).await.is(204);
    holder.post(&again.path("release")).await.is(204);
    let third = claims(&other, "3").await;
    assert_eq!((third.task.clone(), third.attempt), (second.task.clone(), 3));
    assert!(third.fence > taken.fence, "{third:?} after {taken:?}");
    other.post(&third.path("ack")).await.is(204);
    other.post(&taken.path("ack")).await.is(204);
    within("the board to be told", async {
        while !board.open().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

// J2, J3, S3: every task done, none by two at once, by workers of two instances
async fn workers_of_two_do_each_task_once(store: &str) {
    let (board, ground) = (Board::with(60).await, Ground::of(store).await);
    let lines = format!("{}\npoll = \"100ms\"\n{TOLD}", crew::LINES);
    let (one, two) = (on(&ground, &board, &lines).await, on(&ground, &board, &lines).await);
    Crew::new(&[&one, &two], 60).work(8).await;
    assert_eq!(board.open(), Vec::<u32>::new());
}

// J2, J3, S3, S5: instances are killed in the middle and come back elsewhere, and every task is still done once
async fn workers_outlive_their_instances(store: &str) {
    let (board, ground) = (Board::with(60).await, Ground::of(store).await);
    let lines = format!("{}\npoll = \"100ms\"\n{TOLD}", crew::LINES);
    let mut proxies = vec![on(&ground, &board, &lines).await];
    if ground.address().is_some() {
        proxies.push(on(&ground, &board, &lines).await);
    }
    let crew = Crew::new(&proxies.iter().collect::<Vec<_>>(), 60);
    tokio::join!(crew.work(8), async {
        for done in [15, 35] {
            crew.reaches(done).await;
            let which = usize::from(done == 35) % proxies.len();
            proxies[which].kill();
            crew.feels_an_outage().await;
            proxies[which].restart().await;
            crew.moves(which, &proxies[which]);
        }
    });
    within("the board to be told", async {
        while !board.open().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

// J2, S3: what one instance hands out is held back, taken back and ended on the other
async fn a_claim_is_one_on_all(store: &str) {
    let (board, ground) = (Board::with(1).await, Ground::of(store).await);
    let lines = "poll = \"60s\"";
    let (one, two) = (on(&ground, &board, lines).await, on(&ground, &board, lines).await);
    let agents = [Agent::named(&one, "a"), Agent::named(&two, "a")];
    let mut held = claims(&agents[0], "a").await;
    assert_eq!(Claim::of(&agents[1].post(CLAIM).key("a").await).claim, held.claim);
    let mut took = Vec::new();
    for n in 0..3 {
        let (here, there) = (&agents[n % 2], &agents[(n + 1) % 2]);
        let waits = there.post(CLAIM).key(&format!("{n}")).wait(15).spawn();
        asks(there, &format!("{n}")).await;
        // What a look of its own finds is there by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waits.is_finished(), "it was with two at once");
        let released = Instant::now();
        here.post(&held.path("release")).await.is(204);
        let next = Claim::of(&waits.await.unwrap());
        took.push(released.elapsed());
        assert!(next.fence > held.fence && next.attempt == held.attempt + 1, "{next:?} after {held:?}");
        held = next;
    }
    took.sort_unstable();
    // Told so by the other instance: neither looks of its own accord so soon.
    assert!(took[1] < Duration::from_millis(700), "{took:?}");
    agents[0].post(&held.path("ack")).await.is(204);
    agents[1].post(&held.path("ack")).await.is(204);
    for (n, agent) in agents.iter().enumerate() {
        none(agent, &format!("none-{n}")).await;
    }
}

use self as stores;
on_each_store! { disk = "disk": { stores: a_task_lives_on_it workers_outlive_their_instances; } }
on_each_store! { redis = "redis" postgres = "postgres": {
    stores: a_task_lives_on_it workers_of_two_do_each_task_once workers_outlive_their_instances
    a_claim_is_one_on_all;
} }
