//! What the HTTP library reads and writes of an agent's connection: checked heads only, within the limits of time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::framing::{self, Chunks, Content, HeadLimits};
use super::socket::Socket;
use crate::http::Reason;

/// What a connection and the requests on it tell each other.
#[derive(Default)]
pub(super) struct Shared {
    /// Why the head that was just passed on is a stand-in: the refusal its request gets.
    pub(super) refused: Mutex<Option<Reason>>,
    /// Cancelled when the connection turns out to speak HTTP/2.
    pub(super) http2: CancellationToken,
    /// The connection changes to another protocol with the next answer.
    pub(super) upgraded: Arc<AtomicBool>,
    /// Content of the request at hand has not come yet.
    pub(super) unread: AtomicBool,
}

/// Limits of one connection (F4).
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    pub(super) head: HeadLimits,
    pub(super) head_time: Duration,
    pub(super) idle: Duration,
    pub(super) write_time: Duration,
}

/// What is passed on in place of a refused head, so that the refusal takes the way of every other answer.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FIRST_READ: usize = 4096;

enum State {
    /// Before a head is whole; how far its end was looked for.
    Head {
        looked: usize,
    },
    /// A checked head, or a stand-in, on its way: bytes left, and what comes behind.
    Passing {
        left: usize,
        then: After,
    },
    Length(u64),
    Chunked(Chunks),
    /// HTTP/2, or another protocol after an upgrade.
    Raw,
    Ended,
}

#[derive(Clone, Copy)]
enum After {
    Content(Content),
    End,
}

pub(super) struct AgentIo {
    socket: Socket,
    shared: Arc<Shared>,
    limits: ConnectionLimits,
    state: State,
    /// Read from the socket and not yet passed on: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    is_first: bool,
    /// When the wait for a head, or within one, is over.
    read_deadline: Option<Instant>,
    read_alarm: Option<Pin<Box<Sleep>>>,
    write_alarm: Option<Pin<Box<Sleep>>>,
}

impl AgentIo {
    pub(super) fn new(socket: Socket, shared: Arc<Shared>, limits: ConnectionLimits) -> Self {
        Self {
            socket,
            shared,
            limits,
            state: State::Head { looked: 0 },
            buffer: Vec::new(),
            start: 0,
            end: 0,
            is_first: true,
            read_deadline: None,
            read_alarm: None,
            write_alarm: None,
        }
    }

