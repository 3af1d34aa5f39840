//! Tasks from a Postgres table.
//!
//! 1. `locks = "rows"`: rows are chosen by `FOR UPDATE SKIP LOCKED`, so what another program works on under such a lock is
//!    passed over. Each step is one statement on its own, so that a pooler may stand between. What agents have is left
//!    out by its identity; the rows themselves are not locked or changed for the time of a claim.
//! 2. `locks = "advisory"`: a session lock on each task for the time of its claim, on a connection of our own, so that
//!    other programs see which tasks are out: the key is [`LOCK`]. No row is locked or changed until it is done.
//! 3. A task that is done is deleted, or its row set as `done` says; that is a commit of its own, after Onceward's.
//! 4. `NOTIFY "onceward:<queue>"` wakes who waits; else the table is looked at each second, while somebody waits.

mod connection;
mod locks;
mod sql;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio_postgres::types::Type;

use self::connection::{Connections, Raw};
use self::locks::Locks;
use self::sql::{Sql, Types};
use super::Ground;
use crate::config::checked::{self, PostgresTasks};
use crate::queues::source::{
    Busy, Content, Dead, Identity, LONGEST_IDENTITY, NewTask, Offer, Source, SourceError, Taken, Told, Work,
};

/// How often the table is looked at where nobody tells.
const LOOK: Duration = Duration::from_secs(1);
/// How many tasks are left out by name.
const LEFT_OUT: usize = 1000;

pub(super) fn open(settings: &PostgresTasks, ground: &Ground) -> Arc<dyn Source> {
    let connections = Arc::new(Connections::new(settings.url.expose(), ground));
    let locks = match settings.locks {
        checked::Locks::Rows => None,
        checked::Locks::Advisory => Some(Locks::new(Arc::clone(&connections))),
    };
    Arc::new(Table {
        settings: settings.clone(),
        connections,
        locks,
        sql: OnceCell::new(),
        heard: AtomicU64::new(0),
        queue: Arc::clone(&ground.queue),
    })
}

struct Table {
    settings: PostgresTasks,
    connections: Arc<Connections>,
    locks: Option<Locks>,
    /// Made of the table's own types, once they are known.
    sql: OnceCell<Sql>,
    /// What was heard before the last look.
    heard: AtomicU64,
    queue: Arc<str>,
}

impl Table {
    async fn sql(&self) -> Result<&Sql, SourceError> {
        self.sql.get_or_try_init(|| self.read_types()).await
    }

    async fn read_types(&self) -> Result<Sql, SourceError> {
        let task = self.settings.task.as_deref().unwrap_or(&self.settings.id);
        let values = [sql::regclass(&self.settings.table), self.settings.id.clone(), task.to_owned()];
        let text = |value| (value as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT);
        let values: Vec<_> = values.iter().map(text).collect();
        let rows = self.connections.rows(sql::TYPES, &values).await?;
        let name = |column: &str| {
            let found = rows.iter().find(|row| row.try_get::<_, &str>(0).is_ok_and(|name| name == column));
            let missing = || SourceError::NotDone(format!("its table has no column {column:?}"));
            found.and_then(|row| row.try_get::<_, String>(1).ok()).ok_or_else(missing)
        };
        Ok(Sql::new(&self.settings, &Types { id: name(&self.settings.id)?, task: name(task)? }))
    }

    fn offer(&self, row: &tokio_postgres::Row, asked: Instant) -> Option<Offer> {
        let identity: &str = row.try_get(0).ok()?;
        if identity.is_empty() || identity.len() > LONGEST_IDENTITY {
            tracing::warn!(queue = %self.queue, "a task whose queues.id is empty or too long is left out");
            return None;
        }
        let content = match row.try_get::<_, Option<Raw>>(1) {
            Ok(Some(raw)) => raw.content(),
            Ok(None) => Content::Json("null".into()),
            Err(error) => {
                tracing::warn!(queue = %self.queue, %error, "queues.task is no column of json, jsonb, text or bytea");
                return None;
            }
        };
        Some(Offer { identity: identity.into(), content, asked, hold: None })
    }

