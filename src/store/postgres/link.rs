//! Connections: each step is one statement, its own transaction, and one round trip.
//!
//! Nothing is prepared by name and nothing is left in a session, so a pooler may stand between. Where the store cannot
//! be reached a step fails at once, and one task tries to reach it again: nothing queues up behind an outage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, TimeoutType, Timeouts};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, Row};

use super::tls::Tls;
use super::value::Value;
use crate::store::StoreError;

/// How often a step that the server itself took back is tried again.
const TRIES: u32 = 6;

/// All connections but the one that listens.
pub(super) struct Link {
    pool: Pool,
    /// One for the sign of life, which must not wait behind steps.
    own: Pool,
    /// For each step (`limits.store`).
    patience: Duration,
    up: AtomicBool,
    /// Somebody met an outage.
    pub(super) lost: Notify,
}

/// Where a step goes.
#[derive(Clone, Copy)]
enum On<'a> {
    Pool(&'a Pool),
    Session(&'a Client),
}

/// What one try came to.
enum Tried {
    Done(Vec<Row>),
    /// The server took it back, and it may go the next time.
    Again,
    Failed(StoreError),
}

impl Link {
    pub(super) fn new(
        config: Config,
        tls: Tls,
        connections: usize,
        patience: Duration,
    ) -> Result<Self, String> {
        let pool = |config, tls, size| {
            let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
            Pool::builder(Manager::from_config(config, tls, fast))
                .max_size(size)
                .runtime(deadpool_postgres::Runtime::Tokio1)
                .build()
                .map_err(|error| error.to_string())
        };
        let own = pool(config.clone(), tls.clone(), 1)?;
        let pool = pool(config, tls, connections.max(1))?;
        Ok(Self { pool, own, patience, up: AtomicBool::new(true), lost: Notify::new() })
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The store answered again.
    pub(super) fn reached(&self) {
        if !self.up.swap(true, Ordering::AcqRel) {
            tracing::info!("the store can be reached again");
        }
    }

    pub(super) fn gone(&self, why: &str) {
        if self.up.swap(false, Ordering::AcqRel) {
            tracing::warn!(why, "the store cannot be reached");
        }
        self.lost.notify_one();
    }

    pub(super) fn close(&self) {
        self.up.store(false, Ordering::Release);
        self.pool.close();
        self.own.close();
    }

    /// One step.
    ///
    /// # Errors
    /// As [`StoreError`] has them; at once in an outage.
    pub(super) async fn step(&self, statement: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        if !self.is_up() {
            return Err(StoreError::Unreached);
        }
        self.tried(On::Pool(&self.pool), statement, values).await
    }

    /// The same on the connection for the sign of life, whether or not there is an outage.
    pub(super) async fn probe(&self, statement: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.tried(On::Pool(&self.own), statement, values).await
    }

    /// The same on a session of our own, behind what is out on it. After `Unavailable` it is of no use any more.
    pub(super) async fn step_on(
        &self,
        session: &Client,
        statement: &str,
        values: &[Value],
    ) -> Result<Vec<Row>, StoreError> {
        self.tried(On::Session(session), statement, values).await
    }

    async fn tried(&self, on: On<'_>, statement: &str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        let until = Instant::now() + self.patience;
        for attempt in 0..TRIES {
            match self.once(on, statement, values, until).await {
                Tried::Done(rows) => return Ok(rows),
                Tried::Failed(error) => return Err(error),
                Tried::Again => {
                    let pause = Duration::from_millis(fastrand::u64(1..=5 << attempt));
                    tokio::time::sleep(pause).await;
                }
            }
        }
        tracing::warn!("a step lost against others too often");
        Err(StoreError::Unreached)
    }

    async fn once(&self, on: On<'_>, statement: &str, values: &[Value], until: Instant) -> Tried {
        let pool = match on {
            On::Pool(pool) => pool,
            On::Session(client) => return self.asked(client, statement, values, until).await,
        };
        let left = Some(until.saturating_duration_since(Instant::now()));
        let timeouts = Timeouts { wait: left, create: left, recycle: left };
        let client = match pool.timeout_get(&timeouts).await {
            Ok(client) => client,
            Err(error) => {
                self.not_connected(&error);
                return Tried::Failed(StoreError::Unreached);
            }
        };
        let tried = self.asked(&client, statement, values, until).await;
        if Instant::now() >= until {
            // Nobody should wait behind it on the same connection.
            drop(deadpool_postgres::Object::take(client));
        }
        tried
    }

    async fn asked(&self, client: &Client, statement: &str, values: &[Value], until: Instant) -> Tried {
        let typed: Vec<_> =
            values.iter().map(|value| (value as &(dyn ToSql + Sync), value.of_type())).collect();
        match timeout_at(until, client.query_typed(statement, &typed)).await {
            Ok(Ok(rows)) => Tried::Done(rows),
            Ok(Err(error)) => self.failed(&error),
            Err(_) => {
                self.gone("it does not answer in time");
                Tried::Failed(StoreError::Unavailable)
            }
        }
    }

    fn not_connected(&self, error: &PoolError) {
        match error {
            PoolError::Backend(error) => self.gone(&describe(error)),
            PoolError::Timeout(TimeoutType::Create) => self.gone("it takes connections and says nothing"),
            // Others have all connections; the store itself may be well.
            PoolError::Timeout(TimeoutType::Wait | TimeoutType::Recycle) => {
                tracing::warn!("all connections to the store are busy");
            }
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {}
        }
    }

    fn failed(&self, error: &Error) -> Tried {
        let Some(said) = error.as_db_error() else {
            // The connection broke while it was asked. The next step finds out whether the server is there.
            tracing::debug!(%error, "a connection to the store was lost in a step");
            return Tried::Failed(StoreError::Unavailable);
        };
        match verdict(said) {
            Verdict::Again => Tried::Again,
            Verdict::Full => {
                tracing::error!(error = said.message(), "the store is full");
                Tried::Failed(StoreError::Full)
            }
            Verdict::NotPrimary => {
                self.gone("the server is read-only");
                Tried::Failed(StoreError::Unreached)
            }
            Verdict::Refused => {
                tracing::error!(
                    code = said.code().code(),
                    error = said.message(),
                    "the store refused a step"
                );
                Tried::Failed(StoreError::Unreached)
            }
            Verdict::Nobody => {
                tracing::debug!(code = said.code().code(), "a session of the store was ended in a step");
                // A pooler that is there says so of a server that is not.
                if said.code().code().starts_with("08") {
                    self.gone(said.message());
                }
                Tried::Failed(StoreError::Unavailable)
            }
        }
    }
}

/// What a server's error means for a step that is a transaction of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Taken back, to be tried again.
    Again,
    Full,
    /// A standby, or a primary that was made read-only: surely nothing was done.
    NotPrimary,
    /// Surely nothing was done.
    Refused,
    /// The session ended; before or after the commit nobody knows.
    Nobody,
}

fn verdict(error: &DbError) -> Verdict {
    verdict_of(error.code(), error.parsed_severity())
}

/// By code and severity: an `ERROR` takes the transaction back, whatever it was; with `FATAL` the session is gone, and
/// it may have been committed before.
pub(super) fn verdict_of(code: &SqlState, severity: Option<Severity>) -> Verdict {
    if severity != Some(Severity::Error) {
        return Verdict::Nobody;
    }
    match code.code() {
        "40001" | "40P01" => Verdict::Again,
        "25006" => Verdict::NotPrimary,
        "53000" | "53100" | "53200" | "53400" => Verdict::Full,
        _ => Verdict::Refused,
    }
}

/// An error in words, without the URL it was met with.
pub(super) fn describe(error: &Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => said.message().to_owned(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S2, S4: what is surely not done is told apart from what may be.
    #[test]
    fn an_error_says_whether_anything_was_done() {
        let says = |code, severity| verdict_of(&SqlState::from_code(code), severity);
        let error = Some(Severity::Error);
        assert_eq!(says("40001", error), Verdict::Again);
        assert_eq!(says("40P01", error), Verdict::Again);
        assert_eq!(says("53100", error), Verdict::Full);
        assert_eq!(says("53200", error), Verdict::Full);
        assert_eq!(says("25006", error), Verdict::NotPrimary);
        assert_eq!(says("57014", error), Verdict::Refused);
        assert_eq!(says("57P01", Some(Severity::Fatal)), Verdict::Nobody);
        assert_eq!(says("53100", Some(Severity::Panic)), Verdict::Nobody);
        // An old pooler does not say how severe it is in words that are the same everywhere.
        assert_eq!(says("08P01", None), Verdict::Nobody);
    }
}
