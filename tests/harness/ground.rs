//! What proxies keep their records in, and the trouble that it can be given itself.

use std::time::Duration;

use tempfile::TempDir;

use super::servers::postgres::Postgres;
use super::servers::redis::Redis;

pub enum Ground {
    Memory,
    Disk(TempDir),
    Redis(Redis),
    Postgres(Postgres),
    /// With turns that session locks hold too.
    Advisory(Postgres),
}

impl Ground {
    pub async fn of(store: &str) -> Ground {
        match store {
            "memory" => Ground::Memory,
            "disk" => Ground::Disk(TempDir::new().expect("a temporary directory")),
            "redis" => Ground::Redis(Redis::durable().await),
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
            Ground::Postgres(postgres) | Ground::Advisory(postgres) => postgres.url(),
        }
    }

    /// What the configuration says of it besides.
    pub fn lines(&self) -> &'static str {
        match self {
            Ground::Memory | Ground::Disk(_) | Ground::Redis(_) | Ground::Postgres(_) => "",
            Ground::Advisory(_) => "turns = \"advisory\"\n",
        }
    }

    /// Where it listens, if it is a server.
    pub fn address(&self) -> Option<String> {
        let port = match self {
            Ground::Memory | Ground::Disk(_) => return None,
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
            Ground::Redis(redis) => redis.kill(),
            Ground::Postgres(postgres) | Ground::Advisory(postgres) => postgres.kill(),
        }
        let happened = happens.await;
        match self {
            Ground::Memory | Ground::Disk(_) => {}
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
