//! Where things are: upstreams and stores.

use http::uri::Authority;
use serde_json::Value as Json;

use super::checked::{Otlp, Secret, StoreUrl};
use super::parts::string_like;
use super::problem::Kind;
use super::reader::{Node, Part, Reader, Wrong, quoted};

/// The URL of an upstream.
#[derive(Debug, Clone)]
pub(super) struct UpstreamUrl(pub(super) Authority);

impl Part for UpstreamUrl {
    fn what() -> String {
        "a URL, such as \"http://127.0.0.1:3000\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, upstream).map(Self)
    }

    fn schema() -> Json {
        string_like(r"https?://[^/?#@\s]+/?")
    }
}

/// Reads `http://host[:port][/]`.
pub(super) fn upstream(text: &str) -> Result<Authority, Wrong> {
    place(text, 80, "an upstream has no path of its own, requests keep theirs")
}

/// Reads `http://host[:port][/]`; `no_path` says why there is no more of it.
fn place(text: &str, port: u16, no_path: &str) -> Result<Authority, Wrong> {
    let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(no_scheme(text)),
    };
    if rest.contains('@') {
        return Err(Wrong::spelling("a user or password in the URL would not be sent; leave it out"));
    }
    let place = rest.strip_suffix('/').unwrap_or(rest);
    if let Some(end) = place.find(['/', '?', '#']) {
        let right = text.get(..text.len() - rest.len() + end).unwrap_or(text);
        return Err(Wrong::spelling(format!("{no_path}; write {right:?}")));
    }
    if place.is_empty() || place.contains(char::is_whitespace) {
        return Err(Wrong::spelling(format!("{} names no host", quoted(text))));
    }
    let authority = with_port(place, if tls { 443 } else { port })
        .ok_or_else(|| Wrong::value(format!("{} has no valid host and port", quoted(text))))?;
    if tls {
        return Err(Wrong { kind: Kind::NotBuilt, what: "https:// is not built yet; use http://".into() });
    }
    Ok(authority)
}

fn with_port(place: &str, default: u16) -> Option<Authority> {
    let authority: Authority = place.parse().ok()?;
    if authority.host().is_empty() {
        return None;
    }
    match place.strip_prefix(authority.host())? {
        "" => format!("{place}:{default}").parse().ok(),
        port => port.strip_prefix(':')?.parse().ok().filter(|port: &u16| *port > 0).map(|_| authority),
    }
}

fn no_scheme(text: &str) -> Wrong {
    let bare = !text.is_empty() && !text.contains("//") && !text.contains(['@', '/', ' ']);
    let right = if bare { format!("http://{text}") } else { "http://127.0.0.1:3000".into() };
    // The text itself is left out: it may hold a password.
    Wrong::spelling(format!("not a URL of http:// or https://; write for example {right:?}"))
}

/// `log.otlp`
#[derive(Debug, Clone)]
pub(super) struct Collector(pub(super) Option<Otlp>);

impl Part for Collector {
    fn what() -> String {
        "a collector's URL, such as \"http://127.0.0.1:4317\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            if text.is_empty() {
                return Ok(Self(None));
            }
            let authority = place(text, 4317, "spans go to the collector's own path by themselves")?;
            if !cfg!(feature = "otlp") {
                let what = "this build has no OTLP; leave it out, or build with the feature `otlp`".into();
                return Err(Wrong { kind: Kind::NotBuilt, what });
            }
            let over_http = authority.port_u16() == Some(4318);
            Ok(Self(Some(Otlp { authority, over_http })))
        })
    }

    fn schema() -> Json {
        string_like(r"(?:https?://[^/?#@\s]+/?)?")
    }
}

/// Whether the URL of a shared store names a host, and this build can call there. The text itself is never told: it
/// may hold a password.
fn shared(rest: &str, is_built: bool, feature: &str) -> Result<(), Wrong> {
    if !is_built {
        let what = format!("this build has no such store; build it with the feature `{feature}`");
        return Err(Wrong { kind: Kind::NotBuilt, what });
    }
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    if host.is_empty() || rest.contains(char::is_whitespace) {
        return Err(Wrong::spelling("the store's URL names no host"));
    }
    Ok(())
}

