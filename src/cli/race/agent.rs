//! One agent: a client on a connection of its own that counts up, loses answers and tries again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{Client, Url};
use serde_json::Value;

use super::answer::{Answer, REPLAYED, judge};
use super::cuts::Cut;
use super::field::Field;

/// What an agent does between reading and writing, on average: thinking.
const THINK: Duration = Duration::from_millis(3);
/// How long it waits for an answer that it is to give up on.
const LEAVE: Duration = Duration::from_millis(1);
const TIMEOUT: Duration = Duration::from_secs(30);
/// So often the same request is sent, and so often an operation starts anew after a conflict.
const TRIES: u32 = 10;
const ATTEMPTS: u32 = 1000;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What a retry waits inside Onceward for the end of the first try, rather than asking again.
const PREFER: (HeaderName, HeaderValue) =
    (HeaderName::from_static("prefer"), HeaderValue::from_static("wait=10"));

/// What all agents of one row do.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) url: Url,
    pub(crate) write: Write,
    /// Goes into every key, so that no other row's and no other run's is the same.
    pub(crate) run: String,
    pub(crate) headers: HeaderMap,
    /// Each agent shows an identity of its own.
    pub(crate) identified: bool,
    /// A field of a read's answer that goes back with the write, for the upstream's own bookkeeping.
    pub(crate) echo: Option<HeaderName>,
}

#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// Read the document, add one, write it back; `versioned`: under the version that was read.
    Document { field: Field, method: Method, versioned: bool },
    /// POST, and the upstream adds one.
    Increment,
}

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
    client: Client,
    random: fastrand::Rng,
    tally: Tally,
}

struct Reading {
    document: Value,
    tag: Option<HeaderValue>,
    echo: Option<HeaderValue>,
}

