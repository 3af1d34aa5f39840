//! What a connection to an upstream has put on the wire, and when.
//!
//! "Provably sent nothing" (K11, K14) is a fact about the socket, not about what a library says of a request; so it
//! is counted where bytes are handed to the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::http::gather::Gather;

/// Counters of one connection, shared between its socket and whoever calls over it.
pub(super) struct Wire {
    opened: Instant,
    bytes: AtomicU64,
    /// Nanoseconds from `opened` to the last write that took something.
    last: AtomicU64,
    /// `bytes` when nothing more stood in front of the socket.
    flushed: AtomicU64,
    closed: AtomicBool,
    /// Milliseconds that the socket may take nothing, by the limits of the call that it carries.
    patience: AtomicU64,
    /// Who waits until all has gone.
    waiting: Mutex<Option<Waker>>,
}

impl Wire {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            bytes: AtomicU64::new(0),
            last: AtomicU64::new(0),
            flushed: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            patience: AtomicU64::new(u64::MAX),
            waiting: Mutex::new(None),
        })
    }

    /// Bytes handed to the socket since it was opened.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether all that was to go out so far has.
    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Acquire) == self.bytes()
    }

    /// Something stands in front of the socket, and a flush follows.
    pub(super) fn expect_flush(&self) {
        self.flushed.store(u64::MAX, Ordering::Release);
    }

    /// Whether nothing can go out any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How long the socket may take nothing from now on.
    pub(super) fn set_patience(&self, patience: Duration) {
        self.patience.store(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Wakes at the next flush, and at the end.
    pub(super) fn wake_at_flush(&self, cx: &Context<'_>) {
        *self.waiting.lock() = Some(cx.waker().clone());
    }

    fn wake(&self) {
        let waiting = self.waiting.lock().take();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// When the socket last took a byte.
    pub(super) fn last_write(&self) -> Instant {
        self.opened + Duration::from_nanos(self.last.load(Ordering::Acquire))
    }

    fn took(&self, bytes: usize) {
        let nanos = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.store(nanos, Ordering::Release);
        self.bytes.fetch_add(bytes as u64, Ordering::AcqRel);
    }
}

/// A socket that counts.
///
/// An upstream may answer before it has taken the whole request, and close. So a write that fails is not the end: what
/// is still to be sent is dropped, and the answer that may have come before is read. It must end by its own framing.
pub(super) struct Counted {
    socket: TokioIo<TcpStream>,
    wire: Arc<Wire>,
    /// The socket takes no more.
    deaf: bool,
    /// Set while it takes nothing.
    overdue: Option<Pin<Box<tokio::time::Sleep>>>,
    /// To be open; after the socket, so that it is given back when that is closed.
    _leave: OwnedSemaphorePermit,
}

impl Counted {
    pub(super) fn new(socket: TcpStream, wire: Arc<Wire>, leave: OwnedSemaphorePermit) -> Self {
        Self { socket: TokioIo::new(socket), wire, deaf: false, overdue: None, _leave: leave }
    }

    /// What becomes of a write of `length` bytes that the socket said this of.
    fn count(
        &mut self,
        written: Poll<io::Result<usize>>,
        length: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.overdue = None;
                self.wire.took(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                Poll::Ready(Ok(length))
            }
            Poll::Pending => {
                let patience = Duration::from_millis(self.wire.patience.load(Ordering::Acquire));
                let overdue = self.overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                ready!(overdue.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.wire.closed.store(true, Ordering::Release);
        self.wire.wake();
    }
}

impl hyper::rt::Read for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.deaf {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        // The failed write took the error that would stand here: the end of the bytes is no end of an answer.
        let mut bytes = [0; 8192];
        let room = buf.remaining().min(bytes.len());
        let (part, _) = bytes.split_at_mut(room);
        let mut read = ReadBuf::new(part);
        ready!(Pin::new(self.socket.inner_mut()).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(self.socket.inner_mut()).poll_write(cx, buf);
        self.count(written, buf.len(), cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(length));
        }
        let socket = Pin::new(self.socket.inner_mut());
        let written = match Gather::new().join(bufs) {
            Some(joined) => socket.poll_write(cx, joined),
            None => socket.poll_write_vectored(cx, bufs),
        };
        self.count(written, length, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(self.socket.inner_mut()).poll_flush(cx))?;
        self.wire.flushed.store(self.wire.bytes(), Ordering::Release);
        self.wire.wake();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.inner_mut()).poll_shutdown(cx)
    }
}
