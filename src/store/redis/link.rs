//! The link to the primary: one task keeps it and this instance's liveness; everything else takes steps over it.
//!
//! While there is no link a step fails at once and surely did nothing; nothing queues up. A step whose answer did not
//! come in time takes the link with it, since whatever comes after would wait behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use redis::RedisError;
use tokio::sync::Notify;

use super::Options;
use super::address::Address;
use super::connection::{Greeting, Live, Terms, Unmet, is_gone};
use super::life::Life;
use super::news::Teller;
use super::script::{self, Call};
use super::steps::millis;
use super::value::{Said, unreadable};
use crate::protocol::record::Millis;
use crate::store::shared::Instance;
use crate::store::{Keep, StoreError};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What all handles on the store share.
pub(super) struct Link {
    pub(super) options: Options,
    pub(super) life: Life,
    pub(super) teller: Teller,
    address: Address,
    live: ArcSwapOption<Live>,
    /// The keeper has something to do.
    work: Notify,
    generation: AtomicU64,
    /// How many events are kept.
    history: AtomicUsize,
    /// And for how long, in milliseconds.
    event_ttl: AtomicU64,
    /// The last epoch; 0 before the first.
    epoch: AtomicU64,
    /// The highest number that the store gave.
    seen: AtomicU64,
    /// Until when the next sweep forgets; 0: none is asked for.
    sweep: AtomicU64,
    /// The instance has to be renewed before its time.
    renew: AtomicBool,
    closed: AtomicBool,
}

