//! Writes whose outcome nobody knows, and answers that were not kept: never a second effect (K10 to K12, K14, K15).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::ledger::{Fault, Ledger, Told};
use crate::harness::proxy::one_route;
use crate::harness::upstream::Nobody;
use crate::harness::{Agent, Answer, Gate, Proxy, Raw, Reply, Upstream, proxied};

const TOOL: &str = "guard = \"tool\"";

/// A ledger that performs the first PUT and drops its answer.
async fn ledger_that_loses_one() -> Ledger {
    let lost = AtomicBool::new(false);
    let ledger = Ledger::with(true, move |seen| {
        let first = seen.method == "PUT" && !lost.swap(true, Ordering::SeqCst);
        if first { Fault::Drop } else { Fault::None }
    });
    ledger.await
}

/// A document that never changes and whose first PUT is cut, behind `version = "hash"`.
async fn one_that_is_cut() -> (Upstream, Proxy) {
    let lost = AtomicBool::new(false);
    let upstream = Upstream::answering(move |seen| {
        let reply = Reply::json(200, &json!({"value": 1}));
        if seen.method == "PUT" && !lost.swap(true, Ordering::SeqCst) { reply.cut() } else { reply }
    });
    let upstream = upstream.await;
    let proxy = Proxy::route(&upstream, "version = \"hash\"\nidempotency.settle = \"0s\"").await;
    (upstream, proxy)
}

// K10
#[tokio::test]
async fn a_large_answer_passes_through_and_is_never_run_again() {
    let (upstream, proxy) = proxied(&format!("{TOOL}\nidempotency.max_response = \"1KiB\"")).await;
    let agent = Agent::new(&proxy);
    for (key, reply) in [
        ("length", Reply::new(201).body("x".repeat(5000))),
        ("chunks", Reply::new(201).body("x".repeat(5000)).chunked()),
    ] {
        upstream.next(reply);
        assert_eq!(agent.post("/x").key(key).await.is(201).body.len(), 5000);
        let problem = agent.post("/x").key(key).await.refused("response-not-kept");
        assert_eq!((problem.executed.as_str(), &problem.json["upstream_status"]), ("yes", &json!(201)));
    }
    upstream.next(Reply::new(201).body("x".repeat(1024)));
    let first = agent.post("/x").key("fits").await;
    agent.post("/x").key("fits").await.replays(first.is(201));
    assert_eq!(upstream.requests().len(), 3);
}

// K10
#[tokio::test]
async fn a_stream_passes_as_it_comes_and_is_in_flight_until_its_end() {
    for kind in [
        "text/event-stream",
        "application/x-ndjson",
        "application/jsonl",
        "multipart/x-mixed-replace; boundary=b",
    ] {
        let (upstream, proxy) = proxied(TOOL).await;
        let gate = Gate::closed();
        let reply = Reply::ok("data: 1\n\ndata: 2\n\n").field("Content-Type", kind).chunked();
        upstream.next(reply.paused_after(9, &gate));
        let mut raw = Raw::connect(&proxy).await;
        raw.send("POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n").await;
        let head = raw.head().await;
        assert!(head.start.contains("200"), "{head:?}");
        let agent = Agent::new(&proxy);
        agent.post("/x").key("k").await.refused("in-flight");
        gate.open();
        let retry = agent.post("/x").key("k").wait(15).await;
        assert_eq!(retry.refused("response-not-kept").json["upstream_status"], 200);
        assert_eq!(upstream.requests().len(), 1);
    }
}

// K10
#[tokio::test]
async fn a_stream_that_broke_off_is_unknown() {
    let (upstream, proxy) = proxied(TOOL).await;
    upstream.next(Reply::ok("data: 1\n\n").field("Content-Type", "text/event-stream").chunked().cut_after(4));
    let mut raw = Raw::connect(&proxy).await;
    raw.send("POST /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n").await;
    assert!(raw.answer_or_end().await.is_none_or(|answer| !answer.whole));
    Agent::new(&proxy).post("/x").key("k").wait(15).await.refused("outcome-unknown");
    assert_eq!(upstream.requests().len(), 1);
}

