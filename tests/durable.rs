//! The store on a disk (S5): what was answered survives `kill -9`, what was out is unknown, and nothing runs twice.

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Agent, Gate, Proxy, Reply, Upstream};

/// A proxy on a disk store; `extra` are lines of its one route.
async fn durable(upstream: &Upstream, extra: &str) -> (Proxy, TempDir) {
    let folder = TempDir::new().expect("a temporary directory");
    let proxy = Proxy::route(upstream, &on(&folder, extra)).await;
    (proxy, folder)
}

fn on(folder: &TempDir, extra: &str) -> String {
    format!("{extra}\n[store]\nurl = \"disk:{}\"", folder.path().join("store").display())
}

fn fence(upstream: &Upstream, nth: usize) -> u64 {
    let seen = upstream.requests();
    seen[nth].field("onceward-fence").expect("a fence").parse().expect("a number")
}

// S5, K7
#[tokio::test]
async fn an_answer_is_replayed_after_a_kill() {
    let upstream =
        Upstream::answering(|seen| Reply::new(201).field("X-Of", "tool").body(seen.body.clone())).await;
    let (mut proxy, _folder) = durable(&upstream, "guard = \"tool\"").await;
    let mut firsts = Vec::new();
    for (n, length) in [0, 1, 300, 5_000, 200_000].into_iter().enumerate() {
        let call = |agent: &Agent| agent.post("/x").key(&format!("k{n}")).body("x".repeat(length));
        firsts.push((call(&Agent::new(&proxy)).await, length));
    }
    proxy.kill();
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    for (n, (first, length)) in firsts.iter().enumerate() {
        for _ in 0..2 {
            agent.post("/x").key(&format!("k{n}")).body("x".repeat(*length)).await.replays(first.is(201));
        }
        agent.post("/x").key(&format!("k{n}")).body("other").await.refused("key-reused");
    }
    assert_eq!(upstream.requests().len(), firsts.len());
}

// K11, K17, Q5, O4
#[tokio::test]
async fn what_was_out_at_a_kill_is_unknown_and_its_resource_rests() {
    let upstream = Upstream::start().await;
    let (mut proxy, _folder) = durable(&upstream, "version = \"none\"").await;
    let gate = Gate::closed();
    upstream.next(Reply::new(201).held(&gate));
    let first = tokio::spawn(Agent::new(&proxy).post("/d").key("k").body("1").try_send());
    upstream.received(1).await;
    proxy.kill();
    assert!(first.await.expect("a task").is_err(), "an answer out of nowhere");
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    let problem = agent.post("/d").key("k").body("1").await.refused("outcome-unknown");
    assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("unknown", "ask-operator"));
    assert_eq!(agent.get("/.onceward/operations/k").await.is(200).json()["state"], "unknown");
    let other = agent.post("/d").key("l").body("1").wait(0).await.refused("queue-timeout");
    assert!(other.json["retry_after"].as_u64() > Some(1), "{other:?}");
    agent.post("/e").key("m").body("1").await.is(200);
    let admin = Agent::admin(&proxy);
    let busy = admin.get("/resources?busy=true").await.json();
    assert_eq!(busy["resources"][0]["resource"], "/d", "{busy}");
    let id = problem.json["operation"].as_str().expect("an id").to_owned();
    let resolution = json!({"as": "not-executed", "who": "ops", "why": "the ledger has no such effect"});
    admin.post(&format!("/operations/{id}/resolve")).json(&resolution).await.is(200);
    agent.post("/d").key("k").body("1").await.is(200).is_first_run();
    gate.open();
    // The operator's word is as durable as the rest, and has its reason.
    proxy.kill();
    proxy.restart().await;
    let shown = Agent::admin(&proxy).get(&format!("/operations/{id}")).await.is(200).json();
    assert_eq!(shown["state"], "done", "{shown}");
    assert_eq!(shown["resolutions"][0]["why"], resolution["why"], "{shown}");
}

// Q5, V8: a write without a key leaves no answer behind, but a restart still knows that it was out.
#[tokio::test]
async fn a_write_without_a_key_rests_its_resource_too() {
    let upstream = Upstream::answering(|_| Reply::json(200, &json!({"value": 1}))).await;
    let extra = "version = \"mint\"\nidempotency.required = false";
    let (mut proxy, _folder) = durable(&upstream, extra).await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let next = agent.put("/d").if_match(&tag).body("1").await;
    assert!(next.is(200).header("idempotency-expires").is_none(), "{next}");
    let next = next.needs("onceward-version");
    let admin = Agent::admin(&proxy);
    assert_eq!(
        admin.get("/operations").await.json(),
        json!({"operations": []}),
        "a record without a key stayed"
    );
    let gate = Gate::closed();
    let before = upstream.requests().len();
    upstream.next(Reply::new(201).held(&gate));
    let lost = tokio::spawn(agent.put("/d").if_match(&next).body("2").try_send());
    upstream.received(before + 1).await;
    proxy.kill();
    assert!(lost.await.expect("a task").is_err());
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    assert_ne!(agent.tag("/d").await, next);
    agent.put("/d").if_match(&next).body("3").wait(0).await.refused("queue-timeout");
    let admin = Agent::admin(&proxy);
    let unknown = admin.get("/operations?state=unknown").await.json();
    let id = unknown["operations"][0]["id"].as_str().expect("an id").to_owned();
    let resolution = json!({"as": "executed", "who": "ops", "why": "seen"});
    admin.post(&format!("/operations/{id}/resolve")).json(&resolution).await.is(200);
    agent.put("/d").if_match(&agent.tag("/d").await).body("3").await.is(200);
}

