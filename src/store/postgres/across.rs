//! What instances ask of each other through the store (S3, Q4).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::Row;

use super::rows::whole_millis;
use super::sql::Sql;
use super::value::{Value, column};
use super::{Core, Postgres, first_record, records};
use crate::protocol::record::{Millis, Record, RecordId, ResourceId};
use crate::store::shared::{
    Also, Beside, BusyResource, Instance, Lapsed, News, Shared, TurnEnd, Turned, Wish,
};
use crate::store::{Claimed, Reply};

impl Shared for Postgres {
    fn living(&self) -> Option<Instance> {
        self.core.living()
    }

    fn claim_beside(
        &self,
        id: RecordId,
        record: Record,
        beside: Beside,
        now: Millis,
    ) -> Reply<(Claimed, Option<Also>)> {
        if let Some(finished) = self.core.cache.get(id, now) {
            let standing = Box::new(finished.record.clone());
            return Reply::now(Ok((Claimed::Taken { standing, yours: Box::new(record) }, None)));
        }
        let core = Arc::clone(&self.core);
        Reply::later(async move { core.claim(id, record, Some(beside), now).await })
    }

    fn take_turn(&self, wish: Wish, now: Millis) -> Reply<Turned> {
        let core = Arc::clone(&self.core);
        Reply::later(async move { core.take_turn(wish, now).await })
    }

    fn end_turn(&self, end: TurnEnd) -> Reply<()> {
        let rest = Value::Number(end.rest.map(whole_millis));
        let values = vec![Value::id(end.resource.0), Value::number(end.token.0), rest];
        let core = Arc::clone(&self.core);
        Reply::later(async move { core.end_turn(&core.sql.end_turn, &values).await.map(drop) })
    }

    fn leave_line(&self, resource: ResourceId) -> Reply<()> {
        self.core.waits.not_for_turn(resource);
        let values = vec![Value::id(resource.0), Value::number(self.core.instance().0)];
        self.ask(|sql| &sql.leave_line, values, |_, _| Ok(()))
    }

    fn end_rest(&self, resource: ResourceId) -> Reply<()> {
        self.ask(|sql| &sql.end_rest, vec![Value::id(resource.0)], |_, _| Ok(()))
    }

    fn busy(&self, most: usize) -> Reply<Vec<BusyResource>> {
        let values = vec![Value::Number(Some(i64::try_from(most).unwrap_or(i64::MAX)))];
        self.ask(|sql| &sql.busy, values, |_, rows| Ok(rows.iter().filter_map(busy).collect()))
    }

    fn watch(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        if let Some(finished) = self.core.cache.get(id, now) {
            return Reply::now(Ok(Some(finished.record.clone())));
        }
        let values = vec![Value::id(id.0), Value::number(now)];
        let statement: fn(&Sql) -> &str =
            if self.core.listens() { |sql| &sql.watch } else { |sql| &sql.read };
        self.ask(statement, values, move |core: &Core, rows| {
            let record = first_record(&rows)?;
            if record.as_ref().is_some_and(|record| record.state.phase().runs()) {
                core.waits.for_end(id);
            }
            Ok(record)
        })
    }

    fn lapsed(&self) -> Reply<Vec<Lapsed>> {
        self.ask(|sql| &sql.lapsed, Vec::new(), |_, rows| Ok(rows.iter().filter_map(lapsed).collect()))
    }

    fn left_by(&self, instance: Instance, most: usize) -> Reply<Vec<(RecordId, Record)>> {
        let most = Value::Number(Some(i64::try_from(most).unwrap_or(i64::MAX)));
        self.ask(|sql| &sql.left_by, vec![Value::number(instance.0), most], |_, rows| records(&rows))
    }

    fn bury(&self, instance: Instance) -> Reply<()> {
        self.ask(|sql| &sql.bury, vec![Value::number(instance.0)], |_, _| Ok(()))
    }

    fn news(&self) -> Option<mpsc::Receiver<News>> {
        self.core.post.receiver()
    }
}

fn busy(row: &Row) -> Option<BusyResource> {
    let name: Vec<u8> = column(row, "name")?;
    let rest = column::<Option<i64>>(row, "rest_ms").flatten().and_then(|left| u64::try_from(left).ok());
    Some(BusyResource {
        name: String::from_utf8(name).ok()?.into(),
        in_flight: column(row, "in_flight")?,
        rest: rest.filter(|left| *left > 0).map(Duration::from_millis),
    })
}

fn lapsed(row: &Row) -> Option<Lapsed> {
    let instance = Instance(column::<i64>(row, "instance")?.cast_unsigned());
    let ago = Duration::from_millis(u64::try_from(column::<i64>(row, "ago")?).ok()?);
    Some(Lapsed { instance, ago })
}
