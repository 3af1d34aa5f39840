//! What the agents of a campaign were told, in the order of one clock.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::claimed::{Claim, Said};
use super::history::{Kind, Operation};
use super::jobs::State;
use super::leases::Lease;
use crate::harness::answer::{Answer, kept};
use crate::harness::ledger::tick;

/// One request of a write.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub id: u64,
    pub agent: usize,
    pub key: String,
    pub resource: String,
    /// The fence of the lease that it was sent under.
    pub lease: Option<u64>,
    pub sent: u64,
    pub at: u64,
    /// `None`: no whole answer came.
    pub heard: Option<Heard>,
}

/// Milliseconds since the first time this was asked.
pub fn clock() -> u128 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis()
}

/// An answer, as small as the promises let it be.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub status: u16,
    pub refusal: Option<Refused>,
    /// It is no result yet: the write is a job, and will run (J1).
    pub accepted: bool,
    /// It is the recorded one, now or for replays to come (K7).
    pub recorded: bool,
    pub replayed: bool,
    /// Of status, body and every kept field.
    pub print: u64,
    pub body: u64,
}

#[derive(Clone, Debug)]
pub struct Refused {
    pub code: String,
    pub executed: String,
    /// What the upstream answered, where the refusal says it.
    pub upstream_status: Option<u64>,
    pub detail: String,
}

impl Heard {
    pub fn new(answer: &Answer) -> Heard {
        let refusal = answer.is_refusal().then(|| {
            let problem = answer.problem();
            let upstream_status = problem.json["upstream_status"].as_u64();
            Refused {
                code: problem.code,
                executed: problem.executed,
                upstream_status,
                detail: problem.detail,
            }
        });
        Heard {
            status: answer.status,
            refusal,
            accepted: is_accepted(answer),
            recorded: answer.header("idempotency-expires").is_some(),
            replayed: answer.header("idempotent-replayed").is_some(),
            print: hash(&(answer.status, &answer.body, kept(answer))),
            body: hash(&answer.body[..]),
        }
    }
}

/// Whether it says that a write is stored and will run (J1). The upstream never says 202.
pub fn is_accepted(answer: &Answer) -> bool {
    let place = answer.header("location").unwrap_or_default();
    answer.status == 202 && place.starts_with("/.onceward/operations/")
}

pub fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[derive(Default)]
pub struct Journal {
    attempts: Mutex<Vec<Attempt>>,
    histories: Mutex<BTreeMap<String, Vec<Operation>>>,
    leases: Mutex<Vec<Lease>>,
    states: Mutex<Vec<State>>,
    claims: Mutex<Vec<Claim>>,
    said: Mutex<Vec<Said>>,
    asked: Mutex<BTreeMap<String, usize>>,
    strange: Mutex<Vec<String>>,
    ids: AtomicU64,
    pub operations: AtomicU64,
    pub reads: AtomicU64,
}

impl Journal {
    pub fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub fn tried(&self, attempt: Attempt) {
        self.attempts.lock().push(attempt);
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().clone()
    }

    pub fn histories(&self) -> BTreeMap<String, Vec<Operation>> {
        self.histories.lock().clone()
    }

    /// An operation that begins now; it is unknown until it is [`Journal::ended`].
    pub fn begins(&self, agent: usize, resource: &str, kind: Kind) -> usize {
        let mut histories = self.histories.lock();
        let history = histories.entry(resource.to_owned()).or_default();
        history.push(Operation { agent, kind, invoked: tick(), returned: None });
        history.len() - 1
    }

    pub fn ended(&self, resource: &str, index: usize, at: u64) {
        self.change(resource, index, |one| one.returned = Some(at));
    }

    pub fn change(&self, resource: &str, index: usize, change: impl FnOnce(&mut Operation)) {
        let mut histories = self.histories.lock();
        change(&mut histories.get_mut(resource).expect("a history")[index]);
    }

    pub fn read(&self, resource: &str, operation: Operation) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.histories.lock().entry(resource.to_owned()).or_default().push(operation);
    }

    /// A lease is asked for, under a new key.
    pub fn asks(&self, resource: &str) {
        *self.asked.lock().entry(resource.to_owned()).or_default() += 1;
    }

    pub fn asked(&self) -> BTreeMap<String, usize> {
        self.asked.lock().clone()
    }

    pub fn granted(&self, lease: Lease) -> usize {
        let mut leases = self.leases.lock();
        leases.push(lease);
        leases.len() - 1
    }

    pub fn lease(&self, index: usize, change: impl FnOnce(&mut Lease)) {
        change(&mut self.leases.lock()[index]);
    }

    pub fn leases(&self) -> Vec<Lease> {
        self.leases.lock().clone()
    }

    pub fn saw(&self, state: State) {
        self.states.lock().push(state);
    }

    pub fn states(&self) -> Vec<State> {
        self.states.lock().clone()
    }

    pub fn claimed(&self, claim: Claim) -> usize {
        let mut claims = self.claims.lock();
        claims.push(claim);
        claims.len() - 1
    }

    pub fn claim(&self, index: usize, change: impl FnOnce(&mut Claim)) {
        change(&mut self.claims.lock()[index]);
    }

    pub fn claims(&self) -> Vec<Claim> {
        self.claims.lock().clone()
    }

    pub fn said(&self, said: Said) {
        self.said.lock().push(said);
    }

    pub fn all_said(&self) -> Vec<Said> {
        self.said.lock().clone()
    }

    /// Something that no rule allows.
    pub fn strange(&self, what: String) {
        self.strange.lock().push(format!("at {} ms: {what}", clock()));
    }

    pub fn all_strange(&self) -> Vec<String> {
        self.strange.lock().clone()
    }
}
