//! What operators start from: deploy/ and the configurations that it mounts.

mod balancer;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use onceward::config::{self, Config};

use self::balancer::Balancer;
use crate::harness::ground::Ground;
use crate::harness::{Agent, Proxy, Upstream, within};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands below a key, and in that below the next. These files have two spaces a level and no block scalars.
fn below(text: &str, keys: &[&str]) -> Vec<String> {
    let kept = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let mut lines: Vec<&str> = text.lines().filter(kept).collect();
    for (depth, key) in keys.iter().enumerate() {
        let head = format!("{}{key}:", "  ".repeat(depth));
        let indent = |line: &str| line.len() - line.trim_start().len();
        let from = lines.iter().position(|line| line.starts_with(&head));
        let from = from.unwrap_or_else(|| panic!("no {key} in {keys:?}")) + 1;
        let rest = lines.split_off(from);
        lines = rest.into_iter().take_while(|line| indent(line) > depth * 2).collect();
    }
    lines.into_iter().map(|line| line.trim().trim_start_matches("- ").trim_matches('"').to_owned()).collect()
}

/// A variable of the instances in a compose file, with its secrets made up.
fn variable(text: &str, name: &str) -> Option<String> {
    let lines = below(text, &["x-onceward", "environment"]);
    let value = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?;
    let mut value = value.to_owned();
    while let Some(at) = value.find("${") {
        let end = at + value[at..].find('}').expect("a variable has its end");
        value.replace_range(at..=end, "hunter2");
    }
    Some(value)
}

/// The configuration that a compose file mounts, as its instances load it.
fn mounted(text: &str) -> Config {
    let volumes = below(text, &["x-onceward", "volumes"]);
    let place = ":/etc/onceward/onceward.toml:ro";
    let file = volumes.iter().find_map(|line| line.strip_suffix(place)).expect("the image's own place");
    config::load(&read(file), file, &|name| variable(text, name))
        .unwrap_or_else(|why| panic!("{file}: {why}"))
}

const FILES: [(&str, &str); 2] = [("compose.redis.yaml", "redis"), ("compose.postgres.yaml", "postgres")];

// C5, S3: what a compose file names is there, and its parts find each other
#[test]
fn the_compose_files_name_what_is_there() {
    for (file, store) in FILES {
        let text = read(file);
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("- .")) {
            let path = format!(".{}", line.split(':').next().unwrap());
            assert!(folder().join(&path).is_file(), "{file} mounts {path}");
        }
        assert!(
            below(&text, &["x-onceward"]).contains(&"build: ..".to_owned())
                && folder().join("../Dockerfile").exists()
        );
        for instance in ["one", "two"] {
            assert!(
                text.contains(&format!("\n  {instance}: *onceward\n")),
                "{file} has no instance {instance}"
            );
        }
        for host in [variable(&text, "STORE").unwrap(), variable(&text, "UPSTREAM").unwrap()] {
            let host = host.rsplit(['/', '@']).find(|part| part.contains(':')).unwrap().to_owned();
            below(&text, &["services", host.split(':').next().unwrap()]);
        }
        assert!(variable(&text, "STORE").unwrap().contains(&format!("@{store}:")));
        // Agents come in by the balancer; nobody else is published, operators' listeners least of all.
        assert_eq!(text.matches("ports:").count(), 1, "{file}");
        assert_eq!(below(&text, &["services", "balancer", "ports"]), ["8080:8080"]);
    }
}

// C2, S3: the instances listen where the balancer looks for them, and nothing is remarked on
#[test]
fn what_is_mounted_loads_as_it_is_run() {
    let balancer = read("haproxy.cfg");
    for (file, _) in FILES {
        let config = mounted(&read(file));
        assert_eq!(config::notes(&config), Vec::<String>::new(), "{file}");
        let (listen, admin) = (config.server.listen[0], config.server.admin.expect("an admin listener"));
        for name in ["one", "two"] {
            let line = format!("server {name} {name}:{}\n", listen.port());
            assert_eq!(balancer.matches(&line).count(), 2, "{line}");
        }
        assert!(balancer.contains(&format!("check port {} ", admin.port())) && !admin.ip().is_loopback());
        assert!(config.server.admin_token.is_some());
        let grace = below(&read(file), &["x-onceward"]);
        let grace = grace.iter().find_map(|line| line.strip_prefix("stop_grace_period: ")).unwrap();
        let grace: u64 = grace.trim_end_matches('s').parse().unwrap();
        assert!(
            Duration::from_secs(grace) > config.server.shutdown_grace,
            "{file}: killed before its grace is over"
        );
    }
}

// S6, S3: the Redis evicts nothing, and has on its disk what it acknowledged
#[test]
fn the_redis_is_one_that_keeps_what_it_is_given() {
    let command = below(&read("compose.redis.yaml"), &["services", "redis", "command"]);
    for pair in [["--maxmemory-policy", "noeviction"], ["--appendonly", "yes"], ["--appendfsync", "always"]] {
        assert!(command.windows(2).any(|words| words == pair), "{pair:?} is not in {command:?}");
    }
}

