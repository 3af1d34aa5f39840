//! The agents of a campaign: they read, swap and add with retries under one key, as a good SDK does, or rudely.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::courses::{COURSES, Course, RESOURCES};
use super::history::{Kind, Operation, Value};
use super::journal::{Journal, is_accepted};
use super::leases::Held;
use super::line::Line;
use super::readers::Last;
use super::sending::{Condition, SILENCE, Sender, Write};
use crate::harness::Answer;
use crate::harness::ledger::tick;

/// What all agents of a campaign share.
pub struct Crew {
    pub journal: Journal,
    /// The relays before the proxies.
    pub addresses: Vec<String>,
    pub rude: bool,
    pub stopped: AtomicBool,
    /// Every task is done: nobody has to look for one any more.
    pub all_done: AtomicBool,
    /// Some ask to be answered before their writes run.
    pub jobs: bool,
    /// Writes that were accepted, by their keys.
    pub accepted: Mutex<BTreeMap<String, Write>>,
    /// Writes whose end their agents were told is unknown, until an operator says.
    pub open: Mutex<Vec<Write>>,
    /// The event that readers wait for in the end.
    pub last: Mutex<Last>,
}

pub struct Member {
    pub number: usize,
    pub(super) rng: fastrand::Rng,
    pub(super) line: Arc<Line>,
    pub(super) crew: Arc<Crew>,
    pub(super) written: u64,
    /// What it holds: its writes go under it.
    pub(super) lease: Option<Held>,
    /// Some of its writes may run later.
    jobs: bool,
    /// The value and tag this agent knows of a resource from its own last write.
    known: HashMap<String, (Value, String)>,
}

/// How a write ended for its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Done(u64),
    Stale(u64),
    /// Its claim is lost, by Onceward's word or the upstream's.
    Lost(u64),
    /// Given up; it may have been executed, or be yet.
    Open,
}

enum Next {
    End(Ending),
    Again(Duration),
    /// It is accepted, and has its end some time.
    Later,
}

/// An agent asks so often, and for so long, for the end of one write.
const TRIES: usize = 40;
const TIME: Duration = Duration::from_secs(20);

impl Member {
    pub fn new(number: usize, seed: u64, crew: &Arc<Crew>) -> Member {
        let line = Arc::new(Line::to(&crew.addresses));
        let rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let (crew, jobs, known) = (crew.clone(), crew.jobs, HashMap::new());
        Member { number, rng, line, crew, written: 0, lease: None, jobs, known }
    }

    /// One that waits for each answer.
    pub fn without_jobs(self) -> Member {
        Member { jobs: false, ..self }
    }

    /// Works until the crew is stopped, and ends what it is at.
    pub async fn work(mut self) {
        while !self.crew.stopped.load(Ordering::Relaxed) {
            let course = &COURSES[self.rng.usize(..COURSES.len())];
            // Every second goes to the first, so that there is a crowd.
            let n = if self.rng.bool() { 0 } else { self.rng.usize(..RESOURCES) };
            let resource = format!("/{}/{n}", course.name);
            match self.rng.u8(0..12) {
                0 if course.turns => self.holds(course, &resource).await,
                1 => self.puts_task().await,
                _ => _ = self.one(course, &resource).await,
            }
            sleep(Duration::from_millis(self.rng.u64(0..30))).await;
        }
    }

    /// One operation; says whether a write of it was done.
    pub async fn one(&mut self, course: &Course, resource: &str) -> bool {
        if course.register {
            return self.swap(course, resource).await;
        }
        let write = Write { body: Some(json!({"add": 1})), ..self.write("POST", resource, Condition::None) };
        matches!(self.carry(&write).await, Ending::Done(_))
    }

    pub(super) fn write(&mut self, method: &'static str, resource: &str, condition: Condition) -> Write {
        self.written += 1;
        self.crew.journal.operations.fetch_add(1, Ordering::Relaxed);
        let (key, quoted) = (format!("a{}-{}", self.number, self.written), self.rng.bool());
        let later = (self.jobs && self.rng.u8(0..4) == 0).then(|| self.rng.u8(0..2));
        Write {
            agent: self.number,
            key,
            quoted,
            method,
            resource: resource.to_owned(),
            body: None,
            condition,
            lease: self.lease.clone(),
            later,
            claim: None,
        }
    }