/// `store.url`
#[derive(Debug, Clone)]
pub(super) struct StoreAt(pub(super) StoreUrl);

const REDIS: &[&str] = &["redis://", "rediss://", "redis+sentinel://", "rediss+sentinel://"];
const POSTGRES: &[&str] = &["postgres://", "postgresql://"];

impl Part for StoreAt {
    fn what() -> String {
        "a store, such as \"memory:\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            if text == "memory:" {
                return Ok(Self(StoreUrl::Memory));
            }
            if let Some(path) = text.strip_prefix("disk:").filter(|path| !path.is_empty()) {
                return Ok(Self(StoreUrl::Disk(path.into())));
            }
            if let Some(rest) = REDIS.iter().find_map(|scheme| text.strip_prefix(scheme)) {
                shared(rest, cfg!(feature = "redis"), "redis")?;
                if text.contains("+sentinel") && !rest.contains('/') {
                    let what = "Sentinel is asked for a primary by its name; write \"redis+sentinel://host:26379/NAME\"";
                    return Err(Wrong::value(what));
                }
                return Ok(Self(StoreUrl::Redis(Secret::new(text.to_owned()))));
            }
            if let Some(rest) = POSTGRES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
                shared(rest, cfg!(feature = "postgres"), "postgres")?;
                return Ok(Self(StoreUrl::Postgres(Secret::new(text.to_owned()))));
            }
            // The text itself is left out: it may hold a password.
            Err(Wrong::spelling(
                "not a store; one of \"memory:\", \"disk:PATH\", \"redis://…\", \"rediss://…\", \
                 \"redis+sentinel://…\", \"postgres://…\"",
            ))
        })
    }

    fn schema() -> Json {
        let shared = [REDIS, POSTGRES].concat().join("|").replace('+', r"\+");
        string_like(&format!("memory:|disk:[\\s\\S]+|(?:{shared})[\\s\\S]*"))
    }
}

/// Where a queue's tasks are.
#[derive(Debug, Clone)]
pub(super) enum TasksAt {
    Http(Authority),
    Redis(Secret),
    Amqp(Secret),
    Postgres(Secret),
}

const REDIS_TASKS: &[&str] = &["redis://", "rediss://"];
const AMQP: &[&str] = &["amqp://", "amqps://"];

impl Part for TasksAt {
    fn what() -> String {
        "a source of tasks, such as \"http://127.0.0.1:3000\"".into()
    }

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.spelled::<Self, _>(node, |text| {
            let rest = |schemes: &[&str]| schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
            let secret = || Secret::new(text.to_owned());
            if let Some(rest) = rest(REDIS_TASKS) {
                elsewhere(rest, cfg!(feature = "redis"), "redis").map(|()| Self::Redis(secret()))
            } else if let Some(rest) = rest(AMQP) {
                elsewhere(rest, cfg!(feature = "amqp"), "amqp").map(|()| Self::Amqp(secret()))
            } else if let Some(rest) = rest(POSTGRES) {
                elsewhere(rest, cfg!(feature = "postgres"), "postgres").map(|()| Self::Postgres(secret()))
            } else if text.starts_with("http://") || text.starts_with("https://") {
                let no_path = "the path of the list stands in `list`";
                place(text, 80, no_path).map(Self::Http)
            } else {
                // The text itself is left out: it may hold a password.
                Err(Wrong::spelling(
                    "not a source of tasks; one of \"http://…\", \"redis://…\", \"rediss://…\", \"amqp://…\", \
                     \"amqps://…\", \"postgres://…\"",
                ))
            }
        })
    }

    fn schema() -> Json {
        let shared = [REDIS_TASKS, AMQP, POSTGRES].concat().join("|");
        string_like(&format!(r"https?://[^/?#@\s]+/?|(?:{shared})[\s\S]*"))
    }
}

fn elsewhere(rest: &str, is_built: bool, feature: &str) -> Result<(), Wrong> {
    if !is_built {
        let what = format!("this build has no such source of tasks; build it with the feature `{feature}`");
        return Err(Wrong { kind: Kind::NotBuilt, what });
    }
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    if host.is_empty() || rest.contains(char::is_whitespace) {
        return Err(Wrong::spelling("the source's URL names no host"));
    }
    Ok(())
}
