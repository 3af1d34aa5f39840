//! A client on a bare socket: it sends any bytes, leaves in any way, and knows a cut answer from a whole one.

use std::io;
use std::panic::Location;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::wire::{self, Framing, Head};
use super::{Answer, Proxy, within};

pub struct Raw {
    stream: BufReader<TcpStream>,
}

/// An answer as it stood on the wire.
#[derive(Debug)]
pub struct RawAnswer {
    pub answer: Answer,
    pub framing: Framing,
    /// The body came to its end as its framing says.
    pub whole: bool,
    /// The statuses of the informational heads before it.
    pub interim: Vec<u16>,
}

impl std::ops::Deref for RawAnswer {
    type Target = Answer;

    fn deref(&self) -> &Answer {
        &self.answer
    }
}

impl Raw {
    pub async fn connect(proxy: &Proxy) -> Raw {
        Raw::to(proxy.addr()).await
    }

    pub async fn to(address: &str) -> Raw {
        Raw::try_to(address).await.expect("a connection")
    }

    /// An error where nobody listens.
    pub async fn try_to(address: &str) -> io::Result<Raw> {
        within(format!("a connection to {address}"), TcpStream::connect(address)).await.map(Raw::over)
    }

    /// With a receive buffer so small that an agent which takes nothing is felt at once.
    pub async fn with_small_window(proxy: &Proxy) -> Raw {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        Raw::over(socket.connect(proxy.addr().parse().expect("an address")).await.expect("a connection"))
    }

    fn over(stream: TcpStream) -> Raw {
        stream.set_nodelay(true).expect("a TCP socket");
        Raw { stream: BufReader::new(stream) }
    }

    /// Connects, sends, and reads the one answer.
    pub async fn ask(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> RawAnswer {
        let mut raw = Raw::connect(proxy).await;
        raw.send(bytes).await;
        raw.answer().await
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the connection takes bytes");
    }

    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("the other side to take bytes", self.stream.get_mut().write_all(bytes.as_ref())).await
    }

    /// No more bytes will come from here; answers are still read.
    pub async fn half_close(&mut self) {
        self.stream.get_mut().shutdown().await.expect("a connection to half-close");
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        let stream = self.stream.into_inner();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    #[track_caller]
    pub fn answer(&mut self) -> impl Future<Output = RawAnswer> {
        self.answer_to("GET")
    }

    /// The next answer, read as the answer to a request with that method.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> impl Future<Output = RawAnswer> {
        let (method, place) = (method.to_owned(), Location::caller());
        within("a whole answer", async move {
            let answer = self.read(&method).await;
            let answer = answer.unwrap_or_else(|error| panic!("no answer but {error} (asked at {place})"));
            answer.unwrap_or_else(|| panic!("no answer but the end of the connection (asked at {place})"))
        })
    }

    /// The next answer, or `None` where the connection ends instead.
    pub async fn answer_or_end(&mut self) -> Option<RawAnswer> {
        within("an answer or the end", self.read("GET")).await.ok().flatten()
    }

    /// Only the next head, with its body left on the wire.
    #[track_caller]
    pub fn head(&mut self) -> impl Future<Output = Head> {
        let place = Location::caller();
        let head = within("the head of an answer", wire::read_head(&mut self.stream));
        async move {
            head.await.ok().flatten().unwrap_or_else(|| panic!("no head of an answer (asked at {place})"))
        }
    }

    /// The body behind a head; whether it is whole.
    pub async fn body(&mut self, head: &Head, into: &mut Vec<u8>) -> bool {
        let framing = head.framing().unwrap_or(Framing::UntilClose);
        within("a body", wire::read_body(&mut self.stream, framing, into)).await.unwrap_or(false)
    }

    /// Waits until something of an answer is there, and leaves it unread; `false`: the connection ends instead.
    pub async fn is_answered(&mut self) -> bool {
        within("an answer or the end", self.stream.fill_buf()).await.is_ok_and(|there| !there.is_empty())
    }

    /// Reads at least one byte of what is next on the wire.
    pub async fn some(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        within(format!("{count} bytes"), self.stream.read_exact(&mut bytes)).await.expect("bytes");
        bytes
    }

    /// Asserts that the other side closes now, without another byte.
    #[track_caller]
    pub fn closed(self) -> impl Future<Output = ()> {
        let place = Location::caller();
        let rest = self.rest();
        async move {
            let rest = String::from_utf8_lossy(&rest.await).into_owned();
            assert!(rest.is_empty(), "bytes before the close (awaited at {place}): {rest}");
        }
    }

    /// Everything until the other side closes.
    #[track_caller]
    pub fn rest(mut self) -> impl Future<Output = Vec<u8>> {
        within("the other side to close", async move {
            let mut rest = Vec::new();
            // A reset is an end too; what counts is what came before it.
            self.stream.read_to_end(&mut rest).await.ok();
            rest
        })
    }

    async fn read(&mut self, method: &str) -> io::Result<Option<RawAnswer>> {
        let mut interim = Vec::new();
        loop {
            let Some(head) = wire::read_head(&mut self.stream).await? else { return Ok(None) };
            let status = status(&head);
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let framing =
                if bodiless { Framing::Empty } else { head.framing().unwrap_or(Framing::UntilClose) };
            let mut body = Vec::new();
            let whole = wire::read_body(&mut self.stream, framing, &mut body).await.unwrap_or(false);
            let answer = Answer::new(status, fields(&head), Bytes::from(body));
            return Ok(Some(RawAnswer { answer, framing, whole, interim }));
        }
    }
}

pub(super) fn status(head: &Head) -> u16 {
    let mut words = head.start.split(' ');
    assert!(words.next().is_some_and(|version| version.starts_with("HTTP/1.")), "no answer: {head:?}");
    words.next().and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {head:?}"))
}

pub(super) fn fields(head: &Head) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in &head.fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        fields.append(name, HeaderValue::from_bytes(value).expect("a field value"));
    }
    fields
}
