//! `PUT` and `DELETE /.onceward/leases/{lease}`: a lease is renewed, or given back (L1). Both may be sent again.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::super::own::{self, Entered, Made, TRIES};
use super::{MOST, PLACE, asked, held_answer, speak_of, terms};
use crate::http::{Executed, Reason, Refusal, Request, Response};
use crate::observe::Outcome;
use crate::policy::idempotency::{self, Claim, With};
use crate::policy::identity;
use crate::policy::lease::Found;
use crate::protocol::lease::{Hold, LeaseId, Told};
use crate::protocol::record::Principal;
use crate::stack::{Gate, Journey, Rules};
use crate::store::{Event, Put};

/// What a holder wants.
#[derive(Clone, Copy)]
pub(super) enum Wish {
    /// For so long from now; `None`: as long as it was asked for last.
    Renew(Option<Duration>),
    GiveBack,
}

/// What is to be done, with what is told of it.
type Step = (Made, Vec<Put>, Option<Event>);

pub(super) async fn change(
    gate: &Arc<Gate>,
    rules: &Rules,
    journey: &mut Journey,
    mut request: Request,
    token: &str,
    wish: Wish,
) -> Result<Response, Refusal> {
    let principal = identity::principal(&request.headers, &rules.config.identity)?;
    gate.metrics.principal(&principal);
    let key = idempotency::key(&request.headers, false)?;
    let (content, _held) = own::content(gate, rules, &mut request, MOST).await?;
    let wish = match wish {
        Wish::Renew(_) => Wish::Renew(asked::ttl(&content)?),
        Wish::GiveBack => Wish::GiveBack,
    };
    let id = LeaseId::of(token.as_bytes()).ok_or_else(nothing)?;
    let claim = match &key {
        None => None,
        Some(key) => {
            let keyed = own::Keyed {
                principal: &principal,
                key,
                fingerprint: own::print(&request, &content, &rules.config.own),
                policy: &rules.config.own,
                place: PLACE,
                resource: PLACE,
                gone: request.peer.gone.as_ref(),
            };
            match own::enter(gate, journey, keyed).await? {
                Entered::Replayed(response) => return Ok(response),
                Entered::Run(claim) => Some(claim),
            }
        }
    };
    let operation = claim.as_ref().map(|claim| claim.id);
    let (gate, rules) = (Arc::clone(gate), Arc::clone(&journey.rules));
    let tasks = gate.tasks.clone();
    let change = Change { gate, rules, principal, id, token: token.to_owned(), wish, claim, resource: None };
    // What is committed is told, whatever its agent does meanwhile.
    let (result, resource) = match tasks.spawn(change.run()).await {
        Ok(changed) => changed,
        Err(_) => (Err(Reason::InternalError(Executed::Unknown)), None),
    };
    match result {
        Ok(response) => {
            journey.story.outcome = Outcome::Executed;
            Ok(response)
        }
        Err(reason) => {
            // Only then: a replay does not know it, and has the same fields (K7).
            if let Some(resource) = &resource {
                speak_of(journey, resource);
            }
            let refusal = Refusal::from(reason);
            Err(match operation {
                Some(operation) => refusal.about(operation.to_text()),
                None => refusal,
            })
        }
    }
}

/// The same for what never was and for what is another's (I2).
fn nothing() -> Reason {
    Reason::NotFound(
        "No lease of this name is known, or it ended long ago. Check it, and the credentials that it was acquired \
         with."
            .to_owned(),
    )
}

struct Change {
    gate: Arc<Gate>,
    rules: Arc<Rules>,
    principal: Principal,
    id: LeaseId,
    token: String,
    wish: Wish,
    claim: Option<Claim>,
    /// What the lease is of, once that is known to be the principal's own.
    resource: Option<Box<str>>,
}

impl Change {
    async fn run(mut self) -> (Result<Response, Reason>, Option<Box<str>>) {
        let result = self.tries().await;
        if let (Err(_), Some(claim)) = (&result, self.claim.take()) {
            claim.give_up(With::default()).await;
        }
        (result, self.resource)
    }

    async fn tries(&mut self) -> Result<Response, Reason> {
        for _ in 0..TRIES {
            let found =
                self.gate.leases.find(self.id, &self.principal).await.map_err(idempotency::unavailable)?;
            if found.hold != Hold::Never {
                self.resource = found.named.as_ref().map(|named| named.resource.clone());
            }
            let (made, cells, event) = match self.wish {
                Wish::Renew(ttl) => self.renewal(&found, ttl)?,
                Wish::GiveBack => self.end(&found).await?,
            };
            let with = With { cells, event, ..With::default() };
            let done = made.commit(&self.gate, self.claim.as_mut(), with).await;
            // Otherwise it was changed just now.
            if let Some(response) = done.map_err(idempotency::unavailable)? {
                return Ok(response);
            }
        }
        Err(Reason::StoreUnavailable)
    }

    fn renewal(&self, found: &Found, ttl: Option<Duration>) -> Result<Step, Reason> {
        let standing = match (found.hold, &found.standing) {
            (Hold::Lives, Some(standing)) => standing,
            (Hold::Never, _) => return Err(nothing()),
            (Hold::Lives | Hold::RanOut | Hold::Ended, _) => return Err(Reason::LeaseLost),
        };
        let lease = &standing.lease;
        let (_, terms) = terms(&self.rules, &lease.resource)?;
        let ttl = ttl.unwrap_or(Duration::from_millis(lease.asked)).min(terms.max_ttl);
        let (cells, event) = self.gate.leases.renewing(standing, ttl);
        let made = held_answer(StatusCode::OK, &self.token, &lease.resource, lease.fence, ttl);
        Ok((made, cells, event))
    }

    async fn end(&self, found: &Found) -> Result<Step, Reason> {
        let made = Made { status: StatusCode::NO_CONTENT, content: None };
        let what = match found.hold {
            Hold::Lives => Told::Released,
            Hold::RanOut => Told::Expired,
            Hold::Ended => return Ok((made, Vec::new(), None)),
            Hold::Never => return Err(nothing()),
        };
        let Some(standing) = &found.standing else { return Ok((made, Vec::new(), None)) };
        let ending = self.gate.leases.ending_found(standing, found, what).await;
        let (cells, event) = ending.map_err(idempotency::unavailable)?;
        Ok((made, cells, event))
    }
}
