//! The rules of the house, held: who imports whom, who reads files and prints, how long a file is, what a lint's
//! exception says, and that each rule of the contract is named by a test.

#[path = "tidy/source.rs"]
mod source;

pub use source::{Source, sources};

/// Which of our modules a module may import beside itself. A module that stands in no row may import all.
const IMPORTS: [(&str, &[&str]); 5] = [
    ("protocol", &[]),
    ("store", &["protocol"]),
    ("http", &["protocol"]),
    // Beside the words of the design: where a stage sends, what it counts, and the values it was configured with.
    ("policy", &["http", "store", "route", "protocol", "upstream", "observe", "config"]),
    // Claims and their sources know no stage: what is committed with a record is handed over as cells.
    ("queues", &["http", "store", "protocol", "upstream", "config"]),
];

/// The rules that tests have to name. A row goes in with the work that it belongs to.
pub const RULES: &str = "R1 R2 R3 R4 R5 R6 R7 I1 I2 W1 K1 K2 K3 K4 K5 K6 K7 K8 K9 K10 K11 K12 K13 K14 K15 K16 K17 \
    V1 V2 V3 V4 V5 V6 V7 V8 Q1 Q2 Q3 Q4 Q5 L1 L2 L3 L4 L5 J1 J2 J3 E1 E2 P1 P2 P3 P4 P5 F1 F2 F3 F4 F5 F6 C1 C2 C3 C4 C5 O1 O2 O3 O4 O5 S1 S2 S3 S4 S5 \
    S6";

#[test]
fn modules_import_only_what_the_design_allows() {
    let mut broken = Vec::new();
    for source in sources("src") {
        let Some((_, allowed)) = IMPORTS.iter().find(|(module, _)| source.is_in(module)) else { continue };
        for path in source.imports() {
            let target = path[0].as_str();
            if !source.is_in(target) && !allowed.contains(&target) {
                broken.push(format!("{source} imports {}", path.join("::")));
            }
            if target == "config"
                && source.is_in("policy")
                && path.get(1).is_some_and(|part| part != "checked")
            {
                broken
                    .push(format!("{source} imports {}, only config::checked is a stage's", path.join("::")));
            }
        }
    }
    assert!(broken.is_empty(), "imports against the design:\n{}", broken.join("\n"));
}

#[test]
fn no_stage_knows_another() {
    let all = sources("src");
    let stages: Vec<_> = all.iter().filter_map(Source::stage).collect();
    let mut broken = Vec::new();
    for source in &all {
        let Some(own) = source.stage() else { continue };
        for path in source.imports() {
            if path[0] == "policy" && path.get(1).is_some_and(|other| *other != own && stages.contains(other))
            {
                broken.push(format!("{source} imports {}", path.join("::")));
            }
        }
    }
    assert!(broken.is_empty(), "stages that know another stage:\n{}", broken.join("\n"));
}

#[test]
fn only_config_reads_files() {
    // A store has a file and a lock of its own; what is in the file is its engine's business.
    let words = ["std::fs", "tokio::fs", "fs::read", "File::open", "File::options"];
    let found = using(&words, |source| source.is_in("config") || source.is_in("store"));
    assert!(found.is_empty(), "files are read by `config` alone:\n{}", found.join("\n"));
}

#[test]
fn only_main_and_cli_print_or_exit() {
    let words = ["println!", "print!", "eprintln!", "eprint!", "dbg!", "process::exit"];
    // `simulation` and what is in a folder of tests is compiled for tests only, and shows a run to who replays it.
    let exempt = |source: &Source| {
        source.path.contains("/tests/")
            || ["cli", "main", "simulation"].iter().any(|module| source.is_in(module))
    };
    let found = using(&words, exempt);
    assert!(found.is_empty(), "only `main` and `cli` print or exit:\n{}", found.join("\n"));
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for source in ["src", "tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        let limit = if source.path == "src/main.rs" { 79 } else { 600 };
        let lines = source.text.lines().count();
        if lines > limit {
            long.push(format!("{source}: {lines} lines, at most {limit}"));
        }
    }
    assert!(long.is_empty(), "files that are too long:\n{}", long.join("\n"));
}

#[test]
fn every_exception_from_a_lint_has_its_reason() {
    let mut silent = Vec::new();
    for source in ["src", "tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        for (line, attribute) in source.attributes() {
            let excepts = attribute.contains("allow(") || attribute.contains("expect(");
            if excepts && !attribute.contains("reason =") {
                silent.push(format!("{source}:{line}: {attribute}"));
            }
        }
    }
    assert!(silent.is_empty(), "exceptions without a reason:\n{}", silent.join("\n"));
}

#[test]
fn every_rule_is_named_by_a_test() {
    let files = sources("tests").into_iter().chain(sources("src"));
    let comments: Vec<_> = files.flat_map(|source| source.comments_on_tests()).collect();
    let named = |rule: &str| {
        let mut words = comments.iter().flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()));
        words.any(|word| word == rule)
    };
    let missing: Vec<_> = RULES.split_whitespace().filter(|rule| !named(rule)).collect();
    assert!(missing.is_empty(), "rules that no test names in a comment: {}", missing.join(" "));
}

/// Where code outside tests uses one of the words, in files that are not exempt.
fn using(words: &[&str], exempt: impl Fn(&Source) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources("src").iter().filter(|source| !exempt(source)) {
        for (number, line) in source.code_outside_tests().lines().enumerate() {
            let line = line.replace("fs::create_dir_all", "");
            if let Some(word) = words.iter().find(|word| source::has_word(&line, word)) {
                found.push(format!("{source}:{}: {word}", number + 1));
            }
        }
    }
    found
}
