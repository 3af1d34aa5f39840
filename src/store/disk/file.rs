//! The file: its tables, what one transaction writes, and what is read back at a start.
//!
//! Records that run or are unknown stand by their id in a small table. Finished ones stand by the time of their expiry,
//! so that writing them appends, and forgetting them takes a range off the front; only the ids in `INDEX` are read at a
//! start. A long answer stands in pieces of its own, so that no other record is written again for it.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{
    Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::beside::Told;
use super::format;
use crate::protocol::record::{Millis, Record, RecordId, ResourceId};
use crate::store::Resolution;
use crate::store::cells::{CellId, Kind, Stored};
use crate::store::minted::Counter;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const OPEN: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("open");
pub(super) const INDEX: TableDefinition<'_, DoneKey, ()> = TableDefinition::new("index");
pub(super) const DONE: TableDefinition<'_, DoneKey, &[u8]> = TableDefinition::new("done");
pub(super) const PIECES: TableDefinition<'_, (DoneKey, u32), &[u8]> = TableDefinition::new("pieces");
pub(super) const MINTED: TableDefinition<'_, [u8; 16], (u64, u64, u64)> = TableDefinition::new("minted");
pub(super) const RESOLVED: TableDefinition<'_, DoneKey, &[u8]> = TableDefinition::new("resolved");
/// By its kind and its name.
pub(super) const CELLS: TableDefinition<'_, [u8; 17], &[u8]> = TableDefinition::new("cells");
/// By its number.
pub(super) const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");

/// The layout of the tables; a file of a later one is refused. 1 had no cells and no events.
pub(super) const LAYOUT: u64 = 2;
/// Longer answers stand in pieces.
const INLINE: usize = 2048;
const PIECE: usize = 32 * 1024 - 128;
/// Pages of the file that are held in memory; what is asked for again and again is in the cache of answers.
const PAGES: usize = 32 << 20;

/// When it expires, then its id: both big-endian, so that they are in order.
pub(super) type DoneKey = [u8; 24];

pub(super) fn done_key(expires_at: Millis, id: RecordId) -> DoneKey {
    let mut key = [0; 24];
    let bytes = expires_at.to_be_bytes().into_iter().chain(id.0);
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

pub(super) fn of_key(key: DoneKey) -> (RecordId, Millis) {
    let (mut expires_at, mut id) = ([0; 8], [0; 16]);
    expires_at.iter_mut().zip(key).for_each(|(to, from)| *to = from);
    id.iter_mut().zip(key.into_iter().skip(8)).for_each(|(to, from)| *to = from);
    (RecordId(id), Millis::from_be_bytes(expires_at))
}

fn cell_key(id: CellId) -> [u8; 17] {
    let mut key = [0; 17];
    let bytes = std::iter::once(id.kind as u8).chain(id.name);
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

/// The other way round; `None`: of no kind that is known.
pub(super) fn of_cell_key(key: [u8; 17]) -> Option<CellId> {
    let [kind, rest @ ..] = key;
    Some(CellId { kind: Kind::from_number(kind)?, name: rest })
}

/// Numbers of the whole store, under their names in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    /// Microseconds since the Unix epoch when the store was made (V8).
    Epoch,
    /// No minted number at or above this was given.
    Numbers,
    /// No fence at or above this was given.
    Fences,
    /// The version of a resource without a counter.
    Floor,
}

impl Meta {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Epoch => "epoch",
            Self::Numbers => "numbers",
            Self::Fences => "fences",
            Self::Floor => "floor",
        }
    }
}

/// What one transaction writes.
#[derive(Default)]
pub(super) struct Rows<'a> {
    /// Records that run or are unknown; `None`: no longer.
    pub(super) open: Vec<(RecordId, Option<&'a Record>)>,
    /// Finished records, with their kept answers.
    pub(super) done: Vec<(RecordId, &'a Record, &'a [u8])>,
    /// Finished records that are none after all.
    pub(super) undone: Vec<(RecordId, Millis)>,
    /// `None`: it has none after all.
    pub(super) minted: Vec<(ResourceId, Option<Counter>)>,
    pub(super) drops_minted: bool,
    pub(super) resolutions: Vec<&'a Resolution>,
    /// Resolutions that are none after all.
    pub(super) unresolved: Vec<(RecordId, Millis)>,
    pub(super) meta: Vec<(Meta, u64)>,
    /// Forgets finished records that expired until then, so many at most.
    pub(super) forget: Option<(Millis, usize)>,
    /// `None`: nothing stands there.
    pub(super) cells: Vec<(CellId, Option<&'a Stored>)>,
    pub(super) told: &'a [Told],
    /// Events that are no longer held: the first and the last.
    pub(super) outlived: Option<(u64, u64)>,
    /// The last event of all: what is behind it was told to nobody.
    pub(super) ends_at: Option<u64>,
}

impl Rows<'_> {
    pub(super) fn is_empty(&self) -> bool {
        let Self { open, done, undone, minted, drops_minted, resolutions, unresolved, meta, forget, .. } =
            self;
        let Self { cells, told, outlived, ends_at, .. } = self;
        open.is_empty()
            && done.is_empty()
            && undone.is_empty()
            && minted.is_empty()
            && !drops_minted
            && resolutions.is_empty()
            && unresolved.is_empty()
            && meta.is_empty()
            && forget.is_none()
            && cells.is_empty()
            && told.is_empty()
            && outlived.is_none()
            && ends_at.is_none()
    }
}

