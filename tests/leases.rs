//! Leases: an agent's own hold on a resource for a time (L1 to L5), on each kind of store.

mod across;
mod ends;
mod waiting;
mod writes;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::agent::Call;
use crate::harness::ground::{Ground, on_each_store};
use crate::harness::proxy::one_route;
use crate::harness::{Agent, Answer, Proxy, Upstream};

/// A proxy with one route before a scripted upstream, on a store of its own.
struct Scene {
    upstream: Upstream,
    proxy: Proxy,
    _ground: Ground,
}

/// Writes that need neither a version nor one resource for all.
const TOOL: &str = "guard = \"tool\"\nresource = \"{query:r}\"";

impl Scene {
    async fn on(store: &str, lines: &str) -> Scene {
        let (upstream, ground) = (Upstream::start().await, Ground::of(store).await);
        let text = config(&upstream, &ground, lines);
        Scene { proxy: Proxy::start(&text).await, upstream, _ground: ground }
    }

    fn agent(&self, name: &str) -> Agent {
        Agent::named(&self.proxy, name)
    }
}

fn config(upstream: &Upstream, ground: &Ground, lines: &str) -> String {
    let store = format!("[store]\nurl = \"{}\"\n{}\n", ground.url(), ground.lines());
    format!("{store}{}", one_route(&upstream.url(), lines))
}

/// Asks for a lease under that key.
fn ask(agent: &Agent, resource: &str, key: &str) -> Call {
    agent.post("/.onceward/leases").key(key).json(&json!({"resource": resource}))
}

fn ask_for(agent: &Agent, resource: &str, key: &str, ttl: &str) -> Call {
    agent.post("/.onceward/leases").key(key).json(&json!({"resource": resource, "ttl": ttl}))
}

/// The token of a lease that was granted.
#[track_caller]
fn token(answer: &Answer) -> String {
    answer.is(201).json()["lease"].as_str().expect("a lease").to_owned()
}

#[track_caller]
fn fence(answer: &Answer) -> u64 {
    answer.json()["fence"].as_u64().expect("a fence")
}

fn path(token: &str) -> String {
    format!("/.onceward/leases/{token}")
}

/// A write to the resource of [`TOOL`] under a lease.
fn write(agent: &Agent, resource: &str, key: &str, lease: &str) -> Call {
    agent.post(&format!("/x?r={resource}")).key(key).header("onceward-lease", lease)
}

async fn state(agent: &Agent, resource: &str) -> Value {
    agent.get(&format!("/.onceward/leases?resource={resource}")).await.is(200).json()
}

/// How long a lease still holds, by what its holder was told.
fn left(answer: &Answer) -> Duration {
    let until = answer.json()["expires_at"].as_str().expect("a time").to_owned();
    let until = humantime(&until);
    until.duration_since(SystemTime::now()).unwrap_or_default()
}

/// A time in RFC 3339, in UTC.
fn humantime(text: &str) -> SystemTime {
    let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().expect("digits");
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + number(20..23))
}

// L1, K3, K7: what is granted, and that a lost answer gives the same again
async fn a_lease_is_granted_once_under_its_key(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let agent = scene.agent("a");
    let first = ask_for(&agent, "one", "k", "40s").await;
    let members: Vec<_> = first.is(201).json().as_object().expect("an object").keys().cloned().collect();
    assert_eq!(members, ["expires_at", "fence", "lease", "resource"]);
    assert_eq!(first.json()["resource"], "one");
    assert_eq!(first.needs("onceward-resource"), "one");
    assert!(left(&first) > Duration::from_secs(30) && left(&first) <= Duration::from_secs(40));
    assert!(fence(&first) < 1 << 53);
    first.needs("idempotency-expires");
    for _ in 0..2 {
        ask_for(&agent, "one", "k", "40s").await.replays(&first);
    }
    ask_for(&agent, "one", "k", "41s").await.refused("key-reused");
    ask(&agent, "two", "k").await.refused("key-reused");
    agent.post("/x?r=one").key("k").await.refused("key-reused");
    assert_eq!(agent.get("/.onceward/operations/k").await.is(200).json()["state"], "done");
    agent
        .post("/.onceward/leases")
        .json(&json!({"resource": "one"}))
        .await
        .refused("missing-idempotency-key");
    assert_eq!(scene.upstream.requests().len(), 0, "a lease is nothing that an upstream is asked for");
}

