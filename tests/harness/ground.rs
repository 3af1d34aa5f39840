//! What proxies keep their records in, and the trouble that it can be given itself.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::Mutex;

use super::servers::postgres::Postgres;
use super::servers::redis::Redis;
use super::servers::redis::watched::Watched;

pub enum Ground {
    Memory,
    Disk(TempDir),
    Redis(Redis),
    Sentinel(Guarded),
    Postgres(Postgres),
    /// With turns that session locks hold too.
    Advisory(Postgres),
}

/// A Redis with a replica, that a Sentinel watches. What happens to the servers takes its time, and happens beside
/// all else: whoever has them in hand has locked them.
pub struct Guarded {
    address: String,
    url: String,
    pub servers: Arc<Mutex<Watched>>,
}

impl Guarded {
    async fn start() -> Guarded {
        let servers = Watched::over(Redis::durable().await).await;
        Guarded { address: servers.address(), url: servers.url(), servers: Arc::new(Mutex::new(servers)) }
    }
}

impl Ground {
    pub async fn of(store: &str) -> Ground {
        match store {
            "memory" => Ground::Memory,
            "disk" => Ground::Disk(TempDir::new().expect("a temporary directory")),
            "redis" => Ground::Redis(Redis::durable().await),
            "sentinel" => Ground::Sentinel(Guarded::start().await),
            "postgres" => Ground::Postgres(Postgres::start().await),
            "postgres, advisory" => Ground::Advisory(Postgres::start().await),
            other => panic!("no store {other:?}"),
        }
    }

    /// As the configuration names it.
    pub fn url(&self) -> String {
        match self {
            Ground::Memory => "memory:".to_owned(),
            Ground::Disk(folder) => format!("disk:{}", folder.path().join("store").display()),
            Ground::Redis(redis) => redis.url(),
            Ground::Sentinel(guarded) => guarded.url.clone(),
            Ground::Postgres(postgres) | Ground::Advisory(postgres) => postgres.url(),
        }
    }

    /// What the configuration says of it besides.
    pub fn lines(&self) -> &'static str {
        match self {
            Ground::Memory | Ground::Disk(_) | Ground::Redis(_) | Ground::Postgres(_) => "",
            Ground::Sentinel(_) => "wait_replicas = 1\n",
            Ground::Advisory(_) => "turns = \"advisory\"\n",
        }
    }

    /// Where it listens, if it is a server; or who is asked where that is.
    pub fn address(&self) -> Option<String> {
        let port = match self {
            Ground::Memory | Ground::Disk(_) => return None,
            Ground::Sentinel(guarded) => return Some(guarded.address.clone()),
            Ground::Redis(redis) => redis.port(),
            Ground::Postgres(postgres) | Ground::Advisory(postgres) => postgres.port(),
        };
        Some(format!("127.0.0.1:{port}"))
    }

    /// It stands still for a while.
    pub async fn pauses(&self, time: Duration) {
        match self {
            Ground::Memory | Ground::Disk(_) => {}
            Ground::Redis(redis) => {
                redis.pause();
                tokio::time::sleep(time).await;
                redis.resume();
            }
            Ground::Sentinel(guarded) => guarded.servers.lock().await.pauses(time).await,
            Ground::Postgres(postgres) | Ground::Advisory(postgres) => {
                postgres.pause();
                tokio::time::sleep(time).await;
                postgres.resume();
            }
        }
    }

    /// It is gone while something happens, and comes back with all that it acknowledged.
    pub async fn without<T>(&mut self, happens: impl Future<Output = T>) -> T {
        match self {
            Ground::Memory | Ground::Disk(_) => {}
            Ground::Sentinel(_) => panic!("one server takes the place of the other"),
            Ground::Redis(redis) => redis.kill(),
            Ground::Postgres(postgres) | Ground::Advisory(postgres) => postgres.kill(),
        }
        let happened = happens.await;
        match self {
            Ground::Memory | Ground::Disk(_) | Ground::Sentinel(_) => {}
            Ground::Redis(redis) => redis.start_again().await,
            Ground::Postgres(postgres) | Ground::Advisory(postgres) => postgres.start_again().await,
        }
        happened
    }

    /// It is killed, and comes back a little later with all that it acknowledged.
    pub async fn falls(&mut self, time: Duration) {
        self.without(tokio::time::sleep(time)).await;
    }
}

/// Runs tests that take a store by its name ([`Ground::of`]), each in a module for each store.
macro_rules! on_each_store {
    ($($place:ident = $store:literal)*: $list:tt) => {
        $(mod $place {
            $crate::harness::ground::on_each_store!(one $store $list);
        })*
    };
    (one $store:literal { $($module:ident: $($name:ident)*;)* }) => {
        $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            super::$module::$name($store).await;
        })*)*
    };
}

pub(crate) use on_each_store;
