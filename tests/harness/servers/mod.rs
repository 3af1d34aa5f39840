//! Servers that others wrote and a store stands on: each test starts its own.

#[allow(dead_code, reason = "the tests of the library include it too, and each uses a part")]
pub mod postgres;
#[allow(dead_code, reason = "the tests of the library include it too, and each uses a part")]
pub mod rabbitmq;
#[allow(dead_code, reason = "the tests of the library include it too, and each uses a part")]
pub mod redis;
