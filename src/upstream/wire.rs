//! What a connection to an upstream has put on the wire, and when.
//!
//! "Provably sent nothing" (K11, K14) is a fact about the socket, not about what a library says of a request; so it
//! is counted where bytes are handed to the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Counters of one connection, shared between its socket and whoever calls over it.
pub(super) struct Wire {
    opened: Instant,
    bytes: AtomicU64,
    /// Nanoseconds from `opened` to the last write that took something.
    last: AtomicU64,
}

impl Wire {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { opened: Instant::now(), bytes: AtomicU64::new(0), last: AtomicU64::new(0) })
    }

    /// Bytes handed to the socket since it was opened.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
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
pub(super) struct Counted {
    socket: TokioIo<TcpStream>,
    wire: Arc<Wire>,
}

impl Counted {
    pub(super) fn new(socket: TcpStream, wire: Arc<Wire>) -> Self {
        Self { socket: TokioIo::new(socket), wire }
    }

    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            self.wire.took(*bytes);
        }
        written
    }
}

impl hyper::rt::Read for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.socket.inner_mut()).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(self.socket.inner_mut()).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.inner_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.inner_mut()).poll_shutdown(cx)
    }
}
