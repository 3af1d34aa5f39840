//! How leases end (L1, L2, L4, O4), and where there are none.

use std::time::Instant;

use super::*;
use crate::harness::{Gate, Reply};

// L1, L2: by its time, at once, whoever looks
pub(super) async fn it_ends_by_its_time_and_the_next_one_has_it(store: &str) {
    let scene = Scene::on(store, TOOL).await;
    let (holder, next) = (scene.agent("a"), scene.agent("b"));
    let began = Instant::now();
    let held = ask_for(&holder, "one", "k", "1s").await;
    let lease = token(&held);
    let granted = ask(&next, "one", "k").wait(15).await;
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(950) && waited < Duration::from_millis(1600), "{waited:?}");
    write(&holder, "one", "1", &lease).await.refused("lease-lost");
    holder.put(&path(&lease)).await.refused("lease-lost");
    holder.delete(&path(&lease)).await.is(204);
    write(&next, "one", "1", &token(&granted)).await.is(200);
    // Also where nobody waits for it.
    let short = token(&ask_for(&holder, "two", "l", "100ms").await);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(state(&holder, "two").await["held"], false);
    write(&holder, "two", "2", &short).await.refused("lease-lost");
    next.post("/x?r=two").key("2").await.is(200);
    ask(&next, "two", "l").await.is(201);
    assert_eq!(scene.upstream.requests().len(), 2);
}

