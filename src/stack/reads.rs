//! Reads, and what passes through untouched.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, StatusCode, header};

use super::{Gate, Journey};
use crate::config::checked::{Guard, QueueReads, Source};
use crate::http::refusal::Unknown;
use crate::http::timestamp::now;
use crate::http::{Body, Reason, Refusal, Request, Response, forward};
use crate::policy::admission::{self, Held};
use crate::policy::turn::{Turn, Wanted};
use crate::policy::version;
use crate::protocol::entity_tag::EntityTag;
use crate::protocol::line::Want;
use crate::protocol::record::ResourceId;
use crate::route::{self, Entry};
use crate::upstream::{Call, Failure, Idle, Kind, Tunnel};

impl Gate {
    /// `guard = "none"`: forwarded once and streamed both ways, upgrades included (F5).
    pub(super) async fn pass_through(
        self: &Arc<Self>,
        journey: &mut Journey,
        entry: &Entry,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        let is_upgrade = is_upgrade(&request);
        let on_agent = request.upgrade.take().filter(|_| is_upgrade);
        let upgrade = request.headers.get(header::UPGRADE).cloned();
        let body = std::mem::replace(&mut request.body, Body::Empty);
        let mut headers = forward::headers(&mut request);
        if let (Some(_), Some(protocol)) = (&on_agent, upgrade) {
            headers.insert(header::UPGRADE, protocol);
            headers.insert(header::CONNECTION, http::HeaderValue::from_static("upgrade"));
        }
        let kind = if crate::config::checked::is_safe(&request.method) { Kind::Read } else { Kind::Write };
        let (method, target) = (request.method.clone(), request.target.clone());
        let body_time = journey.rules.config.limits.body_time;
        let call = Call { kind, method, target, headers, body, body_time, total: None };
        let mut answer = self.send(journey, entry, call).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let Some(on_agent) = on_agent else {
            return Err(Reason::UpstreamBrokeOff { write: None }.into());
        };
        let tunnel = answer.extensions_mut().remove::<Tunnel>();
        let on_upstream = hyper::upgrade::on(&mut answer);
        request.peer.upgraded.store(true, std::sync::atomic::Ordering::Release);
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            join(on_agent, on_upstream, closing).await;
            drop(tunnel);
        });
        answer.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("upgrade"));
        Ok(answer)
    }

    /// A read: no key, no turn; with its version where the route has one (V2).
    pub(super) async fn read(
        self: &Arc<Self>,
        journey: &mut Journey,
        entry: &Entry,
        mut request: Request,
    ) -> Result<Response, Refusal> {
        let route = &entry.route;
        let (content, _held) = self.content_for_resource(journey, entry, &mut request).await?;
        journey.resource = route::resource(route, &request, &content).ok();
        let resource = journey.resource.as_deref().map(ResourceId::new);
        if let Some((resource, until)) = resource.zip(self.waits_for_change(journey, entry, &request)) {
            return Box::pin(self.read_until_changed(journey, entry, request, resource, until)).await;
        }
        self.read_once(journey, entry, request, resource).await
    }

    /// One look at a resource.
    pub(super) async fn read_once(
        &self,
        journey: &mut Journey,
        entry: &Entry,
        mut request: Request,
        resource: Option<ResourceId>,
    ) -> Result<Response, Refusal> {
        let route = &entry.route;
        // Held until the content is there: a write that began meanwhile would show half of itself.
        let quiet = match (route.queue.reads, resource) {
            (QueueReads::Wait, Some(resource)) => {
                Some(self.wait_for_quiet(journey, entry, resource, &request).await?)
            }
            _ => None,
        };
        let minted = match resource.filter(|_| route.version.source == Source::Mint) {
            // Read before the content is fetched, so that it is never newer than the content. Without a store a read
            // passes without a tag (S4).
            Some(resource) => self.store.minted(resource, now()).await.ok(),
            None => None,
        };
        let minted = minted.as_deref().and_then(EntityTag::parse);
        // A counter is the resource's whatever was asked; a body's digest or member is that of a GET alone.
        let by_hand =
            route.guard == Guard::Read && route.resource.is_some() && route.version.source == Source::Mint;
        let body = std::mem::replace(&mut request.body, Body::Empty);
        let mut headers = forward::headers(&mut request);
        let versioned = journey.resource.is_some() && has_versions(&request.method, by_hand);
        let (method, reading) = if versioned {
            let (method, reading) =
                version::prepare(&request.method, &mut headers, &route.version, minted, by_hand);
            (method, Some(reading))
        } else {
            (request.method.clone(), None)
        };
        let (kind, target) = (Kind::Read, request.target.clone());
        let body_time = journey.rules.config.limits.body_time;
        let call = Call { kind, method, target, headers, body, body_time, total: None };
        let mut answer = self.send(journey, entry, call).await?;
        if quiet.is_some() {
            answer = self.until_closing(version::in_memory(answer, &route.version)).await?;
        }
        drop(quiet);
        match reading {
            Some(reading) => self.until_closing(version::with_version(answer, reading, &route.version)).await,
            None => Ok(version::without_version(answer, &route.version)),
        }
    }

    /// A body that its resource is found in is read whole; every other one streams.
    async fn content_for_resource(
        &self,
        journey: &Journey,
        entry: &Entry,
        request: &mut Request,
    ) -> Result<(Bytes, Option<Held>), Refusal> {
        if !entry.route.resource.as_ref().is_some_and(crate::protocol::template::Template::needs_body) {
            return Ok((Bytes::new(), None));
        }
        let (limit, time) = (entry.route.limits.body, journey.rules.config.limits.body_time);
        if request.body.known_length().is_some_and(|length| length > limit as u64) {
            // Too large to be looked into: it streams (F3), and its answer has no version (R6).
            return Ok((Bytes::new(), None));
        }
        let body = std::mem::replace(&mut request.body, Body::Empty);
        let (content, held) = admission::whole(body, limit, time, &self.buffers).await?;
        request.body = Body::Full(content.clone());
        Ok((content, held))
    }

    async fn wait_for_quiet(
        &self,
        journey: &mut Journey,
        entry: &Entry,
        resource: ResourceId,
        request: &Request,
    ) -> Result<Turn, Refusal> {
        let queue = &entry.route.queue;
        let until = journey.budget.until(queue.max_wait, queue.max_wait);
        journey.wait_bound = Some(queue.max_wait);
        let name = journey.resource.as_deref().unwrap_or_default();
        let gone = request.peer.gone.as_ref();
        // Where turns are shared nobody else knows of a read that holds none, so it takes one (Q1).
        let shared = self.turns.are_shared();
        let want = if shared { Want::Write } else { Want::Read };
        let token = shared.then(|| self.keys.next_owner());
        let wanted = Wanted { want, resource, name, max_waiting: queue.max_waiting, until, gone, token };
        Ok(self.turns.take(wanted).await?)
    }

    /// Reads content as far as it is needed, until a shutdown's grace is over (O5).
    async fn until_closing(
        &self,
        content: impl Future<Output = Result<Response, crate::http::BoxError>>,
    ) -> Result<Response, Refusal> {
        tokio::select! {
            biased;
            answer = content => answer.map_err(|error| broke_off(&error)),
            () = self.closing.cancelled() => Err(Reason::ShuttingDown.into()),
        }
    }

    /// One call without a record: what fails of a read had no effect.
    pub(super) async fn send(
        &self,
        journey: &mut Journey,
        entry: &Entry,
        call: Call,
    ) -> Result<Response, Refusal> {
        let began = Instant::now();
        let write = (call.kind == Kind::Write).then_some(Unknown::Held);
        let answer = tokio::select! {
            biased;
            answer = entry.client.call(call) => answer,
            () = self.closing.cancelled() => Err(Failure::ShutDown),
        };
        journey.story.called(began);
        let reason = match answer {
            Ok(answer) => {
                journey.story.upstream_status = Some(answer.status().as_u16());
                return Ok(answer);
            }
            Err(Failure::NotSent(why)) => Reason::UpstreamUnreachable(why),
            Err(Failure::AgentBroke { sent: true } | Failure::AgentLate { sent: true })
                if write.is_some() =>
            {
                Reason::RequestBrokeOff(Unknown::Held)
            }
            Err(Failure::AgentBroke { .. }) => {
                Reason::BadRequest("The request's body broke off or is malformed.".into())
            }
            Err(Failure::AgentLate { .. }) => Reason::RequestTimeout("The request's body"),
            Err(Failure::ShutDown) if write.is_none() => Reason::ShuttingDown,
            Err(Failure::BrokeOff(_) | Failure::ShutDown) => Reason::UpstreamBrokeOff { write },
            Err(Failure::TimedOut) => Reason::UpstreamTimeout { write },
        };
        Err(reason.into())
    }
}

