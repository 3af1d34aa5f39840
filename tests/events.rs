//! The stream of events (E1): what is told, to whom, in which order, and what a reader that comes back gets.

mod across;
mod leases;
mod readers;
mod resuming;

use std::collections::HashMap;

use serde_json::json;

use crate::harness::events::Told;
use crate::harness::ground::{Ground, on_each_store};
use crate::harness::ledger::Ledger;
use crate::harness::{Agent, Events, Proxy, Reply, Upstream, proxied};

/// A proxy on a store, with lines of `[events]` and of its route.
pub async fn on(ground: &Ground, upstream: &Upstream, events: &str, route: &str) -> Proxy {
    let (url, lines, to) = (ground.url(), ground.lines(), upstream.url());
    Proxy::start(&format!(
        "[store]\nurl = \"{url}\"\n{lines}[events]\n{events}\n[[routes]]\npath = \"/{{*path}}\"\nupstream = \"{to}\"\n{route}\n"
    ))
    .await
}

pub async fn memory(upstream: &Upstream, events: &str, route: &str) -> Proxy {
    on(&Ground::Memory, upstream, events, route).await
}

fn whats(told: &[Told]) -> Vec<(&str, &str)> {
    told.iter().map(Told::what).collect()
}

const TOOL: &str = "guard = \"tool\"\nresource = \"{query:r}\"";

