//! Who is told of events on this instance (E1, E2).
//!
//! 1. One task follows the store's log as long as somebody reads or waits, see [`Gate::follow_events`].
//! 2. An event that somebody wants is written out once, and that is shared by all who want it. Readers of a resource
//!    are found by its name, so that they cost nothing for events of others.
//! 3. Each reader has a line of its own, of a fixed length. Whoever does not keep up is cut off and may resume; nobody
//!    waits for a reader, and no writer for this.

mod reader;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Gate;
use crate::http::timestamp::now;
use crate::observe::Metrics;
use crate::protocol::event::Event;
use crate::protocol::record::ResourceId;
use crate::store::cells::Topic;
use crate::store::{Bells, Keep, Listening, Place};

pub(crate) use reader::{Behind, Filter, Reader, Seat, place_of, shown_place};

/// Events that are read from the store at once.
pub(super) const BATCH: usize = 64;
/// A net under the store's signal, nothing that anybody has to wait for.
const NET: Duration = Duration::from_secs(1);
/// However little is to be held, those who read now must come to see it.
const LEAST_KEPT: Keep = Keep { history: 1024, ttl: Duration::from_secs(10) };

/// Readers, and where they are in the log.
pub struct Hub {
    state: Mutex<State>,
    /// The number of the last event that was given out.
    given: AtomicU64,
    /// Reads that wait for a change.
    waiting: AtomicUsize,
    waits: Bells,
    /// Rings when there is somebody to follow the log for.
    wanted: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// Who reads or waits, or is about to.
    seats: usize,
    /// Behind the last event that was given out; `None` as long as nobody is there.
    at: Option<Place>,
    /// A shutdown began: nobody comes in any more.
    closed: bool,
    next_name: u64,
    of_all: Vec<Arc<Reader>>,
    by_resource: HashMap<Box<str>, Vec<Arc<Reader>>>,
}

impl State {
    fn add(&mut self, reader: &Arc<Reader>) {
        match reader.resources() {
            None => self.of_all.push(Arc::clone(reader)),
            Some(resources) => {
                for resource in resources {
                    self.by_resource.entry(resource.clone()).or_default().push(Arc::clone(reader));
                }
            }
        }
    }

    fn remove(&mut self, name: u64, resources: Option<&[Box<str>]>) {
        let Some(resources) = resources else {
            self.of_all.retain(|reader| reader.name != name);
            return;
        };
        for resource in resources {
            if let Some(readers) = self.by_resource.get_mut(resource) {
                readers.retain(|reader| reader.name != name);
                if readers.is_empty() {
                    self.by_resource.remove(resource);
                }
            }
        }
    }

    fn remove_all(&mut self) {
        self.of_all.clear();
        self.by_resource.clear();
    }
}

