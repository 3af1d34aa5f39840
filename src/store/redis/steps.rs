//! How steps are asked for, and what their answers say.

use bytes::Bytes;

use super::beside;
use super::script::{self, Call};
use super::value::{self, Said};
use crate::protocol::record::{Before, Millis, Phase, RecordId, Set, State};
use crate::store::disk::format;
use crate::store::shared::{Grant, Instance, TurnEnd, Turned, Wish};
use crate::store::{Change, Move, minted};
use std::time::Duration;

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn id(call: Call, id: RecordId) -> Call {
    call.arg(id.to_text())
}

pub(super) fn instance(call: Call, instance: Instance) -> Call {
    call.arg(instance.0.to_be_bytes())
}

/// A step of a record, with all that goes with it. `holder`: whose it is if it begins to run now; `history`: how many
/// events are kept.
pub(super) fn commit(change: &Change, holder: Instance, history: usize, now: Millis) -> Call {
    let before = match change.before {
        Before::Claimed => "C",
        Before::Queued => "Q",
        Before::Forwarded => "F",
        Before::Running => "R",
        Before::Unknown => "U",
    };
    let call =
        id(Call::of(&script::COMMIT), change.id).number(now).arg(change.owner.0.to_be_bytes()).arg(before);
    let call = match &change.set {
        Set::State(state) => state_of(instance(call.arg("S"), holder), state),
        Set::Replace(record) => {
            let value = Bytes::from(value::encode(record, holder));
            instance(call.arg("R"), holder).arg("").arg("").bytes(value)
        }
        Set::Remove => instance(call.arg("X"), holder).arg("").arg("").arg(""),
    };
    let answer = change.answer.clone().map(crate::store::Encoded::into_bytes).unwrap_or_default();
    let call = call.bytes(answer).number(kept_for(&change.set, now)).flag(change.goes_out());
    let call = if is_alone(change) { call } else { rest(call, change, history, now) };
    call.durable(must_be_durable(&change.set))
}

/// Whether nothing goes with it.
fn is_alone(change: &Change) -> bool {
    let Change { version, turn, resolution, event, cells, .. } = change;
    version.is_none() && turn.is_none() && resolution.is_none() && event.is_none() && cells.is_empty()
}

fn rest(call: Call, change: &Change, history: usize, now: Millis) -> Call {
    let call = version(call, change.version.as_ref());
    let call = turn(call, change.turn.as_ref());
    let call = match &change.resolution {
        Some(resolution) => {
            let word =
                [&resolution.expires_at.to_be_bytes()[..], &format::encode_resolution(resolution)].concat();
            call.bytes(Bytes::from(word)).number(resolution.expires_at.saturating_sub(now).max(1))
        }
        None => call.arg("").arg("0"),
    };
    let call = beside::event(call, change.event.as_ref(), history, now);
    beside::puts(call, &change.cells)
}

fn state_of(call: Call, state: &State) -> Call {
    call.arg(value::head(state)).arg(value::expiry(state)).bytes(value::state(state))
}

fn kept_for(set: &Set, now: Millis) -> Millis {
    match set {
        Set::State(state) => value::life(state, now),
        Set::Replace(record) => value::life(&record.state, now),
        Set::Remove => 0,
    }
}

/// What somebody outside may build on. A key that is freed and then lost is unknown, which is no harm.
fn must_be_durable(set: &Set) -> bool {
    let state = match set {
        Set::State(state) => state,
        Set::Replace(record) => &record.state,
        Set::Remove => return false,
    };
    match state.phase() {
        Phase::Queued | Phase::Forwarded | Phase::Done | Phase::Unknown => true,
        Phase::Claimed => false,
    }
}

fn version(call: Call, to: Option<&Move>) -> Call {
    match to {
        Some(to) => moved(call, to),
        None => call.arg("").arg("").arg("").arg("").arg(""),
    }
}

pub(super) fn moved(call: Call, to: &Move) -> Call {
    let (at, later) = to.later.unwrap_or_default();
    call.arg(to.resource.0).number(to.to).number(at).number(later).flag(to.ends_rest)
}

pub(super) fn turn(call: Call, end: Option<&TurnEnd>) -> Call {
    match end {
        Some(end) => ended(call, end),
        None => call.arg("").arg("").arg("0"),
    }
}

pub(super) fn ended(call: Call, end: &TurnEnd) -> Call {
    call.arg(end.resource.0).arg(end.token.0.to_be_bytes()).number(end.rest.map_or(0, millis))
}

/// What became of a wish for a turn, in `epoch`.
pub(super) fn turned(said: Said, wish: &Wish, epoch: u64) -> Option<Turned> {
    let mut said = said.list()?.map(Said);
    match said.next()?.number()? {
        0 => {
            let (fence, first, at) = (said.next()?.number()?, said.next()?.number()?, said.next()?.number()?);
            let minted = minted::tag_of(epoch, wish.resource, at);
            let lease = if said.len() == 0 { None } else { Some(beside::cell(&mut said)?) };
            Some(Turned::Granted(Grant { fence, minted, numbers: [first, first + 1], lease }))
        }
        1 => Some(Turned::Busy),
        2 => Some(Turned::Rests(Duration::from_millis(said.next()?.number()?))),
        _ => None,
    }
}
