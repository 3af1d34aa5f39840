//! What every test stands on: the real proxy as a process, upstreams that can misbehave, clients with checks.

pub mod agent;
pub mod answer;
#[cfg(feature = "otlp")]
pub mod collector;
pub mod events;
pub mod gate;
pub mod ground;
pub mod http2;
pub mod ledger;
pub mod proxy;
pub mod raw;
pub mod refusal;
pub mod relay;
pub mod reply;
pub mod servers;
pub mod upstream;
pub mod wire;

use std::future::Future;
use std::time::Duration;

pub use agent::Agent;
pub use answer::Answer;
pub use events::Events;
pub use gate::Gate;
pub use proxy::Proxy;
pub use raw::Raw;
pub use reply::Reply;
pub use upstream::Upstream;

/// How long a test waits for anything before it says what did not happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, and fails with the name of what was awaited.
#[track_caller]
pub fn within<F: Future>(what: impl Into<String>, future: F) -> impl Future<Output = F::Output> {
    let what = what.into();
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(value) => value,
            Err(_) => panic!("not within {PATIENCE:?}: {what} (awaited at {place})"),
        }
    }
}

/// A scripted upstream with the proxy before it, all paths one route with these lines.
pub async fn proxied(route: &str) -> (Upstream, Proxy) {
    let upstream = Upstream::start().await;
    let proxy = Proxy::route(&upstream, route).await;
    (upstream, proxy)
}
