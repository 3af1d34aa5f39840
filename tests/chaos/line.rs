//! An agent's connection: one request at a time on bare sockets, kept for the next where both sides agree.
//!
//! A client library would hide how a connection ended, and send again what it thinks was never sent.

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::harness::Answer;
use crate::harness::wire::{self, Framing};

pub struct Line {
    addresses: Vec<String>,
    kept: Mutex<Option<BufReader<TcpStream>>>,
}

impl Line {
    /// To one of these, another each time, as behind a load balancer.
    pub fn to(addresses: &[String]) -> Line {
        Line { addresses: addresses.to_vec(), kept: Mutex::new(None) }
    }

    pub async fn fresh(&self) -> Option<BufReader<TcpStream>> {
        let stream = TcpStream::connect(fastrand::choice(&self.addresses)?).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(BufReader::new(stream))
    }

    /// The whole answer, or nothing where the connection ended before it was there.
    pub async fn exchange(&self, request: &[u8]) -> Option<Answer> {
        // One connection after the other to one proxy would not show what a retry meets on another.
        let kept = self.kept.lock().take().filter(|_| self.addresses.len() == 1 || fastrand::bool());
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.fresh().await?,
        };
        stream.get_mut().write_all(request).await.ok()?;
        let answer = read(&mut stream).await?;
        if answer.header("connection").as_deref() != Some("close") {
            *self.kept.lock() = Some(stream);
        }
        Some(answer)
    }

    /// As [`Line::exchange`], on a connection of its own on which nothing more will be said.
    pub async fn half_closed(&self, request: &[u8]) -> Option<Answer> {
        let mut stream = self.fresh().await?;
        stream.get_mut().write_all(request).await.ok()?;
        stream.get_mut().shutdown().await.ok()?;
        read(&mut stream).await
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Answer> {
    let head = wire::read_head(stream).await.ok().flatten()?;
    let status = head.start.split(' ').nth(1)?.parse().ok()?;
    let bodiless = matches!(status, 204 | 304);
    let framing = if bodiless { Framing::Empty } else { head.framing().unwrap_or(Framing::UntilClose) };
    let mut body = Vec::new();
    if !wire::read_body(stream, framing, &mut body).await.unwrap_or(false) {
        return None;
    }
    let mut fields = http::HeaderMap::new();
    for (name, value) in &head.fields {
        let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        fields.append(name, http::HeaderValue::from_bytes(value).ok()?);
    }
    Some(Answer::new(status, fields, body.into()))
}
