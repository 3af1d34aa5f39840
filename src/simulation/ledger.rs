//! What an honest observer writes down: every effect, every call, every answer; and what must be true of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::world::Check;
use crate::http::fields;
use crate::protocol::record::{Phase, RecordId};
use crate::store::model::Moved;

pub(super) type Held<T = ()> = Result<T, (Check, String)>;

/// One write that arrived at the upstream.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) attempt: u64,
    pub(super) key: Option<RecordId>,
    pub(super) resource: String,
    /// Writes to it take turns.
    pub(super) turns: bool,
    /// The upstream honors the key, and Onceward may call again.
    pub(super) reruns: bool,
    pub(super) fence: Option<u64>,
    /// The value it was built on, where that was compared.
    pub(super) base: Option<u64>,
}

/// An answer as an agent got it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A refusal of Onceward's own.
#[derive(Debug, Clone, serde::Deserialize)]
pub(super) struct Problem {
    pub(super) code: String,
    pub(super) executed: String,
    pub(super) retry: String,
    pub(super) upstream_status: Option<u16>,
}

#[derive(Default)]
struct Key {
    effects: u64,
    /// Calls that still live in the upstream.
    live: u32,
    /// The first answer that was kept.
    first: Option<Answer>,
}

#[derive(Default)]
struct Attempt {
    calls: u32,
    effects: u32,
    denied: bool,
    /// It began when there was a kept answer for it already.
    is_late: bool,
    /// Effects under its key when it began.
    effects_before: u64,
}

#[derive(Default)]
struct Resource {
    value: u64,
    fence: u64,
    /// The attempt whose write lives in the upstream.
    live: Option<u64>,
}

/// The book.
#[derive(Default)]
pub(super) struct Ledger {
    keys: BTreeMap<RecordId, Key>,
    attempts: BTreeMap<u64, Attempt>,
    resources: BTreeMap<String, Resource>,
    effects: u64,
    calls: u64,
}

fn hold(holds: bool, check: Check, what: impl FnOnce() -> String) -> Held {
    if holds { Ok(()) } else { Err((check, what())) }
}

impl Ledger {
    pub(super) fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    pub(super) fn value(&self, resource: &str) -> u64 {
        self.resources.get(resource).map_or(0, |resource| resource.value)
    }

    /// An agent sends a request.
    pub(super) fn begins(&mut self, attempt: u64, id: Option<RecordId>) {
        let own = self.attempts.entry(attempt).or_default();
        if let Some(key) = id.and_then(|id| self.keys.get(&id)) {
            (own.is_late, own.effects_before) = (key.first.is_some(), key.effects);
        }
    }

    /// A write arrives; `phase` is what the store says of its key at this moment.
    pub(super) fn arrives(&mut self, write: &Arrival, phase: Option<Phase>) -> Held {
        let attempt = self.attempts.entry(write.attempt).or_default();
        attempt.calls += 1;
        hold(attempt.calls == 1, Check::SentOnce, || format!("attempt {} went out again", write.attempt))?;
        if let Some(id) = write.key {
            self.keys.entry(id).or_default().live += 1;
            hold(phase == Some(Phase::Forwarded), Check::ForwardedFirst, || {
                format!("attempt {} arrived while its record was {phase:?}", write.attempt)
            })?;
        }
        if !write.turns {
            return Ok(());
        }
        let resource = self.resources.entry(write.resource.clone()).or_default();
        let before = resource.live.replace(write.attempt);
        hold(before.is_none(), Check::OneAtATime, || {
            format!("attempt {} met attempt {before:?} on {}", write.attempt, write.resource)
        })?;
        let fence = write.fence.unwrap_or_default();
        let last = std::mem::replace(&mut resource.fence, fence);
        hold(last < fence, Check::FencesGrow, || format!("{fence} came after {last} on {}", write.resource))
    }

    /// A write has its effect. The number of the effect.
    pub(super) fn takes_effect(&mut self, write: &Arrival) -> Held<u64> {
        self.effects += 1;
        let number = self.effects;
        let attempt = self.attempts.entry(write.attempt).or_default();
        attempt.effects += 1;
        hold(!attempt.denied, Check::NoMeansNo, || {
            format!("attempt {} had an effect, and its agent was told that it has none", write.attempt)
        })?;
        if let Some(key) = write.key.and_then(|id| self.keys.get_mut(&id)) {
            key.effects += 1;
            hold(key.effects == 1 || write.reruns, Check::OneEffect, || {
                format!("attempt {} is effect {} under its key", write.attempt, key.effects)
            })?;
        }
        let resource = self.resources.entry(write.resource.clone()).or_default();
        let value = std::mem::replace(&mut resource.value, number);
        if let Some(base) = write.base {
            hold(base == value, Check::NoLostUpdate, || {
                format!("attempt {} was built on {base} and replaced {value}", write.attempt)
            })?;
        }
        Ok(number)
    }

    /// A write no longer lives in the upstream.
    pub(super) fn leaves(&mut self, write: &Arrival) {
        if let Some(key) = write.key.and_then(|id| self.keys.get_mut(&id)) {
            key.live -= 1;
        }
        let resource = self.resources.get_mut(&write.resource);
        if let Some(resource) = resource.filter(|resource| resource.live == Some(write.attempt)) {
            resource.live = None;
        }
    }

