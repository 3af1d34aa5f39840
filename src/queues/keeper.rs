//! What time does: claims that were not acknowledged lapse, sources that missed an end are told again, and what is over is
//! forgotten when its source no longer has it (J3).
//!
//! Each instance looks; each step is a compare-and-swap, and one of them gets it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::claims::Seen;
use super::source::{All, Identity};
use super::{Base, Queue, Queues};
use crate::http::timestamp::now;
use crate::protocol::task::{Ended, Standing, lapsed};
use crate::store::StoreError;
use crate::store::cells::{Kind, Name};

/// How often it looks at the least; on a shared store that is a round trip.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_SHARED: Duration = Duration::from_secs(1);
/// The soonest that it looks again.
const AT_ONCE: Duration = Duration::from_millis(10);
/// Tasks that are looked at together.
const BATCH: usize = 256;
/// A task whose queue this instance does not have is left to others for so long.
const UNKNOWN: Duration = Duration::from_secs(600);
/// How soon a task that its source still has is looked for again, at most.
const STILL_THERE: Duration = Duration::from_secs(60);

/// Keeps the queues for ever; which there are is asked each time.
pub async fn keep(base: Base, queues: impl Fn() -> Arc<Queues>) {
    let keeper = Keeper { base, at_work: Arc::default() };
    let most = if keeper.base.store.shared().is_some() { LOOK_SHARED } else { LOOK };
    let mut hands = tokio::time::Instant::now();
    loop {
        let queues = queues();
        let mut pause = most;
        if !queues.by_name.is_empty() {
            match keeper.round(&queues).await {
                Ok(soonest) => pause = soonest.clamp(AT_ONCE, most),
                Err(error) => tracing::debug!(?error, "tasks whose time is over cannot be looked for"),
            }
        }
        if hands.elapsed() >= LOOK_SHARED {
            hands = tokio::time::Instant::now();
            queues.all().for_each(Queue::look_at_hands);
        }
        tokio::time::sleep(pause).await;
    }
}

struct Keeper {
    base: Base,
    /// What waits for a source.
    at_work: Arc<Mutex<HashSet<Name>>>,
}

impl Keeper {
    /// Looks at all whose time is over. How soon the next one's is.
    async fn round(&self, queues: &Queues) -> Result<Duration, StoreError> {
        let due = self.base.store.due(Kind::Task, LOOK_SHARED, BATCH, now()).await?;
        let mut soonest = LOOK_SHARED;
        for (name, cell) in due {
            let left = cell.left.unwrap_or(LOOK_SHARED);
            if !left.is_zero() {
                soonest = soonest.min(left);
                break;
            }
            self.turn_over(queues, Seen::of(name, Some(cell))).await?;
        }
        self.forget_dead().await?;
        Ok(soonest)
    }

    async fn turn_over(&self, queues: &Queues, seen: Seen) -> Result<(), StoreError> {
        let Some(task) = &seen.task else { return Ok(()) };
        let Some(queue) = queues.get(&task.queue) else {
            let put = seen.put(task, Some(UNKNOWN), None);
            return self.base.swap(vec![put]).await.map(drop);
        };
        match &task.standing {
            Standing::Held(held) => {
                let standing = lapsed(held, queue.settings.max_attempts);
                if self.base.swap(queue.puts(&seen, &task.identity, standing)).await? {
                    queue.known.forget(&task.identity);
                    self.work(queue, seen.id.name, Identity::from(task.identity.as_ref()));
                }
                Ok(())
            }
            Standing::Ended(Ended { told: true, absent: true, .. }) => {
                queue.known.forget(&task.identity);
                self.base.swap(vec![seen.gone()]).await.map(drop)
            }
            Standing::Ended(_) | Standing::Waiting { .. } => {
                self.work(queue, seen.id.name, Identity::from(task.identity.as_ref()));
                Ok(())
            }
        }
    }

    /// What needs the source is done beside: one that does not answer holds nothing up.
    fn work(&self, queue: &Arc<Queue>, name: Name, identity: Identity) {
        if self.base.leaving.is_cancelled() || !self.at_work.lock().insert(name) {
            return;
        }
        let (queue, at_work) = (Arc::clone(queue), Arc::clone(&self.at_work));
        self.base.tasks.spawn(async move {
            if let Err(error) = queue.look_after(&identity).await {
                tracing::debug!(?error, "a task is looked after later");
            }
            at_work.lock().remove(&name);
        });
    }

