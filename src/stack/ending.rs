//! How a forwarded write ends: what its answer means, what is recorded of it, and what the agent gets (K4, K8–K11, V7,
//! V8).
//!
//! Result, version and the end of the turn are one step: [`Pending`] holds all three, and whoever drops it without a
//! word leaves an unknown outcome and a rest behind, never a free key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, response};
use tokio_util::task::TaskTracker;

use super::telling::Telling;
use super::{Besides, Gate};
use crate::config::checked::{Route, Source};
use crate::http::timestamp::{millis, now};
use crate::http::{Body, Reason, Response, fields};
use crate::policy::idempotency::{Claim, Ended, NotRecorded, With, server_errors, set_expires};
use crate::policy::publish::{self, Bounds};
use crate::policy::turn::Turn;
use crate::protocol::entity_tag::EntityTag;
use crate::protocol::record::{Meaning, Millis, RecordId, ResourceId, may_have_changed, meaning};
use crate::store::{Answer, Encoded, Event, Move, Number};

/// A write that went out.
pub(super) struct Pending {
    pub(super) gate: Arc<Gate>,
    pub(super) route: Arc<Route>,
    pub(super) resource: ResourceId,
    pub(super) claim: Option<Claim>,
    pub(super) turn: Option<Turn>,
    /// It ran before with an unknown outcome, and what it says of itself now says nothing of that (K12).
    pub(super) ran_before: bool,
    /// What every word about it has; `None`: nothing is told of it.
    pub(super) telling: Option<Telling>,
    /// What is committed with a success (J2).
    pub(super) besides: Option<Besides>,
}

/// What goes with an end.
#[derive(Clone, Default)]
struct Along {
    version: Option<Move>,
    /// The store gave no number for a version that has to move: nothing is recorded before it does, or the next write
    /// would be compared with the version before this one (V8).
    owed: Option<(StatusCode, Meaning)>,
    event: Option<Event>,
}

/// The store gave no number for a version that has to move.
#[derive(Debug, Clone, Copy)]
struct NoNumber;

impl Pending {
    /// Whether an agent can ask for the answer again.
    fn is_keyed(&self) -> bool {
        self.claim.as_ref().is_some_and(Claim::is_keyed)
    }

    /// Whether its agent was answered before it ran (J1).
    fn is_job(&self) -> bool {
        self.claim.as_ref().is_some_and(Claim::is_job)
    }

    /// What this status means here.
    pub(super) fn meaning(&self, status: StatusCode) -> Meaning {
        let meaning = meaning(status.as_u16(), server_errors(self.route.idempotency.on_5xx));
        match meaning {
            Meaning::Release if self.ran_before => Meaning::Unknown,
            Meaning::Keep | Meaning::Release | Meaning::Unknown => meaning,
        }
    }

    /// The minted version after an effect; `None` on other routes.
    async fn next_version(&self, status: StatusCode, meaning: Meaning) -> Result<Option<Move>, NoNumber> {
        if self.route.version.source != Source::Mint || !may_have_changed(status.as_u16(), meaning) {
            return Ok(None);
        }
        let to = self.number(0).await?;
        let later = match meaning {
            Meaning::Unknown => Some((self.rest_ends(), self.number(1).await?)),
            Meaning::Keep | Meaning::Release => None,
        };
        Ok(Some(Move { resource: self.resource, to, later, ends_rest: false }))
    }

    /// A number for the version's first or second move: given with the turn, or asked for now.
    async fn number(&self, which: usize) -> Result<Number, NoNumber> {
        match self.turn.as_ref().and_then(Turn::grant) {
            Some(grant) => grant.numbers.get(which).copied().ok_or(NoNumber),
            None => self.gate.store.next_number().await.map_err(|_| NoNumber),
        }
    }

    /// What goes with an end of this meaning.
    async fn along(&self, status: StatusCode, meaning: Meaning) -> Along {
        match self.next_version(status, meaning).await {
            Ok(version) => Along { version, ..Along::default() },
            Err(NoNumber) => Along { owed: Some((status, meaning)), ..Along::default() },
        }
    }

    fn operation(&self) -> Option<RecordId> {
        self.claim.as_ref().map(|claim| claim.id)
    }

    /// What is told of an answer with this meaning (E1).
    fn told(&self, status: StatusCode, meaning: Meaning, version: Option<&EntityTag>) -> Option<Event> {
        let telling = self.telling.as_ref()?;
        match meaning {
            Meaning::Keep => telling.changed(status, version, self.operation()),
            Meaning::Unknown => Some(telling.unknown(Some(status), self.operation())),
            Meaning::Release => None,
        }
    }

    fn told_unknown(&self) -> Option<Event> {
        self.telling.as_ref().map(|telling| telling.unknown(None, self.operation()))
    }

    fn rest_ends(&self) -> Millis {
        now().saturating_add(millis(self.route.idempotency.settle))
    }