impl Hub {
    /// Nobody is there yet.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            given: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            waits: Bells::default(),
            wanted: Notify::new(),
            metrics: Arc::clone(metrics),
        })
    }

    /// A seat among at most so many; `None`: all are taken.
    pub(crate) fn seat(self: &Arc<Self>, most: usize) -> Option<Seat> {
        let mut state = self.state.lock();
        if state.seats >= most {
            return None;
        }
        state.seats += 1;
        state.next_name += 1;
        self.metrics.event_readers.inc();
        Some(Seat::new(Arc::clone(self), state.next_name))
    }

    /// Somebody left.
    fn left(&self, name: u64, resources: Option<&[Box<str>]>) {
        let mut state = self.state.lock();
        state.remove(name, resources);
        state.seats -= 1;
        if state.seats == 0 {
            state.at = None;
        }
        drop(state);
        self.metrics.event_readers.dec();
    }

    /// From here on the log is followed, if it is not already. `end`: of the log, from after the seat was taken.
    pub(crate) fn follow(&self, end: Place) {
        let mut state = self.state.lock();
        if state.at.is_none() {
            state.at = Some(end);
            self.given.store(end.number, Ordering::Release);
            drop(state);
            self.wanted.notify_one();
        }
    }

    /// Gives a reader all events behind this place from now on.
    ///
    /// # Errors
    /// Where some of them were given out already, and have to be read from the store; or nobody comes in any more.
    fn join(&self, reader: Reader, has: Place) -> Result<(), Behind> {
        let mut state = self.state.lock();
        // Who left meanwhile would never be removed again.
        if state.closed || reader.has_left() {
            return Err(Behind::Closed);
        }
        match state.at {
            Some(at) if at.epoch == has.epoch && at.number <= has.number => {}
            Some(at) if at.epoch == has.epoch => return Err(Behind::Some(reader)),
            // Another history began meanwhile.
            Some(_) | None => return Err(Behind::Closed),
        }
        reader.joined(has.number);
        state.add(&Arc::new(reader));
        Ok(())
    }

    /// A read's wait for changes of a resource: those from now on are heard.
    pub(super) fn wait(&self, seat: Seat, resource: ResourceId) -> Wait<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Wait { hub: self, bell: self.waits.listen(Topic(resource.0)), _seat: seat }
    }

    /// A resource is, or may be, another now.
    pub(super) fn touched(&self, resource: impl FnOnce() -> ResourceId) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.waits.ring(Topic(resource().0));
        }
    }

    /// Whether the log is followed now.
    pub(super) fn is_following(&self) -> bool {
        self.at().is_some()
    }

    /// Whether a shutdown began.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Ends all streams and waits, and lets nobody in any more: they would hold a shutdown up (O5).
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.remove_all();
        drop(state);
        self.waits.ring_all();
    }

    /// The place to read on from, where somebody is there.
    fn at(&self) -> Option<Place> {
        self.state.lock().at
    }

    /// What follows is no longer held, or another history began: whoever reads has to begin anew.
    fn lost(&self) {
        let mut state = self.state.lock();
        let cut = state.of_all.len() + state.by_resource.len();
        state.remove_all();
        state.at = None;
        drop(state);
        self.waits.ring_all();
        if cut > 0 {
            tracing::warn!("readers of events are cut off: what follows is no longer held");
        }
    }

    /// Gives the event behind `at` to who wants it. Where the log is followed from now; `None`: from elsewhere.
    fn give(&self, at: Place, event: &[u8]) -> Option<Place> {
        let mut state = self.state.lock();
        if state.at != Some(at) {
            return None;
        }
        let next = Place { number: at.number + 1, ..at };
        state.at = Some(next);
        let event = Event::decode(event);
        if let Some(event) = &event {
            self.give_readers(&mut state, next, event);
        }
        // After it stands in every line, so that a reader who has nothing left has all up to here.
        self.given.store(next.number, Ordering::Release);
        drop(state);
        if let Some(event) = event.filter(|event| event.kind.may_have_changed()) {
            self.touched(|| ResourceId::new(event.subject));
        }
        Some(next)
    }

    fn give_readers(&self, state: &mut State, place: Place, event: &Event<'_>) {
        let of_it = state.by_resource.get(event.subject).map_or(&[][..], Vec::as_slice);
        let mut text: Option<Bytes> = None;
        let mut cut = Vec::new();
        for reader in state.of_all.iter().chain(of_it) {
            if !reader.wants(place.number, event) {
                continue;
            }
            let text = text.get_or_insert_with(|| reader::written(place, event));
            if !reader.give(text.clone()) {
                cut.push(Arc::clone(reader));
            }
        }
        for reader in cut {
            // With the last handle of its line the stream comes to its end.
            state.remove(reader.name, reader.resources());
            self.metrics.event_readers_cut_off.inc();
        }
    }
}

/// A read that waits.
pub(super) struct Wait<'a> {
    hub: &'a Hub,
    bell: Listening<'a>,
    _seat: Seat,
}

impl Wait<'_> {
    /// Is there when the resource changed; to be had before the look, and awaited after it.
    pub(super) fn heard(&self) -> Notified<'_> {
        self.bell.heard()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.hub.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How much of the log is kept for what is configured.
pub(super) fn keep(events: &crate::config::checked::Events) -> Keep {
    Keep { history: events.history.max(LEAST_KEPT.history), ttl: events.ttl.max(LEAST_KEPT.ttl) }
}

impl Gate {
    /// Follows the log of events as long as somebody reads or waits, and gives it out.
    pub(crate) async fn follow_events(self: Arc<Self>) {
        let mut signal = self.store.event_signal();
        loop {
            // Before the look, so that nothing is missed in between.
            signal.borrow_and_update();
            let Some(at) = self.hub.at() else {
                self.hub.wanted.notified().await;
                continue;
            };
            match self.store.events(at, BATCH, now()).await {
                Ok(Some(events)) if events.is_empty() => {
                    let told = tokio::time::timeout(NET, signal.changed()).await;
                    if matches!(told, Ok(Err(_))) {
                        // A store that tells nothing any more is looked at.
                        tokio::time::sleep(NET).await;
                    }
                }
                Ok(Some(events)) => {
                    let mut place = Some(at);
                    for event in events {
                        place = place.and_then(|at| self.hub.give(at, &event));
                    }
                    // Readers have their turn too, however much is written.
                    tokio::task::yield_now().await;
                }
                Ok(None) => self.hub.lost(),
                Err(_) => tokio::time::sleep(NET).await,
            }
        }
    }
}
