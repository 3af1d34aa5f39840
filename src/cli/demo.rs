//! `onceward demo` (C4): agents race for a counter, first directly, then through Onceward by each protection.
//!
//! What the columns mean, for the demo by its upstream's own ledger (`demo/ledger.rs`), where each write stands with
//! its operation and with what its value was computed from:
//!
//! - *expected*: the start plus one for each operation that an agent was told is done.
//! - *final*: the value at the end, when nothing runs any more.
//! - *lost*: operations told done whose increment is not in the final value.
//! - *duplicated*: writes that the upstream performed for an operation it had performed before. A repeated
//!   `PUT` of one number does not count twice in the value, so this cannot be read off the value: it is counted.

mod counter;
mod ledger;
mod report;

use std::net::SocketAddr;
use std::process::ExitCode;

use http::{HeaderMap, Method};
use reqwest::Url;

use self::counter::{CounterServer, REVISION};
use self::report::Report;
use super::race::crowd::{Size, race};
use super::race::field::Field;
use super::race::front::Front;
use super::race::row::Row;
use super::race::scene::{Scene, Under, Write};
use super::race::{cannot_run, finish};

/// Show the race that agents run into, and each protection against it
///
/// Agents count up a counter of the demo's own: they read it, think, and write it back plus one. One answer in
/// ten is dropped, and the agent sends the same request again. This is done directly (row `direct`) and through
/// an Onceward in the same process: with versions (`version`: each write names the version it was built on), with
/// turns alone (`queue`: the upstream itself reads and writes on a POST, and Onceward forwards one at a time), and
/// with leases alone (`lease`: each agent has the counter to itself from its reading to its writing).
///
/// expected is the start plus the increments that agents were told are done, final the value at the end. lost
/// counts increments told done that are not in the final value, duplicated the writes that the counter performed
/// a second time for one increment; both come from a ledger that the counter keeps of every write.
///
/// Exits with 1 if a protected row lost or doubled one, or if the direct row lost none.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    #[command(flatten)]
    size: Size,
    /// Print the raw counts as JSON
    #[arg(long)]
    json: bool,
}

/// The ways to count, each with a counter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    /// The race of [`Way::Queue`] without its protection: not a row, but what that row is to be compared with.
    DirectIncrements,
    Version,
    Queue,
    Lease,
}

impl Way {
    /// In the order in which they run.
    const ALL: [Self; 5] = [Self::Direct, Self::DirectIncrements, Self::Version, Self::Queue, Self::Lease];

    /// Of its counter, and of its row where it has one.
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::DirectIncrements => "direct-increments",
            Self::Version => "version",
            Self::Queue => "queue",
            Self::Lease => "lease",
        }
    }

    fn through_onceward(self) -> bool {
        match self {
            Self::Direct | Self::DirectIncrements => false,
            Self::Version | Self::Queue | Self::Lease => true,
        }
    }

    fn write(self) -> Write {
        let document = |under| Write::Document { field: Field::value(), method: Method::PUT, under };
        match self {
            Self::Direct => document(Under::Nothing),
            Self::Version => document(Under::Version),
            Self::Lease => document(Under::Lease),
            Self::DirectIncrements | Self::Queue => Write::Increment,
        }
    }
}

/// Runs the demo, prints what came out, and fails where a promise was not kept.
pub async fn run(args: DemoArgs) -> ExitCode {
    let report = match play(args.size).await {
        Ok(report) => report,
        Err(problem) => return cannot_run(NAME, &problem),
    };
    let text = if args.json { format!("{}\n", report.json()) } else { report.to_string() };
    finish(NAME, &text, &report.failures())
}

const NAME: &str = "demo";

async fn play(size: Size) -> Result<Report, String> {
    let names = Way::ALL.map(Way::name);
    let counters =
        CounterServer::start(&names).await.map_err(|error| format!("the counter does not start: {error}"))?;
    Ok(Report {
        size,
        direct: measure(Way::Direct, &counters, size).await?,
        direct_increments: measure(Way::DirectIncrements, &counters, size).await?,
        version: measure(Way::Version, &counters, size).await?,
        queue: measure(Way::Queue, &counters, size).await?,
        lease: measure(Way::Lease, &counters, size).await?,
    })
}

/// Lets the agents race for the way's counter and asks its ledger when nothing runs any more.
async fn measure(way: Way, counters: &CounterServer, size: Size) -> Result<Row, String> {
    let front = match way.through_onceward() {
        true => Some(Front::start(&routes(counters.address())).await?),
        false => None,
    };
    let address = front.as_ref().map_or(counters.address(), Front::address);
    let tally = race(scene(way, address)?, size).await?;
    if let Some(front) = front {
        front.stop().await;
    }
    let audit = counters.audit(way.name(), &tally.done).await?;
    let row = Row::new(way.name(), 0, audit.value, &tally);
    Ok(Row { lost: audit.lost, duplicated: audit.duplicated, ..row })
}

fn scene(way: Way, address: SocketAddr) -> Result<Scene, String> {
    let counter = format!("http://{address}/counters/{}", way.name());
    let write = way.write();
    let url = match write {
        Write::Document { .. } => counter,
        Write::Increment => format!("{counter}/increments"),
    };
    Ok(Scene {
        url: Url::parse(&url).map_err(|error| format!("{url}: {error}"))?,
        write,
        run: way.name().to_owned(),
        headers: HeaderMap::new(),
        identified: true,
        echo: Some(REVISION),
    })
}

/// The routes of the demo's Onceward. As many agents as there are may wait for a turn.
fn routes(upstream: SocketAddr) -> String {
    format!(
        r#"
queue = {{ max_waiting = 256, max_wait = "60s" }}

[[routes]]
path = "/counters/{{id}}"
upstream = "http://{upstream}"
guard = "state"

[[routes]]
path = "/counters/lease"
upstream = "http://{upstream}"
guard = "state"
version = "none"

[[routes]]
path = "/counters/{{id}}/increments"
upstream = "http://{upstream}"
guard = "tool"
resource = "/counters/{{id}}"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::race::front::checked;
    use crate::config::checked::Guard;

    #[test]
    fn the_proxy_accepts_its_routes() {
        let config = checked(&routes(([127, 0, 0, 1], 3000).into())).unwrap();
        let guards: Vec<_> = config.routes.iter().map(|route| (route.guard, route.queue.turns)).collect();
        assert_eq!(guards, [(Guard::State, true), (Guard::State, true), (Guard::Tool, true)]);
    }

    const SIZE: Size = Size { agents: 8, ops: 10 };

    async fn direct(way: Way) -> Row {
        let counters = CounterServer::start(&[way.name()]).await.unwrap();
        measure(way, &counters, SIZE).await.unwrap()
    }

    /// What a repeated PUT writes is the same number: the final value falls short by just what was lost.
    #[tokio::test]
    async fn agents_that_read_and_write_directly_lose_increments() {
        let row = direct(Way::Direct).await;
        assert_eq!((row.expected, row.unresolved), (80, 0));
        assert!(row.lost > 0 && row.duplicated > 0, "{row:?}");
        assert_eq!(row.last, row.expected - i64::try_from(row.lost).unwrap());
        assert_eq!((row.retries, row.replays, row.conflicts), (8, 0, 0));
    }

    #[tokio::test]
    async fn increments_of_the_upstream_itself_are_lost_and_doubled_too() {
        let row = direct(Way::DirectIncrements).await;
        assert_eq!((row.expected, row.unresolved), (80, 0));
        assert!(row.lost > 0 && row.duplicated > 0, "{row:?}");
    }
}
