//! Tasks from a Redis Stream, on a real server.

use std::time::{Duration, Instant};

use serde_json::json;

use super::ack_with_write::is_one_with_its_write;
use super::drained::{EACH, KILLS, Source, drains};
use super::{Claim, claims, none, routed};
use crate::harness::servers::redis::certificates::Certificates;
use crate::harness::servers::redis::{Redis, Said};
use crate::harness::{Agent, Proxy, Upstream, within};

const CLAIM: &str = "/.onceward/queues/tasks/claim";

fn config(redis: &Redis, lines: &str) -> String {
    format!(
        "[server]\n\n[[routes]]\npath = \"/x\"\nupstream = \"http://127.0.0.1:9\"\n\n[[queues]]\nname = \"tasks\"\n\
         source = \"{}\"\nstream = \"tasks\"\n{lines}\n",
        redis.url()
    )
}

async fn add(redis: &Redis, id: u32) {
    redis.ask(&["XADD", "tasks", "*", "task", &json!({"id": id}).to_string()]).await;
}

/// How many entries the group was given and nobody acknowledged.
async fn pending(redis: &Redis) -> i64 {
    match redis.ask(&["XPENDING", "tasks", "onceward"]).await {
        Said::List(said) => match said[0] {
            Said::Number(number) => number,
            _ => panic!("{said:?}"),
        },
        said => panic!("{said:?}"),
    }
}

// J2, J3
#[tokio::test]
async fn a_stream_hands_out_its_entries() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(&config(&redis, "visibility = \"600ms\"")).await;
    let agent = Agent::new(&proxy);
    none(&agent, "none").await;
    add(&redis, 1).await;
    add(&redis, 2).await;
    add(&redis, 3).await;
    let first = claims(&agent, "a").await;
    assert_eq!((first.task.clone(), first.attempt), (json!({"id": 1}), 1));
    let second = claims(&agent, "b").await;
    assert_eq!(second.task, json!({"id": 2}));
    assert_eq!(pending(&redis).await, 2, "what nobody claimed stays where it is");
    agent.post(&first.path("ack")).await.is(204);
    within("the stream to be told", async {
        while pending(&redis).await != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(claims(&agent, "c").await.task, json!({"id": 3}));
    // Nobody acknowledges the second in time.
    let again = claims(&agent, "d").await;
    assert_eq!((again.task.clone(), again.attempt), (json!({"id": 2}), 2));
    assert!(again.fence > second.fence);
    agent.post(&second.path("ack")).await.refused("claim-lost");
    agent.post(&again.path("ack")).await.is(204);

    let put = agent.post("/.onceward/queues/tasks/tasks").key("p").json(&json!({"id": 4})).await;
    let id = put.is(201).json()["id"].as_str().expect("an id").to_owned();
    agent.post("/.onceward/queues/tasks/tasks").key("p").json(&json!({"id": 4})).await.replays(&put);
    let Said::List(there) = redis.ask(&["XRANGE", "tasks", &id, &id]).await else { panic!("a list") };
    assert_eq!(there.len(), 1);
}

// J3: an instance that is killed takes no task with it.
#[tokio::test]
async fn a_killed_instance_costs_one_visibility() {
    let redis = Redis::start().await;
    let lines = "visibility = \"1s\"";
    let mut proxy = Proxy::start(&config(&redis, lines)).await;
    add(&redis, 1).await;
    claims(&Agent::new(&proxy), "a").await;
    proxy.kill();
    let began = Instant::now();
    let proxy = Proxy::start(&config(&redis, lines)).await;
    let claim = claims(&Agent::new(&proxy), "a").await;
    assert_eq!(claim.task, json!({"id": 1}));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

// J3
#[tokio::test]
async fn a_dead_task_goes_to_its_stream() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(&config(&redis, "max_attempts = 1\ndead_letter = \"tasks.dead\"")).await;
    let agent = Agent::new(&proxy);
    add(&redis, 1).await;
    let claim = claims(&agent, "a").await;
    agent.post(&claim.path("release")).await.is(204);
    within("the task to be in its place", async {
        while redis.ask(&["XLEN", "tasks.dead"]).await != Said::Number(1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(pending(&redis).await, 0);
    none(&agent, "b").await;
}

// J2: woken, not polled
#[tokio::test]
async fn an_entry_wakes_who_waits() {
    let redis = Redis::start().await;
    let proxy = Proxy::start(&config(&redis, "")).await;
    let agent = Agent::new(&proxy);
    let mut waits = Vec::new();
    for n in 0..20 {
        let wait = agent.post(CLAIM).key(&format!("{n}")).wait(15).spawn();
        // In its wait, somewhere between two looks.
        redis.reaches("blocked_clients", "1").await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..60))).await;
        let added = Instant::now();
        add(&redis, n).await;
        Claim::of(&wait.await.unwrap());
        waits.push(added.elapsed());
    }
    waits.sort_unstable();
    println!("woken by an entry after {:?} in the middle, {:?} at the most", waits[10], waits[19]);
    assert!(waits[10] < Duration::from_millis(500), "{waits:?}");
}

// J2, K7
#[tokio::test]
async fn an_entry_is_done_with_its_write() {
    let (redis, upstream) = (Redis::start().await, Upstream::start().await);
    let proxy = Proxy::start(&routed(&config(&redis, ""), &upstream)).await;
    none(&Agent::new(&proxy), "none").await;
    add(&redis, 1).await;
    let hears = async |done: bool| {
        within("the stream to be as it is", async { while pending(&redis).await != i64::from(!done) {} })
            .await;
    };
    is_one_with_its_write(&proxy, &upstream, hears).await;
}

// J2: `rediss://`, by the roots that the process is given
#[tokio::test]
async fn a_stream_within_tls_hands_out_its_entries() {
    let (ours, others) = (Certificates::made_for(None), Certificates::made_for(None));
    let redis = Redis::within_tls(ours.folder(), &["save", ""]).await;
    let proxy = Proxy::trusting(&ours.authority(), &config(&redis, "")).await.expect("a proxy");
    add(&redis, 1).await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    assert_eq!(claim.task, json!({"id": 1}));
    agent.post(&claim.path("ack")).await.is(204);
    let proxy = Proxy::trusting(&others.authority(), &config(&redis, "")).await.expect("a proxy");
    let refused = Agent::new(&proxy).post(CLAIM).key("b").await.refused("upstream-unreachable");
    assert!(refused.detail.contains("certificate"), "{}", refused.detail);
}

/// One with so many tasks, and all that the server confirmed after it was away.
async fn filled(tasks: u32) -> Redis {
    let redis = Redis::durable().await;
    for id in 0..tasks {
        add(&redis, id).await;
    }
    redis
}

impl Source for Redis {
    type Server = Redis;

    fn config(&self, lines: &str) -> String {
        config(self, lines)
    }

    fn server(&mut self) -> &mut Redis {
        self
    }

    async fn has_heard(&self) {
        within("the stream to be told", async {
            while pending(self).await != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

// J2, J3, S5
#[tokio::test]
async fn eight_workers_do_each_entry_once_whatever_ends() {
    drains(&mut filled(100).await, 100, 8, &EACH).await;
}

// J2, J3, S5
#[tokio::test]
async fn sixty_four_workers_do_each_entry_once_whatever_ends() {
    drains(&mut filled(200).await, 200, 64, &KILLS).await;
}
