//! Where tasks are: one file per kind of source.
//!
//! Each has `open(settings, &Ground) -> Arc<dyn Source>`, which connects nowhere.

#[cfg(feature = "amqp")]
mod amqp;
mod http;
#[cfg(not(all(feature = "amqp", feature = "postgres", feature = "redis")))]
mod missing;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::source::Source;
use crate::config::checked::TaskSource;
use crate::upstream::Upstreams;

/// What sources stand on.
#[cfg_attr(
    not(any(feature = "amqp", feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "a list is only asked; what holds a connection needs all of it")
)]
#[derive(Clone)]
pub(super) struct Ground {
    /// The queue's name, for the log.
    pub(super) queue: Arc<str>,
    /// How long a claim lives without a word of its agent.
    pub(super) visibility: Duration,
    /// What a shutdown waits for: nothing is spawned outside of it.
    pub(super) tasks: TaskTracker,
    /// Stopped when the queue is no longer configured, or a shutdown's grace is over: connections end then, and what was
    /// in hand goes back to the source.
    pub(super) closing: CancellationToken,
}

/// The source that a queue is configured with.
pub(super) fn open(source: &TaskSource, upstreams: &Arc<Upstreams>, ground: &Ground) -> Arc<dyn Source> {
    match source {
        TaskSource::Http(settings) => http::open(settings, upstreams, ground),
        #[cfg(feature = "postgres")]
        TaskSource::Postgres(settings) => postgres::open(settings, ground),
        #[cfg(not(feature = "postgres"))]
        TaskSource::Postgres(_) => Arc::new(missing::Missing),
        #[cfg(feature = "redis")]
        TaskSource::Redis(settings) => redis::open(settings, ground),
        #[cfg(not(feature = "redis"))]
        TaskSource::Redis(_) => Arc::new(missing::Missing),
        #[cfg(feature = "amqp")]
        TaskSource::Amqp(settings) => amqp::open(settings, ground),
        #[cfg(not(feature = "amqp"))]
        TaskSource::Amqp(_) => Arc::new(missing::Missing),
    }
}
