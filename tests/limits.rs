//! The limits (F3, F4): what is too large or too slow is refused, and costs a connection at most.

use std::collections::BTreeSet;

use crate::harness::http2::Http2;
use crate::harness::upstream::Seen;
use crate::harness::{Agent, Gate, Proxy, Raw, Reply, Upstream, proxied};

const POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n";

async fn tool(extra: &str) -> (Upstream, Proxy) {
    proxied(&format!("guard = \"tool\"\n{extra}")).await
}

// F3, F4
#[tokio::test]
async fn a_keyed_body_over_the_limit_is_refused_before_it_is_read() {
    let (upstream, proxy) = tool("limits.body = \"1KiB\"").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!("{POST}Content-Length: 1025\r\n\r\n")).await;
    raw.answer().await.refused("body-too-large");

    let mut raw = Raw::connect(&proxy).await;
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    raw.send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n{chunk}")).await;
    raw.send("1\r\nx\r\n").await;
    raw.answer().await.refused("body-too-large");

    let expecting = format!("{POST}Expect: 100-continue\r\nContent-Length: 1025\r\n\r\n");
    let answer = Raw::ask(&proxy, expecting).await;
    answer.refused("body-too-large");
    assert!(answer.interim.is_empty(), "100 before a refusal");

    assert!(upstream.requests().is_empty());
    // Nothing was claimed, and exactly the limit is allowed.
    Agent::new(&proxy).post("/x").key("k").body("x".repeat(1024)).await.is(200).is_first_run();
}

// F4
#[tokio::test]
async fn long_targets_and_heads_are_refused() {
    let (upstream, proxy) = tool("[limits]\nuri = \"1KiB\"\nhead = \"4KiB\"\nheaders = 20").await;
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let long = format!("/{}", "x".repeat(1024));
    Raw::ask(&proxy, get(&long, "")).await.refused("uri-too-long");
    let many: String = (0..20).map(|n| format!("X-{n}: {n}\r\n")).collect();
    Raw::ask(&proxy, get("/x", &many)).await.refused("headers-too-large");
    let wide = format!("X: {}\r\n", "x".repeat(5000));
    Raw::ask(&proxy, get("/x", &wide)).await.refused("headers-too-large");
    assert!(upstream.requests().is_empty());

    Raw::ask(&proxy, get(&long[..1024], "")).await.is(200);
    let few: String = (0..19).map(|n| format!("X-{n}: {n}\r\n")).collect();
    Raw::ask(&proxy, get("/x", &few)).await.is(200);
}

// F4
#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_given_up() {
    let (upstream, proxy) = tool("[limits]\nhead_time = \"300ms\"").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send("GET /x HTTP/1.1\r\nHost: a\r\n").await;
    raw.answer().await.refused("request-timeout");
    raw.closed().await;
    assert!(upstream.requests().is_empty());
}

// F3, F4
#[tokio::test]
async fn a_body_that_does_not_come_in_time_claims_nothing() {
    let (upstream, proxy) = tool("[limits]\nbody_time = \"300ms\"").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!("{POST}Content-Length: 5\r\n\r\nhel")).await;
    raw.answer().await.refused("request-timeout");
    raw.closed().await;
    assert!(upstream.requests().is_empty());
    Agent::new(&proxy).post("/x").key("k").body("other").await.is(200).is_first_run();
}

// F3
#[tokio::test]
async fn a_body_that_breaks_off_claims_nothing() {
    let (upstream, proxy) = tool("").await;
    let mut halved = Raw::connect(&proxy).await;
    halved.send(format!("{POST}Content-Length: 5\r\n\r\nhel")).await;
    halved.half_close().await;
    halved.answer().await.refused("bad-request");
    halved.closed().await;

    let mut halved = Raw::connect(&proxy).await;
    halved.send(format!("{POST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")).await;
    halved.half_close().await;
    halved.answer().await.refused("bad-request");
    halved.closed().await;

    let mut reset = Raw::connect(&proxy).await;
    reset.send(format!("{POST}Content-Length: 5\r\n\r\nhel")).await;
    reset.reset();
    Agent::new(&proxy).post("/x").key("k").body("other").await.is(200).is_first_run();
    assert_eq!(upstream.requests().len(), 1);
}

