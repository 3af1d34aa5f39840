//! One line of an upstream's script: what to send, in which framing, and how to misbehave.

use std::time::Duration;

use super::Gate;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    Length,
    Chunked,
    /// Neither a length nor chunks: the end of the connection is the end of the body.
    UntilClose,
    /// Both a `Content-Length` and `Transfer-Encoding: chunked`, the body in chunks.
    Both,
}

#[derive(Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) frame: Frame,
    pub(super) interim: Vec<u8>,
    pub(super) held: Option<Gate>,
    pub(super) paused: Option<(usize, Gate)>,
    pub(super) cut_after: Option<usize>,
    pub(super) reset: bool,
    pub(super) early: bool,
    pub(super) close: bool,
    pub(super) silent: bool,
    pub(super) extra: Vec<u8>,
    pub(super) verbatim: Option<Vec<u8>>,
    pub(super) switches: bool,
    pub(super) pace: Option<Duration>,
    pub(super) reads_on: Option<Gate>,
}

impl Reply {
    pub fn new(status: u16) -> Reply {
        Reply {
            status,
            fields: Vec::new(),
            body: Vec::new(),
            frame: Frame::Length,
            interim: Vec::new(),
            held: None,
            paused: None,
            cut_after: None,
            reset: false,
            early: false,
            close: false,
            silent: false,
            extra: Vec::new(),
            verbatim: None,
            switches: false,
            pace: None,
            reads_on: None,
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(200).body(body)
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Reply {
        Reply::new(status).field("Content-Type", "application/json").body(body.to_string())
    }

    /// Never answers; the connection stays open until the other side gives up.
    pub fn never() -> Reply {
        Reply { silent: true, ..Reply::new(200) }
    }

    /// These bytes and nothing else, then the end of the connection.
    pub fn verbatim(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply { verbatim: Some(bytes.into()), close: true, ..Reply::new(200) }
    }

    /// A real 101; from then on every byte comes back as it was sent.
    pub fn switching(protocol: &str) -> Reply {
        let reply = Reply::new(101).field("Connection", "upgrade").field("Upgrade", protocol);
        Reply { switches: true, ..reply }
    }

    pub fn field(mut self, name: &str, value: impl Into<Vec<u8>>) -> Reply {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Reply {
        self.body = body.into();
        self
    }

    pub fn with_status(self, status: u16) -> Reply {
        Reply { status, ..self }
    }

    pub fn chunked(self) -> Reply {
        Reply { frame: Frame::Chunked, ..self }
    }

    pub fn until_close(self) -> Reply {
        Reply { frame: Frame::UntilClose, close: true, ..self }
    }

    pub fn with_both_framings(self) -> Reply {
        Reply { frame: Frame::Both, ..self }
    }

    /// An informational head before the answer, e.g. `103 Early Hints`.
    pub fn interim(mut self, head: &str) -> Reply {
        self.interim.extend_from_slice(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes());
        self
    }

    /// Nothing is sent until the gate is open.
    pub fn held(self, gate: &Gate) -> Reply {
        Reply { held: Some(gate.clone()), ..self }
    }

    /// The head and `bytes` of the body are sent, the rest when the gate is open.
    pub fn paused_after(self, bytes: usize, gate: &Gate) -> Reply {
        Reply { paused: Some((bytes, gate.clone())), ..self }
    }

    /// The connection ends after the head and so many bytes of the body.
    pub fn cut_after(self, bytes: usize) -> Reply {
        Reply { cut_after: Some(bytes), close: true, ..self }
    }

    /// The connection ends without one byte of an answer.
    pub fn cut(self) -> Reply {
        Reply { verbatim: Some(Vec::new()), close: true, ..self }
    }

    /// Where the connection ends, it ends with a reset.
    pub fn reset(self) -> Reply {
        Reply { reset: true, close: true, ..self }
    }

    /// Answers when the head is there, before the body is read.
    pub fn early(self) -> Reply {
        Reply { early: true, ..self }
    }

    /// Answers early, and reads the body only when the gate is open.
    pub fn early_until(self, gate: &Gate) -> Reply {
        Reply { reads_on: Some(gate.clone()), ..self.early() }
    }

    /// After what it sends nothing comes, and the connection stays open until the other side gives up.
    pub fn then_silent(self) -> Reply {
        Reply { silent: true, ..self }
    }

    /// One byte of the body at a time, with such a pause before each.
    pub fn trickling(self, pace: Duration) -> Reply {
        Reply { pace: Some(pace), ..self }
    }

    /// Bytes behind the end of the answer.
    pub fn extra(self, bytes: impl Into<Vec<u8>>) -> Reply {
        Reply { extra: bytes.into(), ..self }
    }

    pub fn close(self) -> Reply {
        Reply { close: true, ..self }.field("Connection", "close")
    }

    /// Whether the connection ends with it.
    pub fn closes(&self) -> bool {
        self.close
    }

    /// The head as it goes out.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = self.interim.clone();
        head.extend_from_slice(format!("HTTP/1.1 {} Scripted\r\n", self.status).as_bytes());
        for (name, value) in &self.fields {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        let bodiless = self.status < 200 || self.status == 204 || self.status == 304;
        let length = format!("Content-Length: {}\r\n", self.body.len());
        match self.frame {
            Frame::Length if !bodiless && !self.names("content-length") => {
                head.extend_from_slice(length.as_bytes())
            }
            Frame::Length | Frame::UntilClose => {}
            Frame::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Frame::Both => {
                head.extend_from_slice(length.as_bytes());
                head.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    fn names(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// The bytes of `part` of the body in this framing.
    pub(super) fn framed(&self, part: &[u8]) -> Vec<u8> {
        if part.is_empty() || matches!(self.frame, Frame::Length | Frame::UntilClose) {
            return part.to_vec();
        }
        [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
    }

    /// What ends the body in this framing.
    pub(super) fn end(&self) -> &'static [u8] {
        match self.frame {
            Frame::Chunked | Frame::Both => b"0\r\n\r\n",
            Frame::Length | Frame::UntilClose => b"",
        }
    }
}
