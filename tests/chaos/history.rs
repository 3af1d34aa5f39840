//! Whether what agents were told of one resource fits a register with compare-and-swap (linearizability).
//!
//! The search goes through the events in order and keeps every state the register can be in, as Wing and Gong's
//! does, but decides late, as Lowe's does: a write takes its place only when an answer needs it to have one. Equal
//! configurations are kept once. A read never changes the register, so it takes the first place that fits.

use std::collections::{BTreeSet, HashMap, HashSet};

/// What a resource holds: the revision an agent wrote, or nothing.
pub type Value = Option<String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Read(Value),
    /// From a value to another.
    Swap(Value, Value),
    /// A swap from that value that was refused as stale.
    Stale(Value),
}

/// One operation, as its agent saw it.
#[derive(Clone, Debug)]
pub struct Operation {
    pub agent: usize,
    pub kind: Kind,
    pub invoked: u64,
    /// `None`: the agent was never told how it ended. It may have an effect at any later time, or never.
    pub returned: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// Nothing fits any more when this operation returned.
    Broken(usize),
    /// More configurations than could be looked at.
    Undecided,
}

const CONFIGURATIONS: usize = 50_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Configuration {
    state: Value,
    /// Operations that have their place, and have not returned.
    placed: BTreeSet<usize>,
}

struct Search<'a> {
    all: &'a [Operation],
    configurations: HashSet<Configuration>,
    /// Swaps that may still take a place, by the value they need.
    swaps: HashMap<Value, Vec<usize>>,
    /// Reads and stale swaps that have not returned.
    looks: Vec<usize>,
    /// What has been invoked and will return.
    open: usize,
    /// The last time that only one configuration was left and nothing was under way, and the state it had.
    quiet: (u64, Value),
}

pub fn judge(start: &Value, all: &[Operation]) -> Verdict {
    judged(start, all).0
}

fn judged(start: &Value, all: &[Operation]) -> (Verdict, (u64, Value)) {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (index, operation) in all.iter().enumerate() {
        events.push((operation.invoked, false, index));
        events.extend(operation.returned.map(|at| (at, true, index)));
    }
    events.sort_unstable();
    let mut search = Search {
        all,
        configurations: HashSet::from([Configuration { state: start.clone(), placed: BTreeSet::new() }]),
        swaps: HashMap::new(),
        looks: Vec::new(),
        open: 0,
        quiet: (0, start.clone()),
    };
    for (at, returns, index) in events {
        if returns {
            search.returns(index, at);
        } else {
            search.invoked(index);
        }
        if search.configurations.is_empty() {
            return (Verdict::Broken(index), search.quiet);
        }
        if search.configurations.len() > CONFIGURATIONS {
            return (Verdict::Undecided, search.quiet);
        }
    }
    (Verdict::Linearizable, search.quiet)
}

impl Search<'_> {
    fn invoked(&mut self, index: usize) {
        self.open += usize::from(self.all[index].returned.is_some());
        if let Kind::Swap(old, _) = &self.all[index].kind {
            self.swaps.entry(old.clone()).or_default().push(index);
            return;
        }
        self.looks.push(index);
        let before = std::mem::take(&mut self.configurations);
        self.configurations = before.into_iter().map(|one| self.looked(one)).collect();
    }

    /// Gives every look that fits the state its place.
    fn looked(&self, mut one: Configuration) -> Configuration {
        let fits = |index: &&usize| match &self.all[**index].kind {
            Kind::Read(value) => *value == one.state,
            Kind::Stale(old) => *old != one.state,
            Kind::Swap(..) => false,
        };
        let fitting: Vec<_> = self.looks.iter().filter(fits).copied().collect();
        one.placed.extend(fitting);
        one
    }

    /// What is left is what has a place for `index` before now.
    fn returns(&mut self, index: usize, at: u64) {
        let mut left = HashSet::new();
        let mut seen = HashSet::new();
        let mut next: Vec<_> = self.configurations.drain().collect();
        while let Some(mut one) = next.pop() {
            if !seen.insert(one.clone()) {
                continue;
            }
            if one.placed.remove(&index) {
                left.insert(one);
            } else {
                next.extend(self.after(&one));
            }
            if seen.len() > CONFIGURATIONS {
                break;
            }
        }
        self.open -= 1;
        self.looks.retain(|look| *look != index);
        self.forget(index);
        self.configurations = left;
        self.settle(at);
    }

    /// Every configuration with one more swap in its place.
    fn after(&self, one: &Configuration) -> Vec<Configuration> {
        let swaps = self.swaps.get(&one.state).into_iter().flatten();
        let placed = swaps.filter(|swap| !one.placed.contains(swap)).filter_map(|swap| {
            let Kind::Swap(_, new) = &self.all[*swap].kind else { return None };
            let mut placed = one.placed.clone();
            placed.insert(*swap);
            Some(self.looked(Configuration { state: new.clone(), placed }))
        });
        placed.collect()
    }

    fn forget(&mut self, index: usize) {
        if let Kind::Swap(old, _) = &self.all[index].kind
            && let Some(swaps) = self.swaps.get_mut(old)
        {
            swaps.retain(|swap| *swap != index);
        }
    }

    /// Where one configuration is left, swaps of unknown end that have their place need no more thought.
    fn settle(&mut self, at: u64) {
        if self.configurations.len() != 1 {
            return;
        }
        let Some(mut one) = self.configurations.drain().next() else { return };
        let ended: Vec<_> =
            one.placed.iter().copied().filter(|index| self.all[*index].returned.is_none()).collect();
        for index in ended {
            one.placed.remove(&index);
            self.forget(index);
        }
        if self.open == 0 {
            self.quiet = (at, one.state.clone());
        }
        self.configurations.insert(one);
    }
}

/// The shortest history found that still breaks: from the last quiet moment to the answer that fits nowhere, without
/// what does not matter to it. Gives the state it begins with, too.
pub fn shortest(start: &Value, all: &[Operation]) -> (Value, Vec<Operation>) {
    let (Verdict::Broken(last), (from, state)) = judged(start, all) else {
        return (start.clone(), all.to_vec());
    };
    let until = all[last].returned.unwrap_or(u64::MAX);
    let within = all.iter().filter(|one| one.invoked <= until);
    let within = within.filter(|one| one.returned.is_none_or(|returned| returned > from));
    let mut left: Vec<Operation> = within.cloned().collect();
    for operation in &mut left {
        operation.returned = operation.returned.filter(|returned| *returned <= until);
    }
    if !matches!(judge(&state, &left), Verdict::Broken(_)) {
        return (start.clone(), all.to_vec());
    }
    for index in (0..left.len()).rev() {
        let mut fewer = left.clone();
        let removed = fewer.remove(index);
        if !is_needed(&removed, &fewer) && matches!(judge(&state, &fewer), Verdict::Broken(_)) {
            left = fewer;
        }
    }
    left.sort_by_key(|one| one.invoked);
    (state, left)
}

/// A swap whose value somebody saw has to stay, or the rest would break for want of it.
fn is_needed(operation: &Operation, others: &[Operation]) -> bool {
    let Kind::Swap(_, new) = &operation.kind else { return false };
    others.iter().any(|other| match &other.kind {
        Kind::Read(value) | Kind::Swap(value, _) => value == new,
        Kind::Stale(_) => false,
    })
}
