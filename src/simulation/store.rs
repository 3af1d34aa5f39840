//! A store over a wire: its steps take time, fail, lose their replies, and the process dies between any two of them.

use std::sync::Arc;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::teeth::Bad;
use super::world::World;
use crate::http::timestamp;
use crate::protocol::record::{Millis, RecordId};
use crate::store::model::across::Letter;
use crate::store::model::{Ask, Bent, Model};
use crate::store::shared::{Instance, News};
use crate::store::{Reply, StoreError};

/// How long an instance counts as alive that is not heard of.
pub(super) const ALIVE: Duration = Duration::from_secs(3);

/// What becomes of a step.
#[derive(Clone, Copy)]
enum Fate {
    Done,
    /// It is done, and nobody is told so.
    Lost,
    Refused,
}

type Act = Box<dyn FnOnce(&mut Model, Fate) + Send>;

struct Job {
    node: usize,
    life: u64,
    what: &'static str,
    act: Act,
}

/// The store itself, which outlives the process.
pub(super) struct Server {
    model: Mutex<Model>,
    /// What a crash goes back to, where a known-bad store answers before it is durable.
    durable: Option<Mutex<Model>>,
    jobs: mpsc::UnboundedSender<Job>,
    /// Where instances that share it are told news.
    doors: Mutex<Vec<Door>>,
}

/// Where one life of one instance hears.
struct Door {
    node: usize,
    life: u64,
    instance: Arc<AtomicU64>,
    news: mpsc::Sender<News>,
}

/// One life of the process, as the store sees it.
pub(super) struct Handle {
    world: Arc<World>,
    server: Arc<Server>,
    node: usize,
    life: u64,
    /// What the others know this life by; 0 where there are no others.
    instance: Arc<AtomicU64>,
    alive_until: Mutex<Option<Instant>>,
    news: Mutex<Option<mpsc::Receiver<News>>>,
}

impl Server {
    pub(super) fn start(world: &Arc<World>, bad: Option<Bad>) -> Arc<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let mut model = Model::default();
        model.bent = bad.and_then(bent);
        let durable = (bad == Some(Bad::AnsweredBeforeDurable)).then(Mutex::default);
        let server = Arc::new(Self { model: Mutex::new(model), durable, jobs, doors: Mutex::default() });
        tokio::spawn(Arc::clone(&server).serve(Arc::clone(world), queue));
        server
    }

    pub(super) async fn open(self: &Arc<Self>, world: &Arc<World>, node: usize, life: u64) -> Arc<Handle> {
        let (told, news) = mpsc::channel(64);
        let handle = Arc::new(Handle {
            world: Arc::clone(world),
            server: Arc::clone(self),
            node,
            life,
            instance: Arc::default(),
            alive_until: Mutex::default(),
            news: Mutex::new(Some(news)),
        });
        if world.is_shared() {
            let instance = Arc::clone(&handle.instance);
            self.doors.lock().push(Door { node, life, instance, news: told });
            handle.begin_anew().await;
            tokio::spawn(Arc::clone(&handle).keep_alive());
        }
        handle
    }

    pub(super) fn busy(&self) -> Vec<Box<str>> {
        self.model.lock().busy(8, timestamp::now()).into_iter().map(|busy| busy.name).collect()
    }

    /// Word travels on its own, and may be lost.
    fn deliver(&self, world: &World) {
        let letters: Vec<Letter> = std::mem::take(&mut self.model.lock().across.outbox);
        for (to, news) in letters {
            for door in self.doors.lock().iter() {
                let is_meant = to.is_none_or(|to| to.0 == door.instance.load(Ordering::Relaxed));
                let is_there = world.life(door.node) == door.life && !world.is_parted(door.node);
                if is_meant && is_there && !world.chance(|faults| faults.lost) {
                    // A full one is as a lost letter.
                    door.news.try_send(news).ok();
                }
            }
        }
    }

    pub(super) fn phases(&self) -> Vec<(RecordId, crate::protocol::record::Phase)> {
        self.model.lock().rows.iter().map(|(id, row)| (*id, row.record.state.phase())).collect()
    }

    /// One step after the other, in the order they came.
    async fn serve(self: Arc<Self>, world: Arc<World>, mut queue: mpsc::UnboundedReceiver<Job>) {
        let mut synced = 0;
        while let Some(Job { node, life, what, act }) = queue.recv().await {
            world.moment().await;
            if life != world.life(node) {
                continue;
            }
            if world.may_crash(node) {
                self.crash(&world);
                continue;
            }
            let fate = match () {
                () if world.is_shared() && world.is_parted(node) => Fate::Refused,
                () if world.chance(|faults| faults.refused) => Fate::Refused,
                () if world.chance(|faults| faults.lost) => Fate::Lost,
                () => Fate::Done,
            };
            world.step(|| match fate {
                Fate::Done => format!("store: {what}"),
                Fate::Lost => format!("store: {what}, reply lost"),
                Fate::Refused => format!("store: {what} refused"),
            });
            act(&mut self.model.lock(), fate);
            self.check(&world);
            synced += 1;
            if synced % 8 == 0 {
                self.sync();
            }
            self.deliver(&world);
            world.may_pause(node);
            if world.may_crash(node) {
                self.crash(&world);
            }
        }
    }

    fn sync(&self) {
        if let Some(durable) = &self.durable {
            *durable.lock() = self.model.lock().clone();
        }
    }

    /// What a process has in memory only is gone with it; of a store that is shared nothing is.
    fn crash(&self, world: &World) {
        if world.is_shared() {
            return;
        }
        let mut model = self.model.lock();
        if let Some(durable) = &self.durable {
            *model = durable.lock().clone();
        }
        model.crash();
    }

    fn check(&self, world: &World) {
        let steps = std::mem::take(&mut self.model.lock().steps);
        for step in steps {
            let shared = world.is_shared();
            world.ledger(|ledger| ledger.stepped(step, shared));
        }
    }
}

