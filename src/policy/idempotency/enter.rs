//! What a request with a key meets (K5–K7, K10–K12).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::waiting::Wake;
use super::{Claim, Keys, replay, unknown};
use crate::config::checked::{Idempotency, OnUnknown};
use crate::http::refusal::Unknown;
use crate::http::request::Gone;
use crate::http::timestamp::{millis, now};
use crate::http::{Reason, Refusal, Response};
use crate::protocol::entity_tag::Preconditions;
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::record::{Mark, Millis, Owner, Record, RecordId, State, Verdict};
use crate::store::cells::Kind;
use crate::store::shared::{Also, Beside};
use crate::store::{Before, CellId, Change, Claimed, Set, StoreError};

/// How often a job is looked at that another instance may take and end without a word.
const LOOK: Duration = Duration::from_secs(1);

/// A request with a key.
pub struct Ask<'a> {
    pub id: RecordId,
    pub fingerprint: Fingerprint,
    pub route: &'a Arc<str>,
    pub resource: &'a str,
    pub policy: &'a Idempotency,
    /// Until when it waits for the first run; `None`: it does not (K6).
    pub wait_until: Option<Instant>,
    /// Whether the version of a resource can end an unknown outcome on this route (K12): `None` no; `Some(true)` by
    /// reading it, `Some(false)` by the upstream's own comparison.
    pub version_ends_unknown: Option<bool>,
    /// Sees the agent leave while it waits (Q2).
    pub gone: &'a dyn Gone,
    /// This request's own, which may differ from the first one's: they are no part of the fingerprint.
    pub preconditions: &'a Preconditions,
    /// Whether the resource rests (Q5): asked when it counts, for a rest may begin while this request waits.
    pub rests: &'a (dyn Fn() -> bool + Sync),
    /// Whether a write of this route may be a job (J1).
    pub jobs: bool,
    /// Nothing stands between its claim and its call: it is claimed as forwarded, with this.
    pub outright: Option<&'a Mark>,
}

/// What a first look at the key came to.
pub enum First {
    /// It is claimed, and this was said of what was asked beside it.
    Claimed(Claim, Option<Also>),
    /// Another execution's record stands there; this would be its own.
    Taken { standing: Box<Record>, yours: Box<Record> },
}

/// What it may do.
pub enum Entry {
    /// Run, as the first.
    Run(Claim),
    /// Run again what was unknown, if the condition holds (K12).
    Again(Claim, Rerun),
    /// Nothing: this is its answer (K7).
    Replayed(Response),
    /// Nothing: it is a job whose end is open (J1).
    Accepted,
}

/// What must hold before an unknown operation runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rerun {
    /// The resource still has the version that was compared, and this was the last write to it.
    IfUnchanged(Mark),
    /// The upstream compares the same precondition itself, and this was the last write to the resource.
    UpstreamCompares,
    /// Nothing: the upstream honors the key.
    UpstreamHonorsKey,
}

enum Met {
    Wait(Box<Record>),
    Again,
    Entry(Entry),
}

impl Keys {
    /// Claims the key for `owner`, and where the store is shared asks for what is beside it in the same round trip.
    ///
    /// # Errors
    /// What the store said; [`refused`] tells an agent so.
    pub async fn claim(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        owner: Owner,
        beside: Option<Beside>,
    ) -> Result<First, StoreError> {
        let record = self.record(ask, owner);
        // Before the store is asked: where its reply is lost, what it may have done has to be undone.
        let claim = Claim::new(self, ask.id, owner, millis(ask.policy.ttl)).outright(ask.outright);
        let at = record.started_at;
        let answer = match (beside, self.store.shared()) {
            (Some(beside), Some(shared)) => shared.claim_beside(ask.id, record, beside, at).await,
            (Some(_) | None, _) => self.store.claim(ask.id, record, at).await.map(|claimed| (claimed, None)),
        };
        match answer {
            Ok((Claimed::New, also)) => Ok(First::Claimed(claim, also)),
            Ok((Claimed::Taken { standing, yours }, _)) => {
                claim.not_taken();
                Ok(First::Taken { standing, yours })
            }
            Err(error) => {
                if error == StoreError::Unreached {
                    // Nothing is there to be undone, and an outage must not leave work behind for each request.
                    claim.not_taken();
                }
                Err(error)
            }
        }
    }

