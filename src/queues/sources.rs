//! Where tasks are: one file per kind of source.
//!
//! Each has `open(settings, &Ground) -> Arc<dyn Source>`, which connects nowhere.

mod http;
#[cfg(feature = "postgres")]
mod postgres;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::source::{Busy, Source, SourceError, Taken, Told, Work};
use crate::config::checked::TaskSource;

/// What sources stand on.
#[derive(Clone)]
pub(super) struct Ground {
    /// The queue's name, for the log.
    pub(super) queue: Arc<str>,
    /// What a shutdown waits for: nothing is spawned outside of it.
    pub(super) tasks: TaskTracker,
    /// Stopped when the queue is no longer configured, or a shutdown's grace is over: connections end then, and what was
    /// in hand goes back to the source.
    pub(super) closing: CancellationToken,
}

/// The source that a queue is configured with.
pub(super) fn open(source: &TaskSource, ground: &Ground) -> Arc<dyn Source> {
    match source {
        TaskSource::Http(settings) => http::open(settings, ground),
        #[cfg(feature = "postgres")]
        TaskSource::Postgres(settings) => postgres::open(settings, ground),
        #[cfg(not(feature = "postgres"))]
        TaskSource::Postgres(_) => Arc::new(Missing),
        TaskSource::Redis(_) | TaskSource::Amqp(_) => Arc::new(Missing),
    }
}

/// What this build cannot ask: such a configuration is refused before it comes here.
struct Missing;

impl Source for Missing {
    fn take<'a>(&'a self, _: usize, _: &'a dyn Busy) -> Work<'a, Result<Taken, SourceError>> {
        Box::pin(async { Err(SourceError::NotDone("this build has no such source".to_owned())) })
    }

    fn wake(&self) -> Work<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn back<'a>(&'a self, _: &'a str) -> Work<'a, ()> {
        Box::pin(async {})
    }

    fn done<'a>(&'a self, _: &'a str) -> Work<'a, Result<Told, SourceError>> {
        Box::pin(async { Ok(Told::Elsewhere) })
    }

    fn has<'a>(&'a self, _: &'a str) -> Work<'a, Result<bool, SourceError>> {
        Box::pin(async { Ok(true) })
    }
}
