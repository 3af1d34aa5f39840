//! The API behind Onceward: registers that are read and replaced, and tools that do something. It never forgets what it
//! did, and what it does when a call goes wrong is drawn from the seed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::ledger::Arrival;
use super::store::{Server, phase};
use super::world::World;
use super::{SETTLE, Surface, record_id, surface};
use crate::config::checked::RouteLimits;
use crate::http::{Body, BoxError, Response, fields};
use crate::upstream::simulated::{Answering, Upstream};
use crate::upstream::{Call, Failure, Kind};

/// A whole day of it.
pub(super) struct Api {
    world: Arc<World>,
    store: Arc<Server>,
}

/// How a write goes.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// It is done, and answered in so many pieces.
    Answered { pieces: u64 },
    /// It is answered with a status that says of itself whether anything was done.
    Refused(u16),
    /// 500, 502, 504: nothing says whether anything was done.
    Vague { status: u16, done: bool },
    /// The connection breaks before the head, and the write is done at once, later, or never.
    Cut { done: bool, late: bool },
    /// It is done, and the connection breaks within the body.
    CutBody,
    /// No answer comes in time.
    Silent { done: bool },
    /// It is done, and answered by a stream, or by more than is kept.
    NotKept { stream: bool, whole: bool },
}

impl Upstream for Api {
    fn call(self: Arc<Self>, call: Call, limits: RouteLimits, place: &Authority) -> Answering {
        let node = super::node_of(place);
        Box::pin(async move {
            let life = self.world.life(node);
            let answer = Arc::clone(&self).answer(call, limits, node).await;
            self.world.awake(node).await;
            self.world.only_in(node, life).await;
            answer
        })
    }
}

impl Api {
    pub(super) fn new(world: &Arc<World>, store: &Arc<Server>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), store: Arc::clone(store) })
    }

    async fn answer(
        self: Arc<Self>,
        call: Call,
        limits: RouteLimits,
        node: usize,
    ) -> Result<Response, Failure> {
        self.world.moment().await;
        if self.world.chance(|faults| faults.upstream / 8.0) {
            return Err(Failure::NotSent("connection refused".to_owned()));
        }
        match call.kind {
            Kind::Read => self.read(&call).await,
            Kind::Write => self.write(call, limits, node).await,
        }
    }

    async fn read(&self, call: &Call) -> Result<Response, Failure> {
        self.world.moment().await;
        let path = call.target.path();
        let value = self.world.ledger(|ledger| Ok(ledger.value(path))).unwrap_or_default();
        self.world.moment().await;
        if self.world.chance(|faults| faults.upstream / 8.0) {
            return Err(Failure::BrokeOff("the connection was closed".to_owned()));
        }
        let mut answer = Response::new(Body::text(format!("{{\"value\":{value}}}")));
        if call.method == Method::HEAD {
            *answer.body_mut() = Body::Empty;
        }
        if surface(path).own_tags {
            answer.headers_mut().insert(header::ETAG, own_tag(value));
        }
        Ok(answer)
    }

    async fn write(
        self: Arc<Self>,
        call: Call,
        limits: RouteLimits,
        node: usize,
    ) -> Result<Response, Failure> {
        let path = call.target.path().to_owned();
        let surface = surface(&path);
        let mut body = call.body;
        let content = body.frame().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
        let content = String::from_utf8(content.unwrap_or_default().to_vec()).unwrap_or_default();
        let course = self.course(surface);
        let write = arrival(&call.headers, &path, surface);
        let at = write.key.and_then(|id| phase(&self.store, id));
        self.world.step(|| format!("upstream: attempt {} arrives, {course:?}", write.attempt));
        self.world.ledger(|ledger| ledger.arrives(&write, at));
        let wanted = call.headers.get(header::IF_MATCH).cloned();
        let (head, answered) = oneshot::channel();
        let run = Run { api: Arc::clone(&self), node, write, content, course, wanted, limits };
        // It lives in the upstream, whoever still waits for it.
        tokio::spawn(run.live(head));
        match timeout(limits.upstream_response, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Failure::BrokeOff("the connection was closed".to_owned())),
            Err(_) => Err(Failure::TimedOut),
        }
    }

    fn course(&self, surface: &Surface) -> Course {
        if !self.world.chance(|faults| faults.upstream) {
            return Course::Answered { pieces: self.world.below(3) };
        }
        let done = self.world.draw(fastrand::Rng::bool);
        match self.world.below(8) {
            0 => Course::Refused(self.world.draw(|rng| rng.choice([503, 429, 404, 409]).unwrap_or(503))),
            1 => Course::Vague { status: 500, done: done && !surface.vouched },
            2 => Course::Vague { status: 502, done },
            3 => Course::Cut { done, late: false },
            4 => Course::Cut { done, late: true },
            5 => Course::CutBody,
            6 => Course::Silent { done },
            _ => Course::NotKept { stream: done, whole: self.world.draw(fastrand::Rng::bool) },
        }
    }
}

