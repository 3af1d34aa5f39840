//! What readers of events were told, held against the ledger and against what agents were told (E1).

use std::collections::{BTreeMap, HashMap, HashSet};

use http::{HeaderMap, HeaderName, HeaderValue};
use onceward::policy::identity::principal;
use onceward::protocol::record::{RecordId, Space};

use super::courses::course_of;
use super::journal::Attempt;
use super::readers::Reading;
use super::verdict::Evidence;
use crate::harness::events::Told;

/// The operator's id of an agent's key.
pub fn operation(agent: usize, key: &str) -> String {
    let name = HeaderName::from_static("authorization");
    let value = HeaderValue::from_str(&format!("Bearer agent-{agent}")).expect("a value");
    let headers = HeaderMap::from_iter([(name.clone(), value)]);
    let principal = principal(&headers, &[name]).unwrap_or_else(|_| panic!("no principal"));
    RecordId::new(Space::Enforced, &principal, key).to_text()
}

/// The history of the store in which something was told.
pub fn epoch(told: &Told) -> &str {
    told.id.split('-').next().unwrap_or_default()
}

/// Operations that readers were told are unknown; nothing where one of them missed something.
pub fn unknown(readings: &[Reading]) -> Option<HashSet<String>> {
    let whole = readings.iter().all(|reading| reading.ended && reading.gone.is_empty());
    let told = readings.iter().flat_map(|reading| &reading.told).filter(|told| told.kind == "unknown");
    let operation = |told: &Told| told.data["operation"].as_str().unwrap_or_default().to_owned();
    (whole && !readings.is_empty()).then(|| told.map(operation).collect())
}

pub struct Reader<'a> {
    pub evidence: &'a Evidence,
    pub readings: &'a [Reading],
    /// The log as it stands in the end, where the store has begun another one meanwhile.
    pub stands: Option<&'a Reading>,
    /// How often each resource was asked to be leased, by new keys.
    pub asked: &'a BTreeMap<String, usize>,
    /// The store may lose what it told.
    pub forgets: bool,
}

