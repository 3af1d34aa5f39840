//! The routes: each with the defaults of its guard and of the top, and what no two of them may share.
//!
//! A key of a policy is what the route says, else what the top says, else the contract's default. Four keys have
//! a default by guard (R2): `idempotency.required`, `version.source`, `version.required` and `queue.turns`; so has
//! `events`. For these the top counts on `state` and `tool` only: a `read` or `none` route gets what it sets itself, so that
//! `[version] source = "mint"` at the top turns no plain route into a versioned one.

use std::collections::HashMap;
use std::sync::Arc;

use http::uri::Authority;

use super::checked::{
    EventsOf, Guard, Idempotency, Mode, OnStoreFailure, OnUnknown, Route, RouteLimits, Store, StoreUrl,
    Upstream,
};
use super::choice::{Short, in_full};
use super::policies;
use super::problem::Kind;
use super::raw;
use super::reader::{At, Reader, Spot, quoted};
use super::settle::{MIB, or, seconds, table};
use super::spellings::{PathText, Pattern};
use super::table::Layer;
use crate::protocol::path::NormalPath;
use crate::protocol::template::{PathTemplate, Template};

/// The top of a file, as far as it is a default of routes.
#[derive(Debug, Clone)]
pub(super) struct Top {
    mode: Mode,
    events: EventsOf,
    policies: Policies,
    /// What jobs lack (J1).
    jobs_lack: Option<&'static str>,
    /// `--upstream`: every route's.
    upstream: Option<Authority>,
}

/// The policy tables of the top or of a route, in full.
#[derive(Debug, Clone, Default)]
pub(super) struct Policies {
    pub(super) idempotency: raw::Idempotency,
    pub(super) version: raw::Version,
    pub(super) queue: raw::Queue,
    pub(super) leases: Option<At<Short<bool, raw::Leases>>>,
    pub(super) limits: raw::RouteLimits,
}

impl Top {
    pub(super) fn of(
        root: raw::Root,
        limits: &raw::Limits,
        store: &Store,
        upstream: Option<Authority>,
        reader: &mut Reader<'_>,
    ) -> Self {
        let policies = Policies {
            idempotency: table(root.idempotency),
            version: policies::with_source(in_full(root.version, raw::Version::of), reader),
            queue: in_full(root.queue, raw::Queue::of),
            leases: root.leases,
            limits: raw::RouteLimits {
                body: limits.body.clone(),
                upstream_connect: limits.upstream_connect.clone(),
                upstream_response: limits.upstream_response.clone(),
                upstream_idle: limits.upstream_idle.clone(),
                upstream_total: limits.upstream_total.clone(),
                upstream_keep: limits.upstream_keep.clone(),
                upstream_connections: limits.upstream_connections.clone(),
            },
        };
        policies::writes_only(&policies.version, &[], reader);
        let events = match root.events {
            Some(At { value: Short::Short(of), .. }) => of,
            Some(At { value: Short::Long(_), .. }) | None => EventsOf::All,
        };
        let jobs_lack = jobs_lack(store, reader);
        Self { mode: or(root.mode, Mode::Enforce), events, policies, jobs_lack, upstream }
    }

    /// What holds for keys of requests to Onceward itself.
    pub(super) fn own(&self) -> Idempotency {
        policies::idempotency(self.policies.idempotency.clone(), Guard::State)
    }

    /// The policies of what is no route: a queue's keys, and its calls of an upstream.
    pub(super) fn of_queues(&self) -> (Idempotency, RouteLimits, usize) {
        let Policies { idempotency, version, limits: own, .. } = self.policies.clone();
        let idempotency = policies::idempotency(idempotency, Guard::Tool);
        // What became of a task that was put in nobody can look up.
        let idempotency = Idempotency { required: true, on_unknown: OnUnknown::Hold, ..idempotency };
        (idempotency, limits(own), or(version.max_body, 8 * MIB))
    }

