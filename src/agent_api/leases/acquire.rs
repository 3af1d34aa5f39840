//! `POST /.onceward/leases`: waits in the line of the resource's writes, and is granted in its turn (L1, L4).
//!
//! 1. Who wants the lease of one resource stands in a line of its own on this instance; only its head goes on.
//! 2. While another holds it the head waits for the end of that, outside the line of writes: its holder's pass.
//! 3. Then it takes a turn as a write does, so no write is out and no rest runs, looks again, and the lease stands with
//!    the commit that ends the record.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::super::own::{self, Entered, TRIES};
use super::asked::Asked;
use super::{MOST, PLACE, held_answer, speak_of, terms};
use crate::config::checked::Leases as Terms;
use crate::http::request::Gone;
use crate::http::timestamp::now;
use crate::http::{Executed, Reason, Refusal, Request, Response};
use crate::observe::Outcome;
use crate::policy::idempotency::{self, Claim, With};
use crate::policy::identity;
use crate::policy::lease::{self, Place};
use crate::policy::turn::{Turn, Wanted};
use crate::protocol::event::Audience;
use crate::protocol::lease::{Lease, LeaseId, Standing, token};
use crate::protocol::line::Want;
use crate::protocol::record::{Principal, ResourceId, millis};
use crate::route::Entry;
use crate::stack::{Gate, Journey, Rules};
use crate::store::CellId;

/// A net under the messages, nothing that anybody has to wait for.
const POLL: Duration = Duration::from_secs(1);
/// Word of an end comes to other instances a little later than here: at most so long one stands back, so that none is
/// always the first.
const FAIRNESS: Duration = Duration::from_millis(10);

pub(super) async fn acquire(
    gate: &Arc<Gate>,
    rules: &Rules,
    journey: &mut Journey,
    mut request: Request,
) -> Result<Response, Refusal> {
    let principal = identity::principal(&request.headers, &rules.config.identity)?;
    gate.metrics.principal(&principal);
    let Some(key) = idempotency::key(&request.headers, true)? else { return Err(Reason::MissingKey.into()) };
    let (content, _held) = own::content(gate, rules, &mut request, MOST).await?;
    let asked = Asked::read(&content)?;
    speak_of(journey, &asked.resource);
    // The record before all that may have changed since the first try (K3).
    let keyed = own::Keyed {
        principal: &principal,
        key: &key,
        fingerprint: own::print(&request, &content, &rules.config.own),
        policy: &rules.config.own,
        place: PLACE,
        resource: &asked.resource,
        gone: request.peer.gone.as_ref(),
    };
    let entered = own::enter(gate, journey, keyed).await?;
    let claim = match entered {
        Entered::Replayed(response) => return Ok(response),
        Entered::Run(claim) => claim,
    };
    let operation = claim.id.to_text();
    let granted = match terms(rules, &asked.resource) {
        Ok(terms) => {
            let wait = Wait::new(gate, journey, terms.0, &asked.resource, request.peer.gone.as_ref());
            granted(wait, principal, &asked, terms, claim, journey).await
        }
        Err(reason) => {
            claim.give_up(With::default()).await;
            Err(reason.into())
        }
    };
    granted.map_err(|refusal| refusal.about(operation))
}

/// Waits until it can be had, and has it.
async fn granted(
    wait: Wait<'_>,
    principal: Principal,
    asked: &Asked,
    (entry, terms): (&Arc<Entry>, Terms),
    claim: Claim,
    journey: &mut Journey,
) -> Result<Response, Refusal> {
    let began = Instant::now();
    let turn = wait.turn().await;
    journey.story.waited += began.elapsed();
    // Kept until it is granted or not: who comes next waits for that.
    let (_place, turn) = match turn {
        Ok(turn) => turn,
        Err(reason) => {
            claim.give_up(With::default()).await;
            return Err(reason.into());
        }
    };
    let ttl = asked.ttl.unwrap_or(terms.default_ttl).min(terms.max_ttl);
    let mut random = [0; 16];
    if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).is_err() {
        claim.give_up(With::default()).await;
        return Err(Reason::InternalError(Executed::No).into());
    }
    let grant = Grant {
        gate: Arc::clone(wait.gate),
        claim,
        turn,
        token: token(random),
        principal,
        ttl,
        most: terms.max_per_principal,
        route: Arc::clone(&entry.route.name),
        audience: entry.route.audience(),
        resource: asked.resource.clone(),
    };
    // What is committed is told, whatever its agent does meanwhile.
    let response = match wait.gate.tasks.spawn(grant.commit()).await {
        Ok(response) => response?,
        Err(_) => return Err(Reason::InternalError(Executed::No).into()),
    };
    journey.story.outcome = Outcome::Executed;
    Ok(response)
}

/// One who waits for the lease of a resource.
struct Wait<'a> {
    gate: &'a Arc<Gate>,
    resource: ResourceId,
    name: &'a str,
    max_waiting: usize,
    until: Instant,
    gone: &'a dyn Gone,
}

impl<'a> Wait<'a> {
    fn new(
        gate: &'a Arc<Gate>,
        journey: &mut Journey,
        entry: &Entry,
        name: &'a str,
        gone: &'a dyn Gone,
    ) -> Self {
        let queue = &entry.route.queue;
        journey.wait_bound = Some(queue.max_wait);
        // Without `Prefer: wait` there is none for a lease (W1).
        let until = journey.budget.until(queue.max_wait, Duration::ZERO);
        let resource = ResourceId::new(name);
        Self { gate, resource, name, max_waiting: queue.max_waiting, until, gone }
    }

