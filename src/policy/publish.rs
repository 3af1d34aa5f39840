//! What the agent gets of a write's answer: its content as far as it is kept, or as it comes (K9, K10, V7).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::response;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::checked::{Route, Source};
use crate::http::{Body, BoxError, fields};
use crate::protocol::entity_tag::EntityTag;

/// What was read of an answer's content.
pub enum Content {
    Whole(Bytes),
    /// Larger than `max_response`, or a stream: what was read, and the rest.
    Streams(Body),
    /// It broke off, or took too long.
    Broke(BoxError),
    /// Onceward was stopped before it was there (O5).
    Left,
}

/// Reads an answer's content as far as it is kept (K10).
pub async fn content(head: &response::Parts, body: Body, route: &Route, total: Instant) -> Content {
    let most = route.idempotency.max_response;
    if matches!(body, Body::Empty) {
        return Content::Whole(Bytes::new());
    }
    if fields::is_stream(&head.headers) || body.known_length().is_some_and(|length| length > most as u64) {
        return Content::Streams(body);
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

/// Fields of an answer that are Onceward's to say, and those that are no longer the upstream's.
///
/// `next`: the tag to send next (V7). `kept`: there is a record of it (K8).
pub fn dress(head: &mut response::Parts, route: &Route, next: Option<EntityTag>, kept: bool) {
    match route.version.source {
        // A tag of the upstream's own would not fit the tags that reads carry here.
        Source::Hash | Source::Field(_) | Source::Mint => {
            head.headers.remove(header::ETAG);
        }
        Source::Etag | Source::Upstream | Source::None => {}
    }
    if let Some(value) = next.and_then(|tag| fields::value(tag.as_str())) {
        head.headers.insert(fields::ONCEWARD_VERSION, value);
    }
    // A class that nobody knows counts as a server error (RFC 9110 §15).
    if kept && head.status.as_u16() >= 500 {
        head.headers.insert(fields::ONCEWARD_RETRY, HeaderValue::from_static("new-key"));
    }
}

/// What ends a streamed answer that does not end by itself.
pub struct Bounds {
    /// When it has taken too long.
    pub total: Instant,
    /// How long an agent may take nothing.
    pub write_time: Duration,
    /// Stopped when a shutdown's grace is over (O5).
    pub closing: CancellationToken,
}

/// Parts a streamed answer: the pump reads it to its end whatever the agent does (K13, Q3), the body is the agent's.
pub fn relay(body: Body, bounds: Bounds) -> (Pump, Body) {
    let (sender, receiver) = mpsc::channel(4);
    let known = body.known_length();
    (Pump { body, sender, bounds }, Body::stream(Relay { receiver, known, sent: 0 }))
}

/// The upstream's end of a streamed answer.
pub struct Pump {
    body: Body,
    sender: mpsc::Sender<Piece>,
    bounds: Bounds,
}

impl Pump {
    /// Moves the body to the agent, and reads on alone where the agent is gone or takes nothing. Whether it came
    /// whole.
    pub async fn run(self) -> bool {
        let Self { mut body, sender, bounds } = self;
        let mut agent = Some(sender);
        loop {
            let piece = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = tokio::time::sleep_until(bounds.total) => Some(Err("the answer took too long".into())),
                () = bounds.closing.cancelled() => Some(Err("Onceward was stopped".into())),
            };
            let end = match &piece {
                None => Some(true),
                Some(Err(_)) => Some(false),
                Some(Ok(_)) => None,
            };
            if let Some(sender) = &agent {
                let taken = tokio::time::timeout(bounds.write_time, sender.send(piece)).await;
                if !matches!(taken, Ok(Ok(()))) {
                    agent = None;
                }
            }
            if let Some(whole) = end {
                return whole;
            }
        }
    }
}

/// What a [`Pump`] hands on; `None` is the end, so that a cut never looks like one.
type Piece = Option<Result<Frame<Bytes>, BoxError>>;

/// The agent's end of a streamed answer.
struct Relay {
    receiver: mpsc::Receiver<Piece>,
    known: Option<u64>,
    sent: u64,
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(piece) = ready!(self.receiver.poll_recv(cx)) else {
            return Poll::Ready(Some(Err("the agent took nothing for too long".into())));
        };
        if let Some(Ok(frame)) = &piece {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(piece)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.known {
            Some(known) => http_body::SizeHint::with_exact(known.saturating_sub(self.sent)),
            None => http_body::SizeHint::new(),
        }
    }
}
