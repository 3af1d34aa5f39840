//! HTTP/1 messages as bytes on a socket, read strictly but without any opinion of what they should say.

use std::fmt;
use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

#[derive(Clone, Default)]
pub struct Head {
    pub start: String,
    /// Names as they were spelled, values as bytes, in the order they came.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Every value of a field, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let named = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub fn first(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// How the body of a message with this head ends, if it has one.
    pub fn framing(&self) -> Option<Framing> {
        let coding = self.first("transfer-encoding").map(|value| value.to_ascii_lowercase());
        if coding.is_some_and(|value| value.trim().ends_with("chunked")) {
            return Some(Framing::Chunked);
        }
        let length = self.first("content-length")?;
        Some(Framing::Length(length.trim().parse().expect("a Content-Length is a number")))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.start)?;
        for (name, value) in &self.fields {
            write!(f, " [{name}: {}]", value.escape_ascii())?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Empty,
    Length(usize),
    Chunked,
    UntilClose,
}

/// Reads to the end of a head; `None` when the other side closed before its first byte.
pub async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
    let mut head = Head::default();
    let Some(start) = read_line(from).await? else { return Ok(None) };
    head.start = String::from_utf8_lossy(&start).into_owned();
    loop {
        let line = read_line(from).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some(head));
        }
        let colon = line.iter().position(|byte| *byte == b':').expect("a field line has a colon");
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        head.fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
}

/// Reads a body into `into`, byte for byte what came even when it was cut; says whether it was whole.
pub async fn read_body(
    from: &mut (impl AsyncBufRead + Unpin),
    framing: Framing,
    into: &mut Vec<u8>,
) -> io::Result<bool> {
    match framing {
        Framing::Empty => Ok(true),
        Framing::Length(length) => read_exactly(from, length, into).await,
        Framing::UntilClose => from.read_to_end(into).await.map(|_| true),
        Framing::Chunked => read_chunks(from, into).await,
    }
}

async fn read_chunks(from: &mut (impl AsyncBufRead + Unpin), into: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let Some(line) = read_line(from).await? else { return Ok(false) };
        let line = String::from_utf8_lossy(&line).into_owned();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).map_err(|_| io::Error::other(format!("chunk size {line:?}")))?;
        if size == 0 {
            return read_trailers(from).await;
        }
        if !read_exactly(from, size, into).await? || !read_line(from).await?.is_some_and(|end| end.is_empty())
        {
            return Ok(false);
        }
    }
}

async fn read_trailers(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<bool> {
    while let Some(line) = read_line(from).await? {
        if line.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn read_exactly(
    from: &mut (impl AsyncBufRead + Unpin),
    length: usize,
    into: &mut Vec<u8>,
) -> io::Result<bool> {
    let read = from.take(length as u64).read_to_end(into).await?;
    Ok(read == length)
}

/// A line without its end; `None` at the end of the stream.
pub(super) async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}
