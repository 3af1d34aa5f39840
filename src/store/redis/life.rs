//! Whether this instance is alive, by its own clock (S3).
//!
//! Its time counts from the moment *before* the last renewal that succeeded was sent: the others' clock for it began
//! no earlier. Once it is over here, the others may have taken it for dead, and it begins anew under another name.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::shared::Instance;

struct State {
    instance: Instance,
    until: Option<Instant>,
}

/// This process's lives, one after the other.
pub(super) struct Life {
    pub(super) alive: Duration,
    state: Mutex<State>,
}

impl Life {
    pub(super) fn new(alive: Duration) -> Self {
        Self { alive, state: Mutex::new(State { instance: other(), until: None }) }
    }

    /// The instance that is alive, if it is.
    pub(super) fn instance(&self) -> Option<Instance> {
        let state = self.state.lock();
        state.until.filter(|until| Instant::now() < *until).map(|_| state.instance)
    }

    /// The last one, whether it is alive or not.
    pub(super) fn last(&self) -> Instance {
        self.state.lock().instance
    }

    /// A name for the next one.
    pub(super) fn next() -> Instance {
        other()
    }

    /// The store took a renewal that was sent at `sent`.
    pub(super) fn renewed(&self, instance: Instance, sent: Instant) {
        *self.state.lock() = State { instance, until: Some(sent + self.alive) };
    }

    /// It ended by itself.
    pub(super) fn end(&self) {
        self.state.lock().until = None;
    }

    /// How often it is renewed.
    pub(super) fn pause(&self) -> Duration {
        self.alive / 3
    }
}

fn other() -> Instance {
    Instance(fastrand::u64(1..))
}
