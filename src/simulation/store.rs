//! A store over a wire: its steps take time, fail, lose their replies, and the process dies between any two of them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::teeth::Bad;
use super::world::World;
use crate::protocol::record::RecordId;
use crate::store::model::{Ask, Bent, Model};
use crate::store::{Reply, StoreError};

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
}

/// One life of the process, as the store sees it.
pub(super) struct Handle {
    world: Arc<World>,
    server: Arc<Server>,
    life: u64,
}

impl Server {
    pub(super) fn start(world: &Arc<World>, bad: Option<Bad>) -> Arc<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let mut model = Model::default();
        model.bent = bad.and_then(bent);
        let durable = (bad == Some(Bad::AnsweredBeforeDurable)).then(Mutex::default);
        let server = Arc::new(Self { model: Mutex::new(model), durable, jobs });
        tokio::spawn(Arc::clone(&server).serve(Arc::clone(world), queue));
        server
    }

    pub(super) fn open(self: &Arc<Self>, world: &Arc<World>, life: u64) -> Arc<Handle> {
        Arc::new(Handle { world: Arc::clone(world), server: Arc::clone(self), life })
    }

    pub(super) fn phases(&self) -> Vec<(RecordId, crate::protocol::record::Phase)> {
        self.model.lock().rows.iter().map(|(id, row)| (*id, row.record.state.phase())).collect()
    }

    /// One step after the other, in the order they came.
    async fn serve(self: Arc<Self>, world: Arc<World>, mut queue: mpsc::UnboundedReceiver<Job>) {
        let mut synced = 0;
        while let Some(Job { life, what, act }) = queue.recv().await {
            world.moment().await;
            if life != world.life() {
                continue;
            }
            if world.may_crash() {
                self.crash();
                continue;
            }
            let fate = match () {
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
            if world.may_crash() {
                self.crash();
            }
        }
    }

    fn sync(&self) {
        if let Some(durable) = &self.durable {
            *durable.lock() = self.model.lock().clone();
        }
    }

    fn crash(&self) {
        let mut model = self.model.lock();
        if let Some(durable) = &self.durable {
            *model = durable.lock().clone();
        }
        model.crash();
    }

    fn check(&self, world: &World) {
        let steps = std::mem::take(&mut self.model.lock().steps);
        for step in steps {
            world.ledger(|ledger| ledger.stepped(step));
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
        | Bad::AnsweredBeforeDurable => None,
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
        self.server.jobs.send(Job { life: self.life, what, act }).ok();
        let (world, life) = (Arc::clone(&self.world), self.life);
        Reply::later(async move {
            let Ok(done) = answered.await else { return std::future::pending().await };
            world.moment().await;
            world.only_in(life).await;
            done
        })
    }

    fn look<T>(&self, act: impl FnOnce(&Model) -> T) -> T {
        act(&self.server.model.lock())
    }
}

/// Sees "forwarded" in the store where a write arrives.
pub(super) fn phase(server: &Server, id: RecordId) -> Option<crate::protocol::record::Phase> {
    server.model.lock().phase(id)
}
