//! The command line, as an operator types it (C1, O4).

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::proxy::one_route;
use crate::harness::upstream::Nobody;
use crate::harness::{Agent, Proxy, Reply, Upstream, proxied, within};

/// Runs the binary to its end, aside, so that upstreams in this test go on.
async fn onceward(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceward"));
    command.args(arguments);
    let run = tokio::task::spawn_blocking(move || command.output().expect("the binary"));
    within(format!("onceward {arguments:?} to end"), run).await.expect("a run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// C1, C2
#[tokio::test]
async fn check_tells_by_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("onceward.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, one_route("http://127.0.0.1:1", "")).unwrap();
    let good = onceward(&["check", path]).await;
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));

    std::fs::write(&file, one_route("http://127.0.0.1:1", "gard = \"state\"\nmode = \"watch\"")).unwrap();
    let bad = onceward(&["check", path]).await;
    let said = text(&bad.stderr);
    assert_eq!(bad.status.code(), Some(2), "{said}");
    for part in [":6:", "guard", ":7:", "observe"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    // C2
    std::fs::write(&file, one_route("${ONCEWARD_TEST_UPSTREAM}", "")).unwrap();
    assert_eq!(onceward(&["check", path]).await.status.code(), Some(2));
    std::fs::write(&file, one_route("${ONCEWARD_TEST_UPSTREAM:-http://127.0.0.1:1}", "")).unwrap();
    assert_eq!(onceward(&["check", path]).await.status.code(), Some(0));
    assert_ne!(onceward(&["check", "/no/such/file.toml"]).await.status.code(), Some(0));
}

// C1
#[tokio::test]
async fn serve_refuses_what_check_refuses() {
    let Err(log) = Proxy::try_start(&one_route("http://127.0.0.1:1", "gard = \"state\"")).await else {
        panic!("it started on a bad file")
    };
    assert!(log.contains("guard"), "{log}");
}

// C1
#[tokio::test]
async fn where_to_listen_goes_over_the_usual_file_too() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        one_route("http://127.0.0.1:1", "").replace("[server]", "[server]\nlisten = \"127.0.0.1:1\"");
    std::fs::write(
        directory.path().join("onceward.toml"),
        config.replace("[server]", "[server]\nadmin = \"off\""),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceward"));
    command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(directory.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
        child.kill().unwrap();
        child.wait().unwrap();
        read.map(|_| line)
    });
    let line = within("a line of the binary", first).await.unwrap().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_ne!(line["listening"][0], "127.0.0.1:1");
}

// C1
#[tokio::test]
async fn a_healthcheck_asks_the_admin_listener() {
    let (_upstream, proxy) = proxied("").await;
    let url = proxy.admin_url();
    for address in [url.as_str(), url.trim_start_matches("http://"), &format!("{url}/")] {
        for more in [&[][..], &["--ready"]] {
            let asked = onceward(&[&["healthcheck", "--admin", address], more].concat()).await;
            assert_eq!(asked.status.code(), Some(0), "{}", text(&asked.stderr));
        }
    }
    let nobody = onceward(&["healthcheck", "--admin", &Nobody::new().url()]).await;
    assert_eq!(nobody.status.code(), Some(1), "{}", text(&nobody.stderr));
}

// C1
#[tokio::test]
async fn the_schema_is_json() {
    let schema = onceward(&["schema"]).await;
    assert_eq!(schema.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["routes"].is_object(), "{schema}");
}

