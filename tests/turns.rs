//! Turns: one write at a time on a resource, in the order they came, until all of it has ended (Q1 to Q3, Q5, L3).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::ledger::{Fault, Ledger, Told};
use crate::harness::{Agent, Gate, Proxy, Raw, Reply, Upstream, proxied};

const ONE: &str = "guard = \"tool\"\nresource = \"one\"";

/// A write on the wire under that key; the answer is not read.
async fn raw_write(proxy: &Proxy, key: &str) -> Raw {
    let mut raw = Raw::connect(proxy).await;
    raw.send(format!("POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: 0\r\n\r\n"))
        .await;
    raw
}

fn keys(upstream: &Upstream) -> Vec<String> {
    upstream.with_method("POST").iter().filter_map(|seen| seen.field("idempotency-key")).collect()
}

// Q1
#[tokio::test]
async fn writes_to_one_resource_go_one_at_a_time_in_their_order() {
    let (upstream, proxy) = proxied(ONE).await;
    let agent = Agent::new(&proxy);
    let gates: Vec<_> = (0..5).map(|_| Gate::closed()).collect();
    for gate in &gates {
        upstream.next(Reply::ok("ok").held(gate));
    }
    let mut writes = Vec::new();
    for n in 0..5 {
        writes.push(agent.post(&format!("/{n}")).key(&n.to_string()).spawn());
        if n == 0 {
            upstream.arrived(1).await;
        } else {
            proxy.waiting(n).await;
        }
    }
    for (n, gate) in gates.iter().enumerate() {
        let seen = upstream.arrived(n + 1).await;
        assert_eq!(seen.len(), n + 1, "two writes at once");
        assert_eq!(seen[n].target, format!("/{n}"), "out of order");
        gate.open();
    }
    for write in writes {
        write.await.unwrap().is(200);
    }
}

// Q1
#[tokio::test]
async fn other_resources_and_reads_are_not_held_up() {
    let (upstream, proxy) = proxied("guard = \"tool\"\nresource = \"{query:r}\"").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("late").held(&gate));
    let first = agent.post("/x?r=1").key("1").spawn();
    upstream.arrived(1).await;
    agent.post("/x?r=2").key("2").await.is(200);
    agent.get("/x?r=1").await.is(200);
    assert!(!first.is_finished());
    gate.open();
    first.await.unwrap().is(200);
}

// Q1
#[tokio::test]
async fn reads_wait_where_an_upstream_shows_half_written_states() {
    let (upstream, proxy) =
        proxied("guard = \"tool\"\nresource = \"{query:r}\"\nqueue.reads = \"wait\"").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("late").held(&gate));
    let write = agent.post("/x?r=1").key("1").spawn();
    upstream.arrived(1).await;
    let mut read = Raw::connect(&proxy).await;
    read.send("GET /x?r=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // Behind it, reads of another resource come through.
    for _ in 0..5 {
        agent.get("/x?r=2").await.is(200);
    }
    assert_eq!(upstream.requests().len(), 6, "a read came through while a write was in flight");
    gate.open();
    write.await.unwrap().is(200);
    read.answer().await.is(200);
    assert_eq!(upstream.requests().last().map(|seen| seen.target.clone()).as_deref(), Some("/x?r=1"));
}

// Q2
#[tokio::test]
async fn a_full_line_is_said_at_once() {
    let (upstream, proxy) = proxied(&format!("{ONE}\nqueue.max_waiting = 1")).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("ok").held(&gate));
    let first = agent.post("/x").key("1").spawn();
    upstream.arrived(1).await;
    let second = agent.post("/x").key("2").spawn();
    proxy.waiting(1).await;
    let problem = agent.post("/x").key("3").await.refused("queue-full");
    assert_eq!(problem.executed, "no");
    gate.open();
    first.await.unwrap().is(200);
    second.await.unwrap().is(200);
    agent.post("/x").key("3").await.is(200).is_first_run();
}

// Q2, W1
#[tokio::test]
async fn a_wait_that_is_over_costs_nothing() {
    let (upstream, proxy) = proxied(&format!("{ONE}\nqueue.max_wait = \"400ms\"")).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("ok").held(&gate));
    let first = agent.post("/x").key("1").spawn();
    upstream.arrived(1).await;
    let start = Instant::now();
    agent.post("/x").key("2").wait(0).await.refused("queue-timeout");
    assert!(start.elapsed() < Duration::from_millis(400), "wait=0 waited");
    let start = Instant::now();
    agent.post("/x").key("2").await.refused("queue-timeout");
    agent.post("/x").key("2").wait(60).await.refused("queue-timeout");
    assert!(start.elapsed() >= Duration::from_millis(800), "it did not wait");
    gate.open();
    first.await.unwrap().is(200);
    agent.post("/x").key("2").await.is(200).is_first_run();
    assert_eq!(keys(&upstream), ["1", "2"]);
}

