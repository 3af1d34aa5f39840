//! The configuration: TOML in, values that hold their invariants out (C1, C2).
//!
//! A text goes through three steps, and what is wrong at any of them is reported together:
//! `raw` (every key of section T, its type) by `reader`, then `settle`, `routes` and `policies` (defaults, and
//! what shows only when all is seen together), into [`checked`].

pub mod checked;
mod choice;
mod env;
mod names;
mod parts;
mod places;
mod policies;
mod problem;
mod queues;
mod raw;
mod reader;
mod routes;
mod settle;
mod shown;
mod spellings;
mod table;
mod units;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use checked::Config;
pub use problem::{Kind, Problem, Problems};
pub use shown::{needs_restart, notes, shown};

use problem::line_and_column;
use reader::{Part, Reader};

/// What the command line says over a file (C1).
#[derive(Debug, Clone, Copy, Default)]
pub struct Over<'a> {
    /// `--upstream`: every route's upstream. Without any route, one `state` route on `/{*path}` goes there.
    pub upstream: Option<&'a str>,
    /// `--listen`, in place of `server.listen`.
    pub listen: Option<&'a str>,
}

/// Checks the text of a configuration. `name` is what problems call it, `env` gives environment variables.
pub fn load(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    load_over(text, name, env, &Over::default())
}

/// Reads and checks a file, with the process's environment.
pub fn read(path: &Path) -> Result<Config, Problems> {
    read_over(path, &Over::default())
}

/// Reads and checks a file under what the command line says over it.
pub fn read_over(path: &Path, over: &Over<'_>) -> Result<Config, Problems> {
    let name = path.display().to_string();
    let text = bytes(path).and_then(|bytes| utf8(bytes, ", as TOML has to be"));
    let text = text.map_err(|why| Problems::file(&name, why))?;
    load_over(&text, &name, &|name| std::env::var(name).ok(), over)
}

/// A time as a configuration spells it, for agents who spell one so too (L1).
///
/// # Errors
/// What is wrong with it and what would be right, without a full stop.
pub fn time(text: &str) -> Result<Duration, String> {
    units::time(text).map_err(|wrong| wrong.what)
}

/// A file that the command line names beside a configuration, as text.
///
/// # Errors
/// A sentence with the file's name.
pub fn text(path: &Path) -> Result<String, String> {
    bytes(path).and_then(|bytes| utf8(bytes, "")).map_err(|why| format!("{}: {why}", path.display()))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

fn utf8(bytes: Vec<u8>, wish: &str) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        format!("byte {place} is not UTF-8{wish}")
    })
}

/// The configuration of a command line without a file: one `state` route on `/{*path}`.
pub fn quick(upstream: &str, listen: Option<&str>) -> Result<Config, Problems> {
    load_over("", "command line", &|_| None, &Over { upstream: Some(upstream), listen })
}

/// The JSON Schema of the file. It refuses what [`load`] refuses of names and types.
pub fn schema() -> serde_json::Value {
    let mut schema = raw::Root::schema();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".into(), "http://json-schema.org/draft-07/schema#".into());
        schema.insert("title".into(), "Onceward's configuration".into());
    }
    schema
}

fn load_over(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    over: &Over<'_>,
) -> Result<Config, Problems> {
    let waived: &[_] = if over.upstream.is_some() { &["routes", "upstream"] } else { &[] };
    let mut reader = Reader::new(text, env, waived);
    let (document, errors) = DeTable::parse_recoverable(text);
    // The span of a whole document says nothing; what is missing from it is missing at its start.
    let document = Spanned::new(0..0, DeValue::Table(document.into_inner()));
    let root = raw::Root::read(&document, &mut reader);
    if !errors.is_empty() {
        let problems = beside_syntax(text, &errors, reader.into_problems());
        return Err(
            Problems::of(name, text, problems).unwrap_or_else(|| Problems::file(name, "not TOML".into()))
        );
    }
    let config = settle::settle(root.unwrap_or_default(), over, &mut reader);
    match Problems::of(name, text, reader.into_problems()) {
        Some(problems) => Err(problems),
        None => Ok(config),
    }
}

/// The errors of the parser, and beside them the problems that its recovery cannot have made up.
fn beside_syntax(text: &str, errors: &[toml::de::Error], mut problems: Vec<Problem>) -> Vec<Problem> {
    let line = |offset| line_and_column(text, offset).0;
    let broken: Vec<_> =
        errors.iter().filter_map(|error| error.span().map(|span| line(span.start))).collect();
    problems.retain(|problem| match &problem.span {
        Some(span) => !broken.contains(&line(span.start)) && problem.kind != Kind::Value && *span != (0..0),
        None => false,
    });
    problems.extend(errors.iter().map(|error| Problem {
        kind: Kind::Syntax,
        span: Some(error.span().unwrap_or(0..0)),
        key: String::new(),
        what: error.message().to_owned(),
    }));
    problems
}

/// What changes with a file: which one it is, its length, and when it was changed. Links are followed, as mounted
/// configurations are replaced by them, with the times of another day. `None` where it cannot be seen.
pub async fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    Some(Stamp { file: (metadata.dev(), metadata.ino()), length: metadata.len(), times })
}

/// [`stamp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    length: u64,
    times: [i64; 4],
}