impl Reader<'_> {
    pub fn breaches(&self) -> Vec<String> {
        let mut found = Vec::new();
        let Some(first) = self.readings.first() else { return found };
        let whole = self.readings.iter().all(|reading| reading.gone.is_empty());
        for reading in self.readings {
            let name = reading.name;
            if !reading.gone.is_empty() && !self.forgets {
                found.push(format!("{name} was told `gone` behind events {:?}", reading.gone));
            }
            if !reading.ended {
                found.push(format!("{name} never saw the last event, but {}", reading.told.len()));
            }
            let mut ids = HashSet::new();
            let again = reading.told.iter().filter(|told| !ids.insert(&told.id));
            found.extend(again.map(|told| format!("{name} was told twice: {told:?}")));
            if let (true, Some(at)) = (whole, differs(&first.told, &reading.told)) {
                let [one, other] = [&first.told, &reading.told].map(|told| near(told, at));
                found.push(format!("{} and {name} differ from event {at}:\n{one}\n{other}", first.name));
            }
        }
        found.extend(self.changes(&first.told, whole));
        if whole {
            found.extend(self.leases(&first.told));
        }
        found.extend(self.stands.into_iter().flat_map(|stands| self.lasts(stands)));
        found
    }

    /// What readers were told in another epoch may be gone; what agents were told has its event to the end.
    fn lasts(&self, stands: &Reading) -> Vec<String> {
        if !stands.ended || !stands.gone.is_empty() {
            return vec![format!("the log cannot be read from its start: {} events", stands.told.len())];
        }
        let found = [self.changes(&stands.told, true), self.leases(&stands.told)].concat();
        found.into_iter().map(|what| format!("in the log as it stands: {what}")).collect()
    }

    /// Each change has one event, in the order of the ledger, and each event its change.
    fn changes(&self, told: &[Told], whole: bool) -> Vec<String> {
        let mut found = Vec::new();
        let mut keys: HashMap<&str, Of> = HashMap::new();
        for attempt in &self.evidence.attempts {
            let of = keys.entry(&attempt.key).or_insert_with(|| Of::new(attempt));
            let heard = attempt.heard.as_ref().filter(|heard| heard.refusal.is_none() && !heard.accepted);
            // 204 is an operator's word.
            of.done |= heard.is_some_and(|heard| (200..300).contains(&heard.status) && heard.status != 204);
        }
        for (place, effect) in self.evidence.effects.iter().enumerate() {
            let of = effect.key.as_ref().and_then(|key| keys.get_mut(&key[..]));
            if let Some(of) = of {
                of.effect.get_or_insert(place);
            }
        }
        let mut operations: HashMap<String, &mut Of> =
            keys.values_mut().map(|of| (of.operation.clone(), of)).collect();
        let stands = self.stands.filter(|_| !whole).map(std::slice::from_ref);
        let missed = stands.and_then(unknown).unwrap_or_default();
        let mut last: HashMap<&str, (usize, &Told)> = HashMap::new();
        for told in told.iter().filter(|told| !told.kind.starts_with("lease")) {
            let operation = told.data["operation"].as_str().unwrap_or_default();
            let Some(of) = operations.get_mut(operation) else {
                found.push(format!("told of what nobody asked for: {told:?}"));
                continue;
            };
            if told.subject != of.resource {
                found.push(format!("told of another resource than {}: {told:?}", of.resource));
            }
            match &told.kind[..] {
                "unknown" => of.unknown = true,
                "changed" => {
                    // A store that was taken over by one that lacks the event tells it again, in its own epoch.
                    let epoch = epoch(told);
                    of.changed = if of.epoch == epoch { of.changed + 1 } else { 1 };
                    epoch.clone_into(&mut of.epoch);
                    let Some(at) = of.effect else {
                        found.push(format!("told of a change that the ledger does not have: {told:?}"));
                        continue;
                    };
                    // What was unknown may be ended late, by the instance that lost the store meanwhile (S3). Who was
                    // told `gone` may have missed that it was.
                    if of.unknown || missed.contains(operation) || !course_of(&told.subject).turns {
                        continue;
                    }
                    if let Some((before, earlier)) = last.insert(&told.subject, (at, told))
                        && before > at
                    {
                        found.push(format!("not in the order of the ledger:\n  {earlier:?}\n  {told:?}"));
                    }
                }
                _ => {}
            }
        }
        for (key, of) in &keys {
            if of.changed > 1 {
                found.push(format!("{} changes told of key {key} on {}", of.changed, of.resource));
            }
            if of.done && of.changed == 0 && whole {
                found.push(format!("no change told of key {key} ({}) on {}", of.operation, of.resource));
            }
        }
        found
    }

    /// No more leases are told of than were asked for, all that somebody got are, and one ends before the next.
    fn leases(&self, told: &[Told]) -> Vec<String> {
        let mut found = Vec::new();
        let mut granted: BTreeMap<&str, usize> = BTreeMap::new();
        let mut holding: HashMap<&str, &Told> = HashMap::new();
        for told in told.iter().filter(|told| told.kind.starts_with("lease")) {
            let before = match &told.kind[..] {
                "lease.granted" => {
                    *granted.entry(&told.subject).or_default() += 1;
                    holding.insert(&told.subject, told)
                }
                "lease.released" | "lease.expired" if holding.remove(&*told.subject).is_none() => Some(told),
                "lease.renewed" if !holding.contains_key(&*told.subject) => Some(told),
                _ => None,
            };
            if let Some(before) = before {
                found.push(format!("a lease told of out of order: {before:?}, {told:?}"));
            }
        }
        let mut got: BTreeMap<&str, usize> = BTreeMap::new();
        for lease in &self.evidence.leases {
            *got.entry(&lease.resource).or_default() += 1;
        }
        for (resource, asked) in self.asked {
            let [granted, got] = [&granted, &got].map(|of| of.get(&**resource).copied().unwrap_or_default());
            if granted < got || granted > *asked {
                found.push(format!("{resource}: {asked} asked for it, {got} got it, {granted} were told of"));
            }
        }
        found
    }
}

/// What there is about one key.
struct Of {
    operation: String,
    resource: String,
    done: bool,
    /// Its place in the ledger.
    effect: Option<usize>,
    /// How often its change was told in the last epoch that told of it.
    changed: usize,
    epoch: String,
    unknown: bool,
}

impl Of {
    fn new(attempt: &Attempt) -> Of {
        let operation = operation(attempt.agent, &attempt.key);
        let resource = attempt.resource.clone();
        Of {
            operation,
            resource,
            done: false,
            effect: None,
            changed: 0,
            epoch: String::new(),
            unknown: false,
        }
    }
}

/// The first place where one of them has another event.
fn differs(one: &[Told], other: &[Told]) -> Option<usize> {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    (same < one.len().max(other.len())).then_some(same)
}

/// One event before that place and two from there.
fn near(told: &[Told], at: usize) -> String {
    let some = told.iter().skip(at.saturating_sub(1)).take(3);
    some.map(|told| format!("  {} {} {} {}", told.id, told.kind, told.subject, told.data))
        .collect::<Vec<_>>()
        .join("\n")
}
