//! What instances ask of it besides (S3, Q4, Q5).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::link::Link;
use super::script::{self, Call};
use super::value::Said;
use super::{Redis, steps};
use crate::protocol::record::{Millis, Record, RecordId, ResourceId};
use crate::store::shared::{
    Also, Beside, BusyResource, Instance, Lapsed, News, Shared, TurnEnd, Turned, Wish,
};
use crate::store::{Claimed, Reply};

/// The link has seen what is granted.
pub(super) fn seen(link: &Link, turned: Turned) -> Turned {
    if let Turned::Granted(grant) = &turned {
        grant.numbers.iter().for_each(|number| link.saw(*number));
    }
    turned
}

impl Shared for Redis {
    fn living(&self) -> Option<Instance> {
        self.link.life.instance()
    }

    fn claim_beside(
        &self,
        id: RecordId,
        record: Record,
        beside: Beside,
        now: Millis,
    ) -> Reply<(Claimed, Option<Also>)> {
        self.claims(id, record, Some(beside), now)
    }

    fn take_turn(&self, wish: Wish, now: Millis) -> Reply<Turned> {
        let instance = match self.link.alive() {
            Ok(instance) => instance,
            Err(error) => return Reply::now(Err(error)),
        };
        let call = steps::instance(Call::of(&script::TAKE).number(now), instance)
            .arg(wish.resource.0)
            .arg(wish.token.0.to_be_bytes())
            .arg(wish.name.as_bytes());
        let link = Arc::clone(&self.link);
        self.ask(call, move |said, epoch| {
            let turned = said.list()?.nth(1)?;
            steps::turned(Said(turned), &wish, epoch).map(|turned| seen(&link, turned))
        })
    }

    fn end_turn(&self, end: TurnEnd) -> Reply<()> {
        self.ask(steps::ended(Call::of(&script::END), &end), |_, _| Some(()))
    }

    fn leave_line(&self, resource: ResourceId) -> Reply<()> {
        let call = steps::instance(Call::of(&script::LEAVE).arg(resource.0), self.link.life.last());
        self.ask(call, |_, _| Some(()))
    }

    fn end_rest(&self, resource: ResourceId) -> Reply<()> {
        self.ask(Call::of(&script::END_REST).arg(resource.0), |_, _| Some(()))
    }

    fn busy(&self, most: usize) -> Reply<Vec<BusyResource>> {
        let call = Call::of(&script::BUSY).number(most.min(super::MOST) as u64);
        self.ask(call, |said, _| {
            let busy = said.list()?.map(|value| {
                let mut one = Said(value).list()?;
                let name = Said(one.next()?).text()?.into();
                let in_flight = Said(one.next()?).number()? == 1;
                let rest = Said(one.next()?).number().filter(|left| *left > 0).map(Duration::from_millis);
                Some(BusyResource { name, in_flight, rest })
            });
            busy.collect()
        })
    }

    fn watch(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        self.reads(id, true, now)
    }

    fn lapsed(&self) -> Reply<Vec<Lapsed>> {
        self.ask(Call::of(&script::LAPSED), |said, _| {
            let lapsed = said.list()?.map(|value| {
                let mut one = Said(value).list()?;
                let instance = Instance(Said(one.next()?).eight()?);
                Some(Lapsed { instance, ago: Duration::from_millis(Said(one.next()?).number()?) })
            });
            lapsed.collect()
        })
    }

    fn left_by(&self, instance: Instance, most: usize) -> Reply<Vec<(RecordId, Record)>> {
        let call = steps::instance(Call::of(&script::LEFT), instance).number(most.min(super::MOST) as u64);
        self.ask(call, |said, _| said.records())
    }

    fn bury(&self, instance: Instance) -> Reply<()> {
        self.ask(steps::instance(Call::of(&script::BURY), instance), |_, _| Some(()))
    }

    fn news(&self) -> Option<mpsc::Receiver<News>> {
        self.link.teller.receiver()
    }
}
