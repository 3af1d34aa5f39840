//! One agent: it counts up, loses answers and tries again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, IF_MATCH};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use super::answer::Answer;
use super::connection::{Connection, Order, Seen};
use super::cuts::Cut;
use super::field::Field;
use super::scene::{Scene, Under, Write};

/// What an agent does between reading and writing, on average: thinking.
const THINK: Duration = Duration::from_millis(3);
/// So often the same request is sent, and so often an operation starts anew after a conflict.
const TRIES: u32 = 10;
const ATTEMPTS: u32 = 1000;
/// An agent stands back no longer than this after a conflict.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const LEASE: HeaderName = HeaderName::from_static("onceward-lease");
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What a retry waits inside Onceward for the end of the first try, rather than asking again.
const PREFER: (HeaderName, HeaderValue) =
    (HeaderName::from_static("prefer"), HeaderValue::from_static("wait=10"));

/// What became of an agent's operations.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The first key of each operation that was answered as done.
    pub(crate) done: Vec<String>,
    /// Why each other one was given up; it may or may not have been performed.
    pub(crate) unresolved: Vec<String>,
    /// The same request sent again.
    pub(crate) retries: u64,
    pub(crate) replays: u64,
    pub(crate) conflicts: u64,
    /// Tries answered as performed now, though an earlier one had been already.
    pub(crate) again: u64,
}

pub(crate) struct Agent {
    scene: Arc<Scene>,
    number: usize,
    connection: Connection,
    random: fastrand::Rng,
    tally: Tally,
}

/// What is to become of an operation's answers, and what the race, not the agent, saw of them.
struct Fate {
    cut: Option<Cut>,
    /// A lost answer said that it was performed.
    performed: bool,
}

impl Fate {
    /// An answer was cut. Where it was a refusal the next one is lost too, so that a real one is.
    fn fulfill(&mut self, performed: bool) {
        self.performed |= performed;
        self.cut = self.cut.filter(|cut| *cut == Cut::Lost && !performed);
    }
}

enum Outcome {
    Done,
    /// Read again; `new_key`: the old one stands for the refusal.
    Conflict {
        new_key: bool,
    },
}

impl Agent {
    pub(crate) fn new(scene: Arc<Scene>, number: usize) -> Result<Self, String> {
        let random = fastrand::Rng::with_seed(u64::try_from(number).unwrap_or_default());
        let connection = Connection::new(Arc::clone(&scene), number)?;
        Ok(Self { scene, number, connection, random, tally: Tally::default() })
    }

    /// One operation for each entry, which says whether its answers are cut.
    pub(crate) async fn work(mut self, operations: Vec<Option<Cut>>) -> Tally {
        for (nth, cut) in operations.into_iter().enumerate() {
            let key = format!("{}-{}-{nth}", self.scene.run, self.number);
            match self.change(&key, cut, |value| value.saturating_add(1)).await {
                Ok(()) => self.tally.done.push(key),
                Err(why) => {
                    self.tally.unresolved.push(format!("agent {}, operation {nth}: {why}", self.number))
                }
            }
        }
        self.tally
    }

    /// Sets the number to `value`, whatever it is.
    pub(crate) async fn restore(mut self, value: i64) -> Result<(), String> {
        let key = format!("{}-restore", self.scene.run);
        self.change(&key, None, |_| value).await
    }

    /// Reads the number.
    pub(crate) async fn number_at(&mut self, field: &Field) -> Result<i64, String> {
        field.get(&self.connection.read().await?.document)
    }

    pub(crate) async fn document(&mut self) -> Result<Value, String> {
        Ok(self.connection.read().await?.document)
    }

    /// One operation, with the resource to itself where that is how it is protected.
    async fn change(&mut self, key: &str, cut: Option<Cut>, next: impl Fn(i64) -> i64) -> Result<(), String> {
        if !self.scene.write.is_leased() {
            return self.change_under(None, key, cut, next).await;
        }
        let lease = self.lease(key).await?;
        let changed = self.change_under(Some(&lease), key, cut, next).await;
        // What is not given back ends by its time, and the others wait as long.
        if self.connection.give_back(&lease).await.is_err() {
            self.connection.renew()?;
            self.connection.give_back(&lease).await?;
        }
        changed
    }

