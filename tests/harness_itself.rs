//! The harness against itself: what the other tests trust their agents and upstreams to see.

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::harness::http2::Http2;
use crate::harness::ledger::{Fault, Ledger, Told};
use crate::harness::servers::redis::{Redis, Said};
use crate::harness::wire::Framing;
use crate::harness::{Agent, Gate, Raw, Reply, Upstream};

#[tokio::test]
async fn an_upstream_answers_by_its_script_and_writes_down_what_it_got() {
    let upstream = Upstream::start().await;
    upstream.next(Reply::new(201).field("X-Bytes", b"\xff".to_vec()).body("made").chunked());
    let agent = Agent::at(&upstream.url());
    let made = agent.put("/a?b=c").key("k").json(&json!({"n": 1})).await;
    made.is(201);
    assert_eq!((made.text().as_str(), made.headers["x-bytes"].as_bytes()), ("made", &b"\xff"[..]));
    assert_eq!(agent.get("/b").await.is(200).text(), "ok");

    let seen = upstream.received(2).await;
    assert_eq!(
        (seen[0].method.as_str(), seen[0].target.as_str(), seen[0].text().as_str()),
        ("PUT", "/a?b=c", "{\"n\":1}")
    );
    assert_eq!((seen[1].connection, seen[1].nth), (seen[0].connection, 1));
}

#[tokio::test]
async fn a_raw_client_tells_cut_answers_from_whole_ones() {
    let upstream = Upstream::start().await;
    let cases = [
        (Reply::ok("whole"), Framing::Length(5), true, "whole"),
        (Reply::ok("whole").cut_after(2), Framing::Length(5), false, "wh"),
        (Reply::ok("whole").chunked(), Framing::Chunked, true, "whole"),
        (Reply::ok("whole").chunked().cut_after(3), Framing::Chunked, false, "who"),
        (Reply::ok("whole").until_close(), Framing::UntilClose, true, "whole"),
        (Reply::ok("whole").until_close().reset().cut_after(4), Framing::UntilClose, false, "whol"),
        (Reply::ok("whole").interim("103 Early Hints"), Framing::Length(5), true, "whole"),
    ];
    for (reply, framing, whole, body) in cases {
        upstream.next(reply);
        let mut raw = Raw::to(upstream.address()).await;
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = raw.answer().await;
        assert_eq!((answer.framing, answer.whole), (framing, whole), "{body}");
        // A reset may overtake what was sent before it.
        assert!(body.starts_with(&answer.text()) && (answer.text() == body || !whole), "{body}");
    }
    upstream.next(Reply::ok("never").cut());
    let mut raw = Raw::to(upstream.address()).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.answer_or_end().await.is_none());
}

#[tokio::test]
async fn an_upstream_holds_an_answer_and_sees_who_leaves() {
    let upstream = Upstream::start().await;
    let gate = Gate::closed();
    upstream.next(Reply::ok("late").held(&gate)).next(Reply::never());
    let agent = Agent::at(&upstream.url());
    let late = agent.get("/held").spawn();
    upstream.arrived(1).await;
    assert!(!late.is_finished());
    gate.open();
    late.await.unwrap().is(200);

    let mut raw = Raw::to(upstream.address()).await;
    raw.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n").await;
    upstream.arrived(2).await;
    raw.reset();
    upstream.until("the second request to be abandoned", |seen| seen[1].abandoned).await;
}

#[tokio::test]
async fn an_http_2_client_sends_a_host_beside_the_authority() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let echo = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
            let host = request.headers().get("host").map(|value| value.to_str().unwrap().to_owned());
            let body =
                format!("{:?} {:?}", request.uri().authority().map(|one| one.as_str()), host.as_deref());
            Ok::<_, std::convert::Infallible>(hyper::Response::new(http_body_util::Full::new(
                bytes::Bytes::from(body),
            )))
        });
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), echo)
            .await
    };
    tokio::spawn(server);
    let request = http::Request::get("http://a.example/x").header("host", "b.example").body("").unwrap();
    let answer = Http2::to(&address).await.send(request).await.expect("an answer");
    assert_eq!(answer.is(200).text(), "Some(\"a.example\") Some(\"b.example\")");
}

