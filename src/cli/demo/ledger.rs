//! What a counter did, write by write, so that losses and doubles are counted and not guessed.
//!
//! Each write is entered with the operation it was for and the revision its value was computed from. Following
//! the last value back over those revisions gives every increment that is in it: an operation that is not on
//! that way was overwritten, whatever it was answered.

use std::collections::{HashMap, HashSet};

/// All that happened to one counter. Revision 0 is the value it started with, revision `n` the `n`th write.
#[derive(Debug)]
pub(crate) struct Ledger {
    start: i64,
    writes: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    value: i64,
    /// The revision that `value` was computed from; `None`: the writer did not say, so nothing before it is in it.
    base: Option<usize>,
    operation: String,
}

/// What the ledger says about a set of operations that were answered as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audit {
    pub(crate) value: i64,
    /// Operations answered as done whose increment is not in `value`.
    pub(crate) lost: u64,
    /// Writes performed for an operation that had been performed before.
    pub(crate) duplicated: u64,
}

impl Ledger {
    pub(crate) fn new(start: i64) -> Self {
        Self { start, writes: Vec::new() }
    }

    /// The revision of the counter and its value.
    pub(crate) fn current(&self) -> (usize, i64) {
        (self.writes.len(), self.writes.last().map_or(self.start, |entry| entry.value))
    }

    /// Performs a write and gives its revision. A base that is yet to come is as good as none.
    pub(crate) fn write(&mut self, value: i64, base: Option<usize>, operation: &str) -> usize {
        let base = base.filter(|base| *base <= self.writes.len());
        self.writes.push(Entry { value, base, operation: operation.to_owned() });
        self.writes.len()
    }

    pub(crate) fn audit(&self, done: &[String]) -> Audit {
        let merged = self.merged();
        let lost = done.iter().filter(|operation| !merged.contains(operation.as_str())).count();
        Audit { value: self.current().1, lost: count(lost), duplicated: count(self.repeated()) }
    }

    /// The operations whose increments are in the present value.
    fn merged(&self) -> HashSet<&str> {
        let mut merged = HashSet::new();
        let mut revision = self.writes.len();
        // A base is always an earlier revision, so this ends.
        while let Some(entry) = revision.checked_sub(1).and_then(|index| self.writes.get(index)) {
            merged.insert(entry.operation.as_str());
            revision = entry.base.unwrap_or(0);
        }
        merged
    }

    fn repeated(&self) -> usize {
        let mut times: HashMap<&str, usize> = HashMap::new();
        for entry in &self.writes {
            *times.entry(&entry.operation).or_default() += 1;
        }
        self.writes.len() - times.len()
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(operations: &[&str]) -> Vec<String> {
        operations.iter().map(|&operation| operation.to_owned()).collect()
    }

    #[test]
    fn writes_one_after_the_other_lose_nothing() {
        let mut ledger = Ledger::new(5);
        let first = ledger.write(6, Some(0), "a");
        ledger.write(7, Some(first), "b");
        assert_eq!(ledger.audit(&done(&["a", "b"])), Audit { value: 7, lost: 0, duplicated: 0 });
    }

    #[test]
    fn a_write_on_the_same_base_overwrites_the_first() {
        let mut ledger = Ledger::new(0);
        ledger.write(1, Some(0), "a");
        ledger.write(1, Some(0), "b");
        assert_eq!(ledger.audit(&done(&["a", "b"])), Audit { value: 1, lost: 1, duplicated: 0 });
    }

    /// `PUT 1` again, after another had made it 2: the value is back at 1 and the other's increment is gone.
    #[test]
    fn a_late_repeat_is_a_double_and_overwrites_what_came_between() {
        let mut ledger = Ledger::new(0);
        let first = ledger.write(1, Some(0), "a");
        ledger.write(2, Some(first), "b");
        ledger.write(1, Some(0), "a");
        assert_eq!(ledger.audit(&done(&["a", "b"])), Audit { value: 1, lost: 1, duplicated: 1 });
    }

    /// Two mistakes that cancel out in the value: one increment lost, another made twice.
    #[test]
    fn a_loss_and_a_double_do_not_hide_each_other() {
        let mut ledger = Ledger::new(0);
        ledger.write(1, Some(0), "a");
        let second = ledger.write(1, Some(0), "b");
        ledger.write(2, Some(second), "b");
        assert_eq!(ledger.audit(&done(&["a", "b"])), Audit { value: 2, lost: 1, duplicated: 1 });
    }

    #[test]
    fn what_nobody_was_told_is_neither_lost_nor_expected() {
        let mut ledger = Ledger::new(0);
        ledger.write(1, Some(0), "a");
        ledger.write(1, Some(0), "b");
        assert_eq!(ledger.audit(&done(&["b"])), Audit { value: 1, lost: 0, duplicated: 0 });
    }

    #[test]
    fn a_write_from_nowhere_has_nothing_else_in_it() {
        let mut ledger = Ledger::new(0);
        let first = ledger.write(1, Some(0), "a");
        ledger.write(9, Some(first + 7), "b");
        assert_eq!(ledger.audit(&done(&["a", "b"])), Audit { value: 9, lost: 1, duplicated: 0 });
    }
}
