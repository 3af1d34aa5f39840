//! What became of an operation: its agent asks by the key (K17), an operator resolves what nobody knows (O4).

use serde_json::{Value, json};

use crate::harness::{Agent, Gate, Proxy, Reply, Upstream, proxied};

const TOOL: &str = "guard = \"tool\"\nname = \"calls\"";

// K17
#[tokio::test]
async fn an_agent_may_ask_what_became_of_its_write() {
    let (upstream, proxy) = proxied(&format!("{TOOL}\nresource = \"one\"")).await;
    let (agent, gate) = (Agent::named(&proxy, "ann"), Gate::closed());
    agent.get("/.onceward/operations/none").await.refused("not-found");
    upstream.next(Reply::new(201).body("made").held(&gate));
    let first = agent.post("/x").key("\"a b/c\"").spawn();
    upstream.arrived(1).await;
    let second = agent.post("/x").key("second").spawn();
    proxy.waiting(1).await;

    let running = agent.get("/.onceward/operations/a%20b%2Fc").await.is(200).json();
    assert_eq!(
        (&running["state"], &running["route"], &running["resource"]),
        (&json!("running"), &json!("calls"), &json!("one"))
    );
    assert!(running["started_at"].is_string(), "{running}");
    assert_eq!(agent.get("/.onceward/operations/second").await.is(200).json()["state"], "queued");
    agent.get("/.onceward/operations/a%20b%2Fc/response").await.refused("in-flight");

    let waiting = agent.get("/.onceward/operations/a%20b%2Fc").wait(15).spawn();
    gate.open();
    let done = waiting.await.unwrap().is(200).json();
    assert_eq!((&done["state"], &done["status"]), (&json!("done"), &json!(201)));
    assert!(done["completed_at"].is_string() && done["expires_at"].is_string(), "{done}");
    let first = first.await.unwrap();
    let recorded = agent.get("/.onceward/operations/a%20b%2Fc/response").await;
    recorded.is(201).replays(&first);
    second.await.unwrap().is(200);

    upstream.next(Reply::ok("lost").cut());
    agent.post("/y").key("lost").await.refused("upstream-broke-off");
    assert_eq!(agent.get("/.onceward/operations/lost").await.is(200).json()["state"], "unknown");
    // I2
    Agent::named(&proxy, "bob").get("/.onceward/operations/lost").await.refused("not-found");
    assert!(upstream.requests().iter().all(|seen| !seen.target.contains("onceward")));
}

/// A write whose outcome is unknown, and its id at the operator's side.
async fn lost(upstream: &Upstream, proxy: &Proxy, key: &str) -> String {
    upstream.next(Reply::ok("lost").cut());
    let problem = Agent::new(proxy).post("/x").key(key).await.refused("upstream-broke-off");
    let id = problem.json["operation"].as_str().expect("an operation").to_owned();
    let retry = Agent::new(proxy).post("/x").key(key).await.refused("outcome-unknown");
    assert_eq!(retry.json["operation"], json!(id));
    id
}

async fn resolve(proxy: &Proxy, id: &str, how: Value) -> u16 {
    let mut how = how;
    how["who"] = json!("ann");
    how["why"] = json!("the order book says so");
    Agent::admin(proxy).post(&format!("/operations/{id}/resolve")).json(&how).await.status
}

// O4
#[tokio::test]
async fn an_operator_resolves_what_nobody_knows() {
    let (upstream, proxy) = proxied(TOOL).await;
    let (agent, admin) = (Agent::new(&proxy), Agent::admin(&proxy));
    let (gone, done, empty) = (
        lost(&upstream, &proxy, "gone").await,
        lost(&upstream, &proxy, "done").await,
        lost(&upstream, &proxy, "empty").await,
    );
    let listed = admin.get("/operations?state=unknown").await.is(200).json();
    let mut ids: Vec<_> =
        listed["operations"].as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    ids.sort_by_key(Value::to_string);
    let mut expected = vec![json!(gone), json!(done), json!(empty)];
    expected.sort_by_key(Value::to_string);
    assert_eq!(ids, expected);
    let shown = admin.get(&format!("/operations/{gone}")).await.is(200).json();
    assert_eq!(
        (&shown["id"], &shown["state"], &shown["route"]),
        (&json!(gone), &json!("unknown"), &json!("calls"))
    );
    assert!(shown["started_at"].is_string(), "{shown}");

    assert!(resolve(&proxy, &gone, json!({"as": "not-executed"})).await < 300);
    agent.post("/x").key("gone").await.is(200).is_first_run();
    let response = json!({"status": 201, "headers": {"X-Found": "yes"}, "body": "found"});
    assert!(resolve(&proxy, &done, json!({"as": "executed", "response": response})).await < 300);
    for _ in 0..2 {
        let replay = agent.post("/x").key("done").await;
        assert_eq!((replay.is(201).text().as_str(), replay.needs("x-found").as_str()), ("found", "yes"));
        assert_eq!(replay.needs("idempotent-replayed"), "true");
    }
    assert!(resolve(&proxy, &empty, json!({"as": "executed"})).await < 300);
    agent.post("/x").key("empty").await.is(204);
    assert_eq!(upstream.requests().len(), 4);
    proxy.logged(&[&gone, "ann", "the order book says so"]).await;
    assert_eq!(admin.get("/operations?state=unknown").await.is(200).json()["operations"], json!([]));
}

