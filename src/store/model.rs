//! A store so plain that it can be read at a glance: what the others are compared with, and what the simulation runs
//! on. No locks but one, no limits, and everything in it can be copied: a copy is what a disk would hold.

pub(crate) mod across;
mod asked;

use std::collections::BTreeMap;

use tokio::sync::watch;

use self::across::Across;
pub(crate) use self::asked::{Ask, AtOnce};
use super::cells::{Cells, Fit, Swap};
use super::minted::Number;
use super::shared::Instance;
use super::unsettled::follow;
use super::{Answer, Change, Claimed, Encoded, Event, Move, Place, Resolution, Set};
use crate::protocol::record::{Millis, Phase, Record, RecordId, ResourceId, State, Step, step};

/// A record with its answer.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) record: Record,
    answer: Option<Encoded>,
    /// Who runs it, or ran it last.
    by: Instance,
}

/// Everything it holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<RecordId, Row>,
    /// Of each minted version, when it moves, and where to.
    moves: BTreeMap<[u8; 16], Vec<(Millis, Number)>>,
    resolutions: Vec<Resolution>,
    numbers: Number,
    fences: u64,
    /// What became of records since somebody looked.
    pub(crate) steps: Vec<Moved>,
    pub(crate) bent: Option<Bent>,
    /// Claims that a bent store did not take down.
    untold: Vec<Record>,
    pub(crate) across: Across,
    pub(super) cells: Cells,
    /// All that was ever told, from number 1.
    pub(crate) told: Vec<Event>,
    /// How many of them may still be read.
    pub(super) history: Option<usize>,
    pub(super) signal: watch::Sender<u64>,
}

/// A record went from one phase to another; `None`: it is not there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) id: RecordId,
    pub(crate) from: Option<Phase>,
    pub(crate) to: Option<Phase>,
}

/// A known-bad store: a simulation has to catch each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bent {
    /// A claim is taken down with its end.
    ClaimsAtTheEnd,
    /// A key with an unknown outcome is free.
    UnknownIsAbsent,
    /// "Forwarded" does not outlive the process.
    ForgetsForwarded,
}

impl Model {
    pub(crate) fn claim(&mut self, id: RecordId, record: Record, by: Instance, now: Millis) -> Claimed {
        if self.bent == Some(Bent::UnknownIsAbsent) && self.phase(id) == Some(Phase::Unknown) {
            self.rows.remove(&id);
        }
        if let Some(standing) = self.read(id, now) {
            return Claimed::Taken { standing: Box::new(standing), yours: Box::new(record) };
        }
        if self.bent == Some(Bent::ClaimsAtTheEnd) {
            self.untold.push(record);
            return Claimed::New;
        }
        let goes_out = record.state.phase() == Phase::Forwarded;
        self.steps.push(Moved { id, from: None, to: Some(record.state.phase()) });
        self.rows.insert(id, Row { record, answer: None, by });
        if goes_out {
            self.follow(id);
        }
        Claimed::New
    }

    pub(crate) fn read(&self, id: RecordId, now: Millis) -> Option<Record> {
        self.rows.get(&id).map(|row| &row.record).filter(|record| !record.is_expired(now)).cloned()
    }

    pub(crate) fn phase(&self, id: RecordId) -> Option<Phase> {
        self.rows.get(&id).map(|row| row.record.state.phase())
    }

    pub(crate) fn answer(&self, id: RecordId) -> Option<Answer> {
        self.rows.get(&id)?.answer.clone().and_then(|answer| Answer::decode(answer.into_bytes()))
    }

    pub(crate) fn commit(&mut self, change: Change, by: Instance, now: Millis) -> bool {
        if let Some(at) = self.untold.iter().position(|record| record.owner == change.owner) {
            match change.set {
                Set::State(State::Forwarded { .. }) => return true,
                Set::State(_) | Set::Replace(_) | Set::Remove => {
                    let state = State::Forwarded { mark: None, status: None };
                    let record = Record { state, ..self.untold.remove(at) };
                    self.rows.insert(change.id, Row { record, answer: None, by });
                }
            }
        }
        let (id, from) = (change.id, self.phase(change.id));
        let turn = change.turn;
        let done = self.commit_now(change, by, now);
        if let Some(end) = turn {
            self.end_turn(end, now);
        }
        let to = self.phase(id);
        self.tell(id, to);
        if from != to || from == Some(Phase::Done) {
            self.steps.push(Moved { id, from, to });
        }
        done
    }

