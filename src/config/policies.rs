//! One route's policies: what its own table and the top leave open, its guard decides (R2).

use http::{Method, StatusCode};

use super::checked::{
    Guard, Idempotency, InFlight, Leases, On5xx, OnUnknown, Queue, QueueReads, Source, Version, is_safe,
};
use super::choice::{Short, SourceName};
use super::problem::Kind;
use super::raw;
use super::reader::{At, Reader};
use super::routes::{Policies, template};
use super::settle::{MIB, or, seconds};
use super::spellings::Pattern;
use super::table::Layer;
use crate::protocol::fingerprint::Compare;
use crate::protocol::template::Template;

/// Gives a `version` table that has a `field` and no `source` the source that this is short for.
pub(super) fn with_source(mut given: raw::Version, reader: &mut Reader<'_>) -> raw::Version {
    if let Some(field) = &given.field {
        match &given.source {
            None => given.source = Some(At { value: SourceName::Field, spot: field.spot.clone() }),
            Some(At { value: SourceName::Field, .. }) => {}
            Some(_) => {
                let what = "goes with source = \"field\" only; change the source, or leave it out";
                reader.report(Kind::Value, &field.spot, what);
            }
        }
    }
    given
}

/// Methods without repetition.
pub(super) fn methods(given: Vec<At<Method>>) -> Vec<Method> {
    let mut methods = Vec::new();
    for At { value, .. } in given {
        if !methods.contains(&value) {
            methods.push(value);
        }
    }
    methods
}

/// Reports what a route asks for that its guard and its reads leave no place for.
pub(super) fn fit(guard: Guard, own: &Policies, reads: &[Method], reader: &mut Reader<'_>) {
    if guard != Guard::Read {
        writes_only(&own.version, reads, reader);
        return;
    }
    let why = "on a \"read\" route every method is a read";
    if let Some(required) = own.idempotency.required.as_ref().filter(|required| required.value) {
        reader.report(
            Kind::Value,
            &required.spot,
            format!("{why}, and a read needs no key; use another guard"),
        );
    }
    if let Some(turns) = own.queue.turns.as_ref().filter(|turns| turns.value) {
        reader.report(
            Kind::Value,
            &turns.spot,
            format!("{why}, and a read takes no turn; use another guard"),
        );
    }
    if let Some(leases) = own.leases.as_ref().filter(|leases| !matches!(leases.value, Short::Short(false))) {
        reader.report(
            Kind::Value,
            &leases.spot,
            format!("{why}, and no lease keeps a read back; use another guard"),
        );
    }
    if let Some(required) = own.version.required.as_ref().filter(|list| !list.value.0.is_empty()) {
        let what = format!("{why}, and a read needs no precondition; use another guard");
        reader.report(Kind::Value, &required.spot, what);
    }
}

/// Reports reads among the methods that need a precondition.
pub(super) fn writes_only(version: &raw::Version, reads: &[Method], reader: &mut Reader<'_>) {
    for At { value: method, spot } in version.required.iter().flat_map(|list| &list.value.0) {
        if is_safe(method) || reads.contains(method) {
            let what = format!("{method} is a read here, and a read needs no precondition; leave it out");
            reader.report(Kind::Value, spot, what);
        }
    }
}

pub(super) fn idempotency(given: raw::Idempotency, guard: Guard) -> Idempotency {
    Idempotency {
        required: or(given.required, matches!(guard, Guard::State | Guard::Tool)),
        ttl: or(given.ttl, seconds(24 * 3600)),
        compare: or(given.compare, Compare::Json),
        in_flight: or(given.in_flight, InFlight::Refuse),
        max_wait: or(given.max_wait, seconds(10)),
        on_5xx: or(given.on_5xx, On5xx::Keep),
        on_unknown: or(given.on_unknown, OnUnknown::Version),
        settle: or(given.settle, seconds(30)),
        max_response: or(given.max_response, MIB),
    }
}

pub(super) fn queue(given: raw::Queue, guard: Guard, has_resource: bool, version: &Version) -> Queue {
    let turns = match guard {
        Guard::State => true,
        Guard::Tool => has_resource || version.source != Source::None,
        Guard::Read | Guard::None => false,
    };
    Queue {
        turns: or(given.turns, turns),
        max_waiting: or(given.max_waiting, 64),
        max_wait: or(given.max_wait, seconds(10)),
        reads: or(given.reads, QueueReads::Pass),
    }
}

