//! One agent's connection, from accepting it to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agent_io::{AgentIo, ConnectionLimits, Shared};
use super::framing::HeadLimits;
use super::socket::Socket;
use crate::config::checked::Limits;
use crate::http::Reason;
use crate::http::request::Peer;
use crate::stack::Gate;

/// One listener's loop.
pub(super) struct Accept {
    pub(super) gate: Arc<Gate>,
    pub(super) room: Arc<Semaphore>,
    pub(super) stop: CancellationToken,
    pub(super) connections: TaskTracker,
}

impl Accept {
    /// Accepts until told to stop.
    pub(super) async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, address)) => self.connection(stream, address),
                Err(error) => {
                    // Out of descriptors, most likely: a pause lets some come back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn connection(&self, stream: TcpStream, address: SocketAddr) {
        let room = Arc::clone(&self.room).try_acquire_owned().ok();
        let connection = Connection {
            gate: Arc::clone(&self.gate),
            socket: Socket(Arc::new(stream)),
            address,
            stop: self.stop.clone(),
            is_over: room.is_none(),
            _room: room,
        };
        self.connections.spawn(connection.run());
    }
}

struct Connection {
    gate: Arc<Gate>,
    socket: Socket,
    address: SocketAddr,
    stop: CancellationToken,
    /// There were `limits.connections` already.
    is_over: bool,
    _room: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn run(self) {
        // Where the system refuses the option, answers only wait a little longer.
        drop(self.socket.0.set_nodelay(true));
        let rules = self.gate.rules.load_full();
        let limits = &rules.config.limits;
        let shared = Arc::new(Shared::default());
        if self.is_over {
            *shared.refused.lock() = Some(Reason::TooBusy("Too many connections are open"));
        }
        let io = AgentIo::new(self.socket.clone(), Arc::clone(&shared), connection_limits(limits));
        let peer = Arc::new(peer(self.address, &self.socket, &shared));
        let (gate, stop) = (Arc::clone(&self.gate), self.stop.clone());
        let is_over = self.is_over;
        let service = service_fn(move |request| {
            let refused = shared.refused.lock().take();
            let answer = Arc::clone(&gate).answer(request, Arc::clone(&peer), refused);
            async move {
                let mut response = answer.await;
                if is_over {
                    response
                        .headers_mut()
                        .insert(http::header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let builder = builder(limits);
        let connection = builder.serve_connection_with_upgrades(io, service);
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user) {
                // An answer broke off. A plain close would show it as whole to HTTP/1.0, where the close is its end.
                drop(self.socket.reset());
                return;
            }
        }
        self.socket.linger().await;
    }
}

fn connection_limits(limits: &Limits) -> ConnectionLimits {
    let head = HeadLimits { head: limits.head, headers: limits.headers, uri: limits.uri };
    ConnectionLimits { head, head_time: limits.head_time, idle: limits.idle, write_time: limits.write_time }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // A FIN after a whole request is not leaving (Q2). Heads and idle times are looked after before the library.
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(limits.head.max(16 * 1024) + 16 * 1024);
    if limits.headers > 100 {
        builder.http1().max_headers(limits.headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(limits.idle))
        .keep_alive_timeout(limits.write_time);
    builder
}

fn peer(address: SocketAddr, socket: &Socket, shared: &Shared) -> Peer {
    let ip = address.ip().to_canonical();
    let forwarded_for = match ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    Peer {
        address,
        ip: HeaderValue::from_str(&ip.to_string()).unwrap_or(HeaderValue::from_static("unknown")),
        forwarded_for,
        gone: Box::new(socket.clone()),
        upgraded: Arc::clone(&shared.upgraded),
    }
}
