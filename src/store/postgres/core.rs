//! What all steps share: connections, this instance's life, the cache, and the tasks behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_postgres::{Config, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::beside::{self, Log};
use super::link::Link;
use super::locks::Locks;
use super::news::{Post, Waits};
use super::rows::{self, record_values, whole_millis};
use super::schema::Schema;
use super::sql::Sql;
use super::tls::Tls;
use super::value::{Value, column};
use crate::protocol::record::{Millis, Record, RecordId, ResourceId};
use crate::store::finished::FinishedCache;
use crate::store::minted::tag_of;
use crate::store::shared::{Also, Beside, Grant, Instance, News, Turned, Wish};
use crate::store::{Claimed, StoreError};

/// How many expired records are forgotten in one transaction, and how many transactions one after the other.
const BATCH: i32 = 500;
const BATCHES: usize = 10;
/// How often it is looked for what expires seldom, and for records where none had expired the last time.
const SWEEP_ALL: Duration = Duration::from_secs(10);
const SWEEP_IDLE: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One life of this instance, as far as its own clock knows (S3).
#[derive(Debug, Clone, Copy)]
struct Life {
    instance: Instance,
    until: Instant,
}

pub(super) struct Core {
    pub(super) config: Config,
    pub(super) tls: Tls,
    pub(super) schema: Schema,
    pub(super) sql: Sql,
    pub(super) link: Link,
    pub(super) cache: FinishedCache,
    pub(super) post: Post,
    pub(super) waits: Waits,
    pub(super) log: Log,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) patience: Duration,
    alive: Duration,
    /// Turns are held by session locks too.
    pub(super) advisory: bool,
    /// The session of this life, where they are.
    pub(super) locks: watch::Sender<Option<Arc<Locks>>>,
    life: Mutex<Life>,
    /// One begins anew, not all who notice.
    renewing: tokio::sync::Mutex<()>,
    epoch: AtomicU64,
    listens: AtomicBool,
}

impl Core {
    pub(super) fn new(
        (config, tls): (Config, Tls),
        schema: Schema,
        link: Link,
        cache: FinishedCache,
        (alive, patience): (Duration, Duration),
        advisory: bool,
    ) -> Self {
        Self {
            sql: Sql::new(&schema, advisory),
            config,
            tls,
            schema,
            link,
            cache,
            post: Post::default(),
            waits: Waits::default(),
            log: Log::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            patience,
            alive,
            advisory,
            locks: watch::Sender::new(None),
            life: Mutex::new(Life { instance: Instance(0), until: Instant::now() }),
            renewing: tokio::sync::Mutex::default(),
            epoch: AtomicU64::new(0),
            listens: AtomicBool::new(false),
        }
    }

    pub(super) fn instance(&self) -> Instance {
        self.life.lock().instance
    }

    /// This life, as long as it lasts.
    pub(super) fn living(&self) -> Option<Instance> {
        let Life { instance, until } = *self.life.lock();
        (Instant::now() < until).then_some(instance)
    }

    pub(super) fn listens(&self) -> bool {
        self.listens.load(Ordering::Acquire)
    }

    pub(super) fn set_listens(&self, listens: bool) {
        if self.listens.swap(listens, Ordering::AcqRel) != listens {
            tracing::debug!(listens, "how news comes from the store");
        }
    }

    pub(super) fn tag(&self, resource: ResourceId, number: u64) -> Box<str> {
        tag_of(self.epoch.load(Ordering::Acquire), resource, number)
    }

    /// Signs that this instance is alive, or begins a new life where the last one has lapsed.
    ///
    /// # Errors
    /// Where the store cannot be asked.
    pub(super) async fn renew(&self) -> Result<(), StoreError> {
        let _one = self.renewing.lock().await;
        let Life { instance, until } = *self.life.lock();
        let sent = Instant::now();
        // What its own clock gave up stays given up, whatever the server's says.
        if sent < until && self.holds_its_session() {
            let rows = self.link.probe(&self.sql.renew, &self.sign(instance)).await?;
            if let Some(row) = rows.first().filter(|row| self.is_same_store(row)) {
                self.life.lock().until = sent + self.alive;
                self.seen(row);
                return Ok(());
            }
        }
        self.begin().await
    }

    /// A new life, unless another has begun since `lapsed`.
    pub(super) async fn begin_after(&self, lapsed: Instance) -> Result<(), StoreError> {
        let _one = self.renewing.lock().await;
        if self.instance() != lapsed {
            return Ok(());
        }
        // Who waited behind one that found an outage is not to find it again.
        if self.link.is_up() { self.begin().await } else { Err(StoreError::Unreached) }
    }

