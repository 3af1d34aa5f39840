//! What is read back from the file: what decides at a start, and finished records when they are asked for.

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable};

use super::beside::Told;
use super::file::{
    CELLS, DONE, EVENTS, INDEX, META, MINTED, Meta, OPEN, PIECES, RESOLVED, done_key, of_cell_key, of_key,
};
use super::format::{self, Unreadable};
use crate::protocol::record::{Millis, Phase, Record, RecordId, ResourceId};
use crate::store::cells::{CellId, Stored};
use crate::store::minted::Counter;
use crate::store::{Answer, Resolution};

/// What a start finds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) meta: Vec<(Meta, u64)>,
    pub(super) open: Vec<(RecordId, Record)>,
    pub(super) done: Vec<(RecordId, Millis)>,
    pub(super) minted: Vec<(ResourceId, Counter)>,
    pub(super) cells: Vec<(CellId, Stored)>,
    /// In their order, without a gap.
    pub(super) told: Vec<Told>,
}

impl Found {
    /// Whether there is nothing but numbers.
    pub(super) fn is_empty(&self) -> bool {
        let Self { meta: _, open, done, minted, cells, told } = self;
        open.is_empty() && done.is_empty() && minted.is_empty() && cells.is_empty() && told.is_empty()
    }
}

/// A finished record, as the file has it.
pub(super) struct Finished {
    pub(super) record: Record,
    /// Encoded.
    pub(super) answer: Bytes,
}

impl Finished {
    /// The kept answer; `None` where none was kept.
    pub(super) fn answer(&self) -> Option<Answer> {
        if self.answer.is_empty() { None } else { Answer::decode(self.answer.clone()) }
    }
}

/// Reads what has to be known at once; finished records stay where they are.
///
/// # Errors
/// What is unreadable.
pub(super) fn load(database: &Database) -> Result<Found, redb::Error> {
    let read = database.begin_read()?;
    let mut found = Found::default();
    let meta = read.open_table(META)?;
    for which in [Meta::Epoch, Meta::Numbers, Meta::Fences, Meta::Floor] {
        if let Some(number) = meta.get(which.name())? {
            found.meta.push((which, number.value()));
        }
    }
    for row in read.open_table(OPEN)?.iter()? {
        let (id, value) = row?;
        let (record, _) = format::decode(value.value()).map_err(unreadable)?;
        // A claim stands in no file, and nobody would ever end one (invariant 6).
        if record.state.phase() != Phase::Claimed {
            found.open.push((RecordId(id.value()), record));
        }
    }
    for row in read.open_table(INDEX)?.iter()? {
        found.done.push(of_key(row?.0.value()));
    }
    for row in read.open_table(MINTED)?.iter()? {
        let (resource, counter) = row?;
        found.minted.push((ResourceId(resource.value()), Counter::from_stored(counter.value())));
    }
    for row in read.open_table(CELLS)?.iter()? {
        let (key, value) = row?;
        let id = of_cell_key(key.value()).ok_or(Unreadable).map_err(unreadable)?;
        found.cells.push((id, format::decode_cell(value.value()).map_err(unreadable)?));
    }
    for row in read.open_table(EVENTS)?.iter()? {
        let (number, value) = row?;
        let (at, event) = format::decode_event(value.value()).map_err(unreadable)?;
        if found.told.last().is_some_and(|(before, ..)| before.checked_add(1) != Some(number.value())) {
            return Err(redb::Error::Corrupted("an event is missing in it".to_owned()));
        }
        found.told.push((number.value(), at, event));
    }
    Ok(found)
}

/// Which store it is.
///
/// # Errors
/// What is unreadable.
pub(super) fn epoch(database: &Database) -> Result<Option<u64>, redb::Error> {
    let epoch = database.begin_read()?.open_table(META)?.get(Meta::Epoch.name())?;
    Ok(epoch.map(|epoch| epoch.value()))
}

fn unreadable(_: Unreadable) -> redb::Error {
    redb::Error::Corrupted("a record in it cannot be read by this version".to_owned())
}

/// Whether there is a finished record that expired until then.
///
/// # Errors
/// What is unreadable.
pub(super) fn has_expired(database: &Database, until: Millis) -> Result<bool, redb::Error> {
    let index = database.begin_read()?.open_table(INDEX)?;
    let first = index.first()?;
    Ok(first.is_some_and(|(key, _)| of_key(key.value()).1 <= until))
}

/// A finished record, with its kept answer; `None`: it is not there.
///
/// # Errors
/// What is unreadable.
pub(super) fn finished(
    database: &Database,
    id: RecordId,
    expires_at: Millis,
) -> Result<Option<(Record, Vec<u8>)>, redb::Error> {
    let read = database.begin_read()?;
    let key = done_key(expires_at, id);
    let Some(value) = read.open_table(DONE)?.get(key)? else { return Ok(None) };
    let (record, answer) = format::decode(value.value()).map_err(unreadable)?;
    let mut answer = answer.to_vec();
    if answer.is_empty() {
        for row in read.open_table(PIECES)?.range((key, 0)..=(key, u32::MAX))? {
            answer.extend_from_slice(row?.1.value());
        }
    }
    Ok(Some((record, answer)))
}

/// Finished records that have not expired, the last to expire first.
///
/// # Errors
/// What is unreadable.
pub(super) fn latest(
    database: &Database,
    most: usize,
    now: Millis,
) -> Result<Vec<(RecordId, Record)>, redb::Error> {
    let read = database.begin_read()?;
    let begin = done_key(now.saturating_add(1), RecordId([0; 16]));
    let done = read.open_table(DONE)?;
    let mut found = Vec::new();
    for row in done.range(begin..)?.rev().take(most) {
        let (key, value) = row?;
        let (record, _) = format::decode(value.value()).map_err(unreadable)?;
        found.push((of_key(key.value()).0, record));
    }
    Ok(found)
}

/// What operators decided of an operation, the latest first.
///
/// # Errors
/// What is unreadable.
pub(super) fn resolutions(
    database: &Database,
    id: RecordId,
    now: Millis,
) -> Result<Vec<Resolution>, redb::Error> {
    let read = database.begin_read()?;
    let mut found = Vec::new();
    for row in read.open_table(RESOLVED)?.range(done_key(now.saturating_add(1), RecordId([0; 16]))..)? {
        let (key, value) = row?;
        let (other, expires_at) = of_key(key.value());
        if other == id {
            found.push(format::decode_resolution(id, expires_at, value.value()).map_err(unreadable)?);
        }
    }
    found.reverse();
    Ok(found)
}
