//! Tables and functions, made and kept up to date at the start.
//!
//! Several instances may start together: a lock of the transaction lets one at a time look and migrate. A migration only
//! adds; functions carry a number in their names and never change, so the instances of the version before go on beside
//! those of the next one. `needs` is the least version that a build must know to work here.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row};

use super::link::describe;
use super::tls::Tls;
use super::value::column;

/// Each adds to the one before.
const MIGRATIONS: [&[&str]; 4] = [
    &[
        include_str!("sql/001_tables.sql"),
        include_str!("sql/001_turns.sql"),
        include_str!("sql/001_records.sql"),
    ],
    &[include_str!("sql/002_advisory.sql")],
    &[include_str!("sql/003_cells.sql")],
    &[include_str!("sql/004_plans.sql")],
];

/// The number of an advisory lock: the schema's own, made of its name.
const LOCK: &str = "hashtext('onceward {schema}')";

/// A schema by its name.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    name: String,
}

/// What stands in the schema's own table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) version: i32,
    needs: i32,
    /// Of minted tags (V8).
    pub(super) epoch: u64,
}

impl Schema {
    /// # Errors
    /// A name that would have to be spelled differently somewhere.
    pub(super) fn new(name: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > 40 || !name.chars().all(fits) {
            return Err(format!(
                "store.schema {name:?}: up to 40 letters, digits, `_` and `-`, without accents"
            ));
        }
        Ok(Self { name: name.to_owned() })
    }

    /// The channel of its news.
    pub(super) fn channel(&self) -> String {
        format!("onceward:{}", self.name)
    }

    /// SQL of ours with the schema's name in it.
    pub(super) fn fill(&self, sql: &str) -> String {
        sql.replace("{lock}", LOCK)
            .replace("{s}", &format!("\"{}\"", self.name))
            .replace("{channel}", &self.channel())
            .replace("{schema}", &self.name)
    }

