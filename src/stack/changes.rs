//! A read that waits for a change (E2).
//!
//! It looks, and where nothing has changed it waits for word of a write of the resource, and looks again. A change that
//! was made past Onceward nobody tells of: a last look, when the wait is over, finds it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, header};
use tokio::time::Instant;

use super::{Gate, Journey, Rules};
use crate::config::checked::{EventsOf, Guard, Route, Source};
use crate::http::{Body, Refusal, Request, Response, forward};
use crate::protocol::record::ResourceId;
use crate::route::Entry;

/// How often a look is taken where other instances write without a word.
const LOOK: Duration = Duration::from_secs(1);

impl Gate {
    /// Until when a read waits for a change; `None`: it does not.
    pub(super) fn waits_for_change(
        &self,
        journey: &Journey,
        entry: &Entry,
        request: &Request,
    ) -> Option<Instant> {
        let asks = request.method == Method::GET
            && request.headers.contains_key(header::IF_NONE_MATCH)
            && entry.route.version.source != Source::None
            && matches!(request.body, Body::Empty);
        if !asks {
            return None;
        }
        // Nobody waits longer than what is told is held.
        journey.budget.waits_until(journey.rules.config.events.ttl, Duration::ZERO)
    }

    /// Answers as soon as the version is another than the agent has, else when the wait is over.
    pub(super) async fn read_until_changed(
        &self,
        journey: &mut Journey,
        entry: &Entry,
        mut request: Request,
        resource: ResourceId,
        until: Instant,
    ) -> Result<Response, Refusal> {
        let Some(seat) = self.hub.seat(journey.rules.config.events.readers) else {
            // A preference may be passed over (RFC 7240 §2), and then nothing is said of it.
            return self.read_once(journey, entry, request, Some(resource)).await;
        };
        forward::used_up_wait(&mut request.headers);
        let wait = self.hub.wait(seat, resource);
        let rules = Arc::clone(&journey.rules);
        let looks = self.store.shared().is_some() && writes_without_a_word(&rules);
        loop {
            self.follow().await;
            // Before the look, so that no change is missed in between.
            let mut heard = pin!(wait.heard());
            heard.as_mut().enable();
            let answer = self.read_once(journey, entry, again(&request), Some(resource)).await?;
            journey.wait_bound = Some(rules.config.events.ttl);
            let is_over = Instant::now() >= until || self.hub.is_closed();
            if answer.status() != StatusCode::NOT_MODIFIED || is_over {
                return Ok(answer);
            }
            let next = if looks { until.min(Instant::now() + LOOK) } else { until };
            tokio::select! {
                () = heard => {}
                () = tokio::time::sleep_until(next) => {}
                // Nobody is there to be answered.
                () = request.peer.gone.gone() => return Ok(answer),
            }
        }
    }

    /// Sees to it that the log of events is followed. Where the store cannot be asked nobody is woken, and the last look
    /// is left.
    async fn follow(&self) {
        if !self.hub.is_following()
            && let Ok(end) = self.store.last_event().await
        {
            self.hub.follow(end);
        }
    }
}

/// Whether something is written of which nothing is told: on this instance a wait is woken all the same.
fn writes_without_a_word(rules: &Rules) -> bool {
    let silent = |route: &Route| {
        route.events == EventsOf::Off && route.guard != Guard::Read && !route.passes_through()
    };
    rules.config.routes.iter().any(|route| silent(route))
}

/// The same read once more.
fn again(request: &Request) -> Request {
    Request {
        method: request.method.clone(),
        version: request.version,
        target: request.target.clone(),
        normal: request.normal.clone(),
        host: request.host.clone(),
        headers: request.headers.clone(),
        body: Body::Empty,
        upgrade: None,
        peer: Arc::clone(&request.peer),
    }
}
