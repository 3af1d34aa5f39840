//! The line in front of one resource: one write in flight, the others in the order they came, a rest after an unknown
//! outcome (section Q).
//!
//! Generic over what stands in the line, and over the clock, so that the rules can be tested without either.

use std::collections::VecDeque;

/// The line of one resource.
#[derive(Debug)]
pub struct Line<W, T> {
    busy: bool,
    rest_until: Option<T>,
    waiting: VecDeque<(u64, W)>,
    /// Counts up, to find who leaves.
    next: u64,
    /// The fence of the last write that was let through while somebody still asks for it (K12).
    watched: Option<Watched>,
}

/// Kept while a resource has writes with an unknown outcome.
#[derive(Debug, Clone, Copy)]
struct Watched {
    last_fence: u64,
    until: u64,
}

/// What somebody who comes is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// The turn is theirs.
    Turn,
    /// They stand in the line under this number.
    Wait(u64),
    /// The line is full; so many wait.
    Full(usize),
}

impl<W, T: Copy + PartialOrd> Default for Line<W, T> {
    fn default() -> Self {
        Self { busy: false, rest_until: None, waiting: VecDeque::new(), next: 0, watched: None }
    }
}

impl<W, T: Copy + PartialOrd> Line<W, T> {
    /// Somebody wants a turn (Q1, Q2). `waiter` is called only if they must wait.
    pub fn join(&mut self, now: T, most: usize, waiter: impl FnOnce() -> W) -> Place {
        if !self.busy && !self.rests(now) && self.waiting.is_empty() {
            self.busy = true;
            return Place::Turn;
        }
        if self.waiting.len() >= most {
            return Place::Full(self.waiting.len());
        }
        let number = self.next;
        self.next += 1;
        self.waiting.push_back((number, waiter()));
        Place::Wait(number)
    }

    /// Somebody gives their place up (Q2).
    pub fn leave(&mut self, number: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != number);
    }

    /// The turn is over (Q3): the next of the line has it.
    pub fn end(&mut self, now: T) -> Option<W> {
        self.busy = false;
        self.advance(now)
    }

    /// The turn ended with an unknown outcome (Q5): nobody has one until `until`.
    pub fn rest(&mut self, until: T) {
        self.busy = false;
        if self.rest_until.is_none_or(|already| already < until) {
            self.rest_until = Some(until);
        }
    }

    /// An operator ended the rest (Q5).
    pub fn end_rest(&mut self, now: T) -> Option<W> {
        self.rest_until = None;
        self.advance(now)
    }

    /// Lets the next through where nothing keeps it back.
    pub fn advance(&mut self, now: T) -> Option<W> {
        if self.busy || self.rests(now) {
            return None;
        }
        let (_, next) = self.waiting.pop_front()?;
        self.busy = true;
        Some(next)
    }

    /// Whether an unknown outcome keeps it at rest.
    pub fn rests(&self, now: T) -> bool {
        self.rest_until.is_some_and(|until| now < until)
    }

    /// When its rest ends, if there is one.
    pub fn rest_until(&self, now: T) -> Option<T> {
        self.rest_until.filter(|until| now < *until)
    }

    /// Whether a write is in flight.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A write with this fence goes out.
    pub fn forwarded(&mut self, fence: u64) {
        if let Some(watched) = &mut self.watched {
            watched.last_fence = fence;
        }
    }

    /// Remembers from now on which write was the last, up to `until` (K12).
    pub fn watch(&mut self, fence: u64, until: u64) {
        match &mut self.watched {
            Some(watched) => watched.until = watched.until.max(until),
            None => self.watched = Some(Watched { last_fence: fence, until }),
        }
    }

    /// Whether the write with this fence is still the last one. `false` where that is not known.
    pub fn is_last(&self, fence: u64) -> bool {
        self.watched.is_some_and(|watched| watched.last_fence == fence)
    }

    /// Whether nothing need be remembered of it.
    pub fn is_idle(&self, now: T, now_millis: u64) -> bool {
        !self.busy
            && self.waiting.is_empty()
            && !self.rests(now)
            && self.watched.is_none_or(|watched| watched.until <= now_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Test = Line<u32, u64>;

    // Q1
    #[test]
    fn first_come_first_served() {
        let mut line = Test::default();
        assert_eq!(line.join(0, 8, || 1), Place::Turn);
        assert_eq!(line.join(0, 8, || 2), Place::Wait(0));
        assert_eq!(line.join(0, 8, || 3), Place::Wait(1));
        assert_eq!(line.end(0), Some(2));
        assert_eq!(line.join(0, 8, || 4), Place::Wait(2));
        assert_eq!(line.end(0), Some(3));
        assert_eq!(line.end(0), Some(4));
        assert_eq!(line.end(0), None);
        assert!(line.is_idle(0, 0));
    }

    // Q2
    #[test]
    fn a_full_line_takes_nobody_until_one_leaves() {
        let mut line = Test::default();
        assert_eq!(line.join(0, 1, || 1), Place::Turn);
        assert_eq!(line.join(0, 1, || 2), Place::Wait(0));
        assert_eq!(line.join(0, 1, || 3), Place::Full(1));
        line.leave(0);
        assert_eq!(line.join(0, 1, || 3), Place::Wait(1));
        assert_eq!(line.end(0), Some(3));
    }

    // Q5
    #[test]
    fn nobody_has_a_turn_while_it_rests() {
        let mut line = Test::default();
        assert_eq!(line.join(0, 8, || 1), Place::Turn);
        assert_eq!(line.join(0, 8, || 2), Place::Wait(0));
        line.rest(10);
        assert_eq!((line.advance(9), line.rest_until(9)), (None, Some(10)));
        assert_eq!(line.join(9, 8, || 3), Place::Wait(1));
        assert_eq!(line.advance(10), Some(2));
        assert_eq!(line.end(10), Some(3));
    }

    // Q5
    #[test]
    fn an_operator_ends_the_rest() {
        let mut line = Test::default();
        assert_eq!(line.join(0, 8, || 1), Place::Turn);
        line.rest(10);
        assert_eq!(line.join(1, 8, || 2), Place::Wait(0));
        assert_eq!(line.end_rest(1), Some(2));
    }

    // K12
    #[test]
    fn the_last_write_is_known_from_the_unknown_one_on() {
        let mut line = Test::default();
        assert!(!line.is_last(1));
        line.watch(1, 100);
        assert!(line.is_last(1));
        assert!(!line.is_idle(0, 99) && line.is_idle(0, 100));
        line.forwarded(2);
        assert!(!line.is_last(1) && line.is_last(2));
    }
}
