//! How long a request may wait inside Onceward (W1).

use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

/// One budget, counted from the request's head. It never cuts an upstream call.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    head: Instant,
    /// `Prefer: wait=N`.
    asked: Option<Duration>,
}

impl Budget {
    /// A budget of `seconds` from now.
    pub fn new(seconds: Option<u64>) -> Self {
        Self { head: Instant::now(), asked: seconds.map(Duration::from_secs) }
    }

    /// Until when to wait in a place with a bound of its own; `unasked` is the wait without `Prefer`.
    pub fn until(&self, bound: Duration, unasked: Duration) -> Instant {
        let now = Instant::now();
        match self.asked {
            Some(asked) => (self.head + asked).min(now + bound),
            None => now + unasked.min(bound),
        }
    }

    /// As [`until`](Self::until); `None` where there is nothing to wait for, which costs no look at the clock.
    pub fn waits_until(&self, bound: Duration, unasked: Duration) -> Option<Instant> {
        if self.asked.unwrap_or(unasked).min(bound).is_zero() {
            return None;
        }
        Some(self.until(bound, unasked)).filter(|until| *until > Instant::now())
    }

    /// When the request's head was there.
    pub fn head(&self) -> Instant {
        self.head
    }

    /// `Preference-Applied` of an answer to a request that waited by it, in a place with this bound.
    pub fn applied(&self, bound: Duration) -> Option<HeaderValue> {
        let seconds = self.asked?.min(bound).as_secs();
        HeaderValue::from_str(&format!("wait={seconds}")).ok()
    }
}
