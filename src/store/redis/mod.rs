//! `redis:`, a store that any number of instances share (S3), on one primary or behind Sentinel.
//!
//! Every step is one script and one round trip. What replication lost at a failover is another history: it has an
//! epoch of its own, in which no tag of the last one matches, and whoever believes in the last one is told before
//! anything is done.

pub(crate) mod address;
mod beside;
mod connection;
mod health;
mod life;
mod link;
mod news;
mod script;
mod shared;
mod steps;
#[cfg(test)]
mod tests;
mod value;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::AbortHandle;

use self::address::Address;
use self::connection::Unmet;
use self::link::Link;
use self::script::Call;
use self::value::{Said, unreadable};
use super::disk::format;
use super::finished::{Finished, FinishedCache};
use super::shared::{Also, Beside, Shared};
use super::{Answer, Change, Claimed, Move, Number, Reply, Resolution, Set, Store, StoreError, minted};
use crate::protocol::record::{Millis, Phase, Record, RecordId, ResourceId, State};
use crate::store::cells::{Cell, CellId, Kind, Name, Swap};
use crate::store::log::{Event, Keep, Place};
use tokio::sync::watch;

/// Keys that a walk over everything looks at, at most; a page has a thousand.
const PAGES: usize = 200;
/// Records that one answer holds, at most.
const MOST: usize = 10_000;

/// What the configuration says of it.
#[derive(Clone)]
pub struct Options {
    /// As configured. It may hold a password, and stands in no error.
    pub url: String,
    /// What all keys begin with.
    pub prefix: String,
    /// How long an instance is taken for alive after its last word.
    pub alive: Duration,
    /// How long a step may take.
    pub patience: Duration,
    pub connections: usize,
    /// So many replicas have what must last, before it is answered.
    pub wait_replicas: usize,
    /// Bytes of finished records kept here too.
    pub max_memory: usize,
}

/// One instance's handle on the store. Dropped without [`Store::close`] it ends as a process that is killed.
pub struct Redis {
    link: Arc<Link>,
    cache: Arc<FinishedCache>,
    keeper: AbortHandle,
}

