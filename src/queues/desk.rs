//! Who waits for a task here, first come first served, and what the source has for them.
//!
//! One task per queue asks the source, and only as long as somebody waits: however many do, the source is asked once for
//! all of them, and is left alone when none does.

use std::collections::{HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::Queue;
use super::source::{Busy, Identity, Offer, PATIENCE, SourceError, Taken, Work};
use crate::http::request::Gone;

/// Tasks that are taken at a time.
const BATCH: usize = 64;
/// A net under the wakes: what was missed is found so much later.
const NET: Duration = Duration::from_secs(5);

/// The line.
#[derive(Default)]
pub(super) struct Desk {
    line: Mutex<Line>,
    /// Somebody came, or left.
    moved: Notify,
}

#[derive(Default)]
struct Line {
    /// By their numbers.
    waiting: VecDeque<Waiter>,
    /// Offered, and neither claimed nor given back yet.
    out: HashSet<Identity>,
    /// The task that asks is there.
    asks: bool,
    next: u64,
}

struct Waiter {
    number: u64,
    /// The source was asked since it came.
    asked: bool,
    /// It waits for that look alone.
    once: bool,
    give: oneshot::Sender<Given>,
}

enum Given {
    Offer(Box<Offered>),
    /// The source was asked, and has nothing for it.
    Nothing,
    Failed(SourceError),
    /// Onceward stops.
    Closing,
}

/// A place in the line, kept by who has to ask again.
#[derive(Default)]
pub struct Place(Option<u64>);

/// What waiting came to.
pub enum Next {
    Offer(Box<Offered>),
    /// No task in time, or nobody who waits for it any more.
    Nothing,
    Failed(SourceError),
    /// Onceward stops.
    Closing,
}

/// A task that was taken for somebody. Dropped it goes to the next, or back.
pub struct Offered {
    pub(super) queue: Arc<Queue>,
    pub(super) offer: Option<Offer>,
    pub(super) identity: Identity,
}

impl Drop for Offered {
    fn drop(&mut self) {
        let Some(offer) = self.offer.take() else { return };
        drop(offer.hold);
        let queue = Arc::clone(&self.queue);
        // Outside of a runtime the source has gone with all it had in hand.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let tasks = queue.base.tasks.clone();
            tasks.spawn_on(
                async move {
                    queue.source.back(&offer.identity).await;
                    queue.desk.settle(&offer.identity);
                    queue.base.bells.ring(queue.free);
                },
                &runtime,
            );
        }
    }
}

impl Offered {
    /// The source keeps what hold it has: an agent has the task, or it is over.
    pub(super) fn keep(mut self) {
        self.offer = None;
        self.queue.desk.settle(&self.identity);
    }
}

/// Who asks the source.
struct Asking<'a>(&'a Desk);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line.lock();
        line.asks = false;
        // They look for themselves.
        line.waiting.clear();
    }
}

impl Desk {
    fn join(&self, place: &mut Place, once: bool) -> (oneshot::Receiver<Given>, bool) {
        let (give, given) = oneshot::channel();
        let mut line = self.line.lock();
        let number = *place.0.get_or_insert(line.next);
        line.next = line.next.max(number + 1);
        let at = line.waiting.partition_point(|waiter| waiter.number < number);
        line.waiting.insert(at, Waiter { number, asked: false, once, give });
        let begins = !std::mem::replace(&mut line.asks, true);
        (given, begins)
    }

    /// What was offered is with somebody, or back.
    fn settle(&self, identity: &str) {
        self.line.lock().out.remove(identity);
    }

    pub(super) fn is_out(&self, identity: &str) -> bool {
        self.line.lock().out.contains(identity)
    }

    /// How many wait, and whether the source was not asked yet since one of them came; `None`: nobody, and who asked is
    /// to end.
    fn begin(&self) -> Option<(usize, bool)> {
        let mut line = self.line.lock();
        line.waiting.retain(|waiter| !waiter.give.is_closed());
        if line.waiting.is_empty() {
            line.asks = false;
            return None;
        }
        let new = line.waiting.iter().any(|waiter| !waiter.asked);
        Some((line.waiting.len(), new))
    }

    /// The source is asked now, for all who wait.
    fn asks(&self) {
        self.line.lock().waiting.iter_mut().for_each(|waiter| waiter.asked = true);
    }

    /// Hands it to who has waited longest; it comes back where nobody does.
    fn give(&self, mut offered: Box<Offered>) -> Option<Box<Offered>> {
        loop {
            let waiter = self.line.lock().waiting.pop_front();
            let Some(waiter) = waiter else { return Some(offered) };
            match waiter.give.send(Given::Offer(offered)) {
                Ok(()) => return None,
                Err(Given::Offer(back)) => offered = back,
                Err(Given::Nothing | Given::Failed(_) | Given::Closing) => return None,
            }
        }
    }

