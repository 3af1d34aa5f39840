//! A request as Onceward holds it: parsed, its target in normal form, its fields not yet changed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};
use parking_lot::Mutex;

use crate::http::Body;
use crate::protocol::path::NormalPath;

/// One request.
pub struct Request {
    pub method: Method,
    pub version: Version,
    /// Path and query as they were sent, for the upstream.
    pub target: PathAndQuery,
    pub normal: NormalPath,
    pub host: HeaderValue,
    pub headers: HeaderMap,
    pub body: Body,
    /// Takes the connection over, where the request asks for another protocol.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
    pub peer: Arc<Peer>,
}

impl Request {
    /// The same without its content, for who looks at it while that is on its way.
    #[must_use]
    pub fn without_body(&self) -> Self {
        Self {
            method: self.method.clone(),
            version: self.version,
            target: self.target.clone(),
            normal: self.normal.clone(),
            host: self.host.clone(),
            headers: self.headers.clone(),
            body: Body::Empty,
            upgrade: None,
            peer: Arc::clone(&self.peer),
        }
    }
}

/// The other end of an agent's connection, and what was made of it once for all its requests.
pub struct Peer {
    pub address: SocketAddr,
    /// For `X-Forwarded-For`.
    pub ip: HeaderValue,
    /// For `Forwarded`: `for=192.0.2.1`, an IPv6 address in quotes and brackets.
    pub forwarded_for: String,
    /// The last `Host` and the `Forwarded` made of it: a connection hardly ever asks for two.
    pub forwarded: Mutex<Option<(HeaderValue, HeaderValue)>>,
    /// Resolves when the agent was seen to leave: a reset, not a half-close (Q2).
    pub gone: Box<dyn Gone>,
    /// Set when the connection changes to another protocol, so that its bytes are no longer read as requests.
    pub upgraded: Arc<AtomicBool>,
}

/// Sees an agent leave.
pub trait Gone: Send + Sync {
    /// Ends when the connection was reset; may stay open for ever.
    fn gone(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
