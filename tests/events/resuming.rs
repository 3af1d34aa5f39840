//! Readers that come back, and what they are given (E1, S5).

use std::time::{Duration, Instant};

use super::{TOOL, on, whats};
use crate::harness::ground::Ground;
use crate::harness::{Agent, Events, Gate, Reply, Upstream};

// E1: resumed behind any event, a reader gets exactly the rest, however it was interrupted
pub(super) async fn a_reader_resumes_where_it_was(store: &str) {
    let upstream = Upstream::start().await;
    let ground = Ground::of(store).await;
    let proxy = on(&ground, &upstream, "", TOOL).await;
    let agent = Agent::new(&proxy);
    let mut events = Events::open(&proxy, "").await;
    let mut ids = vec![events.last_id.clone()];
    for n in 0..150 {
        agent.post(&format!("/x?r={n}")).key(&n.to_string()).await.is(200);
    }
    let all = events.some(150).await;
    ids.extend(all.iter().map(|told| told.id.clone()));
    // A store is asked for a page at a time, and three of these it takes here.
    let step = if store == "memory" { 1 } else { 15 };
    for (at, id) in ids.iter().enumerate().step_by(step) {
        let mut again = Events::behind(&proxy, "", id).await;
        assert_eq!(again.last_id, *id);
        assert_eq!(again.some(150 - at).await, all[at..], "behind {at}");
    }
    // And then what is new, at once.
    let mut again = Events::behind(&proxy, "", &ids[0]).await;
    assert_eq!(again.some(150).await, all);
    let began = Instant::now();
    agent.post("/x?r=new").key("new").await.is(200);
    let new = again.next().await;
    assert_eq!(new.what(), ("changed", "new"));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(events.next().await, new);
    // Only what it asks for, also from what was before.
    let mut some = Events::behind(&proxy, "?resource=7&resource=120&type=onceward.changed", &ids[0]).await;
    assert_eq!(whats(&some.some(2).await), [("changed", "7"), ("changed", "120")]);
}

// E1: while others write a reader comes and goes, and neither misses an event nor gets one twice
pub(super) async fn nothing_is_lost_between_then_and_now(store: &str) {
    let upstream = Upstream::start().await;
    let ground = Ground::of(store).await;
    let proxy = on(&ground, &upstream, "", TOOL).await;
    let mut whole = Events::open(&proxy, "").await;
    let mut last = whole.last_id.clone();
    let each = if store == "memory" { 100 } else { 40 };
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let agent = Agent::new(&proxy);
            tokio::spawn(async move {
                for n in 0..each {
                    agent.post(&format!("/x?r={w}")).key(&format!("{w}-{n}")).await.is(200);
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    for visit in 0.. {
        if seen.len() == 4 * each {
            break;
        }
        let mut events = Events::behind(&proxy, "", &last).await;
        let count = (visit % 7 + 1).min(4 * each - seen.len());
        seen.extend(events.some(count).await);
        last.clone_from(&events.last_id);
    }
    assert_eq!(seen, whole.some(4 * each).await);
    for writer in writers {
        writer.await.unwrap();
    }
}

// E1, S5: after kill -9 a reader gets each event exactly once, in order; on a store that forgets it is told so
pub(super) async fn a_crash_loses_no_event(store: &str) {
    let upstream = Upstream::start().await;
    let ground = Ground::of(store).await;
    let mut proxy = on(&ground, &upstream, "", &format!("{TOOL}\nidempotency.settle = \"0s\"")).await;
    let agent = Agent::new(&proxy);
    let mut events = Events::open(&proxy, "").await;
    let start = events.last_id.clone();
    for n in 0..20 {
        agent.post(&format!("/x?r={n}")).key(&n.to_string()).await.is(200);
    }
    let before = events.some(20).await;
    let gate = Gate::closed();
    upstream.next(Reply::ok("late").held(&gate));
    let lost = tokio::spawn(agent.post("/x?r=lost").key("lost").try_send());
    upstream.received(21).await;
    proxy.kill();
    assert!(lost.await.unwrap().is_err());
    gate.open();
    proxy.restart().await;
    if matches!(ground, Ground::Memory) {
        let gone = Events::ask(&proxy, "", &[("Last-Event-ID", &before[9].id)]).await;
        gone.err().expect("a refusal").refused("gone");
        return;
    }
    let mut again = Events::behind(&proxy, "", &start).await;
    assert_eq!(again.some(20).await, before);
    assert_eq!(again.next().await.what(), ("unknown", "lost"));
    Agent::new(&proxy).post("/x?r=new").key("new").await.is(200);
    assert_eq!(again.next().await.what(), ("changed", "new"));
    let mut later = Events::behind(&proxy, "", &before[9].id).await;
    assert_eq!(later.some(10).await, before[10..]);
}