// K11
#[tokio::test]
async fn without_a_whole_answer_every_retry_learns_that_nothing_is_known() {
    let limits = "limits.upstream_response = \"300ms\"\nlimits.upstream_idle = \"300ms\"\nlimits.upstream_total = \"1s\"";
    let (upstream, proxy) = proxied(&format!("{TOOL}\n{limits}")).await;
    let agent = Agent::new(&proxy);
    let cases = [
        ("upstream-broke-off", Reply::ok("lost").cut()),
        ("upstream-broke-off", Reply::ok("lost").cut().reset()),
        ("upstream-broke-off", Reply::ok("lost").cut_after(2)),
        ("upstream-broke-off", Reply::verbatim("HTTP/1.1 2")),
        ("upstream-broke-off", Reply::verbatim("this is no answer\r\n\r\n")),
        ("upstream-timeout", Reply::never()),
        ("upstream-timeout", Reply::ok("slow").paused_after(2, &Gate::closed())),
    ];
    for (n, (code, reply)) in cases.into_iter().enumerate() {
        let key = n.to_string();
        upstream.next(reply);
        let first = agent.post("/x").key(&key).await;
        assert_eq!(first.refused(code).executed, "unknown");
        for _ in 0..2 {
            let problem = agent.post("/x").key(&key).await.refused("outcome-unknown");
            assert_eq!(problem.retry, "ask-operator");
        }
        assert_eq!(upstream.requests().len(), n + 1, "an unknown write was sent again");
    }
}

// K11
#[tokio::test]
async fn a_write_that_never_left_is_released() {
    let nobody = Nobody::new();
    let proxy = Proxy::start(&one_route(&nobody.url(), TOOL)).await;
    let agent = Agent::new(&proxy);
    for _ in 0..2 {
        let problem = agent.post("/x").key("k").await.refused("upstream-unreachable");
        assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("no", "same-key"));
    }
    agent.get("/x").await.refused("upstream-unreachable");
}

/// A document at `/d`, a write to it whose first try meets `fault`, and the answers to that write and a retry.
async fn retried(fault: Fault, route: &str) -> (Ledger, Vec<Answer>) {
    let met = AtomicBool::new(false);
    let ledger = Ledger::with(true, move |seen| {
        let first = seen.method == "PUT" && !met.swap(true, Ordering::SeqCst);
        if first { fault.clone() } else { Fault::None }
    });
    let ledger = ledger.await;
    ledger.holds("/d", json!({"value": 1, "rev": 7}));
    let proxy = Proxy::route(&ledger.upstream, route).await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(agent.put("/d").key("k").if_match(&tag).json(&json!({"value": 2, "rev": 8})).await);
    }
    (ledger, answers)
}

// K12
#[tokio::test]
async fn a_compared_version_that_still_stands_lets_a_retry_run() {
    for source in ["\"hash\"", "\"etag\"", "{ field = \"/rev\" }"] {
        let route = format!("version = {source}\nidempotency.settle = \"0s\"");
        let (ledger, answers) = retried(Fault::Lose, &route).await;
        answers[0].refused("upstream-broke-off");
        answers[1].is(200).is_first_run();
        assert_eq!(ledger.effects_of("k"), 1);

        let (ledger, answers) = retried(Fault::Drop, &route).await;
        answers[0].refused("upstream-broke-off");
        let problem = answers[1].refused("outcome-unknown");
        assert_eq!(problem.retry, "after-reread");
        let tags = problem.detail.matches('"').count() / 2;
        assert!(tags >= 2, "it names not both tags: {}", problem.detail);
        ledger.check(&[Told::now("k", &answers[0]), Told::now("k", &answers[1])]);
    }
}

// K12, Q5
#[tokio::test]
async fn during_the_rest_nothing_is_run_again() {
    let (ledger, answers) = retried(Fault::Lose, "version = \"hash\"\nidempotency.settle = \"60s\"").await;
    answers[0].refused("upstream-broke-off");
    answers[1].refused("outcome-unknown");
    assert_eq!(ledger.effects_of("k"), 0);
}

