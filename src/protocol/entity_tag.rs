//! Entity tags and the preconditions that carry them (V3, V4; RFC 9110 §8.8.3, §13.1).
//!
//! 1. Several field lines are one list (RFC 9110 §5.3); its empty members do not count (§5.6.1.2).
//! 2. `*` stands alone. A field without any tag is malformed.
//! 3. On a write a weak tag is refused: strong comparison could never match it.
//! 4. On a read comparison is weak (§13.1.2), and what is malformed matches nothing.
//!
//! Tags in bytes that are no UTF-8 are taken as malformed.

use std::fmt;

/// A strong entity tag, with its quotes: `"v8"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTag(Box<str>);

/// The longest value that [`EntityTag::from_value`] makes a tag of, in bytes: it travels in a field.
const MAX_VALUE: usize = 1024;

impl EntityTag {
    /// A strong tag from its field value. `None`: weak, or no entity tag.
    pub fn parse(field: &str) -> Option<Self> {
        let opaque = field.strip_prefix('"')?.strip_suffix('"')?;
        opaque.bytes().all(is_etagc).then(|| Self(field.into()))
    }

    /// A strong tag of what stands between the quotes. `None`: a byte in it that no tag may have
    /// (a space, a quote, a control character).
    pub fn from_opaque(opaque: &str) -> Option<Self> {
        opaque.bytes().all(is_etagc).then(|| {
            let mut tag = String::with_capacity(opaque.len() + 2);
            tag.push('"');
            tag.push_str(opaque);
            tag.push('"');
            Self(tag.into())
        })
    }

    /// A strong tag of any text, such as the member `version.field` points to (V1): what is not visible
    /// ASCII, a quote and `%` are percent-encoded, so that different texts give different tags. `None`: over
    /// 1,024 bytes.
    pub fn from_value(value: &str) -> Option<Self> {
        if value.len() > MAX_VALUE {
            return None;
        }
        let mut tag = String::with_capacity(value.len() + 2);
        tag.push('"');
        for byte in value.bytes() {
            if matches!(byte, b'!' | b'#'..=b'$' | b'&'..=b'~') {
                tag.push(char::from(byte));
            } else {
                super::path::push_encoded(&mut tag, byte);
            }
        }
        tag.push('"');
        Some(Self(tag.into()))
    }

    /// The tag with its quotes, a field value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `etagc` of RFC 9110 §8.8.3.
fn is_etagc(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'~' | 0x80..)
}

/// The value of `If-Match` or `If-None-Match` on a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `*`.
    Any,
    /// At least one.
    Tags(Vec<EntityTag>),
}

impl Condition {
    /// Whether the current version (`None`: there is no resource) is one of those meant.
    fn names(&self, current: Option<&EntityTag>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Tags(tags), Some(current)) => tags.contains(current),
        }
    }

    fn parse(values: &[&[u8]]) -> Result<Option<Self>, PreconditionProblem> {
        if values.is_empty() {
            return Ok(None);
        }
        let (mut tags, mut any, mut weak) = (Vec::new(), false, false);
        scan(values, |item| match item {
            Item::Any => any = true,
            Item::Tag { weak: true, .. } => weak = true,
            Item::Tag { quoted, weak: false } => tags.push(EntityTag(quoted.into())),
        })
        .ok_or(PreconditionProblem::Malformed)?;
        match (any, weak) {
            (true, _) => Ok(Some(Self::Any)),
            (false, true) => Err(PreconditionProblem::Weak),
            (false, false) => Ok(Some(Self::Tags(tags))),
        }
    }
}

/// What a write says about the version that it was made for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preconditions {
    pub if_match: Option<Condition>,
    pub if_none_match: Option<Condition>,
}

