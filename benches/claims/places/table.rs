//! A Postgres table: a row is chosen under a lock and deleted when its task is done.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client, NoTls, Statement};

use crate::place::{Number, Place, Work, Worker, text};

/// What Onceward's queue listens to.
const CHANNEL: &str = "\"onceward:tasks\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locks {
    /// Of the row, in a transaction that is as long as the work.
    Rows,
    /// Of the session, by the row's number.
    Advisory,
}

pub(super) struct Table {
    url: String,
    name: String,
    locks: Locks,
    client: Client,
}

/// A session, and who is told what it hears.
async fn connect(url: &str) -> (Client, Rc<Notify>) {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.expect("a session");
    let heard = Rc::new(Notify::new());
    let hears = Rc::clone(&heard);
    tokio::task::spawn_local(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message.expect("a session that stands") {
                hears.notify_one();
            }
        }
    });
    (client, heard)
}

impl Table {
    pub(super) async fn at(url: &str, name: &str, locks: Locks) -> Self {
        let (client, _) = connect(url).await;
        Self { url: url.to_owned(), name: name.to_owned(), locks, client }
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

impl Place for Table {
    fn make(&self) -> Work<'_, ()> {
        let sql = format!("create table {} (id bigint primary key, task jsonb not null)", self.name);
        Box::pin(async move { self.run(&sql).await })
    }

    fn fill(&self, tasks: u64) -> Work<'_, ()> {
        Box::pin(async move {
            let row = text(0).replacen("0", "' || n || '", 1);
            let name = &self.name;
            self.run(&format!(
                "insert into {name} select n, ('{row}')::jsonb from generate_series(1, {tasks}) as n"
            ))
            .await;
            self.run(&format!("vacuum analyze {name}")).await;
            // Nothing of that is left to be written while the work is measured.
            self.run("checkpoint").await;
        })
    }

    fn put(&self, task: Number) -> Work<'_, ()> {
        // One transaction.
        let sql = format!("insert into {} values ({task}, '{}'); notify {CHANNEL}", self.name, text(task));
        Box::pin(async move { self.run(&sql).await })
    }

    fn stock(&self) -> Work<'_, (u64, u64)> {
        Box::pin(async move {
            let sql = format!("select count(*) from {}", self.name);
            let rows = self.client.query_one(&sql, &[]).await.expect("a number");
            (u64::try_from(rows.get::<_, i64>(0)).expect("a number"), 0)
        })
    }

    fn clear(&self) -> Work<'_, ()> {
        Box::pin(async move { self.run(&format!("drop table if exists {}", self.name)).await })
    }

    fn hire(&self, _: usize, _: Duration) -> Work<'_, Box<dyn Worker>> {
        Box::pin(async move {
            let (client, heard) = connect(&self.url).await;
            let name = &self.name;
            let choose = match self.locks {
                Locks::Rows => {
                    format!("select id, task::text from {name} order by id limit 1 for update skip locked")
                }
                // By the index alone: a sort would lock what it sorts.
                Locks::Advisory => {
                    client
                        .batch_execute("set enable_sort = off; set enable_seqscan = off")
                        .await
                        .expect("settings");
                    format!(
                        "select id, task::text from {name} where pg_try_advisory_lock(id) order by id limit 1"
                    )
                }
            };
            let choose = client.prepare(&choose).await.expect("a statement");
            let remove = format!("delete from {name} where id = $1");
            let remove = client.prepare(&remove).await.expect("a statement");
            let unlock = client.prepare("select pg_advisory_unlock($1)").await.expect("a statement");
            client.batch_execute(&format!("listen {CHANNEL}")).await.expect("a session that hears");
            let locks = self.locks;
            Box::new(Session { client, heard, locks, choose, remove, unlock, chosen: 0 }) as Box<dyn Worker>
        })
    }
}

struct Session {
    client: Client,
    heard: Rc<Notify>,
    locks: Locks,
    choose: Statement,
    remove: Statement,
    unlock: Statement,
    chosen: i64,
}

impl Session {
    /// A row, locked.
    async fn choose(&self) -> Option<i64> {
        let row = match self.locks {
            // Sent together, as all below.
            Locks::Rows => {
                let begin = self.client.batch_execute("begin");
                tokio::try_join!(begin, self.client.query_opt(&self.choose, &[])).map(|((), row)| row)
            }
            Locks::Advisory => self.client.query_opt(&self.choose, &[]).await,
        };
        let row = row.expect("rows");
        if row.is_none() && self.locks == Locks::Rows {
            self.client.batch_execute("rollback").await.expect("an end");
        }
        row.map(|row| {
            assert!(row.get::<_, &str>(1).contains("resize"), "a task");
            row.get(0)
        })
    }
}

impl Worker for Session {
    fn next(&mut self, patience: Duration) -> Work<'_, Option<Number>> {
        Box::pin(async move {
            let ends = tokio::time::Instant::now() + patience;
            loop {
                if let Some(id) = self.choose().await {
                    self.chosen = id;
                    return Some(u64::try_from(id).expect("a number"));
                }
                if tokio::time::timeout_at(ends, self.heard.notified()).await.is_err() {
                    return None;
                }
            }
        })
    }

    fn done(&mut self) -> Work<'_, bool> {
        Box::pin(async move {
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&self.chosen];
            let remove = self.client.execute(&self.remove, &values);
            let removed = match self.locks {
                Locks::Rows => {
                    tokio::try_join!(remove, self.client.batch_execute("commit")).map(|(rows, ())| rows)
                }
                Locks::Advisory => {
                    tokio::try_join!(remove, self.client.execute(&self.unlock, &values)).map(|(rows, _)| rows)
                }
            };
            // It may have been done and let go between the choice's snapshot and its lock.
            removed.expect("an end") == 1
        })
    }
}