/// `None`: no leases. A guard that protects no writes has none unless the route itself asks for them.
pub(super) fn leases(
    own: Option<At<Short<bool, raw::Leases>>>,
    top: Option<At<Short<bool, raw::Leases>>>,
    guard: Guard,
) -> Option<Leases> {
    let (own, top) = (own.map(|at| at.value), top.map(|at| at.value));
    let below = match &top {
        Some(Short::Long(table)) => table.clone(),
        Some(Short::Short(_)) | None => raw::Leases::default(),
    };
    let given = match (own, top) {
        (Some(Short::Long(table)), _) => table.over(below),
        (Some(Short::Short(true)), _) => below,
        (None, Some(Short::Short(true) | Short::Long(_)) | None)
            if matches!(guard, Guard::State | Guard::Tool) =>
        {
            below
        }
        (Some(Short::Short(false)) | None, _) => return None,
    };
    let max_ttl = or(given.max_ttl, seconds(600));
    Some(Leases {
        default_ttl: or(given.default_ttl, seconds(30)).min(max_ttl),
        max_ttl,
        max_per_principal: or(given.max_per_principal, 100),
    })
}

pub(super) fn version(
    own: raw::Version,
    top: raw::Version,
    guard: Guard,
    captures: Option<&[&str]>,
    reader: &mut Reader<'_>,
) -> Version {
    let asked = own.required.clone().filter(|list| !list.value.0.is_empty());
    let given = own.over(top);
    let source = source(&given, guard, reader);
    let default = match (guard, &source) {
        (_, Source::None) | (Guard::Read | Guard::None, _) => Vec::new(),
        (Guard::State | Guard::Tool, _) => vec![Method::PUT, Method::PATCH, Method::DELETE],
    };
    let mut required = given.required.map_or(default, |list| methods(list.value.0));
    if source == Source::None {
        required.clear();
        if let Some(asked) = asked.filter(|asked| !reader.is_wrong(table_of(&asked.spot.key))) {
            let what =
                "without versions no precondition can be compared; set version.source, or leave this out";
            reader.report(Kind::Value, &asked.spot, what);
        }
    }
    let stale_status = given.stale_status.map_or(StatusCode::CONFLICT, |at| at.value.0);
    Version {
        source,
        required,
        probe: given.probe.and_then(|at| probe(&at, captures, reader)),
        accept: given.accept.map(|at| at.value),
        max_body: or(given.max_body, 8 * MIB),
        refresh: or(given.refresh, true),
        allow_any: or(given.allow_any, false),
        include_current: or(given.include_current, false),
        stale_status,
    }
}

fn source(given: &raw::Version, guard: Guard, reader: &mut Reader<'_>) -> Source {
    let default = if guard == Guard::State { SourceName::Hash } else { SourceName::None };
    match given.source.as_ref().map_or(default, |at| at.value) {
        SourceName::Hash => Source::Hash,
        SourceName::Etag => Source::Etag,
        SourceName::Mint => Source::Mint,
        SourceName::Upstream => Source::Upstream,
        SourceName::None => Source::None,
        SourceName::Field => match (&given.field, &given.source) {
            (Some(field), _) => Source::Field(field.value.0.clone()),
            (None, Some(at)) if reader.is_wrong(table_of(&at.spot.key)) => Source::None,
            (None, Some(at)) => {
                let what = "\"field\" needs to know which; write for example version = { field = \"/rev\" }";
                reader.report(Kind::Value, &at.spot, what);
                Source::None
            }
            (None, None) => Source::None,
        },
    }
}

/// The key of the `version` table that has this key, or is this one in its short form.
fn table_of(key: &str) -> &str {
    key.strip_suffix(".source").or_else(|| key.strip_suffix(".required")).unwrap_or(key)
}

/// A probe is a GET of a path, made before there is any body to look into.
fn probe(given: &At<Pattern>, captures: Option<&[&str]>, reader: &mut Reader<'_>) -> Option<Template> {
    let Pattern(text) = &given.value;
    if !text.starts_with('/') {
        reader.report(Kind::Value, &given.spot, "a probe is a path; begin it with \"/\"");
        return None;
    }
    let probe = template("a probe", given, captures, reader)?;
    if probe.needs_body() {
        reader.report(Kind::Value, &given.spot, "a probe is a GET and has no body: {json:…} cannot be in it");
    }
    Some(probe)
}