    /// The turn of the resource at a moment when nobody holds it.
    async fn turn(&self) -> Result<(Place<'a>, Turn), Reason> {
        if Instant::now() >= self.until {
            // Who has no time to wait need not stand in line to be told so.
            self.look().await?.map_or(Ok(()), |held| Err(leased(&held)))?;
        }
        let leases = &self.gate.leases;
        let place = leases.join(self.resource, self.max_waiting);
        let mut place = place.map_err(|waiting| Reason::QueueFull { waiting })?;
        tokio::select! {
            biased;
            () = place.come_first() => {}
            () = tokio::time::sleep_until(self.until) => return Err(self.late().await),
            () = self.gone.gone() => return Err(self.late().await),
            () = self.gate.closing.cancelled() => return Err(Reason::ShuttingDown),
        }
        loop {
            self.until_free().await?;
            let turn = match self.gate.turns.take(self.wanted()).await {
                Ok(turn) => turn,
                // Who was before it may have got just what it waits for.
                Err(late @ Reason::QueueTimeout { .. }) => {
                    return Err(self.look().await?.map_or(late, |held| leased(&held)));
                }
                Err(reason) => return Err(reason),
            };
            if self.is_free_in(&turn).await? {
                return Ok((place, turn));
            }
        }
    }

    /// The lease that is held, if one is.
    async fn look(&self) -> Result<Option<Standing>, Reason> {
        let standing = self.gate.leases.standing(self.resource).await;
        Ok(standing.map_err(|_| Reason::StoreUnavailable)?.filter(Standing::lives))
    }

    /// Waits while somebody holds it.
    async fn until_free(&self) -> Result<(), Reason> {
        let bell = self.gate.leases.listen(self.resource);
        loop {
            let mut heard = pin!(bell.heard());
            // Before the look, so that nothing is missed in between.
            heard.as_mut().enable();
            let Some(held) = self.look().await? else { return Ok(()) };
            let _waits = self.gate.leases.waits();
            let again = (Instant::now() + held.left.min(POLL)).min(self.until);
            tokio::select! {
                biased;
                () = heard => self.stand_back().await,
                () = tokio::time::sleep_until(again) => {
                    if Instant::now() >= self.until {
                        return Err(self.late().await);
                    }
                }
                () = self.gone.gone() => return Err(leased(&held)),
                () = self.gate.closing.cancelled() => return Err(Reason::ShuttingDown),
            }
        }
    }

    /// Lets other instances hear of it, too.
    async fn stand_back(&self) {
        if self.gate.turns.are_shared() {
            tokio::time::sleep(FAIRNESS.mul_f64(fastrand::f64())).await;
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            want: Want::Write,
            resource: self.resource,
            name: self.name,
            max_waiting: self.max_waiting,
            until: self.until,
            gone: self.gone,
            // Each try is a turn of its own, for the end of the last may still be on its way to the store.
            token: self.gate.turns.are_shared().then(|| self.gate.keys.next_owner()),
        }
    }

    /// Whether nobody holds it, in a turn in which nobody else can get it.
    async fn is_free_in(&self, turn: &Turn) -> Result<bool, Reason> {
        let unavailable = |_| Reason::StoreUnavailable;
        let cell = match turn.grant() {
            Some(grant) => grant.lease.clone(),
            None => {
                let cell = self.gate.store.cell(CellId::lease(self.resource), now()).await;
                cell.map_err(unavailable)?
            }
        };
        match lease::read(cell).map_err(unavailable)? {
            None => Ok(true),
            Some(held) if held.lives() => Ok(false),
            // Its end is noted first, with what is told of it; where somebody else did so meanwhile it is looked at again.
            Some(over) => self.gate.leases.expire(&over).await.map_err(unavailable),
        }
    }

    async fn late(&self) -> Reason {
        match self.look().await {
            Ok(Some(held)) => leased(&held),
            Ok(None) => {
                Reason::QueueTimeout { resting: self.gate.turns.rests(self.resource), retry_after: 1 }
            }
            Err(reason) => reason,
        }
    }
}

fn leased(held: &Standing) -> Reason {
    Reason::Leased { seconds: held.seconds() }
}

/// A lease that is about to be granted, in its resource's turn.
struct Grant {
    gate: Arc<Gate>,
    claim: Claim,
    turn: Turn,
    token: String,
    principal: Principal,
    ttl: Duration,
    most: u32,
    route: Arc<str>,
    audience: Audience,
    resource: Box<str>,
}

impl Grant {
    /// Makes it stand, with the answer that says so. The turn ends then.
    async fn commit(mut self) -> Result<Response, Refusal> {
        match self.tries().await {
            Ok(response) => Ok(response),
            Err(reason) => {
                self.claim.give_up(With::default()).await;
                Err(reason.into())
            }
        }
    }

    async fn tries(&mut self) -> Result<Response, Reason> {
        let leases = Arc::clone(&self.gate.leases);
        let fence = match self.turn.grant() {
            Some(grant) => grant.fence,
            None => leases.next_fence().await.map_err(|_| Reason::StoreUnavailable)?,
        };
        let id = LeaseId::of(self.token.as_bytes()).ok_or(Reason::InternalError(Executed::No))?;
        let lease = Lease {
            id,
            principal: self.principal,
            fence,
            asked: millis(self.ttl),
            route: Arc::clone(&self.route),
            audience: self.audience,
            resource: self.resource.clone(),
        };
        for _ in 0..TRIES {
            let (cells, event) = leases.granting(&lease, self.most).await?;
            let made = held_answer(StatusCode::CREATED, &self.token, &self.resource, fence, self.ttl);
            let with = With { cells, event, ..With::default() };
            let granted = made.commit(&self.gate, Some(&mut self.claim), with).await;
            // Otherwise its principal got or gave back another lease just now.
            if let Some(response) = granted.map_err(idempotency::unavailable)? {
                return Ok(response);
            }
        }
        Err(Reason::StoreUnavailable)
    }
}
