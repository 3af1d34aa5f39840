//! Deliveries that are on this instance's channels and were neither acknowledged nor given back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use lapin::message::Delivery;
use lapin::{Acker, BasicProperties};
use parking_lot::Mutex;

use super::super::super::source::{Busy, Content, Identity, Offer};
use super::name::{Name, Numbers};

/// One delivery.
pub(super) struct Held {
    pub(super) acker: Acker,
    pub(super) properties: BasicProperties,
    name: Name,
    /// The broker never delivered it before.
    is_new: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Hands(Mutex<State>);

#[derive(Default)]
struct State {
    /// A queue may hold several messages with one id.
    held: HashMap<Identity, Vec<Held>>,
    numbers: Numbers,
    /// What came while somebody waited, and was not asked for yet.
    came: Vec<Offer>,
}

impl State {
    /// What was on a channel that has ended is the broker's again.
    fn let_go(&mut self) {
        let Self { held, numbers, came } = self;
        held.retain(|identity, deliveries| {
            deliveries.retain(|delivery| {
                let stands = delivery.acker.usable();
                if !stands {
                    numbers.went_back(identity, &delivery.name);
                }
                stands
            });
            !deliveries.is_empty()
        });
        came.retain(|offer| held.contains_key(&offer.identity));
    }

    fn receive(&mut self, delivery: Delivery, asked: Instant) -> Offer {
        let Delivery { properties, data, acker, redelivered, .. } = delivery;
        let name = Name::of(&properties, &data);
        let Self { held, numbers, .. } = self;
        let identity = numbers.name(&name, redelivered, |identity| held.contains_key(identity));
        let delivery = Held { acker, properties, name, is_new: !redelivered };
        held.entry(Identity::clone(&identity)).or_default().push(delivery);
        Offer { identity, content: Content::Bytes(data.into()), asked, hold: None }
    }
}

impl Hands {
    /// A delivery that was asked for at that time.
    pub(super) fn receive(&self, delivery: Delivery, asked: Instant) -> Offer {
        let mut state = self.0.lock();
        state.let_go();
        state.receive(delivery, asked)
    }

    /// A delivery that came to who waits.
    pub(super) fn came(&self, delivery: Delivery) -> Identity {
        let mut state = self.0.lock();
        state.let_go();
        let offer = state.receive(delivery, Instant::now());
        let identity = Identity::clone(&offer.identity);
        state.came.push(offer);
        identity
    }

    /// What came and was not asked for yet, up to so many.
    pub(super) fn waiting(&self, most: usize) -> Vec<Offer> {
        let mut state = self.0.lock();
        if state.came.is_empty() {
            return Vec::new();
        }
        state.let_go();
        let many = most.min(state.came.len());
        state.came.drain(..many).collect()
    }

    /// Whether something came that was not asked for yet.
    pub(super) fn is_waiting(&self) -> bool {
        !self.0.lock().came.is_empty()
    }

    /// Nobody asked for it: whether it is so.
    pub(super) fn forget(&self, identity: &str) -> bool {
        let mut state = self.0.lock();
        let before = state.came.len();
        state.came.retain(|offer| &*offer.identity != identity);
        state.came.len() < before
    }

    /// Gives new messages another name where one that is equal has theirs.
    pub(super) fn rename(&self, offers: &mut [Offer], busy: &dyn Busy) {
        for offer in offers {
            while busy.is_busy(&offer.identity) {
                let Some(other) = self.other(&offer.identity) else { break };
                offer.identity = other;
            }
        }
    }

    /// The same for one that was offered: it comes under another name to who asks next.
    pub(super) fn offer_anew(&self, identity: &str, content: &Content) -> bool {
        let Some(identity) = self.other(identity) else { return false };
        let offer = Offer { identity, content: content.clone(), asked: Instant::now(), hold: None };
        self.0.lock().came.push(offer);
        true
    }

    /// Another name for a message without an id that was never delivered before.
    fn other(&self, identity: &str) -> Option<Identity> {
        let mut state = self.0.lock();
        let State { held, numbers, .. } = &mut *state;
        let deliveries = held.get_mut(identity)?;
        let at = deliveries
            .iter()
            .position(|delivery| delivery.is_new && matches!(delivery.name, Name::Digest(_)))?;
        let delivery = deliveries.swap_remove(at);
        if deliveries.is_empty() {
            held.remove(identity);
        }
        let other = numbers.name(&delivery.name, false, |identity| held.contains_key(identity));
        held.entry(Identity::clone(&other)).or_default().push(delivery);
        Some(other)
    }

    /// Takes a task's deliveries out of hand; what becomes of them is up to the caller.
    pub(super) fn take(self: &Arc<Self>, identity: &str) -> Option<Out> {
        let mut state = self.0.lock();
        state.let_go();
        let (identity, deliveries) = state.held.remove_entry(identity)?;
        drop(state);
        Some(Out { hands: Arc::clone(self), identity, deliveries })
    }

    /// Which tasks are in hand.
    pub(super) fn all(&self) -> Vec<Identity> {
        let mut state = self.0.lock();
        if state.held.is_empty() {
            return Vec::new();
        }
        state.let_go();
        state.held.keys().cloned().collect()
    }

    pub(super) fn has(&self, identity: &str) -> bool {
        self.0.lock().held.contains_key(identity)
    }
}

/// Deliveries of a task on their way to the broker. What is left when it is dropped is in hand again.
pub(super) struct Out {
    hands: Arc<Hands>,
    identity: Identity,
    deliveries: Vec<Held>,
}

impl Out {
    pub(super) fn first(&self) -> Option<&Held> {
        self.deliveries.first()
    }

    /// The next one, still in here until [`Out::told`].
    pub(super) fn next(&self) -> Option<Acker> {
        self.deliveries.last().map(|delivery| delivery.acker.clone())
    }

    /// The broker was told of the next one; `back`: it has it again.
    pub(super) fn told(&mut self, back: bool) {
        let Some(delivery) = self.deliveries.pop() else { return };
        if back {
            self.hands.0.lock().numbers.went_back(&self.identity, &delivery.name);
        }
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        if self.deliveries.is_empty() {
            return;
        }
        let mut state = self.hands.0.lock();
        let held = state.held.entry(Identity::clone(&self.identity)).or_default();
        held.append(&mut self.deliveries);
    }
}
