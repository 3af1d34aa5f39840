//! `onceward race` (C4): the demo's race against any counter-like JSON resource.
//!
//! Such a resource keeps no ledger, so the columns are what can be seen from outside:
//!
//! - *expected*: the value before the row plus one for each operation that an agent was told is done.
//! - *final*: the value after it, when what the agents left behind had time to end.
//! - *lost*: what `final` is short of `expected`. A repeated write carries the same number, so no double can
//!   hide a loss.
//! - *duplicated*: tries that were answered as performed now, not as a replay, after an earlier try of the same
//!   operation had been (the agent threw that answer away, the race saw it); or what `final` is over
//!   `expected`, if that is more.

pub(crate) mod agent;
mod answer;
mod connection;
pub(crate) mod crowd;
mod cuts;
pub(crate) mod field;
pub(crate) mod front;
mod report;
pub(crate) mod row;
pub(crate) mod scene;
mod target;

use std::io::Write as _;
use std::process::ExitCode;

use http::{HeaderName, HeaderValue};
use reqwest::Url;

use self::crowd::Size;
use self::field::Field;
use self::report::Report;
use self::target::Target;

/// Run the race of `onceward demo` against a resource of your own
///
/// Agents count up an integer in the JSON document at --url: they read it, think, and write it back plus one.
/// One answer in ten is dropped, and the agent sends the same request again. This is done directly and through
/// Onceward, twice: each write names the version it was built on, and each agent leases the resource from its
/// reading to its writing.
///
/// It WRITES to that resource, and sets the number back to what it was at the end, also after Ctrl-C. Nothing
/// else of the document is changed.
///
/// expected is the start plus the increments that agents were told are done, final the value at the end, lost
/// what final is short of expected. duplicated counts tries that were answered as performed although an earlier
/// try of the same increment had been.
///
/// Exits with 1 if a protected row lost or doubled one or if increments came to no end, and with 2 if it could
/// not run.
#[derive(Debug, clap::Args)]
pub struct RaceArgs {
    /// The resource itself, for example http://127.0.0.1:3000/counters/1
    #[arg(long, value_parser = address)]
    url: Url,
    /// The same resource through an Onceward that runs already; without this, one is started for the race
    #[arg(long, value_name = "URL", value_parser = address)]
    through: Option<Url>,
    /// The integer to count up, as a JSON pointer: /value; by default the document's only integer beside id
    #[arg(long, value_name = "POINTER")]
    field: Option<Field>,
    /// How to write: PUT the whole document, or PATCH the one number
    #[arg(long, value_enum, ignore_case = true, default_value_t = WriteMethod::Put)]
    method: WriteMethod,
    #[command(flatten)]
    size: Size,
    /// Sent with every request, for example 'Authorization: Bearer x'; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Run one row alone
    #[arg(long, value_enum)]
    only: Option<Way>,
    /// Print the raw counts as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
enum WriteMethod {
    Put,
    Patch,
}

/// The rows of a race.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    Direct,
    Version,
    Lease,
    // Turns alone are no row: they cannot protect what agents read before their turn.
}

impl Way {
    const ALL: [Self; 3] = [Self::Direct, Self::Version, Self::Lease];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Version => "version",
            Self::Lease => "lease",
        }
    }
}

/// Runs the race, prints what came out, and fails where a promise was not kept.
pub async fn run(args: RaceArgs) -> ExitCode {
    let report = match play(&args).await {
        Ok(report) => report,
        Err(problem) => return cannot_run(NAME, &problem),
    };
    let text = if args.json { format!("{}\n", report.json()) } else { report.to_string() };
    finish(NAME, &text, &report.failures())
}

const NAME: &str = "race";

async fn play(args: &RaceArgs) -> Result<Report, String> {
    let target = Target::open(args).await?;
    eprintln!(
        "onceward race: writing to {}; the number is {} now and will be again",
        args.url,
        target.start()
    );
    let rows = tokio::select! {
        rows = target.rows() => rows,
        interrupt = tokio::signal::ctrl_c() => Err(interrupt.map_or_else(|error| error.to_string(), |()| "interrupted".to_owned())),
    };
    let restored = target.close().await;
    Ok(Report { size: args.size, rows: rows?, restored })
}

/// Only `http`: what stands behind TLS is raced through an Onceward beside it, or where it is plain.
fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match (url.scheme(), url.has_host()) {
        ("http", true) => Ok(url),
        _ => Err("only http:// can be raced".to_owned()),
    }
}

/// A field as it is given on a command line.
pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `Name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is no header name"))?;
    let value = value.trim().parse().map_err(|_| format!("`{value}` is no header value"))?;
    Ok((name, value))
}

/// Prints what a race found, and why it failed if it did.
pub(crate) fn finish(command: &str, text: &str, failures: &[String]) -> ExitCode {
    // Whoever closes the pipe has seen enough; the exit code still says how it went.
    drop(std::io::stdout().write_all(text.as_bytes()));
    for failure in failures {
        eprintln!("onceward {command}: {failure}");
    }
    ExitCode::from(u8::from(!failures.is_empty()))
}

/// Says why there is nothing to print.
pub(crate) fn cannot_run(command: &str, problem: &str) -> ExitCode {
    eprintln!("onceward {command}: {problem}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_raced() {
        assert!(address("http://127.0.0.1:3000/counters/1").is_ok());
        assert_eq!(address("https://a.example/"), Err("only http:// can be raced".to_owned()));
        assert!(address("/counters/1").is_err());
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = header("Authorization: Bearer a:b").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("authorization", &b"Bearer a:b"[..]));
        assert!(header("Authorization").is_err());
        assert!(header("a b: c").is_err());
    }
}