    /// Tells those for whom the source was asked: all of them, or those who waited for that alone.
    fn tell(&self, all: bool, what: impl Fn() -> Given) {
        let told: VecDeque<_> = {
            let mut line = self.line.lock();
            let waiting = std::mem::take(&mut line.waiting);
            let (told, rest) =
                waiting.into_iter().partition(|waiter: &Waiter| waiter.asked && (all || waiter.once));
            line.waiting = rest;
            told
        };
        for Waiter { give, .. } in told {
            // Who is gone need not be told.
            drop(give.send(what()));
        }
    }
}

impl Queue {
    /// The next task for who waits until then; without a time: what the source has now.
    pub async fn next(self: &Arc<Self>, place: &mut Place, until: Option<Instant>, gone: &dyn Gone) -> Next {
        let (mut given, begins) = self.desk.join(place, until.is_none());
        if begins {
            self.base.tasks.spawn(Arc::clone(self).ask());
        } else {
            self.desk.moved.notify_one();
        }
        let what = tokio::select! {
            biased;
            what = &mut given => what.ok(),
            () = over(until) => None,
            () = gone.gone() => None,
            () = self.base.leaving.cancelled() => Some(Given::Closing),
            () = self.closing.cancelled() => Some(Given::Closing),
        };
        // It may have come in the same moment.
        given.close();
        match what.or_else(|| given.try_recv().ok()) {
            Some(Given::Offer(offered)) => Next::Offer(offered),
            Some(Given::Failed(error)) => Next::Failed(error),
            Some(Given::Nothing) => Next::Nothing,
            Some(Given::Closing) => {
                self.desk.moved.notify_one();
                Next::Closing
            }
            None => {
                self.desk.moved.notify_one();
                Next::Nothing
            }
        }
    }

    /// Asks the source as long as somebody waits.
    async fn ask(self: Arc<Self>) {
        // Another begins where this one breaks.
        let asking = Asking(&self.desk);
        let bell = self.base.bells.listen(self.free);
        let mut wake: Option<Work<'_, ()>> = None;
        let mut looks = true;
        loop {
            let (mut heard, mut moved) = (pin!(bell.heard()), pin!(self.desk.moved.notified()));
            heard.as_mut().enable();
            moved.as_mut().enable();
            let Some((waiting, new)) = self.desk.begin() else {
                // It said so itself, and another may ask by now.
                std::mem::forget(asking);
                return;
            };
            if looks || new {
                looks = self.look(waiting).await;
                // Those who waited for that look alone have left: where nobody else waits, nothing may be fetched for them.
                if looks || self.desk.line.lock().waiting.is_empty() {
                    continue;
                }
            }
            let waking = wake.get_or_insert_with(|| self.source.wake());
            tokio::select! {
                () = &mut *waking => (wake, looks) = (None, true),
                () = heard => {
                    self.known.doubt();
                    looks = true;
                }
                () = moved => {}
                () = tokio::time::sleep(NET), if !self.known.is_empty() => {
                    self.known.doubt();
                    looks = true;
                }
                () = self.closing.cancelled() => return,
            }
        }
    }

    /// One look at the source for so many. Whether it had as much as was asked for.
    async fn look(self: &Arc<Self>, waiting: usize) -> bool {
        let most = waiting.min(BATCH);
        self.desk.asks();
        let taken = tokio::select! {
            taken = tokio::time::timeout(PATIENCE * 2, self.source.take(most, self.as_ref())) => taken,
            () = self.closing.cancelled() => return false,
        };
        let taken = taken.unwrap_or_else(|_| Err(SourceError::NotDone("it does not answer in time".into())));
        self.reached(taken.as_ref().err());
        match taken {
            Ok(taken) => {
                let enough = taken.offers.len() >= most;
                self.hand_out(taken);
                if !enough {
                    self.desk.tell(false, || Given::Nothing);
                }
                enough
            }
            Err(error) => {
                self.desk.tell(true, || Given::Failed(error.clone()));
                false
            }
        }
    }

    fn hand_out(self: &Arc<Self>, taken: Taken) {
        if let Some(all) = &taken.all {
            self.saw(all);
        }
        for offer in taken.offers {
            let identity = Identity::clone(&offer.identity);
            if !self.desk.line.lock().out.insert(Identity::clone(&identity)) {
                // It came twice: the one before is with somebody.
                continue;
            }
            let offered = Box::new(Offered { queue: Arc::clone(self), offer: Some(offer), identity });
            drop(self.desk.give(offered));
        }
    }
}

impl Busy for Queue {
    fn is_busy(&self, identity: &str) -> bool {
        self.desk.is_out(identity) || self.known.is_busy(identity)
    }

    fn some(&self, most: usize) -> Vec<Identity> {
        let mut busy: Vec<_> = self.desk.line.lock().out.iter().take(most).map(Identity::clone).collect();
        busy.extend(self.known.some(most - busy.len()));
        busy
    }
}

/// When it is time, if ever.
async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