    /// Waits for the first run of a key, or is told what became of it.
    ///
    /// # Errors
    /// K5, K6, K10, K11; 503 where the store cannot be asked.
    pub async fn meet(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        mut standing: Box<Record>,
        mut yours: Box<Record>,
    ) -> Result<Entry, Refusal> {
        loop {
            match self.look(ask, *standing, yours).await? {
                Met::Entry(entry) => return Ok(entry),
                Met::Again => {}
                Met::Wait(yours) => {
                    if let Some(claim) = self.wait(ask, *yours).await? {
                        return Ok(Entry::Run(claim));
                    }
                }
            }
            (standing, yours) = match self.claim(ask, self.next_owner(), None).await.map_err(refused)? {
                First::Claimed(claim, _) => return Ok(Entry::Run(claim)),
                First::Taken { standing, yours } => (standing, yours),
            };
        }
    }

    /// A record for a write without a key that takes a turn, so that a restart knows what was out (Q5). `None` where
    /// the store forgets with the process: then nobody could ask it.
    ///
    /// # Errors
    /// 503 where the store cannot be asked.
    pub async fn note(
        self: &Arc<Self>,
        route: &Arc<str>,
        resource: &str,
        policy: &Idempotency,
    ) -> Result<Option<Claim>, Refusal> {
        if !self.store.outlives_process() {
            return Ok(None);
        }
        let (id, owner) = (RecordId(fastrand::u128(..).to_be_bytes()), self.next_owner());
        let record = Record {
            owner,
            fingerprint: Fingerprint::from_bytes([0; 16]),
            started_at: now(),
            route: Arc::clone(route),
            resource: resource.into(),
            state: State::Claimed,
        };
        let claim = Claim::keyless(self, id, owner, millis(policy.ttl));
        match self.store.claim(id, record, now()).await.map_err(refused)? {
            Claimed::New => Ok(Some(claim)),
            // No two of these are the same; if they were, one of them would wait for nothing.
            Claimed::Taken { .. } => Err(Reason::StoreUnavailable.into()),
        }
    }

    fn record(&self, ask: &Ask<'_>, owner: Owner) -> Record {
        let mark = ask.outright.cloned().map(Box::new);
        Record {
            owner,
            fingerprint: ask.fingerprint,
            started_at: now(),
            route: Arc::clone(ask.route),
            resource: ask.resource.into(),
            state: if mark.is_some() { State::Forwarded { mark, status: None } } else { State::Claimed },
        }
    }

    async fn look(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        standing: Record,
        yours: Box<Record>,
    ) -> Result<Met, Refusal> {
        let about = |reason: Reason| Refusal::from(reason).about(ask.id.to_text());
        match standing.verdict(&ask.fingerprint, now()) {
            Verdict::First => Ok(Met::Again),
            Verdict::Reused => Err(about(Reason::KeyReused)),
            Verdict::Running if self.is_job(ask, &standing).await? => {
                // Nobody takes a job's place.
                let Some(until) = ask.wait_until else { return Ok(Met::Entry(Entry::Accepted)) };
                let record = self.watch(ask.id, until).await.map_err(refused)?;
                let runs = record.is_some_and(|record| record.state.phase().runs());
                Ok(if runs { Met::Entry(Entry::Accepted) } else { Met::Again })
            }
            Verdict::Running if ask.wait_until.is_some() => Ok(Met::Wait(yours)),
            // A job takes its cell with it when it ends: between the two looks it may have.
            Verdict::Running if ask.jobs && !self.runs(ask.id).await? => Ok(Met::Again),
            Verdict::Running => Err(about(Reason::InFlight)),
            Verdict::NotKept { status } => Err(about(Reason::ResponseNotKept { upstream_status: status })),
            Verdict::Replay => {
                let expires_at = standing.state.expires_at().unwrap_or_default();
                let entry = self.replay(ask.id, &standing.state, expires_at).await;
                entry.map(|response| Met::Entry(Entry::Replayed(response))).map_err(about)
            }
            Verdict::Unknown => self.try_again(ask, standing).await,
        }
    }

