//! A reader of `GET /.onceward/events` on a bare socket. Every event is checked as it comes in (E1).

use std::io;
use std::panic::Location;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::wire::{self, Framing, Head};
use super::{Answer, Proxy, raw, within};

/// One event as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub id: String,
    /// Without `onceward.`.
    pub kind: String,
    pub subject: String,
    pub data: Value,
}

impl Told {
    fn checked(id: String, kind: &str, text: &str) -> Told {
        let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
        for (name, value) in
            [("specversion", "1.0"), ("source", "/.onceward"), ("datacontenttype", "application/json")]
        {
            assert_eq!(json[name], value, "{name} of {text}");
        }
        assert_eq!((&json["id"], &json["type"]), (&Value::from(&*id), &Value::from(kind)), "{text}");
        let time = json["time"].as_str().unwrap_or_default();
        assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "time of {text}");
        let kind = kind.strip_prefix("onceward.").unwrap_or_else(|| panic!("the type of {text}"));
        let subject = json["subject"].as_str().unwrap_or_else(|| panic!("no subject in {text}"));
        Told { id, kind: kind.to_owned(), subject: subject.to_owned(), data: json["data"].clone() }
    }

    /// Kind and subject.
    pub fn what(&self) -> (&str, &str) {
        (&self.kind, &self.subject)
    }

    pub fn version(&self) -> &str {
        self.data["version"].as_str().unwrap_or_default()
    }
}

/// What stands between two empty lines.
#[derive(Debug)]
pub enum Block {
    Event(Told),
    /// No event: comments, and how far the stream is.
    Word(String),
}

pub struct Events {
    stream: BufReader<TcpStream>,
    pub head: Head,
    text: String,
    /// What a reader that is cut off here resumes from.
    pub last_id: String,
}

impl Events {
    /// A stream that is open.
    #[track_caller]
    pub fn open(proxy: &Proxy, query: &str) -> impl Future<Output = Events> {
        let place = Location::caller();
        let opened = Events::ask(proxy, query, &[]);
        async move { opened.await.unwrap_or_else(|answer| panic!("no stream (asked at {place}): {answer}")) }
    }

    /// All that came behind that event.
    #[track_caller]
    pub fn behind(proxy: &Proxy, query: &str, id: &str) -> impl Future<Output = Events> {
        let place = Location::caller();
        let fields = [("Last-Event-ID".to_owned(), id.to_owned())];
        let address = proxy.addr().to_owned();
        let query = query.to_owned();
        async move {
            let opened = ask(&address, &query, &fields).await;
            opened.unwrap_or_else(|answer| panic!("no stream (asked at {place}): {answer}"))
        }
    }

    /// A stream, or the refusal.
    pub fn ask(
        proxy: &Proxy,
        query: &str,
        fields: &[(&str, &str)],
    ) -> impl Future<Output = Result<Events, Answer>> + use<> {
        let (address, query) = (proxy.addr().to_owned(), query.to_owned());
        let fields: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        async move { ask(&address, &query, &fields).await }
    }

    /// The next event; what is none is passed over.
    #[track_caller]
    pub fn next(&mut self) -> impl Future<Output = Told> {
        let place = Location::caller();
        within("an event", async move {
            loop {
                match self.read_block().await {
                    Ok(Some(Block::Event(told))) => return told,
                    Ok(Some(Block::Word(_))) => {}
                    end => panic!("no event but the stream's end (awaited at {place}): {end:?}"),
                }
            }
        })
    }

    /// So many events.
    pub async fn some(&mut self, count: usize) -> Vec<Told> {
        let mut told = Vec::with_capacity(count);
        for _ in 0..count {
            told.push(self.next().await);
        }
        told
    }

    /// The next block; `None` at a whole end, an error where the stream was cut.
    pub async fn block(&mut self) -> io::Result<Option<Block>> {
        within("more of the stream, or its end", self.read_block()).await
    }

    /// All events until the stream ends; whether it came to a whole end.
    pub async fn rest(&mut self) -> (Vec<Told>, bool) {
        let mut all = Vec::new();
        loop {
            match self.block().await {
                Ok(Some(Block::Event(told))) => all.push(told),
                Ok(Some(Block::Word(_))) => {}
                Ok(None) => return (all, true),
                Err(_) => return (all, false),
            }
        }
    }

    /// As [`Events::block`], however long it takes. Who does not wait for its end has to drop the stream.
    pub async fn read_block(&mut self) -> io::Result<Option<Block>> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Ok(Some(self.parsed(block)));
            }
            let Some(size) = wire::read_line(&mut self.stream).await? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap_or("?"), 16);
            let size = size.map_err(|_| io::Error::other("no chunk"))?;
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).await?;
            if size == 0 {
                assert_eq!(self.text, "", "half an event before the end");
                return Ok(None);
            }
            self.text.push_str(std::str::from_utf8(&chunk[..size]).expect("text"));
        }
    }

    fn parsed(&mut self, block: String) -> Block {
        let (mut kind, mut data) = (None, None);
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => self.last_id = id.to_owned(),
                Some(("event", value)) => kind = Some(value),
                Some(("data", value)) => data = Some(value),
                Some(("", _)) => {}
                _ => panic!("no line of a stream: {line:?}"),
            }
        }
        match (kind, data) {
            (Some(kind), Some(data)) => Block::Event(Told::checked(self.last_id.clone(), kind, data)),
            (None, None) => Block::Word(block),
            _ => panic!("half an event: {block}"),
        }
    }
}

async fn ask(address: &str, query: &str, fields: &[(String, String)]) -> Result<Events, Answer> {
    let asked = within("the head of a stream", Events::try_ask(address, query, fields)).await;
    asked.expect("a stream or a refusal")
}

impl Events {
    /// A stream that has begun, or the refusal; an error where the connection ended before either was there.
    pub async fn try_ask(
        address: &str,
        query: &str,
        fields: &[(String, String)],
    ) -> io::Result<Result<Events, Answer>> {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        let mut text = format!("GET /.onceward/events{query} HTTP/1.1\r\nHost: a\r\n");
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{text}\r\n").as_bytes()).await?;
        let head = wire::read_head(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.start != "HTTP/1.1 200 OK" {
            let mut body = Vec::new();
            let framing = head.framing().unwrap_or(Framing::UntilClose);
            if !wire::read_body(&mut stream, framing, &mut body).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return Ok(Err(Answer::new(raw::status(&head), raw::fields(&head), Bytes::from(body))));
        }
        let mut events = Events { stream, head, text: String::new(), last_id: String::new() };
        let begin = events.read_block().await?;
        assert!(matches!(begin, Some(Block::Word(_))) && !events.last_id.is_empty(), "{begin:?}");
        Ok(Ok(events))
    }
}
