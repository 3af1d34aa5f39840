//! Leases: agents that hold a resource for a while, write under it, and give it back or are gone; and what is held
//! against them (L1 to L4).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::courses::Course;
use super::crew::{Crew, Member};
use super::journal::Attempt;
use super::verdict::Evidence;
use crate::harness::Answer;
use crate::harness::ledger::{Effect, tick};

/// What its holder knows of a lease.
#[derive(Clone, Debug)]
pub struct Held {
    pub token: String,
    pub fence: u64,
    /// It lives at least until then: it was granted, or renewed, after that was asked for.
    end: Instant,
    /// Where the journal has it.
    index: usize,
}

impl Held {
    pub fn lives(&self) -> bool {
        Instant::now() < self.end
    }
}

/// A lease that was granted, by what its holder saw.
#[derive(Clone, Debug)]
pub struct Lease {
    pub agent: usize,
    pub resource: String,
    pub fence: u64,
    /// Before the first time it was asked for.
    pub asked: u64,
    pub told: u64,
    /// The last time that it is known to have lived.
    pub until: u64,
    pub given_back: bool,
}

impl Member {
    /// Leases a resource, writes under it, and gives it back or is gone.
    pub async fn holds(&mut self, course: &Course, resource: &str) {
        let Some(held) = self.leases(resource).await else { return };
        self.lease = Some(held);
        for _ in 0..self.rng.usize(1..4) {
            self.one(course, resource).await;
            if self.rng.u8(0..4) == 0 {
                self.renews().await;
            }
        }
        let Some(held) = self.lease.take() else { return };
        if self.rng.u8(0..3) > 0 {
            self.gives_back(&held).await;
        }
    }

    async fn leases(&mut self, resource: &str) -> Option<Held> {
        self.written += 1;
        let key = format!("l{}-{}", self.number, self.written);
        let ttl = Duration::from_millis(self.rng.u64(500..2_000));
        let body = json!({"resource": resource, "ttl": format!("{}ms", ttl.as_millis())});
        let fields = format!("Idempotency-Key: {key}\r\nPrefer: wait={}\r\n", self.rng.u8(0..2));
        self.crew.journal.asks(resource);
        let (asked, end) = (tick(), Instant::now() + ttl);
        let answer = self.asks("POST", "leases", &fields, &body, &[201]).await?;
        let (token, fence) = said(&answer)?;
        if self.rng.u8(0..4) == 0
            && let Some(again) = self.asks("POST", "leases", &fields, &body, &[201]).await
            && said(&again) != said(&answer)
        {
            self.crew.journal.strange(format!("two leases of one key: {answer} and {again}"));
        }
        let (agent, resource, told) = (self.number, resource.to_owned(), tick());
        let lease = Lease { agent, resource, fence, asked, told, until: 0, given_back: false };
        let index = self.crew.journal.granted(lease);
        let held = Held { token, fence, end, index };
        witness(&self.crew, &held);
        Some(held)
    }

    /// It is asked for as long again, so it never gets shorter.
    async fn renews(&mut self) {
        let Some(mut held) = self.lease.clone() else { return };
        let ttl = Duration::from_millis(2_000);
        let end = Instant::now() + ttl;
        let body = json!({"ttl": "2s"});
        let path = format!("leases/{}", held.token);
        let Some(answer) = self.asks("PUT", &path, "", &body, &[200, 409]).await else { return };
        let before = held.lives();
        if answer.status == 409 && before {
            self.crew.journal.strange(format!("a lease that lives was not renewed: {held:?}: {answer}"));
        }
        if answer.status == 200 {
            if said(&answer) != Some((held.token.clone(), held.fence)) {
                self.crew.journal.strange(format!("another lease was renewed: {held:?}: {answer}"));
            }
            held.end = end;
            witness(&self.crew, &held);
            self.lease = Some(held);
        }
    }

    async fn gives_back(&mut self, held: &Held) {
        let lived = held.lives();
        let at = tick();
        self.crew.journal.lease(held.index, |lease| {
            lease.given_back = true;
            lease.until = if lived { at } else { lease.until };
        });
        for _ in 0..self.rng.usize(1..3) {
            self.asks("DELETE", &format!("leases/{}", held.token), "", &Value::Null, &[204]).await;
        }
    }
}

/// Writes down that it lives until shortly before it may end, also when its holder is gone.
fn witness(crew: &Arc<Crew>, held: &Held) {
    let (crew, index) = (crew.clone(), held.index);
    lives_until(held.end, move |at| {
        crew.journal.lease(index, |lease| {
            if !lease.given_back {
                lease.until = lease.until.max(at);
            }
        });
    });
}

