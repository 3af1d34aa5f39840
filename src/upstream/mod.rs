//! The only code that calls the tool: connections, one call, and what became of it.

mod body;
mod call;
mod connection;
mod pool;
#[cfg(test)]
pub(crate) mod simulated;
mod upload;
mod wire;

pub(crate) use body::Idle;
pub(crate) use call::collect;
pub use call::{Call, Failure, Kind, Tunnel};
pub use pool::{Client, Upstreams};
