//! Configuration that was checked: each value holds its invariants, so that nothing behind it checks again.
//!
//! Units: times are [`Duration`]s, sizes are bytes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::protocol::event::Audience;
use crate::protocol::fingerprint::Compare;
use crate::protocol::template::{PathTemplate, Template};

/// A whole configuration (section T).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub server: Server,
    /// I1: the first of these that a request has names its principal. Never empty.
    pub identity: Vec<HeaderName>,
    pub limits: Limits,
    pub store: Store,
    pub jobs: Jobs,
    pub events: Events,
    pub log: Log,
    /// What holds for keys of requests to Onceward itself: what the top says.
    pub own: Idempotency,
    /// In the order of the file. No two of them match the same paths with the same rank (R1).
    pub routes: Vec<Arc<Route>>,
    /// In the order of the file; no two of one name.
    pub queues: Vec<Arc<Tasks>>,
}

/// What needs a restart to change (C3), beside [`Store`].
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Never empty.
    pub listen: Vec<SocketAddr>,
    /// `None`: `"off"`.
    pub admin: Option<SocketAddr>,
    /// `None`: not set, or empty.
    pub admin_token: Option<Secret>,
    pub shutdown_grace: Duration,
    /// 0: one per core.
    pub threads: usize,
}

/// A string that is not shown: its `Debug` is `"***"`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps what must not be shown.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for comparing and for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"***\"")
    }
}

/// 32 bytes that are not shown: their `Debug` is `"***"`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Wraps what must not be shown.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, for whom they are meant.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"***\"")
    }
}

/// Limits of the listeners and of everything that is not a route's own (F4).
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub head: usize,
    pub headers: usize,
    pub uri: usize,
    pub buffered: usize,
    pub head_time: Duration,
    pub body_time: Duration,
    pub write_time: Duration,
    pub idle: Duration,
    pub connections: usize,
    pub streams: u32,
    pub store: Duration,
}

/// `[store]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    pub url: StoreUrl,
    pub max_memory: usize,
    /// What stored requests are sealed with (J1); `None`: not set.
    pub secret: Option<SecretKey>,
    /// How long a silent instance counts as alive (S3).
    pub alive: Duration,
    /// Replicas of a Redis that must have a write.
    pub wait_replicas: usize,
    /// What every key in a Redis begins with.
    pub prefix: String,
    /// In a Postgres.
    pub schema: String,
    /// In a Postgres.
    pub turns: Locks,
    /// To a store that is shared.
    pub connections: usize,
}

/// How turns are held in a Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks {
    Rows,
    Advisory,
}

/// Where records are kept (S1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    Memory,
    Disk(PathBuf),
    /// The URL, which may hold a password.
    Redis(Secret),
    /// The URL, which may hold a password.
    Postgres(Secret),
}

/// `[jobs]` (J1).
#[derive(Debug, Clone, PartialEq)]
pub struct Jobs {
    /// How many wait.
    pub max_waiting: usize,
    /// How long a write that cannot be sent is tried.
    pub give_up: Duration,
}

/// `[events]`: the stream of events (E1).
#[derive(Debug, Clone, PartialEq)]
pub struct Events {
    /// How many are held.
    pub history: usize,
    /// How long one is held.
    pub ttl: Duration,
    /// How many read, or wait for a change, at once.
    pub readers: usize,
    /// How long a stream is silent before it shows that it lives.
    pub heartbeat: Duration,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// A `tracing` filter directive, for example `info`.
    pub level: String,
    /// Where spans go.
    pub otlp: Option<Otlp>,
}

/// A collector of OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// With its port, also where the configuration leaves it out.
    pub authority: Authority,
    /// By HTTP, as port 4318 is for; else by gRPC.
    pub over_http: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Json,
    Pretty,
}

/// One `[[routes]]` table with the defaults of its guard and of the top filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub name: Arc<str>,
    pub path: PathTemplate,
    /// `None`: all. Otherwise never empty.
    pub methods: Option<Vec<Method>>,
    /// Methods that are reads beside the registered safe ones (R3).
    pub reads: Vec<Method>,
    pub guard: Guard,
    pub mode: Mode,
    /// Set by hand (R5); `None`: the path's normal form.
    pub resource: Option<Template>,
    pub upstream: Upstream,
    pub idempotency: Idempotency,
    pub version: Version,
    pub queue: Queue,
    /// `None`: its resources are not leased, and no lease keeps its writes back.
    pub leases: Option<Leases>,
    pub limits: RouteLimits,
    pub events: EventsOf,
    /// An agent may ask to be answered before its write runs (J1).
    pub takes_jobs: bool,
    pub on_store_failure: OnStoreFailure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    State,
    Tool,
    Read,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Observe,
}

/// Where a route's requests go. Only `http://host[:port]`, without a path, is built so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// With its port, also where the configuration leaves it out.
    pub authority: Authority,
}

