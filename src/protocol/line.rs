//! The line in front of one resource: one write in flight, the others in the order they came, a rest after an unknown
//! outcome (section Q).
//!
//! Reads that ask for it (`queue.reads = "wait"`) stand in the same line and hold no turn: any number of them goes
//! together while no write is in flight, and a write begins when they are through. During a rest they pass.
//!
//! Generic over what stands in the line, and over the clock, so that the rules can be tested without either.

use std::collections::VecDeque;

/// The line of one resource.
#[derive(Debug)]
pub struct Line<W, T> {
    busy: bool,
    /// Reads that wait for no write, and that writes wait for.
    reading: usize,
    rest_until: Option<T>,
    waiting: VecDeque<Waiting<W>>,
    /// Counts up, to find who leaves.
    next: u64,
}

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The one write in flight.
    Write,
    /// A look between writes.
    Read,
}

#[derive(Debug)]
struct Waiting<W> {
    number: u64,
    want: Want,
    waiter: W,
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
        Self { busy: false, reading: 0, rest_until: None, waiting: VecDeque::new(), next: 0 }
    }
}

impl<W, T: Copy + PartialOrd> Line<W, T> {
    /// Somebody wants something (Q1, Q2). `waiter` is called only if they must wait.
    pub fn join(&mut self, now: T, want: Want, most: usize, waiter: impl FnOnce() -> W) -> Place {
        let before_all = self.waiting.is_empty() || (want == Want::Read && self.rests(now));
        if before_all && self.may_go(now, want) {
            self.begin(want);
            return Place::Turn;
        }
        if self.waiting.len() >= most {
            return Place::Full(self.waiting.len());
        }
        let number = self.next;
        self.next += 1;
        self.waiting.push_back(Waiting { number, want, waiter: waiter() });
        Place::Wait(number)
    }

    fn may_go(&self, now: T, want: Want) -> bool {
        match want {
            Want::Write => !self.busy && self.reading == 0 && !self.rests(now),
            Want::Read => !self.busy,
        }
    }

    fn begin(&mut self, want: Want) {
        match want {
            Want::Write => self.busy = true,
            Want::Read => self.reading += 1,
        }
    }

    /// Somebody gives their place up (Q2).
    pub fn leave(&mut self, number: u64) {
        self.waiting.retain(|waiting| waiting.number != number);
    }

    /// What was begun is over (Q3). Who may go now is told by [`Self::advance`].
    pub fn end(&mut self, want: Want) {
        match want {
            Want::Write => self.busy = false,
            Want::Read => self.reading = self.reading.saturating_sub(1),
        }
    }

    /// The turn ended with an unknown outcome (Q5): nobody has one until `until`.
    pub fn rest(&mut self, until: T) {
        self.busy = false;
        if self.rest_until.is_none_or(|already| already < until) {
            self.rest_until = Some(until);
        }
    }

    /// An operator ended the rest (Q5).
    pub fn end_rest(&mut self) {
        self.rest_until = None;
    }

