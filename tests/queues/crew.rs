//! Workers that claim, work, die in the middle, hang until another has their task, lose answers, and are held to account.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Claim;
use crate::harness::{Agent, Answer, Proxy, Raw, within};

const CLAIM: &str = "/.onceward/queues/tasks/claim";

/// How a crew's queue is configured: nobody waits long for the tasks of who is gone.
pub const LINES: &str = "visibility = \"1s\"\nmax_attempts = 100";
const VISIBILITY: Duration = Duration::from_secs(1);
/// By how much a time may be cut off where it is written down.
const CUT_OFF: Duration = Duration::from_millis(20);

/// How long anything may take: a broker that is killed takes its time to come back.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is tried again under another key: the source may be away in the middle of it.
const WAITS: [&str; 3] = ["in-flight", "upstream-unreachable", "store-unavailable"];

#[derive(Default)]
struct Page {
    /// The claims so far, by fence.
    fences: Vec<u64>,
    /// Before the last of them was asked for.
    asked: Option<Instant>,
    /// Who works on it now, by fence.
    working: Option<u64>,
    done: u32,
}

/// What all workers write down.
#[derive(Clone)]
pub struct Crew {
    /// Of the proxies, each of which may move.
    addresses: Arc<Mutex<Vec<String>>>,
    tasks: u32,
    book: Arc<Mutex<HashMap<u64, Page>>>,
    claims: Arc<AtomicU32>,
    killed: Arc<AtomicU32>,
    late: Arc<AtomicU32>,
    /// Acknowledgments that were heard though their answers were lost.
    replayed: Arc<AtomicU32>,
    /// How often a proxy, or what is behind it, was not there.
    outages: Arc<AtomicU32>,
}

impl Crew {
    /// For so many tasks, over these proxies in turn.
    pub fn new(proxies: &[&Proxy], tasks: u32) -> Crew {
        let addresses = proxies.iter().map(|proxy| proxy.addr().to_owned()).collect();
        Crew {
            addresses: Arc::new(Mutex::new(addresses)),
            tasks,
            book: Arc::default(),
            claims: Arc::default(),
            killed: Arc::default(),
            late: Arc::default(),
            replayed: Arc::default(),
            outages: Arc::default(),
        }
    }

    /// One of the proxies has started again, somewhere else.
    pub fn moves(&self, which: usize, proxy: &Proxy) {
        self.addresses.lock()[which] = proxy.addr().to_owned();
    }

    fn address(&self, number: usize) -> String {
        let addresses = self.addresses.lock();
        addresses[number % addresses.len()].clone()
    }

