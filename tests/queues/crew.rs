//! Workers that claim, work, die in the middle, lose answers, and are held to account.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::Claim;
use crate::harness::{Agent, PATIENCE, Proxy, Raw};

/// What is tried again under another key: the source may be away in the middle of it.
const WAITS: [&str; 2] = ["in-flight", "upstream-unreachable"];

#[derive(Default)]
struct Page {
    /// The claims so far, by fence.
    fences: Vec<u64>,
    /// Who works on it now, by fence.
    working: Option<u64>,
    done: u32,
}

/// What all workers write down.
#[derive(Clone)]
pub struct Crew {
    addresses: Vec<String>,
    tasks: u32,
    book: Arc<Mutex<HashMap<u64, Page>>>,
    killed: Arc<AtomicU32>,
}

impl Crew {
    /// For so many tasks, over these proxies in turn.
    pub fn new(proxies: &[&Proxy], tasks: u32) -> Crew {
        let addresses = proxies.iter().map(|proxy| proxy.addr().to_owned()).collect();
        Crew { addresses, tasks, book: Arc::default(), killed: Arc::default() }
    }

    fn done(&self) -> u32 {
        self.book.lock().values().map(|page| page.done.min(1)).sum()
    }

    /// Until so many are done.
    pub async fn reaches(&self, tasks: u32) {
        // A broker that is killed takes its time to come back.
        let patience = std::time::Duration::from_secs(90);
        let done = tokio::time::timeout(patience, async {
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
        let began = std::time::Instant::now();
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
        println!(
            "{} tasks by {claims} claims in {:?}, {killed} left in the middle",
            self.tasks,
            began.elapsed()
        );
        assert!(killed > 0, "nobody was killed");
    }

    async fn worker(self, number: usize) {
        let address = &self.addresses[number % self.addresses.len()];
        let agent = Agent::at(&format!("http://{address}"));
        let began = std::time::Instant::now();
        for turn in 0.. {
            if self.done() == self.tasks {
                return;
            }
            assert!(began.elapsed() < PATIENCE * 3, "{} of {} are done", self.done(), self.tasks);
            let key = format!("{number}-{turn}");
            // Some of the answers are lost, and asked for again under their keys.
            if turn % 4 == 1 {
                self.lost(address, "/.onceward/queues/tasks/claim", &key).await;
            }
            let answer = agent.post("/.onceward/queues/tasks/claim").key(&key).wait(1).await;
            if answer.status == 204 || answer.is_refusal() && WAITS.contains(&answer.code().as_str()) {
                continue;
            }
            self.on(&agent, address, Claim::of(&answer), &key).await;
        }
    }

    /// One claim, as far as its worker lives.
    async fn on(&self, agent: &Agent, address: &str, claim: Claim, key: &str) {
        let task = claim.task["id"].as_u64().expect("an id");
        {
            let mut book = self.book.lock();
            let page = book.entry(task).or_default();
            if page.fences.last() != Some(&claim.fence) {
                page.fences.push(claim.fence);
            }
            page.working = Some(claim.fence);
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..5))).await;
        if fastrand::u32(0..10) == 0 {
            // Killed: nobody hears of it again.
            self.killed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let path = claim.path("ack");
        if fastrand::u32(0..4) == 0 {
            self.lost(address, &path, &format!("{key}-ack")).await;
        }
        let acked = agent.post(&path).key(&format!("{key}-ack")).wait(5).await;
        let mut book = self.book.lock();
        let page = book.get_mut(&task).expect("a page");
        if acked.is_refusal() {
            assert_eq!(acked.code(), "claim-lost");
            return;
        }
        acked.is(204);
        assert_eq!(
            page.working,
            Some(claim.fence),
            "task {task} was acknowledged while another worked on it"
        );
        page.done += 1;
    }

    /// Asks, and leaves before the answer.
    async fn lost(&self, address: &str, path: &str, key: &str) {
        let mut raw = Raw::to(address).await;
        let asked = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nPrefer: wait=1\r\nContent-Length: 0\r\n\r\n"
        );
        raw.send(asked).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..10))).await;
        raw.reset();
    }
}
