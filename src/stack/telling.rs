//! What is told of a write (E1): stored in the commit of what it tells, or not at all.

use http::{Method, StatusCode};

use super::Gate;
use crate::config::checked::{EventsOf, Route};
use crate::http::Reason;
use crate::http::timestamp::now;
use crate::protocol::entity_tag::EntityTag;
use crate::protocol::event::{Event, Kind};
use crate::protocol::record::{Principal, RecordId};
use crate::store::{self, Swap};

/// What of a write every word about it has.
pub(super) struct Telling {
    subject: Box<str>,
    method: Method,
    /// Who alone is told.
    only: Option<Principal>,
}

impl Telling {
    /// `None` where nothing is told.
    pub(super) fn of(
        route: &Route,
        subject: Box<str>,
        method: &Method,
        principal: &Principal,
    ) -> Option<Self> {
        let only = match route.events {
            EventsOf::All => None,
            EventsOf::Own => Some(*principal),
            EventsOf::Off => return None,
        };
        Some(Self { subject, method: method.clone(), only })
    }

    fn event(&self, kind: Kind, operation: Option<RecordId>) -> Event<'_> {
        let method = Some(self.method.as_str());
        Event { only: self.only, method, operation, ..Event::new(kind, now(), &self.subject) }
    }

    /// A write was answered. `None`: that changed nothing.
    pub(super) fn changed(
        &self,
        status: StatusCode,
        version: Option<&EntityTag>,
        operation: Option<RecordId>,
    ) -> Option<store::Event> {
        let version = version.map(EntityTag::as_str);
        let event = Event { status: Some(status.as_u16()), version, ..self.event(Kind::Changed, operation) };
        status.is_success().then(|| event.encoded())
    }

    /// Nobody knows whether a write was done. `status`: of an answer that does not say so either.
    pub(super) fn unknown(&self, status: Option<StatusCode>, operation: Option<RecordId>) -> store::Event {
        let status = status.map(|status| status.as_u16());
        Event { status, ..self.event(Kind::Unknown, operation) }.encoded()
    }

    /// A write was built on an old version. `None`: it was refused for something else.
    pub(super) fn conflict(&self, reason: &Reason, operation: Option<RecordId>) -> Option<store::Event> {
        let Reason::StaleVersion { status, current, .. } = reason else { return None };
        let version = current.as_ref().map(EntityTag::as_str);
        let event = Event { status: Some(status.as_u16()), version, ..self.event(Kind::Conflict, operation) };
        Some(event.encoded())
    }
}

/// What is told of a write whose executor is gone: its record says neither by what method it was, nor whose it is, so
/// where only its principal may know nobody is told.
pub(super) fn left_unknown(events: EventsOf, subject: &str, operation: RecordId) -> Option<store::Event> {
    match events {
        EventsOf::All => {
            let event = Event::new(Kind::Unknown, now(), subject);
            Some(Event { operation: Some(operation), ..event }.encoded())
        }
        EventsOf::Own | EventsOf::Off => None,
    }
}

impl Gate {
    /// Tells what has no record to be told with. Where the store does not take it nobody is told.
    pub(super) async fn tell(&self, event: Option<store::Event>) {
        let Some(event) = event else { return };
        let swap = Swap { event: Some(event), ..Swap::default() };
        if self.store.swap(swap, now()).await.is_err() {
            self.metrics.store_errors.inc();
        }
    }
}
