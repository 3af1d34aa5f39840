//! Workers: they claim tasks, finish each by a write under the claim's fence or with the acknowledgment, come late, give
//! tasks back, or are gone (J2, J3). What is held against them is in `claimed`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::claimed::{Claim, Said, Word};
use super::courses::{ACK_HOLD, VISIBILITY};
use super::crew::{Crew, Ending, Member};
use super::leases::lives_until;
use super::sending::{Condition, Finishes, Write};
use crate::harness::Answer;
use crate::harness::ledger::{Ledger, tick};

/// A claim, as its worker knows it.
#[derive(Clone, Debug)]
struct Taken {
    task: String,
    /// Where it is spoken of.
    path: String,
    fence: u64,
    /// It lives at least until then, unless its worker ends it.
    end: Instant,
    /// Where the journal has it.
    index: usize,
}

impl Taken {
    fn lives(&self) -> bool {
        Instant::now() < self.end
    }
}

impl Member {
    /// Puts one more task into the list, by a write like any other.
    pub async fn puts_task(&mut self) {
        let mut write = self.write("PUT", "", Condition::None);
        write.resource = format!("/tasks/{}", write.key);
        write.body = Some(json!({"id": write.key, "status": "open"}));
        self.carry(&write).await;
    }

    /// Takes tasks and does them, until all are done.
    pub async fn takes_tasks(mut self) {
        while !self.crew.all_done.load(Ordering::Relaxed) {
            if let Some(taken) = self.claims().await {
                self.works_on(taken).await;
            }
        }
    }

    async fn claims(&mut self) -> Option<Taken> {
        self.written += 1;
        let fields = format!("Idempotency-Key: c{}-{}\r\nPrefer: wait=1\r\n", self.number, self.written);
        let place = "queues/tasks/claim";
        let (asked, end) = (tick(), Instant::now() + VISIBILITY);
        let answer = self.asks("POST", place, &fields, &Value::Null, &[200, 204]).await?;
        if answer.status == 204 {
            return None;
        }
        let told = tick();
        if self.rng.u8(0..4) == 0
            && let Some(again) = self.asks("POST", place, &fields, &Value::Null, &[200]).await
            && again.body != answer.body
        {
            self.crew.journal.strange(format!("two claims of one key: {answer} and {again}"));
        }
        let Some((claim, path)) = self.told(&answer, asked, told) else {
            self.crew.journal.strange(format!("no claim: {answer}"));
            return None;
        };
        let (task, fence) = (claim.task.clone(), claim.fence);
        let taken = Taken { task, path, fence, end, index: self.crew.journal.claimed(claim) };
        witness(&self.crew, &taken);
        Some(taken)
    }

    fn told(&self, answer: &Answer, asked: u64, told: u64) -> Option<(Claim, String)> {
        let json = answer.json();
        let path = format!("queues/tasks/claims/{}", json["claim"].as_str()?);
        let task = json["task"]["id"].as_str()?.to_owned();
        let (fence, attempt) = (json["fence"].as_u64()?, json["attempt"].as_u64()?);
        let agent = self.number;
        Some((Claim { agent, task, fence, attempt, asked, told, until: 0, over: false }, path))
    }

    /// What becomes of a claim.
    async fn works_on(&mut self, mut taken: Taken) {
        sleep(Duration::from_millis(self.rng.u64(0..60))).await;
        match self.rng.u8(0..12) {
            0 => return,
            1 => return self.says(&taken, Word::Release).await,
            // It comes late, and may find that the task is another's by now, or done.
            2 => sleep_until(taken.end + Duration::from_millis(self.rng.u64(0..400))).await,
            3 | 4 => self.extends(&mut taken).await,
            _ => {}
        }
        match self.rng.bool() {
            true => self.acks_with_write(&taken).await,
            false => self.writes_and_acks(&taken).await,
        }
    }

    fn finishing(&mut self, taken: &Taken, ack: Option<String>) -> Write {
        let mut write = self.write("PATCH", &format!("/tasks/{}", taken.task), Condition::None);
        write.body = Some(json!({"status": "done", "by": taken.fence}));
        // The end of a job might come when nobody looks after tasks any more.
        write.later = None;
        write.claim = Some(Finishes { fence: taken.fence, ack });
        write
    }

