//! Where a template finds its values: path, query, fields, JSON body (R5).

use std::borrow::Cow;

use http::HeaderName;

use crate::http::Request;
use crate::protocol::json;
use crate::protocol::template::{Captures, Lookup};

pub(super) struct Sources<'a> {
    pub(super) captures: Option<Captures<'a>>,
    pub(super) request: &'a Request,
    pub(super) body: &'a [u8],
}

impl Lookup for Sources<'_> {
    fn capture(&self, name: &str) -> Option<Cow<'_, str>> {
        self.captures.as_ref()?.get(name).map(Cow::Borrowed)
    }

    /// A parameter that stands twice names no resource: which of the two the upstream takes is not known.
    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.request.target.query()?.split('&').filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decoded(key)? == name).then_some(value)
        });
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        form_decoded(value)
    }

    /// A field that stands twice names no resource either.
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        let name: HeaderName = name.parse().ok()?;
        let mut lines = self.request.headers.get_all(name).iter();
        let line = lines.next()?;
        if lines.next().is_some() {
            return None;
        }
        std::str::from_utf8(line.as_bytes()).ok().map(Cow::Borrowed)
    }

    fn json(&self, pointer: &str) -> Option<Cow<'_, str>> {
        json::pointer_text(self.body, pointer).map(Cow::Owned)
    }
}

/// A query name or value as a form has it: `+` is a space, `%XX` a byte of UTF-8.
pub fn form_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match (first, behind) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest = after;
            }
            (b'%', _) => return None,
            (b'+', _) => bytes.push(b' '),
            (plain, _) => bytes.push(*plain),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}
