//! How a forwarded write ends: what its answer means, what is recorded of it, and what the agent gets (K4, K8–K11, V7,
//! V8).
//!
//! Result, version and the end of the turn are one step: [`Pending`] holds all three, and whoever drops it without a
//! word leaves an unknown outcome and a rest behind, never a free key.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{StatusCode, response};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::idempotency::{Claim, Ended, millis, now, server_errors, set_expires};
use super::turn::Turn;
use crate::config::checked::{Route, Source};
use crate::http::{Body, BoxError, Reason, Response, fields};
use crate::protocol::entity_tag::EntityTag;
use crate::protocol::record::{Meaning, Millis, ResourceId, may_have_changed, meaning};
use crate::store::{Answer, Move, Store, StoreError};

/// A write that went out.
pub struct Pending {
    pub store: Arc<dyn Store>,
    pub route: Arc<Route>,
    pub resource: ResourceId,
    pub claim: Option<Claim>,
    pub turn: Option<Turn>,
    /// It ran before with an unknown outcome, and what it says of itself now says nothing of that (K12).
    pub ran_before: bool,
}

/// What was read of an answer's content.
pub enum Content {
    Whole(Bytes),
    /// Larger than `max_response`, or a stream: what was read, and the rest.
    Streams(Body),
    /// It broke off, or took too long.
    Broke(BoxError),
}

/// Reads an answer's content as far as it is kept (K10).
pub async fn content(head: &response::Parts, body: Body, route: &Route, total: Instant) -> Content {
    let most = route.idempotency.max_response;
    if is_stream(&head.headers) || body.known_length().is_some_and(|length| length > most as u64) {
        return Content::Streams(body);
    }
    if matches!(body, Body::Empty) {
        return Content::Whole(Bytes::new());
    }
    match tokio::time::timeout_at(total, up_to(body, most)).await {
        Ok(content) => content,
        Err(_elapsed) => Content::Broke("the answer took too long".into()),
    }
}

async fn up_to(mut body: Body, most: usize) -> Content {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => return Content::Broke(error),
        };
        if whole.is_empty() && http_body::Body::is_end_stream(&body) && data.len() <= most {
            // The usual case: all of it in one piece, and nothing is copied.
            return Content::Whole(data);
        }
        whole.extend_from_slice(&data);
        if whole.len() > most {
            return Content::Streams(body.after(whole.freeze()));
        }
    }
    Content::Whole(whole.freeze())
}

/// Answers that are passed through as they come (K10).
fn is_stream(headers: &HeaderMap) -> bool {
    const STREAMS: [&str; 4] =
        ["text/event-stream", "application/x-ndjson", "application/jsonl", "multipart/x-mixed-replace"];
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    STREAMS.iter().any(|stream| essence.eq_ignore_ascii_case(stream))
}

impl Pending {
    /// What this status means here.
    pub fn meaning(&self, status: StatusCode) -> Meaning {
        let meaning = meaning(status.as_u16(), server_errors(self.route.idempotency.on_5xx));
        match meaning {
            Meaning::Release if self.ran_before => Meaning::Unknown,
            Meaning::Keep | Meaning::Release | Meaning::Unknown => meaning,
        }
    }

    /// The minted version after an effect; `None` on other routes, or where the store cannot tell.
    async fn next_version(&self, status: StatusCode, meaning: Meaning) -> Option<Move> {
        if self.route.version.source != Source::Mint || !may_have_changed(status.as_u16(), meaning) {
            return None;
        }
        let to = self.store.next_number().await.ok()?;
        let later = match meaning {
            Meaning::Unknown => Some((self.rest_ends(), self.store.next_number().await.ok()?)),
            Meaning::Keep | Meaning::Release => None,
        };
        Some(Move { resource: self.resource, to, later })
    }

    fn rest_ends(&self) -> Millis {
        now().saturating_add(millis(self.route.idempotency.settle))
    }

