//! What is held against claims on tasks (J2, J3): one at a time, fences that only grow, nothing by who is late.

use std::collections::{BTreeMap, HashSet};

use super::leases::{Fenced, gone_back};
use super::verdict::Evidence;
use crate::harness::ledger::Effect;

/// A claim that a worker was told of.
#[derive(Clone, Debug)]
pub struct Claim {
    pub agent: usize,
    pub task: String,
    pub fence: u64,
    pub attempt: u64,
    /// Before the first time it was asked for.
    pub asked: u64,
    pub told: u64,
    /// The last time that it is known to have lived.
    pub until: u64,
    /// Its worker has said that it ends, and may have been heard.
    pub over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Ack,
    /// With the write that finishes the task, whose key is in [`Said::key`].
    AckWithWrite,
    Release,
    Extend,
}

/// What a worker said of its claim, and heard.
#[derive(Clone, Debug)]
pub struct Said {
    /// Which claim of the journal.
    pub claim: usize,
    pub word: Word,
    pub key: Option<String>,
    pub sent: u64,
    pub at: u64,
    /// It was answered while the claim is kept for the write that comes with it. A write whose result comes later, for
    /// its store was away, is recorded alone.
    pub in_time: bool,
    /// Whether it stands; otherwise the claim is lost. `None`: nobody knows.
    pub stands: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub claims: usize,
    pub tasks: usize,
    pub acknowledged: usize,
    pub lost: usize,
    /// Nothing was said of them.
    pub left: usize,
}

impl Evidence {
    pub fn claim_figures(&self) -> Figures {
        let tasks: HashSet<_> = self.claims.iter().map(|claim| &claim.task).collect();
        let of = |wanted: &dyn Fn(&Said) -> bool| {
            let claims: HashSet<_> =
                self.said.iter().filter(|said| wanted(said)).map(|said| said.claim).collect();
            claims.len()
        };
        Figures {
            claims: self.claims.len(),
            tasks: tasks.len(),
            acknowledged: of(&|said| said.is_ack() && said.stands == Some(true)),
            lost: of(&|said| said.stands == Some(false)),
            left: self.claims.len() - of(&|_| true),
        }
    }

    /// A task is with one worker at a time, its fences grow, and who lost it changes nothing.
    pub fn on_claims(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut tasks: BTreeMap<&str, Vec<&Claim>> = BTreeMap::new();
        for claim in &self.claims {
            tasks.entry(&claim.task).or_default().push(claim);
        }
        for (task, mut of) in tasks {
            found.extend(fences(&of).map(|what| format!("task {task}: {what}")));
            // Who is told of a claim late, by a replay, may be told of one that is over.
            of.sort_by_key(|claim| claim.fence);
            let pairs = of.windows(2).filter(|pair| pair[0].until > pair[1].told);
            found.extend(pairs.map(|pair| format!("task {task} is with two at once: {pair:#?}")));
        }
        for said in &self.said {
            let claim = &self.claims[said.claim];
            found.extend(self.late(claim, said));
            if said.is_ack() && said.in_time && said.stands == Some(true) {
                found.extend(self.after_the_end(claim, said));
            }
        }
        found.extend(self.late_effects());
        found
    }

    /// What is said after the task was handed out again is not heard.
    fn late(&self, claim: &Claim, said: &Said) -> Option<String> {
        // A release that is said again is heard again.
        if said.word == Word::Release || said.stands != Some(true) {
            return None;
        }
        let later = self.later(claim).find(|later| later.told < said.sent)?;
        Some(format!("a late word was heard: {said:?} of {claim:?}, after {later:?}"))
    }

    /// What was acknowledged is over: nobody gets it again, and its claim can only be acknowledged again.
    fn after_the_end(&self, claim: &Claim, ack: &Said) -> Vec<String> {
        let mut found = Vec::new();
        let again = self.claims.iter().find(|other| other.task == claim.task && other.asked > ack.at);
        found.extend(again.map(|again| format!("handed out after {ack:?} of {claim:?}: {again:?}")));
        for said in self.said.iter().filter(|said| said.claim == ack.claim && said.sent > ack.at) {
            if said.stands.is_some_and(|stands| stands != said.is_ack()) {
                found.push(format!("after {ack:?} of {claim:?}: {said:?}"));
            }
        }
        found
    }

    /// No effect under a claim begins when one under a later claim has ended; one that goes with its acknowledgment
    /// not even when a later claim was told.
    fn late_effects(&self) -> Vec<String> {
        let mut found = Vec::new();
        let with_acks: HashSet<_> = self.said.iter().filter_map(|said| said.key.as_deref()).collect();
        for effect in &self.effects {
            let Some(fence) = effect.claim else { continue };
            let overtakes = |other: &&Effect| {
                other.resource == effect.resource
                    && other.claim.is_some_and(|later| later > fence)
                    && other.ended < effect.started
            };
            if let Some(other) = self.effects.iter().find(overtakes) {
                found
                    .push(format!("an effect under a claim that was overtaken: {effect:?}, after {other:?}"));
            }
            let by_ack = effect.key.as_deref().is_some_and(|key| with_acks.contains(key));
            let task = effect.resource.rsplit('/').next().unwrap_or_default();
            let later =
                |other: &&Claim| other.task == task && other.fence > fence && other.told < effect.started;
            if let Some(other) = self.claims.iter().find(later).filter(|_| by_ack) {
                found.push(format!("an acknowledgment's write ran late: {effect:?}, after {other:?}"));
            }
        }
        found
    }

    fn later(&self, claim: &Claim) -> impl Iterator<Item = &Claim> {
        let (task, fence) = (claim.task.clone(), claim.fence);
        self.claims.iter().filter(move |other| other.task == task && other.fence > fence)
    }
}

impl Said {
    fn is_ack(&self) -> bool {
        matches!(self.word, Word::Ack | Word::AckWithWrite)
    }
}

/// Fences grow from claim to claim of one task, and attempts with them.
fn fences(claims: &[&Claim]) -> impl Iterator<Item = String> {
    let fenced = claims.iter().map(|claim| {
        let what = format!("claim of agent {}, attempt {}", claim.agent, claim.attempt);
        let Claim { fence, asked: from, told: to, .. } = **claim;
        Fenced { fence, from, to, is_lease: true, under: true, what }
    });
    let mut by_fence = claims.to_vec();
    by_fence.sort_by_key(|claim| claim.fence);
    let attempts = by_fence.windows(2).find(|pair| pair[0].attempt >= pair[1].attempt);
    let attempts = attempts.map(|pair| format!("an attempt that did not grow: {pair:#?}"));
    gone_back(fenced.collect()).into_iter().chain(attempts)
}
