//! Values that are one of a few: words, a short form or a table, and what is not built yet.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::checked::{
    EventsOf, Guard, InFlight, Locks, LogFormat, Mode, On5xx, OnStoreFailure, OnUnknown, QueueReads,
};
use super::names::nearest;
use super::parts::Text;
use super::problem::Kind;
use super::reader::{At, Fields, Node, Part, Reader, Spot, Wrong, quoted};
use crate::protocol::fingerprint::Compare;

/// A value that is one of a few words.
pub(super) trait Words: Sized + Copy + PartialEq + 'static {
    /// What such a word is called.
    const WHAT: &'static str;
    const WORDS: &'static [(&'static str, Self)];

    /// The word for this value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

/// Gives each type its words, in the order in which they are told.
macro_rules! words {
    ($($type:ident, $what:literal: $($word:literal = $value:ident),+;)*) => {$(
        impl Words for $type {
            const WHAT: &'static str = $what;
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$value)),+];
        }

        impl Part for $type {
            fn what() -> String {
                format!("one of {}", [$($word),+].join(", "))
            }

            fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                reader.spelled::<Self, _>(node, word::<Self>)
            }

            fn schema() -> Json {
                json!({ "anyOf": [{ "enum": [$($word),+] }, { "type": "string", "pattern": "\\$\\{" }] })
            }

            fn is_off(&self) -> bool {
                self.word() == "off"
            }
        }
    )*};
}

fn word<T: Words>(text: &str) -> Result<T, Wrong> {
    if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
    let hint = nearest(text, &words).map(|near| format!(" (did you mean {near:?}?)")).unwrap_or_default();
    Err(Wrong::spelling(format!("{} is not {}; one of {}{hint}", quoted(text), T::WHAT, words.join(", "))))
}

/// `version.source`: as [`Source`](super::checked::Source), with the pointer still apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceName {
    Hash,
    Etag,
    Field,
    Mint,
    Upstream,
    None,
}

words! {
    Guard, "a guard": "state" = State, "tool" = Tool, "read" = Read, "none" = None;
    Mode, "a mode": "enforce" = Enforce, "observe" = Observe;
    Compare, "a way to compare": "json" = Json, "bytes" = Bytes;
    InFlight, "an answer to a second request": "refuse" = Refuse, "wait" = Wait;
    On5xx, "an end of a 5xx": "keep" = Keep, "release" = Release, "hold" = Hold;
    OnUnknown, "an end of an unknown outcome": "version" = Version, "hold" = Hold, "rerun" = Rerun;
    QueueReads, "what reads do": "pass" = Pass, "wait" = Wait;
    OnStoreFailure, "what writes do": "closed" = Closed, "open" = Open;
    LogFormat, "a format": "auto" = Auto, "json" = Json, "pretty" = Pretty;
    SourceName, "a source of versions":
        "hash" = Hash, "etag" = Etag, "field" = Field, "mint" = Mint, "upstream" = Upstream, "none" = None;
    EventsOf, "who is told": "all" = All, "own" = Own, "off" = Off;
    Locks, "a way to lock": "rows" = Rows, "advisory" = Advisory;
}

/// A table, or the short form of one.
#[derive(Debug, Clone)]
pub(super) enum Short<S, T> {
    Short(S),
    Long(T),
}

impl<S: Part, T: Part> Part for Short<S, T> {
    fn what() -> String {
        format!("{}, or {}", S::what(), T::what())
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(_) => T::read(node, reader).map(Self::Long),
            DeValue::String(_) | DeValue::Boolean(_) => S::read(node, reader).map(Self::Short),
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) => {
                reader.mismatch::<Self>(node);
                None
            }
        }
    }

    fn schema() -> Json {
        json!({ "anyOf": [S::schema(), T::schema()] })
    }

    fn is_off(&self) -> bool {
        match self {
            Self::Short(short) => short.is_off(),
            Self::Long(long) => long.is_off(),
        }
    }
}

/// The table that is meant, in its short form too.
pub(super) fn in_full<S, T: Default>(given: Option<At<Short<S, T>>>, of: impl FnOnce(S, Spot) -> T) -> T {
    match given {
        Some(At { value: Short::Short(short), spot }) => of(short, spot),
        Some(At { value: Short::Long(table), spot: _ }) => table,
        None => T::default(),
    }
}

/// What is known, checked, and does nothing yet: only what switches it off can be asked for.
#[derive(Debug, Clone)]
pub(super) struct Later<T>(std::marker::PhantomData<T>);

impl<T: Part> Part for Later<T> {
    fn what() -> String {
        T::what()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if !T::read(node, reader)?.is_off() {
            reader.wrong(Kind::NotBuilt, node, "not built yet; leave it out");
        }
        Some(Self(std::marker::PhantomData))
    }

    fn schema() -> Json {
        T::schema()
    }
}

/// Strings under names of one's own.
pub(super) type Names = BTreeMap<String, At<Text>>;

impl Part for Names {
    fn what() -> String {
        "a table of strings".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let table = Fields::of::<Self>(node, reader)?.every::<Text>(reader);
        Some(BTreeMap::from_iter(table))
    }

    fn schema() -> Json {
        json!({ "type": "object", "additionalProperties": Text::schema() })
    }
}
