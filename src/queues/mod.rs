//! Tasks that are handed out one agent at a time (J2, J3).
//!
//! | part | what it does |
//! |---|---|
//! | `protocol::task` | what a claim is, and what each step makes of it: pure |
//! | [`source`] | what tasks come from, as all the rest sees it; `sources`: each of them |
//! | `claims` | the cells: a claim begins, is extended, ends |
//! | `desk` | who waits, and what the source has for them: first come first served |
//! | `keeper` | what time does: claims that lapse, sources that have to be told, tasks that are forgotten |
//!
//! Who has a task stands in one cell of Onceward's store, whatever its source does: each step is a compare-and-swap of
//! it, in the same commit as the record of the request that asks for it.

mod busy;
mod claims;
mod desk;
mod keeper;
pub mod source;
mod sources;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::checked::Tasks;
use crate::store::cells::Topic;
use crate::store::{Bells, Store};
use crate::upstream::Upstreams;

use busy::Known;
pub use claims::{Acked, Draft, Prepared, Settled, Settling};
use desk::Desk;
pub use desk::{Next, Offered, Place};
pub use keeper::keep;
use source::Source;
use sources::Ground;

/// What queues stand on.
#[derive(Clone)]
pub struct Base {
    pub store: Arc<dyn Store>,
    pub bells: Arc<Bells>,
    pub upstreams: Arc<Upstreams>,
    /// What a shutdown waits for (O5).
    pub tasks: TaskTracker,
    /// Stopped when a shutdown begins: nobody waits for a task any more.
    pub leaving: CancellationToken,
    /// Stopped when its grace is over.
    pub closing: CancellationToken,
}

/// All queues of one configuration.
#[derive(Default)]
pub struct Queues {
    by_name: HashMap<Arc<str>, Arc<Queue>>,
}

/// One queue.
pub struct Queue {
    pub settings: Tasks,
    source: Arc<dyn Source>,
    base: Base,
    desk: Desk,
    known: Known,
    /// Told when a task of it is free again.
    free: Topic,
    /// What the source had in hand at the last look, and nobody knew of.
    strays: parking_lot::Mutex<Vec<source::Identity>>,
    is_down: AtomicBool,
    closing: CancellationToken,
}

impl Queues {
    /// Those of a configuration; the ones of `before` that stay as they are go on with all who wait there.
    pub fn new(tasks: &[Arc<Tasks>], base: &Base, before: &Self) -> Self {
        let queue = |settings: &Arc<Tasks>| match before.get(&settings.name) {
            Some(standing) if standing.settings == **settings => Arc::clone(standing),
            Some(_) | None => Arc::new(Queue::new(settings, base)),
        };
        let by_name = tasks.iter().map(|settings| (Arc::clone(&settings.name), queue(settings)));
        Self { by_name: by_name.collect() }
    }

    /// The queue of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Queue>> {
        self.by_name.get(name)
    }

    /// Ends what their sources have open: nobody asks any more.
    pub fn close(&self) {
        self.all().for_each(|queue| queue.closing.cancel());
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Queue>> {
        self.by_name.values()
    }
}

impl Queue {
    fn new(settings: &Arc<Tasks>, base: &Base) -> Self {
        let closing = base.closing.child_token();
        let ground = Ground {
            queue: Arc::clone(&settings.name),
            visibility: settings.visibility,
            tasks: base.tasks.clone(),
            closing: closing.clone(),
        };
        let source = sources::open(&settings.source, &base.upstreams, &ground);
        Self::over(settings, base, source, closing)
    }

    fn over(settings: &Tasks, base: &Base, source: Arc<dyn Source>, closing: CancellationToken) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(b"queue\0").update(settings.name.as_bytes());
        let mut free = [0; 16];
        free.iter_mut().zip(hash.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
        Self {
            free: Topic(free),
            settings: settings.clone(),
            source,
            base: base.clone(),
            desk: Desk::default(),
            known: Known::default(),
            strays: parking_lot::Mutex::default(),
            is_down: AtomicBool::new(false),
            closing,
        }
    }

    /// Whether agents may put tasks in.
    pub fn can_put(&self) -> bool {
        self.source.can_put()
    }

    /// Puts a task in.
    ///
    /// # Errors
    /// What the source says.
    pub async fn put(&self, task: &source::NewTask) -> Result<Option<source::Identity>, source::SourceError> {
        let put = self.source.put(task).await;
        if put.is_ok() {
            self.base.bells.ring(self.free);
        }
        put
    }

    /// Tells the log once of an outage, and once of its end.
    fn reached(&self, error: Option<&source::SourceError>) {
        let was_down = self.is_down.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_down => {
                tracing::warn!(queue = %self.settings.name, why = error.text(), "a queue's source cannot be asked");
            }
            None if was_down => {
                tracing::info!(queue = %self.settings.name, "a queue's source can be asked again");
            }
            Some(_) | None => {}
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Nobody asks any more: what the source has open ends.
        self.closing.cancel();
    }
}