#[tokio::test]
async fn a_ledger_knows_a_doubled_effect_and_a_false_refusal() {
    let ledger = Ledger::with(true, |seen| if seen.target == "/d" { Fault::Drop } else { Fault::None }).await;
    let agent = Agent::at(&ledger.upstream.url());
    let first = agent.post("/c").key("one").json(&json!({"add": 2})).await;
    first.is(201);
    assert!(agent.post("/d").key("two").json(&json!({"add": 1})).try_send().await.is_err());
    assert_eq!((ledger.effects_of("one"), ledger.effects_of("two")), (1, 1));
    assert_eq!(ledger.document("/c"), Some(json!({"value": 2})));
    let effect = ledger.effects().remove(0);
    assert_eq!((effect.method.as_str(), effect.body.as_slice()), ("POST", &b"{\"add\":2}"[..]));
    ledger.check(&[Told::now("one", &first)]);

    let again = agent.post("/c").key("one").json(&json!({"add": 2})).await;
    again.is(200);
    let told = [Told::now("one", &first), Told::now("one", &again)];
    let doubled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ledger.check(&told)));
    assert!(doubled.is_err(), "two effects of one key went unseen");
}

#[tokio::test]
async fn a_ledger_lists_tasks_and_refuses_who_is_late() {
    let ledger = Ledger::start().await;
    let agent = Agent::at(&ledger.upstream.url());
    for id in ["1", "2"] {
        agent.put(&format!("/tasks/{id}")).json(&json!({"id": id, "status": "open"})).await.is(201);
    }
    let done = |fence: (&'static str, &'static str)| {
        agent.call("PATCH", "/tasks/1").header(fence.0, fence.1).json(&json!({"status": "done"}))
    };
    done(("x-claim", "7")).await.is(200);
    done(("x-fence", "6")).await.is(409);
    done(("x-fence", "7")).await.is(200);
    done(("x-claim", "5")).await.is(200);
    let open = json!([{"id": "2", "status": "open"}]);
    assert_eq!(agent.get("/tasks?status=open").await.is(200).json(), open);
    assert_eq!(json!(ledger.listed("/tasks", "open")), open);
    let claims: Vec<_> = ledger.effects().iter().map(|effect| effect.claim).collect();
    assert_eq!(claims, [None, None, Some(7), Some(7), Some(5)]);
}

#[tokio::test]
async fn a_redis_can_be_killed_paused_and_watched() {
    let mut redis = Redis::durable().await;
    let mut monitor = redis.monitor().await;
    assert_eq!(redis.ask(&["SET", "a", "1"]).await, Said::Text("OK".to_owned()));
    assert_eq!(redis.ask(&["EVAL", "return redis.call('INCR', 'a')", "0"]).await, Said::Number(2));
    let seen = monitor.seen().await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    redis.pause();
    let url = redis.url();
    let silent = tokio::time::timeout(std::time::Duration::from_millis(200), redis.ask(&["GET", "a"])).await;
    assert!(silent.is_err(), "a paused server answered: {silent:?}");
    redis.resume();
    redis.kill();
    redis.start_again().await;
    assert_eq!((redis.url(), redis.ask(&["GET", "a"]).await), (url, Said::Text("2".to_owned())));
}

#[tokio::test]
async fn a_sentinel_makes_a_replica_the_primary() {
    let mut primary = Redis::start().await;
    let replica = Redis::replica_of(&primary).await;
    replica.reaches("master_link_status", "up").await;
    let sentinel = Redis::sentinel_of(&primary).await;
    let known = ["SENTINEL", "REPLICAS", "watched"];
    while !matches!(sentinel.ask(&known).await, Said::List(list) if !list.is_empty()) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    primary.kill();
    replica.reaches("role", "master").await;
}