// O4
#[tokio::test]
async fn an_operator_resolves_from_the_command_line() {
    let (upstream, proxy): (Upstream, Proxy) = proxied("guard = \"tool\"").await;
    let (agent, admin) = (Agent::new(&proxy), proxy.admin_url());
    let mut ids = Vec::new();
    for key in ["gone", "done"] {
        upstream.next(Reply::ok("lost").cut());
        let problem = agent.post("/x").key(key).await.refused("upstream-broke-off");
        ids.push(problem.json["operation"].as_str().unwrap().to_owned());
    }
    let listed = onceward(&["operations", "list", "--admin", &admin]).await;
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
    assert!(ids.iter().all(|id| text(&listed.stdout).contains(id)), "{}", text(&listed.stdout));
    let shown = onceward(&["operations", "show", &ids[0], "--admin", &admin]).await;
    assert!(shown.status.success() && text(&shown.stdout).contains("unknown"), "{}", text(&shown.stdout));

    let directory = tempfile::tempdir().unwrap();
    let body = directory.path().join("body");
    std::fs::write(&body, "found").unwrap();
    let signed = ["--who", "ann", "--why", "the order book says so", "--admin", &admin];
    let gone = [&["operations", "resolve", &ids[0], "--not-executed"], &signed[..]].concat();
    let done =
        ["operations", "resolve", &ids[1], "--executed", "--status", "201", "--body", body.to_str().unwrap()];
    for arguments in [gone, [&done, &signed[..]].concat()] {
        let run = onceward(&arguments).await;
        assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    }
    agent.post("/x").key("gone").await.is(200).is_first_run();
    assert_eq!(agent.post("/x").key("done").await.is(201).text(), "found");
    let again =
        onceward(&[&["operations", "resolve", "no-such-id", "--not-executed"], &signed[..]].concat()).await;
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("no operation with this id"), "{}", text(&again.stderr));
    let none = onceward(&["operations", "list", "--json", "--admin", &admin]).await;
    assert_eq!(serde_json::from_slice::<Value>(&none.stdout).unwrap()["operations"], serde_json::json!([]));
    let all = onceward(&["operations", "list", "--state", "all", "--admin", &admin]).await;
    assert!(ids.iter().any(|id| text(&all.stdout).contains(id)), "{}", text(&all.stdout));
}

// O4, L1
#[tokio::test]
async fn an_operator_breaks_a_lease_from_the_command_line() {
    let (_upstream, proxy): (Upstream, Proxy) = proxied("guard = \"tool\"").await;
    let (agent, admin) = (Agent::new(&proxy), proxy.admin_url());
    let none = onceward(&["leases", "list", "--admin", &admin]).await;
    assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(0), "none\n"));
    let asked = serde_json::json!({"resource": "/x"});
    let granted = agent.post("/.onceward/leases").key("k").json(&asked).await.is(201).json();
    let token = granted["lease"].as_str().unwrap();
    let listed = onceward(&["leases", "list", "--admin", &admin]).await;
    let listed = text(&listed.stdout);
    assert!(listed.contains("/x") && !listed.contains(token), "{listed}");
    let id = listed.lines().nth(1).and_then(|line| line.split(' ').next()).unwrap();
    let signed = ["--who", "ann", "--why", "its agent is gone", "--admin", &admin];
    let broken = onceward(&[&["leases", "break", id], &signed[..]].concat()).await;
    assert_eq!(broken.status.code(), Some(0), "{}", text(&broken.stderr));
    agent.post("/x").key("w").header("onceward-lease", token).await.refused("lease-lost");
    let again = onceward(&[&["leases", "break", id], &signed[..]].concat()).await;
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("no lease with this id"), "{}", text(&again.stderr));
    assert_eq!(onceward(&["leases", "break", id, "--who", "ann"]).await.status.code(), Some(2));
    proxy.logged(&[id, "ann", "its agent is gone"]).await;
}

// O4
#[tokio::test]
async fn what_cannot_be_asked_is_told_apart_from_a_refusal() {
    let nobody = onceward(&["operations", "list", "--admin", &Nobody::new().url()]).await;
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("cannot be asked"), "{}", text(&nobody.stderr));
    let both = ["operations", "resolve", "x", "--executed", "--not-executed", "--who", "a", "--why", "b"];
    assert_eq!(onceward(&both).await.status.code(), Some(2));
    let upstream = Upstream::start().await;
    let config = "[server]\nadmin = \"0.0.0.0:0\"\nadmin_token = \"sesame-and-lily\"\n";
    let proxy =
        Proxy::start(&format!("{config}[[routes]]\npath = \"/\"\nupstream = \"{}\"\n", upstream.url())).await;
    let admin = proxy.admin_url().replace("0.0.0.0", "127.0.0.1");
    let resolve = ["operations", "resolve", "x", "--executed", "--who", "a", "--why", "b", "--admin", &admin];
    let stranger = onceward(&resolve).await;
    assert_eq!(stranger.status.code(), Some(1));
    assert!(text(&stranger.stderr).contains("ONCEWARD_ADMIN_TOKEN"), "{}", text(&stranger.stderr));
    let known = onceward(&[&resolve[..], &["--token", "sesame-and-lily"]].concat()).await;
    assert!(text(&known.stderr).contains("404"), "{}", text(&known.stderr));
}
