//! What stands beside the records: cells, and the log of events (E1, L1, J1).
//!
//! Both are in memory whole. Only the writer changes them, after the file has it; only the oldest events are let go
//! before, and the file forgets them a few at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::batch::FORGOTTEN;
use crate::protocol::record::{Millis, Owner, millis};
use crate::store::cells::{COST, Cell, CellId, Cells, Fit, Kind, Name, Put, Stored, fit, fit_all};
use crate::store::log::{Event, Log};

/// What of them is in memory.
pub(super) struct Beside {
    cells: Mutex<Cells>,
    /// Bytes of all cells, to be had without their lock.
    cell_bytes: AtomicUsize,
    pub(super) log: Log,
    /// The first event that the file holds.
    first_stored: AtomicU64,
}

/// An event with its number and its time.
pub(super) type Told = (u64, Millis, Event);

impl Beside {
    /// Of what a start found.
    pub(super) fn new(epoch: u64, cells: Vec<(CellId, Stored)>, told: Vec<Told>) -> Self {
        let first_stored = told.first().map_or(1, |(number, ..)| *number);
        let last = told.last().map_or(0, |(number, ..)| *number);
        let told = told.into_iter().map(|(_, at, event)| (at, event)).collect();
        let mut all = Cells::default();
        for (id, cell) in cells {
            all.set(id, Some(cell));
        }
        Self {
            cell_bytes: all.bytes().into(),
            cells: Mutex::new(all),
            log: Log::resumed(epoch, last, told),
            first_stored: first_stored.into(),
        }
    }

    /// Bytes of all of it.
    pub(super) fn bytes(&self) -> usize {
        self.cell_bytes.load(Ordering::Relaxed) + self.log.bytes()
    }

    /// What stands in a cell.
    pub(super) fn cell(&self, id: CellId, now: Millis) -> Option<Cell> {
        if self.cell_bytes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.cells.lock().get(id).map(|cell| cell.at(now))
    }

    /// A cell as the file has it.
    pub(super) fn stored(&self, id: CellId) -> Option<Stored> {
        self.cells.lock().get(id).cloned()
    }

    fn stamp(&self, id: CellId) -> Option<Owner> {
        self.cells.lock().get(id).map(|cell| cell.stamp)
    }

    /// Those whose time comes within so long, the soonest first.
    pub(super) fn due(&self, kind: Kind, within: Duration, most: usize, now: Millis) -> Vec<(Name, Cell)> {
        self.cells.lock().due(kind, now.saturating_add(millis(within)), most, now)
    }

    /// Those of a kind.
    pub(super) fn all(&self, kind: Kind, most: usize, now: Millis) -> Vec<(Name, Cell)> {
        self.cells.lock().all(kind, most, now)
    }

    /// Events that are in the file and no longer held: the first and the last of some of them. The last event of all
    /// stays, so that numbers go on behind it.
    pub(super) fn outlived(&self, now: Millis) -> Option<(u64, u64)> {
        self.log.sweep(now);
        let first = self.first_stored.load(Ordering::Acquire);
        let until = self.log.before().min(self.log.end().number.saturating_sub(1));
        (until >= first).then(|| (first, until.min(first.saturating_add(FORGOTTEN as u64 - 1))))
    }

    /// Those until then are no longer in the file.
    pub(super) fn forgot(&self, until: u64) {
        self.first_stored.fetch_max(until.saturating_add(1), Ordering::AcqRel);
    }
}

/// What one transaction makes of them.
#[derive(Default)]
pub(super) struct Staged {
    cells: HashMap<CellId, Option<Stored>>,
    /// Bytes of cells that stood nowhere before.
    new: usize,
    pub(super) told: Vec<Told>,
    /// Events that the file forgets: the first and the last.
    pub(super) outlived: Option<(u64, u64)>,
}

impl Staged {
    /// What puts come to, on what the ones before them made.
    pub(super) fn fit(&self, puts: &[Put], beside: &Beside) -> Fit {
        fit_all(puts.iter().map(|put| {
            let standing = match self.cells.get(&put.id) {
                Some(staged) => staged.as_ref().map(|cell| cell.stamp),
                None => beside.stamp(put.id),
            };
            fit(standing, put)
        }))
    }

    /// Room that puts take beside what this transaction takes already; zero for what only changes what is there.
    pub(super) fn room(&self, puts: &[Put]) -> usize {
        let new = puts.iter().filter(|put| put.was.is_none()).filter_map(|put| put.to.as_ref());
        let new: usize = new.map(|to| to.value.len() + COST).sum();
        if new == 0 { 0 } else { self.new + new }
    }

    /// Makes them stand.
    pub(super) fn apply(&mut self, puts: Vec<Put>, now: Millis) {
        self.new = self.room(&puts).max(self.new);
        for put in puts {
            self.cells.insert(put.id, put.to.as_ref().map(|to| Stored::of(to, now)));
        }
    }

    /// Tells of it, behind all that was told before.
    pub(super) fn tell(&mut self, event: Option<Event>, now: Millis, beside: &Beside) {
        let last = self.told.last().map_or_else(|| beside.log.end().number, |(number, ..)| *number);
        self.told.extend(event.map(|event| (last.saturating_add(1), now, event)));
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = (CellId, Option<&Stored>)> {
        self.cells.iter().map(|(id, cell)| (*id, cell.as_ref()))
    }

    /// All of it is durable.
    pub(super) fn apply_to(self, beside: &Beside) {
        if !self.cells.is_empty() {
            let mut cells = beside.cells.lock();
            for (id, cell) in self.cells {
                cells.set(id, cell);
            }
            beside.cell_bytes.store(cells.bytes(), Ordering::Relaxed);
        }
        for (_, at, event) in self.told {
            beside.log.append(event, at);
        }
        if let Some((_, until)) = self.outlived {
            beside.forgot(until);
        }
    }
}
