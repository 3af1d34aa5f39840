//! What is taken off, added and replaced on the way, in both directions (F2).

use serde_json::json;

use crate::harness::upstream::Seen;
use crate::harness::{Agent, Proxy, Raw, Reply, Upstream, proxied};

/// Sends a GET with these field lines and gives back what the upstream got.
async fn forwarded(upstream: &Upstream, proxy: &Proxy, fields: &str) -> Seen {
    let before = upstream.requests().len();
    Raw::ask(proxy, format!("GET /x HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n\r\n")).await.is(200);
    upstream.received(before + 1).await.remove(before)
}

// F2
#[tokio::test]
async fn hop_by_hop_fields_of_a_request_stay_here() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let fields = "Connection: keep-alive, X-Hop, x-other-hop\r\nConnection: x-third\r\nX-Hop: 1\r\nX-Other-Hop: 2\r\n\
        X-Third: 3\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nX-Stays: 4";
    let seen = forwarded(&upstream, &proxy, fields).await;
    for name in ["x-hop", "x-other-hop", "x-third", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert!(!seen.head.has(name), "{name} went upstream: {:?}", seen.head);
    }
    assert_eq!(seen.field("x-stays").as_deref(), Some("4"));
}

// F2, F5
#[tokio::test]
async fn h2c_is_never_asked_for() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: H2C",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c",
        "Upgrade: h2c",
    ] {
        let seen = forwarded(&upstream, &proxy, fields).await;
        let asked = seen.field("upgrade").is_some_and(|value| value.to_ascii_lowercase().contains("h2c"));
        assert!(!asked && !seen.head.has("http2-settings"), "h2c went upstream: {:?}", seen.head);
    }
}

// F2
#[tokio::test]
async fn hop_by_hop_fields_of_an_answer_stay_here() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let reply = Reply::ok("ok").field("Connection", "X-Internal").field("X-Internal", "secret");
    let reply = reply.field("Keep-Alive", "timeout=99").field("Proxy-Connection", "keep-alive");
    upstream.next(reply.field("Upgrade", "h2c").field("X-Stays", "1"));
    let answer = Raw::ask(&proxy, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for name in ["x-internal", "proxy-connection", "upgrade"] {
        assert_eq!(answer.is(200).header(name), None, "{name} came through: {}", answer.answer);
    }
    assert_ne!(answer.header("keep-alive").as_deref(), Some("timeout=99"));
    assert_eq!(answer.needs("x-stays"), "1");
}

// F2
#[tokio::test]
async fn via_is_added_both_ways() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    upstream.next(Reply::ok("ok").field("Via", "1.0 inner"));
    let request = "GET /x HTTP/1.1\r\nHost: a\r\nVia: 1.0 outer\r\n\r\n";
    let answer = Raw::ask(&proxy, request).await;
    let up = upstream.received(1).await[0].head.all("via").join(", ");
    let down = answer.all("via").join(", ");
    assert!(up.starts_with("1.0 outer, 1.1 "), "{up}");
    assert!(down.starts_with("1.0 inner, 1.1 "), "{down}");
}

// F2
#[tokio::test]
async fn what_an_agent_says_of_its_own_address_is_replaced() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let fields = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.7\r\nX-Forwarded-Host: evil\r\n\
        X-Forwarded-Proto: https\r\nX-Forwarded-Port: 666\r\nX-Forwarded-Prefix: /evil\r\n\
        Forwarded: for=6.6.6.6;host=evil;proto=https";
    let seen = forwarded(&upstream, &proxy, fields).await;
    assert_eq!(seen.head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["a.example"]);
    assert_eq!(seen.head.all("x-forwarded-proto"), ["http"]);
    let spoken = seen.head.all("forwarded");
    assert!(spoken.len() == 1 && spoken[0].contains("for=127.0.0.1"), "{spoken:?}");
    let shown = format!(
        "{spoken:?} {:?} {:?}",
        seen.head.all("x-forwarded-port"),
        seen.head.all("x-forwarded-prefix")
    );
    assert!(!shown.contains("evil") && !shown.contains("666") && !shown.contains("6.6.6"), "{shown}");
}

// F2
#[tokio::test]
async fn names_with_an_underscore_are_dropped() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let seen = forwarded(&upstream, &proxy, "X_Forwarded_For: 6.6.6.6\r\nX-Real_Name: x\r\nX-Stays: 1").await;
    assert!(!seen.head.has("x_forwarded_for") && !seen.head.has("x-real_name"), "{:?}", seen.head);
    assert_eq!(seen.field("x-stays").as_deref(), Some("1"));

    upstream.next(Reply::ok("ok").field("Onceward_Version", "\"forged\"").field("X-Stays", "1"));
    let answer = Agent::new(&proxy).get("/x").await;
    assert_eq!((answer.header("onceward_version"), answer.needs("x-stays").as_str()), (None, "1"));

    let tool = Proxy::route(&upstream, "guard = \"tool\"").await;
    let request = "POST /x HTTP/1.1\r\nHost: a\r\nIdempotency_Key: k\r\nContent-Length: 0\r\n\r\n";
    Raw::ask(&tool, request).await.refused("missing-idempotency-key");
}

