//! Tasks from any upstream's list: it is read while somebody waits, and told by a call of its own that one is done.
//!
//! 1. One read of the list serves all who wait at that moment, and what is left of it those who come within `poll`.
//! 2. The upstream knows nothing of claims: what an agent has is still in the list, and left out here.
//! 3. A task that was given up stays in the list, and is remembered as long as it does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use tokio::time::Instant as Deadline;

use super::Ground;
use crate::config::checked::{HttpTasks, TaskDone};
use crate::http::Body;
use crate::protocol::json::{self, Document};
use crate::queues::source::{
    All, Busy, Content, Dead, Identity, LONGEST_IDENTITY, Offer, PATIENCE, Source, SourceError, Taken, Told,
    Work,
};
use crate::upstream::{Call, Failure, Kind, Upstreams, collect};

/// A list that was read so long ago says what is in it now.
const FRESH: Duration = Duration::from_millis(100);

pub(super) fn open(settings: &HttpTasks, upstreams: &Arc<Upstreams>, ground: &Ground) -> Arc<dyn Source> {
    let (upstreams, queue) = (Arc::clone(upstreams), Arc::clone(&ground.queue));
    Arc::new(List { settings: settings.clone(), upstreams, queue, last: tokio::sync::Mutex::default() })
}

struct List {
    settings: HttpTasks,
    upstreams: Arc<Upstreams>,
    queue: Arc<str>,
    /// Whoever reads holds it: the others take what was read.
    last: tokio::sync::Mutex<Option<Arc<Read>>>,
}

/// The list, as it was read.
struct Read {
    asked: Instant,
    came: Instant,
    items: Vec<(Identity, Box<str>)>,
}

impl List {
    /// The list: as it was read within `poll`, or anew.
    async fn list(&self, anew: bool) -> Result<Arc<Read>, SourceError> {
        let wanted = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(read) = last.as_ref() {
            let fresh = if anew { read.asked >= wanted } else { read.came.elapsed() < self.settings.poll };
            if fresh {
                return Ok(Arc::clone(read));
            }
        }
        *last = None;
        let read = Arc::new(self.read().await?);
        *last = Some(Arc::clone(&read));
        Ok(read)
    }

    async fn read(&self) -> Result<Read, SourceError> {
        let asked = Instant::now();
        let answer = self.call(Kind::Read, Method::GET, &self.settings.list, None).await?;
        let (status, body) = answer;
        if status != StatusCode::OK {
            return Err(SourceError::NotDone(format!("its list came with status {}", status.as_u16())));
        }
        let document = Document::parse(&body).map_err(|_| no_list("no JSON"))?;
        let texts =
            document.items_at(&self.settings.items).ok_or_else(|| no_list("no array at queues.items"))?;
        let mut items = Vec::with_capacity(texts.len());
        let mut nameless = 0;
        for text in texts {
            let identity = json::pointer_text(text.as_bytes(), &self.settings.id);
            match identity.filter(|id| !id.is_empty() && id.len() <= LONGEST_IDENTITY) {
                Some(identity) => items.push((identity.into(), text.into())),
                None => nameless += 1,
            }
        }
        if nameless > 0 {
            tracing::warn!(queue = %self.queue, nameless, "tasks without a usable queues.id are left out");
        }
        Ok(Read { asked, came: Instant::now(), items })
    }

