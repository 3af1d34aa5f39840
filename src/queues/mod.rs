//! Tasks that are handed out one agent at a time (J2, J3).

pub mod source;
pub mod sources;
