//! The configuration: raw TOML in, values that hold their invariants out.

pub mod checked;
