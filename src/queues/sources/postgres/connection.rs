//! Connections to the tasks' database: statements one by one, and one that hears what is told.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod, TimeoutType, Timeouts};
use tokio::sync::watch;
use tokio_postgres::error::Severity;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::Ground;
use crate::queues::source::{Content, Identity, PATIENCE, SourceError};
use crate::store::postgres::tls::{self, Tls};

/// Statements that run at once.
const CONNECTIONS: usize = 8;
/// Between two tries to hear what is told.
const PAUSE: Duration = Duration::from_secs(5);

/// A value and its type.
pub(super) type Bound<'a> = (&'a (dyn ToSql + Sync), Type);

/// All connections; none is made before it is needed.
pub(super) struct Connections {
    config: Result<(Config, Tls), String>,
    pool: Option<Pool>,
    channel: String,
    /// Grows with what is told.
    told: watch::Sender<u64>,
    listens: AtomicBool,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Connections {
    pub(super) fn new(url: &str, ground: &Ground) -> Self {
        let config = configured(url);
        let pool = config.as_ref().ok().and_then(|(config, tls)| {
            let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
            let manager = Manager::from_config(config.clone(), tls.clone(), fast);
            Pool::builder(manager)
                .max_size(CONNECTIONS)
                .runtime(deadpool_postgres::Runtime::Tokio1)
                .build()
                .ok()
        });
        Self {
            config,
            pool,
            channel: format!("onceward:{}", ground.queue),
            told: watch::Sender::new(0),
            listens: AtomicBool::new(false),
            tasks: ground.tasks.clone(),
            closing: ground.closing.clone(),
        }
    }

    /// One statement, its own transaction.
    pub(super) async fn rows(&self, statement: &str, values: &[Bound<'_>]) -> Result<Vec<Row>, SourceError> {
        let why = || self.config.as_ref().err().map_or("it cannot be connected to", |why| why);
        let pool = self.pool.as_ref().ok_or_else(|| SourceError::NotDone(why().to_owned()))?;
        let timeouts = Timeouts { wait: Some(PATIENCE), create: Some(PATIENCE), recycle: Some(PATIENCE) };
        let client =
            pool.timeout_get(&timeouts).await.map_err(|error| SourceError::NotDone(unconnected(&error)))?;
        match tokio::time::timeout(PATIENCE, client.query_typed(statement, values)).await {
            Ok(rows) => rows.map_err(|error| failed(&error)),
            Err(_) => {
                // Nobody should wait behind it on the same connection.
                drop(deadpool_postgres::Object::take(client));
                Err(late())
            }
        }
    }

    pub(super) async fn execute(&self, statement: &str, values: &[&str]) -> Result<(), SourceError> {
        let values: Vec<Bound<'_>> =
            values.iter().map(|value| (value as &(dyn ToSql + Sync), Type::TEXT)).collect();
        self.rows(statement, &values).await.map(drop)
    }

    pub(super) async fn choose(
        &self,
        statement: &str,
        left_out: &[Identity],
        most: usize,
    ) -> Result<Vec<Row>, SourceError> {
        let (left_out, most) = chosen(left_out, most);
        self.rows(statement, &[(&left_out, Type::TEXT_ARRAY), (&most, Type::INT8)]).await
    }

    /// A connection of our own.
    pub(super) async fn direct(&self, hears: bool) -> Result<Direct, SourceError> {
        let (config, tls) = self.config.as_ref().map_err(|why| SourceError::NotDone(why.clone()))?;
        let connecting = tokio::time::timeout(PATIENCE, config.connect(tls.clone()));
        let (client, mut connection) =
            connecting.await.map_err(|_| late())?.map_err(|error| SourceError::NotDone(describe(&error)))?;
        let ended = CancellationToken::new();
        let (ends, closing, given_up) = (ended.clone().drop_guard(), self.closing.clone(), ended.clone());
        let heard = hears.then(|| self.told.clone());
        self.tasks.spawn(async move {
            let _ends = ends;
            loop {
                let message = tokio::select! {
                    message = poll_fn(|cx| connection.poll_message(cx)) => message,
                    () = given_up.cancelled() => return,
                    () = closing.cancelled() => return,
                };
                match (message, &heard) {
                    (Some(Ok(AsyncMessage::Notification(_))), Some(heard)) => {
                        heard.send_modify(|told| *told += 1)
                    }
                    (Some(Ok(_)), _) => {}
                    (Some(Err(_)) | None, _) => return,
                }
            }
        });
        Ok(Direct { client, ended })
    }

    /// How often something was told on the queue's channel.
    pub(super) fn heard(&self) -> u64 {
        *self.told.borrow()
    }

    /// Ends when more was told than so often.
    pub(super) async fn told(self: &Arc<Self>, heard: u64) {
        let mut told = self.told.subscribe();
        if !self.listens.swap(true, Ordering::AcqRel) {
            let this = Arc::downgrade(self);
            let closing = self.closing.clone();
            // As long as the queue: the next who waits needs it too. It holds a connection, and no shutdown waits for it.
            self.tasks.spawn(async move {
                tokio::select! {
                    () = listen(&this) => {}
                    () = closing.cancelled() => {}
                }
            });
        }
        // It lives as long as this.
        drop(told.wait_for(|now| *now != heard).await);
    }
}

/// Hears what is told, as long as there is anybody to tell.
async fn listen(connections: &std::sync::Weak<Connections>) {
    loop {
        let Some(this) = connections.upgrade() else { return };
        let listening = async {
            let direct = this.direct(true).await?;
            let listen = format!("listen \"{}\"", this.channel.replace('"', "\"\""));
            direct.client.batch_execute(&listen).await.map_err(|error| failed(&error))?;
            Ok::<_, SourceError>(direct)
        };
        let direct = listening.await;
        // What was told before is not.
        this.told.send_modify(|told| *told += 1);
        drop(this);
        match direct {
            Ok(direct) => direct.ended.cancelled().await,
            Err(error) => {
                tracing::debug!(why = error.text(), "nothing is heard of new tasks; they are looked for")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A connection of our own.
pub(super) struct Direct {
    pub(super) client: Client,
    pub(super) ended: CancellationToken,
}

impl Direct {
    pub(super) async fn rows(&self, statement: &str, values: &[Bound<'_>]) -> Result<Vec<Row>, SourceError> {
        let asked = tokio::time::timeout(PATIENCE, self.client.query_typed(statement, values));
        let answer = asked.await.unwrap_or_else(|_| {
            self.ended.cancel();
            Ok(Vec::new())
        });
        if self.ended.is_cancelled() {
            return Err(late());
        }
        answer.map_err(|error| failed(&error))
    }
}

pub(super) fn chosen(left_out: &[Identity], most: usize) -> (Vec<&str>, i64) {
    (left_out.iter().map(|identity| &**identity).collect(), i64::try_from(most).unwrap_or(i64::MAX))
}

fn configured(url: &str) -> Result<(Config, Tls), String> {
    let (url, wanted) = tls::read(url);
    // The text itself is left out: it may hold a password.
    let mut config: Config = url.parse().map_err(|_| "its URL cannot be read".to_owned())?;
    config.connect_timeout(PATIENCE);
    config.application_name("onceward");
    Ok((config, Tls::new(&wanted)?))
}

fn late() -> SourceError {
    SourceError::Unsure("it did not answer in time".to_owned())
}

fn unconnected(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => describe(error),
        PoolError::Timeout(TimeoutType::Create) => "it takes connections and says nothing".to_owned(),
        PoolError::Timeout(TimeoutType::Wait | TimeoutType::Recycle) => {
            "all connections to it are busy".to_owned()
        }
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            "it is not connected to any more".to_owned()
        }
    }
}

fn failed(error: &Error) -> SourceError {
    match error.as_db_error() {
        // An error takes the statement back, whatever it was.
        Some(said) if said.parsed_severity() == Some(Severity::Error) => {
            SourceError::NotDone(describe(error))
        }
        Some(_) | None => SourceError::Unsure(describe(error)),
    }
}

/// An error in words, without the URL it was met with.
fn describe(error: &Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => said.message().to_owned(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// A task as it comes over the wire.
pub(super) enum Raw {
    Json(Box<str>),
    Bytes(Box<[u8]>),
}

impl Raw {
    pub(super) fn content(self) -> Content {
        match self {
            Self::Json(text) => Content::Json(text),
            Self::Bytes(bytes) => Content::Bytes(bytes),
        }
    }
}

impl<'a> FromSql<'a> for Raw {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        match *of {
            // One byte for its version.
            Type::JSONB => Ok(Self::Json(std::str::from_utf8(raw.get(1..).unwrap_or_default())?.into())),
            Type::JSON => Ok(Self::Json(std::str::from_utf8(raw)?.into())),
            _ => Ok(Self::Bytes(raw.into())),
        }
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::JSONB | Type::JSON | Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::BYTEA)
    }
}
