//! The records of writes that were answered before they run (J1): taken to be run, put back, and ended unrun.

use std::sync::Arc;

use super::{Claim, Keys, With};
use crate::http::timestamp::now;
use crate::protocol::record::{Millis, Record, RecordId, State};
use crate::store::{Before, Bells, Change, Encoded, Put, Set, StoreError};

impl Keys {
    /// Takes a job that nobody runs, to run it (J1). `None`: somebody else did. `gone` takes its cell away.
    ///
    /// # Errors
    /// Where the store does not say.
    pub async fn take_job(
        self: &Arc<Self>,
        id: RecordId,
        standing: &Record,
        ttl: Millis,
        gone: Put,
    ) -> Result<Option<Claim>, StoreError> {
        let owner = self.next_owner();
        let record = Record { owner, state: State::Claimed, ..standing.clone() };
        let claim = Claim::of_job(self, id, owner, ttl, gone);
        let change = Change::new(id, standing.owner, Before::Queued, Set::Replace(record));
        if self.store.commit(change, now()).await? {
            return Ok(Some(claim));
        }
        claim.not_taken();
        Ok(None)
    }

    /// Ends a job that is not to be tried again with an answer (J1). Nothing is done where it is queued no longer.
    ///
    /// # Errors
    /// Where the store does not take it; it is tried again then.
    pub async fn end_job(
        &self,
        id: RecordId,
        standing: &Record,
        status: u16,
        answer: Encoded,
        (ttl, gone): (Millis, Put),
    ) -> Result<(), StoreError> {
        let at = now();
        let done = State::Done { status, kept: true, completed_at: at, expires_at: at.saturating_add(ttl) };
        let change = Change::new(id, standing.owner, Before::Queued, Set::State(done));
        let cells = vec![gone];
        let topics = Bells::of(&cells);
        if self.store.commit(Change { answer: Some(answer), cells, ..change }, at).await? {
            self.bells.ring_each(&topics);
            self.waiting.wake_all(id);
        }
        Ok(())
    }

    /// Stores when a job is given up, where it stands queued. Nothing is done where another has taken it: that one ends
    /// it with its cell as it stood, and so it must stand. So it is taken, and put back in one commit with the cell.
    ///
    /// # Errors
    /// Where the store does not say; it is stored at the next try then.
    pub async fn set_due(
        self: &Arc<Self>,
        id: RecordId,
        standing: &Record,
        (gone, due): (Put, Put),
    ) -> Result<(), StoreError> {
        if let Some(claim) = self.take_job(id, standing, 0, gone).await? {
            claim.give_up(With { cells: vec![due], ..With::default() }).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::task::TaskTracker;

    use super::super::Ended;
    use super::*;
    use crate::protocol::fingerprint::Fingerprint;
    use crate::protocol::record::Owner;
    use crate::store::cells::Kind;
    use crate::store::memory::Memory;
    use crate::store::{Cell, CellId, Store};

    const ID: RecordId = RecordId([1; 16]);

    fn put(was: Option<u64>, to: Option<u64>) -> Put {
        let left = Some(Duration::from_secs(60)).filter(|_| was.is_some());
        let cell = |stamp| Cell { stamp: Owner(stamp), left, value: Box::from(&b"sealed"[..]) };
        let id = CellId { kind: Kind::Job, name: ID.0 };
        Put { id, was: was.map(Owner), to: to.map(cell), tell: None }
    }

    /// A job that is queued, and its record.
    async fn queued() -> (Arc<Keys>, Record) {
        let store: Arc<dyn Store> = Arc::new(Memory::new(1 << 20, 1));
        let keys = Keys::new(Arc::clone(&store), Arc::default(), TaskTracker::new());
        let (owner, route, resource) = (Owner(1), "r".into(), "/a".into());
        let fingerprint = Fingerprint::from_bytes([0; 16]);
        let record = Record { owner, fingerprint, started_at: now(), route, resource, state: State::Claimed };
        store.claim(ID, record, now()).await.unwrap();
        let change = Change::new(ID, owner, Before::Claimed, Set::State(State::Queued));
        assert!(store.commit(Change { cells: vec![put(None, Some(5))], ..change }, now()).await.unwrap());
        let standing = store.read(ID, now()).await.unwrap().unwrap();
        (keys, standing)
    }

    async fn end(mut claim: Claim) {
        let ended = Ended::Done { status: 200, answer: None };
        assert!(claim.end(ended, With::default()).await.is_ok(), "its end was not recorded");
    }

    // J1, S3: one instance stores when a job is given up, while another has taken it with its cell as it stood.
    #[tokio::test]
    async fn a_job_that_another_took_ends_as_it_was_taken() {
        let (keys, standing) = queued().await;
        let taken = keys.take_job(ID, &standing, 1000, put(Some(5), None)).await.unwrap().unwrap();
        keys.set_due(ID, &standing, (put(Some(5), None), put(Some(5), Some(6)))).await.unwrap();
        end(taken).await;
    }

    // J1, S3: and the other way round, it is taken only with the cell as it stands now.
    #[tokio::test]
    async fn a_job_that_is_due_is_taken_as_it_stands() {
        let (keys, standing) = queued().await;
        keys.set_due(ID, &standing, (put(Some(5), None), put(Some(5), Some(6)))).await.unwrap();
        assert!(keys.take_job(ID, &standing, 1000, put(Some(5), None)).await.unwrap().is_none());
        let standing = keys.store.read(ID, now()).await.unwrap().unwrap();
        let cell = keys.store.cell(put(None, None).id, now()).await.unwrap().unwrap();
        assert!(standing.state == State::Queued && cell.stamp == Owner(6) && cell.left.is_some());
        end(keys.take_job(ID, &standing, 1000, put(Some(6), None)).await.unwrap().unwrap()).await;
    }
}
