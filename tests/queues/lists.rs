//! Tasks from an upstream's list.

use std::time::{Duration, Instant};

use serde_json::json;

use super::board::Board;
use super::drained::{Away, EACH, KILLS, Server, Source, drains};
use super::{Claim, asks, claims, none};
use crate::harness::relay::Relay;
use crate::harness::{Agent, Proxy, Raw, Reply, Upstream, within};

// J2: woken, and the list is read by one, however many wait
#[tokio::test]
async fn one_reader_serves_all_who_wait() {
    let board = Board::with(0).await;
    let proxy = board.proxy("poll = \"500ms\"").await;
    let agents: Vec<_> = (0..16).map(|_| Agent::new(&proxy)).collect();
    let waits: Vec<_> = (0..16)
        .map(|n| agents[n].post("/.onceward/queues/tasks/claim").key(&format!("{n}")).wait(15).spawn())
        .collect();
    board.upstream.arrived(1).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(board.reads() <= 8, "16 who wait read the list {} times", board.reads());
    let added = Instant::now();
    (1..=16).for_each(|id| board.add(id));
    let mut got = Vec::new();
    for wait in waits {
        got.push(Claim::of(&wait.await.unwrap()).task["id"].as_u64().expect("an id"));
    }
    println!("16 who wait have a task {:?} after it was there, with poll = 500ms", added.elapsed());
    got.sort_unstable();
    assert_eq!(got, (1..=16).collect::<Vec<u64>>());
    // Nobody waits any more: it is left alone.
    let reads = board.reads();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(board.reads(), reads);
}

// J2: first come first served
#[tokio::test]
async fn who_came_first_is_served_first() {
    let board = Board::with(0).await;
    let proxy = board.proxy("poll = \"100ms\"").await;
    let mut waits = Vec::new();
    for n in 0..5 {
        let agent = Agent::new(&proxy);
        waits.push(agent.post("/.onceward/queues/tasks/claim").key(&format!("{n}")).wait(15).spawn());
        asks(&agent, &format!("{n}")).await;
    }
    (1..=5).for_each(|id| board.add(id));
    for (n, wait) in waits.into_iter().enumerate() {
        assert_eq!(Claim::of(&wait.await.unwrap()).task["id"], json!(n + 1));
    }
}

// J2, Q2: a task for who is gone goes to the next
#[tokio::test]
async fn who_left_the_line_gets_no_task() {
    let board = Board::with(0).await;
    let proxy = board.proxy("poll = \"100ms\"").await;
    let agent = Agent::new(&proxy);
    let mut gone = Raw::connect(&proxy).await;
    gone.send(
        "POST /.onceward/queues/tasks/claim HTTP/1.1\r\nHost: a\r\nIdempotency-Key: gone\r\nPrefer: wait=20\r\n\
         Content-Length: 0\r\n\r\n",
    )
    .await;
    board.upstream.arrived(1).await;
    let waits = agent.post("/.onceward/queues/tasks/claim").key("b").wait(15).spawn();
    asks(&agent, "b").await;
    gone.reset();
    // Its key is free again.
    within("Onceward to see that it has gone", async {
        while agent.get("/.onceward/operations/gone").await.status != 404 {}
    })
    .await;
    board.add(1);
    assert_eq!(Claim::of(&waits.await.unwrap()).task["id"], json!(1));
}

