//! Reading a resource's version from its upstream (V1).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use http_body_util::BodyExt;

use super::CONDITIONAL;
use crate::config::checked::{Source, Version};
use crate::http::{Body, Reason, Response};
use crate::protocol::entity_tag::EntityTag;
use crate::protocol::json;
use crate::upstream::{Call, Client, Failure, Kind};

/// What reads the version of one write's resource.
pub struct Probe<'a> {
    pub client: &'a Arc<Client>,
    pub version: &'a Version,
    /// The write's own target, or the rendered `version.probe`.
    pub target: PathAndQuery,
    /// What the write sends upstream.
    pub headers: &'a HeaderMap,
}

/// What there is.
pub enum Current {
    /// A resource with this version; its body where it was asked for and is small enough.
    Tag(EntityTag, Option<Bytes>),
    /// 404 or 410: there is none.
    Nothing,
    /// 401 or 403: this is the agent's answer.
    GivenOn(Response),
}

/// Fields of a write that say something of its content or of its own delivery, and nothing of what it asks for.
fn is_of_the_write(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("content-")
        || matches!(name, "idempotency-key" | "prefer" | "expect" | "transfer-encoding" | "onceward-fence")
        || CONDITIONAL.iter().any(|conditional| conditional.as_str() == name)
}

impl Probe<'_> {
    fn call(&self, method: Method) -> Call {
        let mut headers: HeaderMap = self
            .headers
            .iter()
            .filter(|(n, _)| !is_of_the_write(n))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        if let Some(accept) = &self.version.accept {
            headers.insert(header::ACCEPT, accept.clone());
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Call {
            kind: Kind::Read,
            method,
            target: self.target.clone(),
            headers,
            body: Body::Empty,
            body_time: Duration::ZERO,
            total: None,
        }
    }

    async fn send(&self, method: Method) -> Result<Response, Reason> {
        // Boxed: most writes ask nothing, and every write would be as large as one that does.
        Box::pin(self.client.call(self.call(method))).await.map_err(|failure| match failure {
            Failure::NotSent(why) => Reason::UpstreamUnreachable(why),
            Failure::BrokeOff(why) => Reason::VersionUnavailable(why),
            Failure::TimedOut => Reason::VersionUnavailable("it did not answer in time".to_owned()),
            Failure::AgentBroke { .. } | Failure::AgentLate { .. } | Failure::ShutDown => {
                Reason::ShuttingDown
            }
        })
    }

    /// The current version by this route's source.
    ///
    /// # Errors
    /// 502 `version-unavailable` or `upstream-unreachable`.
    pub async fn current(&self) -> Result<Current, Reason> {
        // A turn waits for it, so it must end even where its bytes do not.
        let read = tokio::time::timeout(self.client.total(), self.read());
        read.await.map_err(|_| Reason::VersionUnavailable("it did not end in time".to_owned()))?
    }

    async fn read(&self) -> Result<Current, Reason> {
        match &self.version.source {
            Source::Etag => self.by_etag().await,
            Source::Hash | Source::Field(_) => self.by_body().await,
            Source::Mint | Source::Upstream | Source::None => self.existence().await,
        }
    }

    /// Whether there is something, without its version: the tag is a stand-in that matches nothing.
    async fn existence(&self) -> Result<Current, Reason> {
        let answer = self.head_or_get().await?;
        match outcome(answer)? {
            Ok(_) => Ok(Current::Tag(EntityTag::from_value("").ok_or_else(no_tag)?, None)),
            Err(other) => Ok(other),
        }
    }

    /// HEAD, and GET where HEAD is refused. A 401 or 403 is the agent's answer (V1), and to HEAD it has no content.
    async fn head_or_get(&self) -> Result<Response, Reason> {
        let answer = self.send(Method::HEAD).await?;
        match answer.status() {
            StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN => self.send(Method::GET).await,
            _ => Ok(answer),
        }
    }

    async fn by_etag(&self) -> Result<Current, Reason> {
        let answer = if self.version.include_current {
            self.send(Method::GET).await?
        } else {
            self.head_or_get().await?
        };
        let answer = match outcome(answer)? {
            Ok(answer) => answer,
            Err(other) => return Ok(other),
        };
        let tag = strong_tag(answer.headers()).ok_or_else(no_tag)?;
        let body = if self.version.include_current { self.small(answer.into_body()).await } else { None };
        Ok(Current::Tag(tag, body))
    }

    async fn by_body(&self) -> Result<Current, Reason> {
        let answer = match outcome(self.send(Method::GET).await?)? {
            Ok(answer) => answer,
            Err(other) => return Ok(other),
        };
        if let Source::Field(pointer) = &self.version.source {
            let body = self.small(answer.into_body()).await.ok_or_else(too_large)?;
            let tag = field_tag(&body, pointer).ok_or_else(|| no_field(pointer))?;
            return Ok(Current::Tag(tag, Some(body)));
        }
        self.digest(answer.into_body()).await
    }

    /// Digests as it reads, whatever the size; keeps the body too where it is wanted and small.
    async fn digest(&self, mut body: Body) -> Result<Current, Reason> {
        // Boxed: it is the size of everything else that a write keeps while it waits.
        let mut hasher = Box::new(blake3::Hasher::new());
        let mut kept = self.version.include_current.then(Vec::new);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Reason::VersionUnavailable(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            hasher.update(&data);
            if let Some(bytes) = &mut kept {
                bytes.extend_from_slice(&data);
            }
            if kept.as_ref().is_some_and(|bytes| bytes.len() > self.version.max_body) {
                kept = None;
            }
        }
        let tag = digest_tag(&hasher).ok_or_else(no_tag)?;
        Ok(Current::Tag(tag, kept.map(Bytes::from)))
    }

    /// What is there now, for a refusal that shows it (V6); `None` where it is gone or large.
    pub async fn body(&self) -> Option<Bytes> {
        let read = async {
            let answer =
                self.send(Method::GET).await.ok().filter(|answer| answer.status() == StatusCode::OK)?;
            self.small(answer.into_body()).await
        };
        tokio::time::timeout(self.client.total(), read).await.ok().flatten()
    }

    async fn small(&self, body: Body) -> Option<Bytes> {
        crate::upstream::collect(body, self.version.max_body).await.ok().flatten()
    }
}