// L1, I2, O4: who asks is told whether it is held, never by whom, and nobody else gets at it
async fn others_see_that_it_is_held_and_no_token(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (agent, other) = (scene.agent("a"), scene.agent("b"));
    let free = json!({"resource": "one", "held": false, "fence": null, "expires_at": null});
    assert_eq!(state(&other, "one").await, free);
    let granted = ask(&agent, "one", "k").await;
    let lease = token(&granted);
    let seen = state(&other, "one").await;
    assert_eq!((&seen["held"], &seen["fence"]), (&json!(true), &granted.json()["fence"]));
    assert!(!seen.to_string().contains(&lease));
    other.put(&path(&lease)).await.refused("not-found");
    let nothing = other.delete(&path(&lease)).await.refused("not-found");
    assert_eq!(nothing.detail, other.delete(&path("no-such-lease")).await.refused("not-found").detail);
    let admin = Agent::admin(&scene.proxy).get("/leases").await.is(200).text();
    assert!(admin.contains("\"one\"") && !admin.contains(&lease), "{admin}");
    agent.delete(&path(&lease)).await.is(204);
    assert_eq!(state(&other, "one").await, free);
    let log = scene.proxy.logs();
    assert!(!log.contains(&lease), "a token in the log:\n{log}");
    agent.get("/.onceward/leases").await.refused("bad-request");
    assert_eq!(agent.call("PATCH", "/.onceward/leases").await.needs("allow"), "GET, HEAD, POST");
    assert_eq!(agent.get(&path(&lease)).await.needs("allow"), "DELETE, PUT");
}

// L1: a renewal counts from now, for as long as was asked for, and is cut as a lease is
async fn a_lease_is_renewed(store: &str) {
    let scene = Scene::on(store, &format!("{TOOL}\nleases.max_ttl = \"50s\"")).await;
    let agent = scene.agent("a");
    let granted = ask_for(&agent, "one", "k", "10m").await;
    assert!(left(&granted) <= Duration::from_secs(50), "over max_ttl");
    let lease = token(&granted);
    let renew = |ttl: &str| agent.put(&path(&lease)).json(&json!({"ttl": ttl}));
    let shorter = renew("20s").await;
    assert!(left(shorter.is(200)) <= Duration::from_secs(20));
    assert_eq!((&shorter.json()["lease"], fence(&shorter)), (&json!(lease), fence(&granted)));
    let again = agent.put(&path(&lease)).await;
    assert!(left(again.is(200)) <= Duration::from_secs(20), "as long as it was asked for last");
    assert!(left(renew("1h").await.is(200)) > Duration::from_secs(40));
    for (ttl, why) in [("0s", "1ms"), ("30", "30s"), ("soon", "30s")] {
        assert!(renew(ttl).await.refused("bad-request").detail.contains(why));
    }
    let first = renew("30s").key("r").await;
    renew("30s").key("r").await.replays(&first);
    renew("31s").key("r").await.refused("key-reused");
    agent.delete(&path(&lease)).await.is(204);
    renew("30s").await.refused("lease-lost");
    renew("30s").key("r").await.replays(&first);
}

// L1: it may be given back again and again
async fn a_lease_is_given_back(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let agent = scene.agent("a");
    let lease = token(&ask(&agent, "one", "k").await);
    let first = agent.delete(&path(&lease)).key("d").await;
    first.is(204).is_first_run();
    agent.delete(&path(&lease)).key("d").await.is(204).is_replay();
    agent.delete(&path(&lease)).await.is(204);
    let next = ask(&agent, "one", "l").await;
    agent.delete(&path(&lease)).await.is(204);
    agent.put(&path(&token(&next))).await.is(200);
    assert!(fence(&next) > fence(&ask(&agent, "one", "k").await), "the old answer again, and a higher fence");
}

