//! An Onceward in this process, in front of one upstream.

use std::net::SocketAddr;

use crate::config::{self, Config};

/// A running proxy on a free port of this machine.
pub(crate) struct Front {
    address: SocketAddr,
}

impl Front {
    /// Starts it with `routes`, which is TOML.
    pub(crate) async fn start(routes: &str) -> Result<Self, String> {
        checked(routes)?;
        Err("there is no proxy yet".to_owned())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends when every write it forwarded has ended.
    pub(crate) async fn stop(self) {}
}

/// Nothing of the environment goes in, and nothing but the one port is open.
pub(crate) fn checked(routes: &str) -> Result<Config, String> {
    let text = format!("server = {{ listen = \"127.0.0.1:0\", admin = \"off\" }}\n{routes}");
    config::load(&text, "the proxy of this race", &|_| None).map_err(|problems| problems.to_string())
}
