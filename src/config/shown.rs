//! The configuration as it is shown (O1), compared (C3) and remarked on.

mod queues;

use serde_json::{Value as Json, json};

use super::checked::{
    Config, Events, Idempotency, Leases, Limits, Log, Queue, Route, Server, Source, Store, StoreUrl, Version,
};
use super::choice::Words;
use super::units::{shown_size as size, shown_time as time};

/// The configuration under section T's names, with every default in its place and secrets as `"***"`.
pub fn shown(config: &Config) -> Json {
    let identity: Vec<_> = config.identity.iter().map(http::HeaderName::as_str).collect();
    json!({
        "server": server(&config.server),
        "identity": { "header": identity },
        "limits": limits(&config.limits),
        "store": store(&config.store),
        "jobs": { "max_waiting": config.jobs.max_waiting, "give_up": time(config.jobs.give_up) },
        "events": events(&config.events),
        "log": log(&config.log),
        // Of Onceward's own; every route has all of it itself.
        "idempotency": idempotency(&config.own),
        "routes": config.routes.iter().map(|shared| route(shared)).collect::<Vec<_>>(),
        "queues": config.queues.iter().map(|shared| queues::tasks(shared)).collect::<Vec<_>>(),
    })
}

/// What of `[server]` and `[store]` differs: none of it changes without a restart (C3).
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let Server { listen, admin, admin_token, shutdown_grace, threads } = &old.server;
    let Store { url, max_memory, alive, wait_replicas, prefix, schema, turns, connections, secret } =
        &old.store;
    [
        ("server.listen", *listen != new.server.listen),
        ("server.admin", *admin != new.server.admin),
        ("server.admin_token", *admin_token != new.server.admin_token),
        ("server.shutdown_grace", *shutdown_grace != new.server.shutdown_grace),
        ("server.threads", *threads != new.server.threads),
        ("store.url", *url != new.store.url),
        ("store.max_memory", *max_memory != new.store.max_memory),
        ("store.secret", *secret != new.store.secret),
        ("store.alive", *alive != new.store.alive),
        ("store.wait_replicas", *wait_replicas != new.store.wait_replicas),
        ("store.prefix", *prefix != new.store.prefix),
        ("store.schema", *schema != new.store.schema),
        ("store.turns", *turns != new.store.turns),
        ("store.connections", *connections != new.store.connections),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

/// What is allowed and worth a word to the operator.
pub fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    if config.server.admin.is_some_and(|admin| !admin.ip().is_loopback())
        && config.server.admin_token.is_none()
    {
        notes.push(
            "server.admin is not loopback and server.admin_token is not set: \
             POST and DELETE are refused there"
                .to_owned(),
        );
    }
    let larger = config.routes.iter().find(|route| route.limits.body > config.limits.buffered);
    if let Some(route) = larger {
        notes.push(format!(
            "route {:?}: limits.body is {}, and limits.buffered ({}) has no place for such a body",
            route.name,
            size(route.limits.body),
            size(config.limits.buffered),
        ));
    }
    notes
}

fn server(server: &Server) -> Json {
    let listen: Vec<_> = server.listen.iter().map(ToString::to_string).collect();
    json!({
        "listen": listen,
        "admin": server.admin.map_or_else(|| "off".to_owned(), |admin| admin.to_string()),
        "admin_token": server.admin_token.as_ref().map_or("", |_| "***"),
        "shutdown_grace": time(server.shutdown_grace),
        "threads": server.threads,
    })
}

fn limits(limits: &Limits) -> Json {
    json!({
        "head": size(limits.head),
        "headers": limits.headers,
        "uri": size(limits.uri),
        "buffered": size(limits.buffered),
        "head_time": time(limits.head_time),
        "body_time": time(limits.body_time),
        "write_time": time(limits.write_time),
        "idle": time(limits.idle),
        "connections": limits.connections,
        "streams": limits.streams,
        "store": time(limits.store),
    })
}

fn store(store: &Store) -> Json {
    let url = match &store.url {
        StoreUrl::Memory => "memory:".to_owned(),
        StoreUrl::Disk(path) => format!("disk:{}", path.display()),
        StoreUrl::Redis(url) | StoreUrl::Postgres(url) => without_secrets(url.expose()),
    };
    let mut shown = json!({ "url": url, "max_memory": size(store.max_memory) });
    add(&mut shown, "secret", store.secret.as_ref().map(|_| "***".into()));
    match &store.url {
        StoreUrl::Memory | StoreUrl::Disk(_) => {}
        StoreUrl::Redis(_) => {
            add(&mut shown, "prefix", Some(store.prefix.as_str().into()));
            add(&mut shown, "wait_replicas", Some(store.wait_replicas.into()));
        }
        StoreUrl::Postgres(_) => {
            add(&mut shown, "schema", Some(store.schema.as_str().into()));
            add(&mut shown, "turns", Some(store.turns.word().into()));
        }
    }
    if matches!(store.url, StoreUrl::Redis(_) | StoreUrl::Postgres(_)) {
        add(&mut shown, "alive", Some(time(store.alive).into()));
        add(&mut shown, "connections", Some(store.connections.into()));
    }
    shown
}