// J2: nothing is claimed where the list cannot be had
#[tokio::test]
async fn a_list_that_cannot_be_had_is_said() {
    let upstream = Upstream::start().await;
    let queue = |source: &str, lines: &str| {
        format!(
            "[server]\n\n[[routes]]\npath = \"/{{*path}}\"\nupstream = \"{source}\"\n\n[[queues]]\nname = \"tasks\"\n\
             source = \"{source}\"\nlist = \"GET /tasks\"\n{lines}\n"
        )
    };
    let proxy = Proxy::start(&queue(&upstream.url(), "")).await;
    let agent = Agent::new(&proxy);
    for reply in [Reply::ok("no json"), Reply::ok("{}"), Reply::new(503), Reply::new(200).close()] {
        upstream.next(reply);
    }
    for n in 0..4 {
        let answer = agent.post("/.onceward/queues/tasks/claim").key("a").wait(5).await;
        let problem = answer.refused("upstream-unreachable");
        assert_eq!(problem.executed, "no", "{n}");
    }
    // What has no usable identity is left out, and the rest is there.
    upstream.next(Reply::ok("[{\"id\": \"\"}, {\"no\": 1}, 7, {\"id\": \"a/b \\\"c\\\"\"}]"));
    assert_eq!(claims(&agent, "a").await.task, json!({"id": "a/b \"c\""}));
}

// J2: what Onceward itself sends
#[tokio::test]
async fn calls_carry_the_configured_fields_and_the_identity_as_it_is_spelled_there() {
    let upstream = Upstream::start().await;
    let text = format!(
        "[server]\n\n[[routes]]\npath = \"/{{*path}}\"\nupstream = \"{0}\"\n\n[[queues]]\nname = \"my tasks\"\n\
         source = \"{0}\"\nlist = \"GET /tasks?x=1\"\nid = \"/name\"\nheaders = {{ Authorization = \"Bearer t\" }}\n\
         done = \"POST /tasks/{{id}}/close\"\ndone_body = '{{\"of\":\"{{id}}\"}}'\n",
        upstream.url()
    );
    let proxy = Proxy::start(&text).await;
    let agent = Agent::new(&proxy);
    upstream.next(Reply::ok("[{\"name\": \"a/b \\\"c\\\"\"}]"));
    let answer = agent.post("/.onceward/queues/my%20tasks/claim").key("a").await;
    let claim = Claim::of(&answer);
    agent.post(&format!("/.onceward/queues/my%20tasks/claims/{}/ack", claim.claim)).await.is(204);
    let seen = upstream.arrived(2).await;
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("GET", "/tasks?x=1"));
    assert_eq!((seen[1].method.as_str(), seen[1].target.as_str()), ("POST", "/tasks/a%2Fb%20%22c%22/close"));
    assert_eq!(seen[1].text(), "{\"of\":\"a/b \\\"c\\\"\"}");
    for call in &seen {
        assert_eq!(call.field("authorization").as_deref(), Some("Bearer t"));
    }
    let shown = Agent::admin(&proxy).get("/config").await.is(200).text();
    assert!(!shown.contains("Bearer t") && shown.contains("my tasks"), "{shown}");
}