/// Opens the database; a seam for tests that let the file fail.
pub(super) type Opener = Box<dyn Fn(&Builder) -> Result<Database, redb::DatabaseError> + Send>;

/// Opens a file of the file system that is there.
pub(super) fn opener(path: &Path) -> Opener {
    let path = path.to_owned();
    Box::new(move |builder| builder.open(&path))
}

/// Makes a store's file where there is none. It gets its name when it is on the disk as a whole: one that is there and
/// empty was cut, and is no new store.
///
/// # Errors
/// Why it cannot be made.
pub(super) fn make(path: &Path) -> Result<(), String> {
    if path.try_exists().map_err(|error| error.to_string())? {
        return Ok(());
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    guarded(|| {
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let database = Builder::new().create(&unfinished)?;
        prepare(&database)?;
        database.close()?;
        std::fs::rename(&unfinished, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // A file whose name is not on the disk is lost with all that is in it.
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    })
}

/// Runs what reads or writes the file: one that was altered from outside can make that panic.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(said.unwrap_or_else(|| "its content cannot be read".to_owned()))
        }
    }
}

/// Opens a file that was made before.
///
/// # Errors
/// Why it cannot be opened, as the database says it.
pub(super) fn open(opener: &Opener) -> Result<Database, String> {
    let mut builder = Builder::new();
    builder.set_cache_size(PAGES);
    // A file that something else wrote to is told, not trusted; so it is looked through also where it was closed.
    builder.set_check_integrity_on_open(true);
    builder.set_repair_callback(|repair| {
        tracing::debug!(done = repair.progress(), "the store's file is looked through");
    });
    guarded(|| {
        let database = opener(&builder)?;
        recognize(&database)?;
        Ok(database)
    })
}

/// Makes the tables of a new file.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    tables(&write)?;
    write.commit()?;
    Ok(())
}

/// Makes what is not there yet.
fn tables(write: &WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(META)?.insert("layout", LAYOUT)?;
    write.open_table(OPEN)?;
    write.open_table(INDEX)?;
    write.open_table(DONE)?;
    write.open_table(PIECES)?;
    write.open_table(MINTED)?;
    write.open_table(RESOLVED)?;
    write.open_table(CELLS)?;
    write.open_table(EVENTS)?;
    Ok(())
}

/// Sees what file it is; one of an earlier layout gets what it lacks.
fn recognize(database: &Database) -> Result<(), redb::Error> {
    let layout = database.begin_read()?.open_table(META)?.get("layout")?.map(|layout| layout.value());
    match layout {
        Some(LAYOUT) => Ok(()),
        Some(1) => prepare(database),
        Some(other) => Err(redb::Error::Corrupted(format!(
            "it has layout {other}, and this build reads {LAYOUT}: it was written by a later version"
        ))),
        None => Err(redb::Error::Corrupted("it is no store of Onceward".to_owned())),
    }
}

