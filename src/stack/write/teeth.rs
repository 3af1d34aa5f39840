//! Mistakes that a write could make, for the simulation to catch. None of it is in a build that is not a test's.

use bytes::Bytes;

use super::{Claimed, Write};
use crate::http::{Refusal, Response, forward};
use crate::policy::version::{self, Stop};
use crate::simulation::teeth::{Bad, is};
use crate::stack::ending::Pending;
use crate::store::shared::Instance;

static NOTHING: Bytes = Bytes::new();

/// What of a body goes into the fingerprint.
pub(super) fn of_body(content: &Bytes) -> &Bytes {
    if is(Bad::FingerprintWithoutBody) { &NOTHING } else { content }
}

/// What is still held when the answer's head is there.
pub(super) fn at_the_head(mut pending: Pending) -> Pending {
    if is(Bad::TurnFreedAtTheHead)
        && let Some(turn) = pending.turn.take()
    {
        turn.settled();
    }
    pending
}

/// Whether an instance that lapsed may send.
pub(super) fn sends_though_lapsed(living: Option<Instance>) -> bool {
    is(Bad::SendsThoughLapsed) || (is(Bad::SendsInAnotherLife) && living.is_some())
}

impl Write {
    /// What [`Write::turn`] does, in the wrong order.
    pub(super) async fn turn_after_the_check(&mut self, claimed: &mut Claimed) -> Result<Response, Refusal> {
        let mut headers = forward::headers(&mut self.request);
        let compared = match self.compare(claimed, None, &headers).await {
            Ok(compared) => compared,
            Err(Stop::Refused(reason)) => return Err(reason.into()),
            Err(Stop::GivenOn(answer)) => return Ok(*answer),
        };
        let turn = self.take_turn(claimed).await?;
        version::strip_preconditions(&mut headers, &self.entry.route.version.source);
        self.forward(claimed, turn, compared, headers).await
    }
}
