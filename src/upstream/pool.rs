//! The connections to each upstream.
//!
//! A pool of our own on hyper's connections, because three rules are about connections: a write takes only one that
//! has been idle for less than `upstream_keep` (K14), a call must know whether its connection sent a byte (K11), and
//! never more than `upstream_connections` are open to an upstream, in use or idle, whatever leads there (F4).

use std::collections::HashMap;
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

/// All upstreams of a configuration.
#[derive(Default)]
pub struct Upstreams(Mutex<HashMap<Authority, Arc<Place>>>);

/// One upstream, whatever routes and queues lead there.
pub(super) struct Place {
    pub(super) authority: Authority,
    most: usize,
    /// The youngest last.
    idle: Mutex<Vec<Connection>>,
    /// One for each call: who came first gets the next connection.
    calls: Arc<Semaphore>,
    /// One for each open socket, in use or idle.
    sockets: Arc<Semaphore>,
}

/// An upstream under the limits of one route or queue.
pub struct Client {
    pub(super) place: Arc<Place>,
    pub(super) limits: RouteLimits,
}

/// A connection in use; its permit is given back with it.
pub(super) struct Checkout {
    client: Arc<Client>,
    pub(super) connection: Connection,
    /// What comes over it is to be trusted.
    pub(super) reusable: bool,
    _call: OwnedSemaphorePermit,
}

impl Upstreams {
    /// These are the upstreams from now on, each with how many connections may be open to it. What stays as it is goes
    /// on with its connections.
    pub fn take<'a>(&self, wanted: impl Iterator<Item = (&'a Authority, usize)>) {
        let mut bounds: HashMap<&Authority, usize> = HashMap::new();
        for (authority, most) in wanted {
            // What one route asks to spare its upstream no other may undo.
            bounds.entry(authority).and_modify(|bound| *bound = most.min(*bound)).or_insert(most);
        }
        let mut places = self.0.lock();
        let mut before = std::mem::take(&mut *places);
        places.extend(bounds.into_iter().map(|(authority, most)| {
            let standing = before.remove(authority).filter(|place| place.most == most);
            (authority.clone(), standing.unwrap_or_else(|| Place::new(authority, most)))
        }));
    }

    /// An upstream under these limits.
    pub fn client(&self, authority: &Authority, limits: RouteLimits) -> Arc<Client> {
        let mut places = self.0.lock();
        let place = places
            .entry(authority.clone())
            .or_insert_with(|| Place::new(authority, limits.upstream_connections));
        Arc::new(Client { place: Arc::clone(place), limits })
    }
}

impl Client {
    /// How long one whole answer may take (`upstream_total`).
    pub fn total(&self) -> Duration {
        self.limits.upstream_total
    }

    /// An idle connection that may carry a request of this kind, else a new one.
    pub(super) async fn check_out(self: &Arc<Self>, kind: Kind) -> Result<Checkout, Unconnected> {
        let (place, limits) = (&self.place, &self.limits);
        let call = permit(&place.calls, limits.upstream_connect).await?;
        let connection = match place.pop(kind, limits.upstream_keep) {
            Some(connection) => connection,
            None => {
                let socket = place.socket(limits.upstream_connect).await?;
                Connection::dial(&place.authority, limits.upstream_connect, socket).await?
            }
        };
        // While somebody waits for an answer, the call's own limits are over before.
        connection.wire.set_patience(limits.upstream_response.saturating_add(limits.upstream_idle));
        Ok(Checkout { client: Arc::clone(self), connection, reusable: true, _call: call })
    }
}

impl Place {
    fn new(authority: &Authority, most: usize) -> Arc<Self> {
        let permits = || Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let (calls, sockets) = (permits(), permits());
        Arc::new(Self { authority: authority.clone(), most, idle: Mutex::new(Vec::new()), calls, sockets })
    }

    /// `keep`: how long one may have been idle that carries a write.
    fn pop(&self, kind: Kind, keep: Duration) -> Option<Connection> {
        let limit = match kind {
            Kind::Read => IDLE_FOR_READS,
            Kind::Write => keep,
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
                // Too old for a write, and so are all below it; a read may still use it.
                idle.push(connection);
                return None;
            }
        }
        None
    }

    /// Leave to open a socket. Where as many are open as may be, the one that was idle for the longest is closed for it:
    /// as there are only as many calls, one is idle or is being closed already.
    async fn socket(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Unconnected> {
        if let Ok(permit) = Arc::clone(&self.sockets).try_acquire_owned() {
            return Ok(permit);
        }
        if let Some(mut oldest) = self.oldest() {
            oldest.close().await;
        }
        permit(&self.sockets, patience).await
    }

    fn oldest(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        forget_closed(&mut idle);
        (!idle.is_empty()).then(|| idle.remove(0))
    }
}

/// The upstream may have closed some, which hold no socket any more.
fn forget_closed(idle: &mut Vec<Connection>) {
    idle.retain(|connection| !connection.sender.is_closed());
}

async fn permit(of: &Arc<Semaphore>, patience: Duration) -> Result<OwnedSemaphorePermit, Unconnected> {
    if let Ok(permit) = Arc::clone(of).try_acquire_owned() {
        return Ok(permit);
    }
    match tokio::time::timeout(patience, Arc::clone(of).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(Unconnected("all connections to it are in use".to_owned())),
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
        let mut idle = client.place.idle.lock();
        if idle.len() >= client.place.most {
            forget_closed(&mut idle);
        }
        idle.push(connection);
    }
}
