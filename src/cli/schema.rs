//! `onceward schema`: the JSON Schema of the configuration, for editors (C1).

use std::io::Write;
use std::process::ExitCode;

use crate::config;

/// Prints the schema. That nobody reads it to its end is no failure.
pub fn run() -> ExitCode {
    match writeln!(std::io::stdout(), "{:#}", config::schema()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
