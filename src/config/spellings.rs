//! Strings that have a form of their own: addresses, methods, fields, paths, templates, pointers, levels.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, Method};
use serde_json::Value as Json;

use super::names::nearest;
use super::parts::string_like;
use super::problem::Kind;
use super::reader::{Node, Part, Reader, Wrong, quoted};
use crate::protocol::json;

/// A route's path, not parsed yet.
#[derive(Debug, Clone)]
pub(super) struct PathText(pub(super) String);

impl Part for PathText {
    fn what() -> String {
        "a path, such as \"/documents/{id}\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            if text.chars().any(char::is_control) {
                return Err(Wrong::spelling("a path has no control characters"));
            }
            if text.starts_with('/') {
                return Ok(Self(text.to_owned()));
            }
            let right = format!("/{text}");
            Err(Wrong::spelling(format!("a path begins with \"/\"; write {}", quoted(&right))))
        })
    }

    fn schema() -> Json {
        string_like(r"/[^\u0000-\u001f\u007f-\u009f]*")
    }
}

/// A template over a request, not parsed yet.
#[derive(Debug, Clone)]
pub(super) struct Pattern(pub(super) String);

impl Part for Pattern {
    fn what() -> String {
        "a template, such as \"/documents/{id}\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            if text.is_empty() {
                return Err(Wrong::spelling("a template is not empty; leave the key out for the default"));
            }
            Ok(Self(text.to_owned()))
        })
    }

    fn schema() -> Json {
        string_like(r"[\s\S]+")
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address(pub(super) SocketAddr);

const ADDRESS: &str = r"(?:[0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}";

pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    let right = match (text.strip_prefix("localhost:"), text.strip_prefix(':')) {
        (Some(port), _) => format!("127.0.0.1:{port}"),
        (None, Some(port)) => format!("0.0.0.0:{port}"),
        (None, None) => "127.0.0.1:8080".into(),
    };
    text.parse().map_err(|_| Wrong {
        kind: if looks_like_address(text) { Kind::Value } else { Kind::Type },
        what: format!("{} is not an address with a port; write for example {right:?}", quoted(text)),
    })
}

/// What [`ADDRESS`] matches: it does not count how large the numbers are.
fn looks_like_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match inside {
        Some(host) => !host.is_empty() && host.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c)),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_digit() || c == '.'),
    };
    host && (1..=5).contains(&port.len()) && port.chars().all(|c| c.is_ascii_digit())
}

impl Part for Address {
    fn what() -> String {
        "an address with a port, such as \"127.0.0.1:8080\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, address).map(Self)
    }

    fn schema() -> Json {
        string_like(ADDRESS)
    }
}

/// An address to listen on, or `"off"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddressOrOff(pub(super) Option<SocketAddr>);

impl Part for AddressOrOff {
    fn what() -> String {
        format!("{}, or \"off\"", Address::what())
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let parse = |text: &str| if text == "off" { Ok(None) } else { address(text).map(Some) };
        reader.spelled::<Self, _>(node, parse).map(Self)
    }

    fn schema() -> Json {
        string_like(&format!("off|{ADDRESS}"))
    }
}

impl Part for Method {
    fn what() -> String {
        "a method, such as \"POST\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            if text.chars().any(|letter| letter.is_ascii_lowercase()) {
                let right = text.to_ascii_uppercase();
                return Err(Wrong::spelling(format!("methods are upper-case: {:?}", right)));
            }
            text.parse().map_err(|_| Wrong::spelling(format!("{} is not a method", quoted(text))))
        })
    }

    fn schema() -> Json {
        string_like(r"[!#$%&'*+.^_`|~0-9A-Z-]+")
    }
}

impl Part for HeaderName {
    fn what() -> String {
        "a header's name".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            text.parse().map_err(|_| Wrong::spelling(format!("{} is not a header's name", quoted(text))))
        })
    }

    fn schema() -> Json {
        string_like(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
    }
}

impl Part for HeaderValue {
    fn what() -> String {
        "a header's value".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            let visible = !text.is_empty() && text.chars().all(|c| (' '..='~').contains(&c));
            let value = if visible { Self::from_str(text).ok() } else { None };
            value.ok_or_else(|| Wrong::spelling("a header's value is visible ASCII"))
        })
    }

    fn schema() -> Json {
        string_like("[ -~]+")
    }
}

/// A JSON pointer (RFC 6901) to a member.
#[derive(Debug, Clone)]
pub(super) struct Pointer(pub(super) String);

impl Part for Pointer {
    fn what() -> String {
        "a JSON pointer, such as \"/rev\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            if !text.is_empty() && json::is_pointer(text) {
                return Ok(Self(text.to_owned()));
            }
            let right = format!("/{}", text.trim_start_matches(['$', '.', '/']).replace('.', "/"));
            let right = if json::is_pointer(&right) { right } else { "/rev".into() };
            Err(Wrong::spelling(format!(
                "{} is not a JSON pointer; write for example {right:?}",
                quoted(text)
            )))
        })
    }

    fn schema() -> Json {
        string_like("(?:/(?:[^~/]|~[01])*)+")
    }
}

/// What `log.level` filters by: a level, or `target=level` with commas between.
#[derive(Debug, Clone)]
pub(super) struct Level(pub(super) String);

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

impl Part for Level {
    fn what() -> String {
        format!("one of {}, or \"target=level\" with commas between", LEVELS.join(", "))
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            for directive in text.split(',') {
                let (target, level) = match directive.rsplit_once('=') {
                    Some((target, level)) => (Some(target), level),
                    None => (None, directive),
                };
                let target = target.is_none_or(is_target);
                if !target || !LEVELS.contains(&level) {
                    let hint = nearest(level, LEVELS).map(|near| format!(" (did you mean {near:?}?)"));
                    let hint = hint.unwrap_or_default();
                    let what = format!("{} is not {}{hint}", quoted(directive), Self::what());
                    return Err(Wrong::spelling(what));
                }
            }
            Ok(Self(text.to_owned()))
        })
    }

    fn schema() -> Json {
        let directive = format!("(?:[0-9A-Za-z_:-]+=)?(?:{})", LEVELS.join("|"));
        string_like(&format!("{directive}(?:,{directive})*"))
    }
}

fn is_target(target: &str) -> bool {
    !target.is_empty() && target.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c))
}
