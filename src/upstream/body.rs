//! An upstream's answer as it comes, with its connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::Checkout;
use crate::http::BoxError;

/// The content of an answer. Read to its end, its connection goes back to the pool; dropped before, it is closed (F6).
pub(super) struct AnswerBody {
    incoming: Incoming,
    checkout: Option<Checkout>,
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
    pub(super) fn new(incoming: Incoming, checkout: Checkout, idle: Duration) -> Self {
        Self { incoming, checkout: Some(checkout), idle, overdue: None }
    }

    fn ended(&mut self) {
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
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.poll_overdue(cx));
                self.checkout = None;
                return Poll::Ready(Some(Err(Box::new(Idle))));
            }
        };
        self.overdue = None;
        match frame {
            Some(Ok(frame)) => {
                if self.incoming.is_end_stream() {
                    self.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.checkout = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.ended();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