// F2
#[tokio::test]
async fn an_expectation_is_answered_here() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let head =
        |fields: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{fields}\r\n\r\n");
    let mut raw = Raw::connect(&proxy).await;
    raw.send(head("Idempotency-Key: k\r\nContent-Length: 5")).await;
    let interim = raw.head().await;
    assert!(interim.start.starts_with("HTTP/1.1 100"), "{interim:?}");
    assert!(upstream.requests().is_empty(), "the upstream was asked before the body was there");
    raw.send("hello").await;
    raw.answer().await.is(200);
    let seen = upstream.received(1).await.remove(0);
    assert_eq!((seen.field("expect"), seen.text().as_str()), (None, "hello"));

    // R7: a body that would be refused is not asked for.
    let refused = Raw::ask(&proxy, head("Content-Length: 5")).await;
    refused.refused("missing-idempotency-key");
    assert!(refused.interim.is_empty(), "100 before a refusal");
}

// F2
#[tokio::test]
async fn this_proxys_own_fields_are_read_here_and_spoken_here_alone() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let fields = "Onceward-Fence: 9\r\nOnceward-Lease: forged\r\nonceward-anything: 1\r\nX-Stays: 1";
    let seen = forwarded(&upstream, &proxy, fields).await;
    let own: Vec<_> =
        seen.head.fields.iter().filter(|(name, _)| name.to_lowercase().starts_with("onceward")).collect();
    assert!(own.is_empty() && seen.head.has("x-stays"), "{:?}", seen.head);

    let reply = Reply::ok("ok").field("Onceward-Version", "\"forged\"").field("Onceward-Resource", "/forged");
    let reply = reply.field("Idempotent-Replayed", "true").field("Idempotency-Expires", "never");
    upstream.next(reply.field("X-Stays", "1"));
    let answer = Agent::new(&proxy).get("/x").await;
    for name in ["onceward-version", "onceward-resource", "idempotent-replayed", "idempotency-expires"] {
        assert_eq!(answer.is(200).header(name), None, "{name} came through: {answer}");
    }
    assert_eq!(answer.needs("x-stays"), "1");
}

// F2, K9
#[tokio::test]
async fn values_keep_their_bytes_their_order_and_their_count() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    upstream
        .next(Reply::ok("ok").field("X-Many", b"\xe4 1".to_vec()).field("X-Other", "o").field("X-Many", "2"));
    let mut raw = Raw::connect(&proxy).await;
    raw.send(b"GET /x HTTP/1.1\r\nHost: a\r\nX-Many: \xe4 1\r\nX-Many: 2\r\nX-Empty:\r\n\r\n").await;
    let answer = raw.answer().await;
    let values: Vec<_> = answer.headers.get_all("x-many").iter().map(|value| value.as_bytes()).collect();
    assert_eq!(values, [&b"\xe4 1"[..], b"2"]);
    let seen = upstream.received(1).await.remove(0);
    let named = seen.head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-many"));
    assert_eq!(named.map(|(_, value)| value.as_slice()).collect::<Vec<_>>(), [&b"\xe4 1"[..], b"2"]);
    assert_eq!(seen.head.all("x-empty"), [""]);
}

// F3
#[tokio::test]
async fn bodies_without_a_key_stream_both_ways_whatever_their_size() {
    let (upstream, proxy) = proxied("guard = \"none\"\nlimits.body = \"1KiB\"").await;
    let large = "x".repeat(3 << 20);
    upstream.next(Reply::ok(large.clone())).next(Reply::ok(large.clone()).chunked());
    let agent = Agent::new(&proxy);
    for _ in 0..2 {
        let answer = agent.post("/x").json(&json!(large)).await;
        assert_eq!(answer.is(200).body.len(), large.len());
    }
    let lengths: Vec<_> = upstream.received(2).await.iter().map(|seen| seen.body.len()).collect();
    assert_eq!(lengths, [large.len() + 2; 2]);
}

// F3: few read it, and whether to is not decided here
#[tokio::test]
async fn the_content_of_a_get_goes_upstream_too() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    for framing in
        ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        Raw::ask(&proxy, format!("GET /x HTTP/1.1\r\nHost: a\r\n{framing}")).await.is(200);
    }
    let bodies: Vec<_> = upstream.received(2).await.iter().map(|seen| seen.text()).collect();
    assert_eq!(bodies, ["hello", "hello"]);
}

// W1, F2
#[tokio::test]
async fn only_the_wait_is_used_up_here() {
    let (upstream, proxy) = proxied("guard = \"tool\"\nidempotency.required = false").await;
    let agent = Agent::new(&proxy);
    let applied = || Reply::ok("ok").field("Preference-Applied", "return=minimal");
    for key in [None, Some("k")] {
        upstream.next(applied());
        let mut call = agent.post("/x").header("prefer", "return=minimal, wait=3");
        if let Some(key) = key {
            call = call.key(key);
        }
        let answer = call.header("prefer", "handling=strict").await;
        let mut wanted = vec!["return=minimal"];
        if key.is_some() {
            wanted.push("wait=3");
        }
        assert_eq!(answer.is(200).all("preference-applied"), wanted);
    }
    agent.post("/x").key("only").wait(3).await.is(200);
    let asked: Vec<_> = upstream.requests().iter().map(|seen| seen.head.all("prefer").join(", ")).collect();
    assert_eq!(asked, ["return=minimal, handling=strict", "return=minimal, handling=strict", ""]);
}