    async fn call(
        &self,
        kind: Kind,
        method: Method,
        target: &str,
        body: Option<String>,
    ) -> Result<(StatusCode, bytes::Bytes), SourceError> {
        let target = target.parse().map_err(|_| SourceError::NotDone("its target is none".to_owned()))?;
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(self.settings.authority.as_str());
        headers.extend(host.ok().map(|host| (header::HOST, host)));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &self.settings.headers {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let until = Deadline::now() + PATIENCE;
        let body = body.map_or(Body::Empty, Body::text);
        let call = Call { kind, method, target, headers, body, body_time: PATIENCE, total: Some(PATIENCE) };
        // Looked up each time: its routes may have come to another bound since (C3).
        let client = self.upstreams.client(&self.settings.authority, self.settings.limits);
        let answer = tokio::time::timeout_at(until, async {
            let answer = client.call(call).await.map_err(failed)?;
            let (head, body) = answer.into_parts();
            let broke = |_| SourceError::Unsure("its answer broke off".to_owned());
            let body = collect(body, self.settings.max_list).await.map_err(broke)?;
            let body = body.ok_or_else(|| no_list("larger than version.max_body"))?;
            Ok((head.status, body))
        });
        answer.await.unwrap_or_else(|_| Err(SourceError::Unsure("it did not answer in time".to_owned())))
    }

    async fn finish(&self, done: &TaskDone, identity: &str) -> Result<Told, SourceError> {
        let target = done.target.replace("{id}", &percent_encoded(identity));
        let body = done.body.as_ref().map(|body| body.replace("{id}", &json_inside(identity)));
        let (status, _) = self.call(Kind::Write, done.method.clone(), &target, body).await?;
        match status.as_u16() {
            // What is not there any more is done too.
            200..=299 | 404 | 410 => Ok(Told::Yes),
            status => Err(SourceError::NotDone(format!("its done call came back with status {status}"))),
        }
    }
}

fn no_list(why: &str) -> SourceError {
    SourceError::NotDone(format!("its list is {why}"))
}

fn failed(failure: Failure) -> SourceError {
    match failure {
        Failure::NotSent(why) => SourceError::NotDone(why),
        Failure::BrokeOff(why) => SourceError::Unsure(why),
        Failure::TimedOut => SourceError::Unsure("it did not answer in time".to_owned()),
        Failure::AgentBroke { .. } | Failure::AgentLate { .. } | Failure::ShutDown => {
            SourceError::NotDone("Onceward stops".to_owned())
        }
    }
}

/// An identity as one segment of a path.
fn percent_encoded(identity: &str) -> String {
    let mut text = String::with_capacity(identity.len());
    for byte in identity.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// An identity between the quotes of a JSON string.
fn json_inside(identity: &str) -> String {
    let quoted = serde_json::Value::from(identity).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

impl Source for List {
    fn take<'a>(&'a self, most: usize, busy: &'a dyn Busy) -> Work<'a, Result<Taken, SourceError>> {
        Box::pin(async move {
            let began = Instant::now();
            let mut read = self.list(false).await?;
            let free = |read: &Read| read.items.iter().any(|(identity, _)| !busy.is_busy(identity));
            if !free(&read) && read.came + FRESH.min(self.settings.poll) < began {
                // What was left of the last one is taken.
                read = self.list(true).await?;
            }
            let free = read.items.iter().filter(|(identity, _)| !busy.is_busy(identity));
            let offers = free.take(most).map(|(identity, text)| Offer {
                identity: Identity::clone(identity),
                content: Content::Json(text.clone()),
                asked: read.asked,
                hold: None,
            });
            let offers = offers.collect();
            // Once for each time that it was read.
            let all = (read.asked >= began).then(|| All {
                asked: read.asked,
                identities: read.items.iter().map(|(identity, _)| Identity::clone(identity)).collect(),
            });
            Ok(Taken { offers, all })
        })
    }

    fn wake(&self) -> Work<'_, ()> {
        Box::pin(tokio::time::sleep(self.settings.poll))
    }

    fn back<'a>(&'a self, _: &'a str) -> Work<'a, ()> {
        Box::pin(async {})
    }

    fn is_told(&self) -> bool {
        // What is done may stand in the list for a while.
        false
    }

    fn done<'a>(&'a self, identity: &'a str) -> Work<'a, Result<Told, SourceError>> {
        Box::pin(async move {
            match &self.settings.done {
                Some(done) => self.finish(done, identity).await,
                None => Ok(Told::Yes),
            }
        })
    }

    fn dead<'a>(&'a self, _: &'a Dead) -> Work<'a, Result<Told, SourceError>> {
        Box::pin(async { Ok(Told::Yes) })
    }

    fn has<'a>(&'a self, identity: &'a str) -> Work<'a, Result<bool, SourceError>> {
        Box::pin(async move {
            let read = self.list(false).await?;
            Ok(read.items.iter().any(|(other, _)| **other == *identity))
        })
    }
}
