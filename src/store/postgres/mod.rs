//! `postgres://`: any number of instances on one schema act as one (S3).
//!
//! 1. A step is one statement, one transaction, one round trip: what has to be decided is decided in a function there.
//! 2. Every step is a compare-and-swap by owner or token, so that whoever lost a reply may ask again.
//! 3. Who is alive, who rests and who waits is told by the server's clock; when a record expires by the caller's.
//! 4. Nothing is prepared by name and nothing depends on a session, but for one that listens where it is ours, and one
//!    that holds this life's turns where that was asked for.
//! 5. What is done never changes, and is answered from memory the next time (invariant 10).

mod across;
mod beside;
mod core;
mod link;
mod locks;
mod news;
mod rows;
mod schema;
mod session;
mod sql;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod value;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_postgres::{Config, Row};
use tokio_util::sync::DropGuard;

use self::core::Core;
use self::link::Link;
use self::rows::{commit_values, move_values, number_of};
use self::schema::Schema;
use self::session::Session;
use self::tls::Tls;
use self::value::{Value, column};
use super::finished::FinishedCache;
use super::minted::Number;
use super::{Answer, Before, Change, Claimed, Move, Reply, Resolution, Set, Shared, Store, StoreError};
use crate::protocol::record::{Millis, Phase, Record, RecordId, ResourceId, State};
use crate::store::cells::{Cell, CellId, Kind, Name, Swap};
use crate::store::log::{Event, Keep, Place};
use tokio::sync::watch;

/// How a store is opened.
pub struct Options {
    /// May hold a password, and is never shown.
    pub url: String,
    /// Where everything of it is in the database.
    pub schema: String,
    /// Turns by session locks (`store.turns`).
    pub advisory: bool,
    /// How long a silent instance counts as alive (S3).
    pub alive: Duration,
    /// For each step (`limits.store`).
    pub patience: Duration,
    /// At most so many for steps; two more are for the sign of life and for news.
    pub connections: usize,
    /// For finished records in this process, in bytes (S2).
    pub max_memory: usize,
}

/// Between two tries to open it.
const AGAIN: Duration = Duration::from_millis(200);

/// A Postgres, with others on it or alone.
pub struct Postgres {
    core: Arc<Core>,
    sweeps: mpsc::Sender<Millis>,
    /// Ends the tasks behind.
    _stop: DropGuard,
}

impl Postgres {
    /// Connects, makes or migrates what is missing in the schema, and begins a life of this instance.
    ///
    /// # Errors
    /// A sentence for the operator, without secrets.
    pub async fn open(options: Options) -> Result<Arc<Self>, String> {
        let (config, tls) = config(&options.url)?;
        let schema = Schema::new(&options.schema)?;
        let prepared = schema.prepare(&config, tls.clone(), options.patience).await;
        let version = prepared.map_err(|why| format!("{}: {why}", place(&config)))?;
        tracing::debug!(version = version.version, "the schema is as it should be");
        let link = Link::new(config.clone(), tls.clone(), options.connections, options.patience)?;
        let cache = FinishedCache::new(options.max_memory);
        let times = (options.alive, options.patience);
        let place = place(&config);
        let core = Arc::new(Core::new((config, tls), schema, link, cache, times, options.advisory));
        // A connection that breaks is no reason to give up at once.
        let until = Instant::now() + options.patience;
        let session = loop {
            match Self::appear(&core).await {
                Ok(session) => break session,
                Err(why) if why != locks::POOLED && Instant::now() < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(why) => return Err(format!("{place}: {why}")),
            }
        };
        let how =
            if session.is_some() { "on a session of its own" } else { "by asking: a pooler stands between" };
        tracing::info!(%place, "news comes {how}");
        Ok(Arc::new(Self::begin(core, session)))
    }

    /// Finds out how news comes, before anybody waits for any, and gives the first sign of life.
    async fn appear(core: &Arc<Core>) -> Result<Option<Session>, String> {
        let session = Session::open(core).await.map_err(|why| why.to_string())?;
        if core.advisory && session.is_none() {
            return Err(locks::POOLED.to_owned());
        }
        core.set_listens(session.is_some());
        core.renew().await.map_err(|error| format!("it did not take a sign of life ({error:?})"))?;
        Ok(session)
    }

