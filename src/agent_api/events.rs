//! `GET /.onceward/events`: what happens to resources, as it happens (E1).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::only;
use crate::config::checked::Events;
use crate::http::problem::quoted;
use crate::http::timestamp::{millis, now};
use crate::http::{Body, BoxError, Reason, Refusal, Request, Response};
use crate::policy::identity;
use crate::protocol::event::{Event, Kind};
use crate::protocol::path::NormalPath;
use crate::route::form_decoded;
use crate::stack::hub::{Filter, Seat, place_of, shown_place};
use crate::stack::{Gate, Rules};
use crate::store::Place;

/// The field by which a reader resumes.
const LAST_EVENT_ID: &str = "last-event-id";
/// Events that stand in a reader's line before it is cut off.
const LINE: usize = 256;
/// Events that are there together go out together, up to about this size.
const BURST: usize = 64 * 1024;

/// Opens a stream.
pub(super) async fn stream(gate: &Arc<Gate>, rules: &Rules, request: &Request) -> Result<Response, Refusal> {
    only(request, &[Method::GET], "GET")?;
    if gate.hub.is_closed() {
        return Err(Reason::ShuttingDown.into());
    }
    let filter = filter(request, rules)?;
    let last = last_event_id(&request.headers)?;
    let settings = &rules.config.events;
    let seat = gate.hub.seat(settings.readers);
    let mut seat = seat.ok_or(Reason::TooBusy("Too many readers of events are connected"))?;
    let end = gate.store.last_event().await.map_err(|_| Reason::StoreUnavailable)?;
    gate.hub.follow(end);
    let at = match last {
        Some(id) => held(gate, settings, &id, end).await?,
        None => end,
    };
    let (line, receiver) = mpsc::channel(LINE);
    let reader = seat.reader(filter, line);
    let (hub, store) = (Arc::clone(&gate.hub), Arc::clone(&gate.store));
    gate.tasks.spawn(async move { reader.catch_up(&hub, &*store, at).await });
    let stream = Stream {
        // Where it begins: who is cut off before the first event misses nothing either.
        next: Some(format!("id: {}\n\n", shown_place(at)).into()),
        line: receiver,
        ended: false,
        epoch: at.epoch,
        heartbeat: settings.heartbeat,
        sent: Instant::now(),
        alarm: Box::pin(tokio::time::sleep(settings.heartbeat)),
        seat,
    };
    let mut response = Response::new(Body::stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What the query asks for: `resource` and `type`, each any number of times.
fn filter(request: &Request, rules: &Rules) -> Result<Filter, Refusal> {
    let principal = identity::principal(&request.headers, &rules.config.identity)?;
    let mut resources: Vec<Box<str>> = Vec::new();
    let mut kinds = Vec::new();
    let query = request.target.query().unwrap_or_default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (form_decoded(name), form_decoded(value)) else {
            return Err(bad(format!("{} in the query cannot be decoded.", quoted(pair))));
        };
        match &*name {
            "resource" if value.is_empty() => {
                return Err(bad(
                    "The parameter resource is empty; leave it out for all resources.".to_owned()
                ));
            }
            "resource" => {
                // As the writes name it; and an alias of a path is that path (R5).
                let path = Some(&*value).filter(|value| value.starts_with('/'));
                let path = path.and_then(|path| NormalPath::parse(path).ok());
                resources.extend(path.map(|path| path.as_str().into()));
                resources.push(value.into());
            }
            "type" => kinds.push(kind(&value)?),
            _ => {
                let name = quoted(&name);
                return Err(bad(format!("There is no parameter {name}: these are resource and type.")));
            }
        }
    }
    resources.sort_unstable();
    resources.dedup();
    let resources = (!resources.is_empty()).then(|| resources.into());
    Ok(Filter { principal, resources, kinds })
}

fn kind(name: &str) -> Result<Kind, Refusal> {
    Kind::named(name).ok_or_else(|| {
        bad("The type is none of onceward.changed, .conflict and .unknown, and of onceward.lease.granted, .renewed, \
             .released, .expired and .broken."
            .to_owned())
    })
}

fn bad(what: String) -> Refusal {
    Reason::BadRequest(what).into()
}

/// What to resume behind. An empty one is none: so readers say it that have seen no event.
fn last_event_id(headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
    let mut lines = headers.get_all(LAST_EVENT_ID).iter();
    let first = lines.next().filter(|line| !line.is_empty());
    match lines.next() {
        Some(_) => Err(bad("The Last-Event-ID header stands more than once in the request.".to_owned())),
        None => Ok(first.cloned()),
    }
}

/// The place of an id, where all that follows it is still held, as far as `[events]` says.
///
/// `end`: of the log.
async fn held(gate: &Gate, settings: &Events, id: &HeaderValue, end: Place) -> Result<Place, Reason> {
    let place = id.to_str().ok().and_then(place_of).ok_or(Reason::Gone)?;
    let missed = end.number.checked_sub(place.number).ok_or(Reason::Gone)?;
    if place.epoch != end.epoch || missed > settings.history as u64 {
        return Err(Reason::Gone);
    }
    let next = gate.store.events(place, 1, now()).await.map_err(|_| Reason::StoreUnavailable)?;
    let next = next.ok_or(Reason::Gone)?;
    let told = next.first().and_then(|event| Event::decode(event)).map(|event| event.at);
    if told.is_some_and(|at| at.saturating_add(millis(settings.ttl)) < now()) {
        return Err(Reason::Gone);
    }
    Ok(place)
}

/// What one reader gets.
struct Stream {
    /// What goes out before anything else.
    next: Option<Bytes>,
    line: mpsc::Receiver<Bytes>,
    /// Its last word is said.
    ended: bool,
    epoch: u64,
    heartbeat: Duration,
    sent: Instant,
    /// One for the stream's life: it is set anew only when it rings.
    alarm: Pin<Box<Sleep>>,
    /// Given back with the stream.
    seat: Seat,
}

/// What a stream ends with where it is not the reader that ended it.
const LAST_WORD: &[u8] = b": this stream ends here; resume it with Last-Event-ID\n\n";

impl Stream {
    /// With all that is there, so that it is one write.
    fn burst(&mut self, first: Bytes) -> Bytes {
        let Ok(second) = self.line.try_recv() else { return first };
        let mut all = BytesMut::from(&*first);
        all.extend_from_slice(&second);
        while all.len() < BURST {
            let Ok(more) = self.line.try_recv() else { break };
            all.extend_from_slice(&more);
        }
        all.freeze()
    }

    /// Shows that the stream lives, and how far it is: a reader of what seldom happens would else resume from where
    /// nothing is held any more. `has`: from before its line was found empty.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>, has: Option<u64>) -> Poll<Bytes> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let (now, due) = (Instant::now(), self.sent + self.heartbeat);
            if now < due {
                self.alarm.as_mut().reset(due);
                continue;
            }
            self.alarm.as_mut().reset(now + self.heartbeat);
            return Poll::Ready(match has {
                Some(number) => {
                    let place = shown_place(Place { epoch: self.epoch, number });
                    format!(": heartbeat\nid: {place}\n\n").into()
                }
                None => Bytes::from_static(b": heartbeat\n\n"),
            });
        }
        Poll::Pending
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let has = this.seat.has();
        let text = match this.next.take() {
            Some(next) => next,
            None => match this.line.poll_recv(cx) {
                Poll::Ready(Some(first)) => this.burst(first),
                Poll::Ready(None) => {
                    this.ended = true;
                    Bytes::from_static(LAST_WORD)
                }
                Poll::Pending => std::task::ready!(this.poll_heartbeat(cx, has)),
            },
        };
        this.sent = Instant::now();
        Poll::Ready(Some(Ok(Frame::data(text))))
    }
}
