//! What tasks are taken from, and who takes them.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::time::Duration;

pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
pub(crate) type Crew = Vec<Box<dyn Worker>>;

/// Names a task. Those that are put in are numbered from 1 on.
pub(crate) type Number = u64;

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Source {
    List,
    Rows,
    Advisory,
    Stream,
    Broker,
}

/// A list, table, stream or queue.
pub(crate) trait Place {
    fn make(&self) -> Work<'_, ()>;

    /// Puts tasks 1 to `tasks` in.
    fn fill(&self, tasks: u64) -> Work<'_, ()>;

    /// Puts one in; it is there, and who waits was told.
    fn put(&self, task: Number) -> Work<'_, ()>;

    /// How many tasks are ready, and how many are with somebody, as far as the place knows.
    fn stock(&self) -> Work<'_, (u64, u64)>;

    fn clear(&self) -> Work<'_, ()>;

    /// Somebody who takes tasks from it directly.
    fn hire(&self, number: usize, poll: Duration) -> Work<'_, Box<dyn Worker>>;
}

/// One who takes a task at a time.
pub(crate) trait Worker {
    /// The next task; `None`: there was none in this time.
    fn next(&mut self, patience: Duration) -> Work<'_, Option<Number>>;

    /// Is done with the last one. `false`: another was before.
    fn done(&mut self) -> Work<'_, bool>;

    /// Gives back what it was given ahead.
    fn leave(&mut self) -> Work<'_, ()> {
        Box::pin(async {})
    }
}

/// Tasks 1 to `tasks`, at most so many at a time.
pub(crate) fn batches(tasks: u64, most: u64) -> impl Iterator<Item = RangeInclusive<u64>> {
    (0..tasks.div_ceil(most)).map(move |nth| nth * most + 1..=tasks.min((nth + 1) * most))
}

/// A task in JSON, about a hundred bytes.
pub(crate) fn text(task: Number) -> String {
    format!(
        "{{\"id\":{task},\"kind\":\"resize\",\"file\":\"/pictures/2026/{task:010}.png\",\"sizes\":[64,256,1024]}}"
    )
}

/// What is read of one.
#[derive(serde::Deserialize)]
pub(crate) struct Task {
    pub(crate) id: Number,
}

/// Its number again.
pub(crate) fn number(text: &[u8]) -> Number {
    let task: Result<Task, _> = serde_json::from_slice(text);
    task.unwrap_or_else(|error| panic!("no task: {error}: {}", String::from_utf8_lossy(text))).id
}