// S5, K1: what only waited was never forwarded, and is free.
#[tokio::test]
async fn what_had_not_gone_out_at_a_kill_is_free() {
    let upstream = Upstream::start().await;
    let (mut proxy, _folder) = durable(&upstream, "version = \"none\"\nidempotency.settle = \"0s\"").await;
    let gate = Gate::closed();
    upstream.next(Reply::new(201).held(&gate));
    let agent = Agent::new(&proxy);
    let first = tokio::spawn(agent.post("/d").key("first").body("1").try_send());
    upstream.received(1).await;
    let waiting = tokio::spawn(agent.post("/d").key("waiting").body("1").try_send());
    proxy.waiting(1).await;
    proxy.kill();
    assert!(first.await.expect("a task").is_err() && waiting.await.expect("a task").is_err());
    proxy.restart().await;
    Agent::new(&proxy).post("/d").key("waiting").body("1").await.is(200).is_first_run();
}

// V8, L3, L4
#[tokio::test]
async fn minted_versions_and_fences_go_on() {
    let upstream = Upstream::answering(|_| Reply::json(200, &json!({"value": 1}))).await;
    let (mut proxy, _folder) = durable(&upstream, "version = \"mint\"\nidempotency.settle = \"1s\"").await;
    let agent = Agent::new(&proxy);
    let untouched = agent.tag("/b").await;
    let tag = agent.tag("/a").await;
    let put = |agent: &Agent, key: &str, tag: &str| agent.put("/a").key(key).if_match(tag).body("1");
    let second = put(&agent, "1", &tag).await.is(200).needs("onceward-version");
    proxy.kill();
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    assert_eq!((agent.tag("/a").await, agent.tag("/b").await), (second.clone(), untouched));
    put(&agent, "2", &tag).await.refused("stale-version");
    let third = put(&agent, "3", &second).await.is(200).needs("onceward-version");
    let writes = upstream.requests().iter().filter(|seen| seen.method == "PUT").count();
    assert_eq!(writes, 2);
    // A write that was out moves the tag, and moves it again when the rest is over.
    let gate = Gate::closed();
    let before = upstream.requests().len();
    upstream.next(Reply::new(200).held(&gate));
    let lost = tokio::spawn(put(&agent, "4", &third).try_send());
    upstream.received(before + 1).await;
    proxy.kill();
    assert!(lost.await.expect("a task").is_err());
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    let unknown = agent.tag("/a").await;
    assert_ne!(unknown, third);
    let answer = put(&agent, "5", &unknown).wait(9).await;
    assert_eq!(answer.refused("stale-version").executed, "no", "the tag moved when the rest ended");
    put(&agent, "6", &agent.tag("/a").await).await.is(200);
    let puts: Vec<_> =
        (0..upstream.requests().len()).filter(|n| upstream.requests()[*n].method == "PUT").collect();
    let fences: Vec<_> = puts.iter().map(|n| fence(&upstream, *n)).collect();
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

// K12: the version that was compared ends what is unknown, over a restart too, unless another write followed.
#[tokio::test]
async fn the_compared_version_ends_what_a_kill_left_unknown() {
    for follows in [false, true] {
        let upstream = Upstream::answering(|_| Reply::json(200, &json!({"value": 1}))).await;
        let extra = "idempotency.settle = \"300ms\"\nversion.refresh = false";
        let (mut proxy, _folder) = durable(&upstream, extra).await;
        let agent = Agent::new(&proxy);
        let tag = agent.tag("/a").await;
        let put = |agent: &Agent, key: &str| agent.put("/a").key(key).if_match(&tag).body("2");
        let gate = Gate::closed();
        let held = gate.clone();
        upstream.next(Reply::json(200, &json!({"value": 1})));
        upstream.next(Reply::new(200).held(&held));
        let lost = tokio::spawn(put(&agent, "lost").try_send());
        upstream.until("the write", |seen| seen.iter().any(|one| one.method == "PUT" && one.whole)).await;
        proxy.kill();
        assert!(lost.await.expect("a task").is_err());
        proxy.restart().await;
        let agent = Agent::new(&proxy);
        if follows {
            put(&agent, "other").wait(9).await.is(200);
            proxy.kill();
            proxy.restart().await;
        }
        let agent = Agent::new(&proxy);
        // The rest is over when a write of somebody else gets its turn; nothing else tells it.
        agent.post("/a").key("after").wait(9).header("if-match", "\"no\"").await.refused("stale-version");
        let retry = put(&agent, "lost").wait(9).await;
        if follows {
            let problem = retry.refused("outcome-unknown");
            assert!(problem.detail.contains(tag.trim_matches('"')), "{problem:?}");
        } else {
            retry.is(200).is_first_run();
        }
    }
}

// S3, S5
#[tokio::test]
async fn a_second_start_on_the_same_path_is_told_who_has_it() {
    let upstream = Upstream::start().await;
    let (mut proxy, folder) = durable(&upstream, "guard = \"tool\"").await;
    let config = crate::harness::proxy::one_route(&upstream.url(), &on(&folder, "guard = \"tool\""));
    let Err(log) = Proxy::try_start(&config).await else { panic!("two processes have one store") };
    assert!(log.contains(&format!("in use by process {}", proxy.pid())), "{log}");
    assert!(proxy.terminate().await.success());
    Proxy::start(&config).await;
}
