//! What all share: the seed and its luck, the step that is counted, faults, crashes, and the first broken promise.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::ledger::Ledger;
use crate::stack::Gate;

/// What a promise was broken in, and where.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) check: Check,
    pub(super) seed: u64,
    pub(super) step: u64,
    pub(super) what: String,
}

/// What is held after every step (DESIGN: "Invariants", "The ledger").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Check {
    /// Invariant 1: an effect per key, but for `rerun`.
    OneEffect,
    /// K14: a request goes out once.
    SentOnce,
    /// Invariant 2: "forwarded" stands in the store before the first byte leaves.
    ForwardedFirst,
    /// `claimed -> forwarded -> done | unknown`.
    LegalStep,
    /// A key is freed only where nothing was done under it.
    FreeMeansNotRun,
    /// `executed: "no"` has no effect, then or later.
    NoMeansNo,
    /// `executed: "yes"` has one.
    YesMeansYes,
    /// A replay is the first answer, byte by byte.
    SameAnswer,
    /// Invariant 3: what was answered is answered again.
    KeptAnswer,
    /// An answer is to the request that was asked.
    OwnAnswer,
    /// Invariant 4, Q1, Q5: no two writes live in the upstream at once.
    OneAtATime,
    /// V5: no write is built on an older value than the one it replaces.
    NoLostUpdate,
    /// L3.
    FencesGrow,
    /// When faults are over everything proceeds, and nothing is left behind.
    Proceeds,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, seed, step, what } = self;
        write!(f, "{check:?} broken at step {step} of seed {seed}: {what}")?;
        write!(f, "\n  replay it: ONCEWARD_SEED={seed} cargo test --lib simulation::a_seed -- --nocapture")
    }
}

/// How likely faults are; drawn from the seed, so that some runs are calm and some are not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// The store says no.
    pub(super) refused: f64,
    /// The store does it, and its reply is lost.
    pub(super) lost: f64,
    /// The process dies at a store's step.
    pub(super) crash: f64,
    pub(super) crashes: u32,
    /// An upstream's call does not go well.
    pub(super) upstream: f64,
    /// An agent leaves before its answer.
    pub(super) cut: f64,
}

struct State {
    rng: fastrand::Rng,
    step: u64,
    trace: Vec<String>,
    faults: Faults,
    broken: Option<Broken>,
    ledger: Ledger,
}

/// One run.
pub(super) struct World {
    seed: u64,
    state: Mutex<State>,
    /// Counts the lives of the process; odd: it is down.
    life: AtomicU64,
    /// Rings whenever one begins or ends. Not a `watch`, which wakes in an order of its own.
    turns: Notify,
    /// What requests meet, while the process is up.
    pub(super) gate: Mutex<Option<Arc<Gate>>>,
    pub(super) failed: Notify,
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut some = |most: f64| if rng.bool() { 0.0 } else { rng.f64() * most };
        let faults = Faults {
            refused: some(0.05),
            lost: some(0.05),
            crash: some(0.02),
            crashes: 3,
            upstream: some(0.5),
            cut: some(0.3),
        };
        let state =
            State { rng, step: 0, trace: Vec::new(), faults, broken: None, ledger: Ledger::default() };
        Arc::new(Self {
            seed,
            state: Mutex::new(state),
            life: AtomicU64::new(0),
            turns: Notify::new(),
            gate: Mutex::default(),
            failed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.state().rng)
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.draw(|rng| rng.u64(..end))
    }

    /// Whether something happens that is so likely.
    pub(super) fn chance(&self, likely: impl FnOnce(&Faults) -> f64) -> bool {
        let mut state = self.state();
        let likely = likely(&state.faults);
        likely > 0.0 && state.rng.f64() < likely
    }

    /// One more thing happened. Its words are for people, and made only for them.
    pub(super) fn step(&self, what: impl FnOnce() -> String) {
        let mut state = self.state();
        state.step += 1;
        let line = what();
        state.trace.push(line);
    }

    /// Looks into the ledger, or writes into it; what it finds broken ends the run.
    pub(super) fn ledger<T>(&self, act: impl FnOnce(&mut Ledger) -> Result<T, (Check, String)>) -> Option<T> {
        let found = act(&mut self.state().ledger);
        found.map_err(|(check, what)| self.broken(check, what)).ok()
    }

    pub(super) fn broken(&self, check: Check, what: String) {
        let mut state = self.state();
        let step = state.step;
        state.broken.get_or_insert(Broken { check, seed: self.seed, step, what });
        drop(state);
        self.failed.notify_waiters();
        self.failed.notify_one();
    }

    pub(super) fn result(&self) -> Result<u64, Broken> {
        let state = self.state();
        state.broken.clone().map_or(Ok(state.step), Err)
    }

    pub(super) fn trace(&self) -> Vec<String> {
        std::mem::take(&mut self.state().trace)
    }

    /// No more faults.
    pub(super) fn calm(&self) {
        self.state().faults = Faults::default();
    }

    /// A moment: none, a turn of the scheduler, or a few milliseconds.
    pub(super) async fn moment(&self) {
        match self.below(8) {
            0..4 => {}
            4..6 => tokio::task::yield_now().await,
            more => tokio::time::sleep(Duration::from_millis(1 + self.below(more * 2))).await,
        }
    }

    pub(super) fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }

    pub(super) fn is_up(&self) -> bool {
        self.life().is_multiple_of(2)
    }

    /// The process dies, if this is the moment for it and it has not died too often.
    pub(super) fn may_crash(&self) -> bool {
        let dies = self.is_up() && self.chance(|faults| if faults.crashes > 0 { faults.crash } else { 0.0 });
        if dies {
            self.state().faults.crashes -= 1;
            *self.gate.lock() = None;
            self.turn_over();
            self.step(|| "--- crash".to_owned());
        }
        dies
    }

    fn turn_over(&self) {
        self.life.fetch_add(1, Ordering::Relaxed);
        self.turns.notify_waiters();
    }

    pub(super) fn starts(&self) -> u64 {
        self.turn_over();
        self.step(|| "--- start".to_owned());
        self.life()
    }

    /// Ends when this life does.
    pub(super) async fn crashed(&self, life: u64) {
        loop {
            let turns = self.turns.notified();
            if self.life() != life {
                return;
            }
            turns.await;
        }
    }

    /// What a dead process never sees.
    pub(super) async fn only_in(&self, life: u64) {
        if self.life() != life {
            std::future::pending::<()>().await;
        }
    }
}
