//! Section T as it stands in a file: every key, its type and its default. Nothing here is decided; a key that
//! is left out is `None`. From the one list come the reader, the schema and the merging of top and route.

use http::{HeaderName, HeaderValue, Method};

use super::checked::{
    EventsOf, Guard, InFlight, Locks, LogFormat, Mode, On5xx, OnStoreFailure, OnUnknown, QueueReads, Secret,
};
use super::choice::*;
use super::parts::*;
use super::places::{Collector, StoreAt, TasksAt, UpstreamUrl};
use super::reader::{At, Spot};
use super::spellings::*;
use super::table::tables;
use crate::protocol::fingerprint::Compare;

tables! {
    /// The whole document.
    Root("routes") {
        /// The listeners and the process. A change needs a restart.
        server: Server,
        /// Who an agent is.
        identity: Identity,
        /// Bounds of time and size. `body` and `upstream_…` may be set on a route too.
        limits: Limits,
        /// Where records are kept. A change needs a restart.
        store: Store,
        /// Idempotency keys, for every route that does not say otherwise.
        idempotency: Idempotency,
        /// Versions, for every route that does not say otherwise; a string stands for `source`.
        version: Short<SourceName, Version>,
        /// Turns, for every route that does not say otherwise; a boolean stands for `turns`.
        queue: Short<bool, Queue>,
        /// Leases, for every route that does not say otherwise; `false` is for none.
        leases: Short<bool, Leases>,
        /// Writes that run after they were answered.
        jobs: Jobs,
        /// The stream of events, or the default of the routes' `events`.
        events: Short<EventsOf, Events>,
        /// The log.
        log: Log,
        /// Whether the rules are enforced, for every route that does not say otherwise.
        mode: Mode = "enforce",
        /// What is forwarded, and under which rules.
        routes: List<Route, 1>,
        /// Tasks that are handed out one agent at a time.
        queues: List<Tasks, 0>,
    }

    /// `[server]`
    Server() {
        /// Where agents are listened to: an address, or a list.
        listen: OneOrMore<Address> = "127.0.0.1:8080",
        /// Where operators are listened to, or `off`.
        admin: AddressOrOff = "127.0.0.1:9090",
        /// What POST and DELETE need where `admin` is not loopback. Empty: not set.
        admin_token: Secret = "",
        /// How long a shutdown waits for what is in flight.
        shutdown_grace: TimeOrZero = "25s",
        /// Worker threads; 0: one per core.
        threads: Count<0, 1024> = 0,
        /// Certificate and key of the listener.
        tls: Later<Tls>,
    }

    /// `server.tls`
    Tls("cert", "key") {
        /// The certificate's file.
        cert: Text,
        /// The key's file.
        key: Text,
    }

    /// `[identity]`
    Identity() {
        /// The headers that name a principal: the first present counts.
        header: OneOrMore<HeaderName> = ["Authorization"],
    }

    /// `[limits]`
    Limits() {
        /// A request's head.
        head: Size = "64KiB",
        /// Fields in a request's head.
        headers: Count<1, 30000> = 100,
        /// A request's target.
        uri: Size = "8KiB",
        /// A request's body, where it is read before it is forwarded.
        body: SizeOrZero = "1MiB",
        /// All buffered bodies together.
        buffered: Size = "256MiB",
        /// Until a request's head is there.
        head_time: Time = "10s",
        /// Until a request's body is there.
        body_time: Time = "30s",
        /// Until an agent that takes nothing is cut off.
        write_time: Time = "10s",
        /// Until an idle connection of an agent is closed.
        idle: Time = "75s",
        /// Connections of agents.
        connections: Count<1, 10000000> = 10000,
        /// Streams per HTTP/2 connection.
        streams: Count<1, 1000000> = 100,
        /// Until an upstream is connected.
        upstream_connect: Time = "5s",
        /// From the last byte sent to the head of the answer.
        upstream_response: Time = "30s",
        /// Between two bytes of an answer.
        upstream_idle: Time = "30s",
        /// A write's whole answer.
        upstream_total: Time = "5m",
        /// How long an idle connection may carry a write.
        upstream_keep: TimeOrZero = "1s",
        /// Connections per upstream.
        upstream_connections: Count<1, 1000000> = 256,
        /// Until the store answers.
        store: Time = "5s",
    }

    /// `limits` of a route.
    RouteLimits() {
        /// A request's body, where it is read before it is forwarded.
        body: SizeOrZero,
        /// Until the upstream is connected.
        upstream_connect: Time,
        /// From the last byte sent to the head of the answer.
        upstream_response: Time,
        /// Between two bytes of an answer.
        upstream_idle: Time,
        /// A write's whole answer.
        upstream_total: Time,
        /// How long an idle connection may carry a write.
        upstream_keep: TimeOrZero,
        /// Connections per upstream.
        upstream_connections: Count<1, 1000000>,
    }

    /// `[store]`
    Store() {
        /// `memory:`, `disk:PATH`, `redis://…`, `rediss://…`, `redis+sentinel://…` or `postgres://…`.
        url: StoreAt = "memory:",
        /// What records, bodies, counters, events and leases may take in memory.
        max_memory: Size = "512MiB",
        /// 32 bytes in hex or base64, for stored requests. Empty: not set.
        secret: Secret = "",
        /// How long a silent instance counts as alive.
        alive: Time = "10s",
        /// Redis: replicas that must have a write.
        wait_replicas: Count<0, 64> = 0,
        /// Redis: what every key begins with.
        prefix: Text = "onceward:",
        /// Postgres: the schema.
        schema: Text = "onceward",
        /// Postgres: how turns are held.
        turns: Locks = "rows",
        /// Connections to the store.
        connections: Count<1, 10000> = 16,
    }

    /// `store` of a route.
    RouteStore() {
        /// What a write does while the store cannot be reached.
        on_failure: OnStoreFailure = "closed",
    }

    /// `[idempotency]`
    Idempotency() {
        /// Whether a write needs a key. Default by guard.
        required: bool,
        /// How long a record lives from its end.
        ttl: Time = "24h",
        /// Whether bodies are compared as JSON or byte by byte.
        compare: Compare = "json",
        /// What a second request does while the first one runs.
        in_flight: InFlight = "refuse",
        /// How long it waits for the first one.
        max_wait: TimeOrZero = "10s",
        /// What a 5xx of the upstream means for the record.
        on_5xx: On5xx = "keep",
        /// What ends an unknown outcome.
        on_unknown: OnUnknown = "version",
        /// How long a resource rests after an unknown outcome; `0s` for not at all.
        settle: TimeOrZero = "30s",
        /// The largest answer that is kept.
        max_response: SizeOrZero = "1MiB",
    }

    /// `[version]`
    Version() {
        /// Where a resource's version comes from. Default by guard.
        source: SourceName,
        /// The member of the upstream's JSON that is the version, with `source = "field"`.
        field: Pointer,
        /// Methods that need a precondition. Default by guard; `[]` for none.
        required: List<Method, 0>,
        /// What a probe reads. Default: the write's own target.
        probe: Pattern,
        /// The `Accept` of reads and probes.
        accept: HeaderValue,
        /// The largest body of a read that gets a version.
        max_body: SizeOrZero = "8MiB",
        /// Whether the version is read again after a write.
        refresh: bool = true,
        /// Whether `If-Match: *` will do as a precondition.
        allow_any: bool = false,
        /// Whether a refusal of a stale write carries the current body.
        include_current: bool = false,
        /// The status of a stale write.
        stale_status: StaleStatus = 409,
    }

    /// `[queue]`
    Queue() {
        /// Whether writes to one resource take turns. Default by guard.
        turns: bool,
        /// How many wait per resource.
        max_waiting: Count<1, 1000000> = 64,
        /// How long each waits.
        max_wait: TimeOrZero = "10s",
        /// Whether reads pass or wait while a write is in flight.
        reads: QueueReads = "pass",
    }

    /// `[leases]`
    Leases() {
        /// A lease's time where the agent names none.
        default_ttl: Time = "30s",
        /// The longest time of a lease.
        max_ttl: Time = "10m",
        /// Leases one principal may hold.
        max_per_principal: Count<1, 1000000> = 100,
    }

    /// `[jobs]`
    Jobs() {
        /// How many wait.
        max_waiting: Count<1, 10000000> = 10000,
        /// How long an upstream may be unreachable.
        give_up: Time = "1h",
    }

    /// `[events]`
    Events() {
        /// How many events are held.
        history: Count<0, 10000000> = 10000,
        /// How long an event is held.
        ttl: Time = "1h",
        /// How many read at once.
        readers: Count<1, 1000000> = 1024,
        /// How often an idle stream is kept alive.
        heartbeat: Time = "15s",
    }

    /// `[log]`
    Log() {
        /// JSON lines, or lines for people; `auto`: by what the output is.
        format: LogFormat = "auto",
        /// What is logged.
        level: Level = "info",
        /// Where spans are sent: by gRPC, on port 4318 by HTTP. Empty: nowhere.
        otlp: Collector,
    }

    /// One of `[[routes]]`
    Route("path", "upstream") {
        /// The paths it is for, for example `/documents/{id}` or `/files/{*rest}`.
        path: PathText,
        /// Where its requests go: a URL, or a table.
        upstream: Short<UpstreamUrl, Upstream>,
        /// Its name in metrics, logs and refusals. Default: the path.
        name: Name,
        /// The methods it answers. Default: all.
        methods: List<Method, 1>,
        /// Methods that are reads beside the registered safe ones.
        reads: List<Method, 0> = [],
        /// What kind of API stands behind it.
        guard: Guard = "state",
        /// Whether its rules are enforced, or only what they would do is counted.
        mode: Mode = "enforce",
        /// The resource a write changes. Default: the path.
        resource: Pattern,
        /// Whether an agent may ask to be answered before its write runs.
        r#async: bool = false,
        /// The store.
        store: RouteStore,
        /// Idempotency keys.
        idempotency: Idempotency,
        /// Versions; a string stands for `source`.
        version: Short<SourceName, Version>,
        /// Turns; a boolean stands for `turns`.
        queue: Short<bool, Queue>,
        /// Limits of its own.
        limits: RouteLimits,
        /// Whether its resources can be leased.
        leases: Short<bool, Leases>,
        /// Who is told of its changes. Default by guard.
        events: EventsOf,
    }

    /// `upstream` of a route, in full.
    Upstream("url") {
        /// Where requests go.
        url: UpstreamUrl,
        /// The authority that the upstream's certificate is checked against.
        ca: Later<Text>,
        /// Whether the upstream is spoken to in HTTP/2.
        http2: Later<bool> = false,
    }

    /// One of `[[queues]]`
    Tasks("name", "source") {
        /// Its name in paths.
        name: Name,
        /// How long a claim lives.
        visibility: Time = "60s",
        /// How often a task is handed out.
        max_attempts: Count<1, 1000000> = 5,
        /// How long a claim waits for a task.
        max_wait: TimeOrZero = "30s",
        /// How long an acknowledged task is remembered.
        done_for: Time = "1h",
        /// Where its tasks are: `http(s)://…`, `redis(s)://…`, `amqp(s)://…` or `postgres://…`.
        source: TasksAt,
        /// http: what is sent along.
        headers: Names,
        /// http: the request that lists tasks.
        list: Text,
        /// http: pointer to the array of tasks. Default: the whole.
        items: Text,
        /// The task's identity: pointer or column. Default: `/id` or `id`.
        id: Text,
        /// http: how often it is listed, while somebody waits. Default: `1s`.
        poll: Time,
        /// What makes a task done. http: the call, default none; Postgres: a SET list, default DELETE, empty for nothing.
        done: Text,
        /// http: the body of that call.
        done_body: Text,
        /// Redis: the stream.
        stream: Text,
        /// Redis: the group of consumers.
        group: Text,
        /// AMQP: the queue.
        queue: Text,
        /// Postgres: the table.
        table: Text,
        /// Postgres: the column with the task. Default: the whole row.
        task: Text,
        /// Postgres: which rows are ready.
        ready: Text,
        /// Postgres: in which order.
        order: Text,
        /// Postgres: how rows are locked.
        locks: Locks,
        /// Where tasks go that nobody finished.
        dead_letter: Text,
    }
}

impl Version {
    /// What `version = "…"` is short for.
    pub(super) fn of(source: SourceName, at: Spot) -> Self {
        Self { source: Some(At { value: source, spot: at }), ..Self::default() }
    }
}

impl Queue {
    /// What `queue = …` is short for.
    pub(super) fn of(turns: bool, at: Spot) -> Self {
        Self { turns: Some(At { value: turns, spot: at }), ..Self::default() }
    }
}

impl Upstream {
    /// What `upstream = "…"` is short for.
    pub(super) fn of(url: UpstreamUrl, at: Spot) -> Self {
        Self { url: Some(At { value: url, spot: at }), ..Self::default() }
    }
}
