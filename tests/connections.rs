//! Connections on both sides: who leaves, what is cut, and what may be sent over one afterwards (F6, K13, K14).

use crate::harness::wire::Framing;
use crate::harness::{Agent, Gate, Proxy, Raw, Reply, Upstream, proxied};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\nhello";

// K13
#[tokio::test]
async fn a_vanished_agent_stops_nothing() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let gate = Gate::closed();
    upstream.next(Reply::new(201).body("made").held(&gate));
    let mut raw = Raw::connect(&proxy).await;
    raw.send(POST).await;
    upstream.received(1).await;
    raw.reset();
    let agent = Agent::new(&proxy);
    // By the next answer the proxy has surely seen the reset.
    agent.get("/y").await.is(200);
    gate.open();
    let replay = agent.post("/x").key("k").wait(10).body("hello").await;
    assert_eq!((replay.status, replay.text().as_str()), (201, "made"));
    assert_eq!(upstream.with_method("POST").len(), 1);
}

// Q2, F6
#[tokio::test]
async fn a_half_closed_connection_is_answered() {
    for guard in ["none", "tool"] {
        let (upstream, proxy) = proxied(&format!("guard = \"{guard}\"")).await;
        let gate = Gate::closed();
        upstream.next(Reply::ok("late").held(&gate));
        let mut raw = Raw::connect(&proxy).await;
        raw.send(POST).await;
        raw.half_close().await;
        upstream.received(1).await;
        gate.open();
        assert_eq!(raw.answer().await.is(200).text(), "late");
        raw.closed().await;
    }
}

// F6
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::answering(|seen| Reply::ok(seen.target.clone())).await;
    let proxy = Proxy::route(&upstream, "guard = \"none\"").await;
    let mut raw = Raw::connect(&proxy).await;
    let many: String = (0..5).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    raw.send(many).await;
    for n in 0..5 {
        assert_eq!(raw.answer().await.is(200).text(), format!("/{n}"));
    }
}

// F6
#[tokio::test]
async fn the_body_of_a_refused_request_is_never_a_request() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let smuggled = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let refused =
        format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!("{refused}GET /good HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    raw.answer().await.refused("missing-idempotency-key");
    if let Some(next) = raw.answer_or_end().await {
        next.is(200);
    }
    let targets: Vec<_> = upstream.requests().into_iter().map(|seen| seen.target).collect();
    assert!(targets.iter().all(|target| target == "/good"), "{targets:?}");
}

// F6, RFC 9112 §9.6: who would send more finds out from the answer, not from a reset.
#[tokio::test]
async fn a_refusal_says_whether_the_connection_can_be_used_again() {
    let (_upstream, proxy) = proxied("guard = \"tool\"").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole").await;
    let whole = raw.answer().await;
    whole.refused("missing-idempotency-key");
    assert_eq!(whole.header("connection"), None);
    raw.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.answer().await.is(200);
    for head in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let mut raw = Raw::connect(&proxy).await;
        raw.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n2")).await;
        let early = raw.answer().await;
        early.refused("missing-idempotency-key");
        assert_eq!(early.header("connection").as_deref(), Some("close"), "{head}");
        assert!(raw.answer_or_end().await.is_none(), "{head}");
    }
}

// F6
#[tokio::test]
async fn the_body_of_a_replayed_request_is_drained() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    upstream.next(Reply::new(201).body("made"));
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!("{POST}{POST}GET /good HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let first = raw.answer().await;
    raw.answer().await.replays(first.is(201));
    raw.answer().await.is(200);
    let seen: Vec<_> = upstream.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(seen, ["POST", "GET"]);
}

// F6
#[tokio::test]
async fn an_early_answer_is_passed_on_and_the_body_is_no_request() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    upstream.next(Reply::new(413).body("too much").early());
    let mut raw = Raw::connect(&proxy).await;
    raw.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello").await;
    assert_eq!(raw.answer().await.is(413).text(), "too much");
    raw.try_send("GET /evil HTTP/1.1\r\nHost: a\r\n\r\n").await.ok();
    Agent::new(&proxy).get("/good").await.is(200);
    assert!(upstream.requests().iter().all(|seen| seen.target != "/evil"));
}