    /// The policies of the top, as far as a route of this guard takes them over.
    fn for_guard(&self, guard: Guard) -> Policies {
        let mut policies = self.policies.clone();
        if matches!(guard, Guard::Read | Guard::None) {
            policies.idempotency.required = None;
            policies.version.source = None;
            policies.version.required = None;
            policies.queue.turns = None;
        }
        policies
    }
}

/// The one route of a configuration that has nothing but an upstream (C1).
pub(super) fn everything() -> raw::Route {
    let path = At { value: PathText("/{*path}".to_owned()), spot: Spot::argument("--upstream") };
    raw::Route { path: Some(path), ..raw::Route::default() }
}

/// Settles all routes and compares them with each other.
pub(super) fn settle(given: Vec<At<raw::Route>>, top: &Top, reader: &mut Reader<'_>) -> Vec<Arc<Route>> {
    let mut routes: Vec<Arc<Route>> = Vec::new();
    let mut paths: Vec<String> = Vec::new();
    let mut names: HashMap<Arc<str>, String> = HashMap::new();
    for At { value: given, spot } in given {
        let path_spot = given.path.as_ref().map(|path| path.spot.clone()).unwrap_or_else(|| spot.clone());
        let name_spot =
            given.name.as_ref().map(|name| name.spot.clone()).unwrap_or_else(|| path_spot.clone());
        let Some(route) = route(given, top, reader) else { continue };
        let twin = routes.iter().zip(&paths).find(|(other, _)| other.path.same_paths(&route.path));
        if let Some((_, other)) = twin {
            let what = format!(
                "matches the same paths as {other}, and methods do not tell routes apart; \
                 make one of it, or change one of the paths"
            );
            reader.report(Kind::Value, &path_spot, what);
        } else if let Some(other) = names.get(&route.name) {
            let what = format!("{} is the name of {other} already", quoted(&route.name));
            reader.report(Kind::Value, &name_spot, what);
        }
        names.entry(Arc::clone(&route.name)).or_insert_with(|| spot.key.clone());
        paths.push(spot.key);
        routes.push(Arc::new(route));
    }
    routes
}

fn route(given: raw::Route, top: &Top, reader: &mut Reader<'_>) -> Option<Route> {
    // What is wrong with the rest is told even where the path is wrong or missing.
    let path = given.path.as_ref().and_then(|at| path(at, reader));
    let captures = path.as_ref().map(PathTemplate::names);
    let captures = captures.as_deref();
    let guard = or(given.guard, Guard::State);
    let own = Policies {
        idempotency: table(given.idempotency),
        version: policies::with_source(in_full(given.version, raw::Version::of), reader),
        queue: in_full(given.queue, raw::Queue::of),
        leases: given.leases,
        limits: table(given.limits),
    };
    let reads = given.reads.map_or_else(Vec::new, |list| policies::methods(list.value.0));
    policies::fit(guard, &own, &reads, reader);
    let top_policies = top.for_guard(guard);
    let resource = given.resource.and_then(|at| template("a resource", &at, captures, reader));
    let mut version = policies::version(own.version, top_policies.version, guard, captures, reader);
    version.required.retain(|method| !reads.contains(method));
    let takes_jobs = given.r#async.as_ref().is_some_and(|at| at.value);
    if let Some(at) = given.r#async.as_ref().filter(|at| at.value) {
        jobs(guard, top.jobs_lack, &at.spot, reader);
    }
    let upstream = match (&top.upstream, in_full(given.upstream, raw::Upstream::of).url) {
        (Some(authority), _) => authority.clone(),
        (None, Some(url)) => url.value.0,
        (None, None) => return None,
    };
    let path = path?;
    let events_at = given.events.as_ref().map(|at| at.spot.clone());
    let settled = Route {
        name: given.name.map_or_else(|| Arc::from(path.as_str()), |name| Arc::from(name.value.0)),
        methods: given.methods.map(|list| policies::methods(list.value.0)),
        reads,
        guard,
        mode: or(given.mode, top.mode),
        upstream: Upstream { authority: upstream },
        idempotency: policies::idempotency(own.idempotency.over(top_policies.idempotency), guard),
        queue: policies::queue(own.queue.over(top_policies.queue), guard, resource.is_some(), &version),
        leases: policies::leases(own.leases, top_policies.leases, guard),
        limits: limits(own.limits.over(top_policies.limits)),
        events: or(given.events, events_by_guard(guard, top.events)),
        takes_jobs,
        on_store_failure: or(table(given.store).on_failure, OnStoreFailure::Closed),
        path,
        resource,
        version,
    };
    if let Some(spot) = events_at.filter(|_| settled.events != EventsOf::Off && !tells(&settled)) {
        let what = "nothing is told of a route on which nothing is written or all goes through untouched; \
                    use another guard, or leave it out";
        reader.report(Kind::Value, &spot, what);
    }
    Some(settled)
}

