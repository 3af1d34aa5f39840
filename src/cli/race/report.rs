//! What a race found, as people read it and as programs do.

use std::fmt;

use serde_json::{Value, json};

use super::Way;
use super::crowd::Size;
use super::row::{Row, Table};

pub(super) struct Report {
    pub(super) size: Size,
    pub(super) rows: Vec<Row>,
    /// Whether the number is what it was.
    pub(super) restored: Result<(), String>,
}

impl Report {
    /// The raw counts.
    pub(super) fn json(&self) -> Value {
        json!({ "rows": self.rows, "restored": self.restored.is_ok() })
    }

    /// A direct row may lose what it will; all else is held to its promise.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in &self.rows {
            match row.row == Way::Direct.name() {
                true => failures.extend(row.open()),
                false => failures.extend(row.failures()),
            }
        }
        failures.extend(self.restored.clone().err());
        failures
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} agents added one {} times each; one answer in ten was dropped.\n",
            self.size.agents, self.size.ops
        )?;
        writeln!(f, "{}", Table(&self.rows))?;
        for row in &self.rows {
            match row.row == Way::Direct.name() {
                true => direct(f, row)?,
                false => version(f, row)?,
            }
        }
        Ok(())
    }
}

fn direct(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    if row.lost == 0 {
        writeln!(
            f,
            "direct    Nothing was lost. Either this API protects itself, or it takes more agents or"
        )?;
        return writeln!(f, "          operations to meet the race.");
    }
    writeln!(
        f,
        "direct    {} increments were answered as done and overwritten by others; {} retries",
        row.lost, row.duplicated
    )?;
    writeln!(f, "          were performed although their first try had been.")
}

fn version(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    writeln!(
        f,
        "version   {} writes built on an old version were refused and made anew from a fresh",
        row.conflicts
    )?;
    writeln!(f, "          read; {} retries got the first answer again.", row.replays)
}

#[cfg(test)]
mod tests {
    use super::super::agent::Tally;
    use super::*;

    fn report(direct: u64, version: u64) -> Report {
        let row = |name, lost| Row { lost, ..Row::new(name, 0, 0, &Tally::default()) };
        let rows = vec![row("direct", direct), row("version", version)];
        Report { size: Size { agents: 2, ops: 1 }, rows, restored: Ok(()) }
    }

    #[test]
    fn only_the_protected_row_is_held_to_its_promise() {
        assert_eq!(report(1, 0).failures(), Vec::<String>::new());
        assert_eq!(report(0, 0).failures(), Vec::<String>::new());
        assert_eq!(report(1, 1).failures().len(), 1);
    }

    #[test]
    fn a_number_that_is_not_set_back_is_a_failure() {
        let report = Report { restored: Err("no".to_owned()), ..report(1, 0) };
        assert_eq!(report.failures(), ["no"]);
        assert_eq!(report.json()["restored"], false);
    }
}
