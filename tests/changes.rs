//! Reads that wait for a change (E2).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::events::{memory, on};
use crate::harness::ground::{Ground, on_each_store};
use crate::harness::ledger::Ledger;
use crate::harness::{Agent, Proxy, Raw, Reply, within};

const SOURCES: [&str; 4] =
    ["version = \"hash\"", "version = \"etag\"", "version = { field = \"/n\" }", "version = \"mint\""];

/// A store has a part in two of them: in minted versions, and with all others in who is woken.
fn sources(store: &str) -> &'static [&'static str] {
    if store == "memory" { &SOURCES } else { &["version = \"etag\"", "version = \"mint\""] }
}

/// Waits until so many reads wait.
async fn waiting(proxy: &Proxy, count: f64) {
    proxy.measures("onceward_event_readers", count).await;
}

// E2, W1: with each source of versions; answered when the version differs, else 304 after N
async fn a_read_waits_for_a_change(store: &str) {
    for version in sources(store) {
        let ground = Ground::of(store).await;
        let ledger = Ledger::start().await;
        ledger.holds("/d", json!({"n": 0}));
        let proxy = on(&ground, &ledger.upstream, "", version).await;
        let agent = Agent::new(&proxy);
        let tag = agent.tag("/d").await;
        let reads = ledger.upstream.requests().len();
        let waits = agent.get("/d").if_none_match(&tag).wait(15).spawn();
        waiting(&proxy, 1.0).await;
        // A write of another resource wakes nobody.
        agent.put("/e").key("e").header("if-none-match", "*").json(&json!({"n": 1})).await;
        let began = Instant::now();
        let wrote = agent.put("/d").key("1").if_match(&tag).json(&json!({"n": 1})).await;
        let read = waits.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{version}: {:?}", began.elapsed());
        assert_eq!(read.is(200).json()["n"], 1, "{version}");
        assert_eq!(read.etag(), wrote.is(200).needs("onceward-version"), "{version}");
        assert_eq!(read.needs("preference-applied"), "wait=15", "{version}");
        let looks = ledger.upstream.requests().into_iter().skip(reads);
        let looks = looks.filter(|seen| seen.target == "/d" && seen.method == "GET");
        let looks: Vec<_> = looks.map(|seen| seen.field("prefer")).collect();
        assert!(looks.iter().all(Option::is_none), "{version}: the wait went upstream");
        // Another version than the agent's is answered at once.
        let began = Instant::now();
        let read = agent.get("/d").if_none_match(&tag).wait(15).await;
        assert_eq!(read.is(200).json()["n"], 1, "{version}");
        let again = agent.get("/d").if_none_match(&read.etag()).wait(1).await;
        assert_eq!(again.is(304).etag(), read.etag(), "{version}");
        assert_eq!(again.needs("preference-applied"), "wait=1", "{version}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(990) && took < Duration::from_secs(10), "{version}: {took:?}");
        waiting(&proxy, 0.0).await;
    }
}

// E2, K11: a write with an unknown outcome may have changed it
async fn an_unknown_write_wakes_who_waits(store: &str) {
    let ground = Ground::of(store).await;
    let ledger = Ledger::start().await;
    ledger.holds("/d", json!({"n": 0}));
    let proxy = on(&ground, &ledger.upstream, "", "idempotency.settle = \"0s\"").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let waits = agent.get("/d").if_none_match(&tag).wait(15).spawn();
    waiting(&proxy, 1.0).await;
    // The probe in the turn, and then the write, which has its effect and no answer.
    ledger.upstream.next(Reply::json(200, &json!({"n": 0}))).next(Reply::ok("x").cut_after(0));
    ledger.holds("/d", json!({"n": 5}));
    agent.put("/d").key("k").if_match(&tag).json(&json!({"n": 5})).await;
    assert_eq!(waits.await.unwrap().is(200).json()["n"], 5);
}

// E2: where nothing is told of a route its writes wake who waits all the same
async fn silent_routes_wake_too(store: &str) {
    for version in sources(store) {
        let ground = Ground::of(store).await;
        let ledger = Ledger::start().await;
        ledger.holds("/d", json!({"n": 0}));
        let proxy = on(&ground, &ledger.upstream, "", &format!("events = \"off\"\n{version}")).await;
        let agent = Agent::new(&proxy);
        let tag = agent.tag("/d").await;
        let waits = agent.get("/d").if_none_match(&tag).wait(15).spawn();
        waiting(&proxy, 1.0).await;
        let began = Instant::now();
        agent.put("/d").key("1").if_match(&tag).json(&json!({"n": 1})).await.is(200);
        assert_eq!(waits.await.unwrap().is(200).json()["n"], 1, "{version}");
        assert!(began.elapsed() < Duration::from_secs(5), "{version}: {:?}", began.elapsed());
    }
}

// S3, E2: a write through one instance wakes who waits on the other
async fn a_write_wakes_who_waits_on_another(store: &str) {
    let ground = Ground::of(store).await;
    // Of a silent route nothing is told to others, and they look from time to time.
    for (lines, bound) in [("version = \"mint\"", 600), ("version = \"hash\"\nevents = \"off\"", 3000)] {
        let ledger = Ledger::start().await;
        ledger.holds("/d", json!({"n": 0}));
        let one = on(&ground, &ledger.upstream, "", lines).await;
        let two = on(&ground, &ledger.upstream, "", lines).await;
        let (writer, reader) = (Agent::new(&one), Agent::new(&two));
        let mut took = Vec::new();
        for n in 0..3 {
            let tag = reader.tag("/d").await;
            let waits = reader.get("/d").if_none_match(&tag).wait(15).spawn();
            waiting(&two, 1.0).await;
            let began = Instant::now();
            let wrote =
                writer.put("/d").key(&format!("{bound}-{n}")).if_match(&tag).json(&json!({"n": n + 1}));
            wrote.await.is(200);
            assert_eq!(waits.await.unwrap().is(200).json()["n"], n + 1, "{lines}");
            took.push(began.elapsed());
            waiting(&two, 0.0).await;
        }
        took.sort_unstable();
        assert!(took[1] < Duration::from_millis(bound), "{lines}: {took:?}");
    }
}

use self as changes;
on_each_store! { on_memory = "memory" on_disk = "disk" on_redis = "redis" on_postgres = "postgres": {
    changes: a_read_waits_for_a_change an_unknown_write_wakes_who_waits silent_routes_wake_too;
} }
on_each_store! { two_on_redis = "redis" two_on_postgres = "postgres": {
    changes: a_write_wakes_who_waits_on_another;
} }

// E2: what was changed past Onceward is found when the wait is over
#[tokio::test]
async fn a_last_look_finds_what_nobody_told() {
    let ledger = Ledger::start().await;
    ledger.holds("/d", json!({"n": 0}));
    let proxy = memory(&ledger.upstream, "", "").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let waits = agent.get("/d").if_none_match(&tag).wait(2).spawn();
    waiting(&proxy, 1.0).await;
    ledger.upstream.until("the first look", |seen| seen.len() == 2).await;
    ledger.holds("/d", json!({"n": 7}));
    let began = Instant::now();
    assert_eq!(waits.await.unwrap().is(200).json()["n"], 7);
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(ledger.upstream.requests().len(), 3);
}

// E2: what waits for nothing: other methods, without a precondition, without a version, without a wait
#[tokio::test]
async fn only_a_conditional_get_with_a_wait_waits() {
    let ledger = Ledger::start().await;
    ledger.holds("/d", json!({"n": 0}));
    let proxy = memory(&ledger.upstream, "", "").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let began = Instant::now();
    for call in [
        agent.get("/d").wait(15),
        agent.head("/d").if_none_match(&tag).wait(15),
        agent.get("/d").if_none_match(&tag).wait(0),
        agent.get("/d").if_none_match(&tag),
        agent.get("/none").if_none_match(&tag).wait(15),
    ] {
        let answer = call.await;
        assert!([200, 304, 404].contains(&answer.status), "{answer}");
    }
    let plain = memory(&ledger.upstream, "", "guard = \"tool\"").await;
    let agent = Agent::new(&plain);
    let own = agent.get("/d").await.header("etag").expect("the ledger's own tag");
    agent.get("/d").if_none_match(&own).wait(15).await.is(200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

// E2: who finds no place is answered at once, and told of no wait
#[tokio::test]
async fn a_wait_needs_a_place() {
    let ledger = Ledger::start().await;
    ledger.holds("/d", json!({"n": 0}));
    let proxy = memory(&ledger.upstream, "readers = 1", "").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let waits = agent.get("/d").if_none_match(&tag).wait(15).spawn();
    waiting(&proxy, 1.0).await;
    let answer = agent.get("/d").if_none_match(&tag).wait(15).await;
    assert_eq!(answer.is(304).header("preference-applied"), None);
    agent.put("/d").key("1").if_match(&tag).json(&json!({"n": 1})).await.is(200);
    waits.await.unwrap().is(200);
}

// E2, O5: neither an agent that left nor a shutdown waits on
#[tokio::test]
async fn a_wait_ends_with_its_agent_and_with_a_shutdown() {
    let ledger = Ledger::start().await;
    ledger.holds("/d", json!({"n": 0}));
    let mut proxy = memory(&ledger.upstream, "", "").await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!("GET /d HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\nPrefer: wait=60\r\n\r\n")).await;
    waiting(&proxy, 1.0).await;
    raw.reset();
    waiting(&proxy, 0.0).await;
    let http2 = Agent::http2(&proxy);
    let left = http2.get("/d").if_none_match(&tag).wait(60).spawn();
    waiting(&proxy, 1.0).await;
    left.abort();
    waiting(&proxy, 0.0).await;
    let waits = agent.get("/d").if_none_match(&tag).wait(60).spawn();
    waiting(&proxy, 1.0).await;
    let began = Instant::now();
    assert!(proxy.terminate().await.success());
    within("the read to be answered", waits).await.unwrap().is(304);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