impl Link {
    pub(super) fn new(options: Options, address: Address) -> Self {
        Self {
            life: Life::new(options.alive),
            teller: Teller::new(&options.prefix),
            options,
            address,
            live: ArcSwapOption::empty(),
            work: Notify::new(),
            generation: AtomicU64::new(0),
            history: AtomicUsize::new(Keep::default().history),
            event_ttl: AtomicU64::new(millis(Keep::default().ttl)),
            epoch: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            sweep: AtomicU64::new(0),
            renew: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// The link as it stands.
    ///
    /// # Errors
    /// [`StoreError::Unreached`] where there is none.
    pub(super) fn live(&self) -> Result<Arc<Live>, StoreError> {
        // The keeper may have met the primary just as this was closed.
        let live = self.live.load_full().filter(|_| !self.closed.load(Ordering::Acquire));
        live.ok_or(StoreError::Unreached)
    }

    /// The epoch in which tags are minted now.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The store gave this number.
    pub(super) fn saw(&self, number: u64) {
        self.seen.fetch_max(number, Ordering::AcqRel);
    }

    /// The instance in whose name something may begin.
    ///
    /// # Errors
    /// [`StoreError::Unreached`] where the others may take it for dead.
    pub(super) fn alive(&self) -> Result<Instance, StoreError> {
        self.life.instance().ok_or_else(|| {
            self.begin_anew();
            StoreError::Unreached
        })
    }

    fn begin_anew(&self) {
        self.renew.store(true, Ordering::Release);
        self.work.notify_one();
    }

    /// So much of the log of events is kept from now on.
    pub(super) fn keep_events(&self, keep: Keep) {
        self.history.store(keep.history, Ordering::Release);
        self.event_ttl.store(millis(keep.ttl), Ordering::Release);
    }

    /// How many events are kept.
    pub(super) fn history(&self) -> usize {
        self.history.load(Ordering::Acquire)
    }

    /// Asks for a little to be forgotten.
    pub(super) fn sweep(&self, now: Millis) {
        self.sweep.fetch_max(now, Ordering::AcqRel);
        self.work.notify_one();
    }

    /// Takes a step.
    ///
    /// # Errors
    /// As [`StoreError`] says.
    pub(super) async fn take(&self, live: &Live, call: &Call) -> Result<Said, StoreError> {
        match tokio::time::timeout(self.options.patience, live.step(call)).await {
            Ok(Ok(step)) if step.is_copied => Ok(step.value),
            Ok(Ok(_)) => {
                tracing::warn!("too few replicas have what was stored (store.wait_replicas)");
                Err(StoreError::Unavailable)
            }
            Ok(Err(error)) => Err(self.failed(live, &error)),
            Err(_) => {
                self.lose(live.generation, "it does not answer");
                Err(StoreError::Unavailable)
            }
        }
    }

    fn failed(&self, live: &Live, error: &RedisError) -> StoreError {
        match error.code() {
            Some("OOM") => StoreError::Full,
            Some("ANEW") => {
                self.begin_anew();
                StoreError::Unreached
            }
            // Each of these is said before a script wrote anything.
            Some(code @ ("EPOCH" | "READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH")) => {
                self.lose(live.generation, code);
                StoreError::Unreached
            }
            Some("MISCONF" | "NOREPLICAS" | "BUSY") => {
                tracing::warn!(%error, "the store takes no writes");
                StoreError::Unreached
            }
            Some(_) => {
                tracing::error!(%error, "the store refused a step");
                StoreError::Unavailable
            }
            None => {
                self.lose(live.generation, "its connection broke");
                StoreError::Unavailable
            }
        }
    }

    /// Gives the link up, if it is still that one.
    fn lose(&self, generation: u64, why: &str) {
        let standing = self.live.load();
        let Some(live) = standing.as_ref().filter(|live| live.generation == generation) else { return };
        let place = live.place.clone();
        let before = self.live.compare_and_swap(&*standing, None);
        if before.as_ref().is_some_and(|live| live.generation == generation) {
            tracing::warn!(%place, why, "the store is not reached");
            self.work.notify_one();
        }
    }

    /// Makes the link, or says why there is none.
    pub(super) async fn meet(self: &Arc<Self>) -> Result<(), Unmet> {
        let patience = self.options.patience;
        match tokio::time::timeout(patience, self.meet_now()).await {
            Ok(met) => met,
            Err(_) => Err(Unmet::Failed(format!("no answer within {patience:?}"))),
        }
    }

    async fn meet_now(self: &Arc<Self>) -> Result<(), Unmet> {
        let options = &self.options;
        let terms = Terms {
            prefix: &options.prefix,
            patience: options.patience,
            connections: options.connections.max(1),
            wait_replicas: options.wait_replicas,
        };
        let primary = self.address.primary().await?;
        let (believed, next, sent) = (self.epoch(), Life::next(), Instant::now());
        let greeting = Greeting {
            epoch: believed,
            seen: self.seen.load(Ordering::Acquire),
            instance: self.life.instance(),
            next,
            alive: self.life.alive,
        };
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let link = Arc::downgrade(self);
        let heard = move |push: &redis::PushInfo| {
            let Some(link) = link.upgrade() else { return };
            if is_gone(push) {
                link.lose(generation, "its connection broke")
            } else {
                link.teller.heard(push)
            }
        };
        let named = |unmet| match unmet {
            Unmet::Refused(why) => Unmet::Refused(format!("{}: {why}", primary.place())),
            Unmet::Failed(why) => Unmet::Failed(format!("{}: {why}", primary.place())),
        };
        let (live, welcome) =
            Live::meet(&primary, &terms, &greeting, generation, heard).await.map_err(named)?;
        let instance = greeting.instance.filter(|_| welcome.kept).unwrap_or(next);
        live.listen(instance).await?;
        if believed != 0 && believed != welcome.epoch {
            tracing::warn!(place = %live.place, "the store has another history: versions begin anew (V8)");
        }
        self.epoch.store(welcome.epoch, Ordering::Release);
        self.life.renewed(instance, sent);
        self.live.store(Some(Arc::new(live)));
        self.teller.anything();
        Ok(())
    }

    /// Keeps the link and the instance alive, for as long as this process is.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut renewed = Instant::now();
        let mut pause = FIRST_PAUSE;
        while !self.closed.load(Ordering::Acquire) {
            let Some(live) = self.live.load_full() else {
                match self.meet().await {
                    Ok(()) => {
                        tracing::info!("the store is reached again");
                        (renewed, pause) = (Instant::now(), FIRST_PAUSE);
                    }
                    Err(Unmet::Refused(why) | Unmet::Failed(why)) => {
                        tracing::debug!(why, "the store is not reached yet");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
                continue;
            };
            let due = self.life.pause().saturating_sub(renewed.elapsed());
            let wakes = tokio::time::timeout(due, self.work.notified()).await.is_err();
            if self.renew.swap(false, Ordering::AcqRel) || wakes {
                self.renew(&live).await;
                renewed = Instant::now();
            }
            let until = self.sweep.swap(0, Ordering::AcqRel);
            if until != 0 {
                // What is not forgotten now is at the next one.
                let since = until.saturating_sub(self.event_ttl.load(Ordering::Acquire));
                let call = Call::of(&script::SWEEP).number(until).number(self.history() as u64).number(since);
                drop(self.take(&live, &call).await);
            }
            self.teller.tell_missed();
        }
    }

    async fn renew(&self, live: &Live) {
        let (instance, next, sent) = (self.life.instance(), Life::next(), Instant::now());
        let call = Call::of(&script::RENEW)
            .arg(instance.map(|instance| instance.0.to_be_bytes().to_vec()).unwrap_or_default())
            .arg(next.0.to_be_bytes())
            .number(u64::try_from(self.life.alive.as_millis()).unwrap_or(u64::MAX));
        let Ok(said) = self.take(live, &call).await else { return };
        let mut said = said.list().into_iter().flatten().map(|value| Said(value).number());
        let (Some(Some(kept)), Some(Some(events))) = (said.next(), said.next()) else {
            unreadable();
            return;
        };
        self.teller.looked(events);
        match instance.filter(|_| kept == 1) {
            Some(instance) => self.life.renewed(instance, sent),
            None => {
                tracing::warn!("this instance lapsed, and begins anew (S3)");
                if live.listen(next).await.is_err() {
                    return self.lose(live.generation, "its connection broke");
                }
                self.life.renewed(next, sent);
                self.teller.anything();
            }
        }
        self.look_around(live).await;
    }

    /// What no step would notice: news that do not come any more, a primary that is one no longer.
    async fn look_around(&self, live: &Live) {
        let bound = self.life.pause().min(self.options.patience);
        if !matches!(tokio::time::timeout(bound, live.hears()).await, Ok(Ok(()))) {
            return self.lose(live.generation, "its news do not come");
        }
        if self.address.is_watched()
            && let Ok(Ok(primary)) = tokio::time::timeout(bound, self.address.primary()).await
            && primary.place() != live.place
        {
            self.lose(live.generation, "Sentinel names another primary");
        }
    }

    /// Ends this instance at once, and the link with it.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        self.closed.store(true, Ordering::Release);
        let live = self.live.swap(None);
        let last = self.life.last();
        self.life.end();
        self.work.notify_one();
        let Some(live) = live else { return Ok(()) };
        self.take(&live, &Call::of(&script::CLOSE).arg(last.0.to_be_bytes())).await.map(drop)
    }
}