    /// A record went from one phase to another.
    /// `shared`: an instance that was taken for dead may know the outcome after all (S3).
    pub(super) fn stepped(&mut self, step: Moved, shared: bool) -> Held {
        let Moved { id, from, to } = step;
        use Phase::{Claimed, Done, Forwarded, Queued, Unknown};
        let legal = match (from, to) {
            (None, Some(Claimed)) | (Some(Claimed), None | Some(Claimed | Queued | Forwarded)) => true,
            (Some(Queued), None | Some(Claimed | Done)) => true,
            (None, Some(Forwarded)) | (Some(Unknown), None | Some(Claimed | Done)) if shared => true,
            (Some(Forwarded), _) | (Some(Unknown), Some(Forwarded)) => true,
            (Some(Done), Some(Done)) => true,
            (None | Some(Claimed | Queued | Done | Unknown), _) => false,
        };
        hold(legal, Check::LegalStep, || format!("{from:?} became {to:?}"))?;
        let Some(key) = self.keys.get(&id).filter(|_| matches!(to, None | Some(Claimed | Queued))) else {
            return Ok(());
        };
        hold(key.effects == 0 && key.live == 0, Check::FreeMeansNotRun, || {
            format!("{from:?} became {to:?} with {} effects and {} calls", key.effects, key.live)
        })
    }

    /// An agent has an answer to an attempt. `content`: what the attempt asked for.
    pub(super) fn answered(
        &mut self,
        attempt: u64,
        id: Option<RecordId>,
        content: &str,
        answer: &Answer,
        problem: Option<&Problem>,
    ) -> Held {
        match problem {
            Some(problem) => self.refused(attempt, id, problem),
            None => self.gave(attempt, id, content, answer),
        }
    }

    fn refused(&mut self, attempt: u64, id: Option<RecordId>, problem: &Problem) -> Held {
        let code = problem.code.as_str();
        let own = self.attempts.entry(attempt).or_default();
        let (is_late, effects_before) = (own.is_late, own.effects_before);
        if problem.executed == "no" {
            own.denied = true;
            hold(own.effects == 0, Check::NoMeansNo, || format!("{code} to attempt {attempt}, which ran"))?;
        }
        let Some(key) = id.map(|id| self.keys.entry(id).or_default()) else { return Ok(()) };
        // These are said by whoever has the claim: nothing was done under it.
        let has_claim = matches!(
            code,
            "stale-version" | "queue-full" | "queue-timeout" | "upstream-unreachable" | "version-unavailable"
        );
        let said_no = has_claim && problem.executed == "no";
        hold(!said_no || effects_before == 0, Check::NoMeansNo, || {
            format!("{code} to attempt {attempt}, whose key had {effects_before} effects")
        })?;
        let ran =
            problem.executed == "yes" && problem.upstream_status.is_some_and(|s| (200..300).contains(&s));
        hold(!ran || key.effects > 0, Check::YesMeansYes, || format!("{code} to attempt {attempt}"))?;
        let of_record = has_claim || matches!(code, "in-flight" | "outcome-unknown" | "response-not-kept");
        hold(!of_record || !is_late, Check::KeptAnswer, || {
            format!("{code} to attempt {attempt}, whose key has a kept answer")
        })
    }

    fn gave(&mut self, attempt: u64, id: Option<RecordId>, content: &str, answer: &Answer) -> Held {
        if answer.status.is_success() {
            let of = std::str::from_utf8(&answer.body).unwrap_or_default();
            hold(of.contains(content), Check::OwnAnswer, || {
                format!("attempt {attempt} asked for {content} and got {of}")
            })?;
        }
        let Some(key) = id.map(|id| self.keys.entry(id).or_default()) else { return Ok(()) };
        hold(!answer.status.is_success() || key.effects > 0, Check::YesMeansYes, || {
            format!("attempt {attempt} got {} without an effect", answer.status)
        })?;
        if !answer.headers.contains_key(&fields::IDEMPOTENCY_EXPIRES) {
            let is_late = self.attempts.get(&attempt).is_some_and(|attempt| attempt.is_late);
            return hold(!is_late, Check::KeptAnswer, || {
                format!("attempt {attempt} got {} and another answer is kept", answer.status)
            });
        }
        let Some(first) = &key.first else {
            key.first = Some(answer.clone());
            return Ok(());
        };
        hold(same(first, answer), Check::SameAnswer, || {
            format!("attempt {attempt} got {answer:?} and the first was {first:?}")
        })
    }
}

fn same(first: &Answer, second: &Answer) -> bool {
    let kept = |answer: &Answer| {
        let kept = answer.headers.iter().filter(|(name, _)| {
            fields::is_kept(name)
                && **name != fields::IDEMPOTENT_REPLAYED
                && **name != fields::PREFERENCE_APPLIED
        });
        let mut kept: Vec<_> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        kept.sort_by(|a, b| (a.0.as_str(), a.1.as_bytes()).cmp(&(b.0.as_str(), b.1.as_bytes())));
        kept
    };
    first.status == second.status && first.body == second.body && kept(first) == kept(second)
}
