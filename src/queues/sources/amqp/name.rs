//! What a message is called.
//!
//! By its `message_id` where it has one. Else by a digest of its body and properties, and a number: messages without an
//! id that are equal are as many tasks as there are messages. The broker says which of them were delivered before, but not
//! which one is which; and as they are equal it does not matter, as long as each name has one message:
//!
//! - one that was never delivered before is given the first number that is free as far as is known here;
//! - one that comes again is given the number of one that went back from here, else the first that is not in hand here:
//!   so another instance, or this one after a crash, finds the claim that lives on it, or that it is done.
//!
//! What that cannot know: where several equal messages are out at once on several instances and a connection breaks, two
//! may change their names. Who cannot bear that gives messages an id.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use lapin::BasicProperties;

use super::super::super::source::Identity;

/// Digests that are remembered.
const MOST: usize = 10_000;
/// What the broker itself writes into a message as it comes and goes.
const BROKERS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// What a message says of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Id(Identity),
    /// It has none.
    Digest(Arc<str>),
}

impl Name {
    pub(super) fn of(properties: &BasicProperties, body: &[u8]) -> Self {
        match properties.message_id() {
            Some(id) if !id.as_str().is_empty() => Self::Id(Identity::from(id.as_str())),
            Some(_) | None => Self::Digest(digest(properties, body)),
        }
    }
}

fn digest(properties: &BasicProperties, body: &[u8]) -> Arc<str> {
    let mut hash = blake3::Hasher::new();
    let mut add = |part: Option<&[u8]>| {
        // Its length before it: no two lists of parts are the same bytes.
        hash.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    };
    add(Some(body));
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.kind(),
        properties.app_id(),
    ];
    texts.iter().for_each(|text| add(text.as_ref().map(|text| text.as_str().as_bytes())));
    add(properties.timestamp().map(u64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    if let Some(headers) = properties.headers() {
        let own = headers.into_iter().filter(|(name, _)| !BROKERS.contains(&name.as_str()));
        own.for_each(|(name, value)| {
            add(Some(name.as_str().as_bytes()));
            add(Some(format!("{value:?}").as_bytes()));
        });
    }
    let hash = hash.finalize();
    let start: String = hash.as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Arc::from(format!("digest:{start}"))
}

/// The numbers of equal messages.
#[derive(Default)]
pub(super) struct Numbers {
    /// The first that none had here.
    free: HashMap<Arc<str>, u32>,
    /// Those that went back from here.
    gone_back: HashMap<Arc<str>, Vec<u32>>,
}

impl Numbers {
    /// Names a message that comes; `in_hand`: who has a message already.
    pub(super) fn name(&mut self, name: &Name, again: bool, in_hand: impl Fn(&str) -> bool) -> Identity {
        let digest = match name {
            Name::Id(id) => return Identity::clone(id),
            Name::Digest(digest) => digest,
        };
        let back = again.then(|| self.back(digest)).flatten();
        let from = if again { 0 } else { self.free.get(digest).copied().unwrap_or(0) };
        let number = back.or_else(|| (from..u32::MAX).find(|number| !in_hand(&spelled(digest, *number))));
        let number = number.unwrap_or(u32::MAX);
        if self.free.len() >= MOST {
            self.free.clear();
        }
        let free = self.free.entry(Arc::clone(digest)).or_default();
        *free = (*free).max(number.saturating_add(1));
        spelled(digest, number)
    }

    fn back(&mut self, digest: &Arc<str>) -> Option<u32> {
        let Entry::Occupied(mut there) = self.gone_back.entry(Arc::clone(digest)) else { return None };
        let number = there.get_mut().pop();
        if there.get().is_empty() {
            there.remove();
        }
        number
    }

    /// A message went back to its queue.
    pub(super) fn went_back(&mut self, identity: &str, name: &Name) {
        let Name::Digest(digest) = name else { return };
        if self.gone_back.len() >= MOST {
            self.gone_back.clear();
        }
        let number = identity.rsplit_once('@').and_then(|(_, number)| number.parse().ok());
        self.gone_back.entry(Arc::clone(digest)).or_default().push(number.unwrap_or(0));
    }
}

fn spelled(digest: &str, number: u32) -> Identity {
    if number == 0 { Identity::from(digest) } else { Identity::from(format!("{digest}@{number}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::{AMQPValue, FieldTable, ShortString};

    fn plain(body: &[u8]) -> Name {
        Name::of(&BasicProperties::default(), body)
    }

    // J2: a message is the same task at each delivery.
    #[test]
    fn a_message_keeps_its_name() {
        let with = |name: &str, value: u32| {
            let mut headers = FieldTable::default();
            headers.insert(ShortString::from(name), AMQPValue::LongUInt(value));
            BasicProperties::default().with_headers(headers)
        };
        assert_eq!(Name::of(&with("x-delivery-count", 1), b"a"), plain(b"a"));
        assert_ne!(Name::of(&with("n", 1), b"a"), plain(b"a"));
        assert_ne!(Name::of(&with("n", 1), b"a"), Name::of(&with("n", 2), b"a"));
        assert_ne!(plain(b"a"), plain(b"b"));
        let kind = BasicProperties::default().with_content_type("a".into());
        assert_ne!(Name::of(&kind, b""), plain(b"a"));
        let id = BasicProperties::default().with_message_id("7".into());
        assert_eq!(Name::of(&id, b"a"), Name::Id("7".into()));
        assert_eq!(Name::of(&BasicProperties::default().with_message_id("".into()), b"a"), plain(b"a"));
    }

    // J2: equal messages are as many tasks; one that comes again is one of those.
    #[test]
    fn equal_messages_are_tasks_of_their_own() {
        let name = plain(b"tick");
        let mut here = Numbers::default();
        let one = here.name(&name, false, |_| false);
        // Done and gone from here, and another comes.
        let two = here.name(&name, false, |_| false);
        assert_ne!(one, two);
        here.went_back(&two, &name);
        assert_eq!(here.name(&name, true, |_| false), two);
        assert_eq!(here.name(&name, true, |_| false), one);

        // Another instance, or this one after a crash, gives the same names to the same number of messages.
        let mut other = Numbers::default();
        assert_eq!(other.name(&name, true, |_| false), one);
        assert_eq!(other.name(&name, true, |in_hand| in_hand == &*one), two);
        let id = Name::Id("7".into());
        assert_eq!(&*other.name(&id, false, |_| true), "7");
        assert_eq!(&*other.name(&id, true, |_| true), "7");
    }
}
