//! What P1 to P5 ask of every refusal, in one place.

use serde_json::Value;

use super::Answer;

/// A refusal whose form has been checked.
#[derive(Clone, Debug)]
pub struct Problem {
    pub code: String,
    pub executed: String,
    pub retry: String,
    pub detail: String,
    pub json: Value,
}

const RETRIES: [&str; 5] = ["same-key", "new-key", "after-reread", "after-fixing", "ask-operator"];

/// Codes about a record, which name the operation an operator can look up (P1).
const ABOUT_A_RECORD: [&str; 5] =
    ["in-flight", "outcome-unknown", "response-not-kept", "key-reused", "result-not-stored"];

/// One row of P5: the statuses, the values of `executed`, and of `retry`, that a code may have.
type Row = (&'static [u16], &'static [&'static str], &'static [&'static str]);

fn row(code: &str) -> Option<Row> {
    const NO: &[&str] = &["no"];
    const FIX: &[&str] = &["after-fixing"];
    const SAME: &[&str] = &["same-key"];
    const REREAD: &[&str] = &["after-reread"];
    const OPEN: &[&str] = &["after-reread", "same-key", "ask-operator"];
    Some(match code {
        "bad-request"
        | "missing-idempotency-key"
        | "invalid-idempotency-key"
        | "invalid-precondition"
        | "no-resource" => (&[400], NO, FIX),
        "no-route" | "not-found" => (&[404], NO, FIX),
        "method-not-allowed" => (&[405], NO, FIX),
        "request-timeout" => (&[408], NO, FIX),
        "stale-version" => (&[409, 412], NO, REREAD),
        "in-flight" => (&[409], &["pending"], SAME),
        "outcome-unknown" => (&[409], &["unknown"], OPEN),
        "response-not-kept" => (&[409], &["yes"], REREAD),
        "lease-lost" | "claim-lost" => (&[409], NO, FIX),
        "gone" => (&[410], NO, REREAD),
        "body-too-large" => (&[413], NO, FIX),
        "uri-too-long" => (&[414], NO, FIX),
        "headers-too-large" => (&[431], NO, FIX),
        "key-reused" => (&[422], NO, &["new-key"]),
        "leased" => (&[423], NO, SAME),
        "missing-precondition" => (&[428], NO, REREAD),
        "queue-full" | "queue-timeout" => (&[429], NO, SAME),
        "internal-error" => (&[500], &["no", "yes", "pending", "unknown"], &["ask-operator"]),
        "upstream-unreachable" | "version-unavailable" => (&[502], NO, SAME),
        "upstream-broke-off" => (&[502], &["no", "unknown"], OPEN),
        "upstream-timeout" => (&[504], &["no", "unknown"], OPEN),
        "store-unavailable" | "store-full" | "shutting-down" | "too-many-connections" => (&[503], NO, SAME),
        "result-not-stored" => (&[503], &["yes"], SAME),
        _ => return None,
    })
}

/// Checks a refusal against P1 to P5 and gives it back read.
#[track_caller]
pub fn check(answer: &Answer) -> Problem {
    let json: Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("P1: a problem that is no JSON ({error}): {answer}"));
    let text = |name: &str| match json.get(name).and_then(Value::as_str) {
        Some(value) if !value.is_empty() => value.to_owned(),
        _ => panic!("P1: no text `{name}` in {answer}"),
    };
    let problem = Problem {
        code: text("code"),
        executed: text("executed"),
        retry: text("retry"),
        detail: text("detail"),
        json: json.clone(),
    };
    // P1
    assert_eq!(answer.needs("content-type"), "application/problem+json", "P1: content type of {answer}");
    assert_eq!(text("type"), format!("urn:problem:onceward:{}", problem.code), "P1: type of {answer}");
    assert!(!text("title").is_empty(), "P1: title of {answer}");
    assert_eq!(json["status"], answer.status, "P1: status of {answer}");
    if ABOUT_A_RECORD.contains(&problem.code.as_str()) {
        assert!(!text("operation").is_empty(), "P1: operation of {answer}");
    }
    check_words(&problem, answer);
    check_retry(&problem, answer);
    // P4
    let described = format!("</.onceward/problems/{}>; rel=\"describedby\"", problem.code);
    assert!(
        answer.all("link").iter().any(|link| link.contains(&described)),
        "P4: no {described} on {answer}"
    );
    // P5
    let Some((statuses, executed, retries)) = row(&problem.code) else {
        panic!("P5 has no code {}: {answer}", problem.code)
    };
    assert!(statuses.contains(&answer.status), "P5: status of {answer}");
    assert!(executed.contains(&problem.executed.as_str()), "P5: executed of {answer}");
    // K8, J1: what is kept under a key is no reason to send that key again.
    let kept = answer.header("onceward-retry").as_deref() == Some("new-key");
    let spent = kept && retries.contains(&"same-key") && problem.retry == "new-key";
    assert!(spent || retries.contains(&problem.retry.as_str()), "P5: retry of {answer}");
    assert!(!(kept && problem.retry == "same-key"), "P5: retry of {answer}");
    if problem.code.starts_with("upstream-") && retries.len() > 1 && problem.executed == "no" {
        assert_eq!(problem.retry, "same-key", "P5: a read whose upstream broke off: {answer}");
    }
    problem
}

/// P2: one or two sentences, each of at most 200 characters, without control characters.
#[track_caller]
fn check_words(problem: &Problem, answer: &Answer) {
    assert!(RETRIES.contains(&problem.retry.as_str()), "P2: retry of {answer}");
    assert!(!problem.detail.chars().any(char::is_control), "P2: control characters in {answer}");
    let sentences = sentences(&problem.detail);
    assert!((1..=2).contains(&sentences.len()), "P2: {} sentences, {sentences:?}: {answer}", sentences.len());
    for sentence in sentences {
        let length = sentence.chars().count();
        assert!(length <= 200, "P2: a sentence of {length} characters, {sentence:?}: {answer}");
    }
}

/// P3: `retry: "same-key"`, `Retry-After`, `retry_after` and `x-should-retry: true` come together or not at all.
#[track_caller]
fn check_retry(problem: &Problem, answer: &Answer) {
    let same = problem.retry == "same-key";
    let should = answer.needs("x-should-retry");
    assert_eq!(should, if same { "true" } else { "false" }, "P3: x-should-retry of {answer}");
    let header =
        answer.header("retry-after").map(|seconds| seconds.parse::<u64>().expect("P3: whole seconds"));
    let member = problem.json.get("retry_after").map(|seconds| seconds.as_u64().expect("P3: whole seconds"));
    assert_eq!(header.is_some(), same, "P3: Retry-After of {answer}");
    assert_eq!(header, member, "P3: Retry-After and retry_after of {answer}");
}

/// Splits where a sentence ends: a mark and white space after it, outside quotes.
fn sentences(text: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let (mut quoted, mut escaped, mut ended) = (false, false, false);
    for letter in text.trim().chars() {
        if letter.is_whitespace() && ended && !quoted {
            all.push(String::new());
        }
        if letter == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = letter == '\\' && !escaped;
        ended = matches!(letter, '.' | '!' | '?') || (ended && letter == '"');
        all.last_mut().expect("one at least").push(letter);
    }
    all.retain(|sentence| !sentence.trim().is_empty());
    all
}
