//! The ledger's promises, held against what it did and what the agents were told.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::claimed::{Claim, Said};
use super::courses::course_of;
use super::history::{Operation, Value, Verdict, judge, shortest};
use super::jobs::State;
use super::journal::{Attempt, Heard, Refused, hash};
use super::leases::{Lease, under};
use crate::harness::ledger::Effect;

/// Refusals that come before the record is looked at (R7), or instead of it. They speak of their request alone.
pub const BEFORE_THE_RECORD: [&str; 5] =
    ["shutting-down", "too-many-connections", "store-unavailable", "request-timeout", "key-reused"];

#[derive(Default)]
pub struct Evidence {
    pub effects: Vec<Effect>,
    pub attempts: Vec<Attempt>,
    pub histories: BTreeMap<String, Vec<Operation>>,
    pub leases: Vec<Lease>,
    pub states: Vec<State>,
    pub claims: Vec<Claim>,
    pub said: Vec<Said>,
    /// Operations of which readers were told that they are unknown; nothing where a reader missed something.
    pub unknown: Option<HashSet<String>>,
    /// What every register held at first.
    pub start: Value,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub retries: usize,
    pub replays: usize,
    pub unknown: usize,
    pub lost: usize,
    /// Operations whose history was searched.
    pub judged: usize,
}

impl Evidence {
    pub fn figures(&self) -> Figures {
        let mut keys: HashMap<&str, bool> = HashMap::new();
        for attempt in &self.attempts {
            let unknown = attempt.heard.as_ref().and_then(|heard| heard.refusal.as_ref());
            *keys.entry(&attempt.key).or_default() |=
                unknown.is_some_and(|refused| refused.executed == "unknown");
        }
        Figures {
            retries: self.attempts.len() - keys.len(),
            replays: self.attempts.iter().flat_map(|one| &one.heard).filter(|heard| heard.replayed).count(),
            unknown: keys.values().filter(|unknown| **unknown).count(),
            lost: self.attempts.iter().filter(|one| one.heard.is_none()).count(),
            judged: self.histories.values().map(Vec::len).sum(),
        }
    }

    /// Every promise that was broken, each with the least that shows it.
    pub fn breaches(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut keys: BTreeMap<&str, Of> = BTreeMap::new();
        for effect in &self.effects {
            match &effect.key {
                Some(key) => keys.entry(key).or_default().effects.push(effect),
                None => found.push(format!("an effect without a key: {effect:?}")),
            }
        }
        for attempt in &self.attempts {
            keys.entry(&attempt.key).or_default().attempts.push(attempt);
        }
        for (key, of) in &keys {
            found.extend(of.breaches().into_iter().map(|what| format!("key {key}: {what}\n{}", of.shown())));
        }
        found.extend(self.on_resources());
        found.extend(self.on_leases());
        found.extend(self.on_jobs());
        found.extend(self.on_claims());
        found
            .extend(self.histories.iter().filter_map(|(resource, history)| self.register(resource, history)));
        found
    }

    /// Effects that take turns never overlap, and their fences grow.
    fn on_resources(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut resources: BTreeMap<&str, Vec<&Effect>> = BTreeMap::new();
        let leased = under(&self.attempts);
        let one_lease = |pair: &[&Effect]| {
            let [first, second] = [0, 1].map(|n| leased(pair[n]));
            first.is_some() && first == second && pair[0].fence == pair[1].fence
        };
        for effect in self.effects.iter().filter(|effect| course_of(&effect.resource).turns) {
            resources.entry(&effect.resource).or_default().push(effect);
        }
        for (resource, mut of) in resources {
            of.sort_by_key(|effect| effect.started);
            for pair in of.windows(2) {
                if pair[0].ended > pair[1].started {
                    found.push(format!("{resource}: two effects at once: {pair:#?}"));
                }
                if pair[0].fence.is_none() || (pair[0].fence >= pair[1].fence && !one_lease(pair)) {
                    found.push(format!("{resource}: a fence that did not grow: {pair:#?}"));
                }
            }
        }
        found
    }

    fn register(&self, resource: &str, history: &[Operation]) -> Option<String> {
        let what = match judge(&self.start, history) {
            Verdict::Linearizable => return None,
            Verdict::Undecided => "undecided, too many orders",
            Verdict::Broken(_) => "not linearizable",
        };
        let (from, least) = shortest(&self.start, history);
        let mut text =
            format!("{resource}: {what}, from {from:?}, {} of {} operations:", least.len(), history.len());
        for Operation { agent, kind, invoked, returned } in &least {
            text += &format!("\n  agent {agent} {kind:?} from {invoked} to {returned:?}");
        }
        for effect in &self.effects {
            let near = least
                .iter()
                .any(|one| format!("{:?}", one.kind).contains(effect.key.as_deref().unwrap_or(" ")));
            if effect.resource == resource && near {
                text +=
                    &format!("\n  effect of {:?} from {} to {}", effect.key, effect.started, effect.ended);
            }
        }
        Some(text)
    }
}

/// What there is about one key.
#[derive(Default)]
struct Of<'a> {
    effects: Vec<&'a Effect>,
    attempts: Vec<&'a Attempt>,
}