// K12, P2
#[tokio::test]
async fn both_tags_are_named_in_few_words_however_long_they_are() {
    let (before, after) = ("a".repeat(300), "b".repeat(300));
    let lost = AtomicBool::new(false);
    let upstream = Upstream::answering(move |seen| {
        let was = lost.fetch_or(seen.method == "DELETE", Ordering::SeqCst);
        let reply = Reply::json(200, &json!({"rev": if was { &after } else { &before }}));
        if seen.method == "DELETE" { reply.cut() } else { reply }
    });
    let upstream = upstream.await;
    let route = "version = { field = \"/rev\" }\nidempotency.settle = \"0s\"";
    let proxy = Proxy::route(&upstream, route).await;
    let (agent, path) = (Agent::new(&proxy), format!("/{}", "d".repeat(300)));
    let tag = agent.tag(&path).await;
    agent.delete(&path).key("k").if_match(&tag).await.refused("upstream-broke-off");
    let problem = agent.delete(&path).key("k").if_match(&tag).await.refused("outcome-unknown");
    assert_ne!(problem.json["compared_etag"], problem.json["current_etag"]);
}

// K12
#[tokio::test]
async fn an_upstream_that_checks_itself_is_asked_again() {
    let route = "version = \"upstream\"\nidempotency.settle = \"0s\"";
    let (ledger, answers) = retried(Fault::Lose, route).await;
    answers[0].refused("upstream-broke-off");
    answers[1].is(200);
    assert_eq!(ledger.effects_of("k"), 1);
    let (ledger, answers) = retried(Fault::Drop, route).await;
    answers[0].refused("upstream-broke-off");
    answers[1].refused("outcome-unknown");
    assert_eq!(ledger.effects_of("k"), 1);
}

// K12
#[tokio::test]
async fn an_upstream_that_checks_itself_is_asked_again_with_the_first_precondition_only() {
    let ledger = ledger_that_loses_one().await;
    ledger.holds("/d", json!({"value": 1}));
    let route = "version = \"upstream\"\nidempotency.settle = \"0s\"";
    let proxy = Proxy::route(&ledger.upstream, route).await;
    let agent = Agent::new(&proxy);
    let write = |tag: &str| agent.put("/d").key("k").if_match(tag).json(&json!({"value": 2}));
    write(&agent.tag("/d").await).await.refused("upstream-broke-off");
    // The first run had its effect, so the version that there is now would let the write through again.
    let problem = write(&agent.tag("/d").await).await.refused("outcome-unknown");
    assert_eq!(problem.retry, "after-reread");
    assert_eq!(ledger.effects_of("k"), 1);
}

// K12
#[tokio::test]
async fn what_was_made_and_deleted_is_not_made_again() {
    let ledger = ledger_that_loses_one().await;
    let proxy = Proxy::route(&ledger.upstream, "version = \"upstream\"\nidempotency.settle = \"0s\"").await;
    let agent = Agent::new(&proxy);
    let make = || agent.put("/d").key("k").if_none_match("*").json(&json!({"value": 1}));
    make().await.refused("upstream-broke-off");
    agent.delete("/d").key("other").if_match(&agent.tag("/d").await).await.is(200);
    // The upstream sees that there is none, as the first time, and would let it through.
    let problem = make().await.refused("outcome-unknown");
    assert_eq!(problem.retry, "after-reread");
    assert_eq!(ledger.effects_of("k"), 1);
}

// K12
#[tokio::test]
async fn held_is_held_whatever_the_version() {
    let route = "version = \"hash\"\nidempotency.on_unknown = \"hold\"\nidempotency.settle = \"0s\"";
    let (ledger, answers) = retried(Fault::Lose, route).await;
    answers[0].refused("upstream-broke-off");
    answers[1].refused("outcome-unknown");
    assert_eq!(ledger.effects_of("k"), 0);
}

// K12
#[tokio::test]
async fn another_write_meanwhile_keeps_it_unknown() {
    let (_upstream, proxy) = one_that_is_cut().await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let write = |key: &str| agent.put("/d").key(key).if_match(&tag).json(&json!({"value": 1}));
    write("k").await.refused("upstream-broke-off");
    // It changes nothing that a hash could show, yet the first may have gone before it.
    write("other").await.is(200);
    write("k").await.refused("outcome-unknown");
}