// C5: what buildah 1.28 builds as well as docker, and runs without rights
#[test]
fn the_image_is_made_as_it_is_said() {
    let text = read("../Dockerfile");
    assert!(!text.contains("<<") && !text.contains("--link"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("FROM ")).count(), 2, "{text}");
    let (build, run) = text.rsplit_once("\nFROM ").expect("two stages");
    for line in build.lines().chain(run.lines()).filter_map(|line| line.strip_prefix("COPY ")) {
        let mut sources: Vec<_> = line.split(' ').filter(|word| !word.starts_with("--")).collect();
        sources.pop();
        let made = line.starts_with("--from=");
        for source in sources.into_iter().filter(|_| !made) {
            assert!(folder().join("..").join(source).exists(), "it copies {source}");
        }
    }
    let said = |name: &str| {
        let line = run.lines().find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {run}")).trim().to_owned()
    };
    assert!(said("USER").split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{run}");
    assert_eq!(said("VOLUME"), "[\"/var/lib/onceward\"]");
    assert_eq!(said("STOPSIGNAL"), "SIGTERM");
    assert_eq!(said("COPY config/container.toml"), "/etc/onceward/onceward.toml");
    assert!(run.contains("HEALTHCHECK") && said("CMD").contains("\"healthcheck\""), "{run}");
    assert!(run.contains("\nCMD [\"serve\", \"--config\", \"/etc/onceward/onceward.toml\"]"), "{run}");
}

// C5: without its upstream being there, on a disk that may be a volume, until SIGTERM
#[tokio::test]
async fn the_images_configuration_starts_by_itself_and_stops_by_sigterm() {
    let data = tempfile::TempDir::new().expect("a temporary directory");
    let text = read("../config/container.toml").replace("0.0.0.0:8080", "127.0.0.1:0");
    let text = text.replace("127.0.0.1:9090", "127.0.0.1:0");
    let text = text.replace("/var/lib/onceward", &data.path().join("store").display().to_string());
    let mut proxy = Proxy::start(&text).await;
    Agent::admin(&proxy).get("/readyz").await.is(200);
    Agent::new(&proxy).get("/x").await.refused("upstream-unreachable");
    assert!(proxy.terminate().await.success());
}

/// An example with other values for its variables, and listeners of a test's own.
fn filled(store: &str, values: [(&str, &str); 2]) -> String {
    let mut text = read(&format!("../config/{store}.toml"));
    for (name, value) in values.into_iter().chain([("ADMIN", "127.0.0.1:0")]) {
        let start = text.find(&format!("${{{name}:-")).unwrap_or_else(|| panic!("no {name} in {store}.toml"));
        let end = start + text[start..].find('}').unwrap();
        text.replace_range(start..=end, value);
    }
    assert!(text.contains("listen = \"0.0.0.0:8080\"") && text.contains("alive = \"10s\""), "{text}");
    text.replace("0.0.0.0:8080", "127.0.0.1:0").replace("alive = \"10s\"", "alive = \"1s\"")
}

// S3, S4, O1, O5, K7: behind the balancer any instance will do, one that ends is missed by nobody, and while the store
// is away agents are told so by an instance, not by the balancer
async fn two_behind_the_balancer_are_as_one(store: &str) {
    let upstream = Upstream::start().await;
    let mut ground = Ground::of(store).await;
    let text = filled(store, [("STORE", &ground.url()), ("UPSTREAM", &upstream.url())]);
    let (mut one, two) = (Proxy::start(&text).await, Proxy::start(&text).await);
    let balancer = Balancer::before(&read("haproxy.cfg"), &one, &two).await;
    let agent = Agent::at(&balancer.url());
    let tag = agent.get("/d").await.is(200).etag();
    let first = agent.put("/d").key("k").if_match(&tag).body("1").await;
    first.is(200).is_first_run();
    within("both to answer", async {
        loop {
            agent.put("/d").key("k").if_match(&tag).body("1").await.replays(&first);
            if one.metric("onceward_requests_total").await > 0.0
                && two.metric("onceward_requests_total").await > 0.0
            {
                return;
            }
        }
    })
    .await;
    let down = async {
        within("the balancer to see that no instance is ready", async {
            while agent.post("/p").key("away").body("1").await.code() != "store-unavailable" {}
        })
        .await;
        agent.get("/d").await.is(200);
    };
    ground.without(down).await;
    within("writes to go again", async {
        while agent.post("/p").key("away").body("1").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(one.terminate().await.success());
    for n in 0..20 {
        let path = format!("/after/{n}");
        agent.post(&path).key(&format!("after-{n}")).body("1").await.is(200).is_first_run();
    }
    agent.put("/d").key("k").if_match(&tag).body("1").await.replays(&first);
    let paths: Vec<_> =
        upstream.requests().into_iter().filter(|seen| seen.method != "GET").map(|seen| seen.target).collect();
    assert_eq!(paths.len(), 22, "{paths:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_on_a_redis_behind_the_balancer_are_as_one() {
    two_behind_the_balancer_are_as_one("redis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_on_a_postgres_behind_the_balancer_are_as_one() {
    two_behind_the_balancer_are_as_one("postgres").await;
}