fn own_tag(value: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"e{value}\"")).unwrap()
}

fn number(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn arrival(headers: &HeaderMap, path: &str, surface: &Surface) -> Arrival {
    let text = |name: &header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let key = text(&fields::IDEMPOTENCY_KEY)
        .map(|key| record_id(text(&header::AUTHORIZATION).unwrap_or_default(), key));
    Arrival {
        attempt: number(headers, "x-attempt").unwrap_or_default(),
        key,
        resource: path.to_owned(),
        turns: surface.turns,
        reruns: surface.reruns,
        fence: number(headers, &fields::ONCEWARD_FENCE),
        base: number(headers, "x-base"),
    }
}

/// A write as it lives in the upstream.
struct Run {
    api: Arc<Api>,
    /// Who sent it.
    node: usize,
    write: Arrival,
    content: String,
    course: Course,
    wanted: Option<HeaderValue>,
    limits: RouteLimits,
}

impl Run {
    async fn live(self, head: oneshot::Sender<Response>) {
        let world = Arc::clone(&self.api.world);
        world.moment().await;
        match self.course {
            Course::Answered { pieces } => {
                let Some(effect) = self.effect() else { return self.refuse(412, head) };
                self.give(200, effect, pieces, head).await;
            }
            Course::Refused(status) => self.refuse(status, head),
            Course::Vague { status, done } => {
                if done {
                    self.effect();
                }
                self.refuse(status, head);
            }
            Course::Cut { done, late: false } => {
                if done {
                    self.effect();
                }
                self.leave();
            }
            Course::Cut { done, late: true } => {
                drop(head);
                self.linger(done, Duration::ZERO).await;
            }
            Course::CutBody => {
                let Some(effect) = self.effect() else { return self.refuse(412, head) };
                let (mut answer, pieces) = self.answer(200, effect);
                drop(pieces.try_send(Ok(self.text(effect).into())));
                answer.headers_mut().insert(header::CONTENT_TYPE, json());
                drop(head.send(answer));
                world.moment().await;
                self.leave();
                drop(pieces.send(Err("reset".into())).await);
            }
            Course::Silent { done } => {
                self.linger(done, self.limits.upstream_response).await;
                drop(head);
            }
            Course::NotKept { stream, whole } => {
                let Some(effect) = self.effect() else { return self.refuse(412, head) };
                self.pour(effect, stream, whole, head).await;
            }
        }
    }

    /// What breaks off lives on for less than a rest, counted from where the other end could see it break.
    async fn linger(&self, done: bool, before: Duration) {
        let (world, life) = (&self.api.world, self.api.world.life(self.node));
        let longest = u64::try_from(SETTLE.as_millis()).unwrap_or_default() - 100;
        let lasts = || Duration::from_millis(world.below(longest));
        let (as_it_is, after_a_crash) = (before + lasts(), lasts());
        let (as_it_is, after_a_crash) = if world.is_shared() {
            // Of an instance that lapsed nobody knows when it sent what is out: only that it was before. And that it
            // lapsed is seen late: a write that ends before that meets nobody.
            (
                as_it_is.min(Duration::from_millis(longest)),
                Duration::from_millis(longest) / 2 + after_a_crash / 2,
            )
        } else {
            (as_it_is, after_a_crash)
        };
        tokio::select! {
            biased;
            () = sleep(as_it_is) => {}
            () = async { world.crashed(self.node, life).await; sleep(after_a_crash).await } => {}
        }
        if done {
            self.effect();
        }
        self.leave();
    }

    fn leave(&self) {
        self.api.world.ledger(|ledger| {
            ledger.leaves(&self.write);
            Ok(())
        });
    }

    /// Does what was asked; `None` where the upstream's own comparison says no.
    fn effect(&self) -> Option<u64> {
        let world = &self.api.world;
        let value = world.ledger(|ledger| Ok(ledger.value(&self.write.resource)))?;
        if surface(&self.write.resource).own_tags
            && self.wanted.as_ref().is_some_and(|wanted| *wanted != own_tag(value))
        {
            return None;
        }
        world.step(|| format!("upstream: attempt {} takes effect on {value}", self.write.attempt));
        world.ledger(|ledger| ledger.takes_effect(&self.write))
    }

    fn text(&self, effect: u64) -> String {
        format!("{{\"effect\":{effect},\"did\":{}}}", self.content)
    }

    fn refuse(&self, status: u16, head: oneshot::Sender<Response>) {
        self.leave();
        let mut answer = Response::new(Body::text("{\"no\":true}"));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert("x-call", HeaderValue::from(self.call()));
        drop(head.send(answer));
    }

    fn call(&self) -> u64 {
        self.api.world.ledger(|ledger| Ok(ledger.next_call())).unwrap_or_default()
    }

    /// A head, and where its content is put.
    fn answer(&self, status: u16, effect: u64) -> (Response, mpsc::Sender<Piece>) {
        let (pieces, receiver) = mpsc::channel(8);
        let mut answer = Response::new(Body::stream(Pieces(receiver)));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert("x-call", HeaderValue::from(self.call()));
        answer.headers_mut().append("x-effect", HeaderValue::from(effect));
        if surface(&self.write.resource).own_tags {
            answer.headers_mut().insert(header::ETAG, own_tag(effect));
        }
        (answer, pieces)
    }

    /// The whole answer, at once or piece by piece; the write lives until its last byte.
    async fn give(&self, status: u16, effect: u64, pieces: u64, head: oneshot::Sender<Response>) {
        let (mut answer, sender) = self.answer(status, effect);
        let text = self.text(effect);
        if pieces == 0 {
            self.leave();
            *answer.body_mut() = Body::text(text);
            drop(head.send(answer));
            return;
        }
        drop(head.send(answer));
        let size = text.len() / usize::try_from(pieces).unwrap_or(1) + 1;
        let mut rest = Bytes::from(text);
        while rest.len() > size {
            drop(sender.send(Ok(rest.split_to(size))).await);
            sleep(Duration::from_millis(1 + self.api.world.below(200))).await;
        }
        self.leave();
        drop(sender.send(Ok(rest)).await);
    }

    /// What is passed through as it comes.
    async fn pour(&self, effect: u64, stream: bool, whole: bool, head: oneshot::Sender<Response>) {
        let (mut answer, sender) = self.answer(200, effect);
        if stream {
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        }
        drop(head.send(answer));
        drop(sender.send(Ok(self.text(effect).into())).await);
        for _ in 0..4 {
            drop(sender.send(Ok(Bytes::from_static(&[b' '; 600]))).await);
            sleep(Duration::from_millis(1 + self.api.world.below(100))).await;
        }
        self.leave();
        if !whole {
            drop(sender.send(Err("reset".into())).await);
        }
    }
}

fn json() -> HeaderValue {
    HeaderValue::from_static("application/json")
}

type Piece = Result<Bytes, BoxError>;

/// Content as it comes.
struct Pieces(mpsc::Receiver<Piece>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