    fn commit_now(&mut self, change: Change, by: Instance, now: Millis) -> bool {
        let goes_out = change.goes_out();
        let Change { id, owner, before, set, answer, version, resolution, turn: _, cells, event } = change;
        match step(self.rows.get(&id).map(|row| &row.record), owner, before, &set) {
            Step::Apply => {}
            Step::Already => return true,
            Step::Lost => return false,
        }
        if self.cells.fit(&cells) == Fit::Lost {
            return false;
        }
        match (set, self.rows.get_mut(&id)) {
            (Set::Remove, _) => drop(self.rows.remove(&id)),
            (Set::State(state), Some(row)) => {
                row.record.state = state.after(&row.record.state);
                row.answer = answer;
            }
            (Set::Replace(record), Some(row)) => {
                let state = record.state.after(&row.record.state);
                *row = Row { record: Record { state, ..record }, answer, by };
            }
            (Set::State(_) | Set::Replace(_), None) => return false,
        }
        if goes_out {
            self.follow(id);
        }
        if let Some(to) = version {
            self.move_version(to, now);
        }
        self.resolutions.splice(0..0, resolution);
        self.cells.apply(&cells, now);
        self.tell_of(&cells);
        self.tells(event);
        true
    }

    fn tells(&mut self, event: Option<Event>) {
        self.told.extend(event);
        self.signal.send_replace(self.told.len() as u64);
    }

    pub(super) fn since(&self, after: Place, most: usize) -> Option<Vec<Event>> {
        let number = usize::try_from(after.number).ok()?;
        let before = self.told.len().saturating_sub(self.history.unwrap_or(usize::MAX));
        let told = self.told.get(number..).filter(|_| after.epoch == 0 && number >= before)?;
        Some(told.iter().take(most).cloned().collect())
    }

    pub(crate) fn swap(&mut self, swap: Swap, now: Millis) -> bool {
        let fit = self.cells.fit(&swap.puts);
        if fit == Fit::Apply {
            self.cells.apply(&swap.puts, now);
            self.tell_of(&swap.puts);
            self.tells(swap.event);
        }
        if let Some(end) = swap.turn {
            self.end_turn(end, now);
        }
        fit != Fit::Lost
    }

    /// A write goes out: every other of its resource that is unknown, or was, is not the last one any more (K12).
    fn follow(&mut self, id: RecordId) {
        let Some(resource) = self.rows.get(&id).map(|row| row.record.resource.clone()) else { return };
        for (other, row) in &mut self.rows {
            if *other != id && row.record.resource == resource {
                follow(&mut row.record);
            }
        }
    }

    fn number(&mut self) -> Number {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn fence(&mut self) -> u64 {
        self.fences += 1;
        self.fences
    }

    pub(crate) fn move_version(&mut self, to: Move, now: Millis) {
        let mut moves = self.moves.remove(&to.resource.0).unwrap_or_default();
        if to.ends_rest {
            moves.retain(|(at, _)| *at <= now);
        }
        moves.push((now, to.to));
        moves.extend(to.later);
        let stands = moves.iter().filter(|(at, _)| *at <= now).map(|(_, number)| *number).max().unwrap_or(0);
        // Numbers are given in another order than they are due, and none goes back.
        for (_, number) in moves.iter_mut().filter(|(at, number)| *at > now && *number < stands) {
            *number = self.number();
        }
        self.moves.insert(to.resource.0, moves);
    }

    fn minted(&self, resource: ResourceId, now: Millis) -> Box<str> {
        let moves = self.moves.get(&resource.0).into_iter().flatten();
        tag(resource, moves.filter(|(at, _)| *at <= now).map(|(_, number)| *number).max().unwrap_or(0))
    }

    fn resolutions(&self, id: RecordId, now: Millis) -> Vec<Resolution> {
        let kept = self.resolutions.iter().filter(|one| one.id == id && one.expires_at > now);
        kept.cloned().collect()
    }

    fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Vec<(RecordId, Record)> {
        let live = self.rows.iter().map(|(id, row)| (*id, &row.record)).filter(|(_, record)| {
            !record.is_expired(now) && phase.is_none_or(|phase| record.state.phase() == phase)
        });
        live.take(most).map(|(id, record)| (id, record.clone())).collect()
    }

    /// What is there after a crash: a claim that nothing went out for was never stored (invariant 6).
    pub(crate) fn crash(&mut self) {
        let forgets = self.bent == Some(Bent::ForgetsForwarded);
        self.rows.retain(|_, row| match row.record.state.phase() {
            Phase::Claimed => false,
            Phase::Forwarded => !forgets,
            Phase::Queued | Phase::Done | Phase::Unknown => true,
        });
        self.untold.clear();
        // Reserved ahead, and given up with the process.
        self.numbers += 100;
        self.fences += 100;
    }
}

fn tag(resource: ResourceId, number: Number) -> Box<str> {
    let digest = u128::from_be_bytes(resource.0) >> 72;
    format!("\"m.{number:x}.{digest:x}\"").into()
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{Case, on_each_case, on_each_cell_case};
    use super::AtOnce;

    on_each_case!((Case { store: AtOnce::store(), now: 1_000_000 }, ()));
    on_each_cell_case!((Case { store: AtOnce::store(), now: 1_000_000 }, ()));
}
