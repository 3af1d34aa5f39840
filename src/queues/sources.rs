//! Where tasks are: one file per kind of source.
//!
//! Each has `open(settings, &Ground) -> Arc<dyn Source>`, which connects nowhere.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What sources stand on.
#[derive(Clone)]
pub struct Ground {
    /// The queue's name, for the log.
    pub queue: std::sync::Arc<str>,
    /// What a shutdown waits for: nothing is spawned outside of it.
    pub tasks: TaskTracker,
    /// Stopped when the queue is no longer configured, or a shutdown's grace is over: connections end then, and what was
    /// in hand goes back to the source.
    pub closing: CancellationToken,
}