    /// The write ended with a whole answer: records it, and gives it to the agent.
    ///
    /// `next`: the version that a probe or the upstream told, where the answer may name one.
    ///
    /// # Errors
    /// K4: the result is not stored yet; it is as soon as the store can.
    pub async fn answered(
        mut self,
        mut head: response::Parts,
        body: Bytes,
        next: Option<EntityTag>,
        names_next: bool,
        tasks: &TaskTracker,
    ) -> Result<Response, Reason> {
        let status = head.status;
        let meaning = self.meaning(status);
        let moves = self.next_version(status, meaning).await;
        let minted = moves.map(|to| self.store.minted_tag(to.resource, to.to));
        let next = match minted.as_deref().and_then(EntityTag::parse) {
            Some(minted) => Some(minted),
            None => next,
        };
        self.dress(&mut head, next.filter(|_| names_next && meaning == Meaning::Keep), meaning);
        let kept: HeaderMap = kept_fields(&head.headers);
        let ended = match meaning {
            Meaning::Keep => {
                let answer = self.claim.is_some().then(|| Answer::encode(status, &kept, &body));
                Ended::Done { status: status.as_u16(), answer }
            }
            Meaning::Release => Ended::Released,
            Meaning::Unknown => Ended::Unknown,
        };
        match self.end(ended, moves).await {
            Ok(expires_at) => {
                let mut response = Response::from_parts(head, Body::Full(body));
                if let Some(expires_at) = expires_at.filter(|_| meaning == Meaning::Keep) {
                    set_expires(&mut response, expires_at);
                }
                Ok(response)
            }
            Err((again, _)) if meaning == Meaning::Keep => {
                let answer = Answer::encode(status, &kept, &body);
                tasks.spawn(self.store_later(again, moves, Some(answer)));
                Err(Reason::ResultNotStored { upstream_status: status.as_u16() })
            }
            Err((again, _)) => {
                tasks.spawn(self.store_later(again, moves, None));
                Ok(Response::from_parts(head, Body::Full(body)))
            }
        }
    }

    /// Fields of the answer that are Onceward's to say, and those that are no longer the upstream's.
    fn dress(&self, head: &mut response::Parts, next: Option<EntityTag>, meaning: Meaning) {
        match self.route.version.source {
            // A tag of the upstream's own would not fit the tags that reads carry here.
            Source::Hash | Source::Field(_) | Source::Mint => {
                head.headers.remove(header::ETAG);
            }
            Source::Etag | Source::Upstream | Source::None => {}
        }
        if let Some(value) = next.and_then(|tag| fields::value(tag.as_str())) {
            head.headers.insert(fields::ONCEWARD_VERSION, value);
        }
        if meaning == Meaning::Keep && head.status.is_server_error() && self.claim.is_some() {
            head.headers.insert(fields::ONCEWARD_RETRY, HeaderValue::from_static("new-key"));
        }
    }

    /// No whole answer came (K11).
    pub async fn unknown(mut self, tasks: &TaskTracker) {
        let moves = self.next_version(StatusCode::BAD_GATEWAY, Meaning::Unknown).await;
        if let Err((again, _)) = self.end(Ended::Unknown, moves).await {
            tasks.spawn(self.store_later(again, moves, None));
        }
    }

    /// Nothing went out: the key is free again, and the next may go.
    pub async fn not_sent(mut self) {
        let ended = if self.ran_before { Ended::Unknown } else { Ended::Released };
        // What the store does not take now the claim's own end tries again.
        if self.end(ended, None).await.is_err() {
            tracing::warn!("a key could not be freed yet");
        }
    }

    /// Records the end, then ends the turn. When the record expires, where there is one.
    async fn end(
        &mut self,
        ended: Ended,
        moves: Option<Move>,
    ) -> Result<Option<Millis>, (Again, StoreError)> {
        let again = Again::of(&ended);
        let is_unknown = matches!(ended, Ended::Unknown);
        let expires_at = match &mut self.claim {
            Some(claim) => {
                // A version moves with the record; where the key is only freed, nothing moves.
                let expires_at = claim.end(ended, moves).await.map_err(|error| (again, error))?;
                Some(expires_at)
            }
            None => {
                if let Some(to) = moves {
                    self.store.move_version(to, now()).await.map_err(|error| (again, error))?;
                }
                None
            }
        };
        match self.turn.take() {
            Some(turn) if is_unknown => {
                if let Some(expires_at) = expires_at {
                    turn.watch(expires_at);
                }
                // Dropped unsettled: its resource rests.
                drop(turn);
            }
            Some(turn) => turn.settled(),
            None => {}
        }
        Ok(expires_at)
    }