impl Redis {
    /// Connects, and begins to live there.
    ///
    /// # Errors
    /// For people, without secrets: what is wrong with the URL or the server, or that it was not reached in time.
    pub async fn open(options: Options) -> Result<Arc<Self>, String> {
        let address = Address::parse(&options.url)?;
        let (patience, max_memory) = (options.patience, options.max_memory);
        let link = Arc::new(Link::new(options, address));
        let until = Instant::now() + patience;
        loop {
            match link.meet().await {
                Ok(()) => break,
                Err(Unmet::Refused(why)) => return Err(why),
                Err(Unmet::Failed(why)) if Instant::now() >= until => return Err(why),
                Err(Unmet::Failed(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        let keeper = tokio::spawn(Arc::clone(&link).keep()).abort_handle();
        Ok(Arc::new(Self { link, cache: Arc::new(FinishedCache::new(max_memory)), keeper }))
    }

    /// Takes a step, and reads what it said in the epoch it was taken in.
    fn ask<T: Send + 'static>(
        &self,
        call: Call,
        read: impl FnOnce(Said, u64) -> Option<T> + Send + 'static,
    ) -> Reply<T> {
        let link = Arc::clone(&self.link);
        let live = match link.live() {
            Ok(live) => live,
            Err(error) => return Reply::now(Err(error)),
        };
        Reply::later(async move {
            let said = link.take(&live, &call).await?;
            read(said, live.epoch).ok_or_else(unreadable)
        })
    }

    /// A claim, and what is asked beside it.
    fn claims(
        &self,
        id: RecordId,
        record: Record,
        beside: Option<Beside>,
        now: Millis,
    ) -> Reply<(Claimed, Option<Also>)> {
        if let Some(kept) = self.cache.get(id, now) {
            return Reply::now(Ok((taken(kept.record.clone(), record), None)));
        }
        let instance = match self.link.alive() {
            Ok(instance) => instance,
            Err(error) => return Reply::now(Err(error)),
        };
        let call = steps::instance(steps::id(Call::of(&script::CLAIM), id).number(now), instance)
            .bytes(Bytes::from(value::encode(&record, instance)))
            .durable(record.state.phase() == Phase::Forwarded)
            .told();
        let call = match &beside {
            Some(Beside::Turn(wish)) => {
                call.arg(wish.resource.0).arg(wish.token.0.to_be_bytes()).arg(wish.name.as_bytes())
            }
            Some(Beside::Lease(resource)) => call.arg(resource.0),
            None => call,
        };
        let (cache, link) = (Arc::clone(&self.cache), Arc::clone(&self.link));
        self.ask(call, move |said, epoch| {
            let mut said = said.list()?;
            if Said(said.next()?).number()? == 1 {
                let also = match beside {
                    Some(Beside::Turn(wish)) => {
                        let turned = steps::turned(Said(said.next()?), &wish, epoch)?;
                        Some(Also::Turned(shared::seen(&link, turned)))
                    }
                    Some(Beside::Lease(_)) => Some(Also::Lease(match said.next() {
                        Some(cell) => Some(beside::cell(&mut Said(cell).list()?.map(Said))?),
                        None => None,
                    })),
                    None => None,
                };
                return Some((Claimed::New, also));
            }
            let (standing, answer) = Said(said.next()?).record()?;
            cache.put(id, finished(standing.clone(), answer));
            Some((taken(standing, record), None))
        })
    }

    fn reads(&self, id: RecordId, watched: bool, now: Millis) -> Reply<Option<Record>> {
        if let Some(kept) = self.cache.get(id, now) {
            return Reply::now(Ok(Some(kept.record.clone())));
        }
        let call = steps::id(Call::of(&script::READ), id).flag(watched).told();
        self.ask(call, move |said, _| {
            if said.is_nothing() {
                return Some(None);
            }
            Some(said.record().map(|(record, _)| record).filter(|record| !record.is_expired(now)))
        })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn finished(record: Record, answer: Bytes) -> Finished {
    Finished { record, answer: Some(answer).filter(|answer| !answer.is_empty()) }
}

fn taken(standing: Record, yours: Record) -> Claimed {
    Claimed::Taken { standing: Box::new(standing), yours: Box::new(yours) }
}

impl Store for Redis {
    fn claim(&self, id: RecordId, record: Record, now: Millis) -> Reply<Claimed> {
        let claims = self.claims(id, record, None, now);
        match claims {
            Reply::Now(result) => Reply::Now(result.map(|result| result.map(|(claimed, _)| claimed))),
            Reply::Later(later) => Reply::later(async move { later.await.map(|(claimed, _)| claimed) }),
        }
    }

    fn read(&self, id: RecordId, now: Millis) -> Reply<Option<Record>> {
        self.reads(id, false, now)
    }

    fn answer(&self, id: RecordId) -> Reply<Option<Answer>> {
        if let Some(kept) = self.cache.get(id, 0) {
            return Reply::now(Ok(kept.answer()));
        }
        self.ask(steps::id(Call::of(&script::ANSWER), id).told(), |said, _| {
            if said.is_nothing() {
                return Some(None);
            }
            said.record().map(|(record, answer)| finished(record, answer).answer())
        })
    }

    fn commit(&self, change: Change, now: Millis) -> Reply<bool> {
        let begins = match &change.set {
            Set::Replace(record) => matches!(record.state, State::Claimed | State::Forwarded { .. }),
            Set::State(_) | Set::Remove => false,
        };
        let holder = match self.link.alive() {
            Err(error) if begins => return Reply::now(Err(error)),
            // What was begun is ended whoever is alive.
            alive => alive.unwrap_or_else(|_| self.link.life.last()),
        };
        let call = steps::commit(&change, holder, self.link.history(), now);
        let cache = Arc::clone(&self.cache);
        let answer = change.answer.map(super::Encoded::into_bytes).unwrap_or_default();
        let end = match change.set {
            Set::State(state @ State::Done { .. }) => Some(state),
            Set::State(_) | Set::Replace(_) | Set::Remove => None,
        };
        self.ask(call, move |said, _| {
            let mut said = said.list()?;
            let done = Said(said.next()?).number()?;
            if let Some((was, state)) = said.next().zip(end) {
                let record = Record { state, ..Said(was).record()?.0 };
                cache.put(change.id, finished(record, answer));
            }
            Some(done != 0)
        })
    }

    fn resolutions(&self, id: RecordId, now: Millis) -> Reply<Vec<Resolution>> {
        self.ask(steps::id(Call::of(&script::RESOLUTIONS), id), move |said, _| {
            let mut found = Vec::new();
            for value in said.list()? {
                let bytes = Said(value).bytes()?;
                let (until, word) = bytes.split_first_chunk()?;
                let expires_at = u64::from_be_bytes(*until);
                found.push(format::decode_resolution(id, expires_at, word).ok()?);
            }
            found.retain(|one| one.expires_at > now);
            Some(found)
        })
    }

    fn next_fence(&self) -> Reply<u64> {
        self.next_number()
    }

    fn next_number(&self) -> Reply<Number> {
        let link = Arc::clone(&self.link);
        self.ask(Call::of(&script::NEXT), move |said, _| said.number().inspect(|number| link.saw(*number)))
    }

    fn move_version(&self, to: Move, now: Millis) -> Reply<()> {
        let call = steps::moved(Call::of(&script::MOVE).number(now), &to).durable(true);
        self.ask(call, |_, _| Some(()))
    }

    fn minted(&self, resource: ResourceId, now: Millis) -> Reply<Box<str>> {
        let call = Call::of(&script::MINTED).number(now).arg(resource.0);
        self.ask(call, move |said, epoch| Some(minted::tag_of(epoch, resource, said.number()?)))
    }

    fn minted_tag(&self, resource: ResourceId, number: Number) -> Box<str> {
        minted::tag_of(self.link.epoch(), resource, number)
    }

    fn scan(&self, phase: Option<Phase>, most: usize, now: Millis) -> Reply<Vec<(RecordId, Record)>> {
        let link = Arc::clone(&self.link);
        Reply::later(async move { scan(&link, phase, most.min(MOST), now).await })
    }

    fn cell(&self, id: CellId, _: Millis) -> Reply<Option<Cell>> {
        self.cell_now(id)
    }

    fn swap(&self, swap: Swap, now: Millis) -> Reply<bool> {
        self.ask(beside::swap(&swap, self.link.history(), now), |said, _| {
            Some(Said(said.list()?.next()?).number()? != 0)
        })
    }

    fn due(&self, kind: Kind, within: Duration, most: usize, _: Millis) -> Reply<Vec<(Name, Cell)>> {
        self.of_kind(kind, Some(within), most)
    }

    fn cells(&self, kind: Kind, most: usize, _: Millis) -> Reply<Vec<(Name, Cell)>> {
        self.of_kind(kind, None, most)
    }

    fn keep_events(&self, keep: Keep) {
        self.link.keep_events(keep);
    }

    fn last_event(&self) -> Reply<Place> {
        self.ask(Call::of(&script::LAST), |said, epoch| Some(Place { epoch, number: said.number()? }))
    }

    fn events(&self, after: Place, most: usize, _: Millis) -> Reply<Option<Vec<Event>>> {
        self.events_after(after, most)
    }

    fn event_signal(&self) -> watch::Receiver<u64> {
        self.link.teller.signal()
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn reach(&self) -> Reply<()> {
        self.ask(Call::of(&script::REACH), |_, _| Some(()))
    }

    fn close(&self) -> Reply<()> {
        let link = Arc::clone(&self.link);
        Reply::later(async move { link.close().await })
    }

    fn unknown(&self) -> Reply<u64> {
        self.ask(Call::of(&script::COUNT), |said, _| said.number())
    }

    fn fill_ratio(&self) -> Reply<f64> {
        let link = Arc::clone(&self.link);
        Reply::later(async move {
            let live = link.live()?;
            let health = tokio::time::timeout(link.options.patience, live.health()).await;
            Ok(health
                .map_err(|_| StoreError::Unavailable)?
                .map_err(|_| StoreError::Unavailable)?
                .fill_ratio())
        })
    }

    fn sweep(&self, now: Millis) {
        self.link.sweep(now);
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }
}

/// Records in a phase, or all: those that run or wait and the unknown by what finds them, the others by a bounded walk.
async fn scan(
    link: &Link,
    phase: Option<Phase>,
    most: usize,
    now: Millis,
) -> Result<Vec<(RecordId, Record)>, StoreError> {
    let live = link.live()?;
    let wants = |one: Phase| phase.is_none_or(|phase| phase == one);
    let mut found = Vec::new();
    let running = [Phase::Claimed, Phase::Forwarded, Phase::Queued].into_iter().filter(|one| wants(*one));
    let letters: String = running.map(value::letter).collect();
    if !letters.is_empty() {
        let call = Call::of(&script::RUNNING).arg(letters).number(most as u64);
        found.extend(link.take(&live, &call).await?.records().ok_or_else(unreadable)?);
    }
    if wants(Phase::Unknown) {
        let call = Call::of(&script::UNKNOWN).number(most as u64);
        found.extend(link.take(&live, &call).await?.records().ok_or_else(unreadable)?);
    }
    let mut cursor = "0".to_owned();
    // A walk may meet a key twice.
    let mut met = HashSet::new();
    for _ in 0..PAGES {
        if !wants(Phase::Done) || found.len() >= most {
            break;
        }
        let call = Call::of(&script::DONE).arg(&cursor).number((most - found.len()) as u64);
        let mut page = link.take(&live, &call).await?.list().ok_or_else(unreadable)?;
        cursor = page.next().and_then(|next| Said(next).text()).ok_or_else(unreadable)?;
        for value in page {
            let one = value::pair(value).ok_or_else(unreadable)?;
            if met.insert(one.0) {
                found.push(one);
            }
        }
        if cursor == "0" {
            break;
        }
    }
    found.retain(|(_, record)| !record.is_expired(now));
    found.truncate(most);
    Ok(found)
}
