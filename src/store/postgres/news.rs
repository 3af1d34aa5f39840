//! What the others tell (S3): on a session of our own where there is one, else by asking, but only while somebody waits.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::core::Core;
use super::session::Session;
use super::value::{Uuid, Value, column};
use crate::protocol::record::{RecordId, ResourceId};
use crate::store::cells::Topic;
use crate::store::shared::{Instance, News};
use crate::store::{ById, StoreError};

/// How many news may lie unread; who is slower is told that something was missed.
const UNREAD: usize = 1024;
/// How often it is asked what happened, behind a pooler.
const POLL: Duration = Duration::from_millis(75);
/// The same of what nobody on this instance is known to wait for.
const POLL_TOLD: Duration = Duration::from_millis(200);
/// What was heard is known for so long, in microseconds: longer than the store repeats it.
const KEPT_MICROS: i64 = 4_000_000;
/// How often a session that listens is looked after.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// What is asked for at once.
const MOST_WAITS: usize = 4096;
/// Who has not asked again for so long does not wait any more.
const WAITS: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// News on their way to whoever reads them.
pub(super) struct Post {
    sender: mpsc::Sender<News>,
    receiver: Mutex<Option<mpsc::Receiver<News>>>,
    missed: AtomicBool,
}

impl Default for Post {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(UNREAD);
        Self { sender, receiver: Mutex::new(Some(receiver)), missed: AtomicBool::new(false) }
    }
}

impl Post {
    pub(super) fn receiver(&self) -> Option<mpsc::Receiver<News>> {
        self.receiver.lock().take()
    }

    pub(super) fn tell(&self, news: News) {
        self.flush();
        if self.sender.try_send(news).is_err() {
            self.missed.store(true, Ordering::Release);
        }
    }

    /// Says that something was missed, if it was.
    fn flush(&self) {
        if self.missed.load(Ordering::Acquire) && self.sender.try_send(News::Anything).is_ok() {
            self.missed.store(false, Ordering::Release);
        }
    }
}

/// What is waited for here: asked for where nobody listens, and where a session turns out to be another's after all.
#[derive(Default)]
pub(super) struct Waits {
    records: Mutex<HashMap<RecordId, Instant, ById>>,
    resources: Mutex<HashSet<ResourceId, ById>>,
    more: Notify,
}

impl Waits {
    pub(super) fn for_end(&self, id: RecordId) {
        let mut records = self.records.lock();
        if records.len() >= MOST_WAITS {
            let now = Instant::now();
            records.retain(|_, since| now.duration_since(*since) < WAITS);
        }
        if records.len() < MOST_WAITS {
            records.insert(id, Instant::now());
            self.more.notify_one();
        }
    }

    pub(super) fn for_turn(&self, resource: ResourceId) {
        let mut resources = self.resources.lock();
        if resources.len() < MOST_WAITS {
            resources.insert(resource);
            self.more.notify_one();
        }
    }

    pub(super) fn not_for_turn(&self, resource: ResourceId) {
        self.resources.lock().remove(&resource);
    }

    /// It was told.
    fn over(&self, news: News) {
        match news {
            News::Ended(id) => drop(self.records.lock().remove(&id)),
            // Who still waits asks, and is here again by that.
            News::Freed(resource) => self.not_for_turn(resource),
            News::Told(_) | News::Anything => {}
        }
    }

    fn all(&self) -> (Vec<[u8; 16]>, Vec<[u8; 16]>) {
        let records = self.records.lock().keys().map(|id| id.0).collect();
        let resources = self.resources.lock().iter().map(|id| id.0).collect();
        (records, resources)
    }
}

/// The message that there are more events.
const MORE_EVENTS: &str = "v";

/// Reads one message. Messages for another instance, and what a newer build says, are nothing.
fn read(payload: &str, own: Instance) -> Option<News> {
    let id = |text: &str| RecordId::parse(&text.replace('-', "")).map(|id| id.0);
    if let Some(record) = payload.strip_prefix('e') {
        return Some(News::Ended(RecordId(id(record)?)));
    }
    if let Some(topic) = payload.strip_prefix('t') {
        return Some(News::Told(Topic(id(topic)?)));
    }
    let (instance, resource) = payload.strip_prefix('f')?.split_once(' ')?;
    let instance: i64 = instance.parse().ok()?;
    (instance == 0 || instance.cast_unsigned() == own.0).then_some(News::Freed(ResourceId(id(resource)?)))
}

