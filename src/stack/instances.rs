//! Instances that share a store: what they tell each other, and what becomes of what a dead one left behind (S3).

use std::sync::Arc;
use std::time::Duration;

use super::recovery::Terms;
use super::{Gate, Rules};
use crate::http::timestamp::now;
use crate::policy::jobs;
use crate::protocol::record::{Record, RecordId, ResourceId, State};
#[cfg(test)]
use crate::simulation::teeth::{Bad, is};
use crate::store::shared::{Lapsed, News, Shared, TurnEnd};
use crate::store::{Before, Change, Set, StoreError};

/// Records of one dead instance that are settled at a time.
const BATCH: usize = 256;

impl Gate {
    /// Passes on what other instances tell, until they tell nothing any more.
    pub async fn follow_news(self: Arc<Self>) {
        let Some(mut news) = self.store.shared().and_then(Shared::news) else { return };
        while let Some(news) = news.recv().await {
            match news {
                News::Ended(id) => self.keys.resolved(id),
                News::Freed(resource) => self.turns.freed(resource),
                News::Told(topic) => self.bells.ring(topic),
                News::Anything => {
                    self.bells.ring_all();
                    self.keys.all_look();
                    self.turns.all_freed();
                }
            }
        }
    }

    /// Looks for instances that lapsed, at every `pause`, and settles what they left. Any number of instances may do
    /// so at once: each step is a compare-and-swap, and one of them gets it.
    pub async fn settle_lapsed(self: Arc<Self>, pause: Duration) {
        let Some(shared) = self.store.shared() else { return };
        loop {
            tokio::time::sleep(pause).await;
            let lapsed = match shared.lapsed().await {
                Ok(lapsed) => lapsed,
                // It is known already that the store cannot be reached.
                Err(_) => continue,
            };
            for lapsed in lapsed {
                match self.settle(shared, lapsed).await {
                    Ok(0) => {}
                    Ok(left) => tracing::warn!(left, "an instance lapsed; what it had in flight is settled"),
                    Err(error) => tracing::warn!(?error, "what a lapsed instance left is not settled yet"),
                }
            }
        }
    }

    async fn settle(&self, shared: &dyn Shared, lapsed: Lapsed) -> Result<usize, StoreError> {
        let rules = self.rules.load_full();
        let mut settled = 0;
        loop {
            let left = shared.left_by(lapsed.instance, BATCH).await?;
            for (id, record) in &left {
                self.settle_one(&rules, *id, record, lapsed.ago).await?;
            }
            settled += left.len();
            if left.len() < BATCH {
                break;
            }
        }
        shared.bury(lapsed.instance).await?;
        Ok(settled)
    }

    /// A claim that never forwarded is free, a forwarded one unknown, and its resource rests from the lapse (Q5).
    async fn settle_one(
        &self,
        rules: &Rules,
        id: RecordId,
        record: &Record,
        ago: Duration,
    ) -> Result<(), StoreError> {
        match &record.state {
            State::Claimed => {
                let resource = ResourceId::new(&record.resource);
                let turn = Some(TurnEnd { resource, token: record.owner, rest: None });
                // A job waits for another to run it (J1).
                let set = match self.store.cell(jobs::cell(id), now()).await? {
                    Some(_) => Set::State(State::Queued),
                    None => Set::Remove,
                };
                let change = Change::new(id, record.owner, Before::Claimed, set);
                self.store.commit(Change { turn, ..change }, now()).await.map(drop)
            }
            #[cfg(test)]
            State::Forwarded { .. } if is(Bad::LapseFreesForwarded) => {
                let change = Change::new(id, record.owner, Before::Forwarded, Set::Remove);
                self.store.commit(change, now()).await.map(drop)
            }
            #[cfg(test)]
            State::Forwarded { .. } if is(Bad::NoRestFromLapse) => {
                let never = Duration::from_secs(3600);
                self.became_unknown(id, record, &Terms::of(rules, record), Some(never)).await
            }
            State::Forwarded { .. } => {
                self.became_unknown(id, record, &Terms::of(rules, record), Some(ago)).await
            }
            State::Queued | State::Done { .. } | State::Unknown { .. } => Ok(()),
        }
    }
}
