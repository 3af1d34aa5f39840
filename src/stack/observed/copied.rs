//! Content that passes on as it comes, and is copied on its way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use crate::http::{Body, BoxError};

/// Gives its copy away when all has gone by; `None`: it is larger than may be copied.
pub(super) struct Copied {
    body: Body,
    copy: Vec<u8>,
    most: usize,
    known: Option<u64>,
    to: Option<oneshot::Sender<Option<Bytes>>>,
}

impl Copied {
    /// The body, and where its copy comes; nothing comes of one that breaks off.
    pub(super) fn of(body: Body, most: usize) -> (Body, oneshot::Receiver<Option<Bytes>>) {
        let (to, copy) = oneshot::channel();
        let known = body.known_length();
        (Body::stream(Self { body, copy: Vec::new(), most, known, to: Some(to) }), copy)
    }

    fn took(&mut self, data: &[u8]) {
        if self.copy.len() + data.len() > self.most {
            return self.give(|_| None);
        }
        if self.to.is_some() {
            self.copy.extend_from_slice(data);
        }
        // Who knows the length does not ask for more.
        if self.known == Some(self.copy.len() as u64) {
            self.ended();
        }
    }

    fn ended(&mut self) {
        self.give(|copy| Some(Bytes::from(copy)));
    }

    fn give(&mut self, what: impl FnOnce(Vec<u8>) -> Option<Bytes>) {
        let copy = std::mem::take(&mut self.copy);
        if let Some(to) = self.to.take() {
            // Nobody waits for it where the answer came before.
            drop(to.send(what(copy)));
        }
    }
}

impl http_body::Body for Copied {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.took(data);
                }
                if http_body::Body::is_end_stream(&self.body) {
                    self.ended();
                }
            }
            Some(Err(_)) => self.to = None,
            None => self.ended(),
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