/// Follows the news until the store is closed: first on what the start found.
pub(super) async fn follow(core: &Core, first: Option<Session>) {
    let mut found = Ok(first);
    let mut pause = FIRST_PAUSE;
    loop {
        if found.is_ok() {
            pause = FIRST_PAUSE;
        }
        match found {
            Ok(Some(session)) => {
                core.set_listens(true);
                listen(core, session).await;
                core.set_listens(false);
            }
            Ok(None) => ask(core).await,
            Err(why) => tracing::debug!(why, "no session to listen on"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        found = Session::open(core).await;
    }
}

/// Listens until the session breaks, or turns out not to be ours.
async fn listen(core: &Core, mut session: Session) {
    // Now the others may know that it hears them; whoever asked before looks again.
    if core.renew().await.is_err() {
        return;
    }
    core.post.tell(News::Anything);
    core.log.moved();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            payload = session.messages.recv() => {
                let Some(payload) = payload else { return };
                if payload == MORE_EVENTS {
                    core.log.moved();
                } else if let Some(news) = read(&payload, core.instance()) {
                    core.waits.over(news);
                    core.post.tell(news);
                }
            }
            _ = heartbeat.tick() => {
                core.post.flush();
                // A net: who began to read just now is told of nothing that was written meanwhile.
                core.log.moved();
                if !session.is_still_ours(core).await {
                    return;
                }
            }
        }
    }
}

/// Asks while somebody waits, until the store does not answer.
async fn ask(core: &Core) {
    core.post.tell(News::Anything);
    let mut heard = Heard::default();
    let mut told_from = Instant::now();
    loop {
        let (records, resources) = core.waits.all();
        core.post.flush();
        if Instant::now() >= told_from {
            if heard.ask(core).await.is_err() {
                return;
            }
            told_from = Instant::now() + POLL_TOLD;
        }
        if records.is_empty() && resources.is_empty() {
            let more = core.waits.more.notified();
            // Either is a reason to look again.
            drop(tokio::time::timeout_at(told_from, more).await);
            continue;
        }
        if ask_once(core, records, resources).await.is_err() {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What was told to those that do not listen, as far as it was heard.
#[derive(Default)]
struct Heard {
    /// Of late, and when: a transaction may come to an end a little after its moment.
    topics: HashMap<Topic, i64, ById>,
    until: i64,
    events: i64,
}

impl Heard {
    async fn ask(&mut self, core: &Core) -> Result<(), StoreError> {
        let values = [Value::Number(Some(self.until))];
        for row in core.link.step(&core.sql.poll_told, &values).await? {
            let Some(at) = column::<i64>(&row, "at") else { continue };
            if column::<i32>(&row, "kind") == Some(1) {
                if std::mem::replace(&mut self.events, at) != at {
                    core.log.moved();
                }
            } else if let Some(Uuid(topic)) = column(&row, "id") {
                self.until = self.until.max(at);
                if self.topics.insert(Topic(topic), at) != Some(at) {
                    core.post.tell(News::Told(Topic(topic)));
                }
            }
        }
        let kept_from = self.until - KEPT_MICROS;
        self.topics.retain(|_, at| *at > kept_from);
        Ok(())
    }
}

async fn ask_once(core: &Core, records: Vec<[u8; 16]>, resources: Vec<[u8; 16]>) -> Result<(), StoreError> {
    let values = [Value::Ids(records), Value::Ids(resources), Value::number(core.instance().0)];
    for row in core.link.step(&core.sql.poll, &values).await? {
        let Some(Uuid(id)) = column(&row, "id") else { continue };
        let ended = column::<i32>(&row, "kind") == Some(0);
        let news = if ended { News::Ended(RecordId(id)) } else { News::Freed(ResourceId(id)) };
        core.waits.over(news);
        core.post.tell(news);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // S3
    #[test]
    fn messages_are_read_by_whom_they_are_for() {
        let id = [0xab; 16];
        let text = "abababab-abab-abab-abab-abababababab";
        let own = Instance(u64::MAX);
        assert_eq!(read(&format!("e{text}"), own), Some(News::Ended(RecordId(id))));
        assert_eq!(read(&format!("f-1 {text}"), own), Some(News::Freed(ResourceId(id))));
        assert_eq!(read(&format!("f0 {text}"), own), Some(News::Freed(ResourceId(id))));
        assert_eq!(read(&format!("f1 {text}"), own), None);
        assert_eq!(read("e", own), None);
        assert_eq!(read("x from a newer build", own), None);
    }

    // S3: who reads slowly is told that there was more, and nothing grows.
    #[tokio::test]
    async fn what_does_not_fit_is_said_to_be_missed() {
        let post = Post::default();
        let mut news = post.receiver().unwrap();
        for n in 0..=UNREAD {
            post.tell(News::Freed(ResourceId([u8::try_from(n % 250).unwrap(); 16])));
        }
        for _ in 0..UNREAD {
            assert_ne!(news.recv().await, Some(News::Anything));
        }
        post.flush();
        assert_eq!(news.recv().await, Some(News::Anything));
        post.flush();
        assert!(news.try_recv().is_err());
    }
}
