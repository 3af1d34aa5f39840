//! `/.onceward/leases`: an agent's own hold on a resource for a time (L1).

mod acquire;
mod asked;
mod held;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::asked::parameter;
use super::operations::time;
use super::own::Made;
use super::{allowed, json as answer_json};
use crate::config::checked::Leases as Terms;
use crate::http::problem::quoted;
use crate::http::timestamp::{millis, now};
use crate::http::{Reason, Refusal, Request, Response};
use crate::protocol::path::normal_resource;
use crate::protocol::record::{Millis, ResourceId};
use crate::route::Entry;
use crate::stack::{Gate, Journey, Rules};

/// Where records of these requests say that they are from.
const PLACE: &str = "/.onceward/leases";
/// The largest body: a resource's name and a little more.
const MOST: usize = 64 * 1024;

/// `/.onceward/leases`.
pub(super) async fn all(
    gate: &Arc<Gate>,
    rules: &Rules,
    journey: &mut Journey,
    request: Request,
) -> Result<Response, Refusal> {
    match request.method {
        Method::POST => {
            open(gate)?;
            acquire::acquire(gate, rules, journey, request).await
        }
        Method::GET | Method::HEAD => show(gate, rules, journey, &request).await,
        _ => Err(allowed("GET, HEAD, POST")),
    }
}

/// `/.onceward/leases/{lease}`.
pub(super) async fn one(
    gate: &Arc<Gate>,
    rules: &Rules,
    journey: &mut Journey,
    request: Request,
    token: &str,
) -> Result<Response, Refusal> {
    let wish = match request.method {
        Method::PUT => held::Wish::Renew(None),
        Method::DELETE => held::Wish::GiveBack,
        _ => return Err(allowed("DELETE, PUT")),
    };
    open(gate)?;
    held::change(gate, rules, journey, request, token, wish).await
}

/// Nothing is begun in a shutdown (O5).
fn open(gate: &Gate) -> Result<(), Refusal> {
    match gate.draining.load(Ordering::Acquire) {
        true => Err(Reason::ShuttingDown.into()),
        false => Ok(()),
    }
}

/// `GET /.onceward/leases?resource=`: who asks is told whether it is held, and never by whom.
async fn show(
    gate: &Gate,
    rules: &Rules,
    journey: &mut Journey,
    request: &Request,
) -> Result<Response, Refusal> {
    let name = resource(&parameter(request.target.query(), "resource")?)?;
    speak_of(journey, &name);
    terms(rules, &name)?;
    let standing = gate.leases.standing(ResourceId::new(&name)).await;
    let standing = standing.map_err(|_| Reason::StoreUnavailable)?.filter(|standing| standing.lives());
    let fence = standing.as_ref().map(|standing| standing.lease.fence);
    let expires_at = standing.as_ref().map(|standing| time(now().saturating_add(millis(standing.left))));
    let held = standing.is_some();
    Ok(answer_json(&json!({"resource": name, "held": held, "fence": fence, "expires_at": expires_at})))
}

/// A resource that an agent names, in its one spelling (R5).
fn resource(name: &str) -> Result<Box<str>, Reason> {
    /// As long as one can be that a route gives.
    const LONGEST: usize = 8192;
    if name.is_empty() || name.len() > LONGEST {
        let what = format!("A resource has 1 to {LONGEST} bytes, and this one has {}.", name.len());
        return Err(Reason::BadRequest(what));
    }
    let normal = normal_resource(name).map_err(|problem| Reason::BadRequest(problem.to_string()))?;
    Ok(normal.into())
}

/// What refusals and the answer speak of.
fn speak_of(journey: &mut Journey, resource: &str) {
    journey.resource = Some(resource.into());
    journey.about = Some(("lease of", resource.into()));
}

/// The route whose writes a lease of this resource keeps back, and what it says of leases.
fn terms<'a>(rules: &'a Rules, resource: &str) -> Result<(&'a Arc<Entry>, Terms), Reason> {
    let found = rules.table.of_lease(resource).and_then(|entry| Some((entry, entry.route.leases?)));
    found.ok_or_else(|| {
        // A lease that keeps nobody back is none, and a misspelled name would be one.
        let name = quoted(resource);
        Reason::NotFound(format!(
            "No route with leases writes to {name}, so a lease of it would protect nothing. Take the resource from \
             the Onceward-Resource header of a read or write of it."
        ))
    })
}

/// A lease as its holder is told of it.
fn held_answer(status: StatusCode, token: &str, resource: &str, fence: u64, ttl: Duration) -> Made {
    let expires_at: Millis = now().saturating_add(millis(ttl));
    let content: Value =
        json!({"lease": token, "resource": resource, "fence": fence, "expires_at": time(expires_at)});
    Made { status, content: Some(content) }
}