    /// The write ended with a whole answer: records it, and gives it to the agent.
    ///
    /// `next`: the version that a probe or the upstream told, where the answer may name one.
    ///
    /// # Errors
    /// K4: the result is not stored yet; it is as soon as the store can.
    pub(super) async fn answered(
        mut self,
        mut head: response::Parts,
        body: Bytes,
        next: Option<EntityTag>,
        names_next: bool,
        tasks: &TaskTracker,
    ) -> Result<Response, Reason> {
        let status = head.status;
        let meaning = self.meaning(status);
        let mut along = self.along(status, meaning).await;
        let minted = along.version.map(|to| self.gate.store.minted_tag(to.resource, to.to));
        let next = match minted.as_deref().and_then(EntityTag::parse) {
            Some(minted) => Some(minted),
            None => next,
        };
        let next = next.filter(|_| names_next && meaning == Meaning::Keep);
        let keyed = self.is_keyed();
        along.event = self.told(status, meaning, next.as_ref());
        let kept = keyed && (meaning == Meaning::Keep || (meaning == Meaning::Release && self.is_job()));
        publish::dress(&mut head, &self.route, next, kept);
        let ended = match meaning {
            Meaning::Keep => {
                let answer = keyed.then(|| encoded(&head, &body));
                Ended::Done { status: status.as_u16(), answer }
            }
            // A job is not sent twice, whatever its upstream says of the first time (J1).
            Meaning::Release if kept => {
                Ended::Done { status: status.as_u16(), answer: Some(encoded(&head, &body)) }
            }
            Meaning::Release => Ended::Released,
            Meaning::Unknown => Ended::Unknown,
        };
        match self.end(ended, &along).await {
            Ok(expires_at) => {
                let mut response = Response::from_parts(head, Body::Full(body));
                if let Some(expires_at) = expires_at.filter(|_| kept) {
                    set_expires(&mut response, expires_at);
                }
                Ok(response)
            }
            Err(again) if meaning == Meaning::Keep || kept => {
                let answer = encoded(&head, &body);
                tasks.spawn(self.store_later(again, along, Some(answer)));
                Err(Reason::ResultNotStored { upstream_status: status.as_u16() })
            }
            Err(again) => {
                tasks.spawn(self.store_later(again, along, None));
                Ok(Response::from_parts(head, Body::Full(body)))
            }
        }
    }

    /// No whole answer came (K11).
    pub(super) async fn unknown(mut self, tasks: &TaskTracker) {
        let along = self.along(StatusCode::BAD_GATEWAY, Meaning::Unknown).await;
        let along = Along { event: self.told_unknown(), ..along };
        if let Err(again) = self.end(Ended::Unknown, &along).await {
            tasks.spawn(self.store_later(again, along, None));
        }
    }

    /// Nothing went out: the key is free again, and the next may go.
    pub(super) async fn not_sent(self) {
        self.without_effect(None).await;
    }

    /// The upstream itself found that it was built on an old version (V6).
    pub(super) async fn stale(self, reason: &Reason) {
        let event = self.telling.as_ref().and_then(|telling| telling.conflict(reason, self.operation()));
        self.without_effect(event).await;
    }

    async fn without_effect(mut self, event: Option<Event>) {
        // What was told when it became unknown still holds.
        let ended = if self.ran_before { Ended::Unknown } else { Ended::Released };
        // What the store does not take now the claim's own end tries again.
        if self.end(ended, &Along { event, ..Along::default() }).await.is_err() {
            tracing::warn!("a key could not be freed yet");
        }
    }

    /// Records the end, then ends the turn. When the record expires, where there is one and it is still ours.
    async fn end(&mut self, ended: Ended, along: &Along) -> Result<Option<Millis>, Again> {
        let again = Again::of(&ended);
        if along.owed.is_some() {
            return Err(again);
        }
        let is_unknown = matches!(ended, Ended::Unknown);
        let may_have_changed = !matches!(ended, Ended::Released);
        let rest = is_unknown.then_some(self.route.idempotency.settle).filter(|settle| !settle.is_zero());
        let turn_end = self.turn.as_ref().and_then(|turn| turn.ending(rest));
        let event = along.event.clone();
        let with = With { version: along.version, turn: turn_end, event, ..With::default() };
        let expires_at = match &mut self.claim {
            // A version moves with the record; where the key is only freed, nothing moves.
            Some(claim) => match end_with(claim, ended, with, self.besides.as_ref()).await {
                Ok(expires_at) => Some(expires_at),
                Err(NotRecorded::Store(_)) => return Err(again),
                Err(NotRecorded::Lost) => {
                    tracing::warn!(operation = claim.id.to_text(), "an end came after another was recorded");
                    None
                }
            },
            None => {
                if let Some(to) = along.version {
                    self.gate.store.move_version(to, now()).await.map_err(|_| again)?;
                }
                self.gate.tell(along.event.clone()).await;
                None
            }
        };
        match self.turn.take() {
            Some(turn) if turn_end.is_some() && self.claim.is_some() => turn.committed(),
            // Dropped unsettled: its resource rests.
            Some(turn) if is_unknown => drop(turn),
            Some(turn) => turn.settled(),
            None => {}
        }
        if self.telling.is_none() && may_have_changed {
            // Nothing comes by the log of events that could wake who waits for a change.
            self.gate.hub.touched(|| self.resource);
        }
        Ok(expires_at)
    }

