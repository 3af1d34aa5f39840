//! APIs that others wrote, as they wrote them: directly their concurrent writers lose updates and double what
//! they send twice; behind Onceward, with the configurations of `config/real`, nothing is lost and nothing doubled.

pub mod apis;
pub mod server;
mod witness;
mod writer;

use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::harness::{Agent, Answer, Proxy};
use apis::{Api, Chroma, JsonServer, Kinto, Radicale, START, WsgiDav};
use server::Server;
use witness::Witness;
use writer::{Tally, Writer, settled};

const AGENTS: u64 = 8;
const OPERATIONS: u64 = 25;
const ITEMS: u64 = 10;

/// How long all agents together may take, behind Onceward, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);

/// Each of these tests is three busy processes: one at a time leaves the other tests their share of the machine.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

// V1: `hash`, over an API that knows weak tags only and compares nothing
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_server_loses_no_update() {
    loses_nothing::<JsonServer>().await;
}

// V1: `etag`, over an API that compares If-Match itself, but not in one step with the write
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinto_loses_no_update() {
    loses_nothing::<Kinto>().await;
}

// V1, V7: `etag`, over an HTTP/1.0 server that stores other bytes than it was sent
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn radicale_loses_no_update() {
    loses_nothing::<Radicale>().await;
}

// V1, Q1: `hash`, over an API whose own tags repeat within a second, and whose reads see half-written files
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wsgidav_loses_no_update() {
    loses_nothing::<WsgiDav>().await;
}

// V2, V8: `mint`, over an API that reads by POST and has no versions
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chroma_loses_no_update() {
    loses_nothing::<Chroma>().await;
}

async fn loses_nothing<A: Api>() {
    let _one = ONE_AT_A_TIME.lock().await;
    let server = Server::start::<A>().await;
    let upstream = A::signed(Agent::at(&server.url()));
    let api = A::prepare(&upstream).await;
    directly(&api, &upstream, &server).await;
    assert_success(&api.write(&upstream, START).await);
    behind_onceward(&api, &upstream, &server).await;
}

/// Agents that read, add one and write back, with nothing between them and the API.
async fn directly<A: Api>(api: &A, upstream: &Agent, server: &Server) {
    let race = |_| {
        let (api, agent) = (api.clone(), A::signed(Agent::at(&server.url())));
        tokio::spawn(async move {
            let mut acknowledged = 0;
            for _ in 0..OPERATIONS {
                let value = read_directly(&api, &agent).await;
                let written = timeout(A::PATIENCE, api.write(&agent, value + 1).try_send()).await;
                acknowledged += u64::from(matches!(written, Ok(Ok(answer)) if answer.status / 100 == 2));
            }
            acknowledged
        })
    };
    let agents: Vec<_> = (0..AGENTS).map(race).collect();
    let mut expected = 0;
    for agent in agents {
        expected += agent.await.expect("an agent");
    }
    let last = read_directly(api, upstream).await - START;
    let lost = expected.saturating_sub(last);
    println!("{}: direct: expected {expected} final {last} lost {lost}", A::NAME);
    assert!(lost > 0, "{} lost nothing directly, so this test would prove nothing", A::NAME);
}

