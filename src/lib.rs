//! Onceward: an HTTP reverse proxy that makes every write happen once and only forward.
//!
//! The modules, in reading order: the pure rules, the words all share, then the way a request takes.

pub mod cli;
pub mod config;
pub mod protocol;
