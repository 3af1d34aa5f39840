//! Several proxies on one store act as one (S3, Q4): on a real Redis and on a real Postgres, each started here.

mod cut_off;
mod failover;
mod results;
mod settings;
mod tls;
mod trips;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::agent::Call;
use crate::harness::ground::{Ground, on_each_store};
use crate::harness::ledger::Ledger;
use crate::harness::{Agent, Answer, Gate, Proxy, Reply, Upstream, within};

/// Two proxies on one store.
struct Pair {
    one: Proxy,
    two: Proxy,
    ground: Ground,
}

impl Pair {
    async fn on(store: &str, upstream: &str, lines: &str) -> Pair {
        let ground = Ground::of(store).await;
        let text = format!(
            "[store]\nurl = \"{}\"\n{}alive = \"2s\"\n[limits]\nstore = \"4s\"\n[[routes]]\npath = \"/{{*path}}\"\n\
             upstream = \"{upstream}\"\n{lines}\n",
            ground.url(),
            ground.lines()
        );
        let (one, two) = (Proxy::start(&text).await, Proxy::start(&text).await);
        Pair { one, two, ground }
    }

    fn agents(&self) -> (Agent, Agent) {
        (Agent::new(&self.one), Agent::new(&self.two))
    }
}

/// As a good agent asks: again, as long as it is told to.
async fn told(call: Call) -> Answer {
    within("an answer that counts", async {
        loop {
            let answer = call.clone().await;
            if !(answer.is_refusal() && answer.problem().retry == "same-key") {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// Waits until the operation under the key `k` stands so, as this agent sees it.
async fn comes_to(agent: &Agent, state: &str) {
    within(format!("the operation to be {state}"), async {
        while agent.get("/.onceward/operations/k").await.json()["state"] != state {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

fn fence(upstream: &Upstream, nth: usize) -> u64 {
    let posts: Vec<_> = upstream.requests().into_iter().filter(|seen| seen.method != "GET").collect();
    posts[nth].field("onceward-fence").expect("a fence").parse().expect("a number")
}

// S3, K5, K6, K7, K17: what began on one is waited for, replayed and looked up on the other
async fn an_operation_is_one_on_all(store: &str) {
    let upstream = Upstream::start().await;
    let pair = Pair::on(store, &upstream.url(), "guard = \"tool\"").await;
    let (one, two) = pair.agents();
    let gate = Gate::closed();
    upstream.next(Reply::new(201).field("X-Of", "tool").body("made").held(&gate));
    let first = one.post("/x").key("k").body("1").spawn();
    upstream.received(1).await;
    two.post("/x").key("k").body("1").await.refused("in-flight");
    two.post("/x").key("k").body("other").await.refused("key-reused");
    assert_eq!(two.get("/.onceward/operations/k").await.is(200).json()["state"], "running");
    let waits = two.post("/x").key("k").body("1").wait(15).spawn();
    let watches = two.get("/.onceward/operations/k").wait(15).spawn();
    // Both are woken by word from the other instance, not by the end of their wait.
    let opened = Instant::now();
    gate.open();
    let first = first.await.unwrap();
    waits.await.unwrap().replays(first.is(201));
    assert_eq!(watches.await.unwrap().is(200).json()["state"], "done");
    assert!(opened.elapsed() < Duration::from_secs(10), "{:?}", opened.elapsed());
    for agent in [&one, &two, &two] {
        agent.post("/x").key("k").body("1").await.replays(&first);
    }
    two.get("/.onceward/operations/k/response").await.is(201);
    assert_eq!(upstream.requests().len(), 1);
}

// K6, K8: a first run that is released elsewhere gives its place to who waits here
async fn a_released_key_is_free_on_all(store: &str) {
    let upstream = Upstream::start().await;
    let pair = Pair::on(store, &upstream.url(), "guard = \"tool\"").await;
    let (one, two) = pair.agents();
    let gate = Gate::closed();
    upstream.next(Reply::new(503).held(&gate));
    let first = one.post("/x").key("k").body("1").spawn();
    upstream.received(1).await;
    let waits = two.post("/x").key("k").body("1").wait(15).spawn();
    within("the second to wait", async {
        // Whoever waits has looked at the record before.
        while two.get("/.onceward/operations/k").await.json()["state"] != "running" {}
    })
    .await;
    gate.open();
    first.await.unwrap().is(503);
    waits.await.unwrap().is(200).is_first_run();
    assert_eq!(upstream.requests().len(), 2);
}

// Q1, Q4, L3, V5, V8: writes to one resource take turns over all, their fences grow, and no update is lost
async fn turns_hold_across_all(store: &str) {
    for version in ["hash", "mint"] {
        let ledger = Ledger::start().await;
        ledger.holds("/counter", json!({"n": 0}));
        let lines = format!("version = \"{version}\"\nqueue.max_wait = \"15s\"");
        let pair = Pair::on(store, &ledger.upstream.url(), &lines).await;
        let mut writers = tokio::task::JoinSet::new();
        for n in 0..8 {
            let agents = pair.agents();
            writers.spawn(async move {
                let mut done = 0;
                for round in 0_u32.. {
                    let agent = if (n + round).is_multiple_of(2) { &agents.0 } else { &agents.1 };
                    let read = agent.get("/counter").await;
                    let next = json!({"n": read.json()["n"].as_u64().unwrap() + 1});
                    let key = format!("{n}-{round}");
                    let wrote =
                        agent.put("/counter").key(&key).if_match(&read.etag()).json(&next).wait(15).await;
                    match wrote.status {
                        200..300 => done += 1,
                        409 => drop(wrote.refused("stale-version")),
                        _ => panic!("{wrote}"),
                    }
                    if done == 5 {
                        break;
                    }
                }
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        let effects = ledger.effects();
        assert_eq!(effects.len(), 40, "{version}");
        assert_eq!(Agent::new(&pair.two).get("/counter").await.json()["n"], 40, "{version}");
        for two in effects.windows(2) {
            assert!(two[0].ended <= two[1].started, "{version}: two at once: {two:?}");
            assert!(two[0].fence < two[1].fence, "{version}: a fence that did not grow: {two:?}");
        }
    }
}

// Q4: who waits on another instance is woken when the turn is free, and neither instance starves the other
async fn nobody_starves(store: &str) {
    let upstream = Upstream::start().await;
    let lines = "guard = \"tool\"\nresource = \"one\"\nqueue.max_wait = \"15s\"";
    let pair = Pair::on(store, &upstream.url(), lines).await;
    let (one, two) = pair.agents();
    let gate = Gate::closed();
    upstream.next(Reply::ok("ok").held(&gate));
    let first = one.post("/0").key("0").spawn();
    upstream.received(1).await;
    let crowd: Vec<_> = (1..=12).map(|n| one.post("/crowd").key(&format!("{n}")).spawn()).collect();
    pair.one.waiting(12).await;
    let single = two.post("/single").key("single").spawn();
    within("the other instance's write to stand in the line", async {
        let admin = Agent::admin(&pair.two);
        while admin.get("/resources?busy=true").await.json()["resources"].as_array().is_none_or(Vec::is_empty)
        {
        }
    })
    .await;
    gate.open();
    first.await.unwrap().is(200);
    single.await.unwrap().is(200);
    for write in crowd {
        write.await.unwrap().is(200);
    }
    let order: Vec<_> = upstream.requests().iter().map(|seen| seen.target.clone()).collect();
    let at = order.iter().position(|target| target == "/single").unwrap();
    assert!(at < 8, "the other instance came {at}th: {order:?}");
}

// S3, K11, Q5, O4: an instance that dies in its turn leaves an unknown outcome and a rest for all
async fn what_a_dead_instance_had_out_is_unknown(store: &str) {
    let upstream = Upstream::start().await;
    let mut pair = Pair::on(store, &upstream.url(), "version = \"none\"\nidempotency.settle = \"3s\"").await;
    let (one, two) = pair.agents();
    let gate = Gate::closed();
    upstream.next(Reply::new(201).held(&gate));
    let lost = tokio::spawn(one.post("/d").key("k").body("1").try_send());
    upstream.received(1).await;
    let died = Instant::now();
    pair.one.kill();
    assert!(lost.await.expect("a task").is_err(), "an answer out of nowhere");
    // As long as nobody knows that it is dead its write is in flight.
    two.post("/d").key("k").body("1").await.refused("in-flight");
    comes_to(&two, "unknown").await;
    let problem = two.post("/d").key("k").body("1").await.refused("outcome-unknown");
    assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("unknown", "ask-operator"));
    two.post("/d").key("l").body("1").wait(0).await.refused("queue-timeout");
    two.post("/e").key("m").body("1").await.is(200);
    two.post("/d").key("n").body("1").wait(15).await.is(200);
    assert!(died.elapsed() > Duration::from_secs(3), "no rest: {:?}", died.elapsed());
    assert!(fence(&upstream, 0) < fence(&upstream, 2));
    let id = problem.json["operation"].as_str().expect("an id").to_owned();
    let resolution = json!({"as": "not-executed", "who": "ops", "why": "the ledger has no such effect"});
    Agent::admin(&pair.two).post(&format!("/operations/{id}/resolve")).json(&resolution).await.is(200);
    two.post("/d").key("k").body("1").wait(15).await.is(200).is_first_run();
    pair.one.restart().await;
    Agent::new(&pair.one).post("/d").key("k").body("1").await.is(200).is_replay();
    gate.open();
}

// S3: an instance that only stood still knows its outcome after all, and overwrites nothing
async fn one_that_stood_still_overwrites_nothing(store: &str) {
    let upstream = Upstream::start().await;
    let lines = "version = \"none\"\nidempotency.settle = \"500ms\"";
    let pair = Pair::on(store, &upstream.url(), lines).await;
    let (one, two) = pair.agents();
    let gate = Gate::closed();
    upstream.next(Reply::new(201).body("late").held(&gate));
    let slow = one.post("/d").key("k").body("1").spawn();
    upstream.received(1).await;
    pair.one.signal("STOP");
    comes_to(&two, "unknown").await;
    two.post("/d").key("l").body("2").wait(15).await.is(200);
    gate.open();
    pair.one.signal("CONT");
    // Nobody resolved it or ran it again: its own end counts, as soon as it is stored.
    drop(slow.await.unwrap());
    comes_to(&two, "done").await;
    let first = told(one.post("/d").key("k").body("1")).await;
    assert_eq!(first.is(201).text(), "late");
    two.post("/d").key("k").body("1").await.replays(&first);
    told(one.post("/d").key("m").body("3").wait(15)).await.is(200);
    let fences: Vec<_> = (0..3).map(|nth| fence(&upstream, nth)).collect();
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
}

// S3: the same, when an operator has spoken meanwhile: that counts
async fn an_operators_word_outlives_a_late_end(store: &str) {
    let upstream = Upstream::start().await;
    let pair = Pair::on(store, &upstream.url(), "guard = \"tool\"").await;
    let (one, two) = pair.agents();
    let gate = Gate::closed();
    upstream.next(Reply::new(201).body("late").held(&gate));
    let slow = one.post("/d").key("k").body("1").spawn();
    upstream.received(1).await;
    pair.one.signal("STOP");
    comes_to(&two, "unknown").await;
    let unknown = two.post("/d").key("k").body("1").await.refused("outcome-unknown");
    let id = unknown.json["operation"].as_str().expect("an id").to_owned();
    let response = json!({"status": 202, "headers": {}, "body": "as the ledger has it"});
    let resolution = json!({"as": "executed", "response": response, "who": "ops", "why": "seen"});
    Agent::admin(&pair.two).post(&format!("/operations/{id}/resolve")).json(&resolution).await.is(200);
    gate.open();
    pair.one.signal("CONT");
    drop(slow.await.unwrap());
    for agent in [&one, &two] {
        let answer = told(agent.post("/d").key("k").body("1")).await;
        assert_eq!(answer.is(202).is_replay().text(), "as the ledger has it");
    }
}

// S4, O1: without the store nothing is forwarded, `/readyz` tells, and it comes back by itself
async fn an_outage_fails_closed_and_ends(store: &str) {
    let upstream = Upstream::start().await;
    let to = upstream.url();
    let lines = format!(
        "version = \"none\"\n[[routes]]\npath = \"/open/{{id}}\"\nname = \"lets through\"\nguard = \"tool\"\n\
         store.on_failure = \"open\"\nupstream = \"{to}\"\n[[routes]]\npath = \"/minted/{{id}}\"\n\
         version = \"mint\"\nupstream = \"{to}\""
    );
    let mut pair = Pair::on(store, &to, &lines).await;
    let (one, two) = pair.agents();
    one.post("/d").key("before").body("1").await.is(200);
    one.tag("/minted/1").await;
    let down = async {
        for (agent, proxy) in [(&one, &pair.one), (&two, &pair.two)] {
            let admin = Agent::admin(proxy);
            within("the outage to be seen", async {
                while admin.get("/readyz").await.status != 503 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            let refused = agent.post("/d").key("during").body("1").await.refused("store-unavailable");
            assert_eq!(refused.executed, "no");
            agent.get("/d").await.is(200);
            // Its counter cannot be read, and the tag of before may be an old one by now.
            assert_eq!(agent.get("/minted/1").await.is(200).header("etag"), None);
            let errors = proxy.metric("onceward_store_errors_total").await;
            agent.post("/open/1").key("open").body("1").await.is(200);
            assert!(proxy.metric("onceward_store_errors_total").await > errors);
            proxy.logged(&["a write passes without a record", "lets through"]).await;
        }
    };
    pair.ground.without(down).await;
    let wrote = upstream.requests().into_iter().filter(|seen| seen.target == "/d" && seen.method == "POST");
    assert_eq!(wrote.count(), 1, "a write went out without a record");
    for (agent, proxy) in [(&one, &pair.one), (&two, &pair.two)] {
        let admin = Agent::admin(proxy);
        within("the store to be there again", async {
            while admin.get("/readyz").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        told(agent.post("/d").key("before").body("1")).await.is(200).is_replay();
        agent.tag("/minted/1").await;
    }
    told(one.post("/d").key("during").body("1").wait(15)).await.is(200).is_first_run();
    told(two.post("/d").key("during").body("1")).await.is(200).is_replay();
}

// O5: one that ends in order leaves nothing that others have to wait for
async fn an_orderly_end_holds_nobody_up(store: &str) {
    let upstream = Upstream::start().await;
    let mut pair = Pair::on(store, &upstream.url(), "version = \"none\"").await;
    let (one, two) = pair.agents();
    let first = one.post("/d").key("k").body("1").await;
    first.is(200);
    assert!(pair.one.terminate().await.success());
    let began = Instant::now();
    two.post("/d").key("k").body("1").await.replays(&first);
    two.post("/d").key("l").body("1").await.is(200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

// C1, S1: a store that cannot be had is said at the start, without its password
#[tokio::test]
async fn a_store_that_is_not_there_is_said() {
    for url in ["redis://user:hunter2@127.0.0.1:1", "postgres://user:hunter2@127.0.0.1:1/db"] {
        let text = format!(
            "[store]\nurl = \"{url}\"\n[limits]\nstore = \"300ms\"\n[[routes]]\npath = \"/\"\nupstream = \"http://h\""
        );
        let Err(log) = Proxy::try_start(&text).await else { panic!("{url} was there") };
        assert!(log.contains("store.url") && log.contains("127.0.0.1:1"), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

use self as shared;
on_each_store! { redis = "redis" postgres = "postgres" postgres_advisory = "postgres, advisory": {
    shared: an_operation_is_one_on_all a_released_key_is_free_on_all turns_hold_across_all nobody_starves
    what_a_dead_instance_had_out_is_unknown one_that_stood_still_overwrites_nothing
    an_operators_word_outlives_a_late_end an_outage_fails_closed_and_ends an_orderly_end_holds_nobody_up;
    trips: a_request_asks_as_little_as_it_must;
} }