    async fn begin(&self) -> Result<(), StoreError> {
        if self.stop.is_cancelled() {
            return Err(StoreError::Unreached);
        }
        let instance = Instance(fastrand::u64(1..));
        let (sent, rows, locks) = if self.advisory {
            let locks = Locks::open(self, instance).await?;
            let sent = Instant::now();
            let mut values = self.sign(instance).to_vec();
            values.push(Value::number(self.instance().0));
            let rows = self.link.step_on(locks.client(), &self.sql.hello, &values).await?;
            (sent, rows, Some(Arc::new(locks)))
        } else {
            let sent = Instant::now();
            (sent, self.link.probe(&self.sql.hello, &self.sign(instance)).await?, None)
        };
        let before = std::mem::replace(&mut *self.life.lock(), Life { instance, until: sent + self.alive });
        self.locks.send_replace(locks);
        rows.first().into_iter().for_each(|row| self.seen(row));
        if before.instance != Instance(0) {
            tracing::warn!("this instance was silent for too long, or lost its session, and begins anew");
            // A new life stands in no line.
            self.post.tell(News::Anything);
        }
        Ok(())
    }

    /// What the life depends on is gone: it is over at once.
    pub(super) fn lapse(&self, lost: Instance) {
        {
            let mut life = self.life.lock();
            if life.instance == lost {
                life.until = life.until.min(Instant::now());
            }
        }
        self.link.lost.notify_one();
    }

    fn sign(&self, instance: Instance) -> [Value; 3] {
        let alive = Value::Number(Some(whole_millis(self.alive)));
        [Value::number(instance.0), alive, Value::flag(self.listens())]
    }

    /// Another epoch: the schema was dropped and made anew, and what was known of it is void.
    fn is_same_store(&self, row: &Row) -> bool {
        column::<i64>(row, "epoch")
            .is_some_and(|epoch| epoch.cast_unsigned() == self.epoch.load(Ordering::Acquire))
    }

    fn seen(&self, row: &Row) {
        if let Some(epoch) = column::<i64>(row, "epoch") {
            self.epoch.store(epoch.cast_unsigned(), Ordering::Release);
        }
    }

    /// Ends this life at once, so that nobody has to wait for it.
    pub(super) async fn end(&self) -> Result<(), StoreError> {
        let _one = self.renewing.lock().await;
        let instance = {
            let mut life = self.life.lock();
            life.until = Instant::now();
            life.instance
        };
        let bye = [Value::number(instance.0)];
        match self.locks.send_replace(None).filter(|locks| !locks.are_gone()) {
            Some(locks) => self.link.step_on(locks.client(), &self.sql.bye, &bye).await.map(drop),
            None => self.link.probe(&self.sql.bye, &bye).await.map(drop),
        }
    }

