//! Leases over several instances on one store (S3, Q4, L1 to L4).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::harness::{Gate, Reply, within};

struct Pair {
    upstream: Upstream,
    one: Proxy,
    two: Proxy,
    _ground: Ground,
}

impl Pair {
    async fn on(store: &str, lines: &str) -> Pair {
        let (upstream, ground) = (Upstream::start().await, Ground::of(store).await);
        let text = format!(
            "[store]\nurl = \"{}\"\n{}alive = \"2s\"\n[limits]\nstore = \"4s\"\n{}",
            ground.url(),
            ground.lines(),
            one_route(&upstream.url(), lines)
        );
        let (one, two) = (Proxy::start(&text).await, Proxy::start(&text).await);
        Pair { upstream, one, two, _ground: ground }
    }
}

// S3, L1, L2, K7: what one instance granted is held, replayed, renewed and given back on all
pub(super) async fn a_lease_is_one_on_all(store: &str) {
    let pair = Pair::on(store, TOOL).await;
    let (here, there) = (Agent::named(&pair.one, "a"), Agent::named(&pair.two, "a"));
    let (other, waiter) = (Agent::named(&pair.two, "b"), Agent::named(&pair.two, "c"));
    let held = ask(&here, "one", "k").await;
    let lease = token(&held);
    ask(&there, "one", "k").await.replays(&held);
    other.post("/x?r=one").key("1").await.refused("leased");
    ask(&other, "one", "k").await.refused("leased");
    assert_eq!(state(&other, "one").await["fence"], held.json()["fence"]);
    write(&there, "one", "2", &lease).await.is(200);
    there.put(&path(&lease)).await.is(200);
    let waits = ask(&waiter, "one", "k").wait(9).spawn();
    pair.two.waiting(1).await;
    let given = Instant::now();
    here.delete(&path(&lease)).await.is(204);
    let granted = waits.await.unwrap();
    // Told so by the other instance: a poll would be a second.
    assert!(given.elapsed() < Duration::from_millis(700), "{:?}", given.elapsed());
    assert!(fence(granted.is(201)) > fence(&held));
    for agent in [&here, &there] {
        write(agent, "one", "3", &lease).await.refused("lease-lost");
        agent.delete(&path(&lease)).await.is(204);
    }
    assert_eq!(pair.upstream.requests().len(), 1);
}

// L1, L3, L4, Q4: agents of two instances hold it one at a time, and neither instance starves the other
pub(super) async fn neither_instance_starves_the_other(store: &str) {
    const EACH: usize = 20;
    let pair = Pair::on(store, &format!("{TOOL}\nqueue = {{ max_waiting = 100, max_wait = \"60s\" }}")).await;
    let holders = Arc::new(AtomicUsize::new(0));
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut agents = Vec::new();
    for n in 0..2 * EACH {
        let proxy = if n % 2 == 0 { &pair.one } else { &pair.two };
        let agent = Agent::named(proxy, &format!("agent {n}"));
        let (holders, order) = (Arc::clone(&holders), Arc::clone(&order));
        agents.push(tokio::spawn(async move {
            let granted = loop {
                let answer = ask(&agent, "one", "k").wait(9).await;
                if answer.status == 201 {
                    break answer;
                }
                answer.problem();
            };
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it at once");
            order.lock().push(n % 2);
            write(&agent, "one", "w", &token(&granted)).await.is(200);
            holders.fetch_sub(1, Ordering::SeqCst);
            agent.delete(&path(&token(&granted))).await.is(204);
            fence(&granted)
        }));
    }
    let mut fences = BTreeSet::new();
    for agent in agents {
        fences.insert(agent.await.expect("an agent"));
    }
    assert_eq!(fences.len(), 2 * EACH);
    let posts = pair.upstream.with_method("POST");
    let seen: Vec<u64> =
        posts.iter().map(|seen| seen.field("onceward-fence").unwrap().parse().unwrap()).collect();
    assert!(seen.iter().eq(&fences), "fences that did not grow: {seen:?}");
    let order = order.lock();
    // By the time one instance is through, the other is not far behind.
    let half: Vec<_> = order.iter().take(EACH).collect();
    let first = half.iter().filter(|n| ***n == 0).count();
    assert!((3..=EACH - 3).contains(&first), "{order:?}");
}

// S3, L1: who waits on another instance is there when the time is over
pub(super) async fn its_time_is_over_on_all(store: &str) {
    let pair = Pair::on(store, TOOL).await;
    let (here, there) = (Agent::named(&pair.one, "a"), Agent::named(&pair.two, "b"));
    let began = Instant::now();
    let lease = token(&ask_for(&here, "one", "k", "1s").await);
    ask(&there, "one", "k").wait(9).await.is(201);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(950) && waited < Duration::from_millis(1800), "{waited:?}");
    write(&here, "one", "1", &lease).await.refused("lease-lost");
}

// S3, L4, Q5: the lease of an agent whose instance died stands, and a write that was out is waited for
pub(super) async fn a_lease_outlives_its_instance(store: &str) {
    let mut pair = Pair::on(store, &format!("{TOOL}\nidempotency.settle = \"1s\"")).await;
    let (here, there, gate) = (Agent::named(&pair.one, "a"), Agent::named(&pair.two, "a"), Gate::closed());
    let other = Agent::named(&pair.two, "b");
    let held = ask_for(&here, "one", "k", "20s").await;
    pair.upstream.next(Reply::ok("late").held(&gate));
    let lost = {
        let call = write(&here, "one", "1", &token(&held));
        tokio::spawn(call.try_send())
    };
    pair.upstream.arrived(1).await;
    let killed = Instant::now();
    pair.one.kill();
    assert!(lost.await.unwrap().is_err());
    other.post("/x?r=one").key("2").await.refused("leased");
    there.delete(&path(&token(&held))).await.is(204);
    let granted = within("the next lease", async {
        loop {
            let answer = ask(&other, "one", "k").wait(9).await;
            if answer.status == 201 {
                return answer;
            }
        }
    })
    .await;
    // Its liveness has to lapse, and the resource to rest.
    assert!(killed.elapsed() >= Duration::from_millis(1900), "{:?}", killed.elapsed());
    assert!(fence(&granted) > fence(&held));
    write(&there, "one", "1", &token(&held)).await.refused("outcome-unknown");
}
