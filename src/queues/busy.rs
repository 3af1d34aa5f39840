//! What this instance remembers of tasks, so that not each look at a source asks the store for each task in it.
//!
//! Hints: what they say may be outdated the next moment. A task that is said to be free is looked up before it is
//! claimed; one that is said to be taken is looked up when word comes that some task is free again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::source::Identity;

/// More are not remembered.
const MOST: usize = 100_000;

/// What is known of tasks.
#[derive(Default)]
pub(super) struct Known(Mutex<Hints>);

/// A task is in one of them.
#[derive(Default)]
struct Hints {
    /// Agents have them, until then.
    held: HashMap<Identity, Instant>,
    over: HashMap<Identity, Over>,
}

#[derive(Debug, Clone, Copy)]
struct Over {
    until: Instant,
    /// Since when it is over, where its source was not seen without it since.
    since: Option<Instant>,
}

impl Known {
    /// An agent has it for so long.
    pub(super) fn held(&self, identity: Identity, left: Duration) {
        let now = Instant::now();
        let mut hints = self.0.lock();
        hints.over.remove(&identity);
        make_room(&mut hints.held, |until| *until > now);
        hints.held.insert(identity, after(now, left));
    }

    /// It is over, and remembered for so long.
    pub(super) fn ended(&self, identity: Identity, left: Duration) {
        let now = Instant::now();
        let mut hints = self.0.lock();
        hints.held.remove(&identity);
        make_room(&mut hints.over, |over| over.until > now);
        hints.over.insert(identity, Over { until: after(now, left), since: Some(now) });
    }

    /// Nothing is known of it any more.
    pub(super) fn forget(&self, identity: &str) {
        let mut hints = self.0.lock();
        hints.held.remove(identity);
        hints.over.remove(identity);
    }

    /// Some task is free again: what was held may be.
    pub(super) fn doubt(&self) {
        self.0.lock().held.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        let hints = self.0.lock();
        hints.held.is_empty() && hints.over.is_empty()
    }

    pub(super) fn is_busy(&self, identity: &str) -> bool {
        let hints = self.0.lock();
        let until = hints.held.get(identity).or_else(|| hints.over.get(identity).map(|over| &over.until));
        until.is_some_and(|until| *until > Instant::now())
    }

    /// What agents have comes first: it is surely in its source.
    pub(super) fn some(&self, most: usize) -> Vec<Identity> {
        let now = Instant::now();
        let hints = self.0.lock();
        let over = hints.over.iter().map(|(identity, over)| (identity, &over.until));
        let busy = hints.held.iter().chain(over).filter(|(_, until)| **until > now);
        busy.take(most).map(|(identity, _)| Identity::clone(identity)).collect()
    }

    /// Those that were over before `asked`, and are not among what was seen then; told once.
    pub(super) fn absent(&self, asked: Instant, seen: &dyn Fn(&str) -> bool) -> Vec<Identity> {
        let mut absent = Vec::new();
        for (identity, over) in &mut self.0.lock().over {
            if over.since.is_some_and(|at| at < asked) && !seen(identity) {
                // It stays known as over until its time is.
                over.since = None;
                absent.push(Identity::clone(identity));
            }
        }
        absent
    }
}

fn make_room<T>(hints: &mut HashMap<Identity, T>, counts: impl Fn(&T) -> bool) {
    if hints.len() >= MOST {
        hints.retain(|_, hint| counts(hint));
    }
    if hints.len() >= MOST {
        hints.clear();
    }
}

fn after(now: Instant, left: Duration) -> Instant {
    // A century ahead is as good as for ever, and can be added.
    now + left.min(Duration::from_secs(100 * 365 * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_stays_so_when_what_is_held_is_doubted() {
        let known = Known::default();
        known.held("a".into(), Duration::from_secs(60));
        known.ended("b".into(), Duration::from_secs(60));
        known.held("c".into(), Duration::ZERO);
        assert!(known.is_busy("a") && known.is_busy("b") && !known.is_busy("c"));
        known.doubt();
        assert!(!known.is_busy("a") && known.is_busy("b"));
        let before = Instant::now() - Duration::from_secs(1);
        assert!(known.absent(before, &|_| false).is_empty());
        let later = Instant::now() + Duration::from_secs(1);
        assert!(known.absent(later, &|seen| seen == "b").is_empty());
        assert_eq!(known.absent(later, &|_| false), [Identity::from("b")]);
        assert!(known.absent(later, &|_| false).is_empty());
    }
    // J3: of thousands that are over none takes the place of one that an agent has.
    #[test]
    fn what_is_held_is_named_first() {
        let known = Known::default();
        for task in 0..5000 {
            known.ended(task.to_string().into(), Duration::from_secs(60));
        }
        for task in ["a", "b", "c"] {
            known.held(task.into(), Duration::from_secs(60));
        }
        known.held("lapsed".into(), Duration::ZERO);
        let some = known.some(1000);
        assert_eq!(some.len(), 1000);
        assert!(["a", "b", "c"].into_iter().all(|held| some.iter().any(|busy| **busy == *held)));
        assert!(some.iter().all(|busy| **busy != *"lapsed"));
        known.ended("a".into(), Duration::from_secs(60));
        assert_eq!(known.some(2).len(), 2);
        assert!(known.some(2).iter().all(|held| ["b", "c"].contains(&&**held)));
    }
}
