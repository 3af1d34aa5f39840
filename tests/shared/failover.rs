//! What two proxies lose with a Redis that copies to its replica after it answered, when its primary dies: what
//! docs/STORES.md lists, and no more (S3).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::told;
use crate::harness::ledger::{Effect, Fault, Ledger, tick};
use crate::harness::servers::redis::watched::Watched;
use crate::harness::upstream::Seen;
use crate::harness::{Agent, Answer, Gate, Proxy, Raw, Reply, within};

/// Two proxies on a primary that Sentinel watches, and a ledger behind them.
struct Scene {
    one: Proxy,
    two: Proxy,
    redis: Watched,
    ledger: Ledger,
}

impl Scene {
    async fn start(faults: impl Fn(&Seen) -> Fault + Send + Sync + 'static) -> Scene {
        let (redis, ledger) = (Watched::start().await, Ledger::with(false, faults).await);
        let upstream = ledger.upstream.url();
        let text = format!(
            "[store]\nurl = \"{}\"\nalive = \"2s\"\n[limits]\nstore = \"4s\"\n[idempotency]\nsettle = \"1s\"\n\
             [[routes]]\npath = \"/free/{{id}}\"\nupstream = \"{upstream}\"\nguard = \"tool\"\n\
             [[routes]]\npath = \"/turn/{{id}}\"\nupstream = \"{upstream}\"\nguard = \"tool\"\n\
             resource = \"/turn/{{id}}\"\nqueue.max_wait = \"15s\"\n\
             [[routes]]\npath = \"/mint/{{id}}\"\nupstream = \"{upstream}\"\nversion = \"mint\"\n",
            redis.url()
        );
        let (one, two) = (Proxy::start(&text).await, Proxy::start(&text).await);
        Scene { one, two, redis, ledger }
    }

