//! One request of a write, sent well or badly.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::journal::{Attempt, Heard, Journal};
use super::leases::Held;
use super::line::Line;
use crate::harness::Answer;
use crate::harness::ledger::tick;

/// How long an agent waits for an answer that must come before: no wait that is configured is as long.
pub const SILENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    None,
    Match(String),
    Absent,
}

/// A write under its key.
#[derive(Clone, Debug)]
pub struct Write {
    pub agent: usize,
    pub key: String,
    /// The key in quotes, or bare.
    pub quoted: bool,
    pub method: &'static str,
    pub resource: String,
    pub body: Option<Value>,
    pub condition: Condition,
    /// The lease that it is made under.
    pub lease: Option<Held>,
    /// It asks to be answered before it runs, after at most so many seconds (J1).
    pub later: Option<u8>,
    /// The claim of the task that it finishes.
    pub claim: Option<Finishes>,
}

/// A task's claim, and its write.
#[derive(Clone, Debug)]
pub struct Finishes {
    pub fence: u64,
    /// Where it goes with the acknowledgment, in one step (J2).
    pub ack: Option<String>,
}

impl Write {
    fn fields(&self, id: u64) -> Vec<(&'static str, String)> {
        let key = if self.quoted { format!("\"{}\"", self.key) } else { self.key.clone() };
        let mut fields = vec![("idempotency-key", key), ("x-attempt", id.to_string())];
        match &self.condition {
            Condition::None => {}
            Condition::Match(tag) => fields.push(("if-match", tag.clone())),
            Condition::Absent => fields.push(("if-none-match", "*".to_owned())),
        }
        fields.extend(self.lease.as_ref().map(|held| ("onceward-lease", held.token.clone())));
        fields.extend(self.later.map(|seconds| ("prefer", format!("respond-async, wait={seconds}"))));
        // The upstream refuses who is late; what goes with an acknowledgment Onceward keeps from being late.
        let direct = self.claim.as_ref().filter(|claim| claim.ack.is_none());
        fields.extend(direct.map(|claim| ("x-fence", claim.fence.to_string())));
        fields
    }

    /// Method, path and body, as they are sent.
    fn sent(&self) -> (&str, &str, Option<Value>) {
        let Some(Finishes { fence, ack: Some(path) }) = &self.claim else {
            return (self.method, &self.resource, self.body.clone());
        };
        let headers = json!({"X-Claim": fence.to_string()});
        let write =
            json!({"method": self.method, "path": self.resource, "headers": headers, "body": self.body});
        ("POST", path, Some(json!({ "write": write })))
    }

    fn bytes(&self, id: u64) -> Vec<u8> {
        let (method, path, body) = self.sent();
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: campaign\r\n");
        text += &format!("Authorization: Bearer agent-{}\r\n", self.agent);
        for (name, value) in self.fields(id) {
            text += &format!("{name}: {value}\r\n");
        }
        let body = body.as_ref().map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            text += "Content-Type: application/json\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }
}

/// Where a write is sent, and where it is written down.
pub struct Sender<'a> {
    pub line: &'a Line,
    pub journal: &'a Journal,
}

impl Sender<'_> {
    /// The answer and when it was there; nothing where the connection ended first.
    pub async fn send(&self, write: &Write) -> Option<(Answer, u64)> {
        let (id, sent) = (self.journal.id(), tick());
        let answer = self.answered(write, self.line.exchange(&write.bytes(id))).await;
        self.heard(write, id, sent, answer)
    }

    /// Says that nothing more will come when all is sent, and reads the answer.
    pub async fn half_close(&self, write: &Write) -> Option<(Answer, u64)> {
        let (id, sent) = (self.journal.id(), tick());
        let answer = self.answered(write, self.line.half_closed(&write.bytes(id))).await;
        self.heard(write, id, sent, answer)
    }

    /// Asks for the recorded answer by the operation (K17).
    pub async fn response(&self, write: &Write) -> Option<(Answer, u64)> {
        let (id, sent) = (self.journal.id(), tick());
        let asked = format!(
            "GET /.onceward/operations/{}/response HTTP/1.1\r\nHost: campaign\r\nAuthorization: Bearer agent-{}\r\n\r\n",
            write.key, write.agent
        );
        let answer = self.answered(write, self.line.exchange(asked.as_bytes())).await;
        self.heard(write, id, sent, answer)
    }

    pub(super) async fn answered(
        &self,
        write: &Write,
        answer: impl Future<Output = Option<Answer>>,
    ) -> Option<Answer> {
        let answer = timeout(SILENCE, answer).await;
        if answer.is_err() {
            self.journal.strange(format!("no answer and no end within {SILENCE:?}: {write:?}"));
        }
        answer.ok().flatten()
    }

    /// Sends a part, or all, waits a little and is gone, with a reset or without.
    pub async fn vanish(&self, write: &Write, rng: &mut fastrand::Rng) {
        let (id, sent) = (self.journal.id(), tick());
        let bytes = write.bytes(id);
        let length = if rng.bool() { bytes.len() } else { rng.usize(1..bytes.len()) };
        let pause = Duration::from_millis(rng.u64(0..60));
        let resets = rng.bool();
        if let Some(mut stream) = self.line.fresh().await {
            // A connection that is cut meanwhile is gone, as was meant.
            stream.get_mut().write_all(&bytes[..length]).await.ok();
            tokio::time::sleep(pause).await;
            if resets {
                socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO)).ok();
            }
        }
        self.heard(write, id, sent, None);
    }

    fn heard(&self, write: &Write, id: u64, sent: u64, answer: Option<Answer>) -> Option<(Answer, u64)> {
        let at = tick();
        let heard = answer.as_ref().map(Heard::new);
        let (key, resource) = (write.key.clone(), write.resource.clone());
        let (agent, lease) = (write.agent, write.lease.as_ref().map(|held| held.fence));
        self.journal.tried(Attempt { id, agent, key, resource, lease, sent, at, heard });
        answer.map(|answer| (answer, at))
    }
}
