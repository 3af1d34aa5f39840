//! One line of the result: how it reads, and what it has to be.

use std::fmt;

use serde::Serialize;

use super::agent::Tally;

/// The raw counts of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) row: &'static str,
    pub(crate) expected: i64,
    #[serde(rename = "final")]
    pub(crate) last: i64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) retries: u64,
    pub(crate) replays: u64,
    pub(crate) conflicts: u64,
    /// Operations that were given up without knowing their end; they are not expected.
    pub(crate) unresolved: u64,
    /// Why the first of them was.
    #[serde(skip)]
    pub(crate) why: Option<String>,
}

impl Row {
    pub(crate) fn new(row: &'static str, start: i64, last: i64, tally: &Tally) -> Self {
        let done = i64::try_from(tally.done.len()).unwrap_or(i64::MAX);
        Self {
            row,
            expected: start.saturating_add(done),
            last,
            lost: 0,
            duplicated: 0,
            retries: tally.retries,
            replays: tally.replays,
            conflicts: tally.conflicts,
            unresolved: u64::try_from(tally.unresolved.len()).unwrap_or(u64::MAX),
            why: tally.unresolved.first().cloned(),
        }
    }

    /// What kept operations from their end.
    pub(crate) fn open(&self) -> Option<String> {
        let why = self.why.as_ref()?;
        Some(format!("{}: {} operations came to no end; the first: {why}", self.row, self.unresolved))
    }

    /// What is wrong with a row that was protected.
    pub(crate) fn failures(&self) -> Vec<String> {
        let row = self.row;
        let mut failures = Vec::new();
        if self.lost > 0 {
            failures.push(format!("{row}: {} increments were answered as done and are lost", self.lost));
        }
        if self.duplicated > 0 {
            failures.push(format!("{row}: {} writes were performed a second time", self.duplicated));
        }
        match self.open() {
            Some(open) => failures.push(open),
            None if failures.is_empty() && self.last != self.expected => {
                failures.push(format!("{row}: expected {}, found {}", self.expected, self.last));
            }
            None => {}
        }
        failures
    }
}

/// The rows as people read them.
pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:10}{:>10}{:>10}{:>10}{:>12}", "", "expected", "final", "lost", "duplicated")?;
        for Row { row, expected, last, lost, duplicated, .. } in self.0 {
            writeln!(f, "{row:10}{expected:>10}{last:>10}{lost:>10}{duplicated:>12}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(last: i64, lost: u64, duplicated: u64) -> Row {
        let tally = Tally { done: vec![String::new(); 3], ..Tally::default() };
        Row { lost, duplicated, ..Row::new("version", 2, last, &tally) }
    }

    #[test]
    fn a_protected_row_loses_and_doubles_nothing() {
        assert_eq!(row(5, 0, 0).failures(), Vec::<String>::new());
        assert_eq!(row(4, 1, 0).failures(), ["version: 1 increments were answered as done and are lost"]);
        assert_eq!(row(5, 0, 1).failures(), ["version: 1 writes were performed a second time"]);
        assert_eq!(row(5, 1, 1).failures().len(), 2);
        assert_eq!(row(6, 0, 0).failures(), ["version: expected 5, found 6"]);
        let tally = Tally { unresolved: vec!["agent 1: 500".to_owned()], ..Tally::default() };
        let open = Row::new("version", 0, 1, &tally);
        assert_eq!(open.failures(), ["version: 1 operations came to no end; the first: agent 1: 500"]);
    }

    #[test]
    fn the_table_has_its_columns() {
        let lines = [
            "            expected     final      lost  duplicated",
            "version            5         4         1           0",
            "",
        ];
        assert_eq!(Table(&[row(4, 1, 0)]).to_string(), lines.join("\n"));
    }

    #[test]
    fn the_raw_counts_are_named_as_promised() {
        let json = serde_json::to_value(row(4, 1, 0)).unwrap();
        let promised = serde_json::json!({
            "row": "version", "expected": 5, "final": 4, "lost": 1, "duplicated": 0,
            "retries": 0, "replays": 0, "conflicts": 0, "unresolved": 0,
        });
        assert_eq!(json, promised);
    }
}