// Q2
#[tokio::test]
async fn an_agent_that_left_the_line_is_not_forwarded() {
    let (upstream, proxy) = proxied(ONE).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("ok").held(&gate));
    let first = agent.post("/x").key("1").spawn();
    upstream.arrived(1).await;
    let left = raw_write(&proxy, "left").await;
    proxy.waiting(1).await;
    let mut halved = raw_write(&proxy, "halved").await;
    halved.half_close().await;
    proxy.waiting(2).await;
    left.reset();
    proxy.waiting(1).await;
    gate.open();
    first.await.unwrap().is(200);
    // A FIN after a whole request is not leaving.
    halved.answer().await.is(200);
    assert_eq!(keys(&upstream), ["1", "halved"]);
    agent.post("/x").key("left").await.is(200).is_first_run();
}

// Q2, K6, K13
#[tokio::test]
async fn a_reset_stream_leaves_as_a_reset_connection_does() {
    let (upstream, proxy) = proxied(ONE).await;
    let (agent, gate) = (Agent::http2(&proxy), Gate::closed());
    upstream.next(Reply::ok("made").held(&gate));
    let forwarded = agent.post("/x").key("forwarded").spawn();
    upstream.arrived(1).await;
    let left = agent.post("/x").key("left").spawn();
    proxy.waiting(1).await;
    // The other streams of the connection stay.
    left.abort();
    proxy.waiting(0).await;
    forwarded.abort();
    agent.get("/y").await.is(200);
    let waits = agent.post("/x").key("forwarded").wait(10).spawn();
    gate.open();
    let replay = waits.await.unwrap();
    assert_eq!(
        (replay.is(200).text().as_str(), replay.needs("idempotent-replayed").as_str()),
        ("made", "true")
    );
    assert_eq!(keys(&upstream), ["forwarded"]);
    agent.post("/x").key("left").await.is(200).is_first_run();
}

// Q3
#[tokio::test]
async fn a_turn_lasts_until_the_last_byte_has_come() {
    let (upstream, proxy) = proxied(ONE).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("a long answer").chunked().paused_after(6, &gate));
    let first = agent.post("/x").key("1").spawn();
    upstream.arrived(1).await;
    let second = agent.post("/x").key("2").spawn();
    proxy.waiting(1).await;
    assert_eq!(keys(&upstream), ["1"], "a turn that ended with the head");
    gate.open();
    first.await.unwrap().is(200);
    second.await.unwrap().is(200);
}

// Q3, V7
#[tokio::test]
async fn a_turn_lasts_until_the_version_was_read_again() {
    let (upstream, proxy) = proxied("resource = \"/x\"\nversion = \"hash\"").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::new(201).body("made")).next(Reply::ok("ok").held(&gate));
    let first = agent.post("/x").key("1").spawn();
    upstream.arrived(2).await;
    let second = agent.post("/x").key("2").spawn();
    proxy.waiting(1).await;
    assert_eq!(keys(&upstream), ["1"], "a turn that ended before its refresh");
    gate.open();
    first.await.unwrap().is(201).needs("onceward-version");
    second.await.unwrap().is(200);
}

// Q3
#[tokio::test]
async fn a_vanished_agent_does_not_end_its_turn() {
    let (upstream, proxy) = proxied(ONE).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("ok").held(&gate));
    let first = raw_write(&proxy, "1").await;
    upstream.arrived(1).await;
    first.reset();
    let second = agent.post("/x").key("2").spawn();
    proxy.waiting(1).await;
    assert_eq!(keys(&upstream), ["1"], "a turn that ended when its agent left");
    gate.open();
    second.await.unwrap().is(200);
}

// Q3
#[tokio::test]
async fn an_agent_that_takes_nothing_holds_no_turn() {
    let (upstream, proxy) = proxied(&format!("{ONE}\n[limits]\nwrite_time = \"300ms\"")).await;
    let stream = Reply::ok("x".repeat(64 << 20)).field("Content-Type", "text/event-stream");
    upstream.next(stream);
    let mut raw = Raw::with_small_window(&proxy).await;
    raw.send("POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nContent-Length: 0\r\n\r\n").await;
    upstream.arrived(1).await;
    let agent = Agent::new(&proxy);
    agent.post("/x").key("2").await.is(200);
    // The rest was read and dropped, so the record knows that it ended well.
    agent.post("/x").key("1").await.refused("response-not-kept");
    assert_eq!(keys(&upstream), ["1", "2"]);
}

