//! The connections to one upstream.
//!
//! A pool of our own on hyper's connections, because three rules are about connections: a write takes only one that
//! has been idle for less than `upstream_keep` (K14), a call must know whether its connection sent a byte (K11), and
//! there are never more than `upstream_connections` (F4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::call::Kind;
use super::connection::{Connection, Unconnected};
use crate::config::checked::RouteLimits;

/// Longest that a connection is kept for reads.
const IDLE_FOR_READS: Duration = Duration::from_secs(60);

/// One upstream under one set of limits.
pub struct Client {
    pub(super) authority: Authority,
    pub(super) limits: RouteLimits,
    /// The youngest last.
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

/// A connection in use; its permit is given back with it.
pub(super) struct Checkout {
    client: Arc<Client>,
    pub(super) connection: Connection,
    /// What comes over it is to be trusted.
    pub(super) reusable: bool,
    _permit: OwnedSemaphorePermit,
}

impl Client {
    /// A client without connections.
    pub fn new(authority: Authority, limits: RouteLimits) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(limits.upstream_connections.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { authority, limits, idle: Mutex::new(Vec::new()), permits })
    }

    /// How long one whole answer may take (`upstream_total`).
    pub fn total(&self) -> Duration {
        self.limits.upstream_total
    }

    /// Whether this is the client for an upstream under these limits.
    pub fn fits(&self, authority: &Authority, limits: &RouteLimits) -> bool {
        self.authority == *authority && self.limits == *limits
    }

    /// An idle connection that may carry a request of this kind, else a new one.
    pub(super) async fn check_out(self: &Arc<Self>, kind: Kind) -> Result<Checkout, Unconnected> {
        let permit = self.permit().await?;
        let connection = match self.pop(kind) {
            Some(connection) => connection,
            None => Connection::dial(&self.authority, &self.limits).await?,
        };
        Ok(Checkout { client: Arc::clone(self), connection, reusable: true, _permit: permit })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Unconnected> {
        let permits = Arc::clone(&self.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return Ok(permit);
        }
        match tokio::time::timeout(self.limits.upstream_connect, permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Unconnected("all connections to it are in use".to_owned())),
        }
    }

    fn pop(&self, kind: Kind) -> Option<Connection> {
        let limit = match kind {
            Kind::Read => IDLE_FOR_READS,
            Kind::Write => self.limits.upstream_keep,
        };
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop() {
            if connection.is_usable(limit) {
                return Some(connection);
            }
            // One that is not ready will not be, although nothing is left to be sent.
            if !connection.sender.is_ready() {
                connection.cut();
                continue;
            }
            if kind == Kind::Write && connection.is_usable(IDLE_FOR_READS) {
                // Too old for a write, and so are all below it; a read may still use it. One is let go all the same
                // where the pool is full of them, so that the new one stays within the limit.
                let full = idle.len() + 1 >= self.limits.upstream_connections;
                if !full {
                    idle.push(connection);
                }
                return None;
            }
        }
        None
    }
}

impl Checkout {
    /// Gives a connection back whose last answer was read to its end.
    pub(super) fn give_back(mut self) {
        if self.connection.sender.is_closed() || !self.reusable {
            return;
        }
        self.connection.idle_since = Instant::now();
        let Self { client, connection, .. } = self;
        let mut idle = client.idle.lock();
        if idle.len() < client.limits.upstream_connections {
            idle.push(connection);
        }
    }
}
