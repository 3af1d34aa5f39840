//! Walks a parsed document, collects all that is wrong with it, and knows the place of everything.

use std::ops::Range;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::env::{Env, fill};
use super::names::unknown_key;
use super::problem::{Kind, Problem};

/// A value of the document.
pub(super) type Node<'d> = Spanned<DeValue<'d>>;

/// A part of the configuration: how it is read, and the JSON Schema of what can be read.
pub(super) trait Part: Sized {
    /// What it is, for `must be …`.
    fn what() -> String;

    /// Reads it, or reports why not. Whatever the schema refuses is a [`Kind::Name`] or a [`Kind::Type`].
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self>;

    fn schema() -> Json;

    /// Whether it switches off what it is about, so that it asks for nothing that is not built yet.
    fn is_off(&self) -> bool {
        false
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) spot: Spot,
}

/// A place in the document, and the key that leads to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Spot {
    pub(super) key: String,
    pub(super) span: Option<Range<usize>>,
}

impl Spot {
    /// The place of an argument of the command line.
    pub(super) fn argument(name: &str) -> Self {
        Self { key: name.to_owned(), span: None }
    }
}

/// Why a text is not what it should be.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) kind: Kind,
    pub(super) what: String,
}

impl Wrong {
    /// A wrong spelling, which the schema refuses too.
    pub(super) fn spelling(what: impl Into<String>) -> Self {
        Self { kind: Kind::Type, what: what.into() }
    }

    /// Well spelled, and of no use.
    pub(super) fn value(what: impl Into<String>) -> Self {
        Self { kind: Kind::Value, what: what.into() }
    }
}

pub(super) struct Reader<'a> {
    text: &'a str,
    env: Env<'a>,
    /// Required keys that something outside the document stands for.
    waived: &'static [&'static str],
    key: String,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, env: Env<'a>, waived: &'static [&'static str]) -> Self {
        Self { text, env, waived, key: String::new(), problems: Vec::new() }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn report(&mut self, kind: Kind, spot: &Spot, what: impl Into<String>) {
        let Spot { key, span } = spot.clone();
        self.problems.push(Problem { kind, span, key, what: what.into() });
    }

    /// Reports what is wrong with the value being read.
    pub(super) fn wrong(&mut self, kind: Kind, node: &Node<'_>, what: impl Into<String>) {
        let spot = Spot { key: self.key.clone(), span: Some(node.span()) };
        self.report(kind, &spot, what);
    }

    /// Whether something at this key or below it was already found wrong.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| {
            problem.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Reads a part of the value being read, under its name or number.
    pub(super) fn enter<T: Part>(&mut self, step: &str, node: &Node<'_>) -> Option<At<T>> {
        let outside = self.key.len();
        if !self.key.is_empty() && !step.is_empty() && !step.starts_with('[') {
            self.key.push('.');
        }
        self.key.push_str(step);
        let spot = Spot { key: self.key.clone(), span: Some(node.span()) };
        let value = T::read(node, self);
        self.key.truncate(outside);
        value.map(|value| At { value, spot })
    }

    /// Reports a value of another type than `T`'s.
    pub(super) fn mismatch<T: Part>(&mut self, node: &Node<'_>) {
        let found = kind_of(node.get_ref());
        self.wrong(Kind::Type, node, format!("must be {}, not {found}", T::what()));
    }

    /// Reads a string with its variables filled in (C2).
    pub(super) fn string<T: Part>(&mut self, node: &Node<'_>) -> Option<String> {
        let Some(text) = node.get_ref().as_str() else {
            self.mismatch::<T>(node);
            return None;
        };
        match fill(text, self.env) {
            Ok(filled) => Some(filled),
            Err(reasons) => {
                for reason in reasons {
                    self.wrong(Kind::Value, node, reason);
                }
                None
            }
        }
    }

    /// Reads what a string spells.
    pub(super) fn spelled<T: Part, V>(
        &mut self,
        node: &Node<'_>,
        parse: impl FnOnce(&str) -> Result<V, Wrong>,
    ) -> Option<V> {
        let text = self.string::<T>(node)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                // What a variable holds is not the schema's to judge.
                let varies = node.get_ref().as_str().is_some_and(|written| written.contains("${"));
                let kind = if varies && wrong.kind == Kind::Type { Kind::Value } else { wrong.kind };
                self.wrong(kind, node, wrong.what);
                None
            }
        }
    }

    /// The place of a byte inside a string value, where the string stands in the document as it was read.
    pub(super) fn inside(&self, spot: &Spot, value: &str, offset: usize) -> Spot {
        let exact = spot.span.clone().and_then(|span| {
            let written = self.text.get(span.clone())?.strip_prefix(['"', '\''])?;
            let start = span.start + 1 + offset;
            (written.starts_with(value) && start < span.end).then_some(start..span.end - 1)
        });
        Spot { key: spot.key.clone(), span: exact.or_else(|| spot.span.clone()) }
    }
}

/// A key, and what its value is.
type Known = (&'static str, fn() -> String);

/// The keys of a table, each taken once.
pub(super) struct Fields<'d> {
    table: &'d DeTable<'d>,
    span: Range<usize>,
    known: Vec<Known>,
}

impl<'d> Fields<'d> {
    pub(super) fn of<T: Part>(node: &'d Node<'d>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            reader.mismatch::<T>(node);
            return None;
        };
        Some(Self { table, span: node.span(), known: Vec::new() })
    }

    pub(super) fn take<T: Part>(&mut self, name: &'static str, reader: &mut Reader<'_>) -> Option<At<T>> {
        self.known.push((name, T::what));
        reader.enter(name, self.table.get(name)?)
    }

    /// Takes every key, whatever its name.
    pub(super) fn every<T: Part>(self, reader: &mut Reader<'_>) -> Vec<(String, At<T>)> {
        let read = |(name, node): (&Spanned<_>, _)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            reader.enter(name, node).map(|value| (name.to_string(), value))
        };
        self.table.iter().filter_map(read).collect()
    }

    /// Reports what is missing and what is not known (C2).
    pub(super) fn finish(self, required: &[&'static str], reader: &mut Reader<'_>) {
        for (name, what) in self.known.iter().filter(|(name, _)| required.contains(name)) {
            if !self.table.contains_key(*name) && !reader.waived.contains(name) {
                let spot = Spot { key: reader.key.clone(), span: Some(self.span.clone()) };
                reader.report(Kind::Type, &spot, format!("{name:?} is missing: {}", what()));
            }
        }
        let known: Vec<_> = self.known.iter().map(|(name, _)| *name).collect();
        for (name, _) in self.table {
            if !known.contains(&name.get_ref().as_ref()) {
                let spot = Spot { key: reader.key.clone(), span: Some(name.span()) };
                reader.report(Kind::Name, &spot, unknown_key(name.get_ref(), &known));
            }
        }
    }
}

/// A value in quotes, without control characters, and not without end.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{:?}…", text.get(..cut).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