    /// What was given up is kept for operators for a time.
    async fn forget_dead(&self) -> Result<(), StoreError> {
        for (name, cell) in self.base.store.due(Kind::Dead, Duration::ZERO, BATCH, now()).await? {
            let id = crate::store::CellId { kind: Kind::Dead, name };
            let put = crate::store::Put { id, was: Some(cell.stamp), to: None, tell: None };
            self.base.swap(vec![put]).await?;
        }
        Ok(())
    }
}

impl Queue {
    /// What the source has to do with a task.
    async fn look_after(&self, identity: &str) -> Result<(), StoreError> {
        let seen = self.seen(identity).await?;
        match seen.standing() {
            Some(Standing::Ended(Ended { told: false, .. })) => {
                self.tell(identity).await;
                let after = self.seen(identity).await?;
                let missed =
                    after.due && matches!(after.standing(), Some(Standing::Ended(Ended { told: false, .. })));
                if let Some(task) = after.task.as_ref().filter(|_| missed) {
                    let put = after.put(task, Some(self.left(&task.standing)), None);
                    self.base.swap(vec![put]).await?;
                }
                Ok(())
            }
            Some(Standing::Ended(_)) if seen.due => self.forget_or_not(&seen, identity).await,
            Some(Standing::Waiting { .. }) if seen.due => self.forget_or_not(&seen, identity).await,
            Some(Standing::Waiting { .. }) => {
                self.source.back(identity).await;
                self.base.bells.ring(self.free);
                Ok(())
            }
            Some(Standing::Ended(_) | Standing::Held(_)) | None => Ok(()),
        }
    }

    /// Nothing need be known of it any more where its source no longer has it.
    async fn forget_or_not(&self, seen: &Seen, identity: &str) -> Result<(), StoreError> {
        let has = self.source.has(identity).await;
        self.reached(has.as_ref().err());
        let Some(task) = &seen.task else { return Ok(()) };
        let put = match has {
            Ok(false) => {
                self.known.forget(identity);
                seen.gone()
            }
            Ok(true) | Err(_) => seen.put(task, Some(self.left(&task.standing).min(STILL_THERE)), None),
        };
        self.base.swap(vec![put]).await.map(drop)
    }

    /// The whole source was seen: what is over and no longer there may come again, once its time is over.
    pub(super) fn saw(self: &Arc<Self>, all: &All) {
        let seen: HashSet<&str> = all.identities.iter().map(|identity| &**identity).collect();
        let absent = self.known.absent(all.asked, &|identity| seen.contains(identity));
        if absent.is_empty() {
            return;
        }
        let queue = Arc::clone(self);
        self.base.tasks.spawn(async move {
            for identity in absent {
                if let Err(error) = queue.is_absent(&identity).await {
                    tracing::debug!(?error, "a task that is gone from its source is noted later");
                }
            }
        });
    }

    async fn is_absent(&self, identity: &str) -> Result<(), StoreError> {
        let seen = self.seen(identity).await?;
        let Some(Standing::Ended(ended)) = seen.standing() else { return Ok(()) };
        if ended.absent {
            return Ok(());
        }
        let standing = Standing::Ended(Ended { absent: true, ..ended.clone() });
        let left = seen.cell.as_ref().and_then(|cell| cell.left);
        self.base.swap(vec![seen.put(&self.task(identity, standing), left, None)]).await.map(drop)
    }

    /// Looks what has become of what only this instance can tell its source of.
    fn look_at_hands(self: &Arc<Self>) {
        let hands = self.source.in_hand();
        if hands.is_empty() {
            return;
        }
        let queue = Arc::clone(self);
        self.base.tasks.spawn(async move {
            let mut strays = Vec::new();
            for identity in hands {
                match queue.look_at_hand(&identity).await {
                    Ok(false) => {}
                    Ok(true) => strays.push(identity),
                    Err(_) => break,
                }
            }
            *queue.strays.lock() = strays;
        });
    }

    /// Whether nobody knows of it.
    async fn look_at_hand(&self, identity: &Identity) -> Result<bool, StoreError> {
        if self.desk.is_out(identity) {
            return Ok(false);
        }
        let seen = self.seen(identity).await?;
        match seen.standing() {
            Some(Standing::Held(_)) => Ok(false),
            Some(Standing::Ended(_)) => {
                self.tell(identity).await;
                Ok(false)
            }
            Some(Standing::Waiting { .. }) => {
                self.source.back(identity).await;
                Ok(false)
            }
            None if seen.is_foreign() => Ok(false),
            // It may be on its way to somebody: only what was so a look ago too is nobody's.
            None if self.strays.lock().contains(identity) => {
                self.source.back(identity).await;
                Ok(false)
            }
            None => Ok(true),
        }
    }
}
