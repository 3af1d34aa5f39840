//! A write that comes inside another request, and is committed with more than itself: the acknowledgment of a task that
//! carries the write which finishes it (J2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::write::Write;
use super::{Gate, Journey};
use crate::config::checked::Mode;
use crate::http::{Reason, Refusal, Request, Response};
use crate::policy::detach::{Detachable, MustFinish};
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::record::Principal;
use crate::route::Entry;
use crate::store::Put;

/// What a write is committed with.
#[derive(Clone)]
pub(crate) struct Besides {
    /// Of the whole request that it came in.
    pub(crate) fingerprint: Fingerprint,
    /// Cells that are swapped with a success; or why the write may not run, and only be replayed.
    pub(crate) cells: Result<Vec<Put>, Reason>,
    /// They were.
    pub(crate) done: Arc<AtomicBool>,
}

impl Besides {
    /// Whether the write may run: its claim on the key stands, and so does what goes with it.
    pub(super) fn may_run(&self, has_record: bool) -> Result<(), Reason> {
        match &self.cells {
            Err(reason) => Err(reason.clone()),
            Ok(_) if has_record => Ok(()),
            // Without a record there is nothing that both could be in.
            Ok(_) => Err(Reason::StoreUnavailable),
        }
    }

    pub(super) fn cells(&self) -> Vec<Put> {
        self.cells.clone().unwrap_or_default()
    }

    pub(super) fn note(&self, committed: bool) {
        self.done.fetch_or(committed, Ordering::AcqRel);
    }
}

impl Gate {
    /// The route of such a write.
    ///
    /// # Errors
    /// 404, 405; 400 where a write there leaves no record to be committed with.
    pub(crate) fn find_write(&self, journey: &Journey, request: &Request) -> Result<Arc<Entry>, Refusal> {
        let entry = journey.rules.table.find(&request.normal, &request.method)?;
        let (route, method) = (&entry.route, &request.method);
        if route.passes_through() || route.mode == Mode::Observe || route.is_read(method) {
            let what = "The write of an acknowledgment must go to a route that keeps a record of it.";
            return Err(Reason::BadRequest(what.to_owned()).into());
        }
        Ok(Arc::clone(entry))
    }

    /// The write, through the very stages of a direct one. It is finished even if its agent vanishes.
    pub(crate) async fn write_with(
        self: &Arc<Self>,
        journey: &mut Journey,
        entry: &Arc<Entry>,
        principal: Principal,
        request: Request,
        besides: Besides,
    ) -> Result<Response, Refusal> {
        journey.set_entry(entry);
        let write = Write::new(self, journey, entry, principal, request).with(besides);
        let must_finish: MustFinish = write.must_finish();
        let (result, told) = Detachable::new(Box::pin(write.run()), must_finish, self.tasks.clone()).await;
        journey.take_story(told);
        result
    }
}
