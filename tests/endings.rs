//! Every ending of an upstream call: `docs/ENDINGS.md` has one row for each, and each row one case here that is held to
//! every cell of it (K4, K8, K10, K11, K13, K14, F1, F6, V8, Q5, O5).

mod cases;
mod ending;
mod played;
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{Agent, Gate, Raw, Reply, proxied};
use ending::LARGE_UPLOAD;

// K11
#[test]
fn every_row_has_its_case_and_every_case_its_row() {
    let rows: Vec<String> = table::rows().iter().map(|row| row.test_name()).collect();
    let distinct: BTreeSet<_> = rows.iter().map(String::as_str).collect();
    assert_eq!(distinct.len(), rows.len(), "a row stands twice");
    let cases: BTreeSet<_> = cases::NAMES.iter().copied().collect();
    let without_case: Vec<_> = distinct.difference(&cases).collect();
    let without_row: Vec<_> = cases.difference(&distinct).collect();
    assert!(
        without_case.is_empty() && without_row.is_empty(),
        "rows without a case: {without_case:?}, cases without a row: {without_row:?}"
    );
}

// Q1, Q3
#[tokio::test]
async fn an_early_success_keeps_its_turn_until_its_request_has_gone() {
    let (upstream, proxy) = proxied("guard = \"tool\"\nresource = \"one\"\nlimits.body = \"32MiB\"").await;
    let gate = Gate::closed();
    upstream.next(Reply::ok("taken").early_until(&gate));
    let mut raw = Raw::connect(&proxy).await;
    raw.send(format!(
        "POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: {LARGE_UPLOAD}\r\n\r\n"
    ))
    .await;
    raw.send(vec![b'x'; LARGE_UPLOAD]).await;
    upstream.until("the early answer", |seen| seen.first().is_some_and(|first| first.answered)).await;
    let agent = Agent::new(&proxy);
    // By the next answers the proxy has surely seen the early one.
    for _ in 0..20 {
        agent.get("/y").await.is(200);
    }
    agent.post("/x").key("next").wait(0).await.refused("queue-timeout");
    gate.open();
    assert_eq!(raw.answer().await.is(200).text(), "taken");
    agent.post("/x").key("next").await.is(200);
    assert!(upstream.with_method("POST")[0].whole);
}

// F1, F6
#[tokio::test]
async fn a_connection_with_two_framings_carries_nothing_else() {
    let (upstream, proxy) = proxied("guard = \"none\"").await;
    let agent = Agent::new(&proxy);
    upstream.next(Reply::ok("whole").with_both_framings());
    for text in ["whole", "ok"] {
        assert_eq!(agent.get("/x").await.is(200).text(), text);
    }
    let over: Vec<_> = upstream.requests().iter().map(|seen| seen.connection).collect();
    assert_eq!(over, [0, 1]);
}

/// A probe that ends in such a way, told by `code`.
fn probes() -> Vec<(&'static str, Reply)> {
    let whole = || Reply::ok("a whole body");
    vec![
        ("version-unavailable", whole().cut()),
        ("version-unavailable", whole().cut_after(3)),
        ("version-unavailable", whole().until_close().cut_after(3).reset()),
        ("version-unavailable", Reply::verbatim("220 mail.example ESMTP\r\n")),
        ("version-unavailable", Reply::never()),
        ("version-unavailable", whole().paused_after(3, &Gate::closed())),
        ("version-unavailable", Reply::ok("x".repeat(60)).trickling(Duration::from_millis(100))),
        ("version-unavailable", Reply::new(503)),
    ]
}

// V1, V7, K8
#[tokio::test]
async fn a_probe_that_ends_badly_stops_a_write_before_it_and_only_the_tag_after_it() {
    let limits =
        "limits.upstream_response = \"1s\"\nlimits.upstream_idle = \"1s\"\nlimits.upstream_total = \"2s\"";
    let (upstream, proxy) = proxied(&format!("version = \"hash\"\n{limits}")).await;
    let agent = Agent::new(&proxy);
    for (n, (code, reply)) in probes().into_iter().enumerate() {
        let tag = agent.tag("/d").await;
        let (before, after) = (format!("before-{n}"), format!("after-{n}"));
        let put = |key: &str| agent.put("/d").key(key).if_match(&tag);
        upstream.next(reply.clone());
        assert_eq!(put(&before).await.refused(code).executed, "no");
        assert!(upstream.with_method("PUT").len() == 2 * n, "a write went out without its version");
        put(&before).await.is(200).is_first_run();
        upstream.next(Reply::ok("ok")).next(Reply::ok("put")).next(reply);
        let first = put(&after).await;
        assert_eq!(first.is(200).header("onceward-version"), None);
        put(&after).await.replays(&first);
    }
}
