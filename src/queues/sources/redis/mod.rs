//! Tasks of a Redis Stream, by a consumer group (J2, J3).
//!
//! All instances are one consumer of the group: any of them can acknowledge what another took, and what one took and died
//! with is found by all. An entry that was taken is pending in the group for everybody to see; how long ago it was taken is
//! the stream's own clock of its claim. So:
//!
//! - taking reads new entries, and claims those that are pending for longer than the visibility;
//! - giving one back says that it has been pending for that long;
//! - waiting reads nothing: it watches for entries beyond the last one that the group was given.

mod entry;
mod link;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, Value, cmd};
use tokio::sync::{Notify, oneshot};

use super::super::source::{Busy, Dead, Identity, NewTask, Offer, Source, SourceError, Taken, Told, Work};
use super::Ground;
use crate::config::checked::RedisTasks;
use crate::store::redis::address::Address;
use link::{Failed, Line};

/// The one consumer that all instances are.
const CONSUMER: &str = "onceward";
/// Where tasks end and entries are never found again by those who wait, a look is due all the same.
const LOOK: Duration = Duration::from_secs(1);
/// A wait that could not begin ends after this long, so that the source is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// A stream and a group of it.
struct Stream(Arc<Inner>);

struct Inner {
    settings: RedisTasks,
    ground: Ground,
    address: Result<Address, String>,
    calls: Line,
    watch: Line,
    /// Somebody watches already, and tells all who wait.
    watches: AtomicBool,
    watched: Notify,
    take: Script,
    bury: Script,
    pending: Mutex<Pending>,
}

/// Where the look through what is pending ended, and the entries: each its id and its words.
type Found = (String, Vec<(String, Vec<Vec<u8>>)>);

/// The look through what is pending.
struct Pending {
    due: Instant,
    /// Where the next one begins.
    cursor: String,
}

/// Makes the source of a queue.
pub(super) fn open(settings: &RedisTasks, ground: &Ground) -> Arc<dyn Source> {
    Arc::new(Stream(Arc::new(Inner {
        settings: settings.clone(),
        ground: ground.clone(),
        address: Address::parse(settings.url.expose()),
        calls: Line::default(),
        watch: Line::default(),
        watches: AtomicBool::new(false),
        watched: Notify::new(),
        take: Script::new(include_str!("take.lua")),
        bury: Script::new(include_str!("bury.lua")),
        pending: Mutex::new(Pending { due: Instant::now(), cursor: "0-0".to_owned() }),
    })))
}