    /// Reads, unless it knows the value from its last write, and swaps it for one of its own.
    async fn swap(&mut self, course: &Course, resource: &str) -> bool {
        let known = self.known.remove(resource).filter(|_| self.rng.bool());
        let seen = match known {
            Some((value, tag)) => Some((value, Some(tag))),
            None => self.read(resource).await,
        };
        let Some((mut old, tag)) = seen else { return false };
        let mut condition = match (&old, tag) {
            (Some(_), Some(tag)) => Condition::Match(tag),
            (None, _) => Condition::Absent,
            // A value without its tag: nothing can be built on it.
            (Some(_), None) => return false,
        };
        if self.is_rude(20) {
            (old, condition) = (Some("wrong".to_owned()), Condition::Match("\"wrong\"".to_owned()));
        }
        let deletes = old.is_some() && self.rng.u8(0..10) == 0;
        let mut write = self.write(if deletes { "DELETE" } else { "PUT" }, resource, condition);
        let new = (!deletes).then(|| write.key.clone());
        write.body = new.as_ref().map(|rev| json!({"rev": rev}));
        let journal = &self.crew.clone().journal;
        let index = journal.begins(self.number, resource, Kind::Swap(old.clone(), new));
        let from = tick();
        match self.carry(&write).await {
            Ending::Done(at) => {
                journal.ended(resource, index, at);
                return true;
            }
            Ending::Stale(at) if course.exact => journal.change(resource, index, |one| {
                one.kind = Kind::Stale(old);
                one.invoked = from;
                one.returned = Some(at);
            }),
            // It stays an unknown one, which may have no effect at all.
            Ending::Stale(_) | Ending::Lost(_) | Ending::Open => {}
        }
        false
    }

    /// The value of a resource and its tag; nothing where no such answer comes.
    async fn read(&mut self, resource: &str) -> Option<(Value, Option<String>)> {
        let agent = self.number;
        let head = format!(
            "GET {resource} HTTP/1.1\r\nHost: campaign\r\nAuthorization: Bearer agent-{agent}\r\n\r\n"
        );
        for _ in 0..5 {
            let invoked = tick();
            let answer = timeout(SILENCE, self.line.exchange(head.as_bytes())).await;
            if answer.is_err() {
                self.crew
                    .journal
                    .strange(format!("no answer and no end within {SILENCE:?}: a read of {resource}"));
            }
            if let Ok(Some(answer)) = answer
                && let Some(value) = value_of(&answer)
            {
                let (kind, returned) = (Kind::Read(value.clone()), Some(tick()));
                self.crew.journal.read(resource, Operation { agent, kind, invoked, returned });
                return Some((value, answer.header("etag")));
            }
            sleep(Duration::from_millis(self.rng.u64(5..60))).await;
        }
        None
    }

    /// Sends a write until its end is known, or too much time has gone by.
    pub(super) async fn carry(&mut self, write: &Write) -> Ending {
        let began = Instant::now();
        let persists = self.rng.bool();
        let (mut lost, mut ended) = (false, false);
        for tried in 0..TRIES {
            if began.elapsed() > TIME {
                break;
            }
            let answers = self.tried(write, ended).await;
            lost |= answers.iter().any(Option::is_none);
            let nexts: Vec<_> =
                answers.iter().map(|one| self.next(write, one.as_ref(), persists, tried)).collect();
            if let Some(at) = nexts.iter().find_map(|next| match next {
                Next::End(Ending::Done(at)) => Some(*at),
                _ => None,
            }) {
                self.done(write, answers).await;
                return Ending::Done(at);
            }
            match nexts.into_iter().next() {
                // A lost request may still be on its way, and find what a stale one did not.
                Some(Next::End(Ending::Stale(_))) if lost => return Ending::Open,
                Some(Next::End(ending)) => return ending,
                Some(Next::Again(pause)) => sleep(pause).await,
                Some(Next::Later) => match self.awaits(write, began + TIME).await {
                    true => ended = true,
                    false => return Ending::Open,
                },
                None => {}
            }
        }
        Ending::Open
    }

    /// One request, or what a rude agent makes of it; of a job that has ended also its answer alone.
    async fn tried(&mut self, write: &Write, ended: bool) -> Vec<Option<(Answer, u64)>> {
        let (crew, line) = (self.crew.clone(), self.line.clone());
        let sender = Sender { line: &line, journal: &crew.journal };
        if ended && self.rng.u8(0..3) == 0 {
            return vec![sender.response(write).await];
        }
        // Now and then it waits for the answer after all.
        let later = write.later.filter(|_| self.rng.u8(0..6) > 0);
        let write = &Write { later, ..write.clone() };
        let how = if self.crew.rude { self.rng.u8(0..40) } else { 40 };
        match how {
            0 | 1 => {
                sender.vanish(write, &mut self.rng).await;
                vec![None]
            }
            2 => vec![sender.half_close(write).await],
            3 => {
                let (a, b, c) =
                    tokio::join!(sender.send(write), sender.half_close(write), sender.send(write));
                vec![a, b, c]
            }
            _ => vec![sender.send(write).await],
        }
    }