// E1: 2xx writes are changes, refused ones conflicts, lost ones unknown; nothing else is told
async fn each_write_is_told_once(store: &str) {
    let ledger = Ledger::start().await;
    ledger.holds("/d", json!({"n": 0}));
    let ground = Ground::of(store).await;
    let proxy = on(&ground, &ledger.upstream, "", "").await;
    let agent = Agent::new(&proxy);
    let mut events = Events::open(&proxy, "").await;
    assert_eq!(events.head.first("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(events.head.first("cache-control").as_deref(), Some("no-store"));
    let tag = agent.tag("/d").await;
    let first = agent.put("/d").key("1").if_match(&tag).json(&json!({"n": 1})).await;
    let told = events.next().await;
    assert_eq!(told.what(), ("changed", "/d"));
    assert_eq!(told.version(), first.is(200).needs("onceward-version"));
    assert_eq!((&told.data["method"], &told.data["status"]), (&json!("PUT"), &json!(200)));
    let operation = told.data["operation"].as_str().unwrap().to_owned();
    Agent::admin(&proxy).get(&format!("/operations/{operation}")).await.is(200);
    // Neither a replay nor a read nor a refusal before the record is told.
    agent.put("/d").key("1").if_match(&tag).json(&json!({"n": 1})).await.replays(&first);
    agent.get("/d").await.is(200);
    agent.put("/d").key("2").json(&json!({"n": 2})).await.refused("missing-precondition");
    let stale = agent.put("/d").key("2").if_match(&tag).json(&json!({"n": 2})).await;
    let problem = stale.refused("stale-version");
    let told = events.next().await;
    assert_eq!(told.what(), ("conflict", "/d"));
    assert_eq!(told.version(), first.needs("onceward-version"));
    assert_eq!((&told.data["method"], &told.data["status"]), (&json!("PUT"), &json!(409)));
    assert_eq!(told.data["operation"], problem.json["operation"]);
    // The key is free again, and what it is used for is told as it is.
    let tag = agent.tag("/d").await;
    agent.delete("/d").key("2").if_match(&tag).await.is(200);
    let told = events.next().await;
    assert_eq!((told.what(), &told.data["method"]), (("changed", "/d"), &json!("DELETE")));
    assert!(told.data.get("version").is_none(), "{told:?}");
}

// E1, K8, K10, K11
async fn what_became_of_an_answer_is_told(store: &str) {
    let upstream = Upstream::start().await;
    let lines = format!("{TOOL}\nidempotency.settle = \"0s\"\nidempotency.on_5xx = \"hold\"");
    let ground = Ground::of(store).await;
    let proxy = on(&ground, &upstream, "", &lines).await;
    let agent = Agent::new(&proxy);
    let mut events = Events::open(&proxy, "").await;
    let stream = || Reply::ok("data: 1\n\n").field("Content-Type", "text/event-stream").chunked();
    let silent = [Reply::new(303), Reply::new(404), Reply::new(409), Reply::new(503), Reply::new(401)];
    let loud = [
        (Reply::new(201), ("changed", 201)),
        (Reply::new(204), ("changed", 204)),
        (Reply::ok("whole").cut_after(2), ("unknown", 0)),
        (Reply::new(502), ("unknown", 502)),
        (Reply::new(500), ("unknown", 500)),
        (stream(), ("changed", 200)),
        (stream().cut(), ("unknown", 0)),
    ];
    for (n, (reply, (kind, status))) in loud.into_iter().enumerate() {
        for (m, reply) in silent.iter().enumerate() {
            upstream.next(reply.clone());
            agent.post("/x?r=a").key(&format!("{n}-{m}")).await;
        }
        upstream.next(reply);
        agent.post("/x?r=a").key(&n.to_string()).try_send().await.ok();
        let told = events.next().await;
        assert_eq!(told.what(), (kind, "a"), "{n}");
        assert_eq!(told.data["status"].as_u64().unwrap_or_default(), status, "{n}");
        assert!(told.data["operation"].is_string(), "{n}");
    }
}

// E1: a write without a key, with a turn and without one, is told too
async fn what_has_no_key_is_told(store: &str) {
    let upstream = Upstream::start().await;
    let ground = Ground::of(store).await;
    for (n, lines) in
        ["queue = false", "queue = true", "queue = true\nversion = \"mint\""].into_iter().enumerate()
    {
        // A rest outlives its instance.
        let one = format!("one-{n}");
        let lines = format!("guard = \"tool\"\nresource = \"{one}\"\nidempotency.required = false\n{lines}");
        let proxy = on(&ground, &upstream, "", &lines).await;
        let agent = Agent::new(&proxy);
        let mut events = Events::open(&proxy, "").await;
        let version = agent.post("/x").body("1").await.is(200).header("onceward-version");
        let told = events.next().await;
        assert_eq!((told.what(), told.version()), (("changed", &*one), version.as_deref().unwrap_or("")));
        upstream.next(Reply::ok("x").cut_after(0));
        agent.post("/x").body("1").try_send().await.ok();
        assert_eq!(events.next().await.what(), ("unknown", &*one));
        if version.is_some() {
            let stale = agent.put("/x").if_match("\"old\"").body("1").wait(0).await;
            // As long as it rests nothing is compared.
            stale.refused("queue-timeout");
        }
    }
}

// E1, V6: what the upstream itself found stale is a conflict
#[tokio::test]
async fn a_conflict_found_upstream_is_told() {
    let upstream = Upstream::start().await;
    for key in [Some("k"), None] {
        let lines = "version = \"upstream\"\nidempotency.required = false\nversion.stale_status = 412"
            .replace("version = \"upstream\"\n", "version.source = \"upstream\"\n");
        let proxy = memory(&upstream, "", &lines).await;
        let agent = Agent::new(&proxy);
        let mut events = Events::open(&proxy, "").await;
        upstream.next(Reply::new(412).field("ETag", "\"v8\""));
        let put = agent.put("/d").if_match("\"v7\"").body("1");
        let put = if let Some(key) = key { put.key(key) } else { put };
        put.await.refused("stale-version");
        let told = events.next().await;
        assert_eq!((told.what(), told.version()), (("conflict", "/d"), "\"v8\""), "{key:?}");
        assert_eq!(told.data["status"], 412);
    }
}

// E1: in order per resource, with sixteen writers at once
async fn events_stand_in_the_order_of_the_writes(store: &str) {
    let upstream = Upstream::start().await;
    let lines = format!("{TOOL}\nversion = {{ source = \"mint\", required = [] }}\nqueue.max_wait = \"20s\"");
    let ground = Ground::of(store).await;
    let proxy = on(&ground, &upstream, "", &lines).await;
    let mut events = Events::open(&proxy, "").await;
    let mut writers = tokio::task::JoinSet::new();
    for w in 0..16 {
        let agent = Agent::new(&proxy);
        writers.spawn(async move {
            let mut made = Vec::new();
            for n in 0..10 {
                let (key, resource) = (format!("{w}-{n}"), (w + n) % 3);
                let put = agent.put(&format!("/x?r={resource}")).key(&key).wait(20).await;
                made.push((put.is(200).needs("onceward-version"), key));
            }
            made
        });
    }
    let made: HashMap<_, _> = writers.join_all().await.into_iter().flatten().collect();
    let told = events.some(160).await;
    for resource in ["0", "1", "2"] {
        let here = format!("/x?r={resource}");
        let sent = upstream.requests().into_iter().filter(|seen| seen.target == here);
        let sent: Vec<_> = sent.filter_map(|seen| seen.field("idempotency-key")).collect();
        let of_it = told.iter().filter(|told| told.subject == resource);
        let told: Vec<_> = of_it.map(|told| made[told.version()].clone()).collect();
        assert_eq!(told, sent, "{resource}");
    }
}

use self as events;
on_each_store! { on_memory = "memory" on_disk = "disk" on_redis = "redis" on_postgres = "postgres": {
    events: each_write_is_told_once what_became_of_an_answer_is_told what_has_no_key_is_told
        events_stand_in_the_order_of_the_writes;
    leases: what_a_holder_does_with_its_lease_is_told_once the_end_of_a_lease_by_its_time_is_told
        that_a_lease_was_broken_is_told;
    resuming: a_reader_resumes_where_it_was nothing_is_lost_between_then_and_now a_crash_loses_no_event;
} }
on_each_store! { two_on_redis = "redis" two_on_postgres = "postgres": {
    across: events_are_one_line_on_all what_an_instance_left_unknown_is_told_once;
} }

// E1, R2, R4: who is told of nothing, by the route
#[tokio::test]
async fn routes_say_of_what_is_told() {
    let upstream = Upstream::start().await;
    let to = upstream.url();
    let route = |path: &str, lines: &str| {
        format!("[[routes]]\npath = \"/{path}/{{id}}\"\nupstream = \"{to}\"\n{lines}\n")
    };
    let text = route("off", "guard = \"tool\"\nevents = \"off\"")
        + &route("none", "guard = \"none\"")
        + &route("read", "guard = \"read\"")
        + &route("observed", "guard = \"tool\"\nmode = \"observe\"")
        + &route("keyed", "guard = \"none\"\nidempotency.required = true\nevents = \"all\"")
        + &route("all", "guard = \"tool\"");
    let proxy = Proxy::start(&text).await;
    let agent = Agent::new(&proxy);
    let mut events = Events::open(&proxy, "").await;
    for path in ["off", "none", "read", "observed", "keyed", "all"] {
        agent.post(&format!("/{path}/1")).key(path).await.is(200);
    }
    let told = events.some(2).await;
    assert_eq!(whats(&told), [("changed", "/keyed/1"), ("changed", "/all/1")]);
    // The top counts for routes that write.
    let proxy = Proxy::start(&format!(
        "events = \"off\"\n{}{}",
        route("silent", "guard = \"tool\""),
        route("told", "guard = \"tool\"\nevents = \"all\"")
    ))
    .await;
    let mut events = Events::open(&proxy, "").await;
    for path in ["silent", "told"] {
        Agent::new(&proxy).post(&format!("/{path}/1")).key(path).await.is(200);
    }
    assert_eq!(events.next().await.what(), ("changed", "/told/1"));
}

// E1, I2
#[tokio::test]
async fn what_is_ones_own_nobody_else_sees() {
    let (upstream, proxy) = proxied(&format!("{TOOL}\nevents = \"own\"")).await;
    let own = [("Authorization", "Bearer ann")];
    let mut anns = Events::ask(&proxy, "", &own).await.expect("a stream");
    let mut bobs = Events::ask(&proxy, "", &[("Authorization", "Bearer bob")]).await.expect("a stream");
    let (ann, bob) = (Agent::named(&proxy, "ann"), Agent::named(&proxy, "bob"));
    let start = anns.last_id.clone();
    ann.post("/x?r=1").key("k").await.is(200);
    bob.post("/x?r=2").key("k").await.is(200);
    upstream.next(Reply::ok("x").cut_after(0));
    ann.post("/x?r=3").key("l").try_send().await.ok();
    bob.post("/x?r=4").key("l").await.is(200);
    let anns = anns.some(2).await;
    assert_eq!(whats(&anns), [("changed", "1"), ("unknown", "3")]);
    let bobs = bobs.some(2).await;
    assert_eq!(whats(&bobs), [("changed", "2"), ("changed", "4")]);
    assert!(!format!("{anns:?}{bobs:?}").contains("only"));
    // Nor from what was before.
    let fields = [("Authorization", "Bearer ann"), ("Last-Event-ID", &start)];
    let mut again = Events::ask(&proxy, "", &fields).await.expect("a stream");
    assert_eq!(again.some(2).await, anns);
}

// E1
#[tokio::test]
async fn a_reader_gets_what_it_asks_for() {
    let (_upstream, proxy) =
        proxied("guard = \"tool\"\nversion = { source = \"mint\", required = [] }").await;
    let agent = Agent::new(&proxy);
    let mut of_one = Events::open(&proxy, "?resource=%2Fa%2F1").await;
    // An alias of a path is that path (R5).
    let mut of_two = Events::open(&proxy, "?resource=/a/./2/&resource=%2Fa%2Fcaf%C3%A9").await;
    let mut conflicts = Events::open(&proxy, "?type=onceward.conflict&type=onceward.unknown").await;
    for path in ["/a/1", "/a/2", "/a/3", "/a/caf%C3%A9", "/a/1"] {
        let key = format!("{}", fastrand::u64(..));
        agent.put(path).key(&key).await.is(200);
    }
    agent.put("/a/3").key("stale").if_match("\"old\"").await.refused("stale-version");
    assert_eq!(whats(&of_one.some(2).await), [("changed", "/a/1"), ("changed", "/a/1")]);
    assert_eq!(whats(&of_two.some(2).await), [("changed", "/a/2"), ("changed", "/a/café")]);
    assert_eq!(conflicts.next().await.what(), ("conflict", "/a/3"));
}

// E1, P5
#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let (_upstream, proxy) = proxied(TOOL).await;
    for query in
        ["?resorce=x", "?type=changed", "?type=onceward.changes", "?resource=", "?resource=%zz", "?x"]
    {
        Events::ask(&proxy, query, &[]).await.err().expect(query).refused("bad-request");
    }
    let twice = [("Last-Event-ID", "1-1"), ("Last-Event-ID", "1-2")];
    Events::ask(&proxy, "", &twice).await.err().expect("a refusal").refused("bad-request");
    let twice = [("Authorization", "a"), ("Authorization", "b")];
    Events::ask(&proxy, "", &twice).await.err().expect("a refusal").refused("bad-request");
    let agent = Agent::new(&proxy);
    for method in ["HEAD", "POST", "DELETE"] {
        let answer = agent.call(method, "/.onceward/events").key("k").await;
        assert_eq!((answer.status, answer.needs("allow").as_str()), (405, "GET"));
    }
    agent.get("/.onceward/events/1").await.refused("not-found");
}