// F4
#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (_upstream, proxy) = tool("[limits]\nidle = \"300ms\"\nhead_time = \"300ms\"").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.answer().await.is(200);
    raw.closed().await;
    // One that never said anything ends too, told why or not.
    let told = String::from_utf8(Raw::connect(&proxy).await.rest().await).unwrap();
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 408"), "{told}");
}

// F4
#[tokio::test]
async fn connections_over_the_limit_are_told_so() {
    let (_upstream, proxy) = tool("[limits]\nconnections = 2").await;
    let get = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(&proxy).await;
        raw.send(get).await;
        raw.answer().await.is(200);
        kept.push(raw);
    }
    let mut third = Raw::connect(&proxy).await;
    // It is refused before it speaks, so its own bytes may already find the connection closed.
    third.try_send(get).await.ok();
    third.answer().await.refused("too-many-connections");
    third.closed().await;
    for mut raw in kept {
        raw.send(get).await;
        raw.answer().await.is(200);
    }
}

// F4
#[tokio::test]
async fn connections_over_the_limit_do_not_stay() {
    let (_upstream, proxy) = tool("[limits]\nconnections = 1").await;
    let get = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut kept = Raw::connect(&proxy).await;
    kept.send(get).await;
    kept.answer().await.is(200);
    // With `idle` as it is, they would stay for more than a minute.
    let silent = Raw::connect(&proxy).await;
    let mut slow = Raw::connect(&proxy).await;
    slow.send("GET /x HT").await;
    silent.closed().await;
    slow.answer().await;
    slow.closed().await;
    let mut over = Http2::connect(&proxy).await;
    let request = http::Request::get("http://a/x").body("").expect("a request");
    over.send(request).await.expect("an answer").refused("too-many-connections");
    over.closed().await;
    kept.send(get).await;
    kept.answer().await.is(200);
}

// F4
#[tokio::test]
async fn an_agent_that_stops_in_its_body_is_the_one_that_is_late() {
    let limits = "[limits]\nbody_time = \"300ms\"\nupstream_response = \"100ms\"";
    // Content that streams has gone out as far as it came, so of a write nobody can say that nothing was done.
    let cases = [
        ("guard = \"none\"", "POST", "upstream-broke-off", "unknown"),
        ("guard = \"none\"", "GET", "request-timeout", "no"),
        ("idempotency.required = false\nversion.required = []", "POST", "request-timeout", "no"),
    ];
    for (route, method, code, executed) in cases {
        let (_upstream, proxy) = proxied(&format!("{route}\n{limits}")).await;
        for framing in ["Content-Length: 5\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"] {
            let mut raw = Raw::connect(&proxy).await;
            raw.send(format!("{method} /x HTTP/1.1\r\nHost: a\r\n{framing}")).await;
            assert_eq!(raw.answer().await.refused(code).executed, executed, "{route} {method} {framing}");
            raw.closed().await;
        }
    }
}

// F3, F4
#[tokio::test]
async fn a_slow_body_without_a_key_costs_no_turn_either() {
    let route = "resource = \"one\"\nqueue = true\nidempotency.required = false\nlimits.body = \"1KiB\"";
    let (upstream, proxy) = tool(route).await;
    let mut slow = Raw::connect(&proxy).await;
    slow.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n").await;
    let agent = Agent::new(&proxy);
    agent.post("/y").body("meanwhile").await.is(200);
    slow.send("2\r\nlo\r\n0\r\n\r\n").await;
    slow.answer().await.is(200);
    // Of any size all the same.
    agent.post("/x").body("x".repeat(100_000)).await.is(200);
    let mut chunked = Raw::connect(&proxy).await;
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    chunked.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..8 {
        chunked.send(&chunk).await;
    }
    chunked.send("0\r\n\r\n").await;
    chunked.answer().await.is(200);
    let sizes: Vec<_> = upstream.received(4).await.iter().map(|seen| seen.body.len()).collect();
    assert_eq!(sizes, [9, 5, 100_000, 8192]);
}

