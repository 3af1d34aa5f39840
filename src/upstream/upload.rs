//! What became of a request's body on its way out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::wire::Wire;
use crate::http::{Body, BoxError};

/// Knows how far a body was taken for sending. One that is in memory is taken with the head.
pub(super) struct Upload(Option<Arc<Flags>>);

#[derive(Default)]
struct Flags {
    broke: AtomicBool,
    ended: AtomicBool,
    over: Mutex<Option<Arc<Wire>>>,
}

impl Upload {
    /// Lets an agent's streamed body tell when it ends, and whether it was the one that broke off.
    pub(super) fn watch(body: Body) -> (Body, Self) {
        let Body::Incoming(incoming) = body else { return (body, Self(None)) };
        let flags = Arc::new(Flags::default());
        let watched = Watched { incoming, flags: Arc::clone(&flags) };
        watched.look();
        (Body::stream(watched), Self(Some(flags)))
    }

    /// It goes out over this connection.
    pub(super) fn goes_over(&self, wire: &Arc<Wire>) {
        if let Some(flags) = &self.0 {
            *flags.over.lock() = Some(Arc::clone(wire));
        }
    }

    /// The agent's body broke off.
    pub(super) fn broke(&self) -> bool {
        self.0.as_ref().is_some_and(|flags| flags.broke.load(Ordering::Acquire))
    }

    /// All of it was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|flags| flags.ended.load(Ordering::Acquire))
    }
}

struct Watched {
    incoming: Incoming,
    flags: Arc<Flags>,
}

impl Watched {
    fn look(&self) {
        if http_body::Body::is_end_stream(&self.incoming) {
            self.end();
        }
    }

    fn end(&self) {
        if let Some(wire) = &*self.flags.over.lock() {
            wire.expect_flush();
        }
        self.flags.ended.store(true, Ordering::Release);
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => self.look(),
            Some(Err(_)) => self.flags.broke.store(true, Ordering::Release),
            None => self.end(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
