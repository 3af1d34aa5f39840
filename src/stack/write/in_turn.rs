//! A write in its turn: the version is compared just before it goes out (Q1, V5).

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::uri::PathAndQuery;

use super::{Claimed, Write};
use crate::config::checked::Source;
use crate::http::refusal::Unknown;
use crate::http::timestamp::now;
use crate::http::{Reason, Refusal, Response, forward};
use crate::policy::idempotency::{Claim, Rerun, With};
use crate::policy::turn::{Turn, Wanted};
use crate::policy::version::{self, Compared, Current, Probe, Stop};
use crate::protocol::entity_tag::EntityTag;
use crate::protocol::line::Want;
use crate::protocol::record::{Mark, Owner};

impl Write {
    /// Waits for the turn, looks at the version inside it, and forwards (Q1, V5).
    pub(super) async fn turn(&mut self, claimed: &mut Claimed) -> Result<Response, Refusal> {
        #[cfg(test)]
        if crate::simulation::teeth::is(crate::simulation::teeth::Bad::CheckBeforeTheTurn) {
            return self.turn_after_the_check(claimed).await;
        }
        let turn = self.take_turn(claimed).await?;
        // Once more, for what was seen before the wait proves nothing (L3).
        if let Some(turn) = &turn {
            claimed.fence = self.may_go(claimed, turn).await?;
        }
        let mut headers = forward::headers(&mut self.request);
        let gate = Arc::clone(&self.gate);
        let compared = tokio::select! {
            biased;
            compared = self.compare(claimed, turn.as_ref(), &headers) => compared,
            () = gate.closing.cancelled() => Err(Reason::ShuttingDown.into()),
        };
        let compared = match compared {
            Ok(compared) => compared,
            Err(Stop::Refused(reason)) => {
                self.tell_conflict(claimed, turn, &reason).await;
                return Err(reason.into());
            }
            // The claim is released with this answer: nothing was forwarded (V1).
            Err(Stop::GivenOn(answer)) => return Ok(*answer),
        };
        version::strip_preconditions(&mut headers, &self.entry.route.version.source);
        self.forward(claimed, turn, compared, headers).await
    }

    /// Releases the claim of a stale write with word of the conflict (V6, E1): still in the turn, so that the word stands
    /// where the conflict was.
    async fn tell_conflict(&self, claimed: &mut Claimed, turn: Option<Turn>, reason: &Reason) {
        if !matches!(reason, Reason::StaleVersion { .. }) {
            return;
        }
        let operation = claimed.claim.as_ref().map(|claim| claim.id);
        let telling = self.telling(claimed);
        let event = telling.and_then(|telling| telling.conflict(reason, operation));
        let Some(claim) = claimed.claim.take() else {
            self.gate.tell(event).await;
            return;
        };
        let ending = turn.as_ref().and_then(|turn| turn.ending(None));
        let is_ended = claim.give_up(With { event, turn: ending, ..With::default() }).await;
        if let Some(turn) = turn.filter(|_| is_ended && ending.is_some()) {
            turn.committed();
        }
    }

    pub(super) async fn take_turn(&mut self, claimed: &mut Claimed) -> Result<Option<Turn>, Refusal> {
        let queue = &self.entry.route.queue;
        if !self.takes_turn() {
            return Ok(None);
        }
        self.told.wait_bound = Some(queue.max_wait);
        let began = Instant::now();
        let early = claimed.early.take();
        let wanted = self.wanted(claimed, claimed.claim.as_ref().map(Claim::owner));
        let turn = match early {
            Some((turn, answer)) => self.gate.turns.hold(turn, &wanted, answer).await,
            None => self.gate.turns.take(wanted).await,
        };
        let waited = began.elapsed();
        self.told.story.waited += waited;
        self.entry.metrics.turn_waited(waited);
        Ok(Some(turn?))
    }

    pub(super) fn wanted<'a>(&'a self, claimed: &'a Claimed, token: Option<Owner>) -> Wanted<'a> {
        let queue = &self.entry.route.queue;
        Wanted {
            want: Want::Write,
            resource: claimed.resource,
            name: &claimed.name,
            max_waiting: queue.max_waiting,
            until: self.budget.until(queue.max_wait, queue.max_wait),
            gone: self.request.peer.gone.as_ref(),
            token,
        }
    }

    pub(super) fn probe<'a>(&'a self, target: Option<&PathAndQuery>, headers: &'a HeaderMap) -> Probe<'a> {
        Probe {
            client: &self.entry.client,
            version: &self.entry.route.version,
            target: target.unwrap_or(&self.request.target).clone(),
            headers,
        }
    }

    pub(super) async fn compare(
        &mut self,
        claimed: &Claimed,
        turn: Option<&Turn>,
        headers: &HeaderMap,
    ) -> Result<Compared, Stop> {
        let probe = self.probe(claimed.probe_target.as_ref(), headers);
        if let Some(Rerun::IfUnchanged(mark)) = &claimed.rerun {
            return Box::pin(self.compare_again(mark, claimed, &probe)).await;
        }
        if claimed.rerun == Some(Rerun::UpstreamHonorsKey) {
            return Ok(Compared::default());
        }
        if claimed.rerun == Some(Rerun::UpstreamCompares) && self.is_followed(claimed).await? {
            // What the first run was built on may have come back since: a resource that is deleted again is absent
            // again, and the upstream would let the second run through.
            return Err(Reason::OutcomeUnknown(Unknown::Compared).into());
        }
        let mints = self.entry.route.version.source == Source::Mint && !claimed.preconditions.is_empty();
        let minted = match turn.and_then(Turn::grant).filter(|_| mints) {
            Some(grant) => EntityTag::parse(&grant.minted),
            None if mints => {
                let minted = self.gate.store.minted(claimed.resource, now()).await;
                EntityTag::parse(&minted.map_err(|_| Reason::StoreUnavailable)?)
            }
            None => None,
        };
        if mints || claimed.preconditions.is_empty() {
            return version::compare(&probe, &claimed.preconditions, minted).await;
        }
        let began = Instant::now();
        let compared = version::compare(&probe, &claimed.preconditions, minted).await;
        self.told.story.called(began);
        compared
    }

    /// K12: an unknown write runs again only while nothing has happened to its resource since.
    async fn compare_again(
        &self,
        mark: &Mark,
        claimed: &Claimed,
        probe: &Probe<'_>,
    ) -> Result<Compared, Stop> {
        let was = mark.compared.clone().flatten();
        let current = match probe.current().await? {
            Current::Tag(tag, _) => Some(tag),
            Current::Nothing => None,
            Current::GivenOn(_) => return Err(Reason::OutcomeUnknown(Unknown::Compared).into()),
        };
        if current != was || self.is_followed(claimed).await? {
            return Err(Reason::OutcomeUnknown(Unknown::Moved { compared: was, current }).into());
        }
        if !claimed.preconditions.holds(current.as_ref()) {
            // This retry was built on another version than the first run; that one is as unknown as before.
            return Err(Reason::OutcomeUnknown(Unknown::Compared).into());
        }
        Ok(Compared { with: Some(current), forwarded: mark.forwarded.is_some() })
    }

    async fn is_followed(&self, claimed: &Claimed) -> Result<bool, Reason> {
        match &claimed.claim {
            Some(claim) => self.gate.keys.is_followed(claim.id).await,
            None => Ok(true),
        }
    }
}
