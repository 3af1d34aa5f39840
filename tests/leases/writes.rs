//! What a lease means for writes (L2, L3, L5).

use super::*;
use crate::harness::{Gate, Reply};

// L2, R7: another's write is refused before the line, reads pass
pub(super) async fn while_it_is_held_a_write_needs_it(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, other) = (scene.agent("a"), scene.agent("b"));
    let lease = token(&ask_for(&holder, "one", "k", "40s").await);
    let refused = other.post("/x?r=one").key("1").await.refused("leased");
    let seconds = refused.json["retry_after"].as_u64().expect("seconds");
    assert!((30..=40).contains(&seconds) && refused.json["resource"] == "one", "{}", refused.json);
    // It costs the stranger no place in the line, however long it would wait.
    other.post("/x?r=one").key("1").wait(20).await.refused("leased");
    // Without it the holder is a stranger too; with another's or one that never was, so is everybody.
    holder.post("/x?r=one").key("1").await.refused("leased");
    write(&holder, "one", "2", "no-such-lease").await.refused("leased");
    write(&other, "one", "2", &lease).await.refused("leased");
    holder.get("/x?r=one").await.is(200);
    other.get("/x?r=one").await.is(200);
    other.post("/x?r=two").key("3").await.is(200);
    write(&holder, "one", "4", &lease).await.is(200).is_first_run();
    write(&holder, "one", "4", &lease).await.is(200).is_replay();
    holder.delete(&path(&lease)).await.is(204);
    // Refused, the key was free again.
    other.post("/x?r=one").key("1").await.is(200).is_first_run();
    let went: Vec<_> =
        scene.upstream.with_method("POST").iter().map(|seen| seen.field("idempotency-key")).collect();
    assert_eq!(went, ["3", "4", "1"].map(|key| Some(key.to_owned())));
    assert!(scene.upstream.requests().iter().all(|seen| seen.field("onceward-lease").is_none()), "F2");
}

// L2: ended, whether or not somebody else holds the resource now
pub(super) async fn a_late_write_of_an_ended_lease_is_refused(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, next) = (scene.agent("a"), scene.agent("b"));
    let lease = token(&ask(&holder, "one", "k").await);
    holder.delete(&path(&lease)).await.is(204);
    let lost = write(&holder, "one", "1", &lease).await.refused("lease-lost");
    assert_eq!((lost.executed.as_str(), lost.json["resource"].as_str()), ("no", Some("one")));
    ask(&next, "one", "k").await.is(201);
    write(&holder, "one", "1", &lease).await.refused("lease-lost");
    // For another it never was.
    write(&next, "one", "1", &lease).await.refused("leased");
    // A lease of something else holds nothing here.
    let elsewhere = token(&ask(&holder, "two", "l").await);
    write(&holder, "three", "1", &elsewhere).await.refused("lease-lost");
    write(&holder, "one", "1", &elsewhere).await.refused("leased");
    assert_eq!(scene.upstream.requests().len(), 0, "a late write went out");
}

// L3: what was seen when the request came proves nothing
pub(super) async fn it_is_looked_at_again_in_the_turn(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, other, gate) = (scene.agent("a"), scene.agent("b"), Gate::closed());
    let lease = token(&ask(&holder, "one", "k").await);
    scene.upstream.next(Reply::ok("slow").held(&gate));
    let slow = write(&holder, "one", "1", &lease).spawn();
    scene.upstream.arrived(1).await;
    let late = write(&holder, "one", "2", &lease).spawn();
    scene.proxy.waiting(1).await;
    holder.delete(&path(&lease)).await.is(204);
    gate.open();
    slow.await.unwrap().is(200);
    late.await.unwrap().refused("lease-lost");
    // And a stranger that stood in line before the lease was granted.
    let gate = Gate::closed();
    scene.upstream.next(Reply::ok("slow").held(&gate));
    let slow = other.post("/x?r=one").key("3").spawn();
    scene.upstream.arrived(2).await;
    let granted = ask(&holder, "one", "l").wait(15).spawn();
    scene.proxy.waiting(1).await;
    let stranger = other.post("/x?r=one").key("4").spawn();
    scene.proxy.waiting(2).await;
    gate.open();
    slow.await.unwrap().is(200);
    token(&granted.await.unwrap());
    stranger.await.unwrap().refused("leased");
    assert_eq!(scene.upstream.requests().len(), 2);
}

// L3: the lease's fence under it, and growing ones before, between and after
pub(super) async fn a_write_under_a_lease_carries_its_fence(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (agent, other) = (scene.agent("a"), scene.agent("b"));
    other.post("/x?r=one").key("1").await.is(200);
    let first = ask(&agent, "one", "k").await;
    for key in ["2", "3"] {
        write(&agent, "one", key, &token(&first)).await.is(200);
    }
    agent.delete(&path(&token(&first))).await.is(204);
    other.post("/x?r=one").key("4").await.is(200);
    let second = ask(&agent, "one", "l").await;
    write(&agent, "one", "5", &token(&second)).await.is(200);
    let seen: Vec<u64> = scene.upstream.with_method("POST").iter().map(fence_of).collect();
    assert_eq!((seen[1], seen[2], seen[4]), (fence(&first), fence(&first), fence(&second)));
    assert!(seen[0] < seen[1] && seen[2] < seen[3] && seen[3] < seen[4], "{seen:?}");
}

