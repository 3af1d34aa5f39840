//! A write that goes out: stored as forwarded, sent once, and recorded with what became of it (K4, K11, V6, V7).

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, StatusCode, response};
use tokio::time::Instant as Deadline;

use super::super::ending::Pending;
use super::{Claimed, Write};
use crate::http::refusal::Unknown;
use crate::http::{Body, Reason, Refusal, Response, fields, forward};
use crate::observe::Outcome;
use crate::policy::idempotency::{self, Rerun, With};
use crate::policy::publish::{self, Bounds, Content};
use crate::policy::turn::Turn;
use crate::policy::version::{self, Compared};
use crate::protocol::entity_tag::{Condition, EntityTag};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::{Mark, Meaning, RecordId};
use crate::upstream::{Call, Failure, Kind};

impl Write {
    /// Stores "forwarded", calls once, and records what became of it (K4, K11).
    pub(super) async fn forward(
        &mut self,
        claimed: &mut Claimed,
        mut turn: Option<Turn>,
        compared: Compared,
        mut headers: HeaderMap,
    ) -> Result<Response, Refusal> {
        let route = Arc::clone(&self.entry.route);
        // Only a probe needs them again.
        let probed =
            if version::asks_upstream(&route.version.source) { headers.clone() } else { HeaderMap::new() };
        // In the turn, so that it grows in the order in which writes go out (L3).
        let fence = match (claimed.fence, &turn, turn.as_ref().and_then(Turn::grant)) {
            // A lease's writes all carry the lease's.
            (Some(fence), _, _) => fence,
            (None, Some(_), Some(grant)) => grant.fence,
            (None, Some(_), None) => {
                self.gate.store.next_fence().await.map_err(|_| Reason::StoreUnavailable)?
            }
            (None, None, _) => 0,
        };
        self.own_fields(claimed, fence, &mut headers);
        let mark = Mark {
            compared: compared.with.clone(),
            forwarded: compared.forwarded.then(|| claimed.preconditions.clone()),
            fence,
            quoted_key: claimed.key.as_ref().is_some_and(IdempotencyKey::quoted),
            followed: false,
        };
        let unknown = idempotency::unknown(route.idempotency.on_unknown, Some(&mark));
        // From here on the work outlives its agent (K13): one that leaves while this is stored would leave a record
        // behind that nobody ends.
        self.must_finish.set();
        if let Some(mut claim) = claimed.claim.take() {
            match self.pass_failed_store(claim.forward(mark).await.map(Some).map_err(Refusal::from)) {
                Ok(Some(())) => claimed.claim = Some(claim),
                Ok(None) => {
                    claim.give_up(With::default()).await;
                }
                Err(refusal) => {
                    claimed.claim = Some(claim);
                    return Err(refusal);
                }
            }
        }
        // And it ends with a rest unless its end becomes known (Q5).
        if let Some(turn) = &mut turn {
            turn.forwarded(route.idempotency.settle);
        }
        let ran_before = matches!(&claimed.rerun, Some(Rerun::UpstreamCompares | Rerun::UpstreamHonorsKey));
        let prior = claimed.claim.as_mut().is_some_and(|claim| {
            let second = claim.is_second_try();
            claim.run_again();
            second
        });
        let pending = Pending {
            gate: Arc::clone(&self.gate),
            route: Arc::clone(&route),
            resource: claimed.resource,
            claim: claimed.claim.take(),
            turn,
            ran_before: ran_before && prior,
            telling: self.telling(claimed),
            besides: self.besides.take(),
        };
        // Not only alive, but in the life in which it was claimed: the others settled what an earlier one left.
        let living = self.gate.store.shared().and_then(crate::store::Shared::living);
        let lapsed = self.gate.store.shared().is_some()
            && pending.claim.is_some()
            && (living.is_none() || living != self.life);
        #[cfg(test)]
        let lapsed = lapsed && !super::teeth::sends_though_lapsed(living);
        if lapsed {
            // The others take this instance for dead, and may have begun what comes after this write (S3).
            pending.not_sent().await;
            return Err(Reason::StoreUnavailable.into());
        }
        let began = Instant::now();
        let call = Call {
            kind: Kind::Write,
            method: self.request.method.clone(),
            target: self.request.target.clone(),
            headers,
            body: std::mem::replace(&mut claimed.body, Body::Empty),
            body_time: self.rules.config.limits.body_time,
            total: Some(route.limits.upstream_total),
        };
        let answer = self.call(call, began).await;
        let operation = pending.claim.as_ref().map(|claim| claim.id);
        let (answer, total) = match answer {
            // Counted from the last byte sent, as an upload takes as long as it takes (K11).
            Ok((answer, sent)) => (answer, sent + route.limits.upstream_total),
            Err(failure) => return Err(Box::pin(self.failed(failure, pending, unknown, operation)).await),
        };
        #[cfg(test)]
        let pending = super::teeth::at_the_head(pending);
        self.told.story.upstream_status = Some(answer.status().as_u16());
        if answer.status() == StatusCode::PRECONDITION_FAILED && compared.forwarded {
            return Err(Box::pin(self.stale_upstream(pending, &answer, claimed, &probed, unknown)).await);
        }
        self.answered(pending, answer, total, claimed, probed, unknown).await
    }

