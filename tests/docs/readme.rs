//! README.md, followed to the letter: its commands are run against the real binary in front of the example upstream,
//! and what they print is what stands there. Times are not compared, ports are put back.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::{is_as_made, read, root};
use crate::harness::Proxy;

/// A command in a block of the README, with what stands there as its answer.
struct Shown {
    /// The lines of the text, from the command to before the next.
    command: String,
    answer: String,
}

// R2, K7, V6, K2, K11, P1: the walk through the README
#[tokio::test]
async fn what_the_readme_shows_was_answered() {
    let upstream = Documents::start();
    let config = read("config/quickstart.toml").replace("127.0.0.1:3000", &upstream.address);
    let proxy = Proxy::start(&config).await;
    let text = read("README.md");
    let mut made = String::new();
    let mut count = 0;
    for part in parts(&text) {
        let shown = match part {
            Part::Text(text) => {
                made.push_str(&text);
                continue;
            }
            Part::Command(shown) => shown,
        };
        let answer = run(&shown.command, &proxy).await;
        let kept = without_times(&answer) == without_times(&shown.answer);
        made.push_str(&shown.command);
        made.push_str(if kept { &shown.answer } else { &answer });
        count += 1;
    }
    assert!(count >= 8, "only {count} commands in README.md were run");
    is_as_made("README.md", &made);
}

// C4
#[tokio::test]
async fn the_table_of_the_readme_is_the_demos() {
    let text = read("README.md");
    let shown = block_after(&text, "$ cargo run --release -- demo\n");
    let mut demo = Command::new(env!("CARGO_BIN_EXE_onceward"));
    demo.arg("demo");
    let output = tokio::task::spawn_blocking(move || demo.output()).await.unwrap().unwrap();
    let now = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{now}");
    // What is lost directly differs from run to run; what is protected does not.
    for row in ["version ", "queue "] {
        let of = |text: &str| text.lines().find(|line| line.starts_with(row)).map(str::to_owned);
        assert_eq!(of(&shown), of(&now), "the row `{row}`");
    }
    assert_eq!(without_counts(&shown), without_counts(&now));
}

// C1: the configuration that the README shows is the one that is tested
#[test]
fn the_three_lines_of_the_readme_are_the_quickstarts() {
    assert_eq!(block_after(&read("README.md"), "```toml\n"), read("config/quickstart.toml"));
}

/// What follows `start` up to the end of its block.
fn block_after(text: &str, start: &str) -> String {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start:?} in README.md"));
    rest.split_once("```").expect("a block has its end").0.to_owned()
}

enum Part {
    Text(String),
    Command(Shown),
}

/// The README in parts: commands of `console` blocks that are to be run, and all else.
fn parts(text: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut in_console = false;
    let mut continued = false;
    for line in text.split_inclusive('\n') {
        if line.starts_with("```") {
            in_console = line.trim_end() == "```console";
            parts.push(Part::Text(line.to_owned()));
        } else if in_console
            && (line.starts_with("$ curl ") || line.starts_with("$ target/release/onceward "))
        {
            parts.push(Part::Command(Shown { command: line.to_owned(), answer: String::new() }));
        } else if in_console && line.starts_with("$ ") {
            parts.push(Part::Text(line.to_owned()));
        } else {
            match parts.last_mut() {
                Some(Part::Command(shown)) if continued => shown.command.push_str(line),
                Some(Part::Command(shown)) => shown.answer.push_str(line),
                Some(Part::Text(text)) => text.push_str(line),
                None => parts.push(Part::Text(line.to_owned())),
            }
        }
        continued = line.ends_with("\\\n");
    }
    parts
}

/// Runs a command as it stands there, but for the ports; gives what it prints with the ports of the README.
async fn run(command: &str, proxy: &Proxy) -> String {
    let admin = proxy.admin_url().replace("http://", "");
    let mut line = command.trim_start_matches("$ ").replace("127.0.0.1:8080", proxy.addr());
    if let Some(arguments) = line.strip_prefix("target/release/onceward ") {
        line =
            format!("'{}' {} --admin http://{admin}", env!("CARGO_BIN_EXE_onceward"), arguments.trim_end());
    }
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(&line).current_dir(root()).env("no_proxy", "*").env("NO_PROXY", "*");
    let output = tokio::task::spawn_blocking(move || shell.output()).await.unwrap().expect("a shell");
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    let mut text = String::from_utf8(output.stdout).expect("text").replace("\r\n", "\n");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.replace(proxy.addr(), "127.0.0.1:8080").replace(&admin, "127.0.0.1:9090")
}

/// The text with the values of fields that are times, and times in RFC 3339, taken out.
fn without_times(text: &str) -> String {
    let times = ["date: ", "idempotency-expires: "];
    let line = |line: &str| match times.iter().find(|name| line.starts_with(**name)) {
        Some(name) => format!("{name}…\n"),
        None => without_timestamps(line),
    };
    text.split_inclusive('\n').map(line).collect()
}

fn without_timestamps(line: &str) -> String {
    const FORM: &[u8] = b"0000-00-00T00:00:00.000Z";
    let is_time = |at: &[u8]| {
        at.len() == FORM.len()
            && at
                .iter()
                .zip(FORM)
                .all(|(is, form)| if *form == b'0' { is.is_ascii_digit() } else { is == form })
    };
    let mut line = line.to_owned();
    while let Some(at) = line.as_bytes().windows(FORM.len()).position(is_time) {
        line.replace_range(at..at + FORM.len(), "…");
    }
    line
}

/// The text with every number as `#`, and white space and line ends as one space.
fn without_counts(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        let mut last = ' ';
        for letter in word.chars() {
            let letter = if letter.is_ascii_digit() { '#' } else { letter };
            if letter != '#' || last != '#' {
                out.push(letter);
            }
            last = letter;
        }
        out.push(' ');
    }
    out
}

/// The example upstream as a process of its own, on a free port.
struct Documents {
    child: Child,
    address: String,
}

impl Documents {
    fn start() -> Self {
        let mut child = Command::new("python3")
            .arg(root().join("examples/documents.py"))
            .arg("0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line of the example");
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(drop));
        let address = line.split("//").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned();
        Self { child, address }
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
