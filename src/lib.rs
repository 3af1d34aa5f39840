//! Onceward: an HTTP reverse proxy that makes every write happen once and only forward.
//!
//! The modules, in reading order: the pure rules, the words all share, then the way a request takes.

pub mod protocol;

pub mod config;
pub mod http;

pub mod server;
pub mod stack;

pub mod route;

pub mod policy;

pub mod store;
pub mod upstream;

pub mod queues;

pub mod agent_api;

pub mod admin;
pub mod observe;

pub mod cli;

#[cfg(test)]
mod simulation;
