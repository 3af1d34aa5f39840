//! An agent that does what Onceward asks of agents: reads, writes what it read plus one under the version it read,
//! and on a refusal does what the refusal says.

use std::time::Duration;

use super::apis::Api;
use crate::harness::agent::Call;
use crate::harness::{Agent, Answer, Proxy};

/// Each so-many-th successful write is sent again.
const SENT_AGAIN: u64 = 5;

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub written: u64,
    pub stale: u64,
    pub replayed: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.written += other.written;
        self.stale += other.stale;
        self.replayed += other.replayed;
    }
}

pub struct Writer<A> {
    api: A,
    agent: Agent,
    name: String,
    keys: u64,
    /// The value and the version of its own last write, where it builds the next one on that.
    known: Option<(u64, String)>,
    tally: Tally,
}

impl<A: Api> Writer<A> {
    pub fn new(api: &A, proxy: &Proxy, number: u64) -> Writer<A> {
        let name = format!("agent-{number}");
        let agent = A::signed(Agent::new(proxy)).with("x-agent-id", &name);
        Writer { api: api.clone(), agent, name, keys: 0, known: None, tally: Tally::default() }
    }

    pub async fn increments(mut self, operations: u64) -> Tally {
        while self.tally.written < operations {
            self.increment().await;
        }
        self.tally
    }

    /// One increment, read anew for as long as others come first.
    async fn increment(&mut self) {
        for tries in 1_u64.. {
            let (value, tag) = match self.known.take() {
                Some(known) => known,
                None => self.read().await,
            };
            let call = self.api.write(&self.agent, value + 1).key(&self.fresh_key()).if_match(&tag);
            let first = settled(&call).await;
            if !first.is_refusal() {
                return self.succeeded(call, first, value + 1).await;
            }
            first.refused("stale-version");
            self.tally.stale += 1;
            // Agents that all come back at once would only meet again.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..10 * tries.min(10)))).await;
        }
    }

    async fn succeeded(&mut self, call: Call, first: Answer, value: u64) {
        assert!(first.status / 100 == 2, "a write failed: {first}");
        first.is_first_run();
        self.tally.written += 1;
        if self.tally.written.is_multiple_of(SENT_AGAIN) {
            // K7: by now its version is an old one, and others may have written since.
            settled(&call).await.replays(&first);
            self.tally.replayed += 1;
        }
        if self.tally.written.is_multiple_of(2) {
            // V7: a version that was taken outside the turn would be another agent's, and lose its update here.
            self.known = Some((value, first.needs("onceward-version")));
        }
    }

    async fn read(&self) -> (u64, String) {
        let answer = settled(&self.api.read(&self.agent)).await;
        let value = self.api.value(&answer);
        (value.unwrap_or_else(|| panic!("no counter in {answer}")), answer.etag())
    }

    fn fresh_key(&mut self) -> String {
        self.keys += 1;
        format!("{}-{}", self.name, self.keys)
    }
}

/// Sends it, and sends it again as it is for as long as the refusal says so (P3).
pub async fn settled(call: &Call) -> Answer {
    loop {
        let answer = call.clone().await;
        if !answer.is_refusal() || answer.needs("x-should-retry") != "true" {
            return answer;
        }
        let seconds = answer.needs("retry-after").parse().expect("whole seconds");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}