// K12
#[tokio::test]
async fn rerun_leaves_it_to_the_upstream() {
    let (upstream, proxy) = proxied(&format!("{TOOL}\nidempotency.on_unknown = \"rerun\"")).await;
    upstream.next(Reply::ok("lost").cut()).next(Reply::new(201).body("made"));
    let agent = Agent::new(&proxy);
    let problem = agent.post("/x").key("k").await.refused("upstream-broke-off");
    assert_eq!(problem.retry, "same-key");
    let second = agent.post("/x").key("k").await;
    assert_eq!(second.is(201).text(), "made");
    agent.post("/x").key("k").await.replays(&second);
    let keys: Vec<_> = upstream.requests().iter().map(|seen| seen.field("idempotency-key")).collect();
    assert_eq!(keys, [Some("k".to_owned()), Some("k".to_owned())]);
}

// K12
#[tokio::test]
async fn a_rerun_that_is_not_taken_says_nothing_of_the_first_run() {
    for status in [401, 412, 429, 503] {
        let (upstream, proxy) = proxied(&format!("{TOOL}\nidempotency.on_unknown = \"rerun\"")).await;
        upstream.next(Reply::ok("lost").cut()).next(Reply::new(status));
        let agent = Agent::new(&proxy);
        agent.post("/x").key("k").await.refused("upstream-broke-off");
        agent.post("/x").key("k").await.is(status);
        let state = agent.get("/.onceward/operations/k").await.is(200).json();
        assert_eq!(state["state"], "unknown", "after a {status}: {state}");
    }
}

// K16, K12
#[tokio::test]
async fn a_rerun_spells_the_key_as_its_first_run_did() {
    for (first, second) in [("ab", "\"ab\""), ("\"ab\"", "ab")] {
        let (upstream, proxy) = proxied(&format!("{TOOL}\nidempotency.on_unknown = \"rerun\"")).await;
        upstream.next(Reply::ok("lost").cut());
        let agent = Agent::new(&proxy);
        agent.post("/x").key(first).await.refused("upstream-broke-off");
        agent.post("/x").key(second).await.is(200);
        for seen in upstream.requests() {
            assert_eq!(seen.field("idempotency-key").as_deref(), Some(first));
        }
    }
}

// K14
#[tokio::test]
async fn a_write_goes_over_a_fresh_connection() {
    let (upstream, proxy) = proxied(&format!("{TOOL}\n[limits]\nupstream_keep = \"50ms\"")).await;
    let agent = Agent::new(&proxy);
    agent.post("/x").key("1").await.is(200);
    // The time itself is what is tested here.
    tokio::time::sleep(std::time::Duration::from_millis(120)).await;
    agent.post("/x").key("2").await.is(200);
    let seen = upstream.received(2).await;
    assert_ne!(seen[0].connection, seen[1].connection, "a write over a connection that was idle too long");
}

// K15
#[tokio::test]
async fn a_record_lives_from_its_end_and_a_claim_as_long_as_it_runs() {
    let (upstream, proxy) = proxied(&format!("{TOOL}\nidempotency.ttl = \"1s\"")).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::new(201).held(&gate));
    let first = agent.post("/x").key("k").spawn();
    upstream.received(1).await;
    // Longer than a record would live.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    agent.post("/x").key("k").await.refused("in-flight");
    gate.open();
    let first = first.await.unwrap();
    agent.post("/x").key("k").await.replays(first.is(201));
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    agent.post("/x").key("k").await.is(200).is_first_run();
    assert_eq!(upstream.requests().len(), 2);
}

// K12, P2
#[tokio::test]
async fn what_keeps_it_unknown_is_said_as_it_is() {
    let (upstream, proxy) = one_that_is_cut().await;
    let agent = Agent::new(&proxy);
    let tag = agent.tag("/d").await;
    let write = |key: &str, tag: &str| agent.put("/d").key(key).if_match(tag).json(&json!({"value": 1}));
    write("k", &tag).await.refused("upstream-broke-off");
    // This retry was built on something else: the version has not moved, and nobody says that it has.
    let other = write("k", "\"other\"").await.refused("outcome-unknown");
    assert!(!other.detail.contains(" went ") && other.json.get("current_etag").is_none(), "{}", other.json);
    write("between", &tag).await.is(200);
    let between = write("k", &tag).await.refused("outcome-unknown");
    assert!(between.detail.contains("another write went to it"), "{}", between.detail);
    assert_eq!(between.json["compared_etag"], between.json["current_etag"]);
    assert_eq!(upstream.with_method("PUT").len(), 2);
}