// L4: the next lease only when the last holder's write has ended, or its rest has
pub(super) async fn it_ends_while_its_holders_write_is_out(store: &str) {
    for lost in [false, true] {
        let scene = Scene::on(store, &format!("{TOOL}\nidempotency.settle = \"1s\"")).await;
        let (holder, next, gate) = (scene.agent("a"), scene.agent("b"), Gate::closed());
        let reply = if lost { Reply::ok("lost").cut() } else { Reply::ok("slow") };
        scene.upstream.next(reply.held(&gate));
        let held = ask_for(&holder, "one", "k", "30s").await;
        let slow = write(&holder, "one", "1", &token(&held)).spawn();
        scene.upstream.arrived(1).await;
        // However long that took: it ends soon from here on.
        let renewed = holder.put(&path(&token(&held))).json(&json!({"ttl": "500ms"})).await;
        assert_eq!(fence(renewed.is(200)), fence(&held));
        let waits = ask(&next, "one", "k").wait(15).spawn();
        crate::harness::within("the lease to end", async {
            while state(&next, "one").await["held"] == true {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        // It waits as a write does now, for the one that is out.
        scene.proxy.waiting(1).await;
        ask(&scene.agent("c"), "one", "k").await.refused("queue-timeout");
        let opened = Instant::now();
        gate.open();
        match lost {
            true => drop(slow.await.unwrap().refused("upstream-broke-off")),
            false => drop(slow.await.unwrap().is(200)),
        }
        let granted = waits.await.unwrap();
        assert!(fence(granted.is(201)) > fence(&held));
        let rested = opened.elapsed() >= Duration::from_millis(950);
        assert_eq!(rested, lost, "{:?}", opened.elapsed());
    }
}

// O4, L2
pub(super) async fn an_operator_breaks_it(store: &str) {
    let scene = Scene::on(store, &format!("{TOOL}\nname = \"calls\"")).await;
    let (holder, next, admin) = (scene.agent("a"), scene.agent("b"), Agent::admin(&scene.proxy));
    let held = ask(&holder, "one", "k").await;
    let leases = admin.get("/leases").await.is(200).json();
    let row = &leases["leases"][0];
    let members: Vec<_> = row.as_object().expect("a row").keys().map(String::as_str).collect();
    assert_eq!(members, ["expires_at", "fence", "id", "resource"]);
    assert_eq!((&row["resource"], &row["fence"]), (&json!("one"), &held.json()["fence"]));
    let id = row["id"].as_str().expect("an id").to_owned();
    assert_ne!(id, token(&held));
    let delete = |body: Value| admin.delete(&format!("/leases/{id}")).json(&body);
    for body in [json!({}), json!({"who": "ann"}), json!({"who": "ann", "why": " "})] {
        assert_eq!(delete(body).await.status, 400);
    }
    let waits = ask(&next, "one", "k").wait(15).spawn();
    scene.proxy.waiting(1).await;
    delete(json!({"who": "ann", "why": "it hangs"})).await.is(200);
    let granted = waits.await.unwrap();
    assert_eq!(delete(json!({"who": "ann", "why": "it hangs"})).await.status, 404);
    let line = scene.proxy.logged(&[&id, "ann", "it hangs", "calls"]).await;
    assert!(!line.contains(&token(&held)), "{line}");
    write(&holder, "one", "1", &token(&held)).await.refused("lease-lost");
    holder.put(&path(&token(&held))).await.refused("lease-lost");
    holder.delete(&path(&token(&held))).await.is(204);
    write(&next, "one", "1", &token(&granted)).await.is(200);
    assert_eq!(admin.delete("/leases/x").json(&json!({"who": "a", "why": "b"})).await.status, 404);
}

// L1, C3, K3: nobody is kept back any more, and what was answered still is
pub(super) async fn leases_can_be_switched_off_by_a_reload(store: &str) {
    let (upstream, ground) = (Upstream::start().await, Ground::of(store).await);
    let proxy = Proxy::start(&config(&upstream, &ground, TOOL)).await;
    let (holder, other) = (Agent::named(&proxy, "a"), Agent::named(&proxy, "b"));
    let held = ask(&holder, "one", "k").await;
    other.post("/x?r=one").key("1").await.refused("leased");
    proxy.rewrite(&config(&upstream, &ground, &format!("{TOOL}\nleases = false")));
    proxy.logged(&["the configuration was reloaded"]).await;
    other.post("/x?r=one").key("1").await.is(200);
    ask(&other, "one", "k").await.refused("not-found");
    ask(&holder, "one", "k").await.replays(&held);
    other.get("/.onceward/leases?resource=one").await.refused("not-found");
    holder.put(&path(&token(&held))).await.refused("not-found");
    // Its header means nothing here now.
    write(&holder, "one", "2", "a, b").await.is(200);
    holder.delete(&path(&token(&held))).await.is(204);
}

// L1, R2
pub(super) async fn leases_are_a_routes_own_choice(store: &str) {
    let (upstream, ground) = (Upstream::start().await, Ground::of(store).await);
    let routes = [
        ("/state/{id}", ""),
        ("/off/{id}", "leases = false"),
        ("/read/{id}", "guard = \"read\""),
        ("/none/{id}", "guard = \"none\""),
        ("/own/{id}", "guard = \"none\"\nleases = true"),
    ];
    let mut text = format!("leases = {{ max_ttl = \"20s\" }}\n[store]\nurl = \"{}\"\n", ground.url());
    for (path, lines) in routes {
        text.push_str(&format!(
            "[[routes]]\npath = \"{path}\"\nupstream = \"{}\"\n{lines}\n",
            upstream.url()
        ));
    }
    let proxy = Proxy::start(&text).await;
    let (agent, other) = (Agent::named(&proxy, "a"), Agent::named(&proxy, "b"));
    for (n, (path, granted)) in
        [("/state/1", true), ("/off/1", false), ("/read/1", false), ("/none/1", false), ("/own/1", true)]
            .into_iter()
            .enumerate()
    {
        let answer = ask_for(&agent, path, &n.to_string(), "1m").await;
        match granted {
            true => assert!(left(answer.is(201)) <= Duration::from_secs(20)),
            false => drop(answer.refused("not-found")),
        }
    }
    other.post("/none/1").await.is(200);
    other.post("/own/1").await.refused("leased");
    agent.post("/state/1").key("s").await.refused("leased");
    ask(&agent, "/nowhere", "n").await.refused("not-found");
}