    async fn end(&self, statement: Option<&str>, values: &[&str]) -> Result<Told, SourceError> {
        if let Some(statement) = statement {
            self.connections.execute(statement, values).await?;
        }
        Ok(Told::Yes)
    }

    async fn unlock(&self, identity: &str) {
        if let (Some(locks), Ok(sql)) = (&self.locks, self.sql().await) {
            locks.release(sql, identity).await;
        }
    }
}

impl Source for Table {
    fn take<'a>(&'a self, most: usize, busy: &'a dyn Busy) -> Work<'a, Result<Taken, SourceError>> {
        Box::pin(async move {
            let sql = self.sql().await?;
            let asked = Instant::now();
            self.heard.store(self.connections.heard(), Ordering::Release);
            let mut left_out = busy.some(LEFT_OUT);
            let rows = match &self.locks {
                None => self.connections.choose(&sql.choose, &left_out, most).await?,
                Some(locks) => {
                    left_out.extend(locks.held());
                    locks.choose(sql, &left_out, most).await?
                }
            };
            let offers: Vec<_> = rows.iter().filter_map(|row| self.offer(row, asked)).collect();
            if let Some(locks) = &self.locks {
                locks.took(offers.iter().map(|offer| Identity::clone(&offer.identity)));
            }
            Ok(Taken { offers, all: None })
        })
    }

    fn wake(&self) -> Work<'_, ()> {
        Box::pin(async move {
            tokio::select! {
                () = self.connections.told(self.heard.load(Ordering::Acquire)) => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        })
    }

    fn back<'a>(&'a self, identity: &'a str) -> Work<'a, ()> {
        Box::pin(self.unlock(identity))
    }

    fn is_told(&self) -> bool {
        // Where the row is left alone it stays what it was until its agent changes it.
        self.settings.done.as_deref() != Some("")
    }

    fn done<'a>(&'a self, identity: &'a str) -> Work<'a, Result<Told, SourceError>> {
        Box::pin(async move {
            let told = self.end(self.sql().await?.done.as_deref(), &[identity]).await;
            self.unlock(identity).await;
            told
        })
    }

    fn buries(&self) -> bool {
        self.settings.dead_letter.is_some()
    }

    fn dead<'a>(&'a self, task: &'a Dead) -> Work<'a, Result<Told, SourceError>> {
        Box::pin(async move {
            let told = self.end(self.sql().await?.bury.as_deref(), &[&task.identity]).await;
            self.unlock(&task.identity).await;
            told
        })
    }

    fn has<'a>(&'a self, identity: &'a str) -> Work<'a, Result<bool, SourceError>> {
        Box::pin(async move {
            let sql = self.sql().await?;
            let rows = self.connections.rows(&sql.has, &[(&identity, Type::TEXT)]).await?;
            Ok(!rows.is_empty())
        })
    }

    fn in_hand(&self) -> Vec<Identity> {
        self.locks.as_ref().map_or_else(Vec::new, Locks::held)
    }

    fn can_put(&self) -> bool {
        self.settings.task.is_some()
    }

    fn put<'a>(&'a self, task: &'a NewTask) -> Work<'a, Result<Option<Identity>, SourceError>> {
        Box::pin(async move {
            let sql = self.sql().await?;
            let Some(put) = &sql.put else {
                return Err(SourceError::NotDone("its tasks are whole rows".to_owned()));
            };
            let text = std::str::from_utf8(&task.body)
                .map_err(|_| SourceError::NotDone("a task for a table is text".to_owned()))?;
            let rows = self.connections.rows(put, &[(&text, Type::TEXT)]).await?;
            Ok(rows.first().and_then(|row| row.try_get::<_, String>(0).ok()).map(Identity::from))
        })
    }
}
