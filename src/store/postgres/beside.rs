//! What stands beside the records: cells, and the log of events (`sql/003_cells.sql`).
//!
//! An event is written down in the transaction of what it tells, and numbered later: nobody who writes waits for another.
//! Whoever reads numbers what is there; where others read, whoever wrote sees to it soon.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_postgres::Row;

use super::core::Core;
use super::rows::{self, whole_millis};
use super::value::{Uuid, Value, column};
use super::{Postgres, sql};
use crate::protocol::record::{Millis, Owner};
use crate::store::cells::{Cell, CellId, Kind, Name, Put, Swap};
use crate::store::log::{Event, Keep, Place};
use crate::store::{Change, Reply, StoreError};

/// Events that are let go in one transaction.
const BATCH: i32 = 1000;
/// And how many transactions one after the other.
const BATCHES: usize = 20;

/// No time here is longer, in milliseconds: a century. The server's own times end somewhere.
const LONGEST: i64 = 100 * 365 * 24 * 60 * 60 * 1000;

fn bounded(time: Duration) -> i64 {
    whole_millis(time).min(LONGEST)
}

/// What this instance knows of the log of events.
pub(super) struct Log {
    /// Moves when there are more events.
    moves: watch::Sender<u64>,
    /// There are events that somebody waits for, and that have no number yet.
    unnumbered: Notify,
    /// An event was written here since the last look at how many are kept.
    grown: AtomicBool,
    history: AtomicI64,
    ttl_ms: AtomicI64,
}

impl Default for Log {
    fn default() -> Self {
        let log = Self {
            moves: watch::Sender::new(0),
            unnumbered: Notify::new(),
            grown: AtomicBool::new(false),
            history: AtomicI64::new(0),
            ttl_ms: AtomicI64::new(0),
        };
        log.keep(Keep::default());
        log
    }
}

impl Log {
    fn keep(&self, keep: Keep) {
        self.history.store(i64::try_from(keep.history).unwrap_or(i64::MAX), Ordering::Release);
        self.ttl_ms.store(bounded(keep.ttl), Ordering::Release);
    }

    pub(super) fn moved(&self) {
        self.moves.send_modify(|moves| *moves = moves.wrapping_add(1));
    }

    pub(super) fn signal(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// Whether it has, since this was asked before.
    pub(super) fn has_grown(&self) -> bool {
        self.grown.swap(false, Ordering::AcqRel)
    }

    fn wrote(&self, awaited: bool) {
        self.grown.store(true, Ordering::Release);
        if awaited {
            self.unnumbered.notify_one();
        }
    }
}

impl Core {
    /// Gives numbers to events that somebody waits for, all that there are at a time.
    pub(super) async fn number_events(&self) {
        loop {
            self.log.unnumbered.notified().await;
            // What is not numbered now is by who reads next, or at the next sweep.
            while let Ok(rows) = self.link.step(&self.sql.number_events, &[]).await {
                let many = rows.first().and_then(|row| column::<i64>(row, "many")).unwrap_or(0);
                if many > 0 {
                    self.log.moved();
                }
                if many < i64::from(BATCH) {
                    break;
                }
            }
        }
    }

    /// Lets go of events that are too many or too old.
    pub(super) async fn trim_events(&self) {
        let of = |number: &AtomicI64| Value::Number(Some(number.load(Ordering::Acquire)));
        let values = [of(&self.log.history), of(&self.log.ttl_ms), Value::Int(BATCH)];
        for _ in 0..BATCHES {
            let Ok(rows) = self.link.step(&self.sql.trim_events, &values).await else { return };
            if rows.first().and_then(|row| column::<bool>(row, "more")) != Some(true) {
                return;
            }
        }
    }