/// Whether there is anything to tell of a route (E1).
fn tells(route: &Route) -> bool {
    route.guard != Guard::Read && !route.passes_through()
}

fn events_by_guard(guard: Guard, top: EventsOf) -> EventsOf {
    match guard {
        Guard::State | Guard::Tool => top,
        Guard::Read | Guard::None => EventsOf::Off,
    }
}

/// What stands in the way of jobs on every route (J1). A secret that is wrong was told already.
fn jobs_lack(store: &Store, reader: &Reader<'_>) -> Option<&'static str> {
    if store.url == StoreUrl::Memory {
        return Some(
            "needs a store that outlives the process, and \"memory:\" does not; set store.url to disk:PATH, redis://… \
             or postgres://…",
        );
    }
    let lacks = store.secret.is_none() && !reader.is_wrong("store.secret");
    lacks.then_some("needs store.secret to seal stored requests with: 32 bytes in hex or base64")
}

/// Reports what makes `async = true` impossible.
fn jobs(guard: Guard, lack: Option<&str>, spot: &Spot, reader: &mut Reader<'_>) {
    if matches!(guard, Guard::Read | Guard::None) {
        let what = "goes with the guards \"state\" and \"tool\" only: the others have no keyed writes";
        reader.report(Kind::Value, spot, what);
    }
    if let Some(lack) = lack {
        reader.report(Kind::Value, spot, lack);
    }
}

fn path(given: &At<PathText>, reader: &mut Reader<'_>) -> Option<PathTemplate> {
    let At { value: PathText(text), spot } = given;
    if is_reserved(text) {
        reader.report(Kind::Value, spot, "paths under /.onceward are Onceward's own; choose another");
        return None;
    }
    match PathTemplate::parse(text) {
        Ok(path) => Some(path),
        Err(problem) => {
            let what = format!("{} is not a path: {}", quoted(text), problem.reason);
            reader.report(Kind::Value, &reader.inside(spot, text, problem.offset), what);
            None
        }
    }
}

/// Whether the first segment is `.onceward`, however it is spelled.
fn is_reserved(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    NormalPath::parse(&format!("/{first}")).is_ok_and(|path| path.as_str() == "/.onceward")
}

/// Parses a template over the route's captures, where these are known.
pub(super) fn template(
    what: &str,
    given: &At<Pattern>,
    captures: Option<&[&str]>,
    reader: &mut Reader<'_>,
) -> Option<Template> {
    let Pattern(text) = &given.value;
    match Template::parse(text, captures?) {
        Ok(template) => Some(template),
        Err(problem) => {
            let what = format!("{} is not {what}: {}", quoted(text), problem.reason);
            reader.report(Kind::Value, &reader.inside(&given.spot, text, problem.offset), what);
            None
        }
    }
}

fn limits(given: raw::RouteLimits) -> RouteLimits {
    RouteLimits {
        body: or(given.body, MIB),
        upstream_connect: or(given.upstream_connect, seconds(5)),
        upstream_response: or(given.upstream_response, seconds(30)),
        upstream_idle: or(given.upstream_idle, seconds(30)),
        upstream_total: or(given.upstream_total, seconds(300)),
        upstream_keep: or(given.upstream_keep, seconds(1)),
        upstream_connections: or(given.upstream_connections, 256),
    }
}
