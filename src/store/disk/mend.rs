//! After a transaction that failed nobody knows what of it is in the file. What memory holds is what everybody was told,
//! so that is written again, and what nobody was told is taken out.

use std::collections::{BTreeSet, HashMap};

use redb::Database;

use super::file::{self, Rows};
use super::image::Image;
use crate::protocol::record::{Millis, Record, RecordId, ResourceId};
use crate::store::{ById, CellId};

/// One thing that may be in the file or not.
pub(super) enum Doubt {
    /// A record, and where it would stand if it were finished.
    Record(RecordId, Option<Millis>),
    Minted(ResourceId),
    Resolution(RecordId, Millis),
    Cell(CellId),
    /// Events behind the last that was told.
    Events,
}

/// All of failed transactions. A counter that may have been dropped is none of it: its resource then stands at a
/// higher floor after a restart, and no tag comes back (V8).
#[derive(Default)]
pub(super) struct Doubts {
    records: HashMap<RecordId, BTreeSet<Millis>, ById>,
    minted: BTreeSet<[u8; 16]>,
    resolutions: BTreeSet<(RecordId, Millis)>,
    cells: BTreeSet<CellId>,
    events: bool,
}

impl Extend<Doubt> for Doubts {
    fn extend<T: IntoIterator<Item = Doubt>>(&mut self, doubts: T) {
        for doubt in doubts {
            match doubt {
                // It may have failed before, and stand elsewhere by that.
                Doubt::Record(id, at) => self.records.entry(id).or_default().extend(at),
                Doubt::Minted(resource) => drop(self.minted.insert(resource.0)),
                Doubt::Resolution(id, at) => drop(self.resolutions.insert((id, at))),
                Doubt::Cell(id) => drop(self.cells.insert(id)),
                Doubt::Events => self.events = true,
            }
        }
    }
}

impl Doubts {
    /// Makes the file say what everybody was told.
    ///
    /// # Errors
    /// All of it is still in doubt then.
    pub(super) fn settle(&self, database: &Database, image: &Image) -> Result<(), String> {
        let standing: Vec<_> = self.records.iter().map(|(id, at)| (*id, at, image.stored(*id))).collect();
        let mut rows = Rows::default();
        for (id, finished, (open, done)) in &standing {
            let open: Option<&Record> = open.as_ref();
            rows.open.push((*id, open));
            let wrong = finished.iter().filter(|at| *done != Some(**at));
            rows.undone.extend(wrong.map(|at| (*id, *at)));
        }
        let counters = self.minted.iter().map(|resource| ResourceId(*resource));
        rows.minted.extend(counters.map(|resource| (resource, image.counter(resource))));
        rows.unresolved.extend(&self.resolutions);
        let cells: Vec<_> = self.cells.iter().map(|id| (*id, image.beside.stored(*id))).collect();
        rows.cells.extend(cells.iter().map(|(id, cell)| (*id, cell.as_ref())));
        rows.ends_at = self.events.then(|| image.beside.log.end().number);
        if rows.is_empty() { Ok(()) } else { file::guarded(|| file::write(database, &rows)).map(drop) }
    }
}
