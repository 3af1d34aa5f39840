//! `onceward check FILE`: says everything that is wrong with a configuration (C1).

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Problems};

/// Checks a file. Exit code 0: it can be used; 2: it cannot, and why is on standard error.
pub fn run(file: &Path) -> ExitCode {
    match config::read(file) {
        Ok(config) => {
            for note in config::notes(&config) {
                eprintln!("{}: note: {note}", file.display());
            }
            let count = config.routes.len();
            let routes = if count == 1 { "route" } else { "routes" };
            match writeln!(std::io::stdout(), "{}: ok, {count} {routes}", file.display()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(problems) => {
            report(&problems);
            ExitCode::from(2)
        }
    }
}

/// Prints problems to standard error: with the lines they are about on a terminal, else one a line.
pub fn report(problems: &Problems) {
    if std::io::stderr().is_terminal() {
        eprint!("{}", problems.pretty());
    } else {
        eprintln!("{problems}");
    }
}
