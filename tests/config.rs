//! The configuration: C1 to C3, R2, and section T.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod examples;
mod places;
mod routes;
mod schema;
mod wild;

use onceward::config::{self, Config, Problems};

/// Checks a text in an environment that has only `SET`, and `EMPTY`, which is empty.
fn load(text: &str) -> Result<Config, Problems> {
    config::load(text, "onceward.toml", &|name| match name {
        "SET" => Some("read".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    })
}

/// Checks a text that has one route under the rest of it.
fn with_route(rest: &str) -> Result<Config, Problems> {
    load(&format!("[[routes]]\npath = \"/documents/{{id}}\"\nupstream = \"http://127.0.0.1:3000\"\n{rest}"))
}

/// Everything that is wrong, one a line.
fn wrong(result: Result<Config, Problems>) -> Vec<String> {
    match result {
        Ok(config) => panic!("nothing is wrong with {config:?}"),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    }
}