// L1, P2: what cannot be asked for says why
async fn what_cannot_be_leased_is_said(store: &str) {
    let scene = Scene::on(store, "guard = \"tool\"\nresource = \"docs/{query:r}\"").await;
    let agent = scene.agent("a");
    let detail = ask(&agent, "doc/7", "k").await.refused("not-found").detail;
    assert!(detail.contains("doc/7") && detail.contains("Onceward-Resource"), "{detail}");
    ask(&agent, "docs/7", "k").await.is(201).is_first_run();
    for body in
        ["", "{}", "{\"resource\": 7}", "{\"resource\": \"docs/8\", \"ttl\": 30}", "{\"resorce\": \"x\"}"]
    {
        agent.post("/.onceward/leases").key("l").body(body).await.refused("bad-request");
    }
    // As the header spells it.
    assert_eq!(ask(&agent, "docs/%C3%A9", "m").await.is(201).json()["resource"], "docs/é");
    ask(&agent, "docs/é", "n").await.refused("leased");
    let large = "x".repeat(70_000);
    agent.post("/.onceward/leases").key("o").body(large).await.refused("body-too-large");
}

// L1: so many and no more, of each principal
async fn one_principal_holds_so_many(store: &str) {
    let scene = Scene::on(store, &format!("{TOOL}\nleases.max_per_principal = 2")).await;
    let agent = scene.agent("a");
    let first = token(&ask(&agent, "one", "1").await);
    ask_for(&agent, "two", "2", "150ms").await.is(201);
    let refused = ask(&agent, "three", "3").await.refused("queue-full");
    assert!(refused.detail.contains("2 leases"), "{}", refused.detail);
    ask(&scene.agent("b"), "three", "3").await.is(201);
    agent.delete(&path(&first)).await.is(204);
    ask(&agent, "four", "3").await.is(201).is_first_run();
    // That one ended by its time is seen without anybody's doing.
    crate::harness::within("the second to end", async {
        while ask(&agent, "five", "5").await.status != 201 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

// L1: leases of one principal are counted rightly when many come and go at once
async fn a_principals_leases_are_counted_rightly(store: &str) {
    let scene = Scene::on(store, &format!("{TOOL}\nleases.max_per_principal = 8")).await;
    let agent = scene.agent("a");
    for round in 0..3 {
        let asked: Vec<_> =
            (0..8).map(|n| ask(&agent, &format!("r{n}"), &format!("{round}-{n}")).spawn()).collect();
        let mut held = Vec::new();
        for answer in asked {
            held.push(token(&answer.await.unwrap()));
        }
        ask(&agent, "r8", "more").await.refused("queue-full");
        let given: Vec<_> = held.iter().map(|lease| agent.delete(&path(lease)).spawn()).collect();
        for answer in given {
            answer.await.unwrap().is(204);
        }
    }
}

use self as leases;
on_each_store! { memory = "memory" disk = "disk" redis = "redis" postgres = "postgres": {
    leases: a_lease_is_granted_once_under_its_key others_see_that_it_is_held_and_no_token a_lease_is_renewed
        a_lease_is_given_back what_cannot_be_leased_is_said one_principal_holds_so_many
        a_principals_leases_are_counted_rightly;
    writes: while_it_is_held_a_write_needs_it a_late_write_of_an_ended_lease_is_refused
        it_is_looked_at_again_in_the_turn a_write_under_a_lease_carries_its_fence
        a_lease_does_not_replace_a_version its_holders_writes_pass_who_waits_for_it
        on_a_route_without_turns_a_lease_holds_too what_is_only_observed_says_so a_lease_header_is_one_lease
        a_retry_of_a_done_write_needs_no_lease;
    waiting: who_waits_gets_it_when_it_ends who_does_not_wait_is_told_how_long
        first_come_first_served no_lease_while_a_write_is_out no_lease_while_the_resource_rests
        many_agents_hold_it_one_at_a_time who_left_the_line_gets_nothing a_full_line_is_said;
    ends: it_ends_by_its_time_and_the_next_one_has_it it_ends_while_its_holders_write_is_out
        an_operator_breaks_it leases_can_be_switched_off_by_a_reload leases_are_a_routes_own_choice;
} }
on_each_store! { two_on_redis = "redis" two_on_postgres = "postgres": {
    across: a_lease_is_one_on_all neither_instance_starves_the_other its_time_is_over_on_all
        a_lease_outlives_its_instance;
} }