    /// Waits until `/readyz` says so on both.
    async fn both_say(&self, status: u16) {
        for proxy in [&self.one, &self.two] {
            let admin = Agent::admin(proxy);
            within(format!("readyz to say {status}"), async {
                while admin.get("/readyz").await.status != status {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }

    /// The primary is gone, and nobody does anything but Sentinel and the proxies themselves.
    async fn fails_over(&mut self) {
        self.redis.primary.kill();
        self.both_say(503).await;
        self.redis.replica.reaches("role", "master").await;
        self.both_say(200).await;
    }
}

pub(super) fn key_of(seen: &Seen) -> Option<String> {
    seen.field("idempotency-key").map(|key| key.trim_matches('"').to_owned())
}

/// Waits until a request under this key is at the upstream, and has the reply that was ready for it.
pub(super) async fn is_out(ledger: &Ledger, key: &str) {
    let key = key.to_owned();
    let is_it = move |seen: &Vec<Seen>| seen.iter().any(|one| one.whole && key_of(one) == Some(key.clone()));
    ledger.upstream.until("the write at the upstream", is_it).await;
}

/// How many requests went out under each key.
pub(super) fn runs(ledger: &Ledger) -> BTreeMap<String, usize> {
    let mut runs = BTreeMap::new();
    for key in ledger.upstream.requests().iter().filter_map(key_of) {
        *runs.entry(key).or_insert(0) += 1;
    }
    runs
}

/// The fence of the nth request under this key.
pub(super) fn fence(ledger: &Ledger, key: &str, nth: usize) -> u64 {
    let seen = ledger.upstream.requests();
    let of_it: Vec<_> = seen.iter().filter(|one| key_of(one).as_deref() == Some(key)).collect();
    of_it[nth].field("onceward-fence").expect("a fence").parse().expect("a number")
}

pub(super) fn add() -> Value {
    json!({"add": 1})
}

pub(super) async fn posts(agent: &Agent, path: &str, key: &str) -> Answer {
    told(agent.post(path).key(key).json(&add()).wait(15)).await
}

// S3, S4, K7, K11, L3, V8, O1: each thing that may be lost, one by one
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_what_is_said_and_no_more() {
    let (result_waits, turn_waits, refusal_waits) = (Gate::closed(), Gate::closed(), Gate::closed());
    let (result_held, turn_held) = (result_waits.clone(), turn_waits.clone());
    let mut scene = Scene::start(move |seen| match key_of(seen).as_deref() {
        Some("result") => Fault::Held(result_held.clone()),
        Some("turn") => Fault::Held(turn_held.clone()),
        _ => Fault::None,
    })
    .await;
    let (one, two) = (Agent::new(&scene.one), Agent::new(&scene.two));
    let both = [&one, &two];

    // What is copied.
    let mut kept = Vec::new();
    for n in 0..10 {
        kept.push(posts(both[n % 2], &format!("/free/{n}"), &format!("kept-{n}")).await);
    }
    scene.ledger.holds("/mint/d", json!({"n": 0}));
    let put = |agent: &Agent, key: &str, tag: &str| agent.put("/mint/d").key(key).if_match(tag).json(&add());
    let first = put(&one, "mint-1", &one.tag("/mint/d").await).await.is(200).needs("onceward-version");
    // Claims that are copied: one forwarded whose result will come, one that will be refused, and one that waits.
    let result = one.post("/turn/result").key("result").json(&add()).spawn();
    is_out(&scene.ledger, "result").await;
    scene.ledger.upstream.next(Reply::new(503).held(&refusal_waits));
    let refused = one.post("/free/refused").key("refused").json(&add()).spawn();
    is_out(&scene.ledger, "refused").await;
    let mut line = Raw::connect(&scene.one).await;
    line.send(
        "POST /turn/result HTTP/1.1\r\nHost: a\r\nIdempotency-Key: line\r\nPrefer: wait=20\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    scene.one.waiting(1).await;
    scene.redis.is_copied().await;

    // What is not.
    scene.redis.cut().await;
    line.reset();
    within("who left the line to be forgotten", async {
        while one.get("/.onceward/operations/line").await.status != 404 {}
    })
    .await;
    result_waits.open();
    let result = result.await.unwrap();
    result.is(201);
    refusal_waits.open();
    refused.await.unwrap().is(503);
    let mut lost = Vec::new();
    for n in 0..10 {
        lost.push(posts(both[n % 2], &format!("/free/{n}"), &format!("lost-{n}")).await);
    }
    let second = put(&two, "mint-2", &first).await.is(200).needs("onceward-version");
    let turn = one.post("/turn/turn").key("turn").json(&add()).spawn();
    is_out(&scene.ledger, "turn").await;
    scene.fails_over().await;

    // Nothing of what was copied is lost, and each is told by the one that did not see it.
    for (n, first) in kept.iter().enumerate() {
        posts(both[(n + 1) % 2], &format!("/free/{n}"), &format!("kept-{n}")).await.replays(first);
    }
    // Results: the outcome is unknown; an instance that saw the end still says it.
    let unknown = posts(&two, "/turn/result", "result").await.refused("outcome-unknown");
    assert_eq!(unknown.executed, "unknown");
    posts(&one, "/turn/result", "result").await.replays(&result);
    // Releases: unknown where it was forwarded, else free.
    posts(&two, "/free/refused", "refused").await.refused("outcome-unknown");
    told(two.post("/turn/result").key("line").wait(15)).await.is(200).is_first_run();
    // Claims: on an instance that does not know of it, it runs again.
    for (n, first) in lost.iter().enumerate() {
        let (path, key) = (format!("/free/{n}"), format!("lost-{n}"));
        posts(both[n % 2], &path, &key).await.replays(first);
        posts(both[(n + 1) % 2], &path, &key).await.is(200).is_first_run();
    }
    // Turns: the next is given while the last one's write is still out, under a higher fence.
    posts(&two, "/turn/turn", "next").await.is(201).is_first_run();
    assert!(fence(&scene.ledger, "next", 0) > fence(&scene.ledger, "turn", 0));
    turn_waits.open();
    turn.await.unwrap().is(200);
    posts(&two, "/turn/turn", "turn").await.is(200).is_first_run();
    // Moves of a minted version: no tag of before matches.
    for stale in [&first, &second] {
        let conflict = told(put(&one, "mint-3", stale)).await.refused("stale-version");
        assert_ne!(conflict.json["current_etag"], json!(stale));
    }
    let tag = two.tag("/mint/d").await;
    assert!(tag != first && tag != second, "{tag}");
    told(put(&one, "mint-4", &tag)).await.is(200);

    let twice = |key: &str| key == "turn" || key.starts_with("lost-");
    let runs = runs(&scene.ledger);
    assert!(runs.iter().all(|(key, runs)| *runs == 1 + usize::from(twice(key))), "{runs:?}");
    let effects = scene.ledger.effects();
    let (before, after): (Vec<_>, Vec<_>) = ["result", "turn"]
        .into_iter()
        .zip(["next", "line"])
        .map(|(old, new)| (fence(&scene.ledger, old, 0), fence(&scene.ledger, new, 0)))
        .unzip();
    assert!(before.iter().max() < after.iter().min(), "{effects:?}");
}

/// Writes under keys of its own until it is told to stop, each as a good agent does; what it was told in the end.
async fn writes(
    name: String,
    agents: [Agent; 2],
    path: &'static str,
    stop: Arc<AtomicBool>,
) -> Vec<(String, Answer)> {
    let mut all = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{name}-{n}");
        all.push((key.clone(), posts(&agents[n % 2], path, &key).await));
    }
    all
}

// S3, K5, K7, K11, L3: whatever is under way, a key runs twice only where its first run began after the last copy and
// its second after the failover
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_under_load_doubles_only_what_was_not_copied() {
    let mut scene = Scene::start(|_| Fault::None).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for (n, path) in ["/free/a", "/free/b", "/turn/a", "/turn/b", "/turn/b"].into_iter().enumerate() {
        let agents = [Agent::new(&scene.one), Agent::new(&scene.two)];
        writers.push(tokio::spawn(writes(format!("w{n}"), agents, path, Arc::clone(&stop))));
    }
    let busy = |seen: &Vec<Seen>| seen.len() > 200;
    scene.ledger.upstream.until("writes", busy).await;
    let copied = tick();
    scene.redis.is_copied().await;
    scene.redis.cut().await;
    let cut = scene.ledger.upstream.requests().len();
    scene.ledger.upstream.until("writes that are not copied", move |seen| seen.len() > cut + 50).await;
    let killed = tick();
    scene.fails_over().await;
    let over = scene.ledger.upstream.requests().len();
    scene.ledger.upstream.until("writes after it", move |seen| seen.len() > over + 100).await;
    stop.store(true, Ordering::Relaxed);
    let mut last = BTreeMap::new();
    for writer in writers {
        last.extend(writer.await.expect("a writer that ends"));
    }

    let mut effects: BTreeMap<String, Vec<Effect>> = BTreeMap::new();
    for effect in scene.ledger.effects() {
        effects.entry(effect.key.clone().expect("a key")).or_default().push(effect);
    }
    let mut unknown = 0;
    for (key, answer) in &last {
        let runs = effects.get(key).map_or(&[][..], Vec::as_slice);
        if answer.is_refusal() {
            assert_eq!(answer.code(), "outcome-unknown", "{key}");
            unknown += 1;
        } else {
            assert!(
                runs.iter().any(|run| run.answer == answer.body),
                "{key} was told of what is not: {answer}"
            );
        }
        match runs {
            [] | [_] => {}
            [first, second] => {
                assert!(first.started > copied, "{key} was copied, and ran again: {runs:?}");
                assert!(second.started > killed, "{key} ran again before there was a reason: {runs:?}");
            }
            more => panic!("{key}: {more:?}"),
        }
    }
    let doubled = effects.values().filter(|runs| runs.len() > 1).count();
    println!("{} keys, {doubled} of them twice, {unknown} unknown", last.len());
    // No two writes that took a turn ever had one fence.
    let mut fences: Vec<_> = effects.values().flatten().filter_map(|effect| effect.fence).collect();
    let many = fences.len();
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), many, "two writes under one fence");
    // What was told before the failover is replayed after it, or it is told that nobody knows.
    let (one, two) = (Agent::new(&scene.one), Agent::new(&scene.two));
    for (key, answer) in
        last.iter().filter(|(key, _)| effects.get(*key).is_some_and(|runs| runs[0].ended < copied))
    {
        let path = effects[key][0].resource.clone();
        for agent in [&one, &two] {
            posts(agent, &path, key).await.replays(answer);
        }
    }
}
