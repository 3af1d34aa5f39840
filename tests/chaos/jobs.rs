//! Jobs: writes that are accepted before they run, whose agents wait for the end, or leave them alone; and what is held
//! against them (J1).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::crew::{Crew, Member};
use super::journal::{Attempt, Heard};
use super::line::Line;
use super::sending::{Sender, Write};
use super::told;
use super::verdict::{BEFORE_THE_RECORD, Evidence};
use crate::harness::ledger::{Effect, tick};

/// What was said of an operation by its key (K17).
#[derive(Clone, Debug)]
pub struct State {
    pub key: String,
    pub asked: u64,
    pub at: u64,
    pub says: Says,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Says {
    pub state: String,
    pub status: Option<u64>,
    pub completed_at: Option<String>,
}

impl State {
    fn is_end(&self) -> bool {
        matches!(&*self.says.state, "done" | "unknown")
    }
}

/// So many ask at once for the ends of jobs.
const AT_ONCE: usize = 8;

impl Sender<'_> {
    /// What is said of an operation, which ends within a second or not yet; nothing where no such answer came.
    async fn state(&self, write: &Write) -> Option<State> {
        let asked = tick();
        let request = format!(
            "GET /.onceward/operations/{} HTTP/1.1\r\nHost: campaign\r\nAuthorization: Bearer agent-{}\r\n\
             Prefer: wait=1\r\n\r\n",
            write.key, write.agent
        );
        let answer = self.answered(write, self.line.exchange(request.as_bytes())).await?;
        if answer.is_refusal() {
            if answer.problem().retry != "same-key" {
                self.journal.strange(format!("an accepted write is not known: {write:?}: {answer}"));
            }
            return None;
        }
        let json = answer.json();
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let state = text("state").unwrap_or_default();
        let says = Says { state, status: json["status"].as_u64(), completed_at: text("completed_at") };
        let state = State { key: write.key.clone(), asked, at: tick(), says };
        self.journal.saw(state.clone());
        Some(state)
    }

    /// Asks for the end of an accepted write, once at least and until then; says whether it saw it.
    async fn ends(&self, write: &Write, until: Instant) -> bool {
        loop {
            match self.state(write).await {
                Some(state) if state.is_end() => return true,
                _ if Instant::now() > until => return false,
                Some(_) => {}
                None => sleep(Duration::from_millis(fastrand::u64(20..100))).await,
            }
        }
    }
}

impl Member {
    /// Waits for the end of an accepted write until then, or leaves it alone; says whether it saw the end.
    pub(super) async fn awaits(&mut self, write: &Write, until: Instant) -> bool {
        if self.rng.u8(0..3) == 0 {
            return false;
        }
        let (crew, line) = (self.crew.clone(), self.line.clone());
        Sender { line: &line, journal: &crew.journal }.ends(write, until).await
    }
}

/// Sees the end of every accepted write, each within that time of the one before, and asks once more for its answer.
pub async fn all_end(crew: &Arc<Crew>, within: Duration) -> Vec<String> {
    let mut shares = vec![Vec::new(); AT_ONCE];
    for (n, write) in std::mem::take(&mut *crew.accepted.lock()).into_values().enumerate() {
        shares[n % AT_ONCE].push(write);
    }
    let mut asking = JoinSet::new();
    for share in shares {
        let crew = crew.clone();
        asking.spawn(async move {
            let line = Line::to(&crew.addresses);
            let sender = Sender { line: &line, journal: &crew.journal };
            let mut found = Vec::new();
            let mut until = Instant::now() + within;
            for write in share {
                if sender.ends(&write, until).await {
                    until = Instant::now() + within;
                } else {
                    found.push(format!("no end of an accepted write {within:?} after the end: {write:?}"));
                }
                sender.send(&Write { later: None, ..write }).await;
            }
            found
        });
    }
    asking.join_all().await.concat()
}

/// What there is about one job.
struct Job<'a> {
    key: &'a str,
    attempts: Vec<&'a Attempt>,
    states: Vec<&'a State>,
    effect: Option<&'a Effect>,
    /// When its agent first knew that it was accepted.
    accepted: Option<u64>,
    is_unknown: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub accepted: usize,
    pub unknown: usize,
    pub refused: usize,
}

impl Evidence {
    /// Accepted means stored: it runs once and by itself, in order, and what is told of its end is so for good.
    pub fn on_jobs(&self) -> Vec<String> {
        let jobs = self.jobs();
        let mut found = Vec::new();
        for job in jobs.values() {
            let of = job.ended_otherwise().into_iter().chain(job.without_end());
            found.extend(of.map(|what| format!("job {}: {what}", job.key)));
        }
        if self.unknown.is_none() {
            return found;
        }
        let known: Vec<_> = jobs.values().filter(|job| job.accepted.is_some() && !job.is_unknown).collect();
        for job in &known {
            found.extend(job.forgotten().map(|what| format!("job {}: {what}", job.key)));
        }
        found.extend(overtaken(&known));
        found
    }

