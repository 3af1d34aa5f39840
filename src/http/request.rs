//! A request as Onceward holds it: parsed, its target in normal form, its fields not yet changed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::{HeaderMap, HeaderValue, Method, Version};

use crate::http::Body;
use crate::protocol::path::NormalPath;

/// One request.
pub struct Request {
    pub method: Method,
    pub version: Version,
    /// The path as it was sent, for the upstream.
    pub path: Box<str>,
    /// Without its `?`.
    pub query: Option<Box<str>>,
    pub normal: NormalPath,
    pub host: HeaderValue,
    pub headers: HeaderMap,
    pub body: Body,
    /// Takes the connection over, where the request asks for another protocol.
    pub upgrade: Option<hyper::upgrade::OnUpgrade>,
    pub peer: Arc<Peer>,
}

/// The other end of an agent's connection, and what was made of it once for all its requests.
pub struct Peer {
    pub address: SocketAddr,
    /// For `X-Forwarded-For`.
    pub ip: HeaderValue,
    /// For `Forwarded`: `for=192.0.2.1`, an IPv6 address in quotes and brackets.
    pub forwarded_for: String,
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

impl Request {
    /// The target as it was sent: path and query.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{}", self.path, query),
            None => self.path.to_string(),
        }
    }
}