    fn own_fields(&self, claimed: &Claimed, fence: u64, headers: &mut HeaderMap) {
        forward::of_write(headers, claimed.key.is_some());
        if let Some(key) = &claimed.key {
            // Spelled as the agent spelled it: many APIs know only bare keys (K16).
            let spelled = key.as_sent();
            let stands = headers.get(fields::IDEMPOTENCY_KEY).is_some_and(|sent| sent == spelled.as_str());
            if !stands && let Some(value) = fields::value(&spelled) {
                headers.insert(fields::IDEMPOTENCY_KEY, value);
            }
        }
        if fence != 0 {
            headers.insert(fields::ONCEWARD_FENCE, http::HeaderValue::from(fence));
        }
    }

    async fn call(&mut self, call: Call, began: Instant) -> Result<(Response, Deadline), Failure> {
        let client = Arc::clone(&self.entry.client);
        let answer = tokio::select! {
            biased;
            answer = client.timed(call) => answer,
            () = self.gate.closing.cancelled() => Err(Failure::ShutDown),
        };
        self.told.story.called(began);
        answer
    }

    /// K11: no answer came.
    async fn failed(
        &mut self,
        failure: Failure,
        pending: Pending,
        unknown: Unknown,
        operation: Option<RecordId>,
    ) -> Refusal {
        let reason = match failure {
            Failure::NotSent(why) => {
                pending.not_sent().await;
                return Reason::UpstreamUnreachable(why).into();
            }
            Failure::AgentBroke { sent: false } => {
                pending.not_sent().await;
                return Reason::BadRequest("The request's body broke off or is malformed.".to_owned()).into();
            }
            Failure::AgentLate { sent: false } => {
                pending.not_sent().await;
                return Reason::RequestTimeout("The request's body").into();
            }
            // What the upstream made of the part that it has nobody knows.
            Failure::AgentBroke { sent: true } | Failure::AgentLate { sent: true } => {
                Reason::RequestBrokeOff(unknown)
            }
            Failure::BrokeOff(_) => Reason::UpstreamBrokeOff { write: Some(unknown) },
            Failure::TimedOut => Reason::UpstreamTimeout { write: Some(unknown) },
            Failure::ShutDown => Reason::OutcomeUnknown(unknown),
        };
        pending.unknown(&self.gate.tasks).await;
        let refusal = Refusal::from(reason);
        match operation {
            Some(operation) => refusal.about(operation.to_text()),
            None => refusal,
        }
    }

