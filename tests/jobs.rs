//! Writes that are answered before they run (J1): accepted means stored, run once, in order, and the result is kept.

mod across;

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::agent::Call;
use crate::harness::upstream::Nobody;
use crate::harness::{Agent, Answer, Events, Gate, Proxy, Reply, Upstream, within};

const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A configuration of one route that takes jobs; `extra` are lines of it, tables may follow.
fn on(folder: &TempDir, upstream: &str, extra: &str) -> String {
    let guard = if extra.contains("guard") { "" } else { "guard = \"tool\"\nresource = \"{path}\"\n" };
    let store = folder.path().join("store");
    format!(
        "[server]\n[store]\nurl = \"disk:{}\"\nsecret = \"{SECRET}\"\n[[routes]]\npath = \"/{{*path}}\"\n\
         upstream = \"{upstream}\"\nasync = true\n{guard}{extra}\n",
        store.display()
    )
}

async fn taking_jobs(upstream: &str, extra: &str) -> (Proxy, TempDir) {
    let folder = TempDir::new().expect("a temporary directory");
    (Proxy::start(&on(&folder, upstream, extra)).await, folder)
}

fn later(call: Call) -> Call {
    call.header("prefer", "respond-async")
}

/// Accepted, with where to look for what becomes of it.
#[track_caller]
fn accepted(answer: &Answer) -> String {
    answer.is(202);
    assert_eq!(answer.all("preference-applied")[0], "respond-async", "{answer}");
    answer.needs("location")
}

/// What became of an operation, when it has ended.
async fn ended(agent: &Agent, place: &str) -> Value {
    within(format!("the end of {place}"), async {
        loop {
            let state = agent.get(place).wait(5).await.is(200).json();
            if !matches!(state["state"].as_str(), Some("queued" | "running")) {
                return state;
            }
        }
    })
    .await
}

// J1, K7, K16, K17, W1
#[tokio::test]
async fn an_accepted_write_runs_and_its_result_is_replayed() {
    let upstream =
        Upstream::answering(|seen| Reply::new(201).field("X-Of", "tool").body(seen.body.clone())).await;
    let (proxy, _folder) = taking_jobs(&upstream.url(), "").await;
    let agent = Agent::named(&proxy, "someone");
    let call = || agent.post("/x?a=1").key("\"a key\"").header("x-mine", "1").body("{\"n\":1}");
    let first = call().header("prefer", "respond-async, return=minimal").await;
    let place = accepted(&first);
    assert_eq!(place, "/.onceward/operations/a%20key");
    let state = ended(&agent, &place).await;
    assert_eq!((&state["state"], &state["status"]), (&"done".into(), &201.into()), "{state}");
    let seen = upstream.received(1).await.remove(0);
    assert_eq!((seen.method.as_str(), seen.text().as_str()), ("POST", "{\"n\":1}"));
    for (name, value) in [
        ("x-mine", Some("1")),
        ("authorization", Some("Bearer someone")),
        ("idempotency-key", Some("\"a key\"")),
        ("prefer", Some("return=minimal")),
        ("x-forwarded-for", Some("127.0.0.1")),
    ] {
        assert_eq!(seen.field(name).as_deref(), value, "{name}");
    }
    let result = call().await;
    result.is(201).is_replay();
    assert_eq!((result.text().as_str(), result.needs("x-of").as_str()), ("{\"n\":1}", "tool"));
    later(call()).await.replays(&result);
    assert_eq!(agent.get(&format!("{place}/response")).await.is_replay().is(201).body, result.body);
    call().body("other").await.refused("key-reused");
    Agent::named(&proxy, "other").get(&place).await.refused("not-found");
    // Who does not ask for it waits for the answer as ever, and a read is no job.
    agent.post("/x").key("2").body("direct").await.is(201).is_first_run();
    later(agent.get("/x")).await.is(201);
    later(agent.post("/x")).await.refused("missing-idempotency-key");
    assert_eq!(upstream.requests().len(), 3);
}

