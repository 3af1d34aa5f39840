//! Who takes tasks through Onceward: a claim under a key of its own, and its acknowledgment.

use std::time::Duration;

use crate::http::Http;
use crate::place::{Number, Task, Work, Worker};

struct Agent {
    http: Http,
    keys: String,
    asked: u64,
    /// Of the last task.
    claim: String,
}

#[derive(serde::Deserialize)]
struct Claimed<'a> {
    task: Task,
    claim: &'a str,
}

pub(crate) async fn hire(address: &str, number: usize) -> Box<dyn Worker> {
    let keys = format!("{:016x}-{number}", fastrand::u64(..));
    Box::new(Agent { http: Http::to(address).await, keys, asked: 0, claim: String::new() })
}

impl Worker for Agent {
    fn next(&mut self, patience: Duration) -> Work<'_, Option<Number>> {
        Box::pin(async move {
            self.asked += 1;
            let wait = patience.as_secs();
            let fields = format!("Idempotency-Key: {}-{}\r\nPrefer: wait={wait}\r\n", self.keys, self.asked);
            let answer = self.http.ask("POST", "/.onceward/queues/tasks/claim", &fields, "").await;
            match answer.status {
                200 => {
                    let claimed: Claimed<'_> = serde_json::from_slice(answer.body).expect("a claim");
                    claimed.claim.clone_into(&mut self.claim);
                    Some(claimed.task.id)
                }
                204 => None,
                _ => panic!("no claim: {}", answer.shown()),
            }
        })
    }

    fn done(&mut self) -> Work<'_, bool> {
        Box::pin(async move {
            let path = format!("/.onceward/queues/tasks/claims/{}/ack", self.claim);
            let answer = self.http.ask("POST", &path, "", "").await;
            assert_eq!(answer.status, 204, "not acknowledged: {}", answer.shown());
            true
        })
    }
}