fn events(events: &Events) -> Json {
    json!({
        "history": events.history,
        "ttl": time(events.ttl),
        "readers": events.readers,
        "heartbeat": time(events.heartbeat),
    })
}

/// A URL whose user, password and parameters are left out.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (place, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = match place.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => place.to_owned(),
    };
    format!("{scheme}://{host}{path}")
}

fn log(log: &Log) -> Json {
    let mut shown = json!({ "format": log.format.word(), "level": log.level });
    add(&mut shown, "otlp", log.otlp.as_ref().map(|otlp| format!("http://{}", otlp.authority).into()));
    shown
}

fn route(route: &Route) -> Json {
    let mut shown = json!({
        "path": route.path.as_str(),
        "upstream": format!("http://{}", route.upstream.authority),
        "name": route.name.as_ref(),
        "reads": names(&route.reads),
        "guard": route.guard.word(),
        "mode": route.mode.word(),
        "async": route.takes_jobs,
        "events": route.events.word(),
        "store": { "on_failure": route.on_store_failure.word() },
        "idempotency": idempotency(&route.idempotency),
        "version": version(&route.version),
        "queue": queue(&route.queue),
        "leases": route.leases.map_or(false.into(), leases),
        "limits": {
            "body": size(route.limits.body),
            "upstream_connect": time(route.limits.upstream_connect),
            "upstream_response": time(route.limits.upstream_response),
            "upstream_idle": time(route.limits.upstream_idle),
            "upstream_total": time(route.limits.upstream_total),
            "upstream_keep": time(route.limits.upstream_keep),
            "upstream_connections": route.limits.upstream_connections,
        },
    });
    add(&mut shown, "methods", route.methods.as_deref().map(|methods| names(methods).into()));
    add(&mut shown, "resource", route.resource.as_ref().map(|resource| resource.as_str().into()));
    shown
}

fn idempotency(idempotency: &Idempotency) -> Json {
    json!({
        "required": idempotency.required,
        "ttl": time(idempotency.ttl),
        "compare": idempotency.compare.word(),
        "in_flight": idempotency.in_flight.word(),
        "max_wait": time(idempotency.max_wait),
        "on_5xx": idempotency.on_5xx.word(),
        "on_unknown": idempotency.on_unknown.word(),
        "settle": time(idempotency.settle),
        "max_response": size(idempotency.max_response),
    })
}

fn version(version: &Version) -> Json {
    let (source, field) = match &version.source {
        Source::Hash => ("hash", None),
        Source::Etag => ("etag", None),
        Source::Field(pointer) => ("field", Some(pointer.as_str())),
        Source::Mint => ("mint", None),
        Source::Upstream => ("upstream", None),
        Source::None => ("none", None),
    };
    let mut shown = json!({
        "source": source,
        "required": names(&version.required),
        "max_body": size(version.max_body),
        "refresh": version.refresh,
        "allow_any": version.allow_any,
        "include_current": version.include_current,
        "stale_status": version.stale_status.as_u16(),
    });
    add(&mut shown, "field", field.map(Json::from));
    add(&mut shown, "probe", version.probe.as_ref().map(|probe| probe.as_str().into()));
    let accept = version.accept.as_ref().and_then(|accept| accept.to_str().ok());
    add(&mut shown, "accept", accept.map(Json::from));
    shown
}

fn queue(queue: &Queue) -> Json {
    json!({
        "turns": queue.turns,
        "max_waiting": queue.max_waiting,
        "max_wait": time(queue.max_wait),
        "reads": queue.reads.word(),
    })
}

fn leases(leases: Leases) -> Json {
    json!({
        "default_ttl": time(leases.default_ttl),
        "max_ttl": time(leases.max_ttl),
        "max_per_principal": leases.max_per_principal,
    })
}

fn names(methods: &[http::Method]) -> Vec<&str> {
    methods.iter().map(http::Method::as_str).collect()
}

fn add(shown: &mut Json, name: &str, value: Option<Json>) {
    if let (Some(shown), Some(value)) = (shown.as_object_mut(), value) {
        shown.insert(name.to_owned(), value);
    }
}
