//! On a real PostgreSQL.

#[allow(dead_code, unreachable_pub, reason = "shared with the integration tests, and each uses a part")]
#[path = "../../../../tests/harness/servers/postgres.rs"]
mod servers;

mod advisory;
mod beside;
mod conforms;
mod crowds;
mod faults;
mod pooled;
mod sizes;
mod starts;
mod steps;
mod trips;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;

use tokio_postgres::{Client, NoTls};

use super::{Options, Postgres};
use crate::store::Store;
use crate::store::conformance::shared::SharedCase;
use crate::store::conformance::wire::Wire;

/// A server that all share who do not break it; ended by its guard.
pub(super) async fn server() -> &'static servers::Postgres {
    static SERVER: OnceCell<servers::Postgres> = OnceCell::const_new();
    SERVER.get_or_init(servers::Postgres::start).await
}

/// The URL of a server behind a wire.
pub(super) fn behind(wire: &Wire) -> String {
    format!("postgres://postgres:secret@127.0.0.1:{}/postgres", wire.port())
}

/// A schema that nobody else has.
pub(super) fn schema() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(super) fn options(url: &str, schema: &str) -> Options {
    Options {
        url: url.to_owned(),
        schema: schema.to_owned(),
        advisory: false,
        alive: Duration::from_secs(2),
        patience: Duration::from_secs(5),
        connections: 4,
        max_memory: 1 << 20,
    }
}

pub(super) async fn open(url: &str, schema: &str) -> Arc<dyn Store> {
    Postgres::open(options(url, schema)).await.unwrap()
}

/// A store that nobody is on yet.
pub(super) fn shared_case(url: String) -> SharedCase {
    let schema = schema();
    case_of(move || options(&url, &schema))
}

/// The same, opened as it says.
pub(super) fn case_of(options: impl Fn() -> Options + Send + Sync + 'static) -> SharedCase {
    let open = Box::new(move || {
        let options = options();
        let opened: std::pin::Pin<Box<dyn Future<Output = Arc<dyn Store>> + Send>> = Box::pin(async move {
            let store: Arc<dyn Store> = Postgres::open(options).await.unwrap();
            store
        });
        opened
    });
    SharedCase { open, now: 1_000_000 }
}

/// A session to look behind the store.
pub(super) async fn look(server: &servers::Postgres) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