    /// Tries until the store takes it (K4). The turn is held as long: nobody may build on what is not recorded.
    async fn store_later(mut self, again: Again, moves: Option<Move>, answer: Option<Bytes>) {
        let mut pause = Duration::from_millis(100);
        loop {
            tokio::time::sleep(pause).await;
            if self.end(again.ended(answer.clone()), moves).await.is_ok() {
                return;
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Passes an answer through that is not kept (K10). Its end is recorded whatever the agent does (K13, Q3).
    ///
    /// # Errors
    /// 503 where the store does not take that it began.
    pub async fn streams(
        mut self,
        head: response::Parts,
        body: Body,
        total: Instant,
        write_time: Duration,
        tasks: &TaskTracker,
    ) -> Result<Response, Reason> {
        if let Some(claim) = &mut self.claim {
            claim.streams(head.status.as_u16()).await?;
        }
        let mut head = head;
        self.dress(&mut head, None, Meaning::Release);
        let (sender, receiver) = mpsc::channel(4);
        let known = body.known_length();
        let status = head.status;
        let own_tasks = tasks.clone();
        tasks.spawn(async move {
            let whole = pump(body, sender, total, write_time).await;
            self.streamed(status, whole, &own_tasks).await;
        });
        let body = Body::stream(Relay { receiver, known, sent: 0 });
        Ok(Response::from_parts(head, body))
    }

    async fn streamed(mut self, status: StatusCode, whole: bool, tasks: &TaskTracker) {
        let meaning = if whole { self.meaning(status) } else { Meaning::Unknown };
        let moves = self.next_version(status, meaning).await;
        let ended = match meaning {
            Meaning::Keep => Ended::Done { status: status.as_u16(), answer: None },
            Meaning::Release => Ended::Released,
            Meaning::Unknown => Ended::Unknown,
        };
        if let Err((again, _)) = self.end(ended, moves).await {
            tasks.spawn(self.store_later(again, moves, None));
        }
    }
}

fn kept_fields(headers: &HeaderMap) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| fields::is_kept(name))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect::<HeaderMap>()
}

/// An end that is to be recorded again.
#[derive(Clone, Copy)]
enum Again {
    Done(u16),
    Released,
    Unknown,
}

impl Again {
    fn of(ended: &Ended) -> Self {
        match ended {
            Ended::Done { status, .. } => Self::Done(*status),
            Ended::Released => Self::Released,
            Ended::Unknown => Self::Unknown,
        }
    }

    fn ended(self, answer: Option<Bytes>) -> Ended {
        match self {
            Self::Done(status) => Ended::Done { status, answer },
            Self::Released => Ended::Released,
            Self::Unknown => Ended::Unknown,
        }
    }
}

/// Moves a body to the agent, and reads on alone where the agent is gone or takes nothing. Whether it came whole.
async fn pump(mut body: Body, sender: mpsc::Sender<Piece>, total: Instant, write_time: Duration) -> bool {
    let mut agent = Some(sender);
    loop {
        let piece = match tokio::time::timeout_at(total, body.frame()).await {
            Ok(frame) => frame,
            Err(_elapsed) => Some(Err("the answer took too long".into())),
        };
        let end = match &piece {
            None => Some(true),
            Some(Err(_)) => Some(false),
            Some(Ok(_)) => None,
        };
        if let Some(sender) = &agent {
            let taken = tokio::time::timeout(write_time, sender.send(piece)).await;
            if !matches!(taken, Ok(Ok(()))) {
                agent = None;
            }
        }
        if let Some(whole) = end {
            return whole;
        }
    }
}

/// What [`pump`] hands on; `None` is the end, so that a cut never looks like one.
type Piece = Option<Result<Frame<Bytes>, BoxError>>;

/// The agent's end of [`pump`].
struct Relay {
    receiver: mpsc::Receiver<Piece>,
    known: Option<u64>,
    sent: u64,
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(piece) = std::task::ready!(self.receiver.poll_recv(cx)) else {
            return std::task::Poll::Ready(Some(Err("the agent took nothing for too long".into())));
        };
        if let Some(Ok(frame)) = &piece {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        std::task::Poll::Ready(piece)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.known {
            Some(known) => http_body::SizeHint::with_exact(known.saturating_sub(self.sent)),
            None => http_body::SizeHint::new(),
        }
    }
}
