//! `POST /.onceward/queues/{name}/claims/{claim}/ack`, `/release` and `/extend` (J2, J3).
//!
//! Each is one compare-and-swap of the task's cell. With a key it is one commit with the record of the request. An
//! acknowledgment may carry the write that finishes the task: then it is one commit with that write's result.

mod write;

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::own::{answered, kept};
use super::Read;
use crate::http::{Reason, Refusal, Response};
use crate::policy::idempotency::{self, Claim, Ended, NotRecorded, With, set_expires};
use crate::queues::{Acked, Settled, Settling};
use crate::stack::Journey;
use crate::store::StoreError;

/// The longest that a claim lives without a word, where its queue does not say longer.
const LONGEST: Duration = Duration::from_secs(3600);
/// How often a step is tried that another came before.
const TRIES: usize = 8;

pub(super) async fn ack(read: Read, journey: &mut Journey, claim: &str) -> Result<Response, Refusal> {
    let mut members = read.object(&["write"])?;
    match members.remove("write") {
        None | Some(Value::Null) => say(&read, journey, claim, Acked::Done).await,
        Some(write) => write::ack(read, journey, claim, write).await,
    }
}

pub(super) async fn release(read: Read, journey: &mut Journey, claim: &str) -> Result<Response, Refusal> {
    read.object(&[])?;
    say(&read, journey, claim, Acked::Released).await
}

pub(super) async fn extend(read: Read, journey: &mut Journey, claim: &str) -> Result<Response, Refusal> {
    let members = read.object(&["visibility"])?;
    let visibility = read.queue.settings.visibility;
    let by = match members.get("visibility") {
        None => Some(visibility),
        Some(given) => given.as_str().and_then(|text| crate::config::time(text).ok()),
    };
    let Some(by) = by.filter(|by| !by.is_zero()) else {
        let what = "`visibility` is a time, such as \"60s\".";
        return Err(Reason::BadRequest(what.to_owned()).into());
    };
    say(&read, journey, claim, Acked::Extended(by.min(LONGEST.max(visibility)))).await
}

/// Says it, under the key where there is one.
async fn say(read: &Read, journey: &mut Journey, claim: &str, word: Acked) -> Result<Response, Refusal> {
    let Some(mut key) = (match read.run(journey).await? {
        Ok(key) => key,
        Err(replayed) => return Ok(replayed),
    }) else {
        journey.story.outcome = crate::observe::Outcome::Executed;
        let said = read.queue.settle(claim, &read.principal, word).await.map_err(idempotency::refused)?;
        let (response, settling) = told(said)?;
        if let Some(settling) = settling {
            read.queue.settled(&settling).await;
        }
        return Ok(response);
    };
    let said = under_key(read, &mut key, claim, word).await;
    match said {
        Ok((response, settling)) => {
            if let Some(settling) = settling {
                read.queue.settled(&settling).await;
            }
            Ok(response)
        }
        Err(refusal) => {
            let operation = key.id.to_text();
            key.give_up(With::default()).await;
            Err(refusal.about(operation))
        }
    }
}

async fn under_key(
    read: &Read,
    key: &mut Claim,
    claim: &str,
    word: Acked,
) -> Result<(Response, Option<Box<Settling>>), Refusal> {
    for _ in 0..TRIES {
        let said = read.queue.word(claim, &read.principal, word).await.map_err(idempotency::refused)?;
        let (mut response, settling) = told(said)?;
        let status = response.status().as_u16();
        let cells = settling.as_ref().map(|settling| settling.cells.clone()).unwrap_or_default();
        let ended = Ended::Done { status, answer: Some(kept(&response)) };
        match key.end(ended, With { cells, ..With::default() }).await {
            Ok(expires_at) => {
                set_expires(&mut response, expires_at);
                return Ok((response, settling));
            }
            Err(NotRecorded::Store(error)) => return Err(idempotency::refused(error)),
            Err(NotRecorded::Lost) if key.stands().await.map_err(idempotency::refused)? => {}
            Err(NotRecorded::Lost) => break,
        }
    }
    Err(idempotency::refused(StoreError::Unreached))
}

/// What the agent is told, and what is then to be done.
fn told(said: Settled) -> Result<(Response, Option<Box<Settling>>), Refusal> {
    match said {
        Settled::Stands(settling) => {
            let response = match settling.expires_at {
                None => answered(StatusCode::NO_CONTENT, String::new()),
                Some(at) => {
                    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(at);
                    let shown = json!({
                        "fence": settling.fence,
                        "attempt": settling.attempt,
                        "expires_at": crate::http::timestamp::rfc3339(at),
                    });
                    answered(StatusCode::OK, shown.to_string())
                }
            };
            Ok((response, Some(settling)))
        }
        Settled::Already => Ok((answered(StatusCode::NO_CONTENT, String::new()), None)),
        Settled::Lost => Err(Reason::ClaimLost.into()),
        Settled::Never => Err(never().into()),
    }
}

fn never() -> Reason {
    let what = "This queue has no such claim of yours. Check the claim, and the credentials that the task was claimed with.";
    Reason::NotFound(what.to_owned())
}
