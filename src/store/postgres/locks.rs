//! Turns that are held by session locks too (`store.turns = "advisory"`).
//!
//! 1. One life of this instance is one session of the server that is our own. What takes a turn goes there, and what ends
//!    one while it stands; steps are sent one behind the other, so none costs a round trip more.
//! 2. Between instances the rows decide, whatever the locks say. A lock keeps other programs out, and says at once that
//!    its session is gone.
//! 3. A session that breaks, or does not answer, ends its life: the server has let its locks go or will, and what was out
//!    is settled as that of any instance that died.
//! 4. A lock is let go on the session that took it. A take that failed may have taken it all the same (a lock outlasts
//!    its transaction), so that is undone before anybody asks again.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, Row};

use super::core::Core;
use super::session::Session;
use super::value::Value;
use crate::store::StoreError;
use crate::store::shared::{Instance, Wish};

/// How often a session is looked after that says nothing.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// Why there are none.
pub(super) const POOLED: &str = "store.turns = \"advisory\" needs a session of its own, and a pooler stands between that \
     gives sessions out for a transaction at a time: name the server itself in store.url, or use \"rows\", which keeps \
     the same promises behind a pooler too";

/// The session of one life.
pub(super) struct Locks {
    instance: Instance,
    session: Session,
}

/// Who takes a turn, and where.
pub(super) struct Taker {
    pub(super) instance: Instance,
    locks: Option<Arc<Locks>>,
}

impl Locks {
    pub(super) async fn open(core: &Core, instance: Instance) -> Result<Self, StoreError> {
        let why = match Session::silent(core).await {
            Ok(Some(session)) => return Ok(Self { instance, session }),
            Ok(None) => POOLED.to_owned(),
            Err(why) => why,
        };
        core.link.gone(&why);
        Err(StoreError::Unreached)
    }

    pub(super) fn client(&self) -> &Client {
        &self.session.client
    }

    /// Whether the session has ended, or was given up.
    pub(super) fn are_gone(&self) -> bool {
        self.session.ended.is_cancelled() || self.session.client.is_closed()
    }

    fn give_up(&self) {
        self.session.ended.cancel();
    }

    /// Waits until they are.
    async fn gone(&self, core: &Core) {
        let silent = async {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                if !self.session.is_still_ours(core).await {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.session.ended.cancelled() => {}
            () = silent => self.give_up(),
        }
    }

    async fn step(&self, core: &Core, statement: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let answer = core.link.step_on(self.client(), statement, values).await;
        if answer.as_ref().is_err_and(|error| *error == StoreError::Unavailable) {
            self.give_up();
        }
        answer
    }
}

/// Looks after the session of each life, until the store is closed.
pub(super) async fn guard(core: &Core) {
    let mut lives = core.locks.subscribe();
    loop {
        let locks = lives.borrow_and_update().clone();
        let changed = match locks {
            None => lives.changed().await,
            Some(locks) => tokio::select! {
                changed = lives.changed() => changed,
                () = locks.gone(core) => {
                    core.lapse(locks.instance);
                    drop(locks);
                    lives.changed().await
                }
            },
        };
        if changed.is_err() {
            return;
        }
    }
}

impl Core {
    fn is_up(&self) -> Result<(), StoreError> {
        if self.link.is_up() { Ok(()) } else { Err(StoreError::Unreached) }
    }

    fn locks(&self) -> Option<Arc<Locks>> {
        self.locks.borrow().clone().filter(|locks| !locks.are_gone())
    }

    /// Whether this life has the session that it depends on, if it does.
    pub(super) fn holds_its_session(&self) -> bool {
        !self.advisory || self.locks().is_some()
    }

    /// Who takes: this life, on its session where turns are held there. Without one a new life begins.
    pub(super) async fn taker(&self, takes_turn: bool) -> Result<Taker, StoreError> {
        if !self.advisory || !takes_turn {
            return Ok(Taker { instance: self.instance(), locks: None });
        }
        self.is_up()?;
        for _ in 0..2 {
            let lapsed = self.instance();
            match self.locks() {
                Some(locks) => return Ok(Taker { instance: locks.instance, locks: Some(locks) }),
                None => self.begin_after(lapsed).await?,
            }
        }
        Err(StoreError::Unreached)
    }

    /// A step that may take a turn.
    pub(super) async fn take(
        &self,
        taker: &Taker,
        statement: &str,
        values: &[Value],
        wish: Option<&Wish>,
    ) -> Result<Vec<Row>, StoreError> {
        let (Some(locks), Some(wish)) = (&taker.locks, wish) else {
            return self.link.step(statement, values).await;
        };
        let taken = locks.step(self, statement, values).await;
        if taken.is_err() && !locks.are_gone() {
            let name = Value::data(wish.name.as_bytes());
            let values = [Value::id(wish.resource.0), name, Value::number(taker.instance.0)];
            if locks.step(self, &self.sql.let_go, &values).await.is_err() {
                locks.give_up();
            }
        }
        taken
    }

    /// A step that ends a turn: where it is held, as long as that is there. Once it is gone there is nothing to let go.
    pub(super) async fn end_turn(&self, statement: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        match self.locks() {
            Some(locks) => {
                self.is_up()?;
                locks.step(self, statement, values).await
            }
            None => self.link.step(statement, values).await,
        }
    }
}