    /// Lets the next one through where nothing keeps it back; to be called until there is none.
    pub fn advance(&mut self, now: T) -> Option<(Want, W)> {
        let first = self.waiting.front()?.want;
        let at = if self.may_go(now, first) {
            0
        } else if self.rests(now) && self.may_go(now, Want::Read) {
            self.waiting.iter().position(|waiting| waiting.want == Want::Read)?
        } else {
            return None;
        };
        let Waiting { want, waiter, .. } = self.waiting.remove(at)?;
        self.begin(want);
        Some((want, waiter))
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

    /// Whether nothing need be remembered of it.
    pub fn is_idle(&self, now: T) -> bool {
        !self.busy && self.reading == 0 && self.waiting.is_empty() && !self.rests(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Test = Line<u32, u64>;

    fn join(line: &mut Test, now: u64, who: u32) -> Place {
        line.join(now, Want::Write, 8, || who)
    }

    fn end(line: &mut Test, now: u64) -> Option<u32> {
        line.end(Want::Write);
        line.advance(now).map(|(_, who)| who)
    }

    // Q1
    #[test]
    fn first_come_first_served() {
        let mut line = Test::default();
        assert_eq!(join(&mut line, 0, 1), Place::Turn);
        assert_eq!(join(&mut line, 0, 2), Place::Wait(0));
        assert_eq!(join(&mut line, 0, 3), Place::Wait(1));
        assert_eq!(end(&mut line, 0), Some(2));
        assert_eq!(join(&mut line, 0, 4), Place::Wait(2));
        assert_eq!(end(&mut line, 0), Some(3));
        assert_eq!(end(&mut line, 0), Some(4));
        assert_eq!(end(&mut line, 0), None);
        assert!(line.is_idle(0));
    }

    // Q2
    #[test]
    fn a_full_line_takes_nobody_until_one_leaves() {
        let mut line = Test::default();
        let one = |line: &mut Test, who| line.join(0, Want::Write, 1, || who);
        assert_eq!(one(&mut line, 1), Place::Turn);
        assert_eq!(one(&mut line, 2), Place::Wait(0));
        assert_eq!(one(&mut line, 3), Place::Full(1));
        line.leave(0);
        assert_eq!(one(&mut line, 3), Place::Wait(1));
        assert_eq!(end(&mut line, 0), Some(3));
    }

    // Q1
    #[test]
    fn reads_go_together_between_writes() {
        let mut line = Test::default();
        assert_eq!(join(&mut line, 0, 1), Place::Turn);
        for (who, number) in [(2, 0), (3, 1)] {
            assert_eq!(line.join(0, Want::Read, 8, || who), Place::Wait(number));
        }
        assert_eq!(join(&mut line, 0, 4), Place::Wait(2));
        assert_eq!(end(&mut line, 0), Some(2));
        assert_eq!(line.advance(0), Some((Want::Read, 3)));
        assert_eq!(line.advance(0), None, "a write begins when the reads are through");
        line.end(Want::Read);
        assert_eq!(line.advance(0), None);
        assert_eq!(
            line.join(0, Want::Read, 8, || 5),
            Place::Wait(3),
            "a read does not pass a write that waits"
        );
        line.end(Want::Read);
        assert_eq!(line.advance(0), Some((Want::Write, 4)));
        assert_eq!(end(&mut line, 0), Some(5));
    }

    // Q5
    #[test]
    fn nobody_has_a_turn_while_it_rests_and_reads_pass() {
        let mut line = Test::default();
        assert_eq!(join(&mut line, 0, 1), Place::Turn);
        assert_eq!(join(&mut line, 0, 2), Place::Wait(0));
        assert_eq!(line.join(0, Want::Read, 8, || 3), Place::Wait(1));
        line.rest(10);
        assert_eq!(line.advance(9), Some((Want::Read, 3)));
        assert_eq!((line.advance(9), line.rest_until(9)), (None, Some(10)));
        assert_eq!(line.join(9, Want::Read, 8, || 4), Place::Turn);
        assert_eq!(join(&mut line, 9, 5), Place::Wait(2));
        line.end(Want::Read);
        line.end(Want::Read);
        assert_eq!(line.advance(10), Some((Want::Write, 2)));
        assert_eq!(end(&mut line, 10), Some(5));
    }

    // Q5
    #[test]
    fn an_operator_ends_the_rest() {
        let mut line = Test::default();
        assert_eq!(join(&mut line, 0, 1), Place::Turn);
        line.rest(10);
        assert_eq!(join(&mut line, 1, 2), Place::Wait(0));
        line.end_rest();
        assert_eq!(line.advance(1), Some((Want::Write, 2)));
    }

    /// The rules of the line, in the fewest words: who stands where, since when, and until when it rests.
    #[derive(Default)]
    struct Naive {
        inside: Vec<(u32, Want)>,
        standing: Vec<(u32, Want)>,
        rest_until: u64,
    }

    impl Naive {
        fn may_go(&self, now: u64, want: Want) -> bool {
            let writes = self.inside.iter().any(|(_, inside)| *inside == Want::Write);
            match want {
                Want::Read => !writes,
                Want::Write => self.inside.is_empty() && now >= self.rest_until,
            }
        }

        /// Who goes next: the first, or, while it rests, the first read.
        fn next(&mut self, now: u64) -> Option<(u32, Want)> {
            let rests = now < self.rest_until;
            let at = self.standing.iter().position(|(_, want)| *want == Want::Read || !rests)?;
            self.may_go(now, self.standing[at].1).then(|| self.standing.remove(at))
        }
    }

    // Q1, Q2, Q5
    #[test]
    fn a_line_is_what_a_naive_one_is() {
        for seed in 0..2_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut line, mut naive) = (Test::default(), Naive::default());
            let (mut now, mut numbers) = (0, std::collections::HashMap::new());
            for who in 0..60 {
                now += rng.u64(..3);
                match rng.u8(..6) {
                    0..3 => {
                        let want = if rng.bool() { Want::Read } else { Want::Write };
                        naive.standing.push((who, want));
                        match line.join(now, want, 1000, || who) {
                            Place::Turn => assert_eq!(naive.next(now), Some((who, want)), "seed {seed}"),
                            Place::Wait(number) => drop(numbers.insert(who, number)),
                            Place::Full(waiting) => panic!("seed {seed}: {waiting} are not too many"),
                        }
                        let inside = |naive: &Naive| naive.inside.iter().any(|(other, _)| *other == who);
                        if !numbers.contains_key(&who) && !inside(&naive) {
                            naive.inside.push((who, want));
                        }
                    }
                    3 if !naive.standing.is_empty() => {
                        let (leaver, _) = naive.standing.remove(rng.usize(..naive.standing.len()));
                        line.leave(numbers[&leaver]);
                    }
                    4 if naive.inside.first().is_some_and(|(_, want)| *want == Want::Write) => {
                        naive.inside.clear();
                        naive.rest_until = naive.rest_until.max(now + 5);
                        line.rest(now + 5);
                    }
                    _ if !naive.inside.is_empty() => {
                        let (_, want) = naive.inside.remove(rng.usize(..naive.inside.len()));
                        line.end(want);
                    }
                    _ => {}
                }
                while let Some((want, who)) = line.advance(now) {
                    assert_eq!(naive.next(now), Some((who, want)), "seed {seed} at {now}");
                    naive.inside.push((who, want));
                }
                assert_eq!(naive.next(now), None, "seed {seed} at {now}");
                assert_eq!(line.waiting(), naive.standing.len(), "seed {seed} at {now}");
            }
        }
    }
}
