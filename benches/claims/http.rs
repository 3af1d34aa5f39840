//! A client over one connection that asks for one thing at a time, and costs little.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Http {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

/// An answer, whole.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// What it says, for who did not expect it.
    pub(crate) fn shown(&self) -> String {
        format!("{}: {}", self.status, String::from_utf8_lossy(self.body))
    }
}

impl Http {
    pub(crate) async fn to(host: &str) -> Self {
        let stream = TcpStream::connect(host).await.expect("a server");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, host: host.to_owned(), buffer: Vec::new() }
    }

    /// `fields`: whole lines.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, fields: &str, body: &str) -> Answer<'_> {
        let asked = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{fields}\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(asked.as_bytes()).await.expect("a connection");
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("an answer");
            assert!(read > 0, "the connection was closed: {asked}");
            if let Some((status, head, length)) = head(&self.buffer)
                && self.buffer.len() >= head + length
            {
                return Answer { status, body: &self.buffer[head..head + length] };
            }
        }
    }
}

/// An answer's status, and how long its head and its body are; `None`: it is not all there.
fn head(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes).expect("HTTP/1.1") {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return None,
    };
    let status = head.code.expect("a status");
    let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let body = field.map(|field| std::str::from_utf8(field.value).expect("text").parse().expect("a length"));
    assert!(body.is_some() || status == 204, "an answer without a length");
    Some((status, length, body.unwrap_or(0)))
}