// J1, E1: its end is told when it can be asked for
#[tokio::test]
async fn an_agent_may_wait_for_a_job_by_its_event() {
    let upstream = Upstream::start().await;
    let (proxy, _folder) = taking_jobs(&upstream.url(), "").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    let mut events = Events::open(&proxy, "?resource=x").await;
    upstream.next(Reply::new(201).body("made").held(&gate)).next(Reply::ok("lost").cut());
    let place = accepted(&later(agent.post("/x").key("1")).await);
    let lost = accepted(&later(agent.post("/x").key("2")).await);
    gate.open();
    let told = events.next().await;
    assert_eq!((told.what(), told.data["status"].as_u64()), (("changed", "x"), Some(201)));
    let operation = told.data["operation"].as_str().expect("an operation");
    Agent::admin(&proxy).get(&format!("/operations/{operation}")).await.is(200);
    assert_eq!(agent.get(&place).wait(0).await.is(200).json()["state"], "done");
    assert_eq!(agent.get(&format!("{place}/response")).await.is(201).text(), "made");
    assert_eq!(events.next().await.what(), ("unknown", "x"));
    assert_eq!(agent.get(&lost).wait(0).await.is(200).json()["state"], "unknown");
}

// J1, W1, K6: a retry gets the same 202 until the end, whatever it prefers
#[tokio::test]
async fn a_retry_gets_the_same_202_until_the_end_then_the_result() {
    let upstream = Upstream::start().await;
    let (proxy, _folder) = taking_jobs(&upstream.url(), "idempotency.in_flight = \"wait\"").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::new(201).body("made").held(&gate));
    let call = || agent.post("/x").key("k").body("1");
    let first = later(call()).await;
    let place = accepted(&first);
    upstream.received(1).await;
    assert_eq!(agent.get(&place).await.is(200).json()["state"], "running");
    for retry in [later(call()).await, call().wait(0).await, later(call()).await] {
        accepted(&retry);
        assert_eq!((&retry.body, retry.needs("location")), (&first.body, place.clone()));
    }
    let waits = call().header("prefer", "respond-async, wait=1").await;
    accepted(&waits);
    assert_eq!(waits.all("preference-applied"), ["respond-async", "wait=1"]);
    let patient = call().header("prefer", "wait=10, respond-async").spawn();
    gate.open();
    let result = patient.await.unwrap();
    assert_eq!(
        (result.is(201).text().as_str(), result.needs("preference-applied").as_str()),
        ("made", "wait=10")
    );
    later(call()).await.replays(&result);
    // Soon enough the first gets the result itself.
    let first = agent.post("/x").key("2").header("prefer", "respond-async, wait=10").await;
    assert_eq!(first.is(200).needs("preference-applied"), "wait=10");
    assert_eq!(upstream.requests().len(), 2);
}

// J1, Q1: in order per resource, others beside it
#[tokio::test]
async fn jobs_of_one_resource_run_in_the_order_they_were_accepted() {
    let upstream = Upstream::start().await;
    let (proxy, _folder) = taking_jobs(&upstream.url(), "").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("first").held(&gate));
    let mut places = Vec::new();
    for n in 0..8 {
        let call = agent.post("/a").key(&format!("a{n}")).body(n.to_string());
        places.push(accepted(&later(call).await));
        upstream.received(1).await;
    }
    let other = accepted(&later(agent.post("/b").key("b").body("b")).await);
    assert_eq!(ended(&agent, &other).await["state"], "done");
    assert_eq!(upstream.requests().len(), 2, "one write at a time");
    assert_eq!(agent.get(&places[7]).await.json()["state"], "queued");
    let queued = Agent::admin(&proxy).get("/operations?state=queued").await.is(200).json();
    assert_eq!(queued["operations"].as_array().map(Vec::len), Some(7), "{queued}");
    gate.open();
    for place in &places {
        assert_eq!(ended(&agent, place).await["state"], "done");
    }
    let order: Vec<_> =
        upstream.requests().iter().map(|seen| seen.text()).filter(|text| text != "b").collect();
    assert_eq!(order, (0..8).map(|n| n.to_string()).collect::<Vec<_>>());
}

// J1, S5, K11: a restart loses none and runs none twice
#[tokio::test]
async fn a_kill_loses_no_job_and_runs_none_twice() {
    let upstream = Upstream::start().await;
    let (mut proxy, _folder) = taking_jobs(&upstream.url(), "idempotency.settle = \"0s\"").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("out").held(&gate));
    let mut places = Vec::new();
    for n in 0..6 {
        let call = agent.post("/a").key(&format!("k{n}")).body(n.to_string());
        places.push(accepted(&later(call).await));
        upstream.received(1).await;
    }
    proxy.kill();
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    assert_eq!(ended(&agent, &places[0]).await["state"], "unknown");
    for place in &places[1..] {
        assert_eq!(ended(&agent, place).await["state"], "done");
    }
    gate.open();
    for n in 1..6 {
        later(agent.post("/a").key(&format!("k{n}")).body(n.to_string())).await.is(200).is_replay();
    }
    later(agent.post("/a").key("k0").body("0")).await.refused("outcome-unknown");
    let sent: Vec<_> = upstream.requests().iter().map(|seen| seen.text()).collect();
    assert_eq!(sent, ["0", "1", "2", "3", "4", "5"]);
    proxy.terminate().await;
    proxy.restart().await;
    Agent::new(&proxy).post("/a").key("k5").body("5").await.is(200).is_replay();
    assert_eq!(upstream.requests().len(), 6);
}

