//! The statements over one table: names are quoted, `ready`, `order` and `done` are the operator's own SQL.

use crate::config::checked::{Locks, PostgresTasks};

/// The types of the table's columns, by which values are cast: an index on them is used then.
pub(super) const TYPES: &str = "select a.attname::text, format_type(a.atttypid, null) from pg_catalog.pg_attribute a \
     where a.attrelid = $1::text::regclass and a.attname in ($2, $3) and a.attnum > 0 and not a.attisdropped";

/// What is chosen has names of its own: a column's name in `order` means what is chosen under it, were there one, and an
/// identity there is text.
const ID: &str = "\"onceward id\"";
const TASK: &str = "\"onceward task\"";

/// See [`TYPES`].
pub(super) struct Types {
    pub(super) id: String,
    pub(super) task: String,
}

/// All statements.
pub(super) struct Sql {
    /// `$1`: identities that are left out; `$2`: how many.
    pub(super) choose: String,
    /// `$1`: an identity.
    pub(super) has: String,
    pub(super) done: Option<String>,
    pub(super) bury: Option<String>,
    pub(super) unlock: String,
    /// `$1`: the task.
    pub(super) put: Option<String>,
}

/// A name as SQL has it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table's name, whose schema stands before a dot.
fn table(name: &str) -> String {
    match name.split_once('.') {
        Some((schema, table)) => format!("{}.{}", quoted(schema), quoted(table)),
        None => quoted(name),
    }
}

/// The same where a function looks it up.
pub(super) fn regclass(name: &str) -> String {
    table(name)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Sql {
    pub(super) fn new(settings: &PostgresTasks, types: &Types) -> Self {
        let (from, id) = (table(&settings.table), quoted(&settings.id));
        let ready = settings.ready.as_deref().unwrap_or("true");
        let order = settings.order.as_deref().map_or_else(|| format!("t.{id}"), |order| order.to_owned());
        let task = match &settings.task {
            Some(column) => format!("t.{}", quoted(column)),
            None => "to_jsonb(t)".to_owned(),
        };
        let this = format!("{id} = $1::text::{}", types.id);
        let chosen = format!(
            "from {from} as t where ({ready}) and t.{id} <> all ($1::text[]::{}[]) order by {order} limit $2",
            types.id
        );
        let choose = match settings.locks {
            Locks::Rows => {
                format!("select t.{id}::text as {ID}, {task} as {TASK} {chosen} for update of t skip locked")
            }
            Locks::Advisory => format!(
                "with chosen as materialized (select t.{id}::text as {ID}, {task} as {TASK} {chosen}) \
                 select {ID}, {TASK}, pg_try_advisory_lock({}) from chosen",
                key(&settings.table, ID)
            ),
        };
        let done = match settings.done.as_deref() {
            None => Some(format!("delete from {from} where {this}")),
            Some("") => None,
            Some(set) => Some(format!("update {from} set {set} where {this}")),
        };
        let bury = settings.dead_letter.as_deref().map(|dead| {
            let dead = table(dead);
            format!("with gone as (delete from {from} where {this} returning *) insert into {dead} select * from gone")
        });
        let put = settings.task.as_ref().map(|column| {
            let column = quoted(column);
            format!("insert into {from} ({column}) values ($1::text::{}) returning {id}::text", types.task)
        });
        Self {
            choose,
            has: format!("select 1 from {from} as t where ({ready}) and t.{this} limit 1"),
            done,
            bury,
            unlock: format!("select pg_advisory_unlock({})", key(&settings.table, "$1::text")),
            put,
        }
    }
}

/// The key of a task's advisory lock: `hashtextextended('<table as configured>:<identity>', 0)`.
fn key(table: &str, identity: &str) -> String {
    format!("hashtextextended({} || {identity}, 0)", literal(&format!("{table}:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_what_is_sql_stays() {
        let settings = PostgresTasks {
            url: crate::config::checked::Secret::new(String::new()),
            table: "my.t\"s".to_owned(),
            task: Some("pay load".to_owned()),
            id: "ID".to_owned(),
            ready: Some("status = 'open'".to_owned()),
            order: None,
            done: Some("status = 'done'".to_owned()),
            locks: Locks::Rows,
            dead_letter: None,
        };
        let types = Types { id: "bigint".to_owned(), task: "jsonb".to_owned() };
        let sql = Sql::new(&settings, &types);
        assert_eq!(
            sql.choose,
            "select t.\"ID\"::text as \"onceward id\", t.\"pay load\" as \"onceward task\" \
             from \"my\".\"t\"\"s\" as t where (status = 'open') and \
             t.\"ID\" <> all ($1::text[]::bigint[]) order by t.\"ID\" limit $2 for update of t skip locked"
        );
        let done = "update \"my\".\"t\"\"s\" set status = 'done' where \"ID\" = $1::text::bigint";
        assert_eq!(sql.done.as_deref(), Some(done));
        assert_eq!(key("it's", "id"), "hashtextextended('it''s:' || id, 0)");
    }
}
