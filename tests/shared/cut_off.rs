//! A primary that is not dead but cut off, with instances on its side that hear of no other: what they may take there,
//! and what is left of it once the cut heals (S3).

use std::time::Duration;

use serde_json::json;

use super::failover::{add, fence, is_out, key_of, posts, runs};
use super::told;
use crate::harness::ledger::{Fault, Ledger};
use crate::harness::relay::Relay;
use crate::harness::servers::redis::watched::Watched;
use crate::harness::{Agent, Gate, Proxy, within};

/// The primary and some proxies on one side; Sentinel, the replica and another proxy on the other.
struct Sides {
    /// On the primary's side.
    far: Vec<Proxy>,
    near: Proxy,
    /// How those on the primary's side ask Sentinel.
    way: Relay,
    redis: Watched,
    ledger: Ledger,
    /// Holds what is sent under the key `out` or `turn`.
    gate: Gate,
}

impl Sides {
    async fn start(far: usize, lines: &str) -> Sides {
        let (redis, gate) = (Watched::start().await, Gate::closed());
        let held = gate.clone();
        let ledger = Ledger::with(false, move |seen| match key_of(seen).as_deref() {
            Some("out" | "turn") => Fault::Held(held.clone()),
            _ => Fault::None,
        });
        let (ledger, way) = (ledger.await, Relay::to(&redis.address(), 1).await);
        let upstream = ledger.upstream.url();
        let text = |url: String| {
            format!(
                "[store]\nurl = \"{url}\"\nalive = \"1s\"\n{lines}\n[limits]\nstore = \"1s\"\n\
                 [idempotency]\nsettle = \"500ms\"\n\
                 [[routes]]\npath = \"/free/{{id}}\"\nupstream = \"{upstream}\"\nguard = \"tool\"\n\
                 [[routes]]\npath = \"/turn/{{id}}\"\nupstream = \"{upstream}\"\nguard = \"tool\"\n\
                 resource = \"/turn/{{id}}\"\nqueue.max_wait = \"15s\"\n\
                 [[routes]]\npath = \"/mint/{{id}}\"\nupstream = \"{upstream}\"\nversion = \"mint\"\n"
            )
        };
        let by_the_way = redis.url().replace(&redis.address(), &way.address());
        let mut proxies = Vec::new();
        for _ in 0..far {
            proxies.push(Proxy::start(&text(by_the_way.clone())).await);
        }
        let near = Proxy::start(&text(redis.url())).await;
        Sides { far: proxies, near, way, redis, ledger, gate }
    }

    /// Returns once the replica is promoted, and the one on its side has found it.
    async fn part(&self) {
        self.redis.is_copied().await;
        self.way.moves("");
        self.way.cut_all();
        self.redis.parts().await;
        self.redis.replica.reaches("role", "master").await;
        self.near.logged(&["Sentinel names another primary"]).await;
        is_ready(&self.near).await;
    }

    /// Returns once the primary of before is a replica, and all are back by themselves.
    async fn heal(&mut self) {
        self.redis.heals().await;
        self.way.moves(&self.redis.address());
        for proxy in &self.far {
            proxy.logged(&["the store has another history"]).await;
            is_ready(proxy).await;
        }
    }
}

