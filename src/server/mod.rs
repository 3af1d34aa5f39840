//! Listeners, connections and the drain.

mod agent_io;
mod connection;
mod framing;
mod seldom;
mod socket;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin;
use crate::config::Config;
#[cfg(feature = "postgres")]
use crate::config::checked::Locks;
use crate::config::checked::StoreUrl;
use crate::http::timestamp::now;
use crate::observe::Fill;
use crate::stack::Gate;
use crate::store::Store;
use crate::store::disk::{self, Disk};
use crate::store::memory::Memory;
#[cfg(feature = "postgres")]
use crate::store::postgres::{self, Postgres};
#[cfg(feature = "redis")]
use crate::store::redis::{self, Redis};

/// A server that runs.
pub struct Running {
    pub gate: Arc<Gate>,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    accepting: CancellationToken,
    connections: TaskTracker,
    grace: Duration,
    keeping: Vec<JoinHandle<()>>,
}

/// How long a shutdown waits for a collector, at least and at most: what is left of the grace, but no upgrade waits
/// long for spans.
const LAST_SPANS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));

/// Why a server did not start.
#[derive(Debug)]
pub struct NotStarted(pub String);

impl std::fmt::Display for NotStarted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotStarted {}

impl Running {
    /// Binds every listener and begins to serve.
    ///
    /// # Errors
    /// [`NotStarted`] names the address or the store that could not be had.
    pub async fn start(config: Config) -> Result<Self, NotStarted> {
        let config = Arc::new(config);
        let (store, observed) = stores(&config).await?;
        let gate = Gate::new(&config, store, observed);
        match gate.recover().await {
            Ok(0) => {}
            Ok(interrupted) => tracing::warn!(interrupted, "operations were cut off and are unknown now"),
            Err(_) => return Err(NotStarted("store.url: the store cannot be read".to_owned())),
        }
        gate.find_jobs().await.map_err(NotStarted)?;
        let (accepting, connections) = (CancellationToken::new(), TaskTracker::new());
        let mut listeners = Vec::new();
        for address in &config.server.listen {
            listeners.push(bind(*address).await?);
        }
        let admin = match config.server.admin {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let addresses = listeners.iter().map(local).collect::<Result<_, _>>()?;
        let admin_address = admin.as_ref().map(local).transpose()?;
        let room = Arc::new(Semaphore::new(config.limits.connections.min(Semaphore::MAX_PERMITS)));
        let told = Arc::new(Semaphore::new(connection::MOST_TOLD));
        let mut keeping = vec![
            tokio::spawn(sweep(Arc::clone(&gate))),
            tokio::spawn(Arc::clone(&gate.leases).watch()),
            tokio::spawn(Arc::clone(&gate).follow_news()),
            tokio::spawn(Arc::clone(&gate).follow_events()),
            tokio::spawn(Arc::clone(&gate).run_jobs()),
            tokio::spawn(Arc::clone(&gate).settle_lapsed(config.store.alive / 3)),
            tokio::spawn(Arc::clone(&gate).keep_queues()),
        ];
        for listener in listeners {
            let accept = connection::Accept {
                gate: Arc::clone(&gate),
                room: Arc::clone(&room),
                told: Arc::clone(&told),
                stop: accepting.clone(),
                connections: connections.clone(),
            };
            keeping.push(tokio::spawn(accept.run(listener)));
        }
        if let Some(listener) = admin {
            keeping.push(tokio::spawn(admin::serve(listener, Arc::clone(&gate))));
        }
        let grace = config.server.shutdown_grace;
        Ok(Self { gate, addresses, admin: admin_address, accepting, connections, grace, keeping })
    }

    /// Where agents are listened for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where operators are listened for.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Stops (O5): no more is accepted, what is in flight ends within the grace, and what does not is unknown.
    pub async fn shutdown(self) {
        self.gate.draining.store(true, Ordering::Release);
        self.gate.leaving.cancel();
        self.accepting.cancel();
        self.gate.hub.close();
        self.connections.close();
        self.gate.tasks.close();
        let began = Instant::now();
        let ended = async {
            self.connections.wait().await;
            self.gate.queues.load().close();
            self.gate.tasks.wait().await;
        };
        if tokio::time::timeout(self.grace, ended).await.is_err() {
            self.gate.closing.cancel();
            let told = async {
                self.gate.tasks.wait().await;
                self.connections.wait().await;
            };
            // What is still open now belongs to agents that take nothing.
            drop(tokio::time::timeout(Duration::from_secs(2), told).await);
        }
        for task in &self.keeping {
            task.abort();
        }
        // Closed in order, it need not be looked through at the next start.
        if self.gate.store.close().await.is_err() {
            tracing::warn!("the store could not be closed");
        }
        if let Some(spans) = self.gate.rules.load_full().spans.clone() {
            let rest = self.grace.saturating_sub(began.elapsed());
            let within = rest.clamp(LAST_SPANS.0, LAST_SPANS.1);
            // It blocks, and what it waits for runs here.
            drop(tokio::task::spawn_blocking(move || spans.close(within)).await);
        }
    }
}

type Stores = (Arc<dyn Store>, Arc<dyn Store>);

/// The store of the configuration, and the one for what is only observed (R4).
async fn stores(config: &Config) -> Result<Stores, NotStarted> {
    let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = u64::try_from(epoch.as_micros()).unwrap_or(u64::MAX);
    let max_memory = config.store.max_memory;
    match &config.store.url {
        StoreUrl::Memory => {
            let store: Arc<dyn Store> = Arc::new(Memory::new(max_memory, epoch));
            Ok((Arc::clone(&store), store))
        }
        StoreUrl::Disk(path) => {
            let options = disk::Options { max_memory, patience: config.limits.store, epoch, now: now() };
            let store = Disk::open(path, options).map_err(|why| NotStarted(format!("store.url: {why}")))?;
            Ok((Arc::new(store), Arc::new(Memory::new(max_memory / 8, epoch))))
        }
        #[cfg(feature = "redis")]
        StoreUrl::Redis(url) => {
            let options = redis::Options {
                url: url.expose().to_owned(),
                prefix: config.store.prefix.clone(),
                alive: config.store.alive,
                patience: config.limits.store,
                connections: config.store.connections,
                wait_replicas: config.store.wait_replicas,
                max_memory,
            };
            let store = Redis::open(options).await.map_err(|why| NotStarted(format!("store.url: {why}")))?;
            Ok((store, Arc::new(Memory::new(max_memory / 8, epoch))))
        }
        #[cfg(not(feature = "redis"))]
        StoreUrl::Redis(_) => Err(NotStarted("store.url: this build has no such store".to_owned())),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(url) => {
            let options = postgres::Options {
                url: url.expose().to_owned(),
                schema: config.store.schema.clone(),
                advisory: config.store.turns == Locks::Advisory,
                alive: config.store.alive,
                patience: config.limits.store,
                connections: config.store.connections,
                max_memory,
            };
            let store =
                Postgres::open(options).await.map_err(|why| NotStarted(format!("store.url: {why}")))?;
            Ok((store, Arc::new(Memory::new(max_memory / 8, epoch))))
        }
        #[cfg(not(feature = "postgres"))]
        StoreUrl::Postgres(_) => Err(NotStarted("store.url: this build has no such store".to_owned())),
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, NotStarted> {
    TcpListener::bind(address)
        .await
        .map_err(|error| NotStarted(format!("{address} cannot be listened on: {error}")))
}

fn local(listener: &TcpListener) -> Result<SocketAddr, NotStarted> {
    listener.local_addr().map_err(|error: io::Error| NotStarted(error.to_string()))
}

/// Forgets what has expired, a little at a time.
async fn sweep(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut fill = Fill::default();
    // Elsewhere a look is a round trip, and what fills up there is everybody's.
    let looks = if gate.store.shared().is_some() { 10 } else { 1 };
    for count in 0_u64.. {
        tick.tick().await;
        gate.store.sweep(now());
        if count.is_multiple_of(looks)
            && let Ok(ratio) = gate.store.fill_ratio().await
        {
            fill.look(ratio);
        }
        if !Arc::ptr_eq(&gate.store, &gate.observed) {
            gate.observed.sweep(now());
        }
    }
}
