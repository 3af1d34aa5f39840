//! Agents: they read, write, leave in the middle, ask twice at once, and try again until they know.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::ledger::{Answer, Problem};
use super::world::{Check, World};
use super::{SETTLE, SURFACES, Surface, record_id};
use crate::http::Body;
use crate::http::request::{Gone, Peer};

/// How long an operation may take once no fault is left.
const PATIENCE: Duration = Duration::from_secs(120);

/// One agent.
pub(super) struct Agent {
    world: Arc<World>,
    name: String,
    attempts: u64,
    operations: Vec<Operation>,
}

/// One write, under one key, however often it is tried.
#[derive(Debug, Clone)]
struct Operation {
    surface: &'static Surface,
    path: String,
    key: Option<String>,
    content: String,
    /// The tag that was read, and the value it was read with.
    read: Option<(HeaderValue, u64)>,
}

/// What an attempt came to.
#[derive(Debug)]
enum Outcome {
    /// It is over, whatever became of it.
    Over,
    /// Another agent was faster.
    Stale,
    Unknown,
    /// To be tried again.
    Again,
}

impl Agent {
    pub(super) fn new(world: &Arc<World>, number: u64) -> Self {
        let name = format!("agent-{number}");
        Self { world: Arc::clone(world), name, attempts: number * 1000, operations: Vec::new() }
    }

    /// Some operations, one after the other, while there are faults.
    pub(super) async fn work(&mut self) {
        for number in 0..1 + self.world.below(3) {
            sleep(Duration::from_millis(self.world.below(400))).await;
            let Some(operation) = self.begin(number).await else { continue };
            for _ in 0..4 {
                match self.attempt_or_two(&operation).await {
                    Outcome::Over if self.world.below(4) > 0 => break,
                    Outcome::Stale => break,
                    Outcome::Over | Outcome::Again => {
                        sleep(Duration::from_millis(self.world.below(900))).await
                    }
                    Outcome::Unknown => sleep(SETTLE * u32::try_from(self.world.below(3)).unwrap_or(0)).await,
                }
            }
            if self.world.below(4) == 0 {
                self.use_the_key_for_something_else(&operation).await;
            }
            self.operations.extend(Some(operation).filter(|operation| operation.key.is_some()));
        }
    }

    /// What to do, and what to do it on.
    async fn begin(&mut self, number: u64) -> Option<Operation> {
        // Where instances share a store, more of them meet: what a dead one left is in the way for a short time only.
        let (surfaces, resources) = if self.world.is_shared() { (6, 1) } else { (SURFACES.len() as u64, 2) };
        let from = if self.world.is_shared() { self.world.below(2) * 5 } else { 0 };
        let surface = SURFACES.get(usize::try_from(from + self.world.below(surfaces)).ok()?)?;
        let path = format!("/{}/{}", surface.name, self.world.below(resources));
        let key = surface.keyed.then(|| format!("{}.{number}", self.name));
        let content = format!("\"{} {number}\"", self.name);
        let mut operation = Operation { surface, path, key, content, read: None };
        if surface.register {
            operation.read = self.read(&operation.path).await;
            operation.read.as_ref()?;
        }
        Some(operation)
    }

    async fn read(&mut self, path: &str) -> Option<(HeaderValue, u64)> {
        let request = self.request(Method::GET, path).body(Body::Empty).unwrap();
        let answer = self.send(request, false).await?;
        if answer.status != StatusCode::OK {
            return None;
        }
        let value: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        Some((answer.headers.get(header::ETAG)?.clone(), value.get("value")?.as_u64()?))
    }

    fn request(&mut self, method: Method, path: &str) -> http::request::Builder {
        self.attempts += 1;
        let request = http::Request::builder().method(method).uri(path).header(header::HOST, "sim");
        let request = request.header(header::AUTHORIZATION, &self.name).header("x-attempt", self.attempts);
        match self.world.below(4) {
            0 => request.header("prefer", format!("wait={}", self.world.below(12))),
            _ => request,
        }
    }

    /// One try, or two of them at once.
    async fn attempt_or_two(&mut self, operation: &Operation) -> Outcome {
        let first = self.attempt(operation);
        if operation.key.is_none() || self.world.below(3) > 0 {
            return first.await;
        }
        let second = self.attempt(operation);
        let (first, second) = tokio::join!(first, second);
        if matches!(first, Outcome::Again) { second } else { first }
    }

    fn attempt(&mut self, operation: &Operation) -> impl Future<Output = Outcome> + use<> {
        let method = if operation.surface.register { Method::PUT } else { Method::POST };
        let mut request = self.request(method, &operation.path);
        if let Some(key) = &operation.key {
            request = request.header("idempotency-key", key);
        }
        if let Some((tag, base)) = &operation.read {
            request = request.header(header::IF_MATCH, tag).header("x-base", *base);
        }
        let request = request.body(Body::text(operation.content.clone())).unwrap();
        let attempt = Attempt {
            world: Arc::clone(&self.world),
            number: self.attempts,
            id: operation.key.as_ref().map(|key| record_id(&self.name, key)),
            content: operation.content.clone(),
        };
        attempt.run(request)
    }

    /// K5: it must not get the answer to what it did before.
    async fn use_the_key_for_something_else(&mut self, operation: &Operation) {
        let other = Operation { content: format!("\"{} and more\"", self.name), ..operation.clone() };
        if other.key.is_some() {
            self.attempt(&other).await;
        }
    }