impl Preconditions {
    /// Reads all `If-Match` and all `If-None-Match` field lines of a write (V4).
    ///
    /// # Errors
    /// `Malformed` before `Weak`; both are `invalid-precondition`.
    pub fn parse(if_match: &[&[u8]], if_none_match: &[&[u8]]) -> Result<Self, PreconditionProblem> {
        match (Condition::parse(if_match), Condition::parse(if_none_match)) {
            (Err(PreconditionProblem::Malformed), _) | (_, Err(PreconditionProblem::Malformed)) => {
                Err(PreconditionProblem::Malformed)
            }
            (if_match, if_none_match) => Ok(Self { if_match: if_match?, if_none_match: if_none_match? }),
        }
    }

    /// Whether all that is present holds for the current version (V3); `None`: there is no resource.
    pub fn holds(&self, current: Option<&EntityTag>) -> bool {
        self.if_match.as_ref().is_none_or(|condition| condition.names(current))
            && self.if_none_match.as_ref().is_none_or(|condition| !condition.names(current))
    }

    /// Whether neither field was sent.
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Whether they will do where a precondition is required (V3): tags in `If-Match`, or `If-None-Match: *`,
    /// or with `version.allow_any` also `If-Match: *`.
    pub fn names_version(&self, allow_any: bool) -> bool {
        let by_match = match &self.if_match {
            Some(Condition::Tags(_)) => true,
            Some(Condition::Any) => allow_any,
            None => false,
        };
        by_match || self.if_none_match == Some(Condition::Any)
    }
}

/// Why preconditions are refused (V4). Its `Display` is a sentence for the agent's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreconditionProblem {
    /// A weak tag, which no version is ever equal to.
    Weak,
    /// No list of entity tags.
    Malformed,
}

impl fmt::Display for PreconditionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weak => {
                "The precondition has a weak entity tag (W/\"...\"), which can never match: something on \
                 the way weakens entity tags, mostly compression."
            }
            Self::Malformed => {
                "The precondition is neither * nor a list of entity tags in double quotes, such as \"v8\"."
            }
        })
    }
}

impl std::error::Error for PreconditionProblem {}

/// Whether a read's `If-None-Match` names the current version, so that a 304 is due (V2, RFC 9110 §13.1.2).
/// Takes all its field lines; none, or malformed ones, name nothing.
pub fn none_match_read(values: &[&[u8]], current: &EntityTag) -> bool {
    let mut named = false;
    let whole = scan(values, |item| match item {
        Item::Any => named = true,
        Item::Tag { quoted, .. } => named |= quoted == current.as_str(),
    });
    whole.is_some() && named
}

/// One member of the list; `quoted` is the opaque tag with its quotes.
enum Item<'a> {
    Any,
    Tag { quoted: &'a str, weak: bool },
}

/// Hands out the members over all field lines. `None`: malformed; what was handed out before does not count
/// then.
fn scan<'a>(values: &[&'a [u8]], mut each: impl FnMut(Item<'a>)) -> Option<()> {
    let (mut any, mut tags) = (false, 0_usize);
    for value in values {
        let mut rest = skip_space(std::str::from_utf8(value).ok()?);
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix('*') {
                if any {
                    return None;
                }
                any = true;
                each(Item::Any);
                rest = behind;
            } else if !rest.starts_with(',') {
                let (opaque, weak) = match rest.strip_prefix("W/") {
                    Some(opaque) => (opaque, true),
                    None => (rest, false),
                };
                let inside = opaque.strip_prefix('"')?;
                let end = inside.bytes().position(|byte| !is_etagc(byte))?;
                let behind = inside.get(end..)?.strip_prefix('"')?;
                let quoted = opaque.get(..end + 2)?;
                tags += 1;
                each(Item::Tag { quoted, weak });
                rest = behind;
            }
            rest = skip_space(rest);
            match rest.strip_prefix(',') {
                Some(behind) => rest = skip_space(behind),
                None if rest.is_empty() => {}
                None => return None,
            }
        }
    }
    (any != (tags > 0)).then_some(())
}

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

#[cfg(test)]
mod tests;
