//! `onceward demo` and `onceward race`: what agents lose directly, and that Onceward loses and doubles none (C4).

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::ledger::{Fault, Ledger};
use crate::harness::{Proxy, Upstream};

async fn onceward(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceward"));
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// The row of that name in what `--json` printed.
fn row(output: &Output, name: &str) -> Value {
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let found = report["rows"].as_array().unwrap().iter().find(|row| row["row"] == name);
    found.unwrap_or_else(|| panic!("no row {name}: {report}")).clone()
}

fn count(row: &Value, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("no count {name}: {row}"))
}

/// Nothing is lost or doubled, though answers were dropped and tried again.
#[track_caller]
fn holds(row: &Value, expected: i64) {
    let found = ["expected", "final", "lost", "duplicated", "unresolved"].map(|name| count(row, name));
    assert_eq!(found, [expected, expected, 0, 0, 0], "{row}");
    assert!(count(row, "retries") > 0 && count(row, "replays") > 0, "{row}");
}

/// An upstream with one counter at 5 that has no thought for two writers.
async fn counter() -> Ledger {
    let ledger = Ledger::with(false, |_| Fault::None).await;
    ledger.holds("/counters/1", json!({"id": 1, "name": "visits", "value": 5}));
    ledger
}

fn url(upstream: &Upstream) -> String {
    format!("{}/counters/1", upstream.url())
}

// C4
#[tokio::test]
async fn the_demo_loses_directly_and_nothing_through_onceward() {
    let output = onceward(&["demo", "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    let direct = row(&output, "direct");
    assert_eq!(count(&direct, "expected"), 160);
    assert!(count(&direct, "lost") > 0 && count(&direct, "duplicated") > 0, "{direct}");
    assert_eq!(count(&direct, "final"), 160 - count(&direct, "lost"));
    holds(&row(&output, "version"), 160);
    assert!(count(&row(&output, "version"), "conflicts") > 0);
    holds(&row(&output, "queue"), 160);
    holds(&row(&output, "lease"), 160);
    assert_eq!(count(&row(&output, "lease"), "conflicts"), 0);
}

// C4
#[tokio::test]
async fn the_demo_prints_a_table() {
    let output = onceward(&["demo", "--agents", "6", "--ops", "5"]).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let head = lines.iter().position(|line| *line == ["expected", "final", "lost", "duplicated"]).unwrap();
    let rows: Vec<_> = lines[head + 1..head + 5].iter().map(|line| line[0]).collect();
    assert_eq!(rows, ["direct", "version", "queue", "lease"]);
    assert_eq!(lines[head + 2], ["version", "30", "30", "0", "0"]);
    assert_eq!(lines[head + 3], ["queue", "30", "30", "0", "0"]);
    assert_eq!(lines[head + 4], ["lease", "30", "30", "0", "0"]);
}

// C4
#[tokio::test]
async fn a_race_for_a_resource_starts_an_onceward_and_leaves_the_resource_as_it_was() {
    let ledger = counter().await;
    let output = onceward(&["race", "--url", &url(&ledger.upstream), "--json"]).await;
    assert!(output.status.success(), "{output:?}");
    let direct = row(&output, "direct");
    assert_eq!(count(&direct, "expected"), 165);
    assert!(count(&direct, "lost") > 0 && count(&direct, "duplicated") > 0, "{direct}");
    let version = row(&output, "version");
    let start = count(&direct, "final");
    holds(&version, start + 160);
    let lease = row(&output, "lease");
    holds(&lease, start + 320);
    assert_eq!(count(&lease, "conflicts"), 0, "{lease}");

    let mut keys: Vec<_> = ledger.effects().into_iter().filter_map(|effect| effect.key).collect();
    keys.retain(|key| key.contains("-version-") && !key.ends_with("-restore"));
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 160);
    assert!(keys.iter().all(|key| ledger.effects_of(key) == 1));
    assert_eq!(ledger.document("/counters/1"), Some(json!({"id": 1, "name": "visits", "value": 5})));
}

// C4
#[tokio::test]
async fn a_race_goes_through_an_onceward_that_runs_already() {
    let ledger = counter().await;
    let proxy = Proxy::route(&ledger.upstream, "").await;
    let (direct, through) = (url(&ledger.upstream), format!("http://{}/counters/1", proxy.addr()));
    let arguments = ["--url", &direct, "--through", &through, "--only", "version", "--method", "patch"];
    let output =
        onceward(&[&["race", "--json", "--agents", "4", "--field", "/value"][..], &arguments].concat()).await;
    assert!(output.status.success(), "{output:?}");
    holds(&row(&output, "version"), 85);
    let changes: Vec<Value> =
        ledger.effects().iter().map(|effect| serde_json::from_slice(&effect.body).unwrap()).collect();
    assert_eq!(changes.len(), 81, "each once, and one that sets it back");
    assert!(changes.iter().all(|change| change.as_object().unwrap().keys().eq(["value"])), "{changes:?}");
    assert_eq!(ledger.document("/counters/1").unwrap()["value"], 5);
}

/// An API that compares entity tags but knows no keys: a retry is refused, and the agent adds one again.
// C4
#[tokio::test]
async fn a_race_fails_where_a_retry_counts_twice() {
    let ledger = Ledger::with(true, |_| Fault::None).await;
    ledger.holds("/counters/1", json!({"value": 5}));
    let direct = url(&ledger.upstream);
    let output =
        onceward(&["race", "--json", "--only", "version", "--url", &direct, "--through", &direct]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(count(&row(&output, "version"), "duplicated") > 0);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("version: ") && said.contains("performed a second time"), "{said}");
    assert_eq!(ledger.document("/counters/1"), Some(json!({"value": 5})));
}

// C4
#[tokio::test]
async fn a_race_that_cannot_run_says_why_and_writes_nothing() {
    let ledger = Ledger::with(false, |_| Fault::None).await;
    ledger.holds("/counters/1", json!({"a": 1, "b": 2}));
    let output = onceward(&["race", "--url", &url(&ledger.upstream)]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("--field: /a, /b"));
    assert_eq!(ledger.effects().len(), 0);

    let missing = format!("{}/nothing", ledger.upstream.url());
    let output = onceward(&["race", "--url", &missing]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("404"));
}