/// A read's answer that broke off or stopped coming: nothing was done, and it may be asked for again.
fn broke_off(error: &crate::http::BoxError) -> Refusal {
    match error.is::<Idle>() {
        true => Reason::UpstreamTimeout { write: None }.into(),
        false => Reason::UpstreamBrokeOff { write: None }.into(),
    }
}

/// Methods whose 200 has a version; on a `read` route with minted versions of a resource set by hand every one has (V2).
fn has_versions(method: &Method, by_hand: bool) -> bool {
    by_hand || matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a request asks for another protocol that may be given to it: never h2c (F5).
fn is_upgrade(request: &Request) -> bool {
    let named = |name: header::HeaderName, token: &str| {
        let mut values = request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    request.version == http::Version::HTTP_11
        && named(header::CONNECTION, "upgrade")
        && request.headers.contains_key(header::UPGRADE)
        && !named(header::UPGRADE, "h2c")
}

/// Joins both ends of another protocol until one is done.
async fn join(
    agent: hyper::upgrade::OnUpgrade,
    upstream: hyper::upgrade::OnUpgrade,
    closing: tokio_util::sync::CancellationToken,
) {
    let both = async {
        let (Ok(agent), Ok(upstream)) = tokio::join!(agent, upstream) else { return };
        let mut agent = hyper_util::rt::TokioIo::new(agent);
        let mut upstream = hyper_util::rt::TokioIo::new(upstream);
        drop(tokio::io::copy_bidirectional(&mut agent, &mut upstream).await);
    };
    tokio::select! {
        () = both => {}
        () = closing.cancelled() => {}
    }
}