    fn begin(core: Arc<Core>, session: Option<Session>) -> Self {
        let (sweeps, asked) = mpsc::channel(1);
        let until_stopped = |core: &Arc<Core>| core.stop.clone();
        let (keeper, follower, sweeper) = (Arc::clone(&core), Arc::clone(&core), Arc::clone(&core));
        let stop = until_stopped(&core);
        core.tasks.spawn(async move { stop.run_until_cancelled(keeper.keep()).await });
        let stop = until_stopped(&core);
        core.tasks.spawn(async move { stop.run_until_cancelled(news::follow(&follower, session)).await });
        let stop = until_stopped(&core);
        core.tasks.spawn(async move { stop.run_until_cancelled(sweeper.sweep(asked)).await });
        let (stop, teller) = (until_stopped(&core), Arc::clone(&core));
        core.tasks.spawn(async move { stop.run_until_cancelled(teller.number_events()).await });
        if core.advisory {
            let (stop, guarded) = (until_stopped(&core), Arc::clone(&core));
            core.tasks.spawn(async move { stop.run_until_cancelled(locks::guard(&guarded)).await });
        }
        let stop = core.stop.clone().drop_guard();
        Self { core, sweeps, _stop: stop }
    }

    /// One step that is answered with rows.
    fn ask<T: Send + 'static>(
        &self,
        statement: fn(&sql::Sql) -> &str,
        values: Vec<Value>,
        read: impl FnOnce(&Core, Vec<Row>) -> Result<T, StoreError> + Send + 'static,
    ) -> Reply<T> {
        let core = Arc::clone(&self.core);
        Reply::later(async move {
            let rows = core.link.step(statement(&core.sql), &values).await?;
            read(&core, rows)
        })
    }

    fn number(&self) -> Reply<u64> {
        self.ask(
            |sql| &sql.number,
            Vec::new(),
            |_, rows| {
                let number = rows.first().and_then(|row| column::<i64>(row, "number"));
                number.map(i64::cast_unsigned).ok_or(StoreError::Unavailable)
            },
        )
    }
}

/// The URL, read.
fn config(url: &str) -> Result<(Config, Tls), String> {
    let (url, wanted) = tls::read(url);
    let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
        // What it says of the URL is a name or a position, never a value.
        format!("store.url is no Postgres URL: {}", link::describe(&error))
    })?;
    if config.get_application_name().is_none() {
        config.application_name("onceward");
    }
    config.keepalives_idle(Duration::from_secs(10));
    Ok((config, Tls::new(&wanted)?))
}

/// Where it is, for people.
fn place(config: &Config) -> String {
    use tokio_postgres::config::Host;
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(n, host)| {
        let port = ports.get(n).or_else(|| ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => path.display().to_string(),
        }
    });
    format!("the Postgres at {}", hosts.collect::<Vec<_>>().join(", "))
}

/// Whether it begins or ends the wait of a job, of which the functions of the first version do not know.
fn is_of_job(change: &Change) -> bool {
    change.before == Before::Queued || matches!(change.set, Set::State(State::Queued))
}

fn records(rows: &[Row]) -> Result<Vec<(RecordId, Record)>, StoreError> {
    rows.iter().map(|row| Ok((rows::id(row)?, rows::record(row)?))).collect()
}

fn first_record(rows: &[Row]) -> Result<Option<Record>, StoreError> {
    rows.first().map(rows::record).transpose()
}

impl Store for Postgres {
    fn claim(&self, id: RecordId, record: Record, now: Millis) -> Reply<Claimed> {
        if let Some(finished) = self.core.cache.get(id, now) {
            let standing = Box::new(finished.record.clone());
            return Reply::now(Ok(Claimed::Taken { standing, yours: Box::new(record) }));
        }
        let core = Arc::clone(&self.core);
        Reply::later(async move { Ok(core.claim(id, record, None, now).await?.0) })
    }

    fn read(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        if let Some(finished) = self.core.cache.get(id, now) {
            return Reply::now(Ok(Some(finished.record.clone())));
        }
        let values = vec![Value::id(id.0), Value::number(now)];
        self.ask(|sql| &sql.read, values, |_, rows| first_record(&rows))
    }

    fn answer(&self, id: RecordId) -> Reply<Option<Answer>> {
        if let Some(finished) = self.core.cache.get(id, 0) {
            return Reply::now(Ok(finished.answer()));
        }
        self.ask(
            |sql| &sql.answer,
            vec![Value::id(id.0)],
            |_, rows| {
                let kept = rows.first().and_then(|row| column::<Option<&[u8]>>(row, "answer")).flatten();
                Ok(kept.map(Bytes::copy_from_slice).and_then(Answer::decode))
            },
        )
    }

    fn commit(&self, change: Change, now: Millis) -> Reply<bool> {
        if change.event.is_some() || !change.cells.is_empty() || is_of_job(&change) {
            return self.commit_beside(change, now);
        }
        let goes_out = change.goes_out();
        let ends_turn = change.turn.is_some();
        let values = commit_values(change, goes_out, now, self.core.instance().0);
        let core = Arc::clone(&self.core);
        Reply::later(async move {
            let rows = if ends_turn {
                core.end_turn(&core.sql.commit, &values).await?
            } else {
                core.link.step(&core.sql.commit, &values).await?
            };
            rows.first().and_then(|row| row.try_get(0).ok()).ok_or(StoreError::Unavailable)
        })
    }

