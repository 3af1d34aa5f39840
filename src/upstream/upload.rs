//! A request's content on its way out: how far it was taken, and whose fault it is when it does not come (F4).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::wire::Wire;
use crate::http::{Body, BoxError};

/// Knows how far content was taken for sending. What is in memory is taken with the head, and has nothing to tell.
pub(super) struct Upload(Option<Arc<Flags>>);

#[derive(Default)]
struct Flags {
    /// It is the agent that is waited for, not the upstream.
    waits: AtomicBool,
    /// It broke off or was malformed.
    broke: AtomicBool,
    /// Nothing came for too long.
    late: AtomicBool,
    /// The upstream has answered: from then on the agent may take its time, as in a talk both ways.
    answered: AtomicBool,
    /// All of it was taken.
    ended: AtomicBool,
    over: Mutex<Option<Arc<Wire>>>,
}

impl Upload {
    /// Lets content that streams from an agent tell of itself. `patience`: how long it may send nothing
    /// (`limits.body_time`).
    pub(super) fn watch(body: Body, patience: Duration) -> (Body, Self) {
        match body {
            Body::Empty | Body::Full(_) | Body::Head(_) => (body, Self(None)),
            Body::Incoming(_) | Body::Stream(_) => {
                let flags = Arc::new(Flags::default());
                let watched = Watched { body, patience, alarm: None, flags: Arc::clone(&flags) };
                watched.look();
                (Body::stream(watched), Self(Some(flags)))
            }
        }
    }

    /// It goes out over this connection.
    pub(super) fn goes_over(&self, wire: &Arc<Wire>) {
        if let Some(flags) = &self.0 {
            *flags.over.lock() = Some(Arc::clone(wire));
        }
    }

    /// The upstream has answered.
    pub(super) fn answered(&self) {
        if let Some(flags) = &self.0 {
            flags.answered.store(true, Ordering::Release);
        }
    }

    /// The agent is waited for: the upstream owes nothing yet.
    pub(super) fn waits(&self) -> bool {
        self.is(|flags| &flags.waits, false)
    }

    /// The agent's content broke off.
    pub(super) fn broke(&self) -> bool {
        self.is(|flags| &flags.broke, false)
    }

    /// The agent sent nothing for too long.
    pub(super) fn is_late(&self) -> bool {
        self.is(|flags| &flags.late, false)
    }

    /// All of it was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.is(|flags| &flags.ended, true)
    }

    fn is(&self, flag: impl Fn(&Flags) -> &AtomicBool, of_memory: bool) -> bool {
        self.0.as_ref().map_or(of_memory, |flags| flag(flags).load(Ordering::Acquire))
    }
}

struct Watched {
    body: Body,
    patience: Duration,
    /// Set while the agent owes the next byte.
    alarm: Option<Pin<Box<Sleep>>>,
    flags: Arc<Flags>,
}

impl Watched {
    fn look(&self) {
        if http_body::Body::is_end_stream(&self.body) {
            self.end();
        }
    }

    fn end(&self) {
        if let Some(wire) = &*self.flags.over.lock() {
            wire.expect_flush();
        }
        self.flags.ended.store(true, Ordering::Release);
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        std::task::ready!(alarm.as_mut().poll(cx));
        if self.flags.answered.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.flags.late.store(true, Ordering::Release);
        Poll::Ready(())
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.flags.waits.store(polled.is_pending(), Ordering::Release);
        let frame = match polled {
            Poll::Pending if self.poll_alarm(cx).is_ready() => {
                return Poll::Ready(Some(Err("the agent sent nothing for too long".into())));
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        self.alarm = None;
        match &frame {
            Some(Ok(_)) => self.look(),
            Some(Err(_)) => self.flags.broke.store(true, Ordering::Release),
            None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
