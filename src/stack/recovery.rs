//! What a start makes of what the last one left behind (K11, Q5, V8).
//!
//! A claim that never forwarded is free: it was never stored. A write that was out is unknown from now on, and its
//! resource rests anew, as does every resource whose rest the last process did not see the end of.

use std::time::Duration;

use super::telling::left_unknown;
use super::{Gate, Rules};
use crate::config::checked::{EventsOf, Source};
use crate::http::timestamp::{millis, now};
use crate::policy::jobs;
use crate::protocol::record::{Mark, Millis, Phase, Record, RecordId, ResourceId, State};
use crate::store::shared::TurnEnd;
use crate::store::{Before, Change, Move, Set, StoreError};

/// At most this many records are out or unknown at once; a store holds far fewer.
const MOST: usize = 1 << 20;
/// For a record whose route the configuration no longer has.
const DEFAULT_TTL: Millis = 24 * 60 * 60 * 1000;
const DEFAULT_SETTLE: Duration = Duration::from_secs(30);

/// What a route that may be gone says of its records.
pub(crate) struct Terms {
    pub(crate) ttl: Millis,
    settle: Duration,
    pub(crate) mints: bool,
    events: EventsOf,
}

impl Terms {
    pub(crate) fn of(rules: &Rules, record: &Record) -> Self {
        let route = rules.route(&record.route);
        Self {
            ttl: route.map_or(DEFAULT_TTL, |route| millis(route.idempotency.ttl)),
            settle: route.map_or(DEFAULT_SETTLE, |route| route.idempotency.settle),
            // A version that nobody asks for may move; one that somebody holds must not stay.
            mints: route.is_none_or(|route| route.version.source == Source::Mint),
            // Who may know of it only the route could tell.
            events: route.map_or(EventsOf::Off, |route| route.events),
        }
    }
}

impl Gate {
    /// Settles what was in flight when the last process ended. How many operations are unknown by it.
    ///
    /// # Errors
    /// Where the store cannot be asked; nothing may be served then.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        if self.store.shared().is_some() {
            // What the last process left behind is settled when its liveness record lapses (S3). One that went away since
            // it was opened comes back: until then every write is refused, and readiness tells (S4, O1).
            if self.store.reach().await.is_err() {
                tracing::warn!("the store went away during the start");
            }
            return Ok(0);
        }
        let rules = self.rules.load_full();
        let interrupted = self.store.scan(Some(Phase::Forwarded), MOST, now()).await?;
        for (id, record) in &interrupted {
            self.became_unknown(*id, record, &Terms::of(&rules, record), None).await?;
        }
        let at = now();
        for (_, record) in self.store.scan(Some(Phase::Unknown), MOST, at).await? {
            let State::Unknown { mark: Some(mark), since, .. } = &record.state else { continue };
            let terms = Terms::of(&rules, &record);
            if took_turn(mark) && since.saturating_add(millis(terms.settle)) > at {
                self.rest(&record, &terms).await?;
            }
        }
        Ok(interrupted.len())
    }

    /// `lapsed`: so long ago its instance was given up, and with that its rest began (Q5).
    pub(super) async fn became_unknown(
        &self,
        id: RecordId,
        record: &Record,
        terms: &Terms,
        lapsed: Option<Duration>,
    ) -> Result<(), StoreError> {
        let State::Forwarded { mark, .. } = &record.state else { return Ok(()) };
        let since = now().saturating_sub(lapsed.map_or(0, millis));
        let rest_ends = since.saturating_add(millis(terms.settle));
        let rest = lapsed.map(|ago| terms.settle.saturating_sub(ago)).filter(|rest| !rest.is_zero());
        let state = State::Unknown { mark: mark.clone(), since, expires_at: since.saturating_add(terms.ttl) };
        let version = if terms.mints {
            let resource = ResourceId::new(&record.resource);
            let to = self.store.next_number().await?;
            let later = match rest {
                Some(_) => Some((rest_ends, self.store.next_number().await?)),
                None => None,
            };
            Some(Move { resource, to, later, ends_rest: false })
        } else {
            None
        };
        let took_turn = lapsed.is_some() && mark.as_deref().is_some_and(took_turn);
        let turn = took_turn.then(|| TurnEnd {
            resource: ResourceId::new(&record.resource),
            token: record.owner,
            rest,
        });
        let event = left_unknown(terms.events, &record.resource, id);
        let change = Change::new(id, record.owner, Before::Forwarded, Set::State(state));
        // A job that was out is none any more (J1).
        let job = self.store.cell(jobs::cell(id), now()).await?;
        let cells = job.map(|cell| jobs::gone(id, cell.stamp)).into_iter().collect();
        self.store.commit(Change { version, turn, cells, event, ..change }, now()).await.map(drop)
    }

    /// The rest begins anew, and with it the wait for a minted version's second move (V8).
    async fn rest(&self, record: &Record, terms: &Terms) -> Result<(), StoreError> {
        let resource = ResourceId::new(&record.resource);
        if terms.mints {
            let (to, then) = (self.store.next_number().await?, self.store.next_number().await?);
            let later = Some((now().saturating_add(millis(terms.settle)), then));
            self.store.move_version(Move { resource, to, later, ends_rest: false }, now()).await?;
        }
        self.turns.rest_from_start(resource, &record.resource, terms.settle);
        Ok(())
    }
}

fn took_turn(mark: &Mark) -> bool {
    mark.fence != 0
}
