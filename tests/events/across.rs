//! Events over several instances on one store (S3, E1).

use std::time::{Duration, Instant};

use super::TOOL;
use crate::harness::ground::Ground;
use crate::harness::proxy::one_route;
use crate::harness::{Agent, Events, Gate, Proxy, Reply, Upstream};

async fn pair(ground: &Ground, upstream: &Upstream) -> (Proxy, Proxy) {
    let (url, lines) = (ground.url(), ground.lines());
    let text = format!(
        "[store]\nurl = \"{url}\"\n{lines}alive = \"2s\"\n[limits]\nstore = \"4s\"\n{}",
        one_route(&upstream.url(), TOOL)
    );
    (Proxy::start(&text).await, Proxy::start(&text).await)
}

// S3, E1: a write through one is told on the other at once, in one order on all, and who resumes may do so anywhere
pub(super) async fn events_are_one_line_on_all(store: &str) {
    const EACH: usize = 30;
    let (upstream, ground) = (Upstream::start().await, Ground::of(store).await);
    let (one, two) = pair(&ground, &upstream).await;
    let (mut here, mut there) = (Events::open(&one, "").await, Events::open(&two, "").await);
    let start = there.last_id.clone();
    let mut took = Vec::new();
    for n in 0..5 {
        let began = Instant::now();
        Agent::new(&one).post("/x?r=one").key(&format!("one-{n}")).await.is(200);
        assert_eq!(there.next().await.what(), ("changed", "one"));
        took.push(began.elapsed());
    }
    took.sort_unstable();
    // Told so by the other instance: a look from time to time would be slower.
    assert!(took[2] < Duration::from_millis(500), "{took:?}");
    here.some(5).await;
    let writers = [&one, &two, &one, &two].into_iter().enumerate().map(|(w, proxy)| {
        let agent = Agent::new(proxy);
        tokio::spawn(async move {
            for n in 0..EACH {
                agent.post(&format!("/x?r={w}")).key(&format!("{w}-{n}")).await.is(200);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let all = here.some(4 * EACH).await;
    assert_eq!(there.some(4 * EACH).await, all);
    for w in 0..4 {
        assert_eq!(all.iter().filter(|told| told.subject == w.to_string()).count(), EACH, "of {w}");
    }
    let mut again = Events::behind(&two, "", &all[EACH].id).await;
    assert_eq!(again.some(3 * EACH - 1).await, all[EACH + 1..]);
    let mut again = Events::behind(&one, "?resource=3", &start).await;
    let third: Vec<_> = all.into_iter().filter(|told| told.subject == "3").collect();
    assert_eq!(again.some(EACH).await, third);
}

// S3, E1: a write that was out when its instance died is told by whoever finds it, once
pub(super) async fn what_an_instance_left_unknown_is_told_once(store: &str) {
    let (upstream, ground) = (Upstream::start().await, Ground::of(store).await);
    let (mut one, two) = pair(&ground, &upstream).await;
    let mut events = Events::open(&two, "").await;
    let gate = Gate::closed();
    upstream.next(Reply::ok("late").held(&gate));
    let lost = tokio::spawn(Agent::new(&one).post("/x?r=lost").key("lost").try_send());
    upstream.received(1).await;
    one.kill();
    assert!(lost.await.unwrap().is_err());
    gate.open();
    assert_eq!(events.next().await.what(), ("unknown", "lost"));
    one.restart().await;
    Agent::new(&two).post("/x?r=new").key("new").await.is(200);
    assert_eq!(events.next().await.what(), ("changed", "new"));
}