// F4
#[tokio::test]
async fn bodies_have_a_common_bound() {
    let limits = "[limits]\nbuffered = \"100KiB\"\nbody_time = \"300ms\"";
    let (upstream, proxy) = tool(&format!("resource = \"{{query:r}}\"\n{limits}")).await;
    let (agent, gate, body) = (Agent::new(&proxy), Gate::closed(), "x".repeat(60 << 10));
    upstream.next(Reply::ok("late").held(&gate));
    let first = agent.post("/x?r=1").key("1").spawn();
    upstream.arrived(1).await;
    // It waits for its turn with its body in memory.
    let second = agent.post("/x?r=1").key("2").body(body.clone()).spawn();
    proxy.waiting(1).await;
    let third = agent.post("/x?r=2").key("3").body(body.clone()).await;
    let problem = third.problem();
    assert_eq!(
        (third.status, problem.executed.as_str(), problem.retry.as_str()),
        (503, "no", "same-key"),
        "{third}"
    );
    gate.open();
    first.await.unwrap().is(200);
    second.await.unwrap().is(200);
    agent.post("/x?r=2").key("3").body(body).await.is(200).is_first_run();
}

// F4
#[tokio::test]
async fn a_slow_body_costs_a_connection_and_no_turn() {
    let (upstream, proxy) = tool("resource = \"one\"").await;
    let mut slow = Raw::connect(&proxy).await;
    slow.send(format!("{POST}Content-Length: 5\r\n\r\nhel")).await;
    let agent = Agent::new(&proxy);
    agent.post("/y").key("other").await.is(200);
    agent.post("/x").key("k").body("hello").await.is(200).is_first_run();
    slow.send("lo").await;
    // By now another has run under its key, with its body.
    slow.answer().await.is(200);
    assert_eq!(upstream.requests().len(), 2);
}

// F4, Q3
#[tokio::test]
async fn an_agent_that_takes_nothing_is_cut_off() {
    let (upstream, proxy) = proxied("guard = \"none\"\n[limits]\nwrite_time = \"300ms\"").await;
    upstream.next(Reply::ok("x".repeat(64 << 20)));
    let mut raw = Raw::with_small_window(&proxy).await;
    raw.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream
        .until("the upstream to be rid of its answer", |seen| seen.first().is_some_and(|one| one.answered))
        .await;
    let answer = raw.answer_or_end().await;
    assert!(answer.is_none_or(|answer| !answer.whole), "an agent that took nothing got all");
}

/// How many connections the proxy has open to an upstream.
fn open(seen: &[Seen]) -> usize {
    let open: BTreeSet<_> = seen.iter().filter(|one| !one.closed).map(|one| one.connection).collect();
    open.len()
}

// F4
#[tokio::test]
async fn connections_to_an_upstream_have_one_bound_whatever_leads_there() {
    let upstream = Upstream::start().await;
    let other =
        format!("[[routes]]\npath = \"/other/{{id}}\"\nupstream = \"{}\"\nguard = \"tool\"", upstream.url());
    // What carried a read is too old for a write at once.
    let keep = "limits.upstream_keep = \"0s\"";
    let routes = format!(
        "guard = \"tool\"\n{keep}\n{other}\n{keep}\nlimits.upstream_connections = 2\nlimits.body = \"1KiB\""
    );
    let proxy = Proxy::route(&upstream, &routes).await;
    let agent = Agent::new(&proxy);
    let gate = Gate::closed();
    let both = [("GET", "/x", "/other/1"), ("POST", "/x", "/other/1"), ("POST", "/x", "/y")];
    for (round, (method, first, second)) in both.into_iter().enumerate() {
        let gate = Gate::closed();
        let calls = [first, second].map(|path| {
            upstream.next(Reply::ok("held").held(&gate));
            agent.call(method, path).key(&format!("{round}{path}")).spawn()
        });
        // Both are out, and whatever was idle before made room for them.
        let seen = upstream.until("two at once, and no third connection", |seen| {
            seen.len() == 2 * (round + 1) && open(seen) == 2
        });
        seen.await;
        gate.open();
        for call in calls {
            call.await.unwrap().is(200);
        }
    }
    // A third waits for one of them, of whatever route it is.
    let calls = ["/x", "/other/1"].map(|path| {
        upstream.next(Reply::ok("held").held(&gate));
        agent.get(path).spawn()
    });
    upstream.arrived(8).await;
    let third = agent.get("/other/2").spawn();
    agent.get("/.onceward/problems/in-flight").await.is(200);
    assert_eq!((upstream.requests().len(), third.is_finished()), (8, false));
    gate.open();
    for call in calls.into_iter().chain([third]) {
        call.await.unwrap().is(200);
    }
    assert_eq!(open(&upstream.requests()), 2);
}
