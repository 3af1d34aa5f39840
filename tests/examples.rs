//! The programs in `examples/`, each run as its README says, before its API and the real proxy with its configuration.
//! Directly they lose or double something; through Onceward nothing, and the README shows what they print.

mod events;
mod leases;
mod process;
mod queues;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docs::is_as_made;
use crate::harness::Proxy;
use crate::real_apis::apis::Chroma;
use crate::real_apis::{ONE_AT_A_TIME, filled, server};

use self::process::{Api, finished};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn python(program: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(folder().join(program)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

// V6: a refused write is made anew on what the refusal brings. K7: what is sent again is not made again.
#[tokio::test]
async fn agents_share_a_memory_document() {
    let api = Api::start(python("apis.py"));
    keeps_all("memory-document", &api).await;
}

// Q1, K7: what reads and writes inside takes turns by a resource that the API knows nothing of
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_use_a_vector_stores_metadata() {
    let _one = ONE_AT_A_TIME.lock().await;
    let store = server::Server::start::<Chroma>().await;
    let mut tool = python("vector-metadata/tool.py");
    tool.args(["--chroma", &store.url()]);
    keeps_all("vector-metadata", &Api::start(tool)).await;
}

/// Runs an example's agents, and compares what they print with what its README shows.
async fn keeps_all(example: &str, api: &Api) {
    let config = folder().join(example).join("onceward.toml");
    let config = fs::read_to_string(&config).unwrap_or_else(|error| panic!("{}: {error}", config.display()));
    let proxy = Proxy::start(&filled(&config, &api.url)).await;
    let mut agents = python(&format!("{example}/agents.py"));
    agents.args(["--onceward", &proxy.url(), "--direct", &api.url]);
    let (status, printed) = finished(agents).await;
    assert!(status.success(), "{example}: {status}\n{printed}");

    let rows: Vec<_> = printed.lines().filter_map(row).collect();
    let (direct, guarded): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.name == "direct");
    assert!(!guarded.is_empty(), "{example}: {printed}");
    for row in guarded {
        let Row { name, counts: [expected, last, lost, doubled] } = row;
        assert!(*expected > 0 && expected == last, "{example}, {name}: {printed}");
        assert_eq!((*lost, *doubled), (0, 0), "{example}, {name}: {printed}");
    }
    let harmed = |row: &&Row| row.counts[2] + row.counts[3] > 0;
    assert!(direct.iter().any(harmed), "nothing is lost directly, so this proves nothing: {printed}");
    is_shown(example, &printed);
}

/// What lasts of it stands in the README; what is lost directly differs from run to run.
fn is_shown(example: &str, printed: &str) {
    let lasting = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("direct")).map(str::to_owned).collect()
    };
    let page = format!("examples/{example}/README.md");
    let text = fs::read_to_string(folder().join(example).join("README.md")).unwrap();
    let command = format!("$ python3 examples/{example}/agents.py\n");
    let (before, rest) = text.split_once(&command).unwrap_or_else(|| panic!("{page} shows no {command}"));
    let (shown, after) = rest.split_once("```").expect("a block has its end");
    let shown = if lasting(shown) == lasting(printed) { shown } else { printed };
    is_as_made(&page, &format!("{before}{command}{shown}```{after}"));
}

/// A line of the table that the programs print.
struct Row {
    name: String,
    /// Expected, final, lost, doubled.
    counts: [u64; 4],
}

fn row(line: &str) -> Option<Row> {
    let words: Vec<_> = line.split_whitespace().collect();
    let (name, counts) = words.split_at_checked(words.len().checked_sub(4)?)?;
    let counts: Vec<u64> = counts.iter().map(|count| count.parse().ok()).collect::<Option<_>>()?;
    Some(Row { name: name.join(" "), counts: counts.try_into().ok()? })
}
