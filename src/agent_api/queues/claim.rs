//! `POST /.onceward/queues/{name}/claim`: the next task (J2).
//!
//! The claim and its answer are one commit: where the answer is lost the same key gets the same claim again. That there
//! was no task (204) is not kept: the same key may ask again.

use std::time::Duration;

use http::StatusCode;

use super::super::own::{answered, kept};
use super::Read;
use crate::http::{Reason, Refusal, Response};
use crate::policy::idempotency::{self, Claim, Ended, NotRecorded, With, set_expires};
use crate::queues::{Next, Offered, Place, Prepared};
use crate::stack::Journey;
use crate::store::StoreError;

/// How often a task is looked at again that another step came before.
const TRIES: usize = 4;

pub(super) async fn claim(read: Read, journey: &mut Journey) -> Result<Response, Refusal> {
    let mut claim = match read.run(journey).await? {
        Ok(Some(claim)) => claim,
        Ok(None) => return Err(Reason::MissingKey.into()),
        Err(replayed) => return Ok(replayed),
    };
    let bound = read.queue.settings.max_wait;
    journey.wait_bound = Some(bound);
    let until = journey.budget.waits_until(bound, Duration::ZERO);
    let began = std::time::Instant::now();
    let mut place = Place::default();
    loop {
        let next = read.queue.next(&mut place, until, read.peer.gone.as_ref()).await;
        journey.story.waited = began.elapsed();
        let refused = match next {
            Next::Offer(offered) => match take(&read, &mut claim, offered).await {
                Ok(Some(response)) => return Ok(response),
                Ok(None) => continue,
                Err(error) => idempotency::refused(error),
            },
            Next::Nothing => {
                claim.give_up(With::default()).await;
                return Ok(answered(StatusCode::NO_CONTENT, String::new()));
            }
            Next::Failed(error) => Reason::UpstreamUnreachable(error.text().to_owned()).into(),
            Next::Closing => Reason::ShuttingDown.into(),
        };
        let operation = claim.id.to_text();
        claim.give_up(With::default()).await;
        return Err(refused.about(operation));
    }
}

/// Claims an offered task; `None`: it is not to be had.
async fn take(read: &Read, claim: &mut Claim, offered: Box<Offered>) -> Result<Option<Response>, StoreError> {
    let mut offered = Some(offered);
    for _ in 0..TRIES {
        let draft = match read.queue.prepare(&mut offered, &read.principal).await? {
            Prepared::Claim(draft) => draft,
            Prepared::Next => return Ok(None),
        };
        let mut response = answered(StatusCode::OK, draft.answer);
        let ended = Ended::Done { status: 200, answer: Some(kept(&response)) };
        match claim.end(ended, With { cells: draft.cells, ..With::default() }).await {
            Ok(expires_at) => {
                if let Some(offered) = offered.take() {
                    read.queue.claimed(*offered);
                }
                set_expires(&mut response, expires_at);
                return Ok(Some(response));
            }
            Err(NotRecorded::Store(error)) => return Err(error),
            // Another came first, for the task or for the record.
            Err(NotRecorded::Lost) if claim.stands().await? => {}
            Err(NotRecorded::Lost) => return Err(StoreError::Unreached),
        }
    }
    Ok(None)
}