    async fn send(&self, request: http::Request<Body>, may_leave: bool) -> Option<Answer> {
        send(&self.world, request, may_leave).await
    }

    /// Without faults every operation ends.
    pub(super) async fn finish(&mut self) {
        let until = Instant::now() + PATIENCE;
        for operation in std::mem::take(&mut self.operations) {
            self.end(&operation, until).await;
        }
    }

    /// Once nothing fails any more, every register can be written.
    pub(super) async fn write_all(&mut self) {
        let until = Instant::now() + PATIENCE;
        for surface in SURFACES.iter().filter(|surface| surface.register) {
            self.write_anew(surface, until).await;
        }
    }

    async fn end(&mut self, operation: &Operation, until: Instant) {
        loop {
            match self.attempt(operation).await {
                Outcome::Over | Outcome::Stale | Outcome::Unknown => return,
                Outcome::Again if Instant::now() > until => {
                    return self.world.broken(Check::Proceeds, format!("{operation:?} does not end"));
                }
                Outcome::Again => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    async fn write_anew(&mut self, surface: &'static Surface, until: Instant) {
        for number in 0.. {
            let path = format!("/{}/0", surface.name);
            let key = Some(format!("{}.anew.{}.{number}", self.name, surface.name));
            let content = format!("\"{} anew {number}\"", self.name);
            let read = self.read(&path).await;
            let has_read = read.is_some();
            let operation = Operation { surface, path, key, content, read };
            if has_read && matches!(self.attempt(&operation).await, Outcome::Over) {
                return;
            }
            if Instant::now() > until {
                return self.world.broken(Check::Proceeds, format!("{} cannot be written", operation.path));
            }
            sleep(Duration::from_millis(self.world.below(1000))).await;
        }
    }
}

/// One request of an operation.
struct Attempt {
    world: Arc<World>,
    number: u64,
    id: Option<crate::protocol::record::RecordId>,
    content: String,
}

impl Attempt {
    async fn run(self, request: http::Request<Body>) -> Outcome {
        let Self { world, number, id, content } = self;
        world.ledger(|ledger| {
            ledger.begins(number, id);
            Ok(())
        });
        let Some(answer) = send(&world, request, true).await else {
            world.step(|| format!("agent: attempt {number} has no answer"));
            return Outcome::Again;
        };
        let is_problem = answer.headers.get(header::CONTENT_TYPE);
        let is_problem = is_problem.is_some_and(|value| value == "application/problem+json");
        let problem: Option<Problem> =
            is_problem.then(|| serde_json::from_slice(&answer.body).ok()).flatten();
        world.step(|| {
            let code = problem.as_ref().map_or("", |problem| problem.code.as_str());
            format!("agent: attempt {number} has {} {code}", answer.status)
        });
        world.ledger(|ledger| ledger.answered(number, id, &content, &answer, problem.as_ref()));
        match problem {
            None if matches!(answer.status.as_u16(), 429 | 502..=504) => Outcome::Again,
            None => Outcome::Over,
            Some(problem) => match problem.code.as_str() {
                "stale-version" => Outcome::Stale,
                "outcome-unknown" | "upstream-broke-off" | "upstream-timeout" => Outcome::Unknown,
                "response-not-kept" | "key-reused" => Outcome::Over,
                _ if problem.retry == "same-key" => Outcome::Again,
                _ => {
                    world.broken(Check::Proceeds, format!("attempt {number}: {problem:?}"));
                    Outcome::Over
                }
            },
        }
    }
}

/// Sends a request, and has its answer whole; `None` where the process died, is down, or the agent left.
async fn send(world: &Arc<World>, request: http::Request<Body>, may_leave: bool) -> Option<Answer> {
    let node = world.choose();
    let life = world.life(node);
    let gate = world.nodes[node].gate.lock().clone()?;
    let leaving = Arc::new(Leaving::default());
    let leaves = may_leave && world.chance(|faults| faults.cut);
    let patience = if leaves { Duration::from_millis(world.below(500)) } else { Duration::from_secs(3600) };
    let seen = leaves && world.draw(fastrand::Rng::bool);
    let peer = Arc::new(peer(&leaving));
    let talk = async {
        let answer = gate.answer(request, peer, None).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    };
    let leave = async {
        sleep(patience).await;
        if seen {
            leaving.leave();
            sleep(Duration::from_millis(world.below(20))).await;
        }
    };
    tokio::select! {
        biased;
        () = world.crashed(node, life) => None,
        answer = talk => answer,
        () = leave => None,
    }
}

/// An agent that is seen to leave.
#[derive(Default)]
struct Leaving {
    gone: Mutex<bool>,
    bell: Notify,
}

impl Leaving {
    fn leave(&self) {
        *self.gone.lock() = true;
        self.bell.notify_waiters();
    }
}

struct Seen(Arc<Leaving>);

impl Gone for Seen {
    fn gone(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            loop {
                let rings = self.0.bell.notified();
                if *self.0.gone.lock() {
                    return;
                }
                rings.await;
            }
        })
    }
}

/// An agent that stays.
pub(super) fn patient() -> Peer {
    peer(&Arc::default())
}

fn peer(leaving: &Arc<Leaving>) -> Peer {
    Peer {
        address: ([127, 0, 0, 1], 1).into(),
        ip: HeaderValue::from_static("127.0.0.1"),
        forwarded_for: "for=127.0.0.1".to_owned(),
        forwarded: Mutex::default(),
        gone: Box::new(Seen(Arc::clone(leaving))),
        upgraded: Arc::default(),
    }
}