/// `idempotency` (section K).
#[derive(Debug, Clone, PartialEq)]
pub struct Idempotency {
    pub required: bool,
    pub ttl: Duration,
    pub compare: Compare,
    pub in_flight: InFlight,
    pub max_wait: Duration,
    pub on_5xx: On5xx,
    pub on_unknown: OnUnknown,
    pub settle: Duration,
    pub max_response: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    Refuse,
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On5xx {
    Keep,
    Release,
    Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnknown {
    Version,
    Hold,
    Rerun,
}

/// `version` (section V).
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    pub source: Source,
    /// Methods that need a precondition (V3).
    pub required: Vec<Method>,
    /// What a probe reads instead of the write's target: a template that renders to a path with an optional query.
    pub probe: Option<Template>,
    pub accept: Option<HeaderValue>,
    pub max_body: usize,
    pub refresh: bool,
    pub allow_any: bool,
    pub include_current: bool,
    /// 409 or 412.
    pub stale_status: StatusCode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Hash,
    Etag,
    /// A JSON pointer (RFC 6901), checked.
    Field(String),
    Mint,
    Upstream,
    None,
}

/// `queue` (section Q).
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    pub turns: bool,
    pub max_waiting: usize,
    pub max_wait: Duration,
    pub reads: QueueReads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueReads {
    Pass,
    Wait,
}

/// `leases` (section L).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leases {
    pub default_ttl: Duration,
    pub max_ttl: Duration,
    pub max_per_principal: u32,
}

/// The part of `limits` that a route may set for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteLimits {
    pub body: usize,
    pub upstream_connect: Duration,
    pub upstream_response: Duration,
    pub upstream_idle: Duration,
    pub upstream_total: Duration,
    pub upstream_keep: Duration,
    pub upstream_connections: usize,
}

/// Who is told of what is written on a route (E1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsOf {
    All,
    /// The principal that wrote.
    Own,
    Off,
}

/// `store.on_failure` of a route (S4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStoreFailure {
    Closed,
    Open,
}

impl Route {
    /// Whether a method only reads on this route (R2, R3).
    pub fn is_read(&self, method: &Method) -> bool {
        self.guard == Guard::Read || is_safe(method) || self.reads.contains(method)
    }

    /// Who is told of what becomes of its leases (E1).
    pub fn audience(&self) -> Audience {
        match self.events {
            EventsOf::All => Audience::All,
            EventsOf::Own => Audience::Own,
            EventsOf::Off => Audience::Nobody,
        }
    }

    /// Whether requests go through untouched: the guard is `none` and nothing was set by hand beside it (R2).
    pub fn passes_through(&self) -> bool {
        self.guard == Guard::None
            && !self.idempotency.required
            && !self.queue.turns
            && self.leases.is_none()
            && self.version.source == Source::None
    }
}

/// One of `[[queues]]`: tasks that are handed out one agent at a time (J2).
#[derive(Debug, Clone, PartialEq)]
pub struct Tasks {
    pub name: Arc<str>,
    /// How long a claim lives without being acknowledged or extended.
    pub visibility: Duration,
    pub max_attempts: u32,
    pub max_wait: Duration,
    pub done_for: Duration,
    pub source: TaskSource,
    /// The rules of its keys (K).
    pub idempotency: Idempotency,
    /// The largest body of a request about it.
    pub max_body: usize,
}

/// Where a queue's tasks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskSource {
    Http(HttpTasks),
    Redis(RedisTasks),
    Amqp(AmqpTasks),
    Postgres(PostgresTasks),
}

/// An upstream's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTasks {
    /// With its port, also where the configuration leaves it out.
    pub authority: Authority,
    /// What Onceward itself sends; may hold a token.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Path and query.
    pub list: String,
    /// A JSON pointer to the array; empty: the whole.
    pub items: String,
    /// A JSON pointer in an item.
    pub id: String,
    pub poll: Duration,
    /// What is called when a task is done.
    pub done: Option<TaskDone>,
    pub limits: RouteLimits,
    /// The largest list that is read, bytes.
    pub max_list: usize,
}

/// The call that tells an upstream of a done task; `{id}` in it stands for the task's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDone {
    pub method: Method,
    pub target: String,
    pub body: Option<String>,
}

/// A Postgres table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresTasks {
    /// May hold a password.
    pub url: Secret,
    /// With its schema, where it names one.
    pub table: String,
    /// The column with the task; `None`: the whole row.
    pub task: Option<String>,
    /// The column with the task's identity.
    pub id: String,
    /// SQL: which rows are ready, in which order, and what makes one done (`None`: it is deleted; empty: nothing is
    /// done).
    pub ready: Option<String>,
    pub order: Option<String>,
    pub done: Option<String>,
    pub locks: Locks,
    /// The table for tasks that were given up.
    pub dead_letter: Option<String>,
}

/// A Redis Stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTasks {
    /// May hold a password.
    pub url: Secret,
    pub stream: String,
    pub group: String,
    /// The stream for tasks that were given up.
    pub dead_letter: Option<String>,
}

/// A RabbitMQ queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpTasks {
    /// May hold a password.
    pub url: Secret,
    pub queue: String,
    /// The queue for tasks that were given up.
    pub dead_letter: Option<String>,
}

/// Whether a method is registered as safe (R3).
pub fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY"
    )
}
