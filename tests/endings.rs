//! Every ending of an upstream call: `docs/ENDINGS.md` has one row for each, and each row one case here that is held to
//! every cell of it (K4, K8, K10, K11, K13, K14, F1, F6, V8, Q5, O5).

mod cases;
mod ending;
mod played;
mod table;

use std::collections::BTreeSet;

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