    /// The upstream's own 412 is a stale version like any other (V6); after an unknown run it tells nothing (K12).
    async fn stale_upstream(
        &mut self,
        pending: Pending,
        answer: &Response,
        claimed: &Claimed,
        probed: &HeaderMap,
        unknown: Unknown,
    ) -> Refusal {
        let again = pending.ran_before;
        let current = answer.headers().get(http::header::ETAG).and_then(|value| value.to_str().ok());
        let current = current.and_then(EntityTag::parse);
        let shows_body = self.entry.route.version.include_current && !again;
        // Still in the turn, so that it is what this write met.
        let body = match shows_body {
            true => self.probe(claimed.probe_target.as_ref(), probed).body().await,
            false => None,
        };
        if again {
            pending.not_sent().await;
            return Reason::OutcomeUnknown(unknown).into();
        }
        let wanted_none = claimed.preconditions.if_none_match == Some(Condition::Any);
        let status = self.entry.route.version.stale_status;
        let reason = Reason::StaleVersion { status, current, body, wanted_none };
        pending.stale(&reason).await;
        reason.into()
    }

    /// An answer came: reads it, looks at the version after it, records both, and gives it on.
    async fn answered(
        &mut self,
        pending: Pending,
        answer: Response,
        total: Deadline,
        claimed: &Claimed,
        probed: HeaderMap,
        unknown: Unknown,
    ) -> Result<Response, Refusal> {
        let (head, body) = answer.into_parts();
        // The call has just ended.
        let began = self.told.story.upstream_calls.map_or_else(Instant::now, |(_, end)| end);
        let content = tokio::select! {
            biased;
            content = publish::content(&head, body, &self.entry.route, total) => content,
            () = self.gate.closing.cancelled() => Content::Left,
        };
        self.told.story.called(began);
        let tasks = self.gate.tasks.clone();
        match content {
            Content::Whole(body) => {
                let meaning = pending.meaning(head.status);
                self.told.story.outcome = outcome(meaning);
                let (next, names_next) = self.next_version(&head, claimed, meaning, &probed).await;
                Ok(pending.answered(head, body, next, names_next, &tasks).await?)
            }
            Content::Streams(body) => {
                self.told.story.outcome = outcome(pending.meaning(head.status));
                let names_next = self.names_next(&head);
                let told = version::told(&self.entry.route.version.source, &head.headers);
                let bounds = Bounds {
                    total,
                    write_time: self.rules.config.limits.write_time,
                    closing: self.gate.closing.clone(),
                };
                Ok(Box::pin(pending.streams(head, body, (told, names_next), bounds, &tasks)).await?)
            }
            Content::Left => {
                let operation = pending.claim.as_ref().map(|claim| claim.id);
                Err(Box::pin(self.failed(Failure::ShutDown, pending, unknown, operation)).await)
            }
            Content::Broke(error) => {
                let idle = error.is::<crate::upstream::Idle>() || Deadline::now() >= total;
                let failure = if idle { Failure::TimedOut } else { Failure::BrokeOff(error.to_string()) };
                let operation = pending.claim.as_ref().map(|claim| claim.id);
                Err(Box::pin(self.failed(failure, pending, unknown, operation)).await)
            }
        }
    }

    fn names_next(&self, head: &response::Parts) -> bool {
        let by_hand = self.entry.route.resource.is_some();
        version::names_next_version(&self.request.method, head.status, &head.headers, by_hand)
    }

    /// The version to send next (V7), and whether the answer may name it.
    async fn next_version(
        &mut self,
        head: &response::Parts,
        claimed: &Claimed,
        meaning: Meaning,
        probed: &HeaderMap,
    ) -> (Option<EntityTag>, bool) {
        let names = self.names_next(head);
        if !names || meaning != Meaning::Keep || !version::asks_upstream(&self.entry.route.version.source) {
            return (None, names);
        }
        let began = Instant::now();
        let probe = self.probe(claimed.probe_target.as_ref(), probed);
        let next = tokio::select! {
            biased;
            next = version::refresh(&probe, &self.request.method, &head.headers) => next,
            // The write's own answer is there, and it is told without (V7).
            () = self.gate.closing.cancelled() => None,
        };
        self.told.story.called(began);
        (next, names)
    }
}

fn outcome(meaning: Meaning) -> Outcome {
    match meaning {
        Meaning::Keep | Meaning::Release => Outcome::Executed,
        Meaning::Unknown => Outcome::Unknown,
    }
}