fn fence_of(seen: &crate::harness::upstream::Seen) -> u64 {
    seen.field("onceward-fence").expect("a fence").parse().expect("a number")
}

// L5
pub(super) async fn a_lease_does_not_replace_a_version(store: &str) {
    let scene = Scene::on(store, "version = \"mint\"").await;
    let agent = scene.agent("a");
    let lease = token(&ask(&agent, "/d", "k").await);
    let put = |key: &str| agent.put("/d").key(key).header("onceward-lease", &lease);
    put("1").await.refused("missing-precondition");
    put("1").if_match("\"old\"").await.refused("stale-version");
    let tag = agent.tag("/d").await;
    put("1").if_match(&tag).await.is(200);
    // The lease before the version: a stranger is not told that it is stale.
    scene.agent("b").put("/d").key("1").if_match("\"old\"").await.refused("leased");
}

// L1, L2: who waits for the lease stands in nobody's way
pub(super) async fn its_holders_writes_pass_who_waits_for_it(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, next) = (scene.agent("a"), scene.agent("b"));
    let lease = token(&ask(&holder, "one", "k").await);
    let waits = ask(&next, "one", "k").wait(15).spawn();
    scene.proxy.waiting(1).await;
    for key in ["1", "2", "3"] {
        write(&holder, "one", key, &lease).await.is(200);
    }
    assert!(!waits.is_finished());
    holder.delete(&path(&lease)).await.is(204);
    let granted = waits.await.unwrap();
    write(&next, "one", "4", &token(&granted)).await.is(200);
}

// L2, L4: also where writes take no turns
pub(super) async fn on_a_route_without_turns_a_lease_holds_too(store: &str) {
    let scene = Scene::on(store, "guard = \"tool\"").await;
    let (holder, other, gate) = (scene.agent("a"), scene.agent("b"), Gate::closed());
    let lease = token(&ask(&holder, "/x", "k").await);
    other.post("/x").key("1").await.refused("leased");
    let held = |key: &str| holder.post("/x").key(key).header("onceward-lease", &lease);
    scene.upstream.next(Reply::ok("slow").held(&gate));
    let slow = held("2").spawn();
    let seen = scene.upstream.arrived(1).await;
    assert!(seen[0].field("onceward-fence").is_some());
    holder.delete(&path(&lease)).await.is(204);
    // The holder's write is still out.
    ask(&other, "/x", "k").await.refused("queue-timeout");
    gate.open();
    slow.await.unwrap().is(200);
    ask(&other, "/x", "k").await.is(201);
    held("3").await.refused("lease-lost");
}

// L2, R4
pub(super) async fn what_is_only_observed_says_so(store: &str) {
    let scene = Scene::on(store, &format!("{TOOL}\nmode = \"observe\"")).await;
    let (holder, other) = (scene.agent("a"), scene.agent("b"));
    let lease = token(&ask(&holder, "one", "k").await);
    let observed = other.post("/x?r=one").key("1").await;
    assert_eq!(observed.is(200).header("onceward-observed").as_deref(), Some("leased"));
    // It would have been refused, so the key would still be free.
    assert_eq!(other.post("/x?r=one").key("1").await.header("onceward-observed").as_deref(), Some("leased"));
    assert_eq!(write(&holder, "one", "2", &lease).await.is(200).header("onceward-observed"), None);
    holder.delete(&path(&lease)).await.is(204);
    let late = write(&holder, "one", "3", &lease).await;
    assert_eq!(late.is(200).header("onceward-observed").as_deref(), Some("lease-lost"));
    assert_eq!(other.post("/x?r=one").key("1").await.is(200).header("onceward-observed"), None);
}

// L2, R7
pub(super) async fn a_lease_header_is_one_lease(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let agent = scene.agent("a");
    write(&agent, "one", "k", "a, b").await.refused("bad-request");
    write(&agent, "one", "k", "").await.refused("bad-request");
    write(&agent, "one", "k", "a").header("onceward-lease", "b").await.refused("bad-request");
    // The key comes before it, the body after.
    agent.post("/x?r=one").header("onceward-lease", "").await.refused("missing-idempotency-key");
    let large = "x".repeat(2 << 20);
    write(&agent, "one", "k", "").body(large).await.refused("bad-request");
    agent.get("/x?r=one").header("onceward-lease", "a, b").await.is(200);
}

// R7, K7: the record before the lease
pub(super) async fn a_retry_of_a_done_write_needs_no_lease(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, next) = (scene.agent("a"), scene.agent("b"));
    let lease = token(&ask(&holder, "one", "k").await);
    let done = write(&holder, "one", "1", &lease).await;
    holder.delete(&path(&lease)).await.is(204);
    ask(&next, "one", "k").await.is(201);
    write(&holder, "one", "1", &lease).await.replays(&done);
    holder.post("/x?r=one").key("1").await.replays(&done);
}