fn bent(bad: Bad) -> Option<Bent> {
    match bad {
        Bad::ClaimAfterSending => Some(Bent::ClaimsAtTheEnd),
        Bad::UnknownIsAbsent => Some(Bent::UnknownIsAbsent),
        Bad::ForwardedNotStored => Some(Bent::ForgetsForwarded),
        Bad::CheckBeforeTheTurn
        | Bad::TurnFreedAtTheHead
        | Bad::FingerprintWithoutBody
        | Bad::AnsweredBeforeDurable
        | Bad::SendsThoughLapsed
        | Bad::SendsInAnotherLife
        | Bad::LapseFreesForwarded
        | Bad::NoRestFromLapse
        | Bad::TurnsOfOneInstance => None,
    }
}

impl Ask for Handle {
    fn ask<T, F>(&self, what: &'static str, act: F) -> Reply<T>
    where
        T: Send + Unpin + 'static,
        F: FnOnce(&mut Model) -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let act = Box::new(move |model: &mut Model, fate: Fate| {
            let done = match fate {
                Fate::Done => Ok(act(model)),
                Fate::Lost => {
                    act(model);
                    Err(StoreError::Unavailable)
                }
                Fate::Refused => Err(StoreError::Unavailable),
            };
            // Who asked may be gone: what it asked for is done all the same.
            answer.send(done).ok();
        });
        // The server is there as long as this handle.
        self.server.jobs.send(Job { node: self.node, life: self.life, what, act }).ok();
        let (world, node, life) = (Arc::clone(&self.world), self.node, self.life);
        Reply::later(async move {
            let Ok(done) = answered.await else { return std::future::pending().await };
            world.moment().await;
            world.awake(node).await;
            world.only_in(node, life).await;
            done
        })
    }

    fn look<T>(&self, act: impl FnOnce(&Model) -> T) -> T {
        act(&self.server.model.lock())
    }

    fn clock(&self) -> Millis {
        timestamp::now()
    }

    fn instance(&self) -> Option<Instance> {
        self.world.is_shared().then(|| Instance(self.instance.load(Ordering::Relaxed)))
    }

    fn living(&self) -> Option<Instance> {
        let is_alive = self.alive_until.lock().is_some_and(|until| Instant::now() < until);
        self.instance().filter(|_| is_alive)
    }

    fn news(&self) -> Option<mpsc::Receiver<News>> {
        self.news.lock().take()
    }
}

impl Handle {
    /// Whether a new life has begun.
    async fn begin_life(&self) -> bool {
        let (sent, by) = (Instant::now(), Instance(self.world.draw(|rng| rng.u64(1..))));
        let until = self.clock() + timestamp::millis(ALIVE);
        let begun = self.ask("begin life", move |model| model.begin_life(by, until)).await.is_ok();
        if begun {
            self.instance.store(by.0, Ordering::Relaxed);
            *self.alive_until.lock() = Some(sent + ALIVE);
        }
        begun
    }

    async fn begin_anew(&self) {
        while !self.begin_life().await {
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn keep_alive(self: Arc<Self>) {
        loop {
            sleep(ALIVE / 3).await;
            let (sent, now) = (Instant::now(), self.clock());
            let by = Instance(self.instance.load(Ordering::Relaxed));
            let until = now + timestamp::millis(ALIVE);
            match self.ask("renew", move |model| model.renew(by, now, until)).await {
                Ok(true) => {
                    *self.alive_until.lock() = Some(sent + ALIVE);
                    // It stood still, and begins anew at once.
                    if sent + ALIVE <= Instant::now() {
                        self.begin_anew().await;
                    }
                }
                Ok(false) => self.begin_anew().await,
                Err(_) => {}
            }
        }
    }
}

/// Sees "forwarded" in the store where a write arrives.
pub(super) fn phase(server: &Server, id: RecordId) -> Option<crate::protocol::record::Phase> {
    server.model.lock().phase(id)
}