    fn held(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads more into the buffer; `Ok(0)` at the agent's end.
    fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let larger = (self.buffer.len() * 2).clamp(FIRST_READ, most.max(FIRST_READ));
                self.buffer.resize(larger, 0);
            }
        }
        let Some(room) = self.buffer.get_mut(self.end..) else { return Poll::Ready(Ok(0)) };
        let read = self.socket.poll_recv(cx, room);
        if let Poll::Ready(Ok(bytes)) = &read {
            self.end += bytes;
        }
        read
    }

    /// Moves up to `most` bytes from the buffer to the library.
    fn pass(&mut self, out: &mut ReadBufCursor<'_>, most: usize) -> usize {
        let step = most.min(out.remaining()).min(self.end - self.start);
        out.put_slice(self.buffer.get(self.start..self.start + step).unwrap_or_default());
        self.start += step;
        step
    }

    fn refuse(&mut self, reason: Reason) {
        *self.shared.refused.lock() = Some(reason);
        self.buffer = STAND_IN.to_vec();
        (self.start, self.end) = (0, STAND_IN.len());
        self.state = State::Passing { left: STAND_IN.len(), then: After::End };
        self.read_deadline = None;
    }

    /// Brings a head together and checks it. `Ready(false)`: the agent is done.
    fn poll_head(&mut self, cx: &mut Context<'_>, looked: usize) -> Poll<io::Result<bool>> {
        if self.shared.upgraded.load(Ordering::Acquire) {
            self.state = State::Raw;
            return Poll::Ready(Ok(true));
        }
        // Empty lines before a request line are passed over (RFC 9112 §2.2); what is no whole line is not.
        while let [b'\r', b'\n', ..] = self.held() {
            self.start += 2;
        }
        if self.is_first && !self.held().is_empty() {
            let seen = self.held().len().min(PREFACE.len());
            if self.held().get(..seen) == PREFACE.get(..seen) {
                if seen == PREFACE.len() {
                    self.shared.http2.cancel();
                    self.state = State::Raw;
                    return Poll::Ready(Ok(true));
                }
                return self.poll_more(cx, looked);
            }
        }
        match framing::head_end(self.held(), looked) {
            Some(length) if length <= self.limits.head.head => self.take_head(length),
            None if self.held().len() <= self.limits.head.head => {
                let looked = self.held().len().saturating_sub(2);
                return self.poll_more(cx, looked);
            }
            Some(_) | None => self.refuse(self.too_large()),
        }
        Poll::Ready(Ok(true))
    }

    fn take_head(&mut self, length: usize) {
        let head = self.held().get(..length).unwrap_or_default();
        match framing::check(head, self.limits.head) {
            Ok(content) => {
                self.is_first = false;
                self.read_deadline = None;
                self.state = State::Passing { left: length, then: After::Content(content) };
            }
            Err(reason) => self.refuse(reason),
        }
    }

    fn too_large(&self) -> Reason {
        let in_first_line = !self.held().iter().take(self.limits.head.uri + 32).any(|b| *b == b'\n');
        if in_first_line {
            return Reason::UriTooLong { limit: self.limits.head.uri };
        }
        Reason::HeadersTooLarge(format!("The request's head is larger than {} bytes.", self.limits.head.head))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, looked: usize) -> Poll<io::Result<bool>> {
        self.state = State::Head { looked };
        match self.poll_fill(cx, self.limits.head.head + FIRST_READ) {
            Poll::Ready(Ok(0)) if self.held().is_empty() => Poll::Ready(Ok(false)),
            Poll::Ready(Ok(0)) => {
                self.refuse(Reason::BadRequest("The request's head broke off.".to_owned()));
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Ok(bytes)) => {
                if self.held().len() == bytes {
                    // The first bytes of a head: from here on it has `head_time`.
                    self.read_deadline = None;
                }
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_head_alarm(cx),
        }
    }

    fn poll_head_alarm(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let waits_for_first = self.held().is_empty();
        let limit = if waits_for_first { self.limits.idle } else { self.limits.head_time };
        let deadline = *self.read_deadline.get_or_insert_with(|| Instant::now() + limit);
        // One alarm for the connection's life: it is set anew only when it rings, so that a request that comes in
        // time costs no timer.
        let alarm = self.read_alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() < deadline {
                alarm.as_mut().reset(deadline);
                continue;
            }
            if waits_for_first {
                return Poll::Ready(Ok(false));
            }
            self.refuse(Reason::RequestTimeout("The request's head"));
            return Poll::Ready(Ok(true));
        }
        Poll::Pending
    }

    fn after(&mut self, then: After) {
        self.state = match then {
            After::End => State::Ended,
            After::Content(Content::Length(0)) => State::Head { looked: 0 },
            After::Content(Content::Length(length)) => State::Length(length),
            After::Content(Content::Chunked) => State::Chunked(Chunks::START),
        };
        self.shared.unread.store(!matches!(self.state, State::Head { .. }), Ordering::Relaxed);
    }

    fn content_ends(&mut self) {
        self.state = State::Head { looked: 0 };
        self.shared.unread.store(false, Ordering::Relaxed);
    }

    fn poll_length(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBufCursor<'_>,
        left: u64,
    ) -> Poll<io::Result<()>> {
        if self.start == self.end {
            let bytes = std::task::ready!(self.poll_fill(cx, 64 * 1024))?;
            if bytes == 0 {
                self.state = State::Ended;
                return Poll::Ready(Ok(()));
            }
        }
        let passed = self.pass(out, usize::try_from(left).unwrap_or(usize::MAX)) as u64;
        match left - passed {
            0 => self.content_ends(),
            left => self.state = State::Length(left),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_chunked(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBufCursor<'_>,
        mut chunks: Chunks,
    ) -> Poll<io::Result<()>> {
        if self.start == self.end {
            let bytes = std::task::ready!(self.poll_fill(cx, 64 * 1024))?;
            if bytes == 0 {
                self.state = State::Ended;
                return Poll::Ready(Ok(()));
            }
        }
        let room = out.remaining().min(self.end - self.start);
        match chunks.advance(self.held().get(..room).unwrap_or_default()) {
            Ok(content) => {
                self.pass(out, content);
                if chunks == Chunks::Done {
                    self.content_ends();
                } else {
                    self.state = State::Chunked(chunks);
                }
            }
            Err(framing::BadChunk) => {
                // Something that the library refuses in every place where a chunk can go wrong.
                out.put_slice(b"~".get(..room.min(1)).unwrap_or_default());
                self.state = State::Ended;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>, out: &mut ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.start == self.end {
            std::task::ready!(self.poll_fill(cx, 64 * 1024))?;
        }
        self.pass(out, usize::MAX);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Read for AgentIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.state {
                State::Head { looked } => {
                    if !std::task::ready!(this.poll_head(cx, looked))? {
                        this.state = State::Ended;
                    }
                }
                State::Passing { left, then } => {
                    let passed = this.pass(&mut out, left);
                    if passed < left {
                        this.state = State::Passing { left: left - passed, then };
                        return Poll::Ready(Ok(()));
                    }
                    this.after(then);
                    // The content that came with its head goes on with it: asked for by itself it would find the
                    // library's buffer held by the head, and cost another.
                    if let State::Length(left) = this.state
                        && this.start < this.end
                        && out.remaining() > 0
                    {
                        return this.poll_length(cx, &mut out, left);
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Length(left) => return this.poll_length(cx, &mut out, left),
                State::Chunked(chunks) => return this.poll_chunked(cx, &mut out, chunks),
                State::Raw => return this.poll_raw(cx, &mut out),
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AgentIo {
    fn poll_send(&mut self, cx: &mut Context<'_>, buffers: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.socket.poll_send(cx, buffers) {
            Poll::Ready(sent) => {
                self.write_alarm = None;
                Poll::Ready(sent)
            }
            Poll::Pending => {
                let limit = self.limits.write_time;
                let alarm = self.write_alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                // An agent that takes nothing for so long is cut off (Q3).
                alarm.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl hyper::rt::Write for AgentIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.socket.shutdown() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}