// Q5
#[tokio::test]
async fn a_resource_rests_after_an_unknown_outcome() {
    let (upstream, proxy) = proxied(&format!("{ONE}\nidempotency.settle = \"1s\"")).await;
    let agent = Agent::new(&proxy);
    upstream.next(Reply::ok("lost").cut());
    agent.post("/x").key("1").await.refused("upstream-broke-off");
    let start = Instant::now();
    let problem = agent.post("/x").key("2").wait(0).await.refused("queue-timeout");
    assert!(
        problem.detail.to_lowercase().contains("unknown") || problem.detail.contains("rest"),
        "{}",
        problem.detail
    );
    agent.get("/x").await.is(200);
    assert_eq!(keys(&upstream), ["1"]);
    agent.post("/x").key("2").await.is(200);
    assert!(start.elapsed() >= Duration::from_millis(800), "the rest was cut short");

    let (upstream, proxy) = proxied(&format!("{ONE}\nidempotency.settle = \"0s\"")).await;
    let agent = Agent::new(&proxy);
    upstream.next(Reply::ok("lost").cut());
    agent.post("/x").key("1").await.refused("upstream-broke-off");
    agent.post("/x").key("2").wait(0).await.is(200);
}

// Q5, O4
#[tokio::test]
async fn an_operators_resolution_ends_the_rest() {
    let (upstream, proxy) = proxied(&format!("{ONE}\nidempotency.settle = \"60s\"")).await;
    let agent = Agent::new(&proxy);
    upstream.next(Reply::ok("lost").cut());
    let lost = agent.post("/x").key("1").await.refused("upstream-broke-off");
    let id = lost.json["operation"].as_str().expect("an operation").to_owned();
    agent.post("/x").key("2").wait(0).await.refused("queue-timeout");
    let resolution = json!({"as": "not-executed", "who": "ann", "why": "the table has no row"});
    Agent::admin(&proxy).post(&format!("/operations/{id}/resolve")).json(&resolution).await;
    agent.post("/x").key("2").wait(0).await.is(200);
    agent.post("/x").key("1").await.is(200).is_first_run();
}

// L3, Q1
#[tokio::test]
async fn fences_grow_with_every_write_that_takes_a_turn() {
    let (upstream, proxy) = proxied("guard = \"tool\"\nresource = \"{query:r}\"").await;
    let agent = Agent::new(&proxy);
    for n in 0..10 {
        agent
            .post(&format!("/x?r={}", n % 2))
            .key(&n.to_string())
            .header("onceward-fence", "9")
            .await
            .is(200);
    }
    for resource in ["/x?r=0", "/x?r=1"] {
        let seen = upstream.requests().into_iter().filter(|seen| seen.target == resource);
        let fences: Vec<u64> =
            seen.map(|seen| seen.field("onceward-fence").unwrap().parse().unwrap()).collect();
        assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "{fences:?}");
        assert!(fences.iter().all(|fence| *fence < 1 << 53), "{fences:?}");
    }
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    Agent::new(&proxy).post("/x").key("1").await.is(200);
    assert!(!upstream.requests()[0].head.has("onceward-fence"), "a fence without a turn");
}

// L3, S2
#[tokio::test]
async fn fences_grow_across_a_restart() {
    let (upstream, mut proxy) = proxied(ONE).await;
    for n in 0..3 {
        Agent::new(&proxy).post("/x").key("k").await.is(200).is_first_run();
        if n < 2 {
            proxy.kill();
            proxy.restart().await;
        }
    }
    let fences =
        upstream.requests().into_iter().map(|seen| seen.field("onceward-fence").unwrap().parse().unwrap());
    let fences: Vec<u64> = fences.collect();
    assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "{fences:?}");
}

// Q1, K4, K7, K11, F4
#[tokio::test]
async fn a_crowd_on_one_counter_loses_and_doubles_nothing() {
    let ledger =
        Ledger::with(true, |seen| match seen.body.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 5 {
            0 if seen.method == "POST" => Fault::Slow(Duration::from_millis(2)),
            1 if seen.method == "POST" => Fault::Drop,
            2 if seen.method == "POST" => Fault::Cut,
            _ => Fault::None,
        });
    let ledger = ledger.await;
    let proxy = Proxy::route(
        &ledger.upstream,
        "guard = \"tool\"\nresource = \"{path}\"\nidempotency.settle = \"0s\"",
    );
    let proxy = proxy.await;
    let mut crowd = tokio::task::JoinSet::new();
    for agent_number in 0..8 {
        let agent = Agent::named(&proxy, &agent_number.to_string());
        crowd.spawn(async move {
            let mut told = Vec::new();
            for n in 0..10 {
                let key = format!("{agent_number}-{n}");
                for _ in 0..3 {
                    let answer = agent.post("/counter").key(&key).json(&json!({"add": 1, "tag": key})).await;
                    told.push(Told::now(&key, &answer));
                }
            }
            told
        });
    }
    let told: Vec<_> = crowd.join_all().await.into_iter().flatten().collect();
    ledger.check(&told);
    assert_eq!(ledger.effects().len(), 80);
    assert_eq!(ledger.document("/counter"), Some(json!({"value": 80})));
}