    /// Tries until the store takes it (K4). The turn is held as long: nobody may build on what is not recorded.
    async fn store_later(mut self, again: Again, mut along: Along, answer: Option<Encoded>) {
        let mut pause = Duration::from_millis(100);
        loop {
            tokio::time::sleep(pause).await;
            if let Some((status, meaning)) = along.owed {
                along = Along { event: along.event, ..self.along(status, meaning).await };
            }
            if self.end(again.ended(answer.clone()), &along).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Passes an answer through that is not kept (K10). Its end is recorded whatever the agent does (K13, Q3).
    ///
    /// `told`: the upstream's own tag, where the answer may name one; nothing is read again before the end (V7).
    ///
    /// # Errors
    /// K4: the store does not take that it began. It is read to its end all the same, and that is stored as soon as
    /// the store can.
    pub(super) async fn streams(
        mut self,
        mut head: response::Parts,
        body: Body,
        (told, names_next): (Option<EntityTag>, bool),
        bounds: Bounds,
        tasks: &TaskTracker,
    ) -> Result<Response, Reason> {
        let status = head.status;
        let begun = match &mut self.claim {
            Some(claim) => claim.streams(status.as_u16()).await,
            None => Ok(()),
        };
        // A minted version moves at the end, yet its number can be given now.
        let moves = self.next_version(status, self.meaning(status)).await.unwrap_or_default();
        let minted = moves.and_then(|to| EntityTag::parse(&self.gate.store.minted_tag(to.resource, to.to)));
        let next = minted.or(told).filter(|_| names_next);
        publish::dress(&mut head, &self.route, next.clone(), false);
        let own_tasks = tasks.clone();
        let (pump, body) = publish::relay(body, bounds);
        tasks.spawn(async move {
            let whole = pump.run().await;
            self.streamed(status, whole, (moves, next), &own_tasks).await;
        });
        begun.map_err(|_| Reason::ResultNotStored { upstream_status: status.as_u16() })?;
        Ok(Response::from_parts(head, body))
    }

    async fn streamed(
        mut self,
        status: StatusCode,
        whole: bool,
        (announced, next): (Option<Move>, Option<EntityTag>),
        tasks: &TaskTracker,
    ) {
        let meaning = if whole { self.meaning(status) } else { Meaning::Unknown };
        let along = match announced.filter(|_| meaning == Meaning::Keep) {
            Some(announced) => Along { version: Some(announced), ..Along::default() },
            None => self.along(status, meaning).await,
        };
        let ended = match meaning {
            Meaning::Keep => Ended::Done { status: status.as_u16(), answer: None },
            Meaning::Release if self.is_job() => Ended::Done { status: status.as_u16(), answer: None },
            Meaning::Release => Ended::Released,
            Meaning::Unknown => Ended::Unknown,
        };
        let event = match meaning {
            // A status came, and no end.
            Meaning::Unknown if !whole => self.told_unknown(),
            Meaning::Keep | Meaning::Release | Meaning::Unknown => self.told(status, meaning, next.as_ref()),
        };
        let along = Along { event, ..along };
        if let Err(again) = self.end(ended, &along).await {
            tasks.spawn(self.store_later(again, along, None));
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.claim.as_ref().is_some_and(Claim::is_out) {
            return;
        }
        // Nobody said how it ended, so its claim will: it is unknown.
        if let (Some(event), Some(claim)) = (self.told_unknown(), &mut self.claim) {
            claim.has_last_word(event);
        }
    }
}

/// Ends a claim, with what goes with a success; where that is lost without.
async fn end_with(
    claim: &mut Claim,
    ended: Ended,
    with: With,
    besides: Option<&Besides>,
) -> Result<Millis, NotRecorded> {
    let (Some(besides), Ended::Done { status: status @ 200..=299, answer }) = (besides, &ended) else {
        return claim.end(ended, with).await;
    };
    let again = Ended::Done { status: *status, answer: answer.clone() };
    match claim.end(again, With { cells: besides.cells(), ..with.clone() }).await {
        Err(NotRecorded::Lost) => {
            tracing::warn!("a task's claim had ended before the write that finishes the task was recorded");
            claim.end(ended, with).await
        }
        recorded => {
            besides.note(recorded.is_ok());
            recorded
        }
    }
}

/// What is kept of an answer (K9).
fn encoded(head: &response::Parts, body: &[u8]) -> Encoded {
    Answer::encode(head.status, &head.headers, fields::is_kept, body)
}

/// An end that is to be recorded again.
#[derive(Clone, Copy)]
enum Again {
    Done(u16),
    Released,
    Unknown,
}

impl Again {
    fn of(ended: &Ended) -> Self {
        match ended {
            Ended::Done { status, .. } => Self::Done(*status),
            Ended::Released => Self::Released,
            Ended::Unknown => Self::Unknown,
        }
    }

    fn ended(self, answer: Option<Encoded>) -> Ended {
        match self {
            Self::Done(status) => Ended::Done { status, answer },
            Self::Released => Ended::Released,
            Self::Unknown => Ended::Unknown,
        }
    }
}
