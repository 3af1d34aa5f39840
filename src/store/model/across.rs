//! What the model knows of instances: who is alive, whose turn it is, who waits, and who is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Model;
use crate::protocol::record::{Millis, Owner, Phase, Record, RecordId, ResourceId};
use crate::store::shared::{
    Also, Beside, BusyResource, Grant, Instance, Lapsed, News, TurnEnd, Turned, Wish,
};
use crate::store::{CellId, Claimed, Put};

/// How long an instance whose time it is has the first word.
const OFFER: Millis = 1000;

/// News, and whom it is for; `None`: all.
pub(crate) type Letter = (Option<Instance>, News);

#[derive(Debug, Clone, Default)]
pub(crate) struct Across {
    alive: BTreeMap<Instance, Millis>,
    turns: BTreeMap<[u8; 16], Place>,
    watched: BTreeSet<RecordId>,
    pub(crate) outbox: Vec<Letter>,
}

/// One resource.
#[derive(Debug, Clone, Default)]
struct Place {
    name: Box<str>,
    held: Option<(Owner, Instance, Grant)>,
    rest_until: Millis,
    line: VecDeque<Instance>,
    /// Until when the head of the line has the first word, once it was told.
    offer_until: Option<Millis>,
}

impl Place {
    fn is_idle(&self, now: Millis) -> bool {
        self.held.is_none() && self.rest_until <= now && self.line.is_empty()
    }

    fn join(&mut self, by: Instance) {
        if !self.line.contains(&by) {
            self.line.push_back(by);
        }
    }
}

impl Model {
    /// A life begins.
    pub(crate) fn begin_life(&mut self, by: Instance, until: Millis) {
        self.across.alive.insert(by, until);
    }

    /// Whether the instance may begin anything: what a dead one began nobody would settle. Alone one always may.
    pub(super) fn may_begin(&self, by: Option<Instance>, now: Millis) -> bool {
        by.is_none_or(|by| self.across.alive.get(&by).is_some_and(|until| *until > now))
    }

    /// Whether the instance is alive still; then it is until then.
    pub(crate) fn renew(&mut self, by: Instance, now: Millis, until: Millis) -> bool {
        let Some(standing) = self.across.alive.get_mut(&by).filter(|standing| **standing > now) else {
            return false;
        };
        *standing = until;
        true
    }

    pub(super) fn claim_beside(
        &mut self,
        id: RecordId,
        record: Record,
        beside: Beside,
        by: Instance,
        now: Millis,
    ) -> (Claimed, Option<Also>) {
        let claimed = self.claim(id, record, by, now);
        let also = matches!(claimed, Claimed::New).then(|| match beside {
            Beside::Turn(wish) => Also::Turned(self.take_turn(wish, by, now)),
            Beside::Lease(resource) => {
                Also::Lease(self.cells.get(CellId::lease(resource)).map(|cell| cell.at(now)))
            }
        });
        (claimed, also)
    }

    pub(crate) fn take_turn(&mut self, wish: Wish, by: Instance, now: Millis) -> Turned {
        let Wish { resource, name, token } = wish;
        let mut place = self.across.turns.remove(&resource.0).unwrap_or_default();
        place.name = name;
        let turned = self.turn_of(&mut place, resource, token, by, now);
        self.across.turns.insert(resource.0, place);
        turned
    }

    fn turn_of(
        &mut self,
        place: &mut Place,
        resource: ResourceId,
        token: Owner,
        by: Instance,
        now: Millis,
    ) -> Turned {
        match &place.held {
            Some((held, _, grant)) if *held == token => return Turned::Granted(grant.clone()),
            Some(_) => {
                place.join(by);
                return Turned::Busy;
            }
            None if place.rest_until > now => {
                return Turned::Rests(Duration::from_millis(place.rest_until - now));
            }
            None => {}
        }
        while let Some(head) = place.line.front().copied().filter(|head| *head != by) {
            let is_alive = self.across.alive.get(&head).is_some_and(|until| *until > now);
            if is_alive && place.offer_until.is_none_or(|until| until > now) {
                if place.offer_until.is_none() {
                    place.offer_until = Some(now + OFFER);
                    self.across.outbox.push((Some(head), News::Freed(resource)));
                }
                place.join(by);
                return Turned::Busy;
            }
            place.line.pop_front();
            place.offer_until = None;
        }
        place.line.pop_front();
        place.offer_until = None;
        let minted = self.minted(resource, now);
        let lease = self.cells.get(CellId::lease(resource)).map(|cell| cell.at(now));
        let grant = Grant { fence: self.fence(), minted, numbers: [self.number(), self.number()], lease };
        place.held = Some((token, by, grant.clone()));
        Turned::Granted(grant)
    }