// F5, K7
#[tokio::test]
async fn on_http_2_it_is_all_the_same() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    upstream.next(Reply::new(201).body("made"));
    let agent = Agent::http2(&proxy);
    let first = agent.post("/x").key("k").body("hello").await;
    agent.post("/x").key("k").body("hello").await.replays(first.is(201));
    // The key is the same one over another version of HTTP.
    Agent::new(&proxy).post("/x").key("k").body("hello").await.replays(&first);
    agent.post("/x").await.refused("missing-idempotency-key");
    let many: Vec<_> =
        (0..20).map(|n| agent.post("/x").key(&n.to_string()).body("x".repeat(50_000)).spawn()).collect();
    for one in many {
        one.await.unwrap().is(200);
    }
    let seen = upstream.requests();
    assert_eq!(seen.len(), 21);
    assert!(seen.iter().all(|seen| seen.head.all("host").len() == 1), "not one Host: {seen:?}");
}

/// Answers that break off, in every framing.
fn broken_off() -> [Reply; 5] {
    [
        Reply::ok("a whole body").cut_after(4),
        Reply::ok("a whole body").chunked().cut_after(4),
        Reply::ok("a whole body").chunked().cut_after(12),
        Reply::ok("a whole body").cut_after(4).reset(),
        Reply::ok("a whole body").until_close().reset().cut_after(4),
    ]
}

// F6, V2
#[tokio::test]
async fn a_cut_answer_to_a_read_is_shown_as_cut() {
    for guard in ["none", "read", "tool", "state"] {
        let (upstream, proxy) = proxied(&format!("guard = \"{guard}\"")).await;
        for reply in broken_off() {
            upstream.next(reply);
            let mut raw = Raw::connect(&proxy).await;
            raw.send(GET).await;
            let Some(answer) = raw.answer_or_end().await else { continue };
            if answer.is_refusal() {
                let problem = answer.refused("upstream-broke-off");
                assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("no", "same-key"));
            } else {
                assert!(!answer.whole, "{guard}: a cut answer shown as whole: {answer:?}");
                assert_eq!(answer.header("etag"), None, "{guard}: a tag on a body that broke off");
            }
        }
    }
}

// F6
#[tokio::test]
async fn a_cut_answer_is_shown_as_cut_on_http_1_0_too() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    upstream.next(Reply::ok("a whole body").chunked().cut_after(4));
    let mut raw = Raw::connect(&proxy).await;
    raw.send("GET /x HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let answer = raw.answer_or_end().await;
    let shown = answer.is_none_or(|answer| !answer.whole || answer.is_refusal());
    assert!(shown, "a cut answer ended as a whole one does");
}

// F6, K11
#[tokio::test]
async fn a_cut_answer_to_a_write_is_no_answer() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let agent = Agent::new(&proxy);
    for (n, reply) in broken_off().into_iter().chain([Reply::ok("").cut()]).enumerate() {
        upstream.next(reply);
        let problem = agent.post("/x").key(&n.to_string()).await.refused("upstream-broke-off");
        assert_eq!(problem.executed, "unknown");
    }
}

// F1, K11
#[tokio::test]
async fn an_answer_with_two_framings_is_no_empty_close() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let agent = Agent::new(&proxy);
    for call in [agent.get("/x"), agent.post("/x").key("k")] {
        upstream.next(Reply::ok("whole").with_both_framings());
        let answer = call.await;
        if answer.is_refusal() {
            answer.refused("upstream-broke-off");
        } else {
            assert_eq!(answer.is(200).text(), "whole");
        }
    }
}

