//! The command line: one file per command (C1).

mod admin;
pub mod check;
pub mod demo;
mod healthcheck;
mod leases;
mod operations;
pub mod race;
mod rows;
pub mod schema;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reqwest::Url;

/// Makes every write of an agent happen once and only forward.
#[derive(Parser)]
#[command(name = "onceward", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve by a configuration, or in front of one upstream.
    Serve(serve::ServeArgs),
    /// Check a configuration, and say all that is wrong with it.
    Check {
        file: PathBuf,
    },
    /// Print the JSON Schema of the configuration.
    Schema,
    Demo(demo::DemoArgs),
    Race(race::RaceArgs),
    Operations(operations::OperationsArgs),
    Leases(leases::LeasesArgs),
    /// Ask a running Onceward whether it is alive; for containers.
    Healthcheck(healthcheck::HealthcheckArgs),
}

/// Runs what the command line says.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Check { file } => check::run(&file),
        Command::Schema => schema::run(),
        Command::Demo(args) => block_on(demo::run(args)).unwrap_or(ExitCode::FAILURE),
        Command::Race(args) => block_on(race::run(args)).unwrap_or(ExitCode::FAILURE),
        Command::Operations(args) => operations::run(&args),
        Command::Leases(args) => leases::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
    }
}

/// Where an admin listener is: as the configuration spells it, or with `http://`; it speaks no TLS.
fn admin_address(text: &str) -> Result<Url, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|error| error.to_string())?;
    match (url.scheme(), url.has_host()) {
        ("http", true) => Ok(url),
        _ => Err("write it as host:port or http://host:port".to_owned()),
    }
}

/// Runs asynchronous work of a command on a runtime of one thread.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, std::io::Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(runtime.block_on(work))
}