impl Of<'_> {
    fn breaches(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.effects.len() > 1 {
            found.push(format!("{} effects", self.effects.len()));
        }
        let effect = self.effects.first();
        let mut recorded: Option<&Attempt> = None;
        for attempt in &self.attempts {
            let Some(heard) = attempt.heard.as_ref().filter(|heard| !heard.accepted) else { continue };
            match &heard.refusal {
                Some(refused) => found.extend(self.refused(attempt, refused, heard.recorded)),
                None => found.extend(told_otherwise(attempt, heard, effect)),
            }
            if !heard.recorded {
                continue;
            }
            if recorded.is_some_and(|first| first.heard.as_ref().map(|one| one.print) != Some(heard.print)) {
                found.push(format!("attempt {} got other bytes than the one before", attempt.id));
            }
            recorded = recorded.or(Some(attempt));
        }
        found.extend(self.forgotten());
        found
    }

    /// What a refusal says of the effect has to be so.
    fn refused(&self, attempt: &Attempt, refused: &Refused, kept: bool) -> Option<String> {
        let Refused { code, executed, upstream_status, .. } = refused;
        // What the upstream refused itself was executed all the same (K4), and has no effect.
        let succeeded = upstream_status.is_none_or(|status| (200..300).contains(&status));
        let id = attempt.id.to_string();
        let own = self.effects.iter().any(|effect| effect.attempt.as_ref() == Some(&id));
        let before = self.effects.iter().any(|effect| effect.ended < attempt.sent);
        let speaks_of_the_key = !BEFORE_THE_RECORD.contains(&&**code);
        match &**executed {
            "no" if kept && !self.effects.is_empty() => {
                Some(format!("attempt {id} was told `no` by {code} for good, and there is an effect"))
            }
            "no" if own => Some(format!("attempt {id} was told `no` by {code}, and had the effect")),
            "no" if before && speaks_of_the_key => {
                Some(format!("attempt {id} was told `no` by {code} after the effect of another"))
            }
            "yes" if succeeded && !self.effects.iter().any(|effect| effect.started < attempt.at) => {
                Some(format!("attempt {id} was told `yes` by {code}, and there is no effect"))
            }
            _ => None,
        }
    }

    /// A result that an agent has been told is what every later request is told.
    fn forgotten(&self) -> Vec<String> {
        let recorded = |one: &&&Attempt| one.heard.as_ref().is_some_and(|heard| heard.recorded);
        let Some(first) = self.attempts.iter().filter(recorded).map(|one| one.at).min() else {
            return Vec::new();
        };
        let later = self.attempts.iter().filter(|one| one.sent > first);
        let forgot = later.filter(|one| {
            one.heard.as_ref().is_some_and(|heard| match &heard.refusal {
                Some(refused) => !heard.replayed && !BEFORE_THE_RECORD.contains(&refused.code.as_str()),
                None => !heard.replayed,
            })
        });
        forgot.map(|one| format!("attempt {} was not replayed what had been told", one.id)).collect()
    }

    fn shown(&self) -> String {
        let mut lines: Vec<(u64, String)> = Vec::new();
        for attempt in &self.attempts {
            lines.push((
                attempt.sent,
                format!("  {} attempt {} sent to {}", attempt.sent, attempt.id, attempt.resource),
            ));
            let heard = attempt.heard.as_ref().map_or("nothing".to_owned(), heard);
            lines.push((attempt.at, format!("  {} attempt {} heard {heard}", attempt.at, attempt.id)));
        }
        for effect in &self.effects {
            let Effect { attempt, method, resource, fence, .. } = effect;
            let what = format!("{method} {resource}, attempt {attempt:?}, fence {fence:?}");
            lines.push((effect.started, format!("  {} effect of {what} begins", effect.started)));
            lines.push((effect.ended, format!("  {} effect of {what} ends", effect.ended)));
        }
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
    }
}

/// What a result says has to be what the upstream did.
fn told_otherwise(attempt: &Attempt, heard: &Heard, effect: Option<&&Effect>) -> Vec<String> {
    let mut found = Vec::new();
    let done = (200..300).contains(&heard.status);
    // 204 without a body is an operator's word.
    let told = done && heard.status != 204;
    if done && effect.is_none_or(|effect| effect.started > attempt.at) {
        found.push(format!("attempt {} was told of an effect that is none", attempt.id));
    }
    if told && effect.is_some_and(|effect| hash(&effect.answer[..]) != heard.body) {
        found.push(format!("attempt {} was told another result than the upstream's", attempt.id));
    }
    if done && !heard.recorded {
        found.push(format!("attempt {} got a result that will not be replayed", attempt.id));
    }
    found
}

fn heard(heard: &Heard) -> String {
    let Heard { status, refusal, recorded, replayed, accepted, .. } = heard;
    match refusal {
        Some(Refused { code, executed, detail, .. }) => {
            format!("{status} {code}, executed: {executed}, recorded: {recorded}, {detail:?}")
        }
        None if *accepted => format!("{status}, accepted"),
        None => format!("{status}, recorded: {recorded}, replayed: {replayed}"),
    }
}
