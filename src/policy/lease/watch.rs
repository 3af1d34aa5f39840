//! Takes note of leases whose time is over, and forgets after a while that there were any.
//!
//! Every instance may do so: each step is a compare-and-swap. Nobody who wants a lease waits for it: a lease has ended
//! when its time is over, and what is done here is what others see of that.

use std::sync::Arc;
use std::time::Duration;

use super::{Leases, Put, read};
use crate::http::timestamp::now;
use crate::protocol::lease::Named;
use crate::store::cells::Kind;
use crate::store::{CellId, StoreError, Swap};

/// So many are looked at together.
const BATCH: usize = 256;
/// Between two looks, where a look is a round trip and where it is none.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(100));
/// After a look that found more than it could take.
const MORE: Duration = Duration::from_millis(1);

impl Leases {
    /// Looks for what is over, for ever.
    pub async fn watch(self: Arc<Self>) {
        let pause = if self.store.shared().is_some() { PAUSES.0 } else { PAUSES.1 };
        loop {
            // That the store cannot be reached is known already.
            let next = self.end_due(pause).await.unwrap_or(pause);
            tokio::time::sleep(next).await;
            if let Ok(true) = self.forget_ended().await {
                tokio::time::sleep(MORE).await;
            }
        }
    }

    /// Ends what is over. How long until the next look.
    async fn end_due(&self, within: Duration) -> Result<Duration, StoreError> {
        let due = self.store.due(Kind::Lease, within, BATCH, now()).await?;
        let full = due.len() >= BATCH;
        for (_, cell) in due {
            // One that cannot be read here is another version's to end.
            let Ok(Some(standing)) = read(Some(cell)) else { continue };
            if standing.lives() {
                return Ok(standing.left);
            }
            // Somebody else's end of it, or a change of its principal's count: seen at the next look.
            self.expire(&standing).await?;
        }
        Ok(if full { MORE } else { within })
    }

    /// Forgets leases that ended long ago. Whether there may be more of them.
    async fn forget_ended(&self) -> Result<bool, StoreError> {
        let due = self.store.due(Kind::Token, Duration::ZERO, BATCH, now()).await?;
        let full = due.len() >= BATCH;
        for (name, cell) in due {
            // Claims of tasks have tokens too, which are not forgotten here.
            if Named::decode(&cell.value).is_none() {
                continue;
            }
            let id = CellId { kind: Kind::Token, name };
            let puts = vec![Put { id, was: Some(cell.stamp), to: None, tell: None }];
            self.store.swap(Swap { puts, ..Swap::default() }, now()).await?;
        }
        Ok(full)
    }
}
