//! Idempotency keys: what one is, which request it stands for, and what a retry under it gets (K1 to K9, K16).

use serde_json::json;

use crate::harness::{Agent, Answer, Gate, Raw, Reply, proxied};

const TOOL: &str = "guard = \"tool\"";

/// Sends a POST with these field lines, written as they are.
async fn post(raw: &mut Raw, fields: &[u8]) -> Answer {
    raw.send([b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", fields, b"\r\n\r\n"].concat()).await;
    raw.answer().await.answer
}

// K1
#[tokio::test]
async fn both_spellings_of_a_key_are_one_key() {
    let (upstream, proxy) = proxied(TOOL).await;
    let mut raw = Raw::connect(&proxy).await;
    let long = "x".repeat(255);
    let spellings = [
        ("ab", "\"ab\""),
        ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("\"a b\"", "  \"a b\" "),
        ("a/b%20;c=d!~", "\"a/b%20;c=d!~\""),
        ("\"back\\\\slash \\\"q\\\"\"", "\"back\\\\slash \\\"q\\\"\""),
        (&long, &format!("\"{long}\"")),
    ];
    for (n, (one, other)) in spellings.into_iter().enumerate() {
        let first = post(&mut raw, format!("Idempotency-Key: {one}").as_bytes()).await;
        first.is(200).is_first_run();
        post(&mut raw, format!("Idempotency-Key: {other}").as_bytes()).await.replays(&first);
        // K16: spelled as the first run's agent spelled it.
        assert_eq!(upstream.received(n + 1).await[n].field("idempotency-key").as_deref(), Some(one));
    }
}

// K1
#[tokio::test]
async fn what_is_no_key_is_refused() {
    let (upstream, proxy) = proxied(TOOL).await;
    let mut raw = Raw::connect(&proxy).await;
    let long = format!("Idempotency-Key: {}", "x".repeat(256));
    let quoted = format!("Idempotency-Key: \"{}\"", "x".repeat(256));
    let fields: [&[u8]; 16] = [
        b"Idempotency-Key:",
        b"Idempotency-Key: \"\"",
        b"Idempotency-Key: a b",
        b"Idempotency-Key: a,b",
        b"Idempotency-Key: a\"b",
        b"Idempotency-Key: \"a",
        b"Idempotency-Key: a\"",
        b"Idempotency-Key: \"a\" \"b\"",
        b"Idempotency-Key: \"a\", \"b\"",
        b"Idempotency-Key: \"a\\b\"",
        b"Idempotency-Key: \xc3\xa4",
        b"Idempotency-Key: \"\xff\"",
        b"Idempotency-Key: a\tb",
        b"Idempotency-Key: a\r\nIdempotency-Key: a",
        long.as_bytes(),
        quoted.as_bytes(),
    ];
    for field in fields {
        let answer = post(&mut raw, field).await;
        assert!(answer.is_refusal(), "{:?} is no key: {answer}", String::from_utf8_lossy(field));
        answer.refused("invalid-idempotency-key");
    }
    assert!(upstream.requests().is_empty());
}

// K2, R3
#[tokio::test]
async fn a_write_needs_a_key_and_a_read_never_does() {
    let (upstream, proxy) = proxied(TOOL).await;
    let agent = Agent::new(&proxy);
    for method in ["POST", "PUT", "PATCH", "DELETE", "MKCOL", "LOCK"] {
        agent.call(method, "/x").await.refused("missing-idempotency-key");
    }
    assert!(upstream.requests().is_empty());
    for method in ["GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
        agent.call(method, "/x").await.is(200);
        // One on a read is ignored: there is nothing to replay, not even of the same key.
        agent.call(method, "/x").key("k").await.is(200).is_first_run();
        agent.call(method, "/x").key("k").await.is(200).is_first_run();
    }
    assert_eq!(upstream.requests().len(), 21);
    let optional = proxied("guard = \"tool\"\nidempotency.required = false").await;
    Agent::new(&optional.1).post("/x").await.is(200);
}

// K3
#[tokio::test]
async fn json_bodies_are_compared_by_meaning() {
    let (_upstream, proxy) = proxied(TOOL).await;
    let agent = Agent::new(&proxy);
    let post = |key: &str, body: &'static str| agent.post("/x").key(key).typed("application/json", body);
    let same = [
        ("{\"a\":1,\"b\":[1,2]}", " { \"b\" : [ 1 , 2 ] , \"a\" : 1.0 } "),
        ("{\"n\":100}", "{\"n\":1e2}"),
        ("{\"n\":0.10}", "{\"n\":1E-1}"),
        ("{\"n\":-0}", "{\"n\":0}"),
        ("{\"s\":\"\\u00e4\"}", "{\"s\":\"ä\"}"),
    ];
    for (n, (one, other)) in same.into_iter().enumerate() {
        let key = format!("same-{n}");
        let first = post(&key, one).await;
        post(&key, other).await.replays(first.is(200));
    }
    let other = [
        ("{\"a\":null}", "{}"),
        ("{\"a\":[1,2]}", "{\"a\":[2,1]}"),
        ("{\"n\":9007199254740993}", "{\"n\":9007199254740992}"),
        ("{\"n\":0.1}", "{\"n\":0.10000000000000000001}"),
        ("{\"n\":1}", "{\"n\":\"1\"}"),
        ("{\"a\":1,\"a\":2}", "{\"a\":2,\"a\":1}"),
        ("{\"a\":1,\"a\":2}", "{\"a\":2}"),
        ("{broken", "{broken "),
        ("", "{}"),
        ("{\"a\":true}", "{\"a\":1}"),
    ];
    for (n, (one, other)) in other.into_iter().enumerate() {
        let key = format!("other-{n}");
        post(&key, one).await.is(200);
        let answer = post(&key, other).await;
        assert!(answer.is_refusal(), "{one} and {other} are two requests: {answer}");
        answer.refused("key-reused");
    }
}

// K3
#[tokio::test]
async fn bodies_are_compared_by_bytes_where_it_is_asked() {
    let (_upstream, proxy) = proxied("guard = \"tool\"\nidempotency.compare = \"bytes\"").await;
    let agent = Agent::new(&proxy);
    let first = agent.post("/x").key("k").typed("application/json", "{\"a\":1}").await;
    agent.post("/x").key("k").typed("application/json", "{\"a\":1}").await.replays(first.is(200));
    agent.post("/x").key("k").typed("application/json", "{\"a\": 1}").await.refused("key-reused");
}

// K3
#[tokio::test]
async fn multipart_bodies_are_compared_by_their_parts() {
    let (_upstream, proxy) = proxied(TOOL).await;
    let agent = Agent::new(&proxy);
    let form = |boundary: &str, value: &str| {
        let part =
            "Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/plain";
        let body = format!("--{boundary}\r\n{part}\r\n\r\n{value}\r\n--{boundary}--\r\n");
        agent.post("/x").key("k").typed(&format!("multipart/form-data; boundary={boundary}"), body)
    };
    let first = form("one", "hello").await;
    form("another", "hello").await.replays(first.is(200));
    form("one", "other").await.refused("key-reused");
}

// K3, K5
#[tokio::test]
async fn a_key_stands_for_one_request() {
    let (upstream, proxy) = proxied(TOOL).await;
    let agent = Agent::new(&proxy);
    let first = agent.post("/x?a=b").key("k").json(&json!({"n": 1})).await;
    let others = [
        agent.post("/x?a=c").key("k").json(&json!({"n": 1})),
        agent.post("/y?a=b").key("k").json(&json!({"n": 1})),
        agent.put("/x?a=b").key("k").json(&json!({"n": 1})),
        agent.post("/x?a=b").key("k").typed("text/plain", "{\"n\":1}"),
        agent.post("/x?a=b").key("k").json(&json!({"n": 2})),
        agent.post("/x?a=b").key("k"),
    ];
    for other in others {
        let problem = other.await.refused("key-reused");
        assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("no", "new-key"));
    }
    // Other fields are no part of it.
    let again =
        agent.post("/x?a=b").key("k").header("x-attempt", "2").if_match("\"v1\"").json(&json!({"n": 1}));
    again.await.replays(first.is(200));
    assert_eq!(upstream.requests().len(), 1);
}

// K5
#[tokio::test]
async fn another_request_is_refused_while_the_first_runs_too() {
    let (upstream, proxy) = proxied(TOOL).await;
    let (agent, gate) = (Agent::new(&proxy), Gate::closed());
    upstream.next(Reply::ok("ok").held(&gate));
    let first = agent.post("/x").key("k").body("one").spawn();
    upstream.received(1).await;
    agent.post("/x").key("k").body("two").await.refused("key-reused");
    gate.open();
    first.await.unwrap().is(200);
}

// K3
#[tokio::test]
async fn keys_are_one_name_space_over_all_routes() {
    let (upstream, _) = proxied(TOOL).await;
    let route = |path: &str| {
        format!("[[routes]]\npath = \"{path}\"\nupstream = \"{}\"\nguard = \"tool\"\n", upstream.url())
    };
    let proxy = crate::harness::Proxy::start(&[route("/a"), route("/b")].concat()).await;
    let agent = Agent::new(&proxy);
    agent.post("/a").key("k").await.is(200);
    agent.post("/b").key("k").await.refused("key-reused");
}

// K4, K7
#[tokio::test]
async fn a_result_is_there_as_soon_as_it_was_answered() {
    let (upstream, proxy) = proxied(TOOL).await;
    let (mut raw, agent) = (Raw::connect(&proxy).await, Agent::new(&proxy));
    for n in 0..20 {
        upstream.next(
            Reply::new(201)
                .field("Location", format!("/x/{n}"))
                .field("X-Bytes", b"\xfe".to_vec())
                .body("made"),
        );
        let first = post(&mut raw, format!("Idempotency-Key: {n}").as_bytes()).await;
        let replay = agent.post("/x").key(&n.to_string()).await;
        replay.replays(first.is(201).is_first_run());
        assert_eq!(replay.needs("idempotency-expires"), first.needs("idempotency-expires"));
    }
    assert_eq!(upstream.requests().len(), 20);
}

// K7
#[tokio::test]
async fn an_answer_says_until_when_it_is_replayed() {
    let (_upstream, proxy) = proxied("guard = \"tool\"\nidempotency.ttl = \"1h\"").await;
    let before = std::time::SystemTime::now();
    let answer = Agent::new(&proxy).post("/x").key("k").await;
    let expires = httpdate::parse_http_date(&answer.needs("idempotency-expires")).expect("an HTTP date");
    let hour = std::time::Duration::from_secs(3600);
    let second = std::time::Duration::from_secs(1);
    assert!(expires >= before + hour - second && expires <= std::time::SystemTime::now() + hour, "{answer}");
}

const RELEASED: [u16; 18] =
    [401, 403, 407, 408, 412, 423, 425, 428, 429, 501, 503, 505, 506, 507, 508, 509, 510, 511];

// K8, K14
#[tokio::test]
async fn answers_are_kept_but_those_that_say_that_nothing_was_done() {
    let (upstream, proxy) = proxied(TOOL).await;
    let agent = Agent::new(&proxy);
    let kept: Vec<u16> =
        (200..600).filter(|status| !RELEASED.contains(status) && ![502, 504].contains(status)).collect();
    for status in &kept {
        let key = status.to_string();
        upstream.next(Reply::new(*status).field("Location", "/elsewhere"));
        let first = agent.post("/x").key(&key).await;
        agent.post("/x").key(&key).await.replays(first.is(*status));
        let retry = (*status >= 500).then(|| "new-key".to_owned());
        assert_eq!(first.header("onceward-retry"), retry, "{first}");
    }
    assert_eq!(upstream.requests().len(), kept.len(), "a kept answer was asked for again");
    for status in RELEASED {
        let key = status.to_string();
        upstream.next(Reply::new(status).body("not now"));
        assert_eq!(agent.post("/x").key(&key).await.is(status).is_first_run().text(), "not now");
        let second = agent.post("/x").key(&key).await;
        assert!(second.status == 200, "{status} was not released: {second}");
        second.is_first_run();
    }
    assert_eq!(upstream.requests().len(), kept.len() + 2 * RELEASED.len());
}

// K8
#[tokio::test]
async fn what_a_server_error_means_is_the_operators_choice() {
    for (choice, second) in [("keep", 500), ("release", 200), ("hold", 409)] {
        let (upstream, proxy) =
            proxied(&format!("guard = \"tool\"\nidempotency.on_5xx = \"{choice}\"")).await;
        let agent = Agent::new(&proxy);
        for status in [500, 520, 599, 600, 999] {
            let key = status.to_string();
            upstream.next(Reply::new(status).body("broken"));
            let first = agent.post("/x").key(&key).await;
            assert_eq!(first.is(status).text(), "broken");
            let again = agent.post("/x").key(&key).await;
            match second {
                500 => {
                    again.replays(&first);
                    assert_eq!(
                        (first.needs("onceward-retry"), again.needs("onceward-retry")),
                        ("new-key".into(), "new-key".into())
                    );
                }
                200 => drop(again.is(200).is_first_run()),
                _ => drop(again.refused("outcome-unknown")),
            }
        }
    }
}

// K8, K11
#[tokio::test]
async fn a_gateways_failure_leaves_the_outcome_unknown() {
    for choice in ["keep", "release", "hold"] {
        let (upstream, proxy) =
            proxied(&format!("guard = \"tool\"\nidempotency.on_5xx = \"{choice}\"")).await;
        let agent = Agent::new(&proxy);
        for status in [502, 504] {
            let key = status.to_string();
            upstream.next(Reply::new(status).body("behind me"));
            assert_eq!(agent.post("/x").key(&key).await.is(status).text(), "behind me");
            agent.post("/x").key(&key).await.refused("outcome-unknown");
        }
        assert_eq!(upstream.requests().len(), 2);
    }
}

// K9
#[tokio::test]
async fn fields_of_the_moment_are_not_replayed() {
    const MOMENTARY: [(&str, &str); 6] = [
        ("Set-Cookie", "a=b"),
        ("WWW-Authenticate", "Basic"),
        ("Server-Timing", "db;dur=1"),
        ("RateLimit-Remaining", "3"),
        ("RateLimit", "\"a\";r=1"),
        ("Alt-Svc", "h3=\":443\""),
    ];
    let (upstream, proxy) = proxied(TOOL).await;
    let agent = Agent::new(&proxy);
    let reply = Reply::ok("ok").field("Date", "Thu, 01 Jan 1970 00:00:00 GMT").field("Link", "</a>");
    let reply = reply.field("X-Many", "1").field("Link", "</b>").field("X-Many", b"\xf0".to_vec());
    upstream.next(MOMENTARY.iter().fold(reply, |reply, (name, value)| reply.field(name, *value)));
    let first = agent.post("/x").key("k").header("accept-encoding", "gzip").await;
    let replay = agent.post("/x").key("k").await;
    replay.replays(&first);
    for (name, value) in MOMENTARY {
        assert_eq!(first.header(name).as_deref(), Some(value), "the first answer lost {name}");
        assert_eq!(replay.header(name), None, "{name} was replayed");
    }
    assert_ne!(replay.header("date").as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(replay.all("link"), ["</a>", "</b>"]);
    let many: Vec<_> = replay.headers.get_all("x-many").iter().map(|value| value.as_bytes()).collect();
    assert_eq!(many, [&b"1"[..], b"\xf0"]);
    assert_eq!(upstream.received(1).await[0].head.all("accept-encoding"), ["identity"]);
}