    fn resolutions(&self, id: RecordId, now: Millis) -> Reply<Vec<Resolution>> {
        let values = vec![Value::id(id.0), Value::number(now)];
        self.ask(
            |sql| &sql.resolutions,
            values,
            move |_, rows| Ok(rows.iter().filter_map(|row| rows::resolution(id, row)).collect()),
        )
    }

    fn next_fence(&self) -> Reply<u64> {
        self.number()
    }

    fn next_number(&self) -> Reply<Number> {
        self.number()
    }

    fn move_version(&self, to: Move, now: Millis) -> Reply<()> {
        let mut values = move_values(Some(to));
        values.push(Value::number(now));
        self.ask(|sql| &sql.moves, values, |_, _| Ok(()))
    }

    fn minted(&self, resource: ResourceId, now: Millis) -> Reply<Box<str>> {
        let values = vec![Value::id(resource.0), Value::number(now)];
        self.ask(
            |sql| &sql.minted,
            values,
            move |core, rows| {
                // A counter is kept for good, so that one that is not there never was, and no tag can come back.
                let number = rows.first().map_or(Some(0), |row| column::<i64>(row, "number"));
                number.map(|number| core.tag(resource, number.cast_unsigned())).ok_or(StoreError::Unavailable)
            },
        )
    }

    fn minted_tag(&self, resource: ResourceId, number: Number) -> Box<str> {
        self.core.tag(resource, number)
    }

    fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Reply<Vec<(RecordId, Record)>> {
        let mut values =
            vec![Value::Number(Some(i64::try_from(most).unwrap_or(i64::MAX))), Value::number(now)];
        let read = |_: &Core, rows: Vec<Row>| records(&rows);
        match phase {
            None => self.ask(|sql| &sql.scan_all, values, read),
            Some(Phase::Done) => self.ask(|sql| &sql.scan_done, values, read),
            Some(Phase::Unknown) => self.ask(|sql| &sql.scan_unknown, values, read),
            Some(Phase::Queued) => self.ask(|sql| &sql.scan_queued, values, read),
            Some(phase @ (Phase::Claimed | Phase::Forwarded)) => {
                values.push(Value::Phase(number_of(phase)));
                self.ask(|sql| &sql.scan_running, values, read)
            }
        }
    }

    fn cell(&self, id: CellId, _: Millis) -> Reply<Option<Cell>> {
        self.cell_now(id)
    }

    fn swap(&self, swap: Swap, _: Millis) -> Reply<bool> {
        self.swap_beside(swap)
    }

    fn due(&self, kind: Kind, within: Duration, most: usize, _: Millis) -> Reply<Vec<(Name, Cell)>> {
        self.due_now(kind, within, most)
    }

    fn cells(&self, kind: Kind, most: usize, _: Millis) -> Reply<Vec<(Name, Cell)>> {
        self.of_kind(kind, most)
    }

    fn keep_events(&self, keep: Keep) {
        self.keep(keep);
    }

    fn last_event(&self) -> Reply<Place> {
        self.end_of_log()
    }

    fn events(&self, after: Place, most: usize, _: Millis) -> Reply<Option<Vec<Event>>> {
        self.events_after(after, most)
    }

    fn event_signal(&self) -> watch::Receiver<u64> {
        self.core.log.signal()
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn reach(&self) -> Reply<()> {
        self.ask(
            |_| sql::REACH,
            Vec::new(),
            |_, rows| {
                let takes = rows.first().and_then(|row| column::<bool>(row, "takes_writes")).unwrap_or(false);
                if takes { Ok(()) } else { Err(StoreError::Unreached) }
            },
        )
    }

    fn close(&self) -> Reply<()> {
        let core = Arc::clone(&self.core);
        Reply::later(async move {
            core.stop.cancel();
            let ended = core.end().await;
            core.link.close();
            ended
        })
    }

    fn unknown(&self) -> Reply<u64> {
        self.ask(
            |sql| &sql.unknown,
            Vec::new(),
            |_, rows| {
                let unknown = rows.first().and_then(|row| column::<i64>(row, "n"));
                unknown.map(i64::cast_unsigned).ok_or(StoreError::Unavailable)
            },
        )
    }

    fn fill_ratio(&self) -> Reply<f64> {
        // A database has no maximum that it would tell.
        Reply::now(Ok(0.0))
    }

    fn sweep(&self, now: Millis) {
        // One at a time; what comes meanwhile is the same.
        self.sweeps.try_send(now).ok();
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }
}
