//! Connections to the Redis: one for all calls, and one that waits for what comes.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::super::source::SourceError;
use crate::store::redis::address::Address;

/// How long it may take to connect; and to answer, beside what it was asked to wait.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(3);
/// After a connection could not be made the next is not tried sooner.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that is made when it is needed, and again after it broke.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    live: Option<MultiplexedConnection>,
    /// Tells one connection from the next.
    generation: u64,
    failed: Option<(Instant, String)>,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// There is no connection.
    Unreached(String),
    /// The server said so, and did nothing.
    Refused(RedisError),
    /// The connection broke, or no answer came.
    Broken(String),
}

impl Failed {
    /// Whether the group, or its stream, is not there.
    pub(super) fn is_no_group(&self) -> bool {
        match self {
            // An older server puts its own words before those of the command in a script.
            Self::Refused(error) => error.code() == Some("NOGROUP") || error.to_string().contains("NOGROUP"),
            Self::Unreached(_) | Self::Broken(_) => false,
        }
    }
}

impl From<Failed> for SourceError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unreached(why) => Self::NotDone(why),
            Failed::Refused(error) => Self::NotDone(error.to_string()),
            Failed::Broken(why) => Self::Unsure(why),
        }
    }
}

impl Line {
    /// Makes a call that the server may take `long` for.
    pub(super) async fn call<T>(
        &self,
        address: &Address,
        long: Duration,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Failed> {
        let (mut connection, generation) = self.open(address).await?;
        match timeout(long + ANSWER, call(&mut connection)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.failed(error, generation).await),
            Err(_) => {
                self.lose(generation).await;
                Err(Failed::Broken("the Redis does not answer".to_owned()))
            }
        }
    }

    async fn failed(&self, error: RedisError, generation: u64) -> Failed {
        match error.code() {
            // It is not the primary any more, or not yet: the next look may find another.
            Some("READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH") => {
                self.lose(generation).await;
                Failed::Refused(error)
            }
            Some(_) => Failed::Refused(error),
            None => {
                self.lose(generation).await;
                Failed::Broken(error.to_string())
            }
        }
    }

    async fn open(&self, address: &Address) -> Result<(MultiplexedConnection, u64), Failed> {
        let mut state = self.0.lock().await;
        if let Some(live) = &state.live {
            return Ok((live.clone(), state.generation));
        }
        if let Some((_, why)) = state.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            return Err(Failed::Unreached(why.clone()));
        }
        let connected = match timeout(CONNECT, connect(address)).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err("the Redis does not answer".to_owned()),
        };
        match connected {
            Ok(live) => {
                state.generation += 1;
                state.failed = None;
                state.live = Some(live.clone());
                Ok((live, state.generation))
            }
            Err(why) => {
                state.failed = Some((Instant::now(), why.clone()));
                Err(Failed::Unreached(why))
            }
        }
    }

    async fn lose(&self, generation: u64) {
        let mut state = self.0.lock().await;
        if state.generation == generation {
            state.live = None;
        }
    }
}

async fn connect(address: &Address) -> RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
    address.primary().await?.steps.get_multiplexed_async_connection_with_config(&config).await
}
