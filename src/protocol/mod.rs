//! The rules, pure: no I/O, no clock, no randomness, no runtime, no HTTP client.
//! Time comes in as an argument; verdicts go out.

pub mod entity_tag;
pub mod event;
pub mod fingerprint;
pub mod json;
pub mod key;
pub mod lease;
pub mod line;
pub mod multipart;
pub mod path;
pub mod prefer;
pub mod record;
pub mod task;
pub mod template;
pub mod trace_context;
