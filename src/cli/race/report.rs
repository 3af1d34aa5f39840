//! What a race found, as people read it and as programs do.

use std::fmt;

use serde_json::{Value, json};

use super::Way;
use super::crowd::Size;
use super::row::{Note, Row, Table};

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
        let Size { agents, ops } = self.size;
        writeln!(f, "{agents} agents added one, {ops} times each; one answer in ten was dropped.\n")?;
        writeln!(f, "{}", Table(&self.rows))?;
        for row in &self.rows {
            match row.row == Way::Direct.name() {
                true => write!(f, "{}", Note::new(row.row, direct(row)))?,
                false if row.row == Way::Lease.name() => write!(f, "{}", Note::protected(row, lease(row)))?,
                false => write!(f, "{}", Note::protected(row, version(row)))?,
            }
        }
        Ok(())
    }
}

fn direct(row: &Row) -> String {
    let lost = match row.lost {
        0 => "Nothing was lost: either this API protects itself, or it takes more agents to meet the race."
            .to_owned(),
        lost => format!("{lost} increments were answered as done and written over by others."),
    };
    format!("{lost} {} retries were performed although their first try had been.", row.duplicated)
}

fn version(row: &Row) -> String {
    format!(
        "{} writes built on an old version were refused and made anew from a fresh read; {} retries got the \
         first answer again.",
        row.conflicts, row.replays
    )
}

fn lease(row: &Row) -> String {
    format!(
        "Each agent held a lease from its reading to its writing, so {} writes were built on an old version; {} retries \
         got the first answer again.",
        row.conflicts, row.replays
    )
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