    pub fn job_figures(&self) -> Figures {
        let jobs = self.jobs();
        let accepted: Vec<_> = jobs.values().filter(|job| job.accepted.is_some()).collect();
        let refused = |job: &&&Job| job.heard().any(|(_, heard)| heard.recorded && heard.refusal.is_some());
        Figures {
            accepted: accepted.len(),
            unknown: accepted.iter().filter(|job| job.is_unknown).count(),
            refused: accepted.iter().filter(refused).count(),
        }
    }

    fn jobs(&self) -> BTreeMap<&str, Job<'_>> {
        let mut jobs: BTreeMap<&str, Job<'_>> = BTreeMap::new();
        for attempt in &self.attempts {
            let job = jobs.entry(&attempt.key).or_insert_with(|| Job {
                key: &attempt.key,
                attempts: Vec::new(),
                states: Vec::new(),
                effect: None,
                accepted: None,
                is_unknown: self.was_unknown(attempt),
            });
            job.attempts.push(attempt);
            let Some(heard) = &attempt.heard else { continue };
            if heard.accepted {
                job.accepted = Some(job.accepted.map_or(attempt.at, |at| at.min(attempt.at)));
            }
            job.is_unknown |= heard.refusal.as_ref().is_some_and(|refused| refused.executed == "unknown");
        }
        for state in &self.states {
            if let Some(job) = jobs.get_mut(&*state.key) {
                job.states.push(state);
                job.is_unknown |= state.says.state == "unknown";
            }
        }
        for effect in &self.effects {
            if let Some(job) = effect.key.as_deref().and_then(|key| jobs.get_mut(key)) {
                job.effect = Some(effect);
            }
        }
        jobs
    }

    fn was_unknown(&self, attempt: &Attempt) -> bool {
        let told = self.unknown.as_ref();
        told.is_some_and(|told| told.contains(&told::operation(attempt.agent, &attempt.key)))
    }
}

impl<'a> Job<'a> {
    fn heard(&self) -> impl Iterator<Item = (&'a Attempt, &'a Heard)> {
        self.attempts.iter().filter_map(|attempt| Some((*attempt, attempt.heard.as_ref()?)))
    }

    /// What is done stays as it is, and is what every later request is told.
    fn ended_otherwise(&self) -> Vec<String> {
        let done = self.states.iter().filter(|state| state.says.state == "done");
        let Some(done) = done.min_by_key(|state| state.at) else { return Vec::new() };
        let mut found = Vec::new();
        let others = self.states.iter().filter(|state| state.asked > done.at && state.says != done.says);
        found
            .extend(others.map(|other| format!("what was done is said otherwise: {done:?}, then {other:?}")));
        for (attempt, heard) in self.heard() {
            let replays = heard.recorded && heard.replayed;
            if attempt.sent > done.at && !replays && !speaks_of_itself(heard) {
                found.push(format!("it was said to be done, then attempt {} heard {heard:?}", attempt.id));
            }
            if heard.recorded && done.says.status != Some(heard.status.into()) {
                found.push(format!("said to be {:?}, and attempt {} heard {heard:?}", done.says, attempt.id));
            }
        }
        found
    }

    fn without_end(&self) -> Option<String> {
        let has_end = self.states.iter().any(|state| state.is_end());
        let has_end = has_end || self.heard().any(|(_, heard)| heard.recorded);
        (self.accepted.is_some() && !has_end).then(|| "it was accepted, and has no end".to_owned())
    }

    /// Once it is accepted a request of its key is told so again, or its result, and never runs it.
    fn forgotten(&self) -> impl Iterator<Item = String> {
        let accepted = self.accepted.unwrap_or(u64::MAX);
        let later = self.heard().filter(move |(attempt, _)| attempt.sent > accepted);
        let other = later.filter_map(|(attempt, heard)| {
            let fits = heard.accepted || (heard.recorded && heard.replayed) || speaks_of_itself(heard);
            (!fits).then(|| format!("it was accepted, then attempt {} heard {heard:?}", attempt.id))
        });
        let own = self.effect.and_then(|effect| effect.attempt.clone());
        let retry = self
            .attempts
            .iter()
            .find(|attempt| attempt.sent > accepted && Some(attempt.id.to_string()) == own);
        other.chain(retry.map(|attempt| format!("it was accepted, and attempt {} ran it", attempt.id)))
    }
}

/// A refusal that says nothing of the record.
fn speaks_of_itself(heard: &Heard) -> bool {
    heard.refusal.as_ref().is_some_and(|refused| BEFORE_THE_RECORD.contains(&&*refused.code))
}

/// One that was accepted before another of its resource was sent had its effect before it.
fn overtaken(jobs: &[&Job<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    let mut resources: HashMap<&str, Vec<(&Job<'_>, u64, &Effect)>> = HashMap::new();
    for job in jobs {
        let sent = job.attempts.iter().map(|attempt| attempt.sent).min();
        if let (Some(effect), Some(sent)) = (job.effect, sent) {
            resources.entry(&effect.resource).or_default().push((job, sent, effect));
        }
    }
    for of in resources.values() {
        for (first, _, before) in of {
            for (second, sent, after) in of {
                if first.accepted.is_some_and(|accepted| accepted < *sent) && after.started < before.ended {
                    let what = format!("job {} overtook job {}", second.key, first.key);
                    found.push(format!("{what}, accepted before: {before:?}, {after:?}"));
                }
            }
        }
    }
    found
}
