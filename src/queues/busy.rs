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
pub(super) struct Known(Mutex<HashMap<Identity, Hint>>);

#[derive(Debug, Clone, Copy)]
struct Hint {
    until: Instant,
    /// Since when it is over, where it is, and its source was not seen without it since.
    ended: Option<Instant>,
}

impl Known {
    /// An agent has it for so long.
    pub(super) fn held(&self, identity: Identity, left: Duration) {
        self.set(identity, left, None);
    }

    /// It is over, and remembered for so long.
    pub(super) fn ended(&self, identity: Identity, left: Duration) {
        self.set(identity, left, Some(Instant::now()));
    }

    fn set(&self, identity: Identity, left: Duration, ended: Option<Instant>) {
        let now = Instant::now();
        let mut hints = self.0.lock();
        if hints.len() >= MOST {
            hints.retain(|_, hint| hint.until > now);
        }
        if hints.len() >= MOST {
            hints.clear();
        }
        // A century ahead is as good as for ever, and can be added.
        let until = now + left.min(Duration::from_secs(100 * 365 * 24 * 3600));
        hints.insert(identity, Hint { until, ended });
    }

    /// Nothing is known of it any more.
    pub(super) fn forget(&self, identity: &str) {
        self.0.lock().remove(identity);
    }

    /// Some task is free again: what was held may be.
    pub(super) fn doubt(&self) {
        self.0.lock().retain(|_, hint| hint.ended.is_some());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub(super) fn is_busy(&self, identity: &str) -> bool {
        self.0.lock().get(identity).is_some_and(|hint| hint.until > Instant::now())
    }

    pub(super) fn some(&self, most: usize) -> Vec<Identity> {
        let now = Instant::now();
        let hints = self.0.lock();
        let busy = hints.iter().filter(|(_, hint)| hint.until > now);
        busy.take(most).map(|(identity, _)| Identity::clone(identity)).collect()
    }

    /// Those that were over before `asked`, and are not among what was seen then; told once.
    pub(super) fn absent(&self, asked: Instant, seen: &dyn Fn(&str) -> bool) -> Vec<Identity> {
        let mut absent = Vec::new();
        for (identity, hint) in self.0.lock().iter_mut() {
            if hint.ended.is_some_and(|at| at < asked) && !seen(identity) {
                // It stays known as over until its time is.
                hint.ended = None;
                absent.push(Identity::clone(identity));
            }
        }
        absent
    }
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
}
