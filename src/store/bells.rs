//! Who waits on this instance for something that is told by a [`Topic`].

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::cells::{Put, Swap, Topic};
use super::{ById, Store, StoreError};
use crate::protocol::record::Millis;

/// All who wait.
#[derive(Default)]
pub struct Bells {
    waiting: Mutex<HashMap<Topic, Bell, ById>>,
}

struct Bell {
    rings: Arc<Notify>,
    listeners: usize,
}

/// Somebody's wait for a topic. What is told from its making on is heard.
pub struct Listening<'a> {
    bells: &'a Bells,
    topic: Topic,
    rings: Arc<Notify>,
}

impl Bells {
    /// Begins to listen: before a look at what it is about, so that nothing is missed in between.
    pub fn listen(&self, topic: Topic) -> Listening<'_> {
        let mut waiting = self.waiting.lock();
        let bell = waiting.entry(topic).or_insert_with(|| Bell { rings: Arc::default(), listeners: 0 });
        bell.listeners += 1;
        Listening { bells: self, topic, rings: Arc::clone(&bell.rings) }
    }

    /// Wakes who waits for it.
    pub fn ring(&self, topic: Topic) {
        if let Some(bell) = self.waiting.lock().get(&topic) {
            bell.rings.notify_waiters();
        }
    }

    /// Who is told of these once they are swapped: taken before, for a store takes the swaps themselves.
    pub fn of(puts: &[Put]) -> Vec<Topic> {
        puts.iter().filter_map(|put| put.tell).collect()
    }

    /// Wakes who waits for these.
    pub fn ring_each(&self, topics: &[Topic]) {
        topics.iter().for_each(|topic| self.ring(*topic));
    }

    /// Swaps cells in a store without a record, and wakes who waits here for what was swapped; [`Store::swap`].
    ///
    /// # Errors
    /// Where the store cannot be asked; it may have done it.
    pub async fn swap(&self, store: &dyn Store, swap: Swap, now: Millis) -> Result<bool, StoreError> {
        let topics = Self::of(&swap.puts);
        let done = store.swap(swap, now).await?;
        if done {
            self.ring_each(&topics);
        }
        Ok(done)
    }

    /// Wakes all: something may have been missed.
    pub fn ring_all(&self) {
        self.waiting.lock().values().for_each(|bell| bell.rings.notify_waiters());
    }
}

impl Listening<'_> {
    /// Is there when it was told; to be had before the look, and awaited after it.
    pub fn heard(&self) -> tokio::sync::futures::Notified<'_> {
        self.rings.notified()
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let mut waiting = self.bells.waiting.lock();
        if let Some(bell) = waiting.get_mut(&self.topic) {
            bell.listeners -= 1;
            if bell.listeners == 0 {
                waiting.remove(&self.topic);
            }
        }
    }
}
