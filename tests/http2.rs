//! HTTP/2 from agents: what HTTP/1 is held to holds here too (F2, F4, F5).

use crate::harness::http2::Http2;
use crate::harness::{Raw, Reply, proxied};

fn get(target: &str) -> http::request::Builder {
    http::Request::get(format!("http://a.example{target}"))
}

// F2, F5
#[tokio::test]
async fn a_split_cookie_goes_upstream_as_one() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let request = get("/x").header("cookie", "a=1").header("cookie", "b=2").header("x-many", "1");
    let request = request.header("x-many", "2").body("").expect("a request");
    Http2::connect(&proxy).await.send(request).await.expect("an answer").is(200);
    let seen = upstream.received(1).await.remove(0);
    assert_eq!(seen.head.all("cookie"), ["a=1; b=2"]);
    assert_eq!(seen.head.all("x-many"), ["1", "2"]);
    // F2: the version it came in.
    assert_eq!(seen.head.all("via"), ["2.0 onceward"]);
}

// F4: `limits.streams`, as the proxy says it before anything else
#[tokio::test]
async fn an_agent_is_told_how_many_streams_it_may_open() {
    let (_upstream, proxy) = proxied("guard = \"none\"\n[limits]\nstreams = 7").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let head = raw.some(9).await;
    assert_eq!((&head[..2], head[3]), (&[0, 0][..], 4), "not SETTINGS: {head:?}");
    let settings = raw.some(head[2].into()).await;
    // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
    let streams = settings.chunks(6).find(|one| one[..2] == [0, 3]).expect("a bound of streams");
    assert_eq!(streams[2..], [0, 0, 0, 7]);
}

// F4, P1
#[tokio::test]
async fn long_targets_and_heads_are_refused_in_words() {
    let (upstream, proxy) =
        proxied("guard = \"none\"\n[limits]\nuri = \"1KiB\"\nhead = \"4KiB\"\nheaders = 20").await;
    let mut client = Http2::connect(&proxy).await;
    let long = get(&format!("/{}", "x".repeat(1024))).body("").expect("a request");
    client.send(long).await.expect("an answer").refused("uri-too-long");
    let wide = get("/x").header("x", "x".repeat(5000)).body("").expect("a request");
    client.send(wide).await.expect("an answer").refused("headers-too-large");
    let mut many = get("/x");
    for n in 0..21 {
        many = many.header(format!("x-{n}"), "1");
    }
    client.send(many.body("").expect("a request")).await.expect("an answer").refused("headers-too-large");
    assert!(upstream.requests().is_empty());
    client.send(get("/x").body("").expect("a request")).await.expect("an answer").is(200);
}

// F4
#[tokio::test]
async fn an_idle_connection_is_closed_whatever_it_answers_to_pings() {
    let (upstream, proxy) = proxied("guard = \"none\"\n[limits]\nidle = \"300ms\"").await;
    Http2::connect(&proxy).await.closed().await;
    let mut client = Http2::connect(&proxy).await;
    upstream.next(Reply::ok("ok"));
    client.send(get("/x").body("").expect("a request")).await.expect("an answer").is(200);
    client.closed().await;
}

// O5
#[tokio::test]
async fn an_idle_connection_that_answers_nothing_holds_no_shutdown_up() {
    let (_upstream, mut proxy) = proxied("guard = \"none\"").await;
    let mut deaf = Raw::connect(&proxy).await;
    // The preface and empty settings; from then on it says nothing.
    deaf.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    deaf.some(9).await;
    // Less than `shutdown_grace`.
    assert_eq!(proxy.terminate().await.code(), Some(0));
}

// F4, Q3
#[tokio::test]
async fn an_agent_that_takes_nothing_holds_no_upstream() {
    let (upstream, proxy) = proxied("guard = \"none\"\n[limits]\nwrite_time = \"300ms\"").await;
    upstream.next(Reply::ok("x".repeat(64 << 20)));
    let mut client = Http2::connect(&proxy).await;
    let held = client.head(get("/x").body("").expect("a request")).await;
    assert_eq!(held.status(), 200);
    upstream
        .until("the upstream to be rid of its answer", |seen| seen.first().is_some_and(|one| one.answered))
        .await;
}

// F2
#[tokio::test]
async fn trailers_of_an_answer_say_nothing_of_this_proxy() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Onceward-Version\r\n\r\n2\r\nok\r\n0\r\n\
        Onceward-Version: \"forged\"\r\n\r\n";
    upstream.next(Reply::verbatim(answer));
    let mut client = Http2::connect(&proxy).await;
    let mut answer = client.head(get("/x").body("").expect("a request")).await;
    let body = http_body_util::BodyExt::collect(answer.body_mut()).await.expect("a body");
    assert_eq!(body.trailers(), None);
    assert_eq!(body.to_bytes(), "ok");
}