    /// Renews this life in time, and after an outage as soon as the store is back.
    pub(super) async fn keep(&self) {
        let mut pause = self.alive / 3;
        let mut retry = FIRST_PAUSE;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.link.lost.notified(), if self.link.is_up() || pause > LONGEST_PAUSE => {}
            }
            let was_up = self.link.is_up();
            if self.renew().await.is_ok() {
                self.link.reached();
                if !was_up {
                    self.post.tell(News::Anything);
                }
                (pause, retry) = (self.alive / 3, FIRST_PAUSE);
            } else {
                pause = retry.min(self.alive / 3);
                retry = (retry * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Forgets what has expired whenever it is asked to, a little at a time.
    pub(super) async fn sweep(&self, mut asked: mpsc::Receiver<Millis>) {
        let mut all_from = Instant::now();
        while let Some(now) = asked.recv().await {
            self.cache.tend();
            let all = Instant::now() >= all_from;
            if all {
                all_from = Instant::now() + SWEEP_ALL;
            }
            if all || self.log.has_grown() {
                self.trim_events().await;
            }
            if self.sweep_some(now, all).await < BATCH {
                // What comes until then finds the place taken, and is the same.
                tokio::time::sleep(SWEEP_IDLE).await;
            }
        }
    }

    async fn sweep_some(&self, now: Millis, all: bool) -> i32 {
        let mut last = 0;
        for batch in 0..BATCHES {
            let values = [Value::number(now), Value::Int(BATCH), Value::flag(all && batch == 0)];
            // In an outage there is nothing to be done, and the next one comes soon.
            let Ok(rows) = self.link.step(&self.sql.sweep, &values).await else { return 0 };
            last = rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(0);
            if last < BATCH {
                break;
            }
        }
        last
    }

    /// A claim, with what is asked beside it.
    pub(super) async fn claim(
        &self,
        id: RecordId,
        record: Record,
        beside: Option<Beside>,
        now: Millis,
    ) -> Result<(Claimed, Option<Also>), StoreError> {
        let (statement, wish) = match &beside {
            Some(Beside::Turn(wish)) => (&self.sql.claim_in_turn, Some(wish)),
            Some(Beside::Lease(_)) => (&self.sql.claim_and_lease, None),
            None => (&self.sql.claim, None),
        };
        for _ in 0..2 {
            let taker = self.taker(wish.is_some()).await?;
            let mut values = claim_values(id, &record, wish, taker.instance, now);
            if let Some(Beside::Lease(resource)) = &beside {
                values.push(Value::id(resource.0));
            }
            let rows = self.take(&taker, statement, &values, wish).await?;
            let row = rows.first().ok_or(StoreError::Unavailable)?;
            match column::<i32>(row, "claimed") {
                Some(1) => {
                    let also = match &beside {
                        Some(Beside::Turn(wish)) => self.turned(row, wish.resource)?.map(Also::Turned),
                        Some(Beside::Lease(_)) => Some(Also::Lease(beside::lease(row))),
                        None => None,
                    };
                    return Ok((Claimed::New, also));
                }
                Some(2) => {
                    let standing = rows::record(row)?;
                    if let Some(finished) = rows::finished(row, &standing) {
                        self.cache.put(id, finished);
                    }
                    let standing = Box::new(standing);
                    return Ok((Claimed::Taken { standing, yours: Box::new(record) }, None));
                }
                _ => self.begin_after(taker.instance).await?,
            }
        }
        Err(StoreError::Unreached)
    }

    pub(super) async fn take_turn(&self, wish: Wish, now: Millis) -> Result<Turned, StoreError> {
        for _ in 0..2 {
            let taker = self.taker(true).await?;
            let mut values = vec![Value::id(wish.resource.0), Value::data(wish.name.as_bytes())];
            values.extend([wish.token.0, taker.instance.0, now].map(Value::number));
            let rows = self.take(&taker, &self.sql.take_turn, &values, Some(&wish)).await?;
            let row = rows.first().ok_or(StoreError::Unavailable)?;
            match self.turned(row, wish.resource)? {
                Some(turned) => return Ok(turned),
                None => self.begin_after(taker.instance).await?,
            }
        }
        Err(StoreError::Unreached)
    }

    /// What was said of a turn; `None`: this instance is not alive.
    fn turned(&self, row: &Row, resource: ResourceId) -> Result<Option<Turned>, StoreError> {
        let number = |name| column::<i64>(row, name).map(i64::cast_unsigned);
        let turned = match column::<i32>(row, "turned") {
            Some(1) => number("fence")
                .zip(number("minted"))
                .zip(number("first_number").zip(number("second_number")))
                .map(|((fence, minted), (first, second))| {
                    let minted = self.tag(resource, minted);
                    Turned::Granted(Grant {
                        fence,
                        minted,
                        numbers: [first, second],
                        lease: beside::lease(row),
                    })
                }),
            Some(2) => Some(Turned::Busy),
            Some(3) => number("rest_ms").map(|left| Turned::Rests(Duration::from_millis(left))),
            Some(4) => return Ok(None),
            _ => None,
        };
        match &turned {
            Some(Turned::Busy | Turned::Rests(_)) => self.waits.for_turn(resource),
            Some(Turned::Granted(_)) => self.waits.not_for_turn(resource),
            None => return Err(StoreError::Unavailable),
        }
        Ok(turned)
    }
}

fn claim_values(
    id: RecordId,
    record: &Record,
    wish: Option<&Wish>,
    instance: Instance,
    now: Millis,
) -> Vec<Value> {
    let mut values = vec![Value::id(id.0)];
    values.extend(record_values(record));
    values.extend([Value::number(instance.0), Value::number(now)]);
    values.push(Value::Id(wish.map(|wish| wish.resource.0)));
    values.push(wish.map_or(Value::Data(None), |wish| Value::data(wish.name.as_bytes())));
    values.push(Value::Number(wish.map(|wish| wish.token.0.cast_signed())));
    values
}
