//! What a request must be to be one (F1): everything else is refused with 400 and the connection closed.

use crate::harness::http2::Http2;
use crate::harness::{Proxy, Raw, Upstream, proxied};

/// Sends each of the requests on a connection of its own; all must be refused, and none may be forwarded.
async fn refused(upstream: &Upstream, proxy: &Proxy, requests: &[&str]) {
    for request in requests {
        let mut raw = Raw::connect(proxy).await;
        raw.send(request).await;
        let Some(answer) = raw.answer_or_end().await else { panic!("no answer to {request:?}") };
        assert!(answer.is_refusal() && answer.code() == "bad-request", "{request:?} got {}", answer.answer);
        raw.closed().await;
    }
    // One good request behind them shows that the count of those before it is all there will be.
    Raw::ask(proxy, "GET /good HTTP/1.1\r\nHost: a\r\n\r\n").await.is(200);
    let targets: Vec<_> = upstream.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/good"], "a refused request was forwarded");
}

// F1
#[tokio::test]
async fn a_transfer_encoding_is_one_chunked_and_stands_alone() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let fields = [
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nContent-Length: 15",
        "Content-Length: 15\r\nTransfer-Encoding: chunked",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    ];
    let requests: Vec<_> = fields
        .iter()
        .map(|fields| format!("POST /bad HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}"))
        .collect();
    refused(&upstream, &proxy, &requests.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

// F1
#[tokio::test]
async fn a_content_length_is_one_number() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let fields = [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: five",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
    ];
    let requests: Vec<_> = fields
        .iter()
        .map(|fields| format!("POST /bad HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nhello"))
        .collect();
    refused(&upstream, &proxy, &requests.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

// F1
#[tokio::test]
async fn a_host_is_there_once_and_valid() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let requests = [
        "GET /bad HTTP/1.1\r\n\r\n",
        "GET /bad HTTP/1.1\r\nAccept: */*\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: :80\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: me@a\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a:http\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a:80:80\r\n\r\n",
    ];
    refused(&upstream, &proxy, &requests).await;
    for host in ["a:80", "a.example", "127.0.0.1:8080", "[::1]:80", "A-b.c"] {
        Raw::ask(&proxy, format!("GET /good HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.is(200);
    }
}

// F1
#[tokio::test]
async fn a_target_is_a_path_or_the_same_host() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let requests = [
        "GET ! HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ?bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "GET http://b/bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a:81/bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/bad HTTP/1.1\r\n\r\n",
        "GET http://me@a/bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:///bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /bad#part HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /bad part HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  /bad HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    refused(&upstream, &proxy, &requests).await;
}

// F1
#[tokio::test]
async fn a_matching_absolute_target_is_forwarded_as_its_path() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    for (target, host) in [("http://a/x?y=1", "a"), ("http://A:80/x?y=1", "a:80"), ("HTTP://a/x?y=1", "a")] {
        Raw::ask(&proxy, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.is(200);
    }
    let targets: Vec<_> = upstream.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/x?y=1"; 3]);
}

// F1
#[tokio::test]
async fn field_lines_are_not_mended() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let requests = [
        "GET /bad HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nX-Split: one\r\n two\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nX-Nul: a\0b\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nX-Return: a\rb\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
        "GET /bad HTTP/1.1\r\n Host: a\r\n\r\n",
        "G@T /bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /bad HTTP/one\r\nHost: a\r\n\r\n",
        "\u{16}\u{3}\u{1} a tls hello\r\n\r\n",
    ];
    refused(&upstream, &proxy, &requests).await;
}

// F1
#[tokio::test]
async fn a_line_ends_in_crlf() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let requests = [
        "GET /bad HTTP/1.1\nHost: a\n\n",
        "GET /bad HTTP/1.1\nHost: a\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
        "GET /bad HTTP/1.1\r\nHost: a\r\n\n",
        "\rGET /bad HTTP/1.1\r\nHost: a\r\n\r\n",
        "\nGET /bad HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    refused(&upstream, &proxy, &requests).await;
    // RFC 9112 §2.2: a whole empty line before a request is passed over.
    Raw::ask(&proxy, "\r\nGET /good HTTP/1.1\r\nHost: a\r\n\r\n").await.is(200);
}

// F1, P1
#[tokio::test]
async fn a_target_that_the_library_cannot_read_is_refused_as_every_other() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    refused(&upstream, &proxy, &["GET /a`b HTTP/1.1\r\nHost: a\r\n\r\n"]).await;
}

const BROKEN_CHUNKS: [&str; 7] = [
    "zz\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "\r\nhello\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "5\r\nhello\r\nno number\r\n\r\n",
];

// F1, F3
#[tokio::test]
async fn a_broken_chunk_is_the_agents_fault_and_claims_nothing() {
    let (upstream, proxy) = proxied("guard = \"tool\"").await;
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in BROKEN_CHUNKS {
        let mut raw = Raw::connect(&proxy).await;
        raw.send(format!("{head}{chunks}")).await;
        raw.answer().await.refused("bad-request");
        raw.closed().await;
    }
    assert!(upstream.requests().is_empty(), "a broken body was forwarded");
    Raw::ask(&proxy, format!("{head}5\r\nhello\r\n0\r\n\r\n")).await.is(200).is_first_run();
    assert_eq!(upstream.received(1).await[0].text(), "hello");
}

// F1
#[tokio::test]
async fn a_broken_chunk_of_a_streamed_body_is_the_agents_fault_too() {
    let (_upstream, proxy) = proxied("guard = \"none\"").await;
    for chunks in BROKEN_CHUNKS {
        let mut raw = Raw::connect(&proxy).await;
        raw.send(format!("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")).await;
        let answer = raw.answer().await;
        assert!(answer.is_refusal() && answer.status == 400, "{chunks:?} got {}", answer.answer);
        raw.closed().await;
    }
}

// F1, F5
#[tokio::test]
async fn on_http_2_a_host_has_to_agree_with_the_authority() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let request = |host: &str| {
        let request = http::Request::get("http://a.example/x");
        request.header("host", host).body("").expect("a request")
    };
    let mut client = Http2::connect(&proxy).await;
    client.send(request("b.example")).await.expect("an answer").refused("bad-request");
    assert!(upstream.requests().is_empty(), "a request with two hosts was forwarded");
    client.send(request("a.example")).await.expect("an answer").is(200);
    upstream.received(1).await;
}
