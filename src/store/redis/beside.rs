//! What stands beside the records: cells, and the log of events (`lua/cells.lua`, `lua/event.lua`).

use std::time::Duration;

use bytes::Bytes;

use super::script::{self, Call};
use super::steps::{self, millis};
use super::value::Said;
use super::{MOST, Redis};
use crate::protocol::record::{Millis, Owner};
use crate::store::cells::{Cell, CellId, Kind, Name, Put, Swap};
use crate::store::log::{Event, Place};
use crate::store::{Reply, StoreError};

/// What stands before the text of an event: when it was told.
const TOLD: usize = 8;

fn named(call: Call, id: CellId) -> Call {
    call.arg([&[id.kind as u8][..], &id.name].concat())
}

fn stamp(call: Call, stamp: Option<Owner>) -> Call {
    match stamp {
        Some(stamp) => call.arg(stamp.0.to_be_bytes()),
        None => call.arg(""),
    }
}

fn put(call: Call, put: &Put) -> Call {
    let call = stamp(named(call, put.id), put.was);
    let call = stamp(call, put.to.as_ref().map(|to| to.stamp));
    let call = match put.to.as_ref().and_then(|to| to.left) {
        Some(left) => call.number(millis(left)),
        None => call.arg(""),
    };
    let call = call.arg(put.to.as_ref().map_or(&[][..], |to| &to.value));
    call.arg(put.tell.as_ref().map_or(&[][..], |topic| &topic.0))
}

/// The last arguments of a step.
pub(super) fn puts(call: Call, puts: &[Put]) -> Call {
    puts.iter().fold(call, put)
}

/// An event and how many of them are kept, or none.
pub(super) fn event(call: Call, event: Option<&Event>, history: usize, now: Millis) -> Call {
    let call = match event {
        Some(event) => call.bytes(Bytes::from([&now.to_be_bytes()[..], event].concat())),
        None => call.arg(""),
    };
    call.number(history as u64)
}

/// Cells that are swapped without a record.
pub(super) fn swap(swap: &Swap, history: usize, now: Millis) -> Call {
    let call = steps::turn(Call::of(&script::SWAP).number(now), swap.turn.as_ref());
    puts(event(call, swap.event.as_ref(), history, now), &swap.puts).durable(true)
}

/// The next three of an answer.
pub(super) fn cell(said: &mut impl Iterator<Item = Said>) -> Option<Cell> {
    let stamp = Owner(said.next()?.eight()?);
    let left = said.next()?.signed()?;
    let value = said.next()?.bytes()?;
    Some(Cell { stamp, left: u64::try_from(left).ok().map(Duration::from_millis), value: value[..].into() })
}

fn cell_of_kind(said: Said) -> Option<(Name, Cell)> {
    let mut said = said.list()?.map(Said);
    let name = Name::try_from(&said.next()?.bytes()?[..]).ok()?;
    Some((name, cell(&mut said)?))
}

impl Redis {
    pub(super) fn cell_now(&self, id: CellId) -> Reply<Option<Cell>> {
        self.ask(named(Call::of(&script::CELL), id), |said, _| match said.is_nothing() {
            true => Some(None),
            false => Some(Some(cell(&mut said.list()?.map(Said))?)),
        })
    }

    /// Cells of a kind, the soonest first.
    pub(super) fn of_kind(
        &self,
        kind: Kind,
        within: Option<Duration>,
        most: usize,
    ) -> Reply<Vec<(Name, Cell)>> {
        if most == 0 {
            return Reply::now(Ok(Vec::new()));
        }
        let call = Call::of(&script::KIND).arg([kind as u8]);
        let call = match within {
            Some(within) => call.number(millis(within)),
            None => call.arg(""),
        };
        let call = call.number(most.min(MOST) as u64);
        let call = match kind.listed().filter(|_| within.is_none()) {
            Some(bytes) => call.number(bytes as u64),
            None => call.arg(""),
        };
        self.ask(call, |said, _| said.list()?.map(|one| cell_of_kind(Said(one))).collect())
    }

    /// Events behind a place; those of another epoch are of another history.
    pub(super) fn events_after(&self, after: Place, most: usize) -> Reply<Option<Vec<Event>>> {
        match self.link.live() {
            Ok(live) if live.epoch != after.epoch => return Reply::now(Ok(None)),
            Ok(_) => {}
            Err(error) => return Reply::now(Err::<_, StoreError>(error)),
        }
        let call = Call::of(&script::EVENTS).number(after.number).number(most.min(MOST) as u64);
        self.ask(call, move |said, epoch| {
            if said.is_nothing() || epoch != after.epoch {
                return Some(None);
            }
            let told = said.list()?.map(|one| Some(Event::from(Said(one).bytes()?.get(TOLD..)?)));
            Some(Some(told.collect::<Option<_>>()?))
        })
    }
}
