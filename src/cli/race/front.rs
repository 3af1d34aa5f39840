//! An Onceward in this process, in front of one upstream.

use std::net::SocketAddr;

use crate::config::{self, Config};
use crate::server::Running;

/// A running proxy on a free port of this machine.
pub(crate) struct Front {
    running: Running,
    address: SocketAddr,
}

impl Front {
    /// Starts it with `routes`, which is TOML.
    pub(crate) async fn start(routes: &str) -> Result<Self, String> {
        let running = Running::start(checked(routes)?).await.map_err(|why| format!("no proxy: {why}"))?;
        let address = running.addresses().first().copied().ok_or("the proxy listens nowhere")?;
        Ok(Self { running, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends when every write it forwarded has ended.
    pub(crate) async fn stop(self) {
        self.running.shutdown().await;
    }
}

/// Nothing of the environment goes in, and nothing but the one port is open.
pub(crate) fn checked(routes: &str) -> Result<Config, String> {
    let text = format!("server = {{ listen = \"127.0.0.1:0\", admin = \"off\" }}\n{routes}");
    config::load(&text, "the proxy of this race", &|_| None).map_err(|problems| problems.to_string())
}