/// Reads until a whole answer with a counter in it comes: an API may show what is half written, or hang on it.
async fn read_directly<A: Api>(api: &A, agent: &Agent) -> u64 {
    for _ in 0..500 {
        if let Ok(Ok(answer)) = timeout(A::PATIENCE, api.read(agent).try_send()).await
            && let Some(value) = api.value(&answer)
        {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{} shows no counter", A::NAME)
}

/// The same agents on Onceward, which now and then send a finished write again.
async fn behind_onceward<A: Api>(api: &A, upstream: &Agent, server: &Server) {
    let witness = Witness::start(server.address()).await;
    let proxy = Proxy::start(&filled(A::CONFIG, &witness.url())).await;
    one_write_and_its_refusals(api, &A::signed(Agent::new(&proxy))).await;

    let race = async {
        let agents: Vec<_> = (0..AGENTS)
            .map(|number| tokio::spawn(Writer::new(api, &proxy, number).increments(OPERATIONS)))
            .collect();
        let mut tally = Tally::default();
        for agent in agents {
            tally.add(&agent.await.expect("an agent"));
        }
        tally
    };
    let tally = timeout(DEADLINE, race).await.unwrap_or_else(|_| panic!("{}: not done in time", A::NAME));

    // One write was done before the race.
    let expected = AGENTS * OPERATIONS + 1;
    let last = read_directly(api, upstream).await - START;
    let lost = expected as i64 - last as i64;
    let Tally { written, stale, replayed } = tally;
    println!(
        "{}: behind Onceward: expected {expected} final {last} lost {lost}, {stale} stale, {replayed} replayed",
        A::NAME
    );
    assert_eq!(written, AGENTS * OPERATIONS, "writes that were answered with success");
    assert_eq!(last, expected, "{}: the counter after all writes", A::NAME);
    assert!(stale > 0, "the agents never met, so this test would prove nothing");
    assert!(replayed > 0, "no write was sent again");
    // K7, K14, V5: what was replayed or refused as stale never reached the API; what succeeded did once.
    witness.saw_each_key_once(expected as usize);
}

/// Writes once, and is refused without a key, without a version, and with the version of before.
async fn one_write_and_its_refusals<A: Api>(api: &A, agent: &Agent) {
    let read = api.read(agent).await;
    assert_success(&read);
    let (value, tag) = (api.value(&read).expect("a counter"), read.etag());
    let next = || api.write(agent, value + 1);
    // K2, V3
    next().if_match(&tag).await.refused("missing-idempotency-key");
    next().key("without-a-version").await.refused("missing-precondition");

    let first = next().key("first").if_match(&tag).await;
    assert_success(&first);
    // V7: the write names the version that the next one is to be built on.
    let current = api.read(agent).await.etag();
    assert_eq!(first.needs("onceward-version"), current, "the version after a write: {first}");
    // V6
    let stale = next().key("second").if_match(&tag).await;
    let refusal = stale.refused("stale-version");
    assert_eq!(refusal.json["current_etag"], current.as_str(), "the current version in {stale}");
    assert_eq!(stale.etag(), current, "the current version on {stale}");
}

// K6, K7, W1: a POST that is sent twice at the same moment makes one item, and both get to know it
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_server_makes_each_item_once() {
    let _one = ONE_AT_A_TIME.lock().await;
    let server = Server::start::<JsonServer>().await;
    let upstream = Agent::at(&server.url());
    let before = items(&upstream).await;
    for number in 0..ITEMS {
        for _ in 0..2 {
            upstream.post("/counters").json(&json!({ "n": number })).await.is(201);
        }
    }
    let made = items(&upstream).await - before;
    println!("json-server: direct: expected {ITEMS} items, made {made}");
    assert_eq!(made, 2 * ITEMS, "directly, an item that is sent twice is made twice");

    let witness = Witness::start(server.address()).await;
    let proxy = Proxy::start(&filled(JsonServer::CONFIG, &witness.url())).await;
    let before = items(&upstream).await;
    let agents: Vec<_> = (0..AGENTS)
        .map(|number| {
            let agent = Agent::new(&proxy).with("x-agent-id", &format!("agent-{number}"));
            tokio::spawn(post_each_twice(agent, number))
        })
        .collect();
    for agent in agents {
        timeout(DEADLINE, agent).await.expect("all items in time").expect("an agent");
    }
    let made = items(&upstream).await - before;
    println!("json-server: behind Onceward: expected {} items, made {made}", AGENTS * ITEMS);
    assert_eq!(made, AGENTS * ITEMS, "items that were each sent twice");
    witness.saw_each_key_once((AGENTS * ITEMS) as usize);
}

/// Sends each item twice at the same moment, under one key; the one that comes second waits for the first.
async fn post_each_twice(agent: Agent, number: u64) {
    for item in 0..ITEMS {
        let call = agent.post("/counters").json(&json!({ "n": item, "by": number }));
        let call = call.key(&format!("item-{number}-{item}")).wait(10);
        let (one, other) = tokio::join!(settled(&call), settled(&call));
        let replayed = |answer: &Answer| answer.header("idempotent-replayed").as_deref() == Some("true");
        let (first, again) = if replayed(&one) { (other, one) } else { (one, other) };
        first.is(201).is_first_run();
        assert!(replayed(&again), "no replay: {again}");
        assert_eq!((again.status, &again.body), (201, &first.body), "another answer: {again}");
    }
}

async fn items(upstream: &Agent) -> u64 {
    let list = upstream.get("/counters").await.is(200).json();
    list.as_array().map(Vec::len).expect("a list of items") as u64
}

fn assert_success(answer: &Answer) {
    assert!(answer.status / 100 == 2, "success was expected, this came: {answer}");
}

/// The configuration as the environment would fill it, with this upstream.
pub fn filled(config: &str, upstream: &str) -> String {
    let mut parts = config.split("${UPSTREAM:-");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (_, rest) = part.split_once('}').expect("the end of a variable");
        filled.push_str(upstream);
        filled.push_str(rest);
    }
    filled
}