    async fn acks_with_write(&mut self, taken: &Taken) {
        let write = self.finishing(taken, Some(format!("/.onceward/{}/ack", taken.path)));
        let (sent, began) = (self.is_over(taken), Instant::now());
        let ending = self.carry(&write).await;
        let in_time = began.elapsed() < ACK_HOLD;
        if matches!(ending, Ending::Lost(_)) && taken.lives() {
            self.crew.journal.strange(format!("a holder was told claim-lost: {taken:?}: {write:?}"));
        }
        let (at, stands) = match ending {
            Ending::Done(at) => (at, Some(true)),
            Ending::Lost(at) => (at, Some(false)),
            Ending::Stale(_) | Ending::Open => (tick(), None),
        };
        let (claim, key) = (taken.index, Some(write.key));
        self.crew.journal.said(Said { claim, word: Word::AckWithWrite, key, sent, at, in_time, stands });
        if stands == Some(true) && self.rng.bool() {
            self.says(taken, Word::Ack).await;
        }
    }

    async fn writes_and_acks(&mut self, taken: &Taken) {
        let write = self.finishing(taken, None);
        match self.carry(&write).await {
            Ending::Done(_) => self.says(taken, Word::Ack).await,
            Ending::Lost(_) if taken.lives() => {
                let what = format!("the upstream knows a higher fence than a holder's: {taken:?}: {write:?}");
                self.crew.journal.strange(what);
            }
            Ending::Lost(_) | Ending::Stale(_) | Ending::Open => return,
        }
        match self.rng.u8(0..6) {
            0 => self.says(taken, Word::Release).await,
            1 => self.says(taken, Word::Ack).await,
            _ => {}
        }
    }

    /// From here on nobody knows whether it lives.
    fn is_over(&self, taken: &Taken) -> u64 {
        let at = tick();
        let lived = taken.lives();
        self.crew.journal.claim(taken.index, |claim| {
            claim.until = if lived && !claim.over { at } else { claim.until };
            claim.over = true;
        });
        at
    }

    async fn says(&mut self, taken: &Taken, word: Word) {
        let sent = self.is_over(taken);
        let path = format!("{}/{}", taken.path, if word == Word::Release { "release" } else { "ack" });
        self.written += 1;
        let key = format!("Idempotency-Key: s{}-{}\r\n", self.number, self.written);
        let fields = if self.rng.u8(0..4) == 0 { &*key } else { "" };
        let Some(answer) = self.asks("POST", &path, fields, &Value::Null, &[204, 409]).await else { return };
        let at = tick();
        let stands = self.stands(&answer);
        // One that was released already, though nobody heard so, may be over by now.
        if !stands && word == Word::Ack && taken.lives() {
            self.crew.journal.strange(format!("a holder was told claim-lost: {taken:?}: {answer}"));
        }
        let (claim, stands) = (taken.index, Some(stands));
        self.crew.journal.said(Said { claim, word, key: None, sent, at, in_time: true, stands });
    }

    async fn extends(&mut self, taken: &mut Taken) {
        let (sent, end) = (tick(), Instant::now() + VISIBILITY);
        let path = format!("{}/extend", taken.path);
        let Some(answer) = self.asks("POST", &path, "", &Value::Null, &[200, 409]).await else { return };
        let (at, stands) = (tick(), self.stands(&answer));
        if !stands && taken.lives() {
            self.crew.journal.strange(format!("a claim that lives was not extended: {taken:?}: {answer}"));
        }
        if stands {
            if answer.json()["fence"].as_u64() != Some(taken.fence) {
                self.crew.journal.strange(format!("another claim was extended: {taken:?}: {answer}"));
            }
            taken.end = end;
            witness(&self.crew, taken);
        }
        let (claim, stands) = (taken.index, Some(stands));
        self.crew.journal.said(Said {
            claim,
            word: Word::Extend,
            key: None,
            sent,
            at,
            in_time: true,
            stands,
        });
    }

    fn stands(&self, answer: &Answer) -> bool {
        if answer.status == 409 && answer.code() != "claim-lost" {
            self.crew.journal.strange(format!("of a claim: {answer}"));
        }
        answer.status != 409
    }
}

/// Writes down that it lives until shortly before it may end, also when its worker is gone.
fn witness(crew: &Arc<Crew>, taken: &Taken) {
    let (crew, index) = (crew.clone(), taken.index);
    lives_until(taken.end, move |at| {
        crew.journal.claim(index, |claim| {
            if !claim.over {
                claim.until = claim.until.max(at);
            }
        });
    });
}

/// Every task is done within that time; then the workers may end.
pub async fn all_are_done(ledger: &Ledger, crew: &Arc<Crew>, within: Duration) -> Vec<String> {
    let open = || ledger.listed("/tasks", "open");
    let done = async {
        while !open().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = timeout(within, done).await.is_ok();
    crew.all_done.store(true, Ordering::Relaxed);
    let still = if in_time { Vec::new() } else { open() };
    still.iter().map(|task| format!("a task that nobody has done {within:?} after the end: {task}")).collect()
}