// J2: told at least once
#[tokio::test]
async fn an_upstream_that_missed_it_is_told_again() {
    let board = Board::with(1).await;
    let proxy = board.proxy("done = \"PATCH /tasks/{id}\"\ndone_body = '{\"status\":\"done\"}'").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    board.upstream.next(Reply::new(500));
    agent.post(&claim.path("ack")).await.is(204);
    assert_eq!(board.status(1), "open");
    none(&agent, "b").await;
    within("the upstream to be told again", async {
        while board.status(1) != "done" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

// J2, J3: until it was absent, and at least for done_for; its acknowledgment counts as long, and under a key longer
#[tokio::test]
async fn an_acknowledged_task_comes_again_only_after_it_was_gone() {
    let board = Board::with(1).await;
    let proxy = board.proxy("done_for = \"1s\"\npoll = \"100ms\"").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    let acked = agent.post(&claim.path("ack")).key("ack").await;
    acked.is(204);
    // It stays in the list, and is not handed out however long that is.
    agent.post("/.onceward/queues/tasks/claim").key("b").wait(3).await.is(204);
    agent.post(&claim.path("ack")).await.is(204);
    board.remove(1);
    agent.post("/.onceward/queues/tasks/claim").key("c").wait(1).await.is(204);
    board.add(1);
    let again = claims(&agent, "d").await;
    assert_eq!((again.task["id"].clone(), again.attempt), (json!(1), 1));
    assert!(again.fence > claim.fence);
    // What it was before is forgotten by now, but for what its key says.
    agent.post(&claim.path("ack")).await.refused("claim-lost");
    agent.post(&claim.path("ack")).key("ack").await.replays(&acked);
}

// J3: gone and back within done_for it stays away that long
#[tokio::test]
async fn an_acknowledged_task_stays_away_for_a_while() {
    let board = Board::with(1).await;
    let proxy = board.proxy("done_for = \"2s\"\npoll = \"100ms\"").await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    agent.post(&claim.path("ack")).await.is(204);
    let acked = Instant::now();
    board.remove(1);
    agent.post("/.onceward/queues/tasks/claim").key("b").wait(1).await.is(204);
    board.add(1);
    assert_eq!(claims(&agent, "c").await.task["id"], json!(1));
    assert!(acked.elapsed() >= Duration::from_millis(1900), "{:?}", acked.elapsed());
}

// C3: a queue that stays as it is goes on
#[tokio::test]
async fn who_waits_waits_over_a_reload() {
    let board = Board::with(0).await;
    let proxy = board.proxy("poll = \"100ms\"").await;
    let agent = Agent::new(&proxy);
    let waits = agent.post("/.onceward/queues/tasks/claim").key("a").wait(15).spawn();
    board.upstream.arrived(1).await;
    let more =
        "poll = \"100ms\"\n[[queues]]\nname = \"more\"\nsource = \"http://127.0.0.1:9\"\nlist = \"GET /\"";
    proxy.rewrite(&board.config(more));
    proxy.signal("HUP");
    proxy.logged(&["the configuration was reloaded"]).await;
    board.add(1);
    assert_eq!(Claim::of(&waits.await.unwrap()).task["id"], json!(1));
    agent.post("/.onceward/queues/more/claim").key("b").await.refused("upstream-unreachable");
}

/// A board that hears what is done, and can be away.
struct Listed {
    board: Board,
    relay: Relay,
}

impl Listed {
    async fn with(tasks: u32) -> Listed {
        let board = Board::with(tasks).await;
        let relay = Relay::to(board.upstream.address(), 1).await;
        Listed { board, relay }
    }
}

impl Server for Listed {
    async fn goes(&mut self, how: Away) {
        match how {
            Away::Killed => {
                self.relay.moves("");
                self.relay.cut_all();
            }
            Away::Hanging => self.relay.holds(true),
        }
    }

    async fn comes_back(&mut self, how: Away) {
        match how {
            Away::Killed => {
                self.board.restart().await;
                self.relay.moves(self.board.upstream.address());
            }
            Away::Hanging => self.relay.holds(false),
        }
    }
}

impl Source for Listed {
    type Server = Listed;

    fn config(&self, lines: &str) -> String {
        let lines = format!(
            "poll = \"100ms\"\ndone = \"PATCH /tasks/{{id}}\"\ndone_body = '{{\"status\":\"done\"}}'\n{lines}"
        );
        self.board.config(&lines).replace(&self.board.upstream.url(), &self.relay.url())
    }

    fn server(&mut self) -> &mut Listed {
        self
    }

    async fn has_heard(&self) {
        within("the board to be told", async {
            while !self.board.open().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

// J2, J3
#[tokio::test]
async fn sixty_four_workers_do_each_task_once() {
    drains(&mut Listed::with(200).await, 200, 64, &[]).await;
}

// J2, J3, S5
#[tokio::test]
async fn eight_workers_do_each_task_once_whatever_ends() {
    drains(&mut Listed::with(100).await, 100, 8, &EACH).await;
}

// J2, J3, S5
#[tokio::test]
async fn sixty_four_workers_do_each_task_once_whatever_ends() {
    drains(&mut Listed::with(200).await, 200, 64, &KILLS).await;
}
