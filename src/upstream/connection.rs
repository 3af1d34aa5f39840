//! One connection to an upstream, from its dialing to its end.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;
use hyper::client::conn::http1::{self, SendRequest};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::wire::{Counted, Wire};
use crate::http::Body;

/// A connection that can carry the next request.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Body>,
    pub(super) wire: Arc<Wire>,
    /// Since when it has been idle.
    pub(super) idle_since: Instant,
    driver: JoinHandle<()>,
}

/// Why no connection came to be. Nothing was sent.
#[derive(Debug)]
pub(super) struct Unconnected(pub(super) String);

impl Connection {
    /// Resolves and dials, within `patience`. `leave` is given back when the socket is closed.
    pub(super) async fn dial(
        authority: &Authority,
        patience: Duration,
        leave: OwnedSemaphorePermit,
    ) -> Result<Self, Unconnected> {
        let socket = tokio::time::timeout(patience, connect(authority))
            .await
            .map_err(|_| Unconnected("connecting took too long".to_owned()))?
            .map_err(|error| Unconnected(plain(&error)))?;
        // Small requests wait for nothing; where the system refuses the option they only wait a little longer.
        drop(socket.set_nodelay(true));
        let wire = Wire::new();
        let (sender, connection) = http1::Builder::new()
            .handshake(Counted::new(socket, Arc::clone(&wire), leave))
            .await
            .map_err(|error| Unconnected(error.to_string()))?;
        // Ends with the socket or with the last handle to it, so it needs no tracking of its own: what must be
        // waited for is the call, and that is tracked where it is made.
        let driver = tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Self { sender, wire, idle_since: Instant::now(), driver })
    }

    /// Closes it; when this is over no byte goes out any more.
    pub(super) async fn close(&mut self) {
        self.driver.abort();
        // It is over either way.
        drop((&mut self.driver).await);
    }

    /// The same, without waiting for it.
    pub(super) fn cut(&self) {
        self.driver.abort();
    }

    pub(super) fn is_usable(&self, idle_limit: Duration) -> bool {
        self.sender.is_ready() && self.idle_since.elapsed() < idle_limit
    }
}

async fn connect(authority: &Authority) -> io::Result<TcpStream> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await
}

/// The error in words that say nothing of this machine but what an agent's operator needs.
fn plain(error: &io::Error) -> String {
    let refused = error.kind() == io::ErrorKind::ConnectionRefused;
    if refused { "connection refused".to_owned() } else { error.to_string() }
}
