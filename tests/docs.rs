//! The documents: each says what the code does, and what they show was really answered.
//!
//! `ONCEWARD_WRITE_DOCS=1 cargo test --locked docs::` writes what is made from the code anew: docs/REFUSALS.md and
//! the answers in README.md.

mod readme;

use std::fs;
use std::path::{Path, PathBuf};

use onceward::agent_api::problems;

use crate::tidy::RULES;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares a document with what it has to be, or writes it.
#[track_caller]
pub fn is_as_made(path: &str, made: &str) {
    if std::env::var_os("ONCEWARD_WRITE_DOCS").is_some() {
        fs::write(root().join(path), made).unwrap();
        return;
    }
    let differing = read(path);
    let pairs = made.lines().map(Some).chain(std::iter::repeat(None));
    let first = differing.lines().map(Some).chain([None]).zip(pairs).position(|(there, made)| there != made);
    if let Some(line) = first.filter(|_| differing != made) {
        let show = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        panic!(
            "{path}:{} is out of date; run: ONCEWARD_WRITE_DOCS=1 cargo test --locked docs::\n  there: {}\n  made:  {}",
            line + 1,
            show(&differing),
            show(made)
        );
    }
    assert_eq!(
        differing, made,
        "{path} is out of date; run: ONCEWARD_WRITE_DOCS=1 cargo test --locked docs::"
    );
}

// P4, P5
#[test]
fn the_refusals_are_documented() {
    is_as_made("docs/REFUSALS.md", &problems::document());
}

/// Each rule stands in docs/PROTOCOL.md as `- **K6** ...`, with a test that proves it.
#[test]
fn every_rule_stands_in_the_protocol() {
    let text = read("docs/PROTOCOL.md");
    let mut wrong = Vec::new();
    for rule in RULES.split_whitespace() {
        match text.split_once(&format!("\n- **{rule}** ")) {
            None => wrong.push(format!("{rule} has no entry")),
            Some((_, rest)) => {
                let entry = rest.split("\n- ").next().unwrap_or(rest).split("\n\n").next().unwrap_or(rest);
                if !entry.contains("Test:") {
                    wrong.push(format!("{rule} names no test"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "docs/PROTOCOL.md: {}", wrong.join(", "));
}

/// What these pages name in backticks as a file or a test is there.
#[test]
fn what_the_documents_name_is_there() {
    let mut tests = String::new();
    for source in crate::tidy::sources("tests").iter().chain(&crate::tidy::sources("src")) {
        tests.push_str(&source.text);
    }
    let mut wrong = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let document = document.strip_prefix(root()).unwrap().display().to_string();
        for name in text.lines().filter(|line| !line.starts_with("    ")).flat_map(backticked) {
            let file = ["src/", "tests/", "config/", "docs/", "examples/", "benches/", "deploy/"]
                .iter()
                .any(|folder| name.starts_with(folder));
            if file && !name.contains([' ', '*', '{']) && !root().join(&name).exists() {
                wrong.push(format!("{document}: no file {name}"));
            }
            if let Some((_, test)) = name.split_once("::").filter(|(module, _)| is_test_file(module))
                && !tests.contains(&format!("fn {test}("))
            {
                wrong.push(format!("{document}: no test {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_test_file(module: &str) -> bool {
    root().join("tests").join(format!("{module}.rs")).exists()
}

/// The words between single backticks in a line.
fn backticked(line: &str) -> Vec<String> {
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every relative link leads somewhere, and every anchor in this folder to a heading.
#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        for link in links(&text) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            let there = target.exists() && (anchor.is_empty() || has_heading(&target, anchor));
            if !there {
                wrong.push(format!("{}: {link}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

fn documents() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let markdown = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let examples = fs::read_dir(root().join("examples")).unwrap();
    let examples = examples.map(|entry| entry.unwrap().path().join("README.md")).filter(|page| page.exists());
    let documents: Vec<_> = markdown.chain(examples).chain([root().join("README.md")]).collect();
    assert!(documents.len() >= 7, "{documents:?}");
    documents
}

/// The targets of `[text](target)` outside code blocks that are not of another site.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        in_block ^= line.starts_with("```");
        if in_block {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target: String = line[at + 2..].chars().take_while(|letter| *letter != ')').collect();
            if !target.contains("://") {
                found.push(target);
            }
        }
    }
    found
}

/// Whether a document has a heading with that anchor, as hosts of code make it: lower case, hyphens for spaces.
fn has_heading(file: &Path, anchor: &str) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    let slug = |title: &str| -> String {
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    let mut titles =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
    titles.any(|title| slug(title) == anchor)
}
