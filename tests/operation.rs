//! The operator's side: health, metrics, log (O1 to O3), reloads (C3) and the way down (O5).

use serde_json::{Value, json};

use crate::harness::proxy::one_route;
use crate::harness::{Agent, Gate, Proxy, Raw, Reply, Upstream, proxied};

const TOOL: &str = "guard = \"tool\"\nresource = \"one\"\nname = \"calls\"";

// O1
#[tokio::test]
async fn a_second_listener_shows_how_it_is() {
    let (upstream, proxy) = proxied(TOOL).await;
    let admin = Agent::admin(&proxy);
    for path in ["/healthz", "/readyz", "/metrics", "/config"] {
        admin.get(path).await.is(200);
    }
    assert!(admin.get("/config").await.text().contains("calls"));
    // Nothing of it stands on the agents' side.
    Agent::new(&proxy).get("/metrics").await.is(200);
    assert_eq!(upstream.received(1).await[0].target, "/metrics");

    let config =
        format!("[server]\nadmin = \"off\"\n{}", one_route(&upstream.url(), "").replace("[server]\n", ""));
    let off = Proxy::start(&config).await;
    assert!(!off.has_admin());
    Agent::new(&off).get("/x").await.is(200);
}

// O2
#[tokio::test]
async fn every_outcome_is_counted_once() {
    let (upstream, proxy) =
        proxied(&format!("{TOOL}\nversion = \"hash\"\nidempotency.settle = \"0s\"")).await;
    let (agent, gate) = (Agent::named(&proxy, "secret-agent"), Gate::closed());
    agent.get("/x").await.is(200);
    agent.post("/x").key("secret-key").await.is(200);
    agent.post("/x").key("secret-key").await.is(200);
    agent.post("/x").key("secret-key").body("other").await.refused("key-reused");
    agent.post("/x").await.refused("missing-idempotency-key");
    agent.put("/x").key("2").await.refused("missing-precondition");
    agent.put("/x").key("2").if_match("\"old\"").await.refused("stale-version");
    agent.put("/x").key("a b").await.refused("invalid-idempotency-key");
    upstream.next(Reply::ok("late").held(&gate));
    let slow = agent.post("/x").key("3").spawn();
    upstream
        .until("the slow write", |seen| seen.iter().filter(|one| one.method == "POST").count() == 2)
        .await;
    agent.post("/x").key("3").await.refused("in-flight");
    agent.post("/x").key("4").wait(0).await.refused("queue-timeout");
    gate.open();
    slow.await.unwrap().is(200);
    upstream.next(Reply::ok("lost").cut());
    agent.post("/x").key("5").await.refused("upstream-broke-off");
    agent.post("/x").key("5").await.refused("outcome-unknown");
    agent.post("/.onceward/leases").key("6").json(&json!({"resource": "one"})).await.is(201);
    agent.post("/x").key("7").await.refused("leased");
    proxy.measures("onceward_requests_total", 15.0).await;

    let page = Agent::admin(&proxy).get("/metrics").await.text();
    let counted = |outcome: &str| -> f64 {
        let label = format!("outcome=\"{outcome}\"");
        let lines =
            page.lines().filter(|line| line.starts_with("onceward_requests_total{") && line.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let outcomes = [
        // The lease is granted by a keyed request too.
        ("executed", 3.0),
        ("replayed", 1.0),
        ("in_flight", 1.0),
        ("key_reused", 1.0),
        ("stale", 1.0),
        ("missing_key", 1.0),
        ("missing_precondition", 1.0),
        ("queued_out", 1.0),
        ("leased", 1.0),
        ("unknown", 2.0),
        ("refused", 1.0),
        ("passed", 1.0),
    ];
    for (outcome, count) in outcomes {
        assert_eq!(counted(outcome), count, "{outcome} in\n{page}");
    }
    for name in [
        "request_duration_seconds",
        "upstream_duration_seconds",
        "turn_wait_seconds",
        "turn_waiting",
        "unknown_operations",
        "store_errors_total",
        "store_fill_ratio",
        "principals_new_total",
        "config_last_reload_successful",
        "build_info",
    ] {
        assert!(page.contains(&format!("onceward_{name}")), "no onceward_{name} in\n{page}");
    }
    assert!(
        page.contains("route=\"calls\"")
            && page.contains("method=\"POST\"")
            && page.contains("mode=\"enforce\"")
    );
    assert!(!page.contains("secret"), "a key or a principal in\n{page}");
    assert_eq!(proxy.metric("onceward_unknown_operations").await, 1.0);
    assert_eq!(proxy.metric("onceward_principals_new_total").await, 1.0);
}

// O1
#[tokio::test]
async fn metrics_come_as_a_scraper_asks_for_them() {
    let (_upstream, proxy) = proxied(TOOL).await;
    let admin = Agent::admin(&proxy);
    Agent::new(&proxy).get("/x").await.is(200);
    proxy.measures("onceward_requests_total", 1.0).await;
    let text = admin.get("/metrics").await;
    assert!(text.needs("content-type").starts_with("text/plain; version=0.0.4"), "{text}");
    for line in ["# TYPE onceward_requests_total counter", "# TYPE onceward_build_info gauge"] {
        assert!(text.text().contains(line), "no {line} in {text}");
    }
    let asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = admin.get("/metrics").header("accept", asked).await;
    assert!(open.needs("content-type").starts_with("application/openmetrics-text"), "{open}");
    assert!(open.text().ends_with("# EOF\n"), "{open}");
}

// O2
#[tokio::test]
async fn a_request_without_a_route_is_counted_too() {
    let upstream = Upstream::start().await;
    let config = one_route(&upstream.url(), "guard = \"none\"").replace("/{*path}", "/only");
    let proxy = Proxy::start(&config).await;
    let agent = Agent::new(&proxy);
    agent.get("/nowhere").await.refused("no-route");
    agent.get("/.onceward/problems/gone").await.is(200);
    Raw::ask(&proxy, "GET /only HTTP/1.1\r\n\r\n").await.refused("bad-request");
    agent.get("/only").await.is(200);
    proxy.measures("onceward_requests_total", 4.0).await;
    let page = Agent::admin(&proxy).get("/metrics").await.text();
    for (route, outcome, count) in [("", "refused", 2), ("", "passed", 1), ("/only", "passed", 1)] {
        let labels = format!("route=\"{route}\",method=\"GET\",outcome=\"{outcome}\",mode=\"enforce\"");
        let line = format!("onceward_requests_total{{{labels}}} {count}");
        assert!(page.lines().any(|one| one == line), "no {line} in\n{page}");
    }
}

// O2
#[tokio::test]
async fn invented_methods_are_no_labels() {
    let (_upstream, proxy) = proxied("guard = \"none\"").await;
    for n in 0..5 {
        Agent::new(&proxy).call(&format!("INVENTED{n}"), "/x").await.is(200);
    }
    proxy.measures("onceward_requests_total", 5.0).await;
    let page = Agent::admin(&proxy).get("/metrics").await.text();
    assert!(!page.contains("INVENTED"), "a label for whatever an agent sends:\n{page}");
}

// O3
#[tokio::test]
async fn each_request_is_one_line_of_json() {
    let (upstream, proxy) = proxied(TOOL).await;
    let agent = Agent::named(&proxy, "secret-agent");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    agent
        .post("/x")
        .key("secret-key")
        .header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"))
        .await
        .is(200);
    let line = proxy.logged(&["executed", "calls"]).await;
    let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned();
    let time = text("timestamp");
    assert!(time.len() >= 20 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!((text("route").as_str(), text("outcome").as_str()), ("calls", "executed"));
    assert_eq!((text("method").as_str(), text("request_id").as_str()), ("POST", trace));
    assert_eq!((&line["status"], &line["upstream_status"]), (&json!(200), &json!(200)));
    // By the hash of its key an operator finds the operation.
    let operation = Agent::admin(&proxy).get(&format!("/operations/{}", text("key_hash"))).await;
    assert_eq!(operation.is(200).json()["state"], "done");
    let took = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("no {name} in {line}"));
    assert!(took("upstream_ms") > 0.0 && took("waited_ms") >= 0.0, "{line}");
    assert!(took("upstream_ms") + took("waited_ms") <= took("duration_ms"), "{line}");
    agent.post("/x").key("secret-key").body("other").await.refused("key-reused");
    let conflict = proxy.logged(&["key_reused"]).await.to_lowercase();
    assert!(conflict.contains("info") && !conflict.contains("error"), "{conflict}");
    let log = proxy.logs();
    assert!(!log.contains("secret"), "a key or a principal in the log:\n{log}");
    assert_eq!(log.lines().filter(|line| line.contains("executed")).count(), 1, "{log}");
    let continued = upstream.received(1).await[0].field("traceparent").unwrap_or_default();
    assert!(continued.starts_with(&format!("00-{trace}-")), "{continued}");
}

// C3
#[tokio::test]
async fn a_changed_file_is_loaded_and_requests_end_as_they_began() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    let first = agent.post("/x").key("before").await;
    upstream.next(Reply::ok("late").held(&gate));
    let slow = agent.post("/x").key("slow").spawn();
    upstream.arrived(2).await;
    proxy.rewrite(&one_route(&upstream.url(), "guard = \"state\""));
    // The change of the file itself is enough; a PUT tells which rules hold.
    let mut n = 0;
    let reloaded = async {
        loop {
            n += 1;
            let put = agent.put("/x").key(&n.to_string()).await;
            if put.is_refusal() {
                return put.refused("missing-precondition");
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    crate::harness::within("the changed file to be loaded", reloaded).await;
    gate.open();
    slow.await.unwrap().is(200);
    // K3: no reload hides a record.
    agent.post("/x").key("before").await.replays(&first);
    assert_eq!(proxy.metric("onceward_config_last_reload_successful").await, 1.0);
}

// C3
#[tokio::test]
async fn a_file_behind_a_link_is_loaded_when_the_link_is_swapped() {
    let (_upstream, proxy) = proxied("guard = \"tool\"").await;
    let agent = Agent::new(&proxy);
    agent.put("/x").key("1").await.is(200);
    // As mounted configurations are: of one length, with the time of another day.
    let file = proxy.config_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let (now, next) = (file.with_file_name("now"), file.with_file_name("next"));
    std::fs::write(&now, &text).unwrap();
    std::fs::write(&next, text.replace("\"tool\"", "\"none\"")).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
    for file in [&now, &next] {
        std::fs::File::options().append(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    let swap = |to: &std::path::Path| {
        let link = file.with_file_name("link");
        std::os::unix::fs::symlink(to, &link).unwrap();
        std::fs::rename(&link, &file).unwrap();
    };
    swap(&now);
    swap(&next);
    proxy.logged(&["was reloaded"]).await;
    agent.put("/x").await.is(200);
}

// C3
#[tokio::test]
async fn a_bad_file_is_reported_and_the_old_rules_stay() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let agent = Agent::new(&proxy);
    proxy.rewrite(&one_route(&upstream.url(), "guard = \"fortress\""));
    proxy.signal("HUP");
    proxy.measures("onceward_config_last_reload_successful", 0.0).await;
    proxy.logged(&["fortress"]).await;
    agent.put("/x").key("1").await.is(200);

    // The file is again what it was.
    proxy.rewrite(&one_route(&upstream.url(), "guard = \"tool\""));
    proxy.signal("HUP");
    proxy.measures("onceward_config_last_reload_successful", 1.0).await;

    // What needs a restart is said, and nothing of that file is taken.
    let changed = one_route(&upstream.url(), "guard = \"state\"")
        .replace("[server]\n", "[server]\nshutdown_grace = \"1s\"\n");
    proxy.rewrite(&changed);
    proxy.signal("HUP");
    proxy.logged(&["needs a restart"]).await;
    agent.put("/x").key("2").await.is(200);

    proxy.rewrite(&one_route(&upstream.url(), "guard = \"state\""));
    proxy.signal("HUP");
    proxy.measures("onceward_config_last_reload_successful", 1.0).await;
    agent.put("/x").key("3").await.refused("missing-precondition");
}

// O5
#[tokio::test]
async fn a_shutdown_lets_what_runs_come_to_its_end() {
    let (upstream, mut proxy) = proxied(TOOL).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::new(201).body("made").held(&gate));
    let running = agent.post("/x").key("1").spawn();
    upstream.arrived(1).await;
    proxy.signal("TERM");
    let admin = Agent::admin(&proxy);
    crate::harness::within("readiness to fail", async {
        while admin.get("/readyz").try_send().await.is_ok_and(|answer| answer.status == 200) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let refused = Agent::new(&proxy).get("/x").try_send().await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.code() == "shutting-down"));
    gate.open();
    assert_eq!(running.await.unwrap().is(201).text(), "made");
    assert_eq!(proxy.ended().await.code(), Some(0), "{}", proxy.logs());
}

// O5
#[tokio::test]
async fn what_does_not_end_in_time_is_unknown_and_said_so() {
    let upstream = Upstream::start().await;
    let config =
        one_route(&upstream.url(), TOOL).replace("[server]\n", "[server]\nshutdown_grace = \"500ms\"\n");
    let mut proxy = Proxy::start(&config).await;
    upstream.next(Reply::never());
    let running = Agent::new(&proxy).post("/x").key("1").spawn();
    upstream.arrived(1).await;
    let status = proxy.terminate().await;
    running.await.unwrap().refused("outcome-unknown");
    assert_eq!(status.code(), Some(0), "{}", proxy.logs());
}

// O5
#[tokio::test]
async fn whoever_is_under_way_at_the_end_of_the_grace_is_told_what_is_known() {
    let upstream = Upstream::start().await;
    let grace = "[server]\nshutdown_grace = \"500ms\"\n";
    let routes = [("read", "read"), ("pass", "none"), ("tool", "tool")].map(|(path, guard)| {
        let url = upstream.url();
        format!("[[routes]]\npath = \"/{path}\"\nguard = \"{guard}\"\nupstream = \"{url}\"\n")
    });
    let mut proxy = Proxy::start(&format!("{grace}{}", routes.concat())).await;
    let agent = Agent::new(&proxy);
    let mut under_way = Vec::new();
    for (n, call) in [agent.get("/read"), agent.get("/pass"), agent.post("/pass")].into_iter().enumerate() {
        upstream.next(Reply::never());
        under_way.push(call.spawn());
        upstream.arrived(n + 1).await;
    }
    let mut body = Raw::connect(&proxy).await;
    body.send("POST /tool HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\nhel").await;
    proxy.signal("TERM");
    for (call, code) in under_way.into_iter().zip(["shutting-down", "shutting-down", "upstream-broke-off"]) {
        call.await.unwrap().refused(code);
    }
    body.answer().await.refused("shutting-down");
    assert_eq!(proxy.ended().await.code(), Some(0), "{}", proxy.logs());
}

// O5
#[tokio::test]
async fn idle_connections_do_not_hold_a_shutdown_up() {
    let (_upstream, mut proxy) = proxied(TOOL).await;
    let mut kept = Raw::connect(&proxy).await;
    kept.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    kept.answer().await.is(200);
    let silent = Raw::connect(&proxy).await;
    let start = std::time::Instant::now();
    assert_eq!(proxy.terminate().await.code(), Some(0));
    assert!(
        start.elapsed() < std::time::Duration::from_secs(15),
        "it waited for connections without requests"
    );
    kept.closed().await;
    silent.closed().await;
}