    /// What an agent makes of an answer.
    fn next(&mut self, write: &Write, answer: Option<&(Answer, u64)>, persists: bool, tried: usize) -> Next {
        let Some((answer, at)) = answer else {
            return Next::Again(Duration::from_millis(self.rng.u64(5..150)));
        };
        if is_accepted(answer) {
            if write.later.is_none() {
                self.crew
                    .journal
                    .strange(format!("accepted though nobody asked for it: {write:?}: {answer}"));
            }
            self.crew.accepted.lock().insert(write.key.clone(), write.clone());
            return Next::Later;
        }
        if !answer.is_refusal() {
            return match answer.status {
                // It shows a fence that the upstream knows a higher one of.
                409 if write.claim.is_some() => Next::End(Ending::Lost(*at)),
                200..300 => Next::End(Ending::Done(*at)),
                _ if answer.header("onceward-retry").as_deref() == Some("new-key") => Next::End(Ending::Open),
                500.. => Next::Again(Duration::from_millis(self.rng.u64(20..120))),
                _ => Next::End(Ending::Open),
            };
        }
        let problem = answer.problem();
        match (problem.code.as_str(), problem.retry.as_str()) {
            ("stale-version", _) => Next::End(Ending::Stale(*at)),
            ("lease-lost" | "leased", _) if write.lease.as_ref().is_some_and(Held::lives) => {
                self.crew.journal.strange(format!("a holder was told {}: {write:?}", problem.code));
                Next::End(Ending::Open)
            }
            ("lease-lost", _) if write.lease.is_some() => Next::End(Ending::Open),
            ("claim-lost", _) if write.claim.is_some() => Next::End(Ending::Lost(*at)),
            (_, "same-key") => {
                let asked = problem.json["retry_after"].as_u64().unwrap_or(1).min(2);
                let hurries = self.is_rude(3);
                Next::Again(Duration::from_millis(if hurries { 5 } else { 1_000 * asked }))
            }
            ("outcome-unknown", "after-reread") if persists && tried < 8 => {
                Next::Again(Duration::from_millis(300))
            }
            ("outcome-unknown" | "upstream-broke-off" | "upstream-timeout", retry) => {
                if problem.code != "outcome-unknown" && (persists || retry == "ask-operator") {
                    return Next::Again(Duration::from_millis(100));
                }
                self.crew.open.lock().push(write.clone());
                Next::End(Ending::Open)
            }
            _ => {
                self.crew
                    .journal
                    .strange(format!("an answer that nothing here asked for: {write:?}: {answer}"));
                Next::End(Ending::Open)
            }
        }
    }

    /// Remembers the new version, and now and then asks again for what was told already.
    async fn done(&mut self, write: &Write, answers: Vec<Option<(Answer, u64)>>) {
        let tag = answers.iter().flatten().find_map(|(answer, _)| answer.header("onceward-version"));
        if let (Some(tag), "PUT") = (tag, write.method) {
            self.known.insert(write.resource.clone(), (Some(write.key.clone()), tag));
        }
        let (again, lies) = (self.rng.u8(0..8) == 0, self.is_rude(30));
        let (crew, line) = (self.crew.clone(), self.line.clone());
        let sender = Sender { line: &line, journal: &crew.journal };
        if again {
            sender.send(write).await;
        }
        if lies {
            let other = Write { body: Some(json!({"rev": "another"})), ..write.clone() };
            let answer = sender.send(&other).await;
            if answer.as_ref().is_some_and(|(answer, _)| !answer.is_refusal()) {
                crew.journal.strange(format!(
                    "another body under a used key was no key-reused: {write:?}: {answer:?}"
                ));
            }
        }
    }

    fn is_rude(&mut self, one_in: u8) -> bool {
        self.crew.rude && self.rng.u8(0..one_in) == 0
    }
}

fn value_of(answer: &Answer) -> Option<Value> {
    match answer.status {
        200 => Some(answer.json()["rev"].as_str().map(str::to_owned)),
        404 if !answer.is_refusal() => Some(None),
        _ => None,
    }
}
