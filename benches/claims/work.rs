//! How many tasks a crew is done with in a time, and that each was done once.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::figures::{percentile, waited};
use crate::place::{Crew, Number, Place, Worker};

/// How long a worker waits for a task.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is acknowledged is so in the place within this time.
const SETTLES: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Book {
    done: HashSet<Number>,
    /// How long each took, from asking for it to being done.
    took: Vec<Duration>,
    /// Another had been done with it before.
    missed: u64,
    last: Option<Instant>,
}

pub(crate) async fn work(place: &dyn Place, ready: u64, crew: Crew, time: Duration) -> Value {
    let book = Rc::new(RefCell::new(Book::default()));
    let (began, waited_before) = (Instant::now(), waited());
    let ends = began + time;
    let workers: Vec<_> = crew
        .into_iter()
        .map(|worker| tokio::task::spawn_local(one(worker, ends, Rc::clone(&book))))
        .collect();
    for worker in workers {
        worker.await.expect("a worker that ends");
    }
    let waited = waited() - waited_before;
    let mut book = book.take();
    let done = book.done.len() as u64;
    settles(place, ready - done).await;
    let took = book.last.map_or(time, |last| last - began);
    json!({
        "tasks": done,
        "seconds": took.as_secs_f64(),
        "missed": book.missed,
        "ready": ready,
        "waited": waited.as_secs_f64(),
        "p50_ms": percentile(&mut book.took, 50),
        "p99_ms": percentile(&mut book.took, 99),
    })
}

async fn one(mut worker: Box<dyn Worker>, ends: Instant, book: Rc<RefCell<Book>>) {
    while Instant::now() < ends {
        let began = Instant::now();
        let Some(task) = worker.next(PATIENCE).await else { continue };
        let is_done = worker.done().await;
        let now = Instant::now();
        let mut book = book.borrow_mut();
        if !is_done {
            book.missed += 1;
            continue;
        }
        assert!(book.done.insert(task), "task {task} was done twice");
        book.took.push(now - began);
        book.last = Some(now);
    }
    worker.leave().await;
}

/// The place has as many as it must have. Not each tells of it at once.
async fn settles(place: &dyn Place, ready: u64) {
    let began = Instant::now();
    loop {
        let stock = place.stock().await;
        if stock == (ready, 0) {
            return;
        }
        assert!(began.elapsed() < SETTLES, "ready and taken: {stock:?}, and not ({ready}, 0)");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
