//! `POST /.onceward/queues/{name}/tasks`: puts a task in, where the source can take one (J2).
//!
//! A write like any other (K): stored as forwarded before the source is asked, its outcome unknown where the source did
//! not say.

use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::super::own::{answered, kept};
use super::Read;
use crate::http::refusal::Unknown;
use crate::http::{Reason, Refusal, Response};
use crate::policy::detach::{Detachable, MustFinish};
use crate::policy::idempotency::{Claim, Ended, With, set_expires};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::record::Mark;
use crate::queues::source::{NewTask, SourceError};
use crate::stack::Journey;

pub(super) async fn put(read: Read, journey: &mut Journey) -> Result<Response, Refusal> {
    let claim = match read.run(journey).await? {
        Ok(Some(claim)) => claim,
        Ok(None) => return Err(Reason::MissingKey.into()),
        Err(replayed) => return Ok(replayed),
    };
    // From here on it is finished, whatever its agent does (K13).
    let (must_finish, tasks) = (MustFinish::default(), read.gate.tasks.clone());
    must_finish.set();
    Detachable::new(Box::pin(run(read, claim)), must_finish, tasks).await
}

async fn run(read: Read, mut claim: Claim) -> Result<Response, Refusal> {
    let operation = claim.id.to_text();
    let about = |reason: Reason| Refusal::from(reason).about(operation.clone());
    let quoted_key = read.key.as_ref().is_some_and(IdempotencyKey::quoted);
    let mark = Mark { compared: None, forwarded: None, fence: 0, quoted_key, followed: false };
    if let Err(reason) = claim.forward(mark).await {
        claim.give_up(With::default()).await;
        return Err(about(reason));
    }
    let content_type = read.headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str);
    let task = NewTask {
        content_type: content_type.and_then(Result::ok).map(str::to_owned),
        body: read.body.clone(),
        operation: operation.clone(),
    };
    let (ended, result) = match read.queue.put(&task).await {
        Ok(identity) => {
            let response = answered(StatusCode::CREATED, json!({"id": identity.as_deref()}).to_string());
            (Ended::Done { status: 201, answer: Some(kept(&response)) }, Ok(response))
        }
        Err(SourceError::NotDone(why)) => (Ended::Released, Err(about(Reason::UpstreamUnreachable(why)))),
        Err(SourceError::Unsure(_)) => {
            (Ended::Unknown, Err(about(Reason::UpstreamBrokeOff { write: Some(Unknown::Held) })))
        }
    };
    match (claim.end(ended, With::default()).await, result) {
        (Ok(expires_at), Ok(mut response)) => {
            set_expires(&mut response, expires_at);
            Ok(response)
        }
        // Dropped unended it becomes unknown as soon as the store takes that.
        (Err(_), Ok(_)) => Err(about(Reason::OutcomeUnknown(Unknown::Held))),
        (_, refused @ Err(_)) => refused,
    }
}
