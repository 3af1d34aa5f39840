//! The words all share: bodies, field names, requests as Onceward holds them, and refusals.

pub mod body;
pub mod budget;
pub mod fields;
pub mod forward;
pub(crate) mod gather;
pub mod problem;
pub mod refusal;
pub mod request;
pub mod target;
pub mod timestamp;

pub use body::{Body, BoxError};
pub use refusal::{Executed, Reason, Refusal};
pub use request::Request;

/// An answer on its way to the agent.
pub type Response = ::http::Response<Body>;