// K12, P5
#[tokio::test]
async fn where_nothing_can_tell_it_is_held() {
    const HELD: [(&str, bool, &str); 6] = [
        ("version = \"mint\"", true, "after-reread"),
        ("version = \"hash\"\nqueue = false", true, "after-reread"),
        ("version = { source = \"hash\", required = [] }", false, "ask-operator"),
        ("version = { source = \"upstream\", required = [] }", false, "ask-operator"),
        ("version = \"none\"", false, "ask-operator"),
        (TOOL, false, "ask-operator"),
    ];
    for (route, compared, retry) in HELD {
        let lost = AtomicBool::new(false);
        let upstream = Upstream::answering(move |seen| match seen.method.as_str() {
            "PUT" if !lost.swap(true, Ordering::SeqCst) => Reply::ok("lost").cut(),
            _ => Reply::ok("ok"),
        });
        let upstream = upstream.await;
        let proxy = Proxy::route(&upstream, &format!("{route}\nidempotency.settle = \"0s\"")).await;
        let agent = Agent::new(&proxy);
        let mut put = agent.put("/d").key("k");
        if compared {
            put = put.if_match(&agent.tag("/d").await);
        }
        let lost = put.clone().await.refused("upstream-broke-off");
        let again = put.await.refused("outcome-unknown");
        for problem in [lost, again] {
            assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("unknown", retry), "{route}");
        }
        assert_eq!(upstream.with_method("PUT").len(), 1, "{route}");
    }
}

// K8, K11, K12, K13, Q1, V5: whatever is lost on the way, no key has two effects, nobody is told of what is not, and a
// counter that is read, raised and written back is as high as there were writes.
#[tokio::test]
async fn agents_that_read_change_and_write_through_losses_are_never_lied_to() {
    for source in ["\"hash\"", "\"etag\"", "\"mint\"", "{ field = \"/value\" }"] {
        let writes = AtomicUsize::new(0);
        let ledger = Ledger::with(true, move |seen| {
            if seen.method != "PUT" {
                return Fault::None;
            }
            match writes.fetch_add(1, Ordering::SeqCst) % 7 {
                1 => Fault::Drop,
                2 => Fault::Lose,
                4 => Fault::Cut,
                5 => Fault::Refuse(503),
                6 => Fault::Slow(Duration::from_millis(3)),
                _ => Fault::None,
            }
        });
        let ledger = ledger.await;
        ledger.holds("/d", json!({"value": 0}));
        let route =
            format!("version = {source}\nidempotency.settle = \"0s\"\nidempotency.in_flight = \"wait\"");
        let proxy = Proxy::route(&ledger.upstream, &route).await;
        let mut crowd = tokio::task::JoinSet::new();
        for number in 0..5 {
            let agent = Agent::named(&proxy, &number.to_string());
            crowd.spawn(async move { raise(&agent, number, 12).await });
        }
        let told: Vec<_> = crowd.join_all().await.into_iter().flatten().collect();
        ledger.check(&told);
        let effects = ledger.effects().len();
        assert!(effects > 0, "{source}: nothing was done");
        assert_eq!(ledger.document("/d"), Some(json!({"value": effects})), "{source}: an update was lost");
    }
}

/// Reads, raises and writes back, each under a key of its own that is sent up to four times; sometimes the agent leaves.
async fn raise(agent: &Agent, number: usize, times: usize) -> Vec<Told> {
    let mut told = Vec::new();
    for n in 0..times {
        let read = agent.get("/d").await;
        let value = read.is(200).json()["value"].as_u64().expect("a number") + 1;
        let key = format!("{number}-{n}");
        let put = agent.put("/d").key(&key).if_match(&read.etag()).json(&json!({"value": value}));
        if n % 4 == 3 {
            // It leaves at some point of the way.
            tokio::time::timeout(Duration::from_millis(number as u64 + 1), put.clone()).await.ok();
        }
        for _ in 0..4 {
            let answer = put.clone().await;
            if !answer.is_refusal() && answer.status == 503 {
                // Released: the next try is a first one.
                continue;
            }
            told.push(Told::now(&key, &answer));
            if !answer.is_refusal() || answer.problem().executed != "unknown" {
                break;
            }
        }
    }
    told
}
