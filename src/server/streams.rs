//! What HTTP/2 connections need beside (F4): their streams are seen by nobody but the library, so what HTTP/1 shows
//! by its heads and its socket (an idle connection, an agent that takes nothing) is told from the answers here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::http::{Body, BoxError, Response};

/// The requests that run on a connection.
pub(super) struct Activity {
    /// How many run, and since when none does.
    running: Mutex<(usize, Instant)>,
    ended: Notify,
}

/// One request on a connection, until its answer is out.
pub(super) struct Busy(Arc<Activity>);

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { running: Mutex::new((0, Instant::now())), ended: Notify::new() })
    }

    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.running.lock().0 += 1;
        Busy(Arc::clone(self))
    }

    /// Ends when nothing has run for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let ended = self.ended.notified();
            let (running, since) = *self.running.lock();
            if running > 0 {
                ended.await;
            } else if since.elapsed() >= limit {
                return;
            } else {
                tokio::time::sleep_until(since + limit).await;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut running = self.0.running.lock();
        *running = (running.0.saturating_sub(1), Instant::now());
        drop(running);
        self.0.ended.notify_waiters();
    }
}

/// Takes an answer's content from the upstream whether the agent's window is open or not: one that takes nothing for
/// `write_time` is cut off, and its upstream's connection is free.
pub(super) fn relayed(answer: Response, busy: Busy, write_time: Duration, tasks: &TaskTracker) -> Response {
    let (head, body) = answer.into_parts();
    match body {
        Body::Empty | Body::Full(_) | Body::Head(_) => Response::from_parts(head, body),
        Body::Incoming(_) | Body::Stream(_) => {
            let known = body.known_length();
            let (sender, receiver) = mpsc::channel(1);
            tasks.spawn(pump(body, sender, write_time));
            Response::from_parts(head, Body::stream(Relayed { receiver, known, sent: 0, _busy: busy }))
        }
    }
}

/// `None` is the end, so that a cut never looks like one.
type Piece = Option<Result<Frame<Bytes>, BoxError>>;

async fn pump(mut body: Body, agent: mpsc::Sender<Piece>, write_time: Duration) {
    loop {
        let piece = tokio::select! {
            piece = body.frame() => piece,
            () = agent.closed() => return,
        };
        // Trailers are dropped: they could say what no answer may (F2).
        if piece.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_trailers)) {
            continue;
        }
        let is_last = !matches!(piece, Some(Ok(_)));
        let taken = tokio::time::timeout(write_time, agent.send(piece)).await;
        if is_last || !matches!(taken, Ok(Ok(()))) {
            return;
        }
    }
}

/// The agent's end of it.
struct Relayed {
    receiver: mpsc::Receiver<Piece>,
    known: Option<u64>,
    sent: u64,
    _busy: Busy,
}

impl http_body::Body for Relayed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(piece) = std::task::ready!(self.receiver.poll_recv(cx)) else {
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