/// Writes all rows, or none; durable when it returns. What was forgotten.
///
/// # Errors
/// Nothing of it may be believed then, nor that it is not there.
pub(super) fn write(database: &Database, rows: &Rows<'_>) -> Result<Vec<(RecordId, Millis)>, redb::Error> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write_open(&write, rows)?;
    write_done(&write, rows)?;
    if rows.drops_minted {
        write.delete_table(MINTED)?;
    }
    if rows.drops_minted || !rows.minted.is_empty() {
        let mut minted = write.open_table(MINTED)?;
        for (resource, counter) in &rows.minted {
            match counter {
                Some(counter) => drop(minted.insert(resource.0, counter.to_stored())?),
                None => drop(minted.remove(resource.0)?),
            }
        }
    }
    if !rows.meta.is_empty() {
        let mut meta = write.open_table(META)?;
        for (which, number) in &rows.meta {
            meta.insert(which.name(), number)?;
        }
    }
    if !rows.resolutions.is_empty() || !rows.unresolved.is_empty() {
        let mut resolved = write.open_table(RESOLVED)?;
        for resolution in &rows.resolutions {
            let value = format::encode_resolution(resolution);
            resolved.insert(done_key(resolution.expires_at, resolution.id), value.as_slice())?;
        }
        for (id, expires_at) in &rows.unresolved {
            resolved.remove(done_key(*expires_at, *id))?;
        }
    }
    write_beside(&write, rows)?;
    let forgotten = match rows.forget {
        Some((until, most)) => forget(&write, until, most)?,
        None => Vec::new(),
    };
    write.commit()?;
    Ok(forgotten)
}

fn write_open(write: &WriteTransaction, rows: &Rows<'_>) -> Result<(), redb::Error> {
    if rows.open.is_empty() {
        return Ok(());
    }
    let mut open = write.open_table(OPEN)?;
    for (id, record) in &rows.open {
        match record {
            Some(record) => drop(open.insert(id.0, format::encode(record, b"").as_slice())?),
            None => drop(open.remove(id.0)?),
        }
    }
    Ok(())
}

fn write_done(write: &WriteTransaction, rows: &Rows<'_>) -> Result<(), redb::Error> {
    if rows.done.is_empty() && rows.undone.is_empty() {
        return Ok(());
    }
    let (mut index, mut done) = (write.open_table(INDEX)?, write.open_table(DONE)?);
    for (id, expires_at) in &rows.undone {
        let key = done_key(*expires_at, *id);
        index.remove(key)?;
        done.remove(key)?;
        write.open_table(PIECES)?.retain_in((key, 0)..=(key, u32::MAX), |_, _| false)?;
    }
    for (id, record, answer) in &rows.done {
        let key = done_key(record.state.expires_at().unwrap_or_default(), *id);
        index.insert(key, ())?;
        if answer.len() <= INLINE {
            done.insert(key, format::encode(record, answer).as_slice())?;
            continue;
        }
        done.insert(key, format::encode(record, b"").as_slice())?;
        let mut pieces = write.open_table(PIECES)?;
        for (number, piece) in (0..).zip(answer.chunks(PIECE)) {
            pieces.insert((key, number), piece)?;
        }
    }
    Ok(())
}

/// Cells and events.
fn write_beside(write: &WriteTransaction, rows: &Rows<'_>) -> Result<(), redb::Error> {
    if !rows.cells.is_empty() {
        let mut cells = write.open_table(CELLS)?;
        for (id, cell) in &rows.cells {
            match cell {
                Some(cell) => drop(cells.insert(cell_key(*id), format::encode_cell(cell).as_slice())?),
                None => drop(cells.remove(cell_key(*id))?),
            }
        }
    }
    if rows.told.is_empty() && rows.outlived.is_none() && rows.ends_at.is_none() {
        return Ok(());
    }
    let mut events = write.open_table(EVENTS)?;
    if let Some(last) = rows.ends_at {
        events.retain_in(last.saturating_add(1).., |_, _| false)?;
    }
    if let Some((first, last)) = rows.outlived {
        events.retain_in(first..=last, |_, _| false)?;
    }
    for (number, at, event) in rows.told {
        events.insert(number, format::encode_event(*at, event).as_slice())?;
    }
    Ok(())
}

/// Takes a range off the front: pages go as a whole, and nothing else is looked at.
fn forget(
    write: &WriteTransaction,
    until: Millis,
    most: usize,
) -> Result<Vec<(RecordId, Millis)>, redb::Error> {
    let end = done_key(until.saturating_add(1), RecordId([0; 16]));
    let mut index = write.open_table(INDEX)?;
    let mut keys = Vec::new();
    for row in index.range(..end)?.take(most) {
        keys.push(row?.0.value());
    }
    if let Some(last) = keys.last() {
        index.retain_in(..=*last, |_, ()| false)?;
        write.open_table(DONE)?.retain_in(..=*last, |_, _| false)?;
        write.open_table(PIECES)?.retain_in(..=(*last, u32::MAX), |_, _| false)?;
    }
    write.open_table(RESOLVED)?.retain_in(..end, |_, _| false)?;
    Ok(keys.into_iter().map(of_key).collect())
}