// J1: what could not be sent is tried again, over restarts and reloads
#[tokio::test]
async fn an_upstream_that_comes_back_gets_what_waited() {
    let upstream = Upstream::answering(|_| Reply::ok("x").field("ETag", "\"v1\"")).await;
    let (nobody, folder) = (Nobody::new(), TempDir::new().unwrap());
    // The version is asked for before anything is noted as out, so that no kill leaves an unknown outcome.
    let versioned = "guard = \"state\"\nversion = \"etag\"";
    let mut proxy = Proxy::start(&on(&folder, &nobody.url(), versioned)).await;
    let call =
        |agent: &Agent, key: &str| later(agent.put("/a").key(key).if_match("\"v1\"").body(key.to_owned()));
    let agent = Agent::new(&proxy);
    let places = [accepted(&call(&agent, "1").await), accepted(&call(&agent, "2").await)];
    proxy.logged(&["a job is tried again", "upstream-unreachable"]).await;
    assert_eq!(agent.get(&places[0]).await.is(200).json()["state"], "queued");
    accepted(&call(&agent, "1").await);
    proxy.kill();
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    assert_eq!(agent.get(&places[1]).await.is(200).json()["state"], "queued");
    proxy.rewrite(&on(&folder, &upstream.url(), versioned));
    proxy.signal("HUP");
    for place in &places {
        assert_eq!(ended(&agent, place).await["status"], 200);
    }
    let sent: Vec<_> = upstream.with_method("PUT").iter().map(|seen| seen.text()).collect();
    assert_eq!(sent, ["1", "2"]);
}

// J1, K8: given up it is a 502, and that is its answer
#[tokio::test]
async fn what_cannot_be_sent_for_long_is_given_up() {
    let nobody = Nobody::new();
    let (proxy, _folder) = taking_jobs(&nobody.url(), "[jobs]\ngive_up = \"1s\"").await;
    let agent = Agent::new(&proxy);
    let call = || later(agent.post("/a").key("k").body("1"));
    let place = accepted(&call().await);
    let state = ended(&agent, &place).await;
    assert_eq!((&state["state"], &state["status"]), (&"done".into(), &502.into()), "{state}");
    let answer = call().await;
    let problem = answer.is_replay().refused("upstream-unreachable");
    assert_eq!((problem.retry.as_str(), problem.executed.as_str()), ("new-key", "no"));
    assert_eq!(answer.needs("onceward-retry"), "new-key");
    assert!(problem.detail.contains("new Idempotency-Key"), "{}", problem.detail);
    // The next of the resource is tried by itself.
    assert_eq!(ended(&agent, &accepted(&later(agent.post("/a").key("2")).await)).await["status"], 502);
}

// J1, Q2: so many wait and no more, and who was refused may come again
#[tokio::test]
async fn so_many_jobs_wait_and_no_more() {
    let upstream = Upstream::start().await;
    let (proxy, _folder) = taking_jobs(&upstream.url(), "[jobs]\nmax_waiting = 2").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("first").held(&gate));
    let call = |n: u32| later(agent.post("/a").key(&format!("k{n}")).body(n.to_string()));
    accepted(&call(0).await);
    upstream.received(1).await;
    let last = [accepted(&call(1).await), accepted(&call(2).await)];
    call(3).await.refused("queue-full");
    call(4).await.refused("queue-full");
    accepted(&call(2).await);
    gate.open();
    for place in &last {
        assert_eq!(ended(&agent, place).await["state"], "done");
    }
    let place = accepted(&call(3).await);
    assert_eq!(ended(&agent, &place).await["state"], "done");
    assert_eq!(upstream.requests().len(), 4);
}

