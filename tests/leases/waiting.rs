//! Who waits for a lease, and for what (L1, L4, W1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::harness::{Gate, Raw, Reply};

// L1, W1: woken, not polled
pub(super) async fn who_waits_gets_it_when_it_ends(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, next) = (scene.agent("a"), scene.agent("b"));
    let held = ask(&holder, "one", "k").await;
    let waits = ask(&next, "one", "k").wait(15).spawn();
    scene.proxy.waiting(1).await;
    let given = Instant::now();
    holder.delete(&path(&token(&held))).await.is(204);
    let granted = waits.await.unwrap();
    // A poll would be a second.
    assert!(given.elapsed() < Duration::from_millis(700), "{:?}", given.elapsed());
    assert!(fence(granted.is(201)) > fence(&held));
    assert_eq!(granted.needs("preference-applied"), "wait=10");
    scene.proxy.waiting(0).await;
}

// L1, W1
pub(super) async fn who_does_not_wait_is_told_how_long(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, next) = (scene.agent("a"), scene.agent("b"));
    let held = ask_for(&holder, "one", "k", "40s").await;
    let began = Instant::now();
    for call in [ask(&next, "one", "k"), ask(&next, "one", "k").wait(0), ask(&holder, "one", "again")] {
        let refused = call.await.refused("leased");
        let seconds = refused.json["retry_after"].as_u64().expect("seconds");
        assert!((30..=40).contains(&seconds) && refused.detail.contains("one"), "{}", refused.json);
    }
    assert!(began.elapsed() < Duration::from_secs(1), "it waited: {:?}", began.elapsed());
    let began = Instant::now();
    ask(&next, "one", "k").wait(1).await.refused("leased");
    assert!(began.elapsed() >= Duration::from_millis(900), "it did not wait");
    holder.delete(&path(&token(&held))).await.is(204);
    // Refused, its key is free.
    ask(&next, "one", "k").await.is(201).is_first_run();
}

// L1, Q4
pub(super) async fn first_come_first_served(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let holder = scene.agent("a");
    let mut lease = token(&ask(&holder, "one", "k").await);
    let mut waiting = Vec::new();
    for n in 1..=5 {
        waiting.push(ask(&holder, "one", &format!("w{n}")).wait(20).spawn());
        scene.proxy.waiting(n).await;
    }
    for waits in waiting {
        holder.delete(&path(&lease)).await.is(204);
        lease = token(&waits.await.unwrap());
    }
}

// L1, L4: not before the write that is out has ended
pub(super) async fn no_lease_while_a_write_is_out(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (agent, other, gate) = (scene.agent("a"), scene.agent("b"), Gate::closed());
    scene.upstream.next(Reply::ok("slow").held(&gate));
    let slow = other.post("/x?r=one").key("1").spawn();
    scene.upstream.arrived(1).await;
    ask(&agent, "one", "k").await.refused("queue-timeout");
    let waits = ask(&agent, "one", "k").wait(15).spawn();
    scene.proxy.waiting(1).await;
    assert!(!waits.is_finished());
    gate.open();
    slow.await.unwrap().is(200);
    token(&waits.await.unwrap());
}

// L4, Q5
pub(super) async fn no_lease_while_the_resource_rests(store: &str) {
    let scene = Scene::on(store, &format!("{TOOL}\nidempotency.settle = \"1s\"")).await;
    let (agent, other) = (scene.agent("a"), scene.agent("b"));
    scene.upstream.next(Reply::ok("lost").cut());
    other.post("/x?r=one").key("1").await.refused("upstream-broke-off");
    let began = Instant::now();
    let refused = ask(&agent, "one", "k").await.refused("queue-timeout");
    assert!(refused.detail.contains("rests"), "{}", refused.detail);
    token(&ask(&agent, "one", "k").wait(15).await);
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

// L1, L2, L3: two hundred want one; each holds it alone, and its write goes out while it does
pub(super) async fn many_agents_hold_it_one_at_a_time(store: &str) {
    const MANY: usize = 200;
    let scene =
        Scene::on(store, &format!("{TOOL}\nqueue = {{ max_waiting = 1000, max_wait = \"60s\" }}")).await;
    let holders = Arc::new(AtomicUsize::new(0));
    let agents = (0..MANY).map(|n| {
        let (agent, holders) = (scene.agent(&format!("agent {n}")), Arc::clone(&holders));
        tokio::spawn(async move {
            let granted = loop {
                // Each wait ends before the patience of a client does, and who is late stands in line anew.
                let answer = ask(&agent, "one", "k").wait(9).await;
                if answer.status == 201 {
                    break answer;
                }
                assert_eq!(answer.problem().retry, "same-key");
            };
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it at once");
            write(&agent, "one", "w", &token(&granted)).await.is(200);
            holders.fetch_sub(1, Ordering::SeqCst);
            agent.delete(&path(&token(&granted))).await.is(204);
            fence(&granted)
        })
    });
    let mut fences = BTreeSet::new();
    for agent in agents.collect::<Vec<_>>() {
        fences.insert(agent.await.expect("an agent"));
    }
    assert_eq!(fences.len(), MANY);
    let seen: Vec<u64> = scene
        .upstream
        .with_method("POST")
        .iter()
        .map(|seen| seen.field("onceward-fence").expect("a fence").parse().expect("a number"))
        .collect();
    assert!(seen.iter().eq(&fences), "fences that did not grow: {seen:?}");
}

// L1, Q2: an agent that left is granted nothing
pub(super) async fn who_left_the_line_gets_nothing(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, next) = (scene.agent("a"), scene.agent("b"));
    let held = ask(&holder, "one", "k").await;
    let mut raw = Raw::connect(&scene.proxy).await;
    let body = "{\"resource\":\"one\"}";
    raw.send(format!(
        "POST /.onceward/leases HTTP/1.1\r\nHost: a\r\nIdempotency-Key: left\r\nPrefer: wait=15\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    scene.proxy.waiting(1).await;
    let waits = ask(&next, "one", "k").wait(15).spawn();
    scene.proxy.waiting(2).await;
    raw.reset();
    scene.proxy.waiting(1).await;
    holder.delete(&path(&token(&held))).await.is(204);
    token(&waits.await.unwrap());
}

// L1, Q2
pub(super) async fn a_full_line_is_said(store: &str) {
    let scene = Scene::on(store, &format!("{TOOL}\nqueue.max_waiting = 1")).await;
    let holder = scene.agent("a");
    let held = ask(&holder, "one", "k").await;
    let first = ask(&holder, "one", "1").wait(15).spawn();
    scene.proxy.waiting(1).await;
    let second = ask(&holder, "one", "2").wait(15).spawn();
    scene.proxy.waiting(2).await;
    ask(&holder, "one", "3").wait(15).await.refused("queue-full");
    holder.delete(&path(&token(&held))).await.is(204);
    let next = token(&first.await.unwrap());
    holder.delete(&path(&next)).await.is(204);
    token(&second.await.unwrap());
}
