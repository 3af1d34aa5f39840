//! What all share: the seed and its luck, the step that is counted, faults, crashes, and the first broken promise.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ledger::Ledger;
use crate::stack::Gate;

/// What a promise was broken in, and where.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) check: Check,
    pub(super) seed: u64,
    pub(super) nodes: usize,
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
        let Self { check, seed, nodes, step, what } = self;
        write!(f, "{check:?} broken at step {step} of seed {seed}: {what}")?;
        write!(
            f,
            "\n  replay it: ONCEWARD_SEED={seed} ONCEWARD_NODES={nodes} cargo test --lib simulation::a_seed -- --nocapture"
        )
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
    /// An instance loses the store for a while, or stands still.
    pub(super) parted: f64,
    pub(super) partings: u32,
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
    pub(super) nodes: Vec<Node>,
    /// Rings whenever one begins or ends. Not a `watch`, which wakes in an order of its own.
    turns: Notify,
    pub(super) failed: Notify,
}

/// One process.
#[derive(Default)]
pub(super) struct Node {
    /// Counts its lives; odd: it is down.
    life: AtomicU64,
    /// What requests meet, while it is up.
    pub(super) gate: Mutex<Option<Arc<Gate>>>,
    /// Until when it does not reach the store.
    parted_until: Mutex<Option<Instant>>,
    /// Until when it stands still, and sees no reply.
    paused_until: Mutex<Option<Instant>>,
}

impl World {
    pub(super) fn new(seed: u64, nodes: usize) -> Arc<Self> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut some = |most: f64| if rng.bool() { 0.0 } else { rng.f64() * most };
        let faults = Faults {
            refused: some(0.05),
            lost: some(0.05),
            crash: some(0.02),
            crashes: 3,
            upstream: some(0.5),
            cut: some(0.3),
            parted: if nodes > 1 { some(0.01) } else { 0.0 },
            partings: 4,
        };
        let state =
            State { rng, step: 0, trace: Vec::new(), faults, broken: None, ledger: Ledger::default() };
        Arc::new(Self {
            seed,
            state: Mutex::new(state),
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            turns: Notify::new(),
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
        state.broken.get_or_insert(Broken { check, seed: self.seed, nodes: self.nodes.len(), step, what });
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

    /// Whether instances share the store.
    pub(super) fn is_shared(&self) -> bool {
        self.nodes.len() > 1
    }

    pub(super) fn life(&self, node: usize) -> u64 {
        self.nodes[node].life.load(Ordering::Relaxed)
    }

    fn is_up(&self, node: usize) -> bool {
        self.life(node).is_multiple_of(2)
    }

    /// Where an agent's next request goes.
    pub(super) fn choose(&self) -> usize {
        if self.nodes.len() == 1 {
            return 0;
        }
        usize::try_from(self.below(self.nodes.len() as u64)).unwrap_or_default()
    }

    /// An instance may come to stand still here.
    pub(super) fn may_pause(&self, node: usize) {
        if self.chance(|faults| if faults.partings > 0 { faults.parted } else { 0.0 }) {
            self.state().faults.partings -= 1;
            let pause = Duration::from_millis(self.below(20_000));
            *self.nodes[node].paused_until.lock() = Some(Instant::now() + pause);
            self.step(|| format!("--- {node} stands still for {pause:?}"));
        }
    }

    /// What an instance that stands still sees when it goes on.
    pub(super) async fn awake(&self, node: usize) {
        let until = *self.nodes[node].paused_until.lock();
        if let Some(until) = until.filter(|until| Instant::now() < *until) {
            // All that it waited for is there at once, and nothing says what it looks at first.
            tokio::time::sleep_until(until + Duration::from_millis(self.below(200))).await;
        }
    }

    /// Whether this instance does not reach the store now; it may begin just here.
    pub(super) fn is_parted(&self, node: usize) -> bool {
        let begins = self.chance(|faults| if faults.partings > 0 { faults.parted } else { 0.0 });
        let mut until = self.nodes[node].parted_until.lock();
        if begins {
            self.state().faults.partings -= 1;
            *until = Some(Instant::now() + Duration::from_millis(self.below(15_000)));
            self.step(|| format!("--- {node} is parted from the store"));
        }
        until.is_some_and(|until| Instant::now() < until)
    }

    /// The process dies, if this is the moment for it and it has not died too often.
    pub(super) fn may_crash(&self, node: usize) -> bool {
        let dies =
            self.is_up(node) && self.chance(|faults| if faults.crashes > 0 { faults.crash } else { 0.0 });
        if dies {
            self.state().faults.crashes -= 1;
            *self.nodes[node].gate.lock() = None;
            self.turn_over(node);
            self.step(|| format!("--- crash of {node}"));
        }
        dies
    }

    fn turn_over(&self, node: usize) {
        self.nodes[node].life.fetch_add(1, Ordering::Relaxed);
        self.turns.notify_waiters();
    }

    pub(super) fn starts(&self, node: usize) -> u64 {
        self.turn_over(node);
        self.step(|| format!("--- start of {node}"));
        self.life(node)
    }

    /// Ends when this life does.
    pub(super) async fn crashed(&self, node: usize, life: u64) {
        loop {
            let turns = self.turns.notified();
            if self.life(node) != life {
                return;
            }
            turns.await;
        }
    }

    /// What a dead process never sees.
    pub(super) async fn only_in(&self, node: usize, life: u64) {
        if self.life(node) != life {
            std::future::pending::<()>().await;
        }
    }
}
