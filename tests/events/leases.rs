//! What is told of leases (E1): each step once, with the resource as its subject.

use serde_json::json;

use super::{TOOL, on};
use crate::harness::agent::Call;
use crate::harness::ground::Ground;
use crate::harness::{Agent, Answer, Events, Proxy, Upstream};

async fn scene(ground: &Ground) -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    let proxy = on(ground, &upstream, "", TOOL).await;
    (upstream, proxy)
}

fn ask(agent: &Agent, key: &str, ttl: &str) -> Call {
    agent.post("/.onceward/leases").key(key).json(&json!({"resource": "one", "ttl": ttl}))
}

#[track_caller]
fn path(granted: &Answer) -> String {
    format!("/.onceward/leases/{}", granted.is(201).json()["lease"].as_str().expect("a lease"))
}

/// The next event is this one, and says nothing that only the holder may know.
async fn tells(events: &mut Events, kind: &str) {
    let told = events.next().await;
    assert_eq!((told.what(), &told.data), ((format!("lease.{kind}").as_str(), "one"), &json!({})));
}

// E1, L1
pub(super) async fn what_a_holder_does_with_its_lease_is_told_once(store: &str) {
    let ground = Ground::of(store).await;
    let (_upstream, proxy) = scene(&ground).await;
    let agent = Agent::new(&proxy);
    let mut events = Events::open(&proxy, "").await;
    let start = events.last_id.clone();
    let granted = ask(&agent, "1", "1m").await;
    tells(&mut events, "granted").await;
    let path = path(&granted);
    agent.put(&path).key("2").await.is(200);
    tells(&mut events, "renewed").await;
    // What is only said again is not told again.
    ask(&agent, "1", "1m").await.replays(&granted);
    agent.put(&path).key("2").await.is(200);
    agent.delete(&path).await.is(204);
    tells(&mut events, "released").await;
    agent.delete(&path).await.is(204);
    agent.post("/x?r=one").key("3").await.is(200);
    assert_eq!(events.next().await.what(), ("changed", "one"));
    // And by its type, from what is held of it.
    let mut again = Events::behind(&proxy, "?type=onceward.lease.renewed", &start).await;
    tells(&mut again, "renewed").await;
}

// E1, L1
pub(super) async fn the_end_of_a_lease_by_its_time_is_told(store: &str) {
    let ground = Ground::of(store).await;
    let (_upstream, proxy) = scene(&ground).await;
    let mut events = Events::open(&proxy, "").await;
    ask(&Agent::new(&proxy), "1", "200ms").await.is(201);
    tells(&mut events, "granted").await;
    // Nobody asks for it.
    tells(&mut events, "expired").await;
}

// E1, O4
pub(super) async fn that_a_lease_was_broken_is_told(store: &str) {
    let ground = Ground::of(store).await;
    let (_upstream, proxy) = scene(&ground).await;
    let (agent, admin) = (Agent::new(&proxy), Agent::admin(&proxy));
    let mut events = Events::open(&proxy, "").await;
    ask(&agent, "1", "1m").await.is(201);
    tells(&mut events, "granted").await;
    let leases = admin.get("/leases").await.is(200).json();
    let id = leases["leases"][0]["id"].as_str().expect("an id").to_owned();
    // Who and why may stand in the query too, as not every client sends a body with DELETE.
    assert_eq!(admin.delete(&format!("/leases/{id}")).await.status, 400);
    assert_eq!(admin.delete(&format!("/leases/{id}?who=ann&why=")).await.status, 400);
    admin.delete(&format!("/leases/{id}?who=ann&why=it%20hangs")).await.is(200);
    tells(&mut events, "broken").await;
    proxy.logged(&[&id, "ann", "it hangs"]).await;
    ask(&agent, "2", "1m").await.is(201);
    tells(&mut events, "granted").await;
}