impl Inner {
    async fn call<T>(
        &self,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Failed> {
        let address = self.address.as_ref().map_err(|why| Failed::Unreached(why.clone()))?;
        self.calls.call(address, Duration::ZERO, call).await
    }

    /// Makes the group, and the stream with it. What stands in the stream before its group does is a task too.
    async fn begin(&self) -> Result<(), Failed> {
        let RedisTasks { stream, group, .. } = &self.settings;
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(stream).arg(group).arg("0").arg("MKSTREAM");
        match self.call(async |to| create.exec_async(to).await).await {
            Err(Failed::Refused(error)) if error.code() == Some("BUSYGROUP") => Ok(()),
            made => made,
        }
    }

    /// Up to so many entries, which are pending from now on.
    async fn take(&self, most: usize) -> Result<Vec<Offer>, Failed> {
        match self.take_once(most).await {
            Err(failed) if failed.is_no_group() => {
                self.begin().await?;
                self.take_once(most).await
            }
            taken => taken,
        }
    }

    async fn take_once(&self, most: usize) -> Result<Vec<Offer>, Failed> {
        let asked = Instant::now();
        let (first, cursor) = {
            let pending = self.pending.lock();
            (pending.due <= asked, pending.cursor.clone())
        };
        let mut call = self.take.key(&self.settings.stream);
        call.arg(&self.settings.group).arg(CONSUMER).arg(self.visibility()).arg(most);
        call.arg(u8::from(first)).arg(cursor);
        let (cursor, entries): Found = self.call(async |to| call.invoke_async(to).await).await?;
        {
            let mut pending = self.pending.lock();
            pending.cursor = cursor;
            if first {
                pending.due = asked + LOOK;
            }
        }
        let offer = |(id, words)| Offer {
            identity: Identity::from(id),
            content: entry::content(words),
            asked,
            hold: None,
        };
        Ok(entries.into_iter().map(offer).collect())
    }

    /// Milliseconds.
    fn visibility(&self) -> u64 {
        u64::try_from(self.ground.visibility.as_millis()).unwrap_or(u64::MAX)
    }

    /// Entries that are pending are found by the next look, wherever.
    async fn back(&self, identities: &[Identity]) {
        let RedisTasks { stream, group, .. } = &self.settings;
        let mut claim = cmd("XCLAIM");
        claim.arg(stream).arg(group).arg(CONSUMER).arg(0);
        for identity in identities {
            claim.arg(&**identity);
        }
        claim.arg("IDLE").arg(self.visibility()).arg("JUSTID");
        if let Err(failed) = self.call(async |to| claim.exec_async(to).await).await {
            let error = SourceError::from(failed);
            tracing::debug!(queue = %self.ground.queue, why = error.text(), "what was given back is found later");
        }
    }

    /// Watches for all who wait, and tells them.
    async fn watch_once(&self) {
        if self.watch().await.is_err() {
            // No group, no stream, or no server: the next `take` sees to it, or says so.
            tokio::time::sleep(PAUSE).await;
        }
        self.watches.store(false, Ordering::Release);
        self.watched.notify_waiters();
    }

    /// Ends when the stream has an entry that the group was not given, or after a while.
    async fn watch(&self) -> Result<(), Failed> {
        let address = self.address.as_ref().map_err(|why| Failed::Unreached(why.clone()))?;
        let RedisTasks { stream, group, .. } = &self.settings;
        let mut asks = cmd("XINFO");
        asks.arg("GROUPS").arg(stream);
        let wait = async |to: &mut MultiplexedConnection| {
            let groups: Vec<Value> = asks.query_async(to).await?;
            let Some(last) = groups.into_iter().find_map(|said| last_given(said, group)) else {
                return Ok(());
            };
            let mut read = cmd("XREAD");
            read.arg("COUNT")
                .arg(1)
                .arg("BLOCK")
                .arg(LOOK.as_millis() as u64)
                .arg("STREAMS")
                .arg(stream)
                .arg(last);
            read.exec_async(to).await
        };
        self.watch.call(address, LOOK, wait).await
    }
}

/// The last entry that a group was given, if this is told of it.
fn last_given(said: Value, group: &str) -> Option<String> {
    let (mut name, mut last) = (None, None);
    for (word, value) in said.into_map_iter().ok()? {
        match redis::from_redis_value::<String>(word).ok()?.as_str() {
            "name" => name = redis::from_redis_value::<String>(value).ok(),
            "last-delivered-id" => last = redis::from_redis_value::<String>(value).ok(),
            _ => {}
        }
    }
    last.filter(|_| name.as_deref() == Some(group))
}

/// Offers on their way to who asked; what does not arrive goes back.
struct Batch {
    inner: Arc<Inner>,
    offers: Vec<Offer>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.offers.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let identities: Vec<_> = self.offers.drain(..).map(|offer| offer.identity).collect();
        let inner = Arc::clone(&self.inner);
        self.inner.ground.tasks.spawn(async move { inner.back(&identities).await });
    }
}

impl Source for Stream {
    fn take<'a>(&'a self, most: usize, _: &'a dyn Busy) -> Work<'a, Result<Taken, SourceError>> {
        Box::pin(async move {
            let (give, given) = oneshot::channel();
            let inner = Arc::clone(&self.0);
            // Whoever asks may go while the answer is on its way, and what it brings is pending by then.
            self.0.ground.tasks.spawn(async move {
                let taken = inner.take(most).await;
                drop(give.send(taken.map(|offers| Batch { inner, offers })));
            });
            let mut batch = given.await.map_err(|_| SourceError::NotDone("it closes".to_owned()))??;
            Ok(Taken { offers: std::mem::take(&mut batch.offers), all: None })
        })
    }

