//! Upgrades (F5): on `guard = "none"` alone, and only after a real 101.

use crate::harness::{Proxy, Raw, Reply, Upstream, proxied};

const ASK: &str = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

// F5
#[tokio::test]
async fn a_real_101_opens_a_tunnel() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    upstream.next(Reply::switching("websocket"));
    let mut raw = Raw::connect(&proxy).await;
    raw.send(ASK).await;
    let head = raw.head().await;
    assert!(head.start.starts_with("HTTP/1.1 101"), "{head:?}");
    assert_eq!(head.first("upgrade").as_deref(), Some("websocket"));
    for message in ["one", "GET / HTTP/1.1\r\n\r\n", "\0\u{1}"] {
        raw.send(message).await;
        assert_eq!(raw.some(message.len()).await, message.as_bytes());
    }
    let seen = upstream.received(1).await.remove(0);
    assert_eq!(seen.field("upgrade").as_deref(), Some("websocket"));
}

// F5
#[tokio::test]
async fn an_upgrade_that_the_upstream_declines_is_a_plain_answer() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send(ASK).await;
    raw.answer().await.is(200);
    // What follows is a request again and no tunnel.
    raw.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    raw.answer().await.is(200);
    assert_eq!(upstream.received(2).await[1].target, "/next");
}

// F5, R2
#[tokio::test]
async fn a_guarded_route_has_no_upgrades() {
    let upstream = Upstream::start().await;
    for guard in ["state", "tool", "read"] {
        let proxy = Proxy::route(&upstream, &format!("guard = \"{guard}\"")).await;
        let before = upstream.requests().len();
        Raw::ask(&proxy, ASK).await.is(200);
        let seen = upstream.received(before + 1).await.remove(before);
        assert!(!seen.head.has("upgrade"), "{guard}: {:?}", seen.head);
        // A 101 that nobody asked for is no answer.
        upstream.next(Reply::switching("websocket"));
        Raw::ask(&proxy, ASK).await.refused("upstream-broke-off");
    }
}
