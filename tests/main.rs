//! All integration tests, one binary: a file per behavior, each on the real proxy as a process of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops where something is not as it must be"
)]
#![allow(unreachable_pub, reason = "a test binary exports nothing")]

mod changes;
mod chaos;
mod cli;
mod config;
mod connections;
mod demo;
mod deploy;
mod docs;
mod durable;
mod endings;
mod events;
mod examples;
mod forwarding;
mod framing;
mod full_disk;
mod harness;
mod harness_itself;
mod http2;
mod identity;
mod in_flight;
mod jobs;
mod keys;
mod leases;
mod limits;
mod minted;
mod observed;
mod operation;
mod operations;
mod preconditions;
mod promises;
mod queues;
mod real_apis;
mod refusals;
mod routes;
mod shared;
mod stores;
#[cfg(feature = "otlp")]
mod telemetry;
mod tidy;
mod turns;
mod unknown;
mod upgrades;
mod uploads;
mod versions;
mod volatile;
