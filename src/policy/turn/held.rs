//! A turn that every instance on a shared store knows of (Q4).
//!
//! 1. On this instance writes stand in their own line, first come first served; only its head asks the store.
//! 2. The store has a line of instances, one place for each, so that none starves another.
//! 3. Whose time it is, is told so; that a message was lost costs one slow poll.
//! 4. What was asked for is ended, whatever happens to who asked: here, however often that has to be tried, and by
//!    the others when this instance is gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Turn, Turns, Wanted};
use crate::http::Reason;
use crate::http::timestamp::now;
use crate::protocol::record::{Owner, ResourceId};
use crate::store::shared::{Grant, Shared, TurnEnd, Turned, Wish};
use crate::store::{Store, StoreError};

/// A net under the messages, nothing that anybody has to wait for.
const POLL: Duration = Duration::from_secs(1);

/// A turn in the store: asked for, or granted.
pub(super) struct Held {
    store: Arc<dyn Store>,
    token: Owner,
    grant: Option<Grant>,
}

impl Held {
    pub(super) fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    pub(super) fn token(&self) -> Owner {
        self.token
    }
}

/// Somebody's wait for word from the store; forgotten with it.
struct Listening<'a> {
    turns: &'a Turns,
    resource: ResourceId,
    woken: Arc<Notify>,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.turns.asking.lock().remove(&self.resource);
    }
}

impl Turns {
    fn shared(&self) -> Option<&dyn Shared> {
        #[cfg(test)]
        if crate::simulation::teeth::is(crate::simulation::teeth::Bad::TurnsOfOneInstance) {
            return None;
        }
        self.store.as_ref().and_then(|store| store.shared())
    }

    /// Whether turns hold across instances.
    pub fn are_shared(&self) -> bool {
        self.shared().is_some()
    }

    /// The turn on this instance if it is free now, to ask the store for its own together with something else.
    pub fn at_once(self: &Arc<Self>, wanted: &Wanted<'_>) -> Option<Turn> {
        let mut turn = self.begin(wanted)?;
        turn.held = self.ask_for(wanted.token?);
        Some(turn)
    }

    fn ask_for(&self, token: Owner) -> Option<Held> {
        self.store.as_ref().map(|store| Held { store: Arc::clone(store), token, grant: None })
    }

    /// Word from another instance: it is time to ask for a resource's turn.
    pub fn freed(&self, resource: ResourceId) {
        if let Some(woken) = self.asking.lock().get(&resource) {
            woken.notify_one();
        }
    }

    /// Word may have been missed.
    pub fn all_freed(&self) {
        self.asking.lock().values().for_each(|woken| woken.notify_one());
    }

    fn listen(&self, resource: ResourceId) -> Listening<'_> {
        let woken = Arc::new(Notify::new());
        // Only the head of this instance's line asks, so there is one at most.
        self.asking.lock().insert(resource, Arc::clone(&woken));
        Listening { turns: self, resource, woken }
    }

    /// Waits until the store grants what this instance's line has granted already. `answer`: what it said, where it
    /// was asked.
    ///
    /// # Errors
    /// 429 where it takes too long, 503 where the store cannot be asked or at the end of a shutdown.
    pub async fn hold(
        self: &Arc<Self>,
        mut turn: Turn,
        wanted: &Wanted<'_>,
        mut answer: Option<Turned>,
    ) -> Result<Turn, Reason> {
        let (Some(shared), Some(token)) = (self.shared(), wanted.token) else { return Ok(turn) };
        if turn.held.is_none() {
            turn.held = self.ask_for(token);
        }
        let heard = self.listen(wanted.resource);
        loop {
            let wish = || Wish { resource: wanted.resource, name: wanted.name.into(), token };
            let turned = match answer.take() {
                Some(turned) => turned,
                None => match shared.take_turn(wish(), now()).await {
                    Ok(turned) => turned,
                    Err(error) => {
                        if error == StoreError::Unreached {
                            // Nothing is there to be undone, and an outage must not leave work behind for each write.
                            turn.unasked();
                        }
                        return Err(Reason::StoreUnavailable);
                    }
                },
            };
            let rest = match turned {
                Turned::Granted(grant) => {
                    if let Some(held) = &mut turn.held {
                        held.grant = Some(grant);
                    }
                    return Ok(turn);
                }
                Turned::Busy => None,
                Turned::Rests(left) => Some(left),
            };
            let again = Instant::now() + rest.unwrap_or(POLL).min(POLL);
            tokio::select! {
                biased;
                () = heard.woken.notified() => {}
                () = tokio::time::sleep_until(again.min(wanted.until)) => {
                    if Instant::now() >= wanted.until {
                        return Err(late(rest));
                    }
                }
                () = wanted.gone.gone() => return Err(late(rest)),
                () = self.closing.cancelled() => return Err(Reason::ShuttingDown),
            }
        }
    }

    /// Ends in the store what may be held there. Whoever waits next on this instance keeps its place.
    pub(super) fn end_in_store(&self, held: Held, resource: ResourceId, rest: Option<Duration>) {
        let end = TurnEnd { resource, token: held.token, rest };
        let leaves = held.grant.is_none() && self.waiting_for(resource) == 0;
        let closing = self.closing.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let work = async move {
            let ended = async {
                let Some(shared) = held.store.shared() else { return };
                let mut pause = Duration::from_millis(50);
                while shared.end_turn(end).await.is_err() {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                if leaves && shared.leave_line(resource).await.is_err() {
                    tracing::debug!("a place in the line of instances is given up when its time comes");
                }
            };
            tokio::select! {
                () = ended => {}
                // The others end it when this instance is gone.
                () = closing.cancelled() => {}
            }
        };
        self.tasks.spawn_on(work, &runtime);
    }
}

fn late(rest: Option<Duration>) -> Reason {
    Reason::QueueTimeout { resting: rest.is_some(), retry_after: rest.map_or(1, |left| left.as_secs() + 1) }
}

impl Turn {
    /// What the store gave with the turn, where it is shared.
    pub fn grant(&self) -> Option<&Grant> {
        self.held.as_ref().and_then(Held::grant)
    }

    /// How the turn ends in the store, to be committed with a record.
    pub fn ending(&self, rest: Option<Duration>) -> Option<TurnEnd> {
        let token = self.held.as_ref()?.token();
        Some(TurnEnd { resource: self.resource, token, rest })
    }

    /// It was ended in the store, with its rest if it has one.
    pub fn committed(mut self) {
        self.held = None;
        self.unsettled = None;
    }

    /// The store was not asked for it after all.
    pub fn unasked(mut self) {
        self.held = None;
    }
}