    /// Waits for the resource's lease, under a key of its own.
    async fn lease(&mut self, key: &str) -> Result<HeaderValue, String> {
        // It tells how the resource is called.
        self.connection.read().await?;
        let key =
            HeaderValue::from_str(&format!("{key}-lease")).map_err(|_| format!("`{key}` cannot be a key"))?;
        let fields: HeaderMap = [(KEY, key), PREFER].into_iter().collect();
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let pause = match self.connection.lease(&fields).await {
                Ok(Ok(lease)) => return Ok(lease),
                Ok(Err(Answer::Later(pause))) => pause,
                Ok(Err(answer)) => return Err(format!("no lease: {answer:?}")),
                Err(problem) => {
                    last = problem;
                    self.connection.renew()?;
                    THINK
                }
            };
            tokio::time::sleep(pause).await;
        }
        Err(format!("no lease after {ATTEMPTS} tries {last}"))
    }

    /// From reading to an answer that ends it.
    async fn change_under(
        &mut self,
        lease: Option<&HeaderValue>,
        key: &str,
        cut: Option<Cut>,
        next: impl Fn(i64) -> i64,
    ) -> Result<(), String> {
        let mut fate = Fate { cut, performed: false };
        let first = key;
        let mut key = first.to_owned();
        for attempt in 0..ATTEMPTS {
            let mut order = self.order(&key, &next).await?;
            order.headers.extend(lease.map(|lease| (LEASE, lease.clone())));
            let sent = Instant::now();
            match self.deliver(&order, &mut fate).await? {
                Outcome::Done => return Ok(()),
                Outcome::Conflict { new_key: false } => {}
                Outcome::Conflict { new_key: true } => key = format!("{first}.{attempt}"),
            }
            self.tally.conflicts += 1;
            // Longer after each conflict, in the measure of this API, so that many agents get along. Before the
            // reading: between reading and writing it would only make room for others.
            let longest = sent.elapsed().saturating_mul(1 << attempt.min(6));
            self.pause(longest.min(LONGEST_PAUSE)).await;
        }
        Err(format!("still a conflict after {ATTEMPTS} attempts"))
    }

    /// Reads, thinks, and says what to write.
    async fn order(&mut self, key: &str, next: impl Fn(i64) -> i64) -> Result<Order, String> {
        let scene = Arc::clone(&self.scene);
        let key = HeaderValue::from_str(key).map_err(|_| format!("`{key}` cannot be a key"))?;
        let mut headers: HeaderMap = [(KEY, key), PREFER].into_iter().collect();
        let Write::Document { field, method, under } = &scene.write else {
            return Ok(Order { method: Method::POST, headers, body: Bytes::new() });
        };
        let reading = self.connection.read().await?;
        self.pause(2 * THINK).await;
        let number = next(field.get(&reading.document)?);
        let body = match scene.write.is_whole() {
            true => field.put(reading.document, number)?,
            false => field.patch(&reading.document, number)?,
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match (under, reading.tag) {
            (Under::Nothing, _) | (Under::Lease, None) => {}
            (Under::Version, None) => {
                return Err("the read carried no ETag: does its route keep versions?".to_owned());
            }
            (Under::Version | Under::Lease, Some(tag)) => drop(headers.insert(IF_MATCH, tag)),
        }
        if let (Some(name), Some(value)) = (&scene.echo, reading.echo) {
            headers.insert(name, value);
        }
        Ok(Order { method: method.clone(), headers, body: body.to_string().into() })
    }

    /// A time between nothing and `longest`.
    async fn pause(&mut self, longest: Duration) {
        tokio::time::sleep(longest.mul_f64(self.random.f64())).await;
    }

    /// Sends one request until it is answered, the same each time.
    async fn deliver(&mut self, order: &Order, fate: &mut Fate) -> Result<Outcome, String> {
        let mut last = String::new();
        for nth in 0..TRIES {
            self.tally.retries += u64::from(nth > 0);
            let pause = match self.connection.send(order, fate.cut.filter(|_| nth == 0)).await {
                Ok(Seen::Answer(Answer::Done { replayed })) => {
                    self.tally.replays += u64::from(replayed);
                    self.tally.again += u64::from(fate.performed && !replayed);
                    return Ok(Outcome::Done);
                }
                Ok(Seen::Answer(Answer::Stale)) => return Ok(Outcome::Conflict { new_key: false }),
                Ok(Seen::Answer(Answer::Conflict)) => return Ok(Outcome::Conflict { new_key: true }),
                Ok(Seen::Answer(Answer::Later(pause))) => {
                    last = format!("told {TRIES} times to come again");
                    pause
                }
                Ok(Seen::Answer(Answer::Other(answer))) => return Err(answer),
                Ok(Seen::Nothing { performed: now }) => {
                    fate.fulfill(now);
                    self.connection.renew()?;
                    THINK
                }
                Err(problem) => {
                    last = problem;
                    self.connection.renew()?;
                    THINK
                }
            };
            tokio::time::sleep(pause).await;
        }
        Err(last)
    }
}
