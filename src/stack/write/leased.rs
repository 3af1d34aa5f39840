//! A write and the lease of its resource (L2, L3): looked at when it comes, and again in its turn.

use super::{Claimed, Write};
use crate::http::Reason;
use crate::http::timestamp::now;
use crate::policy::lease::Shown;
use crate::policy::turn::Turn;
use crate::store::shared::Turned;
use crate::store::{Cell, CellId, StoreError};

impl Write {
    /// Whether it takes a turn. A write under a lease always does: else the next lease might be granted while it is
    /// still out (L4).
    pub(super) fn takes_turn(&self) -> bool {
        self.entry.route.queue.turns || self.lease.is_some()
    }

    /// Whether the lease is asked for beside the claim: where a look is a round trip, and no turn tells of it.
    pub(super) fn asks_lease(&self) -> bool {
        self.entry.route.leases.is_some() && !self.takes_turn() && self.gate.store.shared().is_some()
    }

    /// Whether it may stand in line, by its resource's lease.
    ///
    /// # Errors
    /// 423 or 409 (L2).
    pub(super) async fn may_come(&mut self, claimed: &mut Claimed) -> Result<(), Reason> {
        if self.entry.route.leases.is_none() {
            return Ok(());
        }
        // One that has its turn already is told there, by what the store said with it.
        if matches!(&claimed.early, Some((_, Some(Turned::Granted(_))))) {
            return Ok(());
        }
        let cell = match claimed.leased.take() {
            Some(cell) => Ok(cell),
            None => self.leased(claimed).await,
        };
        self.admitted(claimed, cell).await.map(drop)
    }

    /// Whether it may go out in its turn. The fence of the lease that it goes under.
    ///
    /// # Errors
    /// 423 or 409 (L2).
    pub(super) async fn may_go(&mut self, claimed: &Claimed, turn: &Turn) -> Result<Option<u64>, Reason> {
        if self.entry.route.leases.is_none() {
            return Ok(None);
        }
        let cell = match turn.grant() {
            Some(grant) => Ok(grant.lease.clone()),
            None => self.leased(claimed).await,
        };
        self.admitted(claimed, cell).await
    }

    async fn leased(&self, claimed: &Claimed) -> Result<Option<Cell>, StoreError> {
        self.gate.store.cell(CellId::lease(claimed.resource), now()).await
    }

    async fn admitted(
        &mut self,
        claimed: &Claimed,
        cell: Result<Option<Cell>, StoreError>,
    ) -> Result<Option<u64>, Reason> {
        // The usual case, and all that there is to it.
        if matches!(cell, Ok(None)) && self.lease.is_none() {
            return Ok(None);
        }
        let asked = match cell {
            Ok(cell) => {
                let shown = Shown { principal: &self.principal, lease: self.lease };
                self.gate.leases.admit(shown, claimed.resource, cell).await
            }
            Err(_) => Err(Reason::StoreUnavailable),
        };
        match asked {
            Ok(fence) => Ok(fence),
            Err(reason) => self.pass_failed_store(Err(reason.into())).map_err(|refusal| refusal.reason),
        }
    }
}