    /// What a step with an event or cells came to.
    fn stepped(&self, rows: &[Row], with_event: bool) -> Result<bool, StoreError> {
        let row = rows.first().ok_or(StoreError::Unavailable)?;
        if with_event {
            self.log.wrote(column::<Option<bool>>(row, "awaited").flatten() == Some(true));
        }
        column(row, "done").ok_or(StoreError::Unavailable)
    }
}

fn values(advisory: bool, event: Option<Event>, puts: &[Put]) -> Vec<Value> {
    let mut values = vec![Value::flag(advisory)];
    values.extend(beside_values(event, puts));
    values
}

fn beside_values(event: Option<Event>, puts: &[Put]) -> [Value; 8] {
    let bits = |stamp: Owner| stamp.0.cast_signed();
    let to = |put: &Put| put.to.as_ref().map(|to| bits(to.stamp));
    let left = |put: &Put| put.to.as_ref().and_then(|to| to.left).map(bounded);
    let value = |put: &Put| put.to.as_ref().map(|to| Bytes::copy_from_slice(&to.value));
    [
        Value::Data(event.map(Bytes::from_owner)),
        Value::Numbers(puts.iter().map(|put| Some(i64::from(put.id.kind as u8))).collect()),
        Value::Ids(puts.iter().map(|put| put.id.name).collect()),
        Value::Numbers(puts.iter().map(|put| put.was.map(bits)).collect()),
        Value::Numbers(puts.iter().map(to).collect()),
        Value::Numbers(puts.iter().map(left).collect()),
        Value::Texts(puts.iter().map(value).collect()),
        Value::MaybeIds(puts.iter().map(|put| put.tell.map(|topic| topic.0)).collect()),
    ]
}

/// The cell in these columns, if there is one.
fn cell_in(row: &Row, stamp: &str, left: &str, value: &str) -> Option<Cell> {
    let left = column::<Option<i64>>(row, left)?.and_then(|left| u64::try_from(left).ok());
    Some(Cell {
        stamp: Owner(column::<i64>(row, stamp)?.cast_unsigned()),
        left: left.map(Duration::from_millis),
        value: column::<&[u8]>(row, value)?.into(),
    })
}

fn cell(row: &Row) -> Result<Cell, StoreError> {
    cell_in(row, "stamp", "left_ms", "value").ok_or(StoreError::Unavailable)
}

fn named(row: &Row) -> Result<(Name, Cell), StoreError> {
    let Uuid(name) = column(row, "name").ok_or(StoreError::Unavailable)?;
    Ok((name, cell(row)?))
}

/// The lease that a granted turn tells of.
pub(super) fn lease(row: &Row) -> Option<Cell> {
    cell_in(row, "lease_stamp", "lease_left", "lease_value")
}

fn kind_value(kind: Kind) -> Value {
    Value::Number(Some(i64::from(kind as u8)))
}

fn most_value(most: usize) -> Value {
    Value::Number(Some(i64::try_from(most).unwrap_or(i64::MAX)))
}

impl Postgres {
    /// A commit with cells or an event, or of a job.
    pub(super) fn commit_beside(&self, mut change: Change, now: Millis) -> Reply<bool> {
        let (event, cells) = (change.event.take(), std::mem::take(&mut change.cells));
        let (goes_out, ends_turn, with_event) = (change.goes_out(), change.turn.is_some(), event.is_some());
        let mut all = rows::commit_values(change, goes_out, now, self.core.instance().0);
        all.extend(values(self.core.advisory, event, &cells));
        self.step_beside(|sql| &sql.commit_beside, all, ends_turn, with_event)
    }

    pub(super) fn swap_beside(&self, swap: Swap) -> Reply<bool> {
        let Swap { puts, event, turn } = swap;
        let (ends_turn, with_event) = (turn.is_some(), event.is_some());
        let mut all = rows::turn_values(turn).to_vec();
        all.extend([Value::flag(self.core.advisory), Value::number(self.core.instance().0)]);
        all.extend(beside_values(event, &puts));
        self.step_beside(|sql| &sql.swap, all, ends_turn, with_event)
    }

    fn step_beside(
        &self,
        statement: fn(&sql::Sql) -> &str,
        values: Vec<Value>,
        ends_turn: bool,
        with_event: bool,
    ) -> Reply<bool> {
        let core = std::sync::Arc::clone(&self.core);
        Reply::later(async move {
            let statement = statement(&core.sql);
            let rows = match ends_turn {
                true => core.end_turn(statement, &values).await?,
                false => core.link.step(statement, &values).await?,
            };
            core.stepped(&rows, with_event)
        })
    }

    pub(super) fn cell_now(&self, id: CellId) -> Reply<Option<Cell>> {
        let values = vec![kind_value(id.kind), Value::id(id.name)];
        self.ask(|sql| &sql.cell, values, |_, rows| rows.first().map(cell).transpose())
    }

    pub(super) fn due_now(&self, kind: Kind, within: Duration, most: usize) -> Reply<Vec<(Name, Cell)>> {
        let values = vec![kind_value(kind), Value::Number(Some(bounded(within))), most_value(most)];
        self.ask(|sql| &sql.due, values, |_, rows| rows.iter().map(named).collect())
    }

    pub(super) fn of_kind(&self, kind: Kind, most: usize) -> Reply<Vec<(Name, Cell)>> {
        let listed = kind.listed().and_then(|bytes| i32::try_from(bytes).ok()).unwrap_or(i32::MAX);
        let values = vec![kind_value(kind), most_value(most), Value::Int(listed)];
        self.ask(|sql| &sql.cells, values, |_, rows| rows.iter().map(named).collect())
    }

    pub(super) fn keep(&self, keep: Keep) {
        self.core.log.keep(keep);
    }

    pub(super) fn end_of_log(&self) -> Reply<Place> {
        self.ask(
            |sql| &sql.last_event,
            Vec::new(),
            |_, rows| {
                let number = |name| column::<i64>(rows.first()?, name).map(i64::cast_unsigned);
                let place = number("epoch").zip(number("number"));
                let place = place.map(|(epoch, number)| Place { epoch, number });
                place.ok_or(StoreError::Unavailable)
            },
        )
    }

    pub(super) fn events_after(&self, after: Place, most: usize) -> Reply<Option<Vec<Event>>> {
        let most = Value::Int(i32::try_from(most).unwrap_or(i32::MAX));
        let values = vec![Value::number(after.epoch), Value::number(after.number), most];
        self.ask(|sql| &sql.events, values, move |_, rows| Ok(following(after, &rows)))
    }
}

/// The events that follow a place; `None` where the first of them is not there.
fn following(after: Place, rows: &[Row]) -> Option<Vec<Event>> {
    (after.number + 1..)
        .zip(rows)
        .map(|(number, row)| {
            let is_next = column::<i64>(row, "n")?.cast_unsigned() == number;
            is_next.then_some(Event::from(column::<&[u8]>(row, "value")?))
        })
        .collect()
}
