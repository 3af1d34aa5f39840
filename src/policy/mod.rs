//! The stages of a request, one file each, in the order of R7. No stage knows another; `stack` puts them together.

pub mod admission;
pub mod detach;
pub mod idempotency;
pub mod identity;
pub mod jobs;
pub mod lease;
pub mod publish;
pub mod turn;
pub mod version;
