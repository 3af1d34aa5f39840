//! Both suites on a real Redis, and what can happen to one.

mod beside;
mod costs;
mod failover;
mod faults;
mod lost;
mod model;
mod refusals;
mod round_trips;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Options, Redis};
use crate::protocol::record::Millis;
use crate::store::conformance::shared::{SharedCase, on_each_shared_case};
use crate::store::conformance::{Case, on_each_case, on_each_cell_case};
use crate::store::{Store, StoreError};

#[allow(dead_code, unreachable_pub, reason = "the integration tests include it too, and each uses a part")]
#[path = "../../../../tests/harness/servers/redis.rs"]
mod server;

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(url: String) -> Options {
    Options {
        url,
        prefix: "onceward:".to_owned(),
        alive: Duration::from_secs(3),
        patience: Duration::from_secs(5),
        connections: 16,
        wait_replicas: 0,
        max_memory: 8 << 20,
    }
}

async fn open(url: String) -> Arc<Redis> {
    Redis::open(options(url)).await.unwrap()
}

fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Asks until it is answered: after a fault everything goes on.
async fn soon<T, F: Future<Output = Result<T, StoreError>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{what}: still {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn case(server: server::Redis) -> (Case, server::Redis) {
    // Nobody waits for its lapse.
    let store = Redis::open(Options { alive: PATIENCE, ..options(server.url()) }).await.unwrap();
    (Case { store, now: now() }, server)
}

fn shared_case(server: server::Redis) -> (SharedCase, server::Redis) {
    let url = server.url();
    let open = Box::new(move || {
        let url = url.clone();
        let opened: std::pin::Pin<Box<dyn Future<Output = Arc<dyn Store>> + Send>> =
            Box::pin(async move { open(url).await as Arc<dyn Store> });
        opened
    });
    (SharedCase { open, now: now() }, server)
}

mod on_memory {
    use super::*;

    on_each_case!(case(tls::volatile().await).await);
    on_each_cell_case!(case(tls::volatile().await).await);

    mod shared {
        use super::*;

        on_each_shared_case!(shared_case(server::Redis::start().await));
    }
}

mod on_disk {
    use super::*;

    on_each_case!(case(server::Redis::durable().await).await);
    on_each_cell_case!(case(server::Redis::durable().await).await);
    on_each_shared_case!(shared_case(server::Redis::durable().await));
}