struct Order {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

enum Outcome {
    Done,
    /// Read again; `new_key`: the old one stands for the refusal.
    Conflict {
        new_key: bool,
    },
}

/// What came back from one try.
enum Seen {
    /// Only the race's own count knows whether it was performed.
    Nothing {
        performed: bool,
    },
    Answer(Answer),
}

impl Agent {
    pub(crate) fn new(scene: Arc<Scene>, number: usize) -> Result<Self, String> {
        let random = fastrand::Rng::with_seed(u64::try_from(number).unwrap_or_default());
        Ok(Self { scene, number, client: connect()?, random, tally: Tally::default() })
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
    pub(crate) async fn number_at(&self, field: &Field) -> Result<i64, String> {
        field.get(&self.read().await?.document)
    }

    pub(crate) async fn document(&self) -> Result<Value, String> {
        Ok(self.read().await?.document)
    }

    /// One operation, from reading to an answer that ends it.
    async fn change(&mut self, key: &str, cut: Option<Cut>, next: impl Fn(i64) -> i64) -> Result<(), String> {
        let mut key = key.to_owned();
        for attempt in 0..ATTEMPTS {
            let order = self.order(&key, attempt, &next).await?;
            match self.deliver(&order, cut).await? {
                Outcome::Done => return Ok(()),
                Outcome::Conflict { new_key: false } => {}
                Outcome::Conflict { new_key: true } => key = format!("{key}.{attempt}"),
            }
            self.tally.conflicts += 1;
        }
        Err(format!("still a conflict after {ATTEMPTS} attempts"))
    }

    /// Reads, thinks, and says what to write.
    async fn order(&mut self, key: &str, attempt: u32, next: impl Fn(i64) -> i64) -> Result<Order, String> {
        let scene = Arc::clone(&self.scene);
        let key = HeaderValue::from_str(key).map_err(|_| format!("`{key}` cannot be a key"))?;
        let mut headers: HeaderMap = [(KEY, key), PREFER].into_iter().collect();
        let Write::Document { field, method, versioned } = &scene.write else {
            return Ok(Order { method: Method::POST, headers, body: Bytes::new() });
        };
        let reading = self.read().await?;
        self.think(attempt).await;
        let number = next(field.get(&reading.document)?);
        let body = match *method == Method::PATCH {
            true => field.patch(&reading.document, number)?,
            false => field.put(reading.document, number)?,
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if *versioned {
            headers.insert(
                IF_MATCH,
                reading.tag.ok_or("the read carried no ETag: does its route keep versions?")?,
            );
        }
        if let (Some(name), Some(value)) = (&scene.echo, reading.echo) {
            headers.insert(name, value);
        }
        Ok(Order { method: method.clone(), headers, body: body.to_string().into() })
    }

    /// Longer after each conflict, so that many agents get along.
    async fn think(&mut self, attempt: u32) {
        let longest = THINK.saturating_mul(2 + 2 * attempt.min(8));
        tokio::time::sleep(longest.mul_f64(self.random.f64())).await;
    }

    /// Sends one request until it is answered, the same each time.
    async fn deliver(&mut self, order: &Order, mut cut: Option<Cut>) -> Result<Outcome, String> {
        let mut performed = false;
        let mut last = String::new();
        for nth in 0..TRIES {
            self.tally.retries += u64::from(nth > 0);
            let pause = match self.send(order, cut.take()).await {
                Ok(Seen::Answer(Answer::Done { replayed })) => {
                    self.tally.replays += u64::from(replayed);
                    self.tally.again += u64::from(performed && !replayed);
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
                    performed |= now;
                    self.client = connect()?;
                    THINK
                }
                Err(problem) => {
                    last = problem;
                    self.client = connect()?;
                    THINK
                }
            };
            tokio::time::sleep(pause).await;
        }
        Err(last)
    }

    async fn send(&self, order: &Order, cut: Option<Cut>) -> Result<Seen, String> {
        let request = self
            .request(order.method.clone())
            .headers(self.with_own(&order.headers))
            .body(order.body.clone());
        let response = match cut {
            Some(Cut::Left) => match tokio::time::timeout(LEAVE, request.send()).await {
                Ok(response) => response,
                Err(_) => return Ok(Seen::Nothing { performed: false }),
            },
            Some(Cut::Lost) | None => request.send().await,
        };
        let response = response.map_err(|error| words(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if cut.is_some() {
            return Ok(Seen::Nothing { performed: status.is_success() && !headers.contains_key(&REPLAYED) });
        }
        let body = response.bytes().await.map_err(|error| words(&error))?;
        Ok(Seen::Answer(judge(status, &headers, &body)))
    }

    async fn read(&self) -> Result<Reading, String> {
        let response = self.request(Method::GET).headers(self.with_own(&HeaderMap::new())).send().await;
        let response = response.map_err(|error| words(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|error| words(&error))?;
        if !status.is_success() {
            return Err(format!("reading {} was answered {status}", self.scene.url));
        }
        let document =
            serde_json::from_slice(&body).map_err(|_| format!("{} is not JSON", self.scene.url))?;
        let field = |name: &HeaderName| headers.get(name).cloned();
        Ok(Reading { document, tag: field(&ETAG), echo: self.scene.echo.as_ref().and_then(field) })
    }

    fn request(&self, method: Method) -> reqwest::RequestBuilder {
        self.client.request(method, self.scene.url.clone())
    }

    /// The scene's own fields over those of a request.
    fn with_own(&self, headers: &HeaderMap) -> HeaderMap {
        let mut all = headers.clone();
        for name in self.scene.headers.keys() {
            all.remove(name);
        }
        for (name, value) in &self.scene.headers {
            all.append(name, value.clone());
        }
        if self.scene.identified
            && let Ok(value) = format!("Bearer agent-{}", self.number).try_into()
        {
            all.insert(AUTHORIZATION, value);
        }
        all
    }
}

/// A new client has a new connection; the old one's closes with it.
fn connect() -> Result<Client, String> {
    Client::builder()
        .http1_only()
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true)
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .build()
        .map_err(|error| words(&error))
}

/// An error with its reasons, which `reqwest` keeps apart.
fn words(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
