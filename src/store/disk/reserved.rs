//! Numbers that are in the file before they are given (V8, L4).

use std::sync::atomic::{AtomicU64, Ordering};

/// So many are reserved at a time.
pub(super) const RESERVED: u64 = 1 << 20;

/// A number that is given one by one, and reserved in the file many at a time.
pub(super) struct Reserved {
    next: AtomicU64,
    until: AtomicU64,
}

impl Reserved {
    pub(super) fn new(next: u64, until: u64) -> Self {
        Self { next: next.into(), until: until.into() }
    }

    /// `None` where the file does not allow for more yet.
    pub(super) fn give(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::AcqRel);
        (number < self.until.load(Ordering::Acquire)).then_some(number)
    }

    /// What has to be reserved now, if it is time.
    pub(super) fn due(&self) -> Option<u64> {
        let (next, until) = (self.next.load(Ordering::Acquire), self.until.load(Ordering::Acquire));
        (next.saturating_add(RESERVED / 2) >= until).then(|| next.saturating_add(RESERVED))
    }

    pub(super) fn reserve(&self, until: u64) {
        self.until.fetch_max(until, Ordering::AcqRel);
    }
}
