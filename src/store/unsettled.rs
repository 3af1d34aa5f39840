//! Which records of a resource are unsettled: unknown, or unknown before and running again (K12).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::ById;
use crate::protocol::record::{Phase, Record, RecordId, ResourceId, State};

/// An index over records, kept by whoever holds them. As long as nothing is unknown it costs a look at a number.
#[derive(Default)]
pub(super) struct Unsettled {
    count: AtomicUsize,
    by_resource: Mutex<HashMap<ResourceId, Vec<RecordId>, ById>>,
}

impl Unsettled {
    /// A record went from one state to another; `None`: it is not there.
    pub(super) fn moved(&self, id: RecordId, resource: &str, from: Option<Phase>, to: Option<Phase>) {
        match to {
            Some(Phase::Unknown) if from != Some(Phase::Unknown) => self.add(id, resource),
            // One that runs again is as unsettled as before, until its end is known.
            Some(Phase::Unknown | Phase::Forwarded) => {}
            Some(Phase::Claimed | Phase::Queued | Phase::Done) | None => self.remove(id, resource),
        }
    }

    fn add(&self, id: RecordId, resource: &str) {
        let mut by_resource = self.by_resource.lock();
        let ids = by_resource.entry(ResourceId::new(resource)).or_default();
        if !ids.contains(&id) {
            ids.push(id);
            self.count.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn remove(&self, id: RecordId, resource: &str) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let resource = ResourceId::new(resource);
        let mut by_resource = self.by_resource.lock();
        let Some(ids) = by_resource.get_mut(&resource) else { return };
        let before = ids.len();
        ids.retain(|other| *other != id);
        self.count.fetch_sub(before - ids.len(), Ordering::AcqRel);
        if ids.is_empty() {
            by_resource.remove(&resource);
        }
    }

    /// All unsettled records of a resource but one.
    pub(super) fn others(&self, id: RecordId, resource: &str) -> Vec<RecordId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let by_resource = self.by_resource.lock();
        let ids = by_resource.get(&ResourceId::new(resource)).into_iter().flatten();
        ids.copied().filter(|other| *other != id).collect()
    }
}

/// Another write has gone to the record's resource (K12). Whether that is news.
pub(super) fn follow(record: &mut Record) -> bool {
    match &mut record.state {
        State::Forwarded { mark: Some(mark), .. } | State::Unknown { mark: Some(mark), .. } => {
            !std::mem::replace(&mut mark.followed, true)
        }
        State::Forwarded { mark: None, .. }
        | State::Unknown { mark: None, .. }
        | State::Claimed
        | State::Queued
        | State::Done { .. } => false,
    }
}
