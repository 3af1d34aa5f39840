//! What a request for a lease asks for, in its body or in its query.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config;
use crate::http::Reason;
use crate::http::problem::quoted;

/// `{"resource": "...", "ttl": "30s"}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) resource: Box<str>,
    pub(super) ttl: Option<Duration>,
}

impl Asked {
    /// Reads a request for a new lease.
    ///
    /// # Errors
    /// 400, with what is wrong.
    pub(super) fn read(content: &[u8]) -> Result<Self, Reason> {
        let members = members(content, &["resource", "ttl"])?;
        let resource = match members.get("resource") {
            Some(Value::String(name)) => super::resource(name)?,
            Some(_) => return Err(bad("The body's \"resource\" is not a string.")),
            None => {
                return Err(bad("The body names no \"resource\", as in {\"resource\": \"/documents/7\"}."));
            }
        };
        Ok(Self { resource, ttl: time(&members)? })
    }
}

/// Reads how long a renewal is for; it need not say.
pub(super) fn ttl(content: &[u8]) -> Result<Option<Duration>, Reason> {
    if content.is_empty() {
        return Ok(None);
    }
    time(&members(content, &["ttl"])?)
}

fn bad(what: &str) -> Reason {
    Reason::BadRequest(what.to_owned())
}

fn members(content: &[u8], known: &[&str]) -> Result<Map<String, Value>, Reason> {
    let members: Map<String, Value> = serde_json::from_slice(content)
        .map_err(|_| bad("The body is not a JSON object, such as {\"ttl\": \"30s\"}."))?;
    if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
        let known = known.join(" and ");
        return Err(bad(&format!(
            "The body has a member `{}`, and only {known} may be there.",
            quoted(name)
        )));
    }
    Ok(members)
}

fn time(members: &Map<String, Value>) -> Result<Option<Duration>, Reason> {
    let text = match members.get("ttl") {
        None => return Ok(None),
        Some(Value::String(text)) => text,
        Some(_) => return Err(bad("The body's \"ttl\" is not a string, such as \"30s\".")),
    };
    match config::time(text) {
        Ok(time) if time.is_zero() => Err(bad("The body's \"ttl\" is no time; ask for \"1ms\" at least.")),
        Ok(time) => Ok(Some(time)),
        Err(what) => Err(bad(&format!("The body's \"ttl\" cannot be read: {what}."))),
    }
}

/// The one value of a query parameter, decoded as a form's is.
///
/// # Errors
/// 400 where it is not there, or more than once.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Result<String, Reason> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let values: Vec<_> = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).collect();
    match values.as_slice() {
        [value] => crate::route::form_decoded(value)
            .map(std::borrow::Cow::into_owned)
            .ok_or_else(|| bad(&format!("The query parameter {name} cannot be decoded."))),
        [] => Err(bad(&format!("The query parameter {name} is missing."))),
        [_, _, ..] => Err(bad(&format!("The query parameter {name} stands more than once."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(content: &str) -> String {
        match Asked::read(content.as_bytes()) {
            Err(Reason::BadRequest(what)) => what,
            other => panic!("{content}: {other:?}"),
        }
    }

    // L1
    #[test]
    fn what_is_asked_for() {
        let read = |content: &str| Asked::read(content.as_bytes()).unwrap();
        let asked = |resource: &str, ttl| Asked { resource: resource.into(), ttl };
        assert_eq!(read(r#"{"resource": "/d/7"}"#), asked("/d/7", None));
        let half = Some(Duration::from_secs(30));
        assert_eq!(read(r#"{"ttl": "30s", "resource": "//d/./%37/"}"#), asked("/d/7", half));
        assert_eq!(read(r#"{"resource": "doc/%C3%A9"}"#), asked("doc/é", None));
        assert_eq!(ttl(b"").unwrap(), None);
        assert_eq!(ttl(b"{}").unwrap(), None);
        assert_eq!(ttl(br#"{"ttl": "30s"}"#).unwrap(), half);
        assert!(ttl(br#"{"resource": "/d/7"}"#).is_err());
    }

    // L1
    #[test]
    fn what_cannot_be_read_says_what_would_be_right() {
        for (content, wanted) in [
            ("", "not a JSON object"),
            ("[]", "not a JSON object"),
            (r#"{"ttl": "30s"}"#, "names no \"resource\""),
            (r#"{"resource": 7}"#, "not a string"),
            (r#"{"resource": ""}"#, "1 to 8192 bytes"),
            (r#"{"resource": "/%zz"}"#, "hexadecimal"),
            (r#"{"resource": "/d", "ttl": 30}"#, "not a string, such as \"30s\""),
            (r#"{"resource": "/d", "ttl": "30"}"#, "write for example \"30s\""),
            (r#"{"resource": "/d", "ttl": "0s"}"#, "\"1ms\" at least"),
            (r#"{"resource": "/d", "tll": "1s"}"#, "`tll`"),
        ] {
            assert!(wrong(content).contains(wanted), "{content}: {}", wrong(content));
        }
    }

    // L1
    #[test]
    fn a_parameter_is_there_once() {
        let value = |query| parameter(Some(query), "resource").ok();
        assert_eq!(value("resource=%2Fd%2F7+8").as_deref(), Some("/d/7 8"));
        assert_eq!(value("a=b&resource=x").as_deref(), Some("x"));
        for query in ["", "a=b", "resource=%2", "resource=a&resource=b"] {
            assert_eq!(value(query), None, "{query}");
        }
        assert!(parameter(None, "resource").is_err());
    }
}
