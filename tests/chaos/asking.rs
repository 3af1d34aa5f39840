//! What an agent asks of Onceward itself, again and again until it is answered.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::crew::Member;
use super::sending::SILENCE;
use crate::harness::Answer;

/// How often an agent asks for one thing.
const TRIES: usize = 12;

impl Member {
    /// Asks below `/.onceward/` until one of these statuses is the answer, or too often.
    pub(super) async fn asks(
        &mut self,
        method: &str,
        path: &str,
        fields: &str,
        body: &Value,
        wanted: &[u16],
    ) -> Option<Answer> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{method} /.onceward/{path} HTTP/1.1\r\nHost: campaign\r\nAuthorization: Bearer agent-{}\r\n\
             {fields}Content-Length: {}\r\n\r\n{body}",
            self.number,
            body.len()
        );
        for _ in 0..TRIES {
            let answer = timeout(SILENCE, self.line.exchange(head.as_bytes())).await;
            if answer.is_err() {
                self.crew.journal.strange(format!("no answer and no end within {SILENCE:?}: {head}"));
            }
            let pause = match answer.ok().flatten() {
                Some(answer) if answer.is_refusal() && answer.problem().retry == "same-key" => {
                    let asked = answer.problem().json["retry_after"].as_u64().unwrap_or(1).min(2);
                    // An impatient one comes at the moment that what it wants is free, as others do.
                    if self.rng.bool() { 1_000 * asked } else { self.rng.u64(50..500) }
                }
                Some(answer) if wanted.contains(&answer.status) => return Some(answer),
                Some(answer) => {
                    let what = format!("an answer that no rule allows: {head}: {answer}");
                    self.crew.journal.strange(what);
                    return None;
                }
                None => self.rng.u64(5..100),
            };
            sleep(Duration::from_millis(pause)).await;
        }
        None
    }
}