// F1, K11
#[tokio::test]
async fn an_answer_in_a_coding_that_cannot_be_undone_is_no_answer() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let agent = Agent::new(&proxy);
    for coding in ["gzip, chunked", "chunked, chunked", "gzip"] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        upstream.next(Reply::verbatim(answer.clone())).next(Reply::verbatim(answer));
        agent.get("/x").await.refused("upstream-broke-off");
        agent.post("/x").key(&coding.replace(", ", "-")).await.refused("upstream-broke-off");
    }
}

// F6
#[tokio::test]
async fn an_upstream_that_speaks_http_1_0_ends_no_connection_of_an_agent() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let mut raw = Raw::connect(&proxy).await;
    for request in [GET, POST] {
        upstream.next(Reply::verbatim("HTTP/1.0 200 OK\r\n\r\nold"));
        raw.send(request).await;
        let head = raw.head().await;
        assert!(head.start.starts_with("HTTP/1.1 200"), "{head:?}");
        assert!(head.framing().is_some() && !head.has("connection"), "{head:?}");
        let mut body = Vec::new();
        assert!(raw.body(&head, &mut body).await, "a cut answer");
        assert_eq!(body, b"old");
    }
}

// F6
#[tokio::test]
async fn what_an_upstream_sends_behind_its_answer_reaches_nobody() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let agent = Agent::new(&proxy);
    upstream.next(Reply::ok("first").extra("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
    assert_eq!(agent.get("/1").await.is(200).text(), "first");
    upstream.next(Reply::ok("second"));
    assert_eq!(agent.get("/2").await.is(200).text(), "second");
}

// K14
#[tokio::test]
async fn a_connection_that_the_upstream_closed_is_replaced() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let agent = Agent::new(&proxy);
    for n in 0..10 {
        // It closes without having said so, or says so.
        upstream.next(if n % 2 == 0 { Reply::ok("ok").cut_after(2) } else { Reply::ok("ok").close() });
        agent.post("/x").key(&format!("a{n}")).await.is(200);
        upstream.until("the upstream to close", |seen| seen.last().is_some_and(|last| last.closed)).await;
        agent.post("/x").key(&format!("b{n}")).await.is(200);
    }
    assert_eq!(upstream.requests().len(), 20, "a write was sent twice");
}

// F2, F6
#[tokio::test]
async fn informational_heads_come_before_the_answer_and_are_not_it() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    upstream.next(Reply::new(201).body("made").interim("100 Continue").interim("103 Early Hints"));
    let answer = Raw::ask(&proxy, POST).await;
    assert_eq!((answer.is(201).text().as_str(), answer.whole), ("made", true));
}

// F6
#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let mut raw = Raw::connect(&proxy).await;
    for reply in [Reply::new(204), Reply::new(304)] {
        upstream.next(reply);
        raw.send(GET).await;
        assert_eq!(raw.answer().await.framing, Framing::Empty);
    }
    upstream.next(Reply::ok("twelve bytes"));
    raw.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = raw.answer_to("HEAD").await;
    assert_eq!(answer.is(200).header("content-length").as_deref(), Some("12"));
    raw.send(GET).await;
    raw.answer().await.is(200);
}

// F5, F6, K7
#[tokio::test]
async fn an_upstream_of_http_1_0_is_heard_in_http_1_1() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let whole = || Reply::verbatim("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello");
    upstream.next(whole()).next(whole()).next(Reply::verbatim("HTTP/1.0 200 OK\r\n\r\nhal").reset());
    let mut raw = Raw::connect(&proxy).await;
    raw.send(GET).await;
    let read = raw.answer().await;
    assert_eq!((read.text().as_str(), read.framing), ("hello", Framing::Chunked));
    // The connection goes on.
    raw.send(POST).await;
    assert_eq!(raw.head().await.start, "HTTP/1.1 200 OK");
    assert_eq!(raw.some(5).await, b"hello");
    raw.send(POST).await;
    assert_eq!(raw.answer().await.needs("idempotent-replayed"), "true");
    raw.send(GET).await;
    assert!(raw.answer_or_end().await.is_none_or(|cut| !cut.whole), "a cut answer that looks whole");
}