async fn is_ready(proxy: &Proxy) {
    let admin = Agent::admin(proxy);
    within("readyz to say so", async {
        while admin.get("/readyz").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

// S3, K7, K11, L3, V8
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_primary_took_that_was_cut_off_is_lost_and_nothing_else() {
    let mut sides = Sides::start(1, "").await;
    let (far, near) = (Agent::new(&sides.far[0]), Agent::new(&sides.near));
    let mut kept = Vec::new();
    for (n, agent) in [&far, &near].into_iter().cycle().take(6).enumerate() {
        kept.push(posts(agent, &format!("/free/{n}"), &format!("kept-{n}")).await);
    }
    sides.ledger.holds("/mint/d", json!({"n": 0}));
    let put = |agent: &Agent, key: &str, tag: &str| agent.put("/mint/d").key(key).if_match(tag).json(&add());
    let tag = far.tag("/mint/d").await;
    let first = put(&far, "mint-1", &tag).await.is(200).needs("onceward-version");
    let out = far.post("/turn/out").key("out").json(&add()).spawn();
    is_out(&sides.ledger, "out").await;
    sides.part().await;

    // Who hears of no other primary goes on with this one, and cannot know better.
    assert_eq!(Agent::admin(&sides.far[0]).get("/readyz").await.status, 200);
    let (mut lost, mut again) = (Vec::new(), Vec::new());
    for n in 0..6 {
        let (path, key) = (format!("/turn/{n}"), format!("lost-{n}"));
        again.push(posts(&near, &path, &key).await);
        lost.push(posts(&far, &path, &key).await);
        assert!(lost[n].status < 300 && again[n].status < 300, "{} {}", lost[n], again[n]);
    }
    let second = put(&far, "mint-2", &first).await.is(200).needs("onceward-version");
    // What was copied is known on the other side, and is nobody's there.
    posts(&near, "/turn/out", "out").await.refused("outcome-unknown");
    sides.gate.open();
    let out = out.await.unwrap();
    out.is(201);
    sides.heal().await;

    for (n, first) in kept.iter().enumerate() {
        for agent in [&far, &near] {
            posts(agent, &format!("/free/{n}"), &format!("kept-{n}")).await.replays(first);
        }
    }
    // Results and claims: who saw the end says it, and the others do not know of it.
    posts(&far, "/turn/out", "out").await.replays(&out);
    posts(&near, "/turn/out", "out").await.refused("outcome-unknown");
    for n in 0..6 {
        let (path, key) = (format!("/turn/{n}"), format!("lost-{n}"));
        posts(&far, &path, &key).await.replays(&lost[n]);
        posts(&near, &path, &key).await.replays(&again[n]);
    }
    // Whatever either side gave, and when: what was given by the primary that was cut off is below.
    let of = |nth| (0..6).map(move |n| (format!("lost-{n}"), nth)).collect::<Vec<_>>();
    let fences = |of: Vec<(String, usize)>| {
        let ledger = &sides.ledger;
        of.into_iter().map(|(key, nth)| fence(ledger, &key, nth)).collect::<Vec<_>>()
    };
    let (theirs, ours) = (fences(of(0)), fences(of(1)));
    assert!(theirs.iter().min() > ours.iter().max(), "{theirs:?} {ours:?}");
    posts(&far, "/turn/next", "next").await.is(201);
    assert!(Some(&fence(&sides.ledger, "next", 0)) > theirs.iter().max());
    for stale in [&tag, &first, &second] {
        told(put(&far, "mint-3", stale)).await.refused("stale-version");
    }
    told(put(&far, "mint-4", &near.tag("/mint/d").await)).await.is(200);
    let twice = |key: &str| key.starts_with("lost-");
    let runs = runs(&sides.ledger);
    assert!(runs.iter().all(|(key, runs)| *runs == 1 + usize::from(twice(key))), "{runs:?}");
}

// S3, S4, K4, K11, L3: with `wait_replicas` nothing that is acknowledged there is lost, for nothing is
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_cut_off_acknowledges_nothing_that_its_replica_lacks() {
    let mut sides = Sides::start(2, "wait_replicas = 1").await;
    let [far, beside] = [0, 1].map(|n| Agent::new(&sides.far[n]));
    let near = Agent::new(&sides.near);
    let kept = posts(&far, "/free/kept", "kept").await;
    posts(&beside, "/free/kept", "kept").await.replays(&kept);
    posts(&far, "/turn/a", "before").await.is(201);
    let out = far.post("/turn/out").key("out").json(&add()).spawn();
    is_out(&sides.ledger, "out").await;
    sides.part().await;

    for (agent, path, key) in [
        (&far, "/free/x", "x"),
        (&beside, "/free/y", "y"),
        (&beside, "/turn/a", "turned"),
        (&near, "/free/z", "z"),
    ] {
        let refused = agent.post(path).key(key).json(&add()).await.refused("store-unavailable");
        assert_eq!(refused.executed, "no", "{key}");
    }
    // What it was told while there was a replica it tells now, too.
    posts(&beside, "/free/kept", "kept").await.replays(&kept);
    // It has run, and that is said; but not that it will be replayed, by whoever finds it in this store.
    sides.gate.open();
    let end = out.await.unwrap().refused("result-not-stored");
    assert_eq!(end.executed, "yes");
    beside.post("/turn/out").key("out").json(&add()).await.refused("store-unavailable");
    beside.get("/.onceward/operations/out").await.refused("store-unavailable");
    // Nor does the one come back that could tell.
    sides.far.remove(0).kill();
    sides.heal().await;

    for agent in [&beside, &near] {
        posts(agent, "/free/kept", "kept").await.replays(&kept);
        posts(agent, "/turn/out", "out").await.refused("outcome-unknown");
    }
    for (path, key) in [("/free/x", "x"), ("/free/y", "y"), ("/turn/a", "turned"), ("/free/z", "z")] {
        let first = posts(&near, path, key).await;
        first.is_first_run();
        posts(&beside, path, key).await.replays(&first);
    }
    assert!(fence(&sides.ledger, "turned", 0) > fence(&sides.ledger, "before", 0));
    let runs = runs(&sides.ledger);
    assert!(runs.values().all(|runs| *runs == 1), "{runs:?}");
}
