//! Small things beside the records, each with a time when somebody has to look at it: leases, claims of tasks, jobs.
//!
//! What they mean is decided elsewhere. A store keeps them, swaps them by compare, and knows whose time comes next.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::protocol::record::{Millis, Owner, ResourceId};

use super::ById;
use super::shared::TurnEnd;

/// What a cell is for; each kind has an order of times of its own. The number is what stands in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The lease of a resource, by [`ResourceId`].
    Lease = 1,
    /// What a lease or claim that an agent names is, or was, of.
    Token = 2,
    /// The claim of a task, by its queue and its identity in its source.
    Task = 3,
    /// A write that runs after it was answered, by its record.
    Job = 4,
    /// How many of something one principal has.
    Count = 5,
    /// A task that was given up.
    Dead = 6,
}

impl Kind {
    /// So many bytes of each value a list of them tells; `None`: all. A job is long, and what is in clear comes first.
    pub const fn listed(self) -> Option<usize> {
        match self {
            Self::Job => Some(32),
            Self::Lease | Self::Token | Self::Task | Self::Count | Self::Dead => None,
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] = [Self::Lease, Self::Token, Self::Task, Self::Job, Self::Count, Self::Dead];

    /// The other way round from its number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Names one cell among those of its kind: a digest.
pub type Name = [u8; 16];

/// Names a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CellId {
    pub kind: Kind,
    pub name: Name,
}

impl CellId {
    /// The lease of a resource.
    pub fn lease(resource: ResourceId) -> Self {
        Self { kind: Kind::Lease, name: resource.0 }
    }
}

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Names this content; no two that ever stood share one.
    pub stamp: Owner,
    /// How long until somebody has to look at it, by the store's clock; zero: it is time. `None`: nobody has to.
    pub left: Option<Duration>,
    pub value: Box<[u8]>,
}

/// Who waits somewhere is told by a name that both sides know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(pub [u8; 16]);

/// A swap of one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub id: CellId,
    /// The content that must stand; `None`: nothing may.
    pub was: Option<Owner>,
    /// What stands then, its time counted from the commit; `None`: nothing.
    pub to: Option<Cell>,
    /// Who waits for this on any instance is told ([`super::shared::News::Told`]).
    pub tell: Option<Topic>,
}

/// Cells that are swapped without a record, all or none.
#[derive(Debug, Clone, Default)]
pub struct Swap {
    pub puts: Vec<Put>,
    /// What is told of it (E1).
    pub event: Option<super::Event>,
    /// The turn that ends with it, on a store that is shared; it ends even if nothing is swapped.
    pub turn: Option<TurnEnd>,
}

/// What a swap comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Apply,
    /// All of it stands already: only the reply was lost.
    Already,
    /// Something else stands in one of them.
    Lost,
}

/// What one swap comes to where this stands.
pub(super) fn fit(standing: Option<Owner>, put: &Put) -> Fit {
    let becomes = put.to.as_ref().map(|to| to.stamp);
    if standing == becomes {
        Fit::Already
    } else if standing == put.was {
        Fit::Apply
    } else {
        Fit::Lost
    }
}

/// What many come to together: all or none. Nothing at all is no swap that could have been done before.
pub(super) fn fit_all(fits: impl Iterator<Item = Fit>) -> Fit {
    let together = fits.reduce(|all, one| match (all, one) {
        (Fit::Lost, _) | (_, Fit::Lost) => Fit::Lost,
        (Fit::Apply, _) | (_, Fit::Apply) => Fit::Apply,
        (Fit::Already, Fit::Already) => Fit::Already,
    });
    together.unwrap_or(Fit::Apply)
}

/// What a cell takes beside its text, with its places in the tables.
pub(super) const COST: usize = 160;

/// A cell whose time is a moment.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) stamp: Owner,
    pub(super) due: Option<Millis>,
    pub(super) value: Box<[u8]>,
}

impl Stored {
    /// What a swap at `now` makes stand.
    pub(super) fn of(cell: &Cell, now: Millis) -> Self {
        let due = cell.left.map(|left| now.saturating_add(crate::protocol::record::millis(left)));
        Self { stamp: cell.stamp, due, value: cell.value.clone() }
    }

    /// As it is seen at `now`.
    pub(super) fn at(&self, now: Millis) -> Cell {
        let left = self.due.map(|due| Duration::from_millis(due.saturating_sub(now)));
        Cell { stamp: self.stamp, left, value: self.value.clone() }
    }

    /// The same with no more than so many bytes of its value.
    fn head_at(&self, now: Millis, bytes: usize) -> Cell {
        match self.value.get(..bytes) {
            Some(head) => Self { value: head.into(), ..*self }.at(now),
            None => self.at(now),
        }
    }

    fn cost(&self) -> usize {
        self.value.len() + COST
    }
}

/// Cells in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Cells {
    by_id: HashMap<CellId, Stored, ById>,
    by_time: BTreeSet<(Kind, Millis, Name)>,
    bytes: usize,
}

impl Cells {
    pub(super) fn get(&self, id: CellId) -> Option<&Stored> {
        self.by_id.get(&id)
    }

    /// What all of these come to together.
    pub(super) fn fit(&self, puts: &[Put]) -> Fit {
        fit_all(puts.iter().map(|put| fit(self.get(put.id).map(|cell| cell.stamp), put)))
    }

    /// Makes them stand.
    pub(super) fn apply(&mut self, puts: &[Put], now: Millis) {
        for put in puts {
            self.set(put.id, put.to.as_ref().map(|to| Stored::of(to, now)));
        }
    }

    /// Makes one stand, or nothing.
    pub(super) fn set(&mut self, id: CellId, to: Option<Stored>) {
        if let Some(was) = self.by_id.remove(&id) {
            self.bytes -= was.cost();
            was.due.map(|due| self.by_time.remove(&(id.kind, due, id.name)));
        }
        if let Some(to) = to {
            self.bytes += to.cost();
            to.due.map(|due| self.by_time.insert((id.kind, due, id.name)));
            self.by_id.insert(id, to);
        }
    }

    /// Bytes that all of them take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Those whose time comes until then, the soonest first.
    pub(super) fn due(&self, kind: Kind, until: Millis, most: usize, now: Millis) -> Vec<(Name, Cell)> {
        let range = (kind, 0, Name::default())..=(kind, until, [u8::MAX; 16]);
        let due = self.by_time.range(range).filter_map(|(kind, _, name)| {
            self.get(CellId { kind: *kind, name: *name }).map(|cell| (*name, cell.at(now)))
        });
        due.take(most).collect()
    }

    /// Those of a kind, in no order.
    pub(super) fn all(&self, kind: Kind, most: usize, now: Millis) -> Vec<(Name, Cell)> {
        let fitting = self.by_id.iter().filter(|(id, _)| id.kind == kind);
        let listed = kind.listed().unwrap_or(usize::MAX);
        fitting.take(most).map(|(id, cell)| (id.name, cell.head_at(now, listed))).collect()
    }
}