    /// Until one more of them has found that something was not there.
    pub async fn feels_an_outage(&self) {
        let before = self.outages.load(Ordering::Relaxed);
        within("an outage that is felt", async {
            while self.outages.load(Ordering::Relaxed) == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// Until one who waits longer than the workers do is told that the source does not answer.
    pub async fn feels_a_silence(&self) {
        let began = Instant::now();
        for n in 0.. {
            let answer = self.asks(0, CLAIM, &format!("patient-{n}"), 15).await;
            if answer.is_refusal() && answer.code() == "upstream-unreachable" {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "a source that hangs is never felt: {answer}");
        }
    }

    fn done(&self) -> u32 {
        self.book.lock().values().map(|page| page.done.min(1)).sum()
    }

    /// Until so many are done.
    pub async fn reaches(&self, tasks: u32) {
        let done = tokio::time::timeout(PATIENCE, async {
            while self.done() < tasks {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(done.await.is_ok(), "{} of {tasks} tasks are done", self.done());
    }

    /// Works until all is done.
    pub async fn work(&self, workers: usize) {
        let workers = (0..workers).map(|n| tokio::spawn(self.clone().worker(n)));
        let workers: Vec<_> = workers.collect();
        let began = Instant::now();
        for worker in workers {
            worker.await.expect("a worker that ends");
        }
        let book = self.book.lock();
        assert_eq!(u32::try_from(book.len()).expect("few"), self.tasks, "tasks that nobody had");
        for (task, page) in book.iter() {
            assert_eq!(page.done, 1, "task {task} was done {} times", page.done);
            assert!(page.fences.windows(2).all(|two| two[0] < two[1]), "fences of {task}: {:?}", page.fences);
        }
        let claims: usize = book.values().map(|page| page.fences.len()).sum();
        let killed = self.killed.load(Ordering::Relaxed);
        let late = self.late.load(Ordering::Relaxed);
        let replayed = self.replayed.load(Ordering::Relaxed);
        println!(
            "{} tasks by {claims} claims in {:?}, {killed} left in the middle, {late} late, {replayed} acknowledged \
             unheard",
            self.tasks,
            began.elapsed()
        );
        assert!(killed > 0 && late > 0, "nobody was killed, or nobody was late");
        assert!(replayed > 0, "no answer to an acknowledgment was lost");
    }

    /// Asks until it is answered, under the same key, wherever its proxy is by then.
    async fn asks(&self, number: usize, path: &str, key: &str, wait: u32) -> Answer {
        let began = Instant::now();
        loop {
            let agent = Agent::at(&format!("http://{}", self.address(number)));
            match agent.post(path).key(key).wait(wait).try_send().await {
                Ok(answer) => return answer,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{path} is never answered: {error:?}"),
            }
            self.outages.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The same for an acknowledgment, until it is known what became of it.
    async fn acks(&self, number: usize, claim: &Claim, key: &str) -> Answer {
        let began = Instant::now();
        loop {
            let acked = self.asks(number, &claim.path("ack"), key, 5).await;
            if !acked.is_refusal() || acked.problem().retry != "same-key" {
                return acked;
            }
            assert!(began.elapsed() < PATIENCE, "it has no end: {acked}");
        }
    }

    async fn worker(self, number: usize) {
        let began = Instant::now();
        let mut hanging = Vec::new();
        for turn in 0.. {
            if self.done() == self.tasks {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{} of {} are done", self.done(), self.tasks);
            let key = format!("{number}-{turn}");
            let asked = Instant::now();
            // Some of the answers are lost, and asked for again under their keys.
            if turn % 4 == 1 {
                self.lost(number, CLAIM, &key, turn % 8 == 1).await;
            }
            let answer = self.asks(number, CLAIM, &key, 1).await;
            if answer.is_refusal() && WAITS.contains(&answer.code().as_str()) {
                self.outages.fetch_add(u32::from(answer.code() != "in-flight"), Ordering::Relaxed);
                continue;
            }
            if answer.status == 204 {
                continue;
            }
            let claim = Claim::of(&answer);
            if !self.begins(&claim, asked) {
                hanging.push(tokio::spawn(self.clone().comes_late(number, claim, key)));
                continue;
            }
            match self.claims.fetch_add(1, Ordering::Relaxed) % 10 {
                // Killed: nobody hears of it again.
                3 => drop(self.killed.fetch_add(1, Ordering::Relaxed)),
                // Another takes its place meanwhile.
                7 => hanging.push(tokio::spawn(self.clone().comes_late(number, claim, key))),
                nth => self.ends(number, &claim, &key, nth).await,
            }
        }
        for late in hanging {
            late.await.expect("one that comes late");
        }
    }

    /// Hangs until another has its task: whatever it says then comes too late.
    async fn comes_late(self, number: usize, claim: Claim, key: String) {
        let task = task_of(&claim);
        let began = Instant::now();
        while self.book.lock()[&task].fences.last() == Some(&claim.fence) {
            assert!(began.elapsed() < PATIENCE, "nobody else gets task {task}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let acked = self.acks(number, &claim, &format!("{key}-late")).await;
        assert_eq!(acked.refused("claim-lost").executed, "no");
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// `false`: the answer came so late that another has the task by now.
    fn begins(&self, claim: &Claim, asked: Instant) -> bool {
        let task = task_of(claim);
        let mut book = self.book.lock();
        let page = book.entry(task).or_default();
        match page.fences.last() {
            Some(last) if *last > claim.fence => return false,
            Some(last) if *last == claim.fence => {}
            Some(_) | None => {
                assert_eq!(page.done, 0, "task {task} was handed out after it was done: {claim:?}");
                // Nobody gives a task back here: each is its worker's for the whole of its time.
                let before = page.asked.replace(asked).map(|asked| asked.elapsed() + CUT_OFF);
                assert!(
                    before.is_none_or(|had| had >= VISIBILITY),
                    "with two at once: {claim:?}, {before:?}"
                );
                page.fences.push(claim.fence);
            }
        }
        page.working = Some(claim.fence);
        true
    }

    /// Works, and acknowledges; some of the answers are lost.
    async fn ends(&self, number: usize, claim: &Claim, key: &str, nth: u32) {
        let task = task_of(claim);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..5))).await;
        let key = format!("{key}-ack");
        if nth % 4 == 1 {
            self.lost(number, &claim.path("ack"), &key, nth == 1).await;
        }
        let acked = self.acks(number, claim, &key).await;
        let mut book = self.book.lock();
        let page = book.get_mut(&task).expect("a page");
        if acked.is_refusal() {
            assert_eq!(acked.code(), "claim-lost");
            return;
        }
        let replayed = acked.is(204).header("idempotent-replayed").is_some();
        self.replayed.fetch_add(u32::from(replayed), Ordering::Relaxed);
        assert_eq!(
            page.working,
            Some(claim.fence),
            "task {task} was acknowledged while another worked on it"
        );
        page.done += 1;
    }

    /// Asks, and leaves before the answer, or when it is there and before it is read.
    async fn lost(&self, number: usize, path: &str, key: &str, answered: bool) {
        // Where nobody listens there is nothing to lose.
        let Ok(mut raw) = Raw::try_to(&self.address(number)).await else { return };
        let asked = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nPrefer: wait=1\r\nContent-Length: 0\r\n\r\n"
        );
        raw.try_send(asked).await.ok();
        match answered {
            true => _ = raw.is_answered().await,
            false => tokio::time::sleep(Duration::from_millis(fastrand::u64(0..10))).await,
        }
        raw.reset();
    }
}

fn task_of(claim: &Claim) -> u64 {
    claim.task["id"].as_u64().expect("an id")
}