    fn wake(&self) -> Work<'_, ()> {
        Box::pin(async move {
            let watched = self.0.watched.notified();
            tokio::pin!(watched);
            watched.as_mut().enable();
            // A watch cannot be called off: the next who waits joins one that those before have left.
            if !self.0.watches.swap(true, Ordering::AcqRel) {
                let inner = Arc::clone(&self.0);
                self.0.ground.tasks.spawn(async move { inner.watch_once().await });
            }
            watched.await;
        })
    }

    fn back<'a>(&'a self, identity: &'a str) -> Work<'a, ()> {
        Box::pin(async move { self.0.back(&[Identity::from(identity)]).await })
    }

    fn done<'a>(&'a self, identity: &'a str) -> Work<'a, Result<Told, SourceError>> {
        let RedisTasks { stream, group, .. } = &self.0.settings;
        let mut ack = cmd("XACK");
        ack.arg(stream).arg(group).arg(identity);
        Box::pin(async move {
            self.0.call(async |to| ack.exec_async(to).await).await?;
            Ok(Told::Yes)
        })
    }

    fn buries(&self) -> bool {
        self.0.settings.dead_letter.is_some()
    }

    fn dead<'a>(&'a self, task: &'a Dead) -> Work<'a, Result<Told, SourceError>> {
        let RedisTasks { stream, group, dead_letter, .. } = &self.0.settings;
        let Some(place) = dead_letter else { return self.done(&task.identity) };
        Box::pin(async move {
            let mut call = self.0.bury.key(stream);
            call.key(place).arg(group).arg(&*task.identity).arg(task.attempts).arg(task.content.as_bytes());
            self.0.call(async |to| call.invoke_async::<u64>(to).await).await?;
            Ok(Told::Yes)
        })
    }

    /// It is pending, or the group was made anew since and will be given it again.
    fn has<'a>(&'a self, identity: &'a str) -> Work<'a, Result<bool, SourceError>> {
        let RedisTasks { stream, group, .. } = &self.0.settings;
        let mut asks = [cmd("XPENDING"), cmd("XRANGE"), cmd("XINFO")];
        let [pending, there, groups] = &mut asks;
        pending.arg(stream).arg(group).arg(identity).arg(identity).arg(1);
        there.arg(stream).arg(identity).arg(identity);
        groups.arg("GROUPS").arg(stream);
        Box::pin(async move {
            let said = self.0.call(async |to| {
                let [pending, there, groups] = &asks;
                let pending: Vec<Value> = pending.query_async(to).await?;
                let there: Vec<Value> = there.query_async(to).await?;
                Ok((pending, there, groups.query_async::<Vec<Value>>(to).await?))
            });
            let (pending, there, groups) = match said.await {
                // Without its group it would be given again, if it still stands there; who takes next makes the group.
                Err(failed) if failed.is_no_group() => return Ok(true),
                said => said?,
            };
            let last = groups.into_iter().find_map(|said| last_given(said, group));
            let comes = !there.is_empty() && last.is_some_and(|last| place(&last) < place(identity));
            Ok(!pending.is_empty() || comes)
        })
    }

    fn can_put(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, task: &'a NewTask) -> Work<'a, Result<Option<Identity>, SourceError>> {
        let mut add = cmd("XADD");
        add.arg(&self.0.settings.stream).arg("*");
        for (name, value) in entry::fields(task) {
            add.arg(name).arg(value);
        }
        Box::pin(async move {
            let id: String = self.0.call(async |to| add.query_async(to).await).await?;
            Ok(Some(Identity::from(id)))
        })
    }
}

/// An entry's place in its stream.
fn place(id: &str) -> (u64, u64) {
    let (time, number) = id.split_once('-').unwrap_or((id, "0"));
    (time.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests;
