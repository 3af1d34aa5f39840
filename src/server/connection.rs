//! One agent's connection, from accepting it to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
use super::seldom::Seldom;
use super::socket::Socket;
use super::streams::{self, Activity};
use crate::config::checked::Limits;
use crate::http::Reason;
use crate::http::request::Peer;
use crate::stack::Gate;

/// What agents over `limits.connections` are told.
const OVER: &str = "Too many connections are open";

/// How long an agent has to hear that its connection is not served, or no longer.
const TIME_TO_BE_TOLD: Duration = Duration::from_secs(1);

/// How many of them are told at once; more are closed without a word, or the limit would be none.
pub(super) const MOST_TOLD: usize = 256;

/// One listener's loop.
pub(super) struct Accept {
    pub(super) gate: Arc<Gate>,
    pub(super) room: Arc<Semaphore>,
    /// Connections over the limit that are told so; those over that too are closed at once.
    pub(super) told: Arc<Semaphore>,
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
        let is_over = room.is_none();
        let room = room.or_else(|| Arc::clone(&self.told).try_acquire_owned().ok());
        let Some(room) = room else { return };
        let connection = Connection {
            gate: Arc::clone(&self.gate),
            socket: Socket(Arc::new(stream)),
            address,
            stop: self.stop.clone(),
            is_over,
            _room: room,
        };
        self.connections.spawn(connection.run());
    }
}

/// Why a connection takes no more requests.
enum Last {
    /// The server stops.
    Stopped,
    /// It was idle for too long, or told that there are too many.
    Done,
}

struct Connection {
    gate: Arc<Gate>,
    socket: Socket,
    address: SocketAddr,
    stop: CancellationToken,
    /// There were `limits.connections` already.
    is_over: bool,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self) {
        // Where the system refuses the option, answers only wait a little longer.
        drop(self.socket.0.set_nodelay(true));
        let rules = self.gate.rules.load_full();
        let limits = &rules.config.limits;
        let shared = Arc::new(Shared::default());
        let io =
            AgentIo::new(self.socket.clone(), Arc::clone(&shared), connection_limits(limits, self.is_over));
        let peer = Arc::new(peer(self.address, &self.socket, &shared));
        let (gate, write_time) = (Arc::clone(&self.gate), limits.write_time);
        let upgraded = Arc::clone(&shared.upgraded);
        let http2 = shared.http2.clone();
        let activity = Activity::new();
        let running = Arc::clone(&activity);
        // Cancelled once an agent over the limit was told so.
        let told = self.is_over.then(CancellationToken::new);
        let tells = told.clone();
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let busy =
                (request.version() == http::Version::HTTP_2).then(|| (running.begin(), gate.tasks.clone()));
            let refused = shared.refused.lock().take();
            let (over, shared) = (tells.clone(), Arc::clone(&shared));
            let refused = if over.is_some() { Some(Reason::TooBusy(OVER)) } else { refused };
            let (gate, peer) = (Arc::clone(&gate), Arc::clone(&peer));
            async move {
                // Called in here, or its future would be in this one twice: as it was caught, and as it runs.
                let mut answer = gate.answer(request, peer, refused).await;
                // Who is refused while content is still coming cannot use the connection again (RFC 9112 §9.6).
                let refused_early = answer.status().as_u16() >= 400 && shared.unread.load(Ordering::Relaxed);
                if over.is_some() || refused_early {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(http::header::CONNECTION, close);
                }
                if let Some(over) = over {
                    over.cancel();
                }
                Ok::<_, std::convert::Infallible>(match busy {
                    Some((busy, tasks)) => streams::relayed(answer, busy, write_time, &tasks),
                    None => answer,
                })
            }
        });
        let builder = builder(limits);
        let connection = builder.serve_connection_with_upgrades(io, service);
        let mut connection = std::pin::pin!(connection);
        let idle_http2 = async |limit| {
            http2.cancelled().await;
            activity.idle(limit).await;
        };
        let done = async {
            match told {
                Some(told) => told.cancelled().await,
                None => idle_http2(limits.idle).await,
            }
        };
        let last = Seldom::new(async {
            tokio::select! {
                () = self.stop.cancelled() => Last::Stopped,
                () = done => Last::Done,
            }
        });
        let last = tokio::select! {
            biased;
            served = connection.as_mut() => Ok(served),
            last = last => Err(last),
        };
        let served = match last {
            Ok(served) => served,
            Err(Last::Stopped) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    // On HTTP/2 the library waits for the agent's word too, and no idle one may hold a shutdown up.
                    () = idle_http2(TIME_TO_BE_TOLD) => return,
                }
            }
            Err(Last::Done) => {
                connection.as_mut().graceful_shutdown();
                // It has nothing left to do but to say so.
                match tokio::time::timeout(limits.write_time, connection).await {
                    Ok(served) => served,
                    Err(_elapsed) => return,
                }
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
        // After an upgrade the bytes belong to the tunnel.
        if !upgraded.load(Ordering::Acquire) {
            self.socket.linger().await;
        }
    }
}

fn connection_limits(limits: &Limits, is_over: bool) -> ConnectionLimits {
    let head = HeadLimits { head: limits.head, headers: limits.headers, uri: limits.uri };
    let most = if is_over { TIME_TO_BE_TOLD } else { Duration::MAX };
    let (head_time, idle) = (limits.head_time.min(most), limits.idle.min(most));
    ConnectionLimits { head, head_time, idle, write_time: limits.write_time.min(most) }
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
        // The library refuses without a problem (P1), so what is only somewhat over is refused by us.
        .max_header_list_size(u32::try_from(limits.head.saturating_mul(2)).unwrap_or(u32::MAX).max(64 * 1024))
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
        forwarded: parking_lot::Mutex::default(),
        gone: Box::new(socket.clone()),
        upgraded: Arc::clone(&shared.upgraded),
    }
}