    /// Whether a record that runs is one that was answered before.
    async fn is_job(&self, ask: &Ask<'_>, standing: &Record) -> Result<bool, Refusal> {
        if standing.state == State::Queued || !ask.jobs {
            return Ok(standing.state == State::Queued);
        }
        let id = CellId { kind: Kind::Job, name: ask.id.0 };
        Ok(self.store.cell(id, now()).await.map_err(refused)?.is_some())
    }

    async fn runs(&self, id: RecordId) -> Result<bool, Refusal> {
        let record = self.store.read(id, now()).await.map_err(refused)?;
        Ok(record.is_some_and(|record| record.state.phase().runs()))
    }

    /// The kept answer of a `Done` record (K7); K10 where it was let go.
    pub(super) async fn replay(
        &self,
        id: RecordId,
        state: &State,
        expires_at: Millis,
    ) -> Result<Response, Reason> {
        match self.store.answer(id).await {
            Ok(Some(answer)) => Ok(replay(answer, expires_at)),
            Ok(None) => {
                let status = if let State::Done { status, .. } = state { *status } else { 0 };
                Err(Reason::ResponseNotKept { upstream_status: status })
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// K12: whether a retry of an unknown operation may run.
    async fn try_again(self: &Arc<Self>, ask: &Ask<'_>, standing: Record) -> Result<Met, Refusal> {
        let State::Unknown { mark, since, .. } = &standing.state else { return Ok(Met::Again) };
        let said = unknown(ask.policy.on_unknown, mark.as_deref());
        let held = |said: Unknown| Refusal::from(Reason::OutcomeUnknown(said)).about(ask.id.to_text());
        let Some(rerun) = rerun(ask, mark.as_deref(), *since) else { return Err(held(said)) };
        let owner = self.next_owner();
        let forwarded = State::Forwarded { mark: mark.clone(), status: None };
        let again = Record { owner, state: forwarded, ..standing.clone() };
        let change = Change::new(ask.id, standing.owner, Before::Unknown, Set::Replace(again));
        // Before the store is asked, as above.
        let claim = Claim::taken_over(self, ask.id, owner, millis(ask.policy.ttl), standing.state);
        if !self.store.commit(change, now()).await.map_err(refused)? {
            claim.not_taken();
            return Ok(Met::Again);
        }
        Ok(Met::Entry(Entry::Again(claim, rerun)))
    }

    /// Whether another write has gone to an operation's resource since (K12).
    ///
    /// # Errors
    /// 503 where the store cannot be asked.
    pub async fn is_followed(&self, id: RecordId) -> Result<bool, Reason> {
        let record = self.store.read(id, now()).await.map_err(unavailable)?;
        Ok(record.is_none_or(|record| match &record.state {
            State::Forwarded { mark: Some(mark), .. } | State::Unknown { mark: Some(mark), .. } => {
                mark.followed
            }
            State::Forwarded { mark: None, .. }
            | State::Unknown { mark: None, .. }
            | State::Claimed
            | State::Queued
            | State::Done { .. } => true,
        }))
    }

    /// Waits for the end of the first run. `Some`: its place is this one's now.
    async fn wait(&self, ask: &Ask<'_>, yours: Record) -> Result<Option<Claim>, Refusal> {
        let in_flight = || Refusal::from(Reason::InFlight).about(ask.id.to_text());
        let Some(until) = ask.wait_until.filter(|until| *until > Instant::now()) else {
            return Err(in_flight());
        };
        // Handed on it waits for its turn as any other, whatever it would have been as a first.
        let woken = self.waiting.join(ask.id, Record { state: State::Claimed, ..yours });
        // It may have ended between the look and the place in the line.
        let ended = match self.watched(ask.id).await.map_err(refused)? {
            // A job is waited for in another way.
            Some(record) => !record.state.phase().runs() || record.state == State::Queued,
            None => true,
        };
        if ended {
            drop(woken);
            self.waiting.tidy(ask.id);
            return Ok(None);
        }
        let woken = tokio::select! {
            biased;
            woken = tokio::time::timeout_at(until, woken) => woken.ok(),
            // Nobody takes the first one's place who is not there any more.
            () = ask.gone.gone() => None,
        };
        match woken {
            Some(Ok(Wake::Granted(claim))) => Ok(Some(*claim)),
            Some(Ok(Wake::Look) | Err(_)) => Ok(None),
            None => {
                self.waiting.tidy(ask.id);
                Err(in_flight())
            }
        }
    }
}

fn rerun(ask: &Ask<'_>, mark: Option<&Mark>, since: Millis) -> Option<Rerun> {
    // Who waited is woken by the record, a moment before the rest begins.
    let begins = || {
        mark.is_some_and(|mark| mark.fence != 0) && now() < since.saturating_add(millis(ask.policy.settle))
    };
    match ask.policy.on_unknown {
        OnUnknown::Hold => None,
        OnUnknown::Rerun => Some(Rerun::UpstreamHonorsKey),
        // Nothing is decided before the rest is over: the first request may still live in the upstream.
        OnUnknown::Version if begins() || (ask.rests)() => None,
        OnUnknown::Version => match (ask.version_ends_unknown?, mark?) {
            (true, mark) if mark.compared.is_some() && mark.fence != 0 => {
                Some(Rerun::IfUnchanged(mark.clone()))
            }
            // Only the same precondition again fails if the first run had an effect; a newer one would hold.
            // And only in a turn is it known that no other write comes between.
            (false, mark) if mark.forwarded.as_ref() == Some(ask.preconditions) && mark.fence != 0 => {
                Some(Rerun::UpstreamCompares)
            }
            _ => None,
        },
    }
}

/// 503: the store cannot be asked, or is full (S2, S4).
pub fn unavailable(error: StoreError) -> Reason {
    match error {
        StoreError::Unavailable | StoreError::Unreached => Reason::StoreUnavailable,
        StoreError::Full => Reason::StoreFull,
    }
}

/// The same as a refusal.
pub fn refused(error: StoreError) -> Refusal {
    unavailable(error).into()
}

impl Keys {
    /// A record whose end this instance is told of, wherever it runs.
    async fn watched(&self, id: RecordId) -> Result<Option<Record>, StoreError> {
        match self.store.shared() {
            Some(shared) => shared.watch(id, now()).await,
            None => self.store.read(id, now()).await,
        }
    }

    /// A record, after waiting for its end until `until` (K17).
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub async fn watch(&self, id: RecordId, until: Instant) -> Result<Option<Record>, StoreError> {
        loop {
            let ended = self.waiting.watch(id);
            let record = self.watched(id).await?;
            let runs = record.as_ref().is_some_and(|record| record.state.phase().runs());
            let queued = record.as_ref().is_some_and(|record| record.state == State::Queued);
            if !runs || Instant::now() >= until {
                drop(ended);
                self.waiting.tidy(id);
                return Ok(record);
            }
            // Whether it was woken or the time is over, it looks again.
            let look = if queued { until.min(Instant::now() + LOOK) } else { until };
            drop(tokio::time::timeout_at(look, ended).await);
        }
    }

    /// The recorded answer of an operation (K17).
    ///
    /// # Errors
    /// What a retry would be told while there is none.
    pub async fn recorded(
        &self,
        id: RecordId,
        record: &Record,
        on_unknown: OnUnknown,
    ) -> Result<Response, Refusal> {
        let about = |reason: Reason| Refusal {
            route: Some(Arc::clone(&record.route)),
            resource: Some(record.resource.clone()),
            ..Refusal::from(reason).about(id.to_text())
        };
        match record.verdict(&record.fingerprint, now()) {
            Verdict::First | Verdict::Reused | Verdict::Running => Err(about(Reason::InFlight)),
            Verdict::NotKept { status } => Err(about(Reason::ResponseNotKept { upstream_status: status })),
            Verdict::Unknown => {
                let State::Unknown { mark, .. } = &record.state else { return Err(about(Reason::InFlight)) };
                Err(about(Reason::OutcomeUnknown(unknown(on_unknown, mark.as_deref()))))
            }
            Verdict::Replay => {
                let expires_at = record.state.expires_at().unwrap_or_default();
                self.replay(id, &record.state, expires_at).await.map_err(about)
            }
        }
    }
}
