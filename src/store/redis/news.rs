//! What instances tell each other, by channels of Redis (K6, Q4).
//!
//! Channels know no databases and keep nothing: word from another deployment wakes somebody for nothing, word that is
//! lost costs one slow poll. What may have been missed is told as [`News::Anything`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{mpsc, watch};

use crate::protocol::record::{RecordId, ResourceId};
use crate::store::cells::Topic;
use crate::store::shared::{Instance, News};

/// Who reads it is quick; one that is not hears that it missed something.
const MOST: usize = 1024;

/// Takes word from Redis, and gives it to whoever asked for the news.
pub(super) struct Teller {
    ended: Vec<u8>,
    told: Vec<u8>,
    /// Moves when there are more events.
    events: watch::Sender<u64>,
    /// How many there were at the last look.
    looked: AtomicU64,
    sender: mpsc::Sender<News>,
    receiver: Mutex<Option<mpsc::Receiver<News>>>,
    missed: AtomicBool,
}

/// The channel of ends.
pub(super) fn ended(prefix: &str) -> Vec<u8> {
    format!("{prefix}ended").into_bytes()
}

/// The channel of topics, and with no topic that there are more events.
pub(super) fn told(prefix: &str) -> Vec<u8> {
    format!("{prefix}told").into_bytes()
}

/// The channel of one instance.
pub(super) fn to(prefix: &str, instance: Instance) -> Vec<u8> {
    [format!("{prefix}to:").as_bytes(), &instance.0.to_be_bytes()].concat()
}

impl Teller {
    pub(super) fn new(prefix: &str) -> Self {
        let (sender, receiver) = mpsc::channel(MOST);
        Self {
            ended: ended(prefix),
            told: told(prefix),
            events: watch::Sender::new(0),
            looked: AtomicU64::new(0),
            sender,
            receiver: Mutex::new(Some(receiver)),
            missed: AtomicBool::new(false),
        }
    }

    pub(super) fn receiver(&self) -> Option<mpsc::Receiver<News>> {
        self.receiver.lock().take()
    }

    /// Changes when there are more events.
    pub(super) fn signal(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }

    fn more_events(&self) {
        self.events.send_modify(|told| *told = told.wrapping_add(1));
    }

    /// So many events there are now: a net under the word that tells of them.
    pub(super) fn looked(&self, events: u64) {
        if self.looked.swap(events, Ordering::AcqRel) != events {
            self.more_events();
        }
    }

    /// Something may have been missed.
    pub(super) fn anything(&self) {
        self.more_events();
        self.tell(News::Anything);
    }

    fn tell(&self, news: News) {
        if self.missed.swap(false, Ordering::AcqRel) {
            self.give(News::Anything);
        }
        self.give(news);
    }

    fn give(&self, news: News) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(news) {
            self.missed.store(true, Ordering::Release);
        }
    }

    /// Whatever was missed is told as soon as there is room for it.
    pub(super) fn tell_missed(&self) {
        if self.missed.swap(false, Ordering::AcqRel) {
            self.give(News::Anything);
        }
    }

    /// What Redis says by itself on the connection for news.
    pub(super) fn heard(&self, push: &PushInfo) {
        if push.kind != PushKind::Message {
            return;
        }
        let [Value::BulkString(channel), Value::BulkString(what)] = push.data.as_slice() else { return };
        let sixteen = <[u8; 16]>::try_from(what.as_slice()).ok();
        let news = if *channel == self.ended {
            std::str::from_utf8(what).ok().and_then(RecordId::parse).map(News::Ended)
        } else if *channel != self.told {
            sixteen.map(|id| News::Freed(ResourceId(id)))
        } else if what.is_empty() {
            return self.more_events();
        } else {
            sixteen.map(|topic| News::Told(Topic(topic)))
        };
        if let Some(news) = news {
            self.tell(news);
        }
    }
}
