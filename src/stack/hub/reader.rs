//! One reader of events: what it wants, its line, and its seat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{BATCH, Hub};
use crate::http::timestamp::{now, rfc3339};
use crate::protocol::event::{Event, Kind};
use crate::protocol::record::Principal;
use crate::store::{Place, Store};

/// What a reader asked for.
pub(crate) struct Filter {
    pub(crate) principal: Principal,
    /// `None`: all.
    pub(crate) resources: Option<Box<[Box<str>]>>,
    /// Empty: all.
    pub(crate) kinds: Vec<Kind>,
}

impl Filter {
    /// Whether an event is one of those, apart from its resource.
    fn fits(&self, event: &Event<'_>) -> bool {
        event.is_for(&self.principal) && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }

    fn names(&self, resource: &str) -> bool {
        self.resources.as_ref().is_none_or(|names| names.iter().any(|name| **name == *resource))
    }
}

/// A reader in the hub.
pub(crate) struct Reader {
    pub(super) name: u64,
    filter: Filter,
    /// Up to this number it has everything.
    has: Arc<AtomicU64>,
    line: mpsc::Sender<Bytes>,
}

/// Why a reader did not join.
pub(crate) enum Behind {
    /// Something was given out meanwhile that it does not have.
    Some(Reader),
    Closed,
}

/// A reader that has not joined: [`Reader::has`] has no number yet.
const NOT_YET: u64 = u64::MAX;

impl Reader {
    pub(super) fn resources(&self) -> Option<&[Box<str>]> {
        self.filter.resources.as_deref()
    }

    pub(super) fn joined(&self, has: u64) {
        self.has.store(has, Ordering::Release);
    }

    pub(super) fn wants(&self, number: u64, event: &Event<'_>) -> bool {
        number > self.has.load(Ordering::Relaxed) && self.filter.fits(event)
    }

    pub(super) fn has_left(&self) -> bool {
        self.line.is_closed()
    }

    /// Puts it in the reader's line; `false`: there is no room, or nobody at its end.
    pub(super) fn give(&self, text: Bytes) -> bool {
        self.line.try_send(text).is_ok()
    }

    /// Gives the reader what was told behind a place, as fast as it takes it, and then all that comes.
    ///
    /// What the store does not say, or no longer holds, ends the stream.
    pub(crate) async fn catch_up(mut self, hub: &Hub, store: &dyn Store, mut at: Place) {
        loop {
            let Ok(Some(events)) = store.events(at, BATCH, now()).await else { return };
            let mut text = Vec::new();
            for event in &events {
                at.number += 1;
                if let Some(event) =
                    Event::decode(event).filter(|e| self.filter.fits(e) && self.filter.names(e.subject))
                {
                    text.extend_from_slice(&written(at, &event));
                }
            }
            if !text.is_empty() && self.line.send(text.into()).await.is_err() {
                return;
            }
            if events.len() == BATCH {
                continue;
            }
            self = match hub.join(self, at) {
                Err(Behind::Some(reader)) => reader,
                Ok(()) | Err(Behind::Closed) => return,
            };
        }
    }
}

/// A place among `[events] readers`, given back with its end.
pub(crate) struct Seat {
    hub: Arc<Hub>,
    name: u64,
    resources: Option<Box<[Box<str>]>>,
    has: Arc<AtomicU64>,
}

impl Seat {
    pub(super) fn new(hub: Arc<Hub>, name: u64) -> Self {
        Self { hub, name, resources: None, has: Arc::new(AtomicU64::new(NOT_YET)) }
    }

    /// The reader on this seat.
    pub(crate) fn reader(&mut self, filter: Filter, line: mpsc::Sender<Bytes>) -> Reader {
        self.resources.clone_from(&filter.resources);
        Reader { name: self.name, filter, has: Arc::clone(&self.has), line }
    }

    /// Up to which number the reader has everything if its line is empty afterwards; `None` as long as it catches up.
    pub(crate) fn has(&self) -> Option<u64> {
        let joined = self.has.load(Ordering::Acquire);
        (joined != NOT_YET).then(|| self.hub.given.load(Ordering::Acquire).max(joined))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.left(self.name, self.resources.as_deref());
    }
}

/// A place as agents have it: nothing that they should look into.
pub(crate) fn shown_place(place: Place) -> String {
    format!("{:x}-{}", place.epoch, place.number)
}

/// The other way round; `None` for what [`shown_place`] never gave.
pub(crate) fn place_of(text: &str) -> Option<Place> {
    let (epoch, number) = text.split_once('-')?;
    let place = Place { epoch: u64::from_str_radix(epoch, 16).ok()?, number: number.parse().ok()? };
    (shown_place(place) == text).then_some(place)
}

/// An event of a stream, as the stream has it.
pub(super) fn written(place: Place, event: &Event<'_>) -> Bytes {
    let id = shown_place(place);
    let time = rfc3339(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(event.at));
    let json = event.cloud_event(&id, &time);
    format!("id: {id}\nevent: {}\ndata: {json}\n\n", event.kind.name()).into()
}
