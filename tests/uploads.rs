//! Content that streams to the upstream, because its write has no key (F3, F4, K11).

use std::time::Duration;

use crate::harness::{Agent, Proxy, Raw, Reply, Upstream, proxied};

const HEAD: &str = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A tool whose writes need no key, and whose bodies stream when they are larger than 1 KiB.
async fn streaming(limits: &str) -> (Upstream, Proxy) {
    let route = "guard = \"tool\"\nresource = \"one\"\nidempotency.required = false\nlimits.body = \"1KiB\"";
    proxied(&format!("{route}\n{limits}")).await
}

fn kibibyte() -> String {
    format!("400\r\n{}\r\n", "x".repeat(1024))
}

// K11, Q5
#[tokio::test]
async fn a_write_whose_body_ended_early_when_a_part_of_it_was_out_is_unknown() {
    // Malformed; and nothing more for `limits.body_time`.
    for rest in ["zz\r\n", ""] {
        let (upstream, proxy) = streaming("[limits]\nbody_time = \"300ms\"").await;
        let mut raw = Raw::connect(&proxy).await;
        raw.send(format!("{HEAD}{}{}", kibibyte(), kibibyte())).await;
        upstream.arrived(1).await;
        raw.send(rest).await;
        let problem = raw.answer().await.refused("upstream-broke-off");
        assert_eq!(
            (problem.executed.as_str(), problem.retry.as_str()),
            ("unknown", "ask-operator"),
            "{rest:?}"
        );
        // As after every other unknown outcome.
        let next = Agent::new(&proxy).post("/x").wait(0).await.refused("queue-timeout");
        assert!(next.detail.contains("rests"), "{next:?}");
    }
}

// K11: what counts from the last byte sent does not count while bytes are sent.
#[tokio::test]
async fn an_upload_may_take_longer_than_its_answer_may() {
    let (upstream, proxy) = streaming("limits.upstream_total = \"300ms\"").await;
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!("{HEAD}{}{}", kibibyte(), kibibyte())).await;
    upstream.arrived(1).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        raw.send(kibibyte()).await;
    }
    raw.send("0\r\n\r\n").await;
    raw.answer().await.is(200);
    assert_eq!(upstream.received(1).await[0].body.len(), 5 * 1024);
    // From its last byte on it counts.
    upstream.next(Reply::never());
    let late = Agent::new(&proxy).post("/x").await.refused("upstream-timeout");
    assert_eq!(late.executed, "unknown");
}