    /// Brings the schema to this build's version, or beyond if another build was faster. A server that is just starting,
    /// or ends while it is asked, is asked again for as long as a step may take.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(super) async fn prepare(
        &self,
        config: &Config,
        tls: Tls,
        patience: Duration,
    ) -> Result<Version, String> {
        let until = Instant::now() + patience;
        loop {
            match self.prepare_once(config, tls.clone(), patience).await {
                Err(Failed::ForNow(_)) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(Failed::ForNow(why) | Failed::ForGood(why)) => return Err(why),
                Ok(version) => return Ok(version),
            }
        }
    }

    async fn prepare_once(&self, config: &Config, tls: Tls, patience: Duration) -> Result<Version, Failed> {
        let connecting = tokio::time::timeout(patience, config.connect(tls));
        let (mut client, connection) = match connecting.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) if may_pass(&error) => return Err(Failed::ForNow(describe(&error))),
            Ok(Err(error)) => return Err(Failed::ForGood(describe(&error))),
            Err(_) => return Err(Failed::ForNow("it takes connections, and says nothing".to_owned())),
        };
        let work = async move {
            let prepared = self.on(&mut client).await;
            let lost = client.is_closed();
            prepared.map_err(|why| if lost { Failed::ForNow(why) } else { Failed::ForGood(why) })
        };
        // The connection ends with the client. Others may migrate first, which takes them a moment.
        let both = async { tokio::join!(work, connection).0 };
        let prepared = tokio::time::timeout(patience * 6, both).await;
        prepared
            .unwrap_or_else(|_| Err(Failed::ForGood(format!("schema {} is not prepared in time", self.name))))
    }

    async fn on(&self, client: &mut Client) -> Result<Version, String> {
        isolation(client).await?;
        // Most starts find it as it should be, and need no lock and no right to change anything.
        if let Some(found) = self.find(client).await?
            && usize::try_from(found.version).is_ok_and(|version| version >= MIGRATIONS.len())
        {
            return self.checked(found);
        }
        let failed = |error: tokio_postgres::Error| self.not_made(&error);
        client.batch_execute("begin").await.map_err(failed)?;
        let migrated = self.migrate(client).await;
        let end = if migrated.is_ok() { "commit" } else { "rollback" };
        client.batch_execute(end).await.map_err(failed)?;
        migrated
    }

    async fn migrate(&self, client: &Client) -> Result<Version, String> {
        let run = async |sql: String| client.batch_execute(&sql).await.map_err(|error| self.not_made(&error));
        run(self.fill("select pg_advisory_xact_lock({lock}, 0)")).await?;
        let found = self.find(client).await?;
        let from = found.map_or(0, |found| usize::try_from(found.version).unwrap_or(0));
        if let Some(found) = found.filter(|_| from >= MIGRATIONS.len()) {
            return self.checked(found);
        }
        if found.is_none() {
            // Who may not make schemas may still be given one.
            if !self.exists(client).await? {
                run(self.fill("create schema {s}")).await?;
            }
            run(self.fill(FIRST)).await?;
        }
        for migration in MIGRATIONS.iter().skip(from) {
            for sql in *migration {
                run(self.fill(sql)).await?;
            }
        }
        run(self.fill(&format!("update {{s}}.schema set version = {}", MIGRATIONS.len()))).await?;
        self.find(client)
            .await?
            .ok_or_else(|| format!("schema {} does not hold what was put there", self.name))
    }

    async fn exists(&self, client: &Client) -> Result<bool, String> {
        let sql = "select exists (select from pg_namespace where nspname = $1)";
        let rows = client.query_typed(sql, &[self.own_name()]).await.map_err(|error| describe(&error))?;
        Ok(rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false))
    }

    fn own_name(&self) -> (&(dyn ToSql + Sync), Type) {
        (&self.name, Type::TEXT)
    }

    async fn find(&self, client: &Client) -> Result<Option<Version>, String> {
        let sql = "select exists (select from pg_tables where schemaname = $1 and tablename = 'schema')";
        let rows = client.query_typed(sql, &[self.own_name()]).await.map_err(|error| describe(&error))?;
        if !rows.first().and_then(|row| row.try_get(0).ok()).unwrap_or(false) {
            return Ok(None);
        }
        let sql = self.fill("select version, needs, epoch from {s}.schema");
        let rows = client.query_typed(&sql, &[]).await.map_err(|error| self.not_made(&error))?;
        Ok(rows.first().and_then(version))
    }

    fn checked(&self, found: Version) -> Result<Version, String> {
        let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
        if found.needs > known {
            return Err(format!(
                "schema {} is of version {}, made by a newer Onceward; this one knows {known}. Start the newer one \
                 again, or give this one a schema of its own (store.schema), which begins empty",
                self.name, found.version
            ));
        }
        Ok(found)
    }

    fn not_made(&self, error: &tokio_postgres::Error) -> String {
        let said = describe(error);
        if error.code().is_some_and(|code| code.code() == "42501") {
            return format!(
                "{said}. Let an administrator run: create schema \"{}\" authorization \
                 <the role that Onceward connects as>; it makes its tables and functions there by itself",
                self.name
            );
        }
        said
    }
}

/// Why a try came to nothing.
enum Failed {
    ForNow(String),
    ForGood(String),
}

/// Whether it is about the server's being there, and not about what was asked for.
fn may_pass(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;
    match error.code() {
        Some(code) => ["08", "53", "57"].iter().any(|class| code.code().starts_with(class)),
        None => error.source().is_some_and(|cause| cause.is::<std::io::Error>()) || error.is_closed(),
    }
}

/// A stricter isolation would make steps fail that only meet, and gains nothing: each is one function that locks.
async fn isolation(client: &Client) -> Result<(), String> {
    let sql = "select current_setting('default_transaction_isolation')";
    let row = client.query_typed_one(sql, &[]).await.map_err(|error| describe(&error))?;
    let level: String = row.try_get(0).map_err(|error| describe(&error))?;
    if level == "read committed" {
        return Ok(());
    }
    Err(format!(
        "default_transaction_isolation is {level:?} for this role; it has to be the usual one: alter role <the role \
         that Onceward connects as> set default_transaction_isolation = 'read committed'"
    ))
}

/// The schema's own table. The epoch is the time it was made, in microseconds.
const FIRST: &str = "create table {s}.schema (
    version int not null,
    needs int not null,
    epoch bigint not null
);
insert into {s}.schema values (0, 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint);";

fn version(row: &Row) -> Option<Version> {
    Some(Version {
        version: column(row, "version")?,
        needs: column(row, "needs")?,
        epoch: column::<i64>(row, "epoch")?.cast_unsigned(),
    })
}
