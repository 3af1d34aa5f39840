//! What a start makes of what the last one left behind (K11, Q5, V8).
//!
//! A claim that never forwarded is free: it was never stored. A write that was out is unknown from now on, and its
//! resource rests anew, as does every resource whose rest the last process did not see the end of.

use super::{Gate, Rules};
use crate::config::checked::Source;
use crate::http::timestamp::{millis, now};
use crate::protocol::record::{Mark, Millis, Phase, Record, RecordId, ResourceId, State};
use crate::store::{Before, Change, Move, Set, StoreError};

/// At most this many records are out or unknown at once; a store holds far fewer.
const MOST: usize = 1 << 20;
/// For a record whose route the configuration no longer has.
const DEFAULT_TTL: Millis = 24 * 60 * 60 * 1000;
const DEFAULT_SETTLE: std::time::Duration = std::time::Duration::from_secs(30);

/// What a route that may be gone says of its records.
struct Terms {
    ttl: Millis,
    settle: std::time::Duration,
    mints: bool,
}

impl Terms {
    fn of(rules: &Rules, record: &Record) -> Self {
        let route = rules.config.routes.iter().find(|route| route.name == record.route);
        Self {
            ttl: route.map_or(DEFAULT_TTL, |route| millis(route.idempotency.ttl)),
            settle: route.map_or(DEFAULT_SETTLE, |route| route.idempotency.settle),
            // A version that nobody asks for may move; one that somebody holds must not stay.
            mints: route.is_none_or(|route| route.version.source == Source::Mint),
        }
    }
}

impl Gate {
    /// Settles what was in flight when the last process ended. How many operations are unknown by it.
    ///
    /// # Errors
    /// Where the store cannot be asked; nothing may be served then.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let rules = self.rules.load_full();
        let interrupted = self.store.scan(Some(Phase::Forwarded), MOST, now()).await?;
        for (id, record) in &interrupted {
            self.became_unknown(*id, record, &Terms::of(&rules, record)).await?;
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

    async fn became_unknown(&self, id: RecordId, record: &Record, terms: &Terms) -> Result<(), StoreError> {
        let State::Forwarded { mark, .. } = &record.state else { return Ok(()) };
        let since = now();
        let state = State::Unknown { mark: mark.clone(), since, expires_at: since.saturating_add(terms.ttl) };
        let version = if terms.mints {
            let resource = ResourceId::new(&record.resource);
            Some(Move { resource, to: self.store.next_number().await?, later: None, ends_rest: false })
        } else {
            None
        };
        let change =
            Change { version, ..Change::new(id, record.owner, Before::Forwarded, Set::State(state)) };
        self.store.commit(change, since).await.map(drop)
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