// O4
#[tokio::test]
async fn what_still_runs_is_not_resolved() {
    let (upstream, proxy) = proxied(&format!("{TOOL}\nresource = \"one\"")).await;
    let (agent, admin, gate) = (Agent::new(&proxy), Agent::admin(&proxy), Gate::closed());
    upstream.next(Reply::ok("late").held(&gate));
    let first = agent.post("/x").key("1").spawn();
    upstream.arrived(1).await;
    let problem = agent.post("/x").key("1").await.refused("in-flight");
    let id = problem.json["operation"].as_str().expect("an operation").to_owned();
    assert_eq!(resolve(&proxy, &id, json!({"as": "not-executed"})).await, 409);
    assert_eq!(resolve(&proxy, &id, json!({"as": "executed"})).await, 409);
    assert!(admin.get("/resources?busy=true").await.is(200).text().contains("one"));
    gate.open();
    first.await.unwrap().is(200);
    assert_eq!(admin.get("/operations/no-such-id").await.status, 404);
    assert!(resolve(&proxy, "no-such-id", json!({"as": "executed"})).await == 404);
    assert!(resolve(&proxy, &id, json!({"as": "perhaps"})).await >= 400);
    assert_eq!(admin.get("/leases").await.is(200).json(), json!({"leases": []}));
}

// O4
#[tokio::test]
async fn an_open_admin_listener_needs_its_token() {
    let upstream = Upstream::start().await;
    let config = |lines: &str| {
        let server = format!("[server]\nadmin = \"0.0.0.0:0\"\n{lines}\n");
        format!(
            "{server}[[routes]]\npath = \"/{{*path}}\"\nupstream = \"{}\"\nguard = \"tool\"\n",
            upstream.url()
        )
    };
    let proxy = Proxy::start(&config("admin_token = \"sesame-and-lily\"")).await;
    let port = proxy.admin_url().rsplit(':').next().expect("a port").to_owned();
    let admin = Agent::at(&format!("http://127.0.0.1:{port}"));
    let id = lost(&upstream, &proxy, "k").await;
    let call = admin.post(&format!("/operations/{id}/resolve"));
    let call = call.json(&json!({"as": "not-executed", "who": "ann", "why": "none"}));
    assert!(matches!(call.clone().await.status, 401 | 403));
    assert!(matches!(call.clone().header("authorization", "Bearer wrong").await.status, 401 | 403));
    assert!(call.header("authorization", "Bearer sesame-and-lily").await.status < 300);
    admin.get("/metrics").await.is(200);
    assert!(!admin.get("/config").await.is(200).text().contains("sesame"), "a secret on the page");
}

// O4, Q5, V8
#[tokio::test]
async fn a_resolution_moves_a_minted_tag_for_the_last_time() {
    let (upstream, proxy) = proxied("version = \"mint\"\nidempotency.settle = \"1s\"").await;
    let agent = Agent::new(&proxy);
    let write = |key: &str, tag: &str| agent.put("/d").key(key).if_match(tag).body("1");
    upstream.next(Reply::ok("ok")).next(Reply::ok("lost").cut());
    let read = agent.tag("/d").await;
    let problem = write("lost", &read).await.refused("upstream-broke-off");
    let id = problem.json["operation"].as_str().expect("an operation").to_owned();
    let unknown = agent.tag("/d").await;
    assert_ne!(read, unknown);
    assert_eq!(resolve(&proxy, &id, json!({"as": "not-executed"})).await, 200);
    let resolved = agent.tag("/d").await;
    assert_ne!(unknown, resolved);
    let written = write("next", &resolved).await.is(200).needs("onceward-version");
    // Past the end of the rest that the operator ended.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(agent.tag("/d").await, written);
    write("last", &written).await.is(200);
}

// K17, P1, P2
#[tokio::test]
async fn a_recorded_answer_that_is_not_there_is_refused_in_words_about_the_write() {
    for (policy, retry) in [("hold", "ask-operator"), ("rerun", "same-key")] {
        let (upstream, proxy) = proxied(&format!("{TOOL}\nidempotency.on_unknown = \"{policy}\"")).await;
        let agent = Agent::new(&proxy);
        upstream.next(Reply::ok("lost").cut());
        agent.post("/x").key("k").await.refused("upstream-broke-off");
        let problem = agent.get("/.onceward/operations/k/response").await.refused("outcome-unknown");
        assert_eq!(problem.retry, retry);
        assert_eq!((&problem.json["route"], &problem.json["resource"]), (&json!("calls"), &json!("/x")));
        assert!(problem.detail.contains("/x") && !problem.detail.contains("onceward"), "{}", problem.detail);
    }
}

// O4, F2
#[tokio::test]
async fn a_resolution_brings_no_fields_of_a_connection() {
    let (upstream, proxy) = proxied(TOOL).await;
    let id = lost(&upstream, &proxy, "k").await;
    let headers =
        json!({"Transfer-Encoding": "chunked", "Connection": "X-Hop", "X-Hop": "1", "Location": "/x/1"});
    let response = json!({"status": 201, "headers": headers, "body": "made"});
    assert_eq!(resolve(&proxy, &id, json!({"as": "executed", "response": response})).await, 200);
    let replay = Agent::new(&proxy).post("/x").key("k").await;
    assert_eq!((replay.is(201).text(), replay.needs("content-length")), ("made".into(), "4".into()));
    assert_eq!(replay.needs("location"), "/x/1");
    for name in ["transfer-encoding", "connection", "x-hop"] {
        assert_eq!(replay.header(name), None, "{name}");
    }
}