    pub(super) fn end_turn(&mut self, end: TurnEnd, now: Millis) {
        let TurnEnd { resource, token, rest } = end;
        let Some(place) = self.across.turns.get_mut(&resource.0) else { return };
        if place.held.as_ref().is_none_or(|(held, ..)| *held != token) {
            return;
        }
        place.held = None;
        if let Some(rest) = rest {
            let rest = Millis::try_from(rest.as_millis()).unwrap_or(Millis::MAX);
            place.rest_until = place.rest_until.max(now.saturating_add(rest));
        }
        self.offer(resource, now);
    }

    /// Tells the head of the line that it may ask, unless the resource rests: then all ask again by themselves.
    fn offer(&mut self, resource: ResourceId, now: Millis) {
        let Across { turns, outbox, .. } = &mut self.across;
        let Some(place) = turns.get_mut(&resource.0) else { return };
        place.offer_until = None;
        if place.held.is_none()
            && place.rest_until <= now
            && let Some(head) = place.line.front()
        {
            place.offer_until = Some(now + OFFER);
            outbox.push((Some(*head), News::Freed(resource)));
        }
        if place.is_idle(now) {
            turns.remove(&resource.0);
        }
    }

    pub(super) fn leave_line(&mut self, resource: ResourceId, by: Instance, now: Millis) {
        let Some(place) = self.across.turns.get_mut(&resource.0) else { return };
        let was_head = place.line.front() == Some(&by);
        place.line.retain(|other| *other != by);
        if was_head {
            self.offer(resource, now);
        }
    }

    pub(super) fn end_rest(&mut self, resource: ResourceId, now: Millis) {
        if let Some(place) = self.across.turns.get_mut(&resource.0) {
            place.rest_until = 0;
            self.offer(resource, now);
        }
    }

    pub(crate) fn busy(&self, most: usize, now: Millis) -> Vec<BusyResource> {
        let busy = self.across.turns.values().filter(|place| !place.is_idle(now)).map(|place| BusyResource {
            name: place.name.clone(),
            in_flight: place.held.is_some(),
            rest: place.rest_until.checked_sub(now).filter(|left| *left > 0).map(Duration::from_millis),
        });
        busy.take(most).collect()
    }

    pub(super) fn watch(&mut self, id: RecordId, now: Millis) -> Option<Record> {
        let record = self.read(id, now);
        if record.as_ref().is_some_and(|r| matches!(r.state.phase(), Phase::Claimed | Phase::Forwarded)) {
            self.across.watched.insert(id);
        }
        record
    }

    /// A record stands there now, or none does.
    pub(super) fn tell(&mut self, id: RecordId, to: Option<Phase>) {
        let ended = matches!(to, None | Some(Phase::Done | Phase::Unknown));
        if ended && self.across.watched.remove(&id) {
            self.across.outbox.push((None, News::Ended(id)));
        }
    }

    /// Who waits for what was swapped is told.
    pub(super) fn tell_of(&mut self, puts: &[Put]) {
        let told = puts.iter().filter_map(|put| put.tell);
        self.across.outbox.extend(told.map(|topic| (None, News::Told(topic))));
    }

    pub(super) fn lapsed(&self, now: Millis) -> Vec<Lapsed> {
        let lapsed = self.across.alive.iter().filter(|(_, until)| **until <= now);
        lapsed
            .map(|(instance, until)| Lapsed { instance: *instance, ago: Duration::from_millis(now - *until) })
            .collect()
    }

    pub(super) fn left_by(&self, instance: Instance, most: usize) -> Vec<(RecordId, Record)> {
        let open = self.rows.iter().filter(|(_, row)| {
            row.by == instance && matches!(row.record.state.phase(), Phase::Claimed | Phase::Forwarded)
        });
        open.take(most).map(|(id, row)| (*id, row.record.clone())).collect()
    }

    pub(super) fn bury(&mut self, instance: Instance, now: Millis) {
        let held = self.across.turns.iter().filter_map(|(resource, place)| {
            let (token, by, _) = place.held.as_ref()?;
            (*by == instance).then_some(TurnEnd {
                resource: ResourceId(*resource),
                token: *token,
                rest: None,
            })
        });
        for end in held.collect::<Vec<_>>() {
            self.end_turn(end, now);
        }
        let waits: Vec<_> = self.across.turns.keys().copied().collect();
        for resource in waits {
            self.leave_line(ResourceId(resource), instance, now);
        }
        if self.left_by(instance, 1).is_empty() {
            self.across.alive.remove(&instance);
        }
    }
}
