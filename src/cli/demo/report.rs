//! What the demo found, as people read it and as programs do.

use std::fmt;

use serde_json::{Value, json};

use crate::cli::race::crowd::Size;
use crate::cli::race::row::{Row, Table};

pub(super) struct Report {
    pub(super) size: Size,
    pub(super) direct: Row,
    /// The race of `queue` without its protection. Not a row of the table, but told below it.
    pub(super) direct_increments: Row,
    pub(super) version: Row,
    pub(super) queue: Row,
}

impl Report {
    fn rows(&self) -> [Row; 3] {
        [self.direct.clone(), self.version.clone(), self.queue.clone()]
    }

    /// The raw counts.
    pub(super) fn json(&self) -> Value {
        json!({ "rows": self.rows(), "direct_increments": self.direct_increments })
    }

    /// Why the demo failed: a protection that did not hold, or a race that did not happen.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in [&self.direct, &self.direct_increments] {
            failures.extend(row.open());
            if row.lost == 0 {
                failures.push(format!("{}: nothing was lost, so this run shows nothing", row.row));
            }
        }
        failures.extend(self.version.failures());
        failures.extend(self.queue.failures());
        failures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, direct, direct_increments, version, queue } = self;
        let (agents, ops, all) = (size.agents, size.ops, size.operations());
        writeln!(
            f,
            "{agents} agents add one to a counter {ops} times each; one answer in ten is dropped and the"
        )?;
        writeln!(f, "agent sends the same request again.\n")?;
        writeln!(f, "{}", Table(&self.rows()))?;
        writeln!(
            f,
            "direct    Each agent reads n and writes n + 1. All {all} were told it is done; {}",
            direct.lost
        )?;
        writeln!(
            f,
            "          were overwritten by agents that had read the same n, and {} retries",
            direct.duplicated
        )?;
        writeln!(f, "          made the upstream perform a write a second time.")?;
        writeln!(
            f,
            "          Where the upstream itself reads and writes on a POST, {} were lost",
            direct_increments.lost
        )?;
        writeln!(f, "          and {} performed twice.", direct_increments.duplicated)?;
        writeln!(f, "version   The same agents name the version they read in If-Match, and the operation")?;
        writeln!(
            f,
            "          in Idempotency-Key. {} writes built on an old version were refused",
            version.conflicts
        )?;
        writeln!(
            f,
            "          and made anew from a fresh read; {} retries got the first answer again.",
            version.replays
        )?;
        writeln!(f, "queue     The same POST with an Idempotency-Key. Onceward forwards one at a time, so")?;
        writeln!(
            f,
            "          nothing comes between the upstream's reading and writing; {} retries got",
            queue.replays
        )?;
        writeln!(f, "          the first answer again.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::race::agent::Tally;

    fn row(name: &'static str, lost: u64) -> Row {
        Row { lost, ..Row::new(name, 0, 0, &Tally::default()) }
    }

    fn report(lost: [u64; 4]) -> Report {
        let [direct, increments, version, queue] = lost;
        Report {
            size: Size { agents: 2, ops: 1 },
            direct: row("direct", direct),
            direct_increments: row("direct-increments", increments),
            version: row("version", version),
            queue: row("queue", queue),
        }
    }

    #[test]
    fn the_demo_holds_when_only_the_direct_rows_lose() {
        assert_eq!(report([1, 1, 0, 0]).failures(), Vec::<String>::new());
    }

    #[test]
    fn a_direct_row_without_a_loss_shows_nothing() {
        let shown_nothing = |row| vec![format!("{row}: nothing was lost, so this run shows nothing")];
        assert_eq!(report([0, 1, 0, 0]).failures(), shown_nothing("direct"));
        assert_eq!(report([1, 0, 0, 0]).failures(), shown_nothing("direct-increments"));
    }

    #[test]
    fn each_protected_row_is_held_to_its_promise() {
        assert!(report([1, 1, 1, 0]).failures()[0].starts_with("version: 1 "));
        assert!(report([1, 1, 0, 1]).failures()[0].starts_with("queue: 1 "));
    }

    #[test]
    fn the_rows_are_the_promised_ones() {
        let json = report([1, 1, 0, 0]).json();
        let rows: Vec<_> =
            json["rows"].as_array().unwrap().iter().map(|row| row["row"].as_str().unwrap()).collect();
        assert_eq!(rows, ["direct", "version", "queue"]);
    }
}
