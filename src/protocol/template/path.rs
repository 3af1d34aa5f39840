//! A route's path (R1).
//!
//! 1. `{name}` is one whole segment that is not empty; `{*name}` is all that is left, also nothing, and stands last.
//! 2. Literal segments are put to normal form, so that a template means the same however it is spelled.
//! 3. The most specific wins, compared segment by segment: a literal, a capture, the end, the rest.

use std::sync::Arc;

use super::TemplateProblem;
use crate::protocol::path::{NormalPath, spell};

/// The path of a route, with captures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: Box<str>,
    segments: Vec<Segment>,
    /// Of the captures, in order.
    names: Arc<[Box<str>]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Capture,
    Rest,
}

impl PathTemplate {
    /// Reads a template such as `/documents/{id}` or `/files/{*rest}`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, TemplateProblem> {
        let Some(inside) = text.strip_prefix('/') else {
            return Err(TemplateProblem::new(0, "a path begins with /"));
        };
        let (mut segments, mut names) = (Vec::new(), Vec::<Box<str>>::new());
        let mut offset = 1;
        for segment in inside.split('/').filter(|segment| {
            // Doubled slashes are one, and a trailing one goes, as in every path.
            !segment.is_empty()
        }) {
            // Segments are slices of `text`, so the distance is the offset.
            offset = text.get(offset..).and_then(|rest| rest.find(segment)).map_or(offset, |at| offset + at);
            if segments.last() == Some(&Segment::Rest) {
                return Err(TemplateProblem::new(offset, "nothing can stand behind {*...}"));
            }
            segments.push(match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                None => Segment::Literal(literal(segment, offset)?),
                Some(name) => {
                    let (name, kind) = match name.strip_prefix('*') {
                        Some(name) => (name, Segment::Rest),
                        None => (name, Segment::Capture),
                    };
                    check_name(name, offset)?;
                    if names.iter().any(|known| **known == *name) {
                        return Err(TemplateProblem::new(offset, format!("{name} is captured twice")));
                    }
                    names.push(name.into());
                    kind
                }
            });
            offset += segment.len();
        }
        Ok(Self { text: text.into(), segments, names: names.into() })
    }

    /// What the template captures of a path that it matches.
    pub fn matches<'p>(&self, path: &'p NormalPath) -> Option<Captures<'p>> {
        let mut rest = path.as_str().strip_prefix('/')?;
        let mut values = Vec::new();
        for segment in &self.segments {
            if *segment == Segment::Rest {
                values.push(rest);
                rest = "";
                break;
            }
            let (first, behind) = rest.split_once('/').unwrap_or((rest, ""));
            match segment {
                Segment::Literal(literal) if **literal == *first => {}
                Segment::Capture if !first.is_empty() => values.push(first),
                Segment::Literal(_) | Segment::Capture | Segment::Rest => return None,
            }
            rest = behind;
        }
        rest.is_empty().then(|| Captures { names: Arc::clone(&self.names), values })
    }

    /// Orders templates that match the same path: the greatest is the most specific (R1).
    pub fn specificity(&self) -> Specificity {
        let mut ranks: Vec<_> = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(_) => Rank::Literal,
                Segment::Capture => Rank::Capture,
                Segment::Rest => Rank::Rest,
            })
            .collect();
        if ranks.last() != Some(&Rank::Rest) {
            ranks.push(Rank::End);
        }
        Specificity(ranks)
    }

    /// Whether the two match exactly the same paths, so that neither is the more specific. Two that both match some
    /// path and are not the same in this sense differ in [`specificity`](Self::specificity).
    pub fn same_paths(&self, other: &Self) -> bool {
        self.segments == other.segments
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its captures, in order, none twice.
    pub fn names(&self) -> Vec<&str> {
        self.names.iter().map(|name| &**name).collect()
    }
}

/// How specific a template is; see [`PathTemplate::specificity`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity(Vec<Rank>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Rest,
    End,
    Capture,
    Literal,
}

/// What a template captured of a path, in the path's normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captures<'p> {
    names: Arc<[Box<str>]>,
    values: Vec<&'p str>,
}

impl<'p> Captures<'p> {
    /// What was captured under a name. Never empty but for a `{*name}`, which has slashes in it and none at its ends.
    pub fn get(&self, name: &str) -> Option<&'p str> {
        self.names.iter().zip(&self.values).find(|(known, _)| ***known == *name).map(|(_, value)| *value)
    }
}

/// Puts a literal segment to normal form.
fn literal(segment: &str, offset: usize) -> Result<Box<str>, TemplateProblem> {
    if let Some(at) = segment.find(['{', '}']) {
        return Err(TemplateProblem::new(offset + at, "a capture is a whole segment: /{name}/"));
    }
    if let Some(at) = segment.find(['?', '#']) {
        return Err(TemplateProblem::new(offset + at, "a route's path has no query and no fragment"));
    }
    let normal = spell(segment, b"").map_err(|problem| TemplateProblem::new(offset, problem.to_string()))?;
    match normal.as_str() {
        "." | ".." => Err(TemplateProblem::new(offset, "a route's path has no . and .. segments")),
        _ => Ok(normal.into()),
    }
}

/// Letters, digits and `_`, not a digit first.
fn check_name(name: &str, offset: usize) -> Result<(), TemplateProblem> {
    let valid = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty();
    if valid {
        return Ok(());
    }
    let reason = "a capture's name has letters, digits and _, and does not begin with a digit";
    Err(TemplateProblem::new(offset, reason))
}
