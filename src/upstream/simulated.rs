//! The seam for the simulation: an upstream in this thread's memory in the place of sockets.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;

use http::uri::Authority;

use super::{Call, Failure};
use crate::config::checked::RouteLimits;
use crate::http::Response;

/// What became of a simulated call.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response, Failure>> + Send>>;

/// An upstream without sockets.
pub(crate) trait Upstream: Send + Sync {
    /// One call, as [`super::Client::call`] makes it to that place.
    fn call(self: Arc<Self>, call: Call, limits: RouteLimits, place: &Authority) -> Answering;
}

thread_local! { static UPSTREAM: RefCell<Option<Arc<dyn Upstream>>> = const { RefCell::new(None) }; }

/// From now on, on this thread, every call goes there; `None`: to sockets again.
pub(crate) fn set(upstream: Option<Arc<dyn Upstream>>) {
    UPSTREAM.set(upstream);
}

pub(super) fn upstream() -> Option<Arc<dyn Upstream>> {
    UPSTREAM.with_borrow(Clone::clone)
}
