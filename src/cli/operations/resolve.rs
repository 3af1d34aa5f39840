//! What an operator says of an unknown operation.

use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::cli::race;
use crate::config;

#[derive(clap::Args)]
pub(super) struct Resolve {
    /// As list shows it, and as the refusal that the agent got names it
    pub(super) id: String,
    #[command(flatten)]
    pub(super) end: End,
    /// The status that retries are answered with; with --body or --header it is 200 if it is left out
    #[arg(long, conflicts_with = "not_executed", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Option<u16>,
    /// A file with the body that retries are answered with, in UTF-8
    #[arg(long, conflicts_with = "not_executed", value_name = "FILE")]
    body: Option<PathBuf>,
    /// A field that retries are answered with, for example 'Content-Type: application/json'; may be repeated
    #[arg(long = "header", conflicts_with = "not_executed", value_name = "NAME: VALUE", value_parser = race::header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Who decided this; it is logged
    #[arg(long)]
    who: String,
    /// By what; it is logged
    #[arg(long)]
    why: String,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct End {
    /// It had no effect
    #[arg(long)]
    not_executed: bool,
    /// It had its effect
    #[arg(long)]
    executed: bool,
}

impl End {
    pub(super) fn name(&self) -> &'static str {
        if self.executed { "executed" } else { "not-executed" }
    }
}

impl Resolve {
    /// What the listener is told.
    pub(super) fn body(&self) -> Result<Value, String> {
        let (end, who, why) = (self.end.name(), &self.who, &self.why);
        if self.status.is_none() && self.body.is_none() && self.headers.is_empty() {
            return Ok(json!({"as": end, "who": who, "why": why}));
        }
        let text = match &self.body {
            Some(file) => config::text(file).map_err(|why| format!("--body: {why}"))?,
            None => String::new(),
        };
        let response = json!({"status": self.status.unwrap_or(200), "headers": self.fields()?, "body": text});
        Ok(json!({"as": end, "response": response, "who": who, "why": why}))
    }

    /// The given fields, each name once with all of its values.
    fn fields(&self) -> Result<Map<String, Value>, String> {
        let mut fields = Map::new();
        for (name, value) in &self.headers {
            let value = value.to_str().map_err(|_| {
                format!("--header: the value of {name} has other characters than visible ASCII")
            })?;
            let values = fields.entry(name.as_str()).or_insert_with(|| json!([]));
            if let Some(values) = values.as_array_mut() {
                values.push(value.into());
            }
        }
        Ok(fields)
    }
}
