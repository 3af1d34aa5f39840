//! What the demo found, as people read it and as programs do.

use std::fmt;

use serde_json::{Value, json};

use crate::cli::race::crowd::Size;
use crate::cli::race::row::{Note, Row, Table};

pub(super) struct Report {
    pub(super) size: Size,
    pub(super) direct: Row,
    /// The race of `queue` without its protection. Not a row of the table, but told below it.
    pub(super) direct_increments: Row,
    pub(super) version: Row,
    pub(super) queue: Row,
    pub(super) lease: Row,
}

impl Report {
    fn rows(&self) -> [Row; 4] {
        [self.direct.clone(), self.version.clone(), self.queue.clone(), self.lease.clone()]
    }

    /// The raw counts.
    pub(super) fn json(&self) -> Value {
        json!({ "rows": self.rows(), "direct_increments": self.direct_increments })
    }

    /// Why the demo failed: a protection that did not hold, or a race that did not happen.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        failures.extend(self.direct.open());
        if self.direct.lost == 0 {
            failures.push("direct: nothing was lost, so this run shows nothing".to_owned());
        }
        failures.extend(self.direct_increments.open());
        failures.extend(self.version.failures());
        failures.extend(self.queue.failures());
        failures.extend(self.lease.failures());
        failures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, direct, direct_increments, version, queue, lease } = self;
        writeln!(
            f,
            "{} agents add one to a counter, {} times each. One answer in ten is",
            size.agents, size.ops
        )?;
        writeln!(f, "dropped, and the agent sends the same request again.\n")?;
        writeln!(f, "{}", Table(&self.rows()))?;
        let without = format!(
            "Each agent reads n and writes n + 1. {} increments were answered as done and are not in the final \
             value: others, who had read the same n, wrote over them. {} retries made the upstream perform a \
             write a second time. Where the upstream itself reads and writes, on a POST, {} were lost and {} \
             performed twice.",
            direct.lost, direct.duplicated, direct_increments.lost, direct_increments.duplicated
        );
        let versions = format!(
            "The same agents name the version they read in If-Match, and the increment in Idempotency-Key. {} \
             writes built on an old version were refused and made anew from a fresh read; {} retries got the \
             first answer again.",
            version.conflicts, version.replays
        );
        let turns = format!(
            "The same POST with an Idempotency-Key. Onceward forwards one at a time, so nothing comes between \
             the upstream's reading and writing; {} retries got the first answer again.",
            queue.replays
        );
        let leases = format!(
            "Reading and writing as in `version`, but no version is named: each agent leases the counter before it \
             reads, and the others wait until it gives it back. {} retries got the first answer again.",
            lease.replays
        );
        write!(f, "{}", Note::new(direct.row, without))?;
        write!(f, "{}", Note::protected(version, versions))?;
        write!(f, "{}", Note::protected(queue, turns))?;
        write!(f, "{}", Note::protected(lease, leases))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::race::agent::Tally;

    fn row(name: &'static str, lost: u64) -> Row {
        Row { lost, ..Row::new(name, 0, 0, &Tally::default()) }
    }

    fn report(lost: [u64; 5]) -> Report {
        let [direct, increments, version, queue, lease] = lost;
        Report {
            size: Size { agents: 2, ops: 1 },
            direct: row("direct", direct),
            direct_increments: row("direct-increments", increments),
            version: row("version", version),
            queue: row("queue", queue),
            lease: row("lease", lease),
        }
    }

    #[test]
    fn the_demo_holds_when_only_the_direct_rows_lose() {
        assert_eq!(report([1, 1, 0, 0, 0]).failures(), Vec::<String>::new());
    }

    #[test]
    fn a_direct_row_without_a_loss_shows_nothing() {
        assert_eq!(
            report([0, 1, 0, 0, 0]).failures(),
            ["direct: nothing was lost, so this run shows nothing"]
        );
        assert_eq!(report([1, 0, 0, 0, 0]).failures(), Vec::<String>::new(), "told, but no row");
    }

    #[test]
    fn each_protected_row_is_held_to_its_promise() {
        assert!(report([1, 1, 1, 0, 0]).failures()[0].starts_with("version: 1 "));
        assert!(report([1, 1, 0, 1, 0]).failures()[0].starts_with("queue: 1 "));
        assert!(report([1, 1, 0, 0, 1]).failures()[0].starts_with("lease: 1 "));
    }

    #[test]
    fn the_rows_are_the_promised_ones() {
        let json = report([1, 1, 0, 0, 0]).json();
        let rows: Vec<_> =
            json["rows"].as_array().unwrap().iter().map(|row| row["row"].as_str().unwrap()).collect();
        assert_eq!(rows, ["direct", "version", "queue", "lease"]);
    }
}