// J1, V6, K8: a refusal is an end too, Onceward's own as the upstream's
#[tokio::test]
async fn a_refusal_is_kept_as_the_answer() {
    let upstream = Upstream::answering(|seen| match seen.method.as_str() {
        "GET" | "HEAD" => Reply::ok("v1").field("ETag", "\"v1\""),
        _ => Reply::new(503).body("not now"),
    })
    .await;
    let (proxy, _folder) = taking_jobs(&upstream.url(), "guard = \"state\"\nversion = \"etag\"").await;
    let agent = Agent::new(&proxy);
    let stale = || later(agent.put("/d").key("stale").if_match("\"v0\"").body("x"));
    let state = ended(&agent, &accepted(&stale().await)).await;
    assert_eq!((&state["state"], &state["status"]), (&"done".into(), &409.into()), "{state}");
    let answer = stale().await;
    let problem = answer.is_replay().refused("stale-version");
    assert_eq!((problem.json["current_etag"].as_str(), answer.etag().as_str()), (Some("\"v1\""), "\"v1\""));
    assert_eq!(answer.needs("onceward-retry"), "new-key");
    assert!(problem.detail.ends_with(", with a new Idempotency-Key."), "{}", problem.detail);
    assert_eq!(answer.all("via").len(), 1, "{answer}");
    assert!(upstream.with_method("PUT").is_empty(), "it was sent");
    let busy = || later(agent.put("/d").key("busy").if_match("\"v1\"").body("x"));
    assert_eq!(ended(&agent, &accepted(&busy().await)).await["status"], 503);
    assert_eq!(busy().await.is_replay().is(503).text(), "not now");
    assert_eq!(upstream.with_method("PUT").len(), 1, "an answer was taken for none");
}

// J1, I1: nobody reads what waits, nor runs it under another secret
#[tokio::test]
async fn what_waits_is_sealed() {
    let (upstream, folder) = (Upstream::start().await, TempDir::new().unwrap());
    let config = on(&folder, &upstream.url(), "idempotency.settle = \"0s\"");
    let mut proxy = Proxy::start(&config).await;
    let agent = Agent::named(&proxy, "credentials-of-somebody");
    let gate = Gate::closed();
    upstream.next(Reply::ok("out").held(&gate));
    accepted(&later(agent.post("/resource-in-clear").key("out")).await);
    upstream.received(1).await;
    let call = later(agent.post("/resource-in-clear").key("k").body("content-of-the-write"));
    accepted(&call.await);
    proxy.kill();
    let file = std::fs::read(folder.path().join("store")).expect("the store's file");
    let holds = |text: &str| file.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("resource-in-clear"), "the file is another");
    assert!(!holds("content-of-the-write") && !holds("credentials-of-somebody"), "it can be read");
    for secret in [SECRET.replace('0', "1"), String::new()] {
        let config = config.replace(SECRET, &secret).replace("async = true", "async = false");
        let started = Proxy::try_start(&config).await;
        let log = started.err().unwrap_or_else(|| panic!("it started with the secret {secret:?}"));
        assert!(log.contains("store.secret: 1 of 1 accepted writes"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
    let proxy = Proxy::start(&config).await;
    let agent = Agent::named(&proxy, "credentials-of-somebody");
    assert_eq!(ended(&agent, "/.onceward/operations/k").await["status"], 200);
    assert_eq!(upstream.requests()[1].text(), "content-of-the-write");
}

// J1, O5: a shutdown leaves what waits for the next start
#[tokio::test]
async fn a_shutdown_finishes_what_is_out_and_leaves_what_waits() {
    let upstream = Upstream::start().await;
    let (mut proxy, _folder) = taking_jobs(&upstream.url(), "").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("out").held(&gate));
    for n in 0..3 {
        accepted(&later(agent.post("/a").key(&format!("k{n}")).body(n.to_string())).await);
        upstream.received(1).await;
    }
    proxy.signal("TERM");
    proxy.logged(&["shutting down"]).await;
    within("the shutdown to be told", async {
        while Agent::admin(&proxy).get("/readyz").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    gate.open();
    assert!(proxy.ended().await.success());
    assert_eq!(upstream.requests().len(), 1, "one was begun in the shutdown");
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    for n in 0..3 {
        assert_eq!(ended(&agent, &format!("/.onceward/operations/k{n}")).await["state"], "done");
    }
    let sent: Vec<_> = upstream.requests().iter().map(|seen| seen.text()).collect();
    assert_eq!(sent, ["0", "1", "2"]);
}