/// Shortly before something may end it has lived until then, unless the moment was missed.
pub fn lives_until(end: Instant, lived: impl FnOnce(u64) + Send + 'static) {
    tokio::spawn(async move {
        sleep_until(end - Duration::from_millis(5)).await;
        let at = tick();
        if Instant::now() < end {
            lived(at);
        }
    });
}

fn said(answer: &Answer) -> Option<(String, u64)> {
    let json = answer.json();
    Some((json["lease"].as_str()?.to_owned(), json["fence"].as_u64()?))
}

/// The fence of the lease that an effect's request was sent under.
pub fn under(attempts: &[Attempt]) -> impl Fn(&Effect) -> Option<u64> {
    let sent: HashMap<String, u64> =
        attempts.iter().filter_map(|one| Some((one.id.to_string(), one.lease?))).collect();
    move |effect| sent.get(effect.attempt.as_ref()?).copied()
}

/// Something with a fence, and when it happened.
pub struct Fenced {
    pub fence: u64,
    pub from: u64,
    pub to: u64,
    pub is_lease: bool,
    pub under: bool,
    pub what: String,
}

impl Evidence {
    /// One lease at a time, nobody else's effect as long as it lives, and fences that only grow.
    pub fn on_leases(&self) -> Vec<String> {
        let leased = under(&self.attempts);
        let mut found = Vec::new();
        let mut resources: BTreeMap<&str, Vec<Fenced>> = BTreeMap::new();
        for effect in &self.effects {
            let Some(fence) = effect.fence else { continue };
            let own = leased(effect);
            if own.is_some_and(|own| own != fence) {
                found.push(format!("a write under the lease with fence {own:?} carries another: {effect:?}"));
            }
            let (from, to, under) = (effect.started, effect.ended, own.is_some());
            let what = format!("effect of {:?}, attempt {:?}", effect.key, effect.attempt);
            resources.entry(&effect.resource).or_default().push(Fenced {
                fence,
                from,
                to,
                is_lease: false,
                under,
                what,
            });
        }
        for lease in &self.leases {
            let of = resources.entry(&lease.resource).or_default();
            let alive = (lease.told, lease.until);
            for other in of.iter().filter(|other| other.fence != lease.fence || !other.under) {
                if !other.is_lease && other.from < alive.1 && other.to > alive.0 {
                    found.push(format!("{}: while {lease:?} lived: {other}", lease.resource));
                }
            }
            let what = format!("lease of agent {}", lease.agent);
            let (fence, from, to) = (lease.fence, lease.asked, lease.told);
            of.push(Fenced { fence, from, to, is_lease: true, under: true, what });
        }
        found.extend(two_at_once(&self.leases));
        for (resource, of) in resources {
            found.extend(gone_back(of).map(|what| format!("{resource}: {what}")));
        }
        found
    }
}

impl std::fmt::Display for Fenced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with fence {} from {} to {}", self.what, self.fence, self.from, self.to)
    }
}

fn two_at_once(leases: &[Lease]) -> Vec<String> {
    let mut found = Vec::new();
    let mut resources: BTreeMap<&str, Vec<&Lease>> = BTreeMap::new();
    for lease in leases.iter().filter(|lease| lease.told < lease.until) {
        resources.entry(&lease.resource).or_default().push(lease);
    }
    for mut of in resources.into_values() {
        of.sort_by_key(|lease| lease.told);
        let pairs = of.windows(2).filter(|pair| pair[0].until > pair[1].told);
        found.extend(pairs.map(|pair| format!("two leases at once: {pair:#?}")));
    }
    found
}

/// The first fence that is not above all of what had ended before it began, where only writes of one lease share one.
pub fn gone_back(mut all: Vec<Fenced>) -> Option<String> {
    all.sort_by_key(|one| one.from);
    let mut ended: Vec<usize> = (0..all.len()).collect();
    ended.sort_by_key(|n| all[*n].to);
    let mut ended = ended.into_iter().peekable();
    let mut highest: Option<usize> = None;
    for one in &all {
        while let Some(n) = ended.next_if(|n| all[*n].to < one.from) {
            highest = Some(highest.filter(|high| all[*high].fence >= all[n].fence).unwrap_or(n));
        }
        let Some(high) = highest.map(|high| &all[high]) else { continue };
        let shared = one.fence == high.fence && one.under && high.under && !one.is_lease;
        if one.fence <= high.fence && !shared {
            return Some(format!("a fence that did not grow: {high}, then {one}"));
        }
    }
    None
}