/// A 200 goes on, and everything else is what V1 says of it.
fn outcome(answer: Response) -> Result<Result<Response, Current>, Reason> {
    match answer.status() {
        StatusCode::OK => Ok(Ok(answer)),
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Err(Current::Nothing)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Err(Current::GivenOn(answer))),
        other => Err(Reason::VersionUnavailable(format!("reading it gave {}", other.as_u16()))),
    }
}

fn no_tag() -> Reason {
    Reason::VersionUnavailable("it has no strong ETag".to_owned())
}

fn too_large() -> Reason {
    Reason::VersionUnavailable("it is larger than version.max_body or broke off".to_owned())
}

fn no_field(pointer: &str) -> Reason {
    Reason::VersionUnavailable(format!("it has no text or number at {pointer}"))
}

/// The upstream's own strong tag.
pub(super) fn strong_tag(headers: &HeaderMap) -> Option<EntityTag> {
    headers.get(header::ETAG)?.to_str().ok().and_then(EntityTag::parse)
}

/// The tag of a JSON body by its member (`field`).
pub(super) fn field_tag(body: &[u8], pointer: &str) -> Option<EntityTag> {
    json::pointer_text(body, pointer).as_deref().and_then(EntityTag::from_value)
}

/// The tag of a body by its digest (`hash`): 128 bits, hexadecimal.
pub(super) fn digest_tag(hasher: &blake3::Hasher) -> Option<EntityTag> {
    let hex = hasher.finalize().to_hex();
    hex.get(..32).and_then(EntityTag::from_opaque)
}

/// The tag after a successful write (V7); `None` where it cannot be told.
///
/// `answered` are the fields of the write's answer, as the upstream sent them.
pub async fn refresh(probe: &Probe<'_>, method: &Method, answered: &HeaderMap) -> Option<EntityTag> {
    if let Some(tag) = told(&probe.version.source, answered) {
        return Some(tag);
    }
    let reads = match &probe.version.source {
        Source::Hash | Source::Field(_) | Source::Etag => probe.version.refresh,
        Source::Upstream | Source::Mint | Source::None => false,
    };
    if !reads || *method == Method::DELETE {
        return None;
    }
    match probe.current().await {
        Ok(Current::Tag(tag, _)) => Some(tag),
        Ok(Current::Nothing | Current::GivenOn(_)) | Err(_) => None,
    }
}

/// The version that the upstream itself tells with the answer to a write.
pub fn told(source: &Source, answered: &HeaderMap) -> Option<EntityTag> {
    match source {
        Source::Etag | Source::Upstream => strong_tag(answered),
        Source::Hash | Source::Field(_) | Source::Mint | Source::None => None,
    }
}

/// Whether the version after a write is the upstream's to tell.
pub fn asks_upstream(source: &Source) -> bool {
    match source {
        Source::Hash | Source::Etag | Source::Field(_) | Source::Upstream => true,
        Source::Mint | Source::None => false,
    }
}
