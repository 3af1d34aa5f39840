//! An upstream's answer as it comes, with its connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::Checkout;
use super::upload::Upload;
use crate::http::BoxError;

/// The content of an answer. Read to its end, its connection goes back to the pool; dropped before, it is closed (F6).
///
/// An answer may be whole before its request has gone. Of a success the rest of the request is a part: the body ends
/// when that has gone too, so that no other write meets it (Q1, Q3). Who refuses wants no more of it, and the connection
/// is closed.
pub(super) struct AnswerBody {
    incoming: Incoming,
    checkout: Option<Checkout>,
    upload: Upload,
    /// Its last byte has come.
    whole: bool,
    /// The status is a 4xx or 5xx.
    refuses: bool,
    idle: Duration,
    /// Set while the upstream owes the next byte.
    overdue: Option<Pin<Box<Sleep>>>,
}

/// The upstream sent nothing for `upstream_idle`.
#[derive(Debug)]
pub(crate) struct Idle;

impl std::fmt::Display for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the upstream sent nothing for too long")
    }
}

impl std::error::Error for Idle {}

impl AnswerBody {
    pub(super) fn new(
        incoming: Incoming,
        checkout: Checkout,
        upload: Upload,
        refuses: bool,
        idle: Duration,
    ) -> Self {
        Self { incoming, checkout: Some(checkout), upload, whole: false, refuses, idle, overdue: None }
    }

    /// The answer is whole: lets go of the connection where the request is through too, or no longer wanted. Whether
    /// it did.
    pub(super) fn ends_at_once(&mut self) -> bool {
        let Some(checkout) = &self.checkout else { return true };
        if self.upload.has_ended() && checkout.connection.wire.is_flushed() {
            self.give_back();
        } else if self.refuses {
            self.cut();
        }
        self.checkout.is_none()
    }

    /// The same, and waits for the rest of the request.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ends_at_once() {
            return Poll::Ready(());
        }
        let Some(checkout) = &self.checkout else { return Poll::Ready(()) };
        let wire = &checkout.connection.wire;
        wire.wake_at_flush(cx);
        let gone = self.upload.has_ended() && wire.is_flushed();
        if !gone && !wire.is_closed() {
            return Poll::Pending;
        }
        // hyper has taken it for idle since the answer was whole, and may not see that it can be used again.
        self.cut();
        Poll::Ready(())
    }

    fn cut(&mut self) {
        if let Some(checkout) = self.checkout.take() {
            checkout.connection.cut();
        }
    }

    fn give_back(&mut self) {
        if let Some(checkout) = self.checkout.take() {
            checkout.give_back();
        }
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        let overdue =
            self.overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        overdue.as_mut().poll(cx)
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.whole {
            return self.poll_end(cx).map(|()| None);
        }
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.poll_overdue(cx));
                self.cut();
                return Poll::Ready(Some(Err(Box::new(Idle))));
            }
        };
        self.overdue = None;
        match frame {
            Some(Ok(frame)) => {
                if self.incoming.is_end_stream() {
                    self.ends_at_once();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.cut();
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.whole = true;
                self.poll_end(cx).map(|()| None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream() && self.checkout.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
