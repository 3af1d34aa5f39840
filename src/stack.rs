//! THE page: every stage that a request passes, in order, one line each with its reason.
//!
//! A chain of plain calls instead of nested services: each stage takes what the ones before it gave (no call without a
//! turn, no turn without a claim), so the order of R7 is held by the types, can be read from top to bottom, and costs
//! no allocation per stage.

mod changes;
mod ending;
pub(crate) mod hub;
mod instances;
mod jobs;
mod journey;
mod observed;
mod reads;
mod recovery;
mod telling;
mod write;
mod write_with;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent_api;
use crate::config::Config;
use crate::config::checked::{Mode, Route, RouteLimits, SecretKey, TaskSource};
use crate::http::request::Peer;
use crate::http::{Body, Reason, Refusal, Response};
use crate::observe::{Metrics, RouteMetrics, Spans};
use crate::policy::admission::{self, Buffers};
use crate::policy::detach::Detachable;
use crate::policy::idempotency::Keys;
use crate::policy::identity;
use crate::policy::jobs::Jobs;
use crate::policy::lease::Leases;
use crate::policy::turn::Turns;
use crate::queues::{self, Queues};
use crate::route::{Entry, Table};
use crate::store::{Bells, Store};
use crate::upstream::Upstreams;

pub use hub::Hub;
pub(crate) use journey::Journey;
pub(crate) use recovery::Terms;
pub(crate) use write_with::Besides;

/// What a configuration gives to requests; those that began under it end under it (C3).
pub struct Rules {
    pub config: Arc<Config>,
    pub table: Table,
    /// What is counted of requests that have no route: refused before they had one, or asked of Onceward itself.
    pub routeless: RouteMetrics,
    /// `None`: spans go nowhere.
    pub spans: Option<Arc<Spans>>,
}

/// Everything that requests share.
pub struct Gate {
    pub rules: ArcSwap<Rules>,
    pub store: Arc<dyn Store>,
    /// Where `observe` keeps its records (R4): never on a disk, which would slow down what it only watches.
    pub observed: Arc<dyn Store>,
    pub keys: Arc<Keys>,
    pub turns: Arc<Turns>,
    pub leases: Arc<Leases>,
    /// Writes that run after they were answered (J1).
    pub jobs: Arc<Jobs>,
    /// Who waits here for what is swapped anywhere.
    pub bells: Arc<Bells>,
    /// Who reads events here, or waits for a change (E1, E2).
    pub hub: Arc<Hub>,
    /// Tasks that are handed out (J2).
    pub queues: ArcSwap<Queues>,
    pub buffers: Buffers,
    /// What routes and queues lead to.
    pub upstreams: Arc<Upstreams>,
    pub metrics: Arc<Metrics>,
    /// What a shutdown waits for (O5).
    pub tasks: TaskTracker,
    /// Set when a shutdown begins.
    pub draining: AtomicBool,
    /// Stopped with it: who waits for what may never come waits no longer.
    pub leaving: CancellationToken,
    /// Stopped when its grace is over.
    pub closing: CancellationToken,
}

impl Gate {
    /// What requests meet, over a store.
    pub fn new(config: &Arc<Config>, store: Arc<dyn Store>, observed: Arc<dyn Store>) -> Arc<Self> {
        let (metrics, tasks, closing) = (Metrics::new(), TaskTracker::new(), CancellationToken::new());
        let bells = Arc::<Bells>::default();
        let upstreams = Arc::<Upstreams>::default();
        let rules = Rules::new(Arc::clone(config), &metrics, &upstreams, None);
        let turns = Turns::new(&store, closing.clone(), tasks.clone());
        store.keep_events(hub::keep(&config.events));
        let leases = Leases::new(&store, &bells);
        let gate = Self {
            leases,
            rules: ArcSwap::from_pointee(rules),
            keys: Keys::new(Arc::clone(&store), Arc::clone(&bells), tasks.clone()),
            jobs: Jobs::new(config.store.secret.as_ref().map(SecretKey::expose)),
            bells,
            hub: Hub::new(&metrics),
            store,
            observed,
            turns,
            queues: ArcSwap::default(),
            buffers: Buffers::new(config.limits.buffered),
            upstreams,
            metrics,
            tasks,
            draining: false.into(),
            leaving: CancellationToken::new(),
            closing,
        };
        gate.set_queues(config);
        Arc::new(gate)
    }

    /// Takes the queues of a configuration; those that stay as they are go on (C3).
    pub fn set_queues(&self, config: &Config) {
        let queues = Queues::new(&config.queues, &self.base(), &self.queues.load());
        self.queues.store(Arc::new(queues));
    }

    /// Does for queues what time does.
    pub async fn keep_queues(self: Arc<Self>) {
        queues::keep(self.base(), || self.queues.load_full()).await;
    }

    fn base(&self) -> queues::Base {
        queues::Base {
            store: Arc::clone(&self.store),
            bells: Arc::clone(&self.bells),
            upstreams: Arc::clone(&self.upstreams),
            tasks: self.tasks.clone(),
            leaving: self.leaving.clone(),
            closing: self.closing.clone(),
        }
    }

    /// Later requests meet these rules.
    pub fn take(&self, rules: Arc<Rules>) {
        self.store.keep_events(hub::keep(&rules.config.events));
        self.set_queues(&rules.config);
        self.rules.store(rules);
    }

    /// The answer to one request. `refused`: what its head was refused for before it came here.
    pub async fn answer<B: Into<Body>>(
        self: Arc<Self>,
        mut request: http::Request<B>,
        peer: Arc<Peer>,
        refused: Option<Reason>,
    ) -> Response {
        let mut journey = Journey::begin(self.rules.load_full(), &mut request);
        let result = match refused {
            Some(reason) => Err(reason.into()),
            None => self.pass(&mut journey, request, &peer).await,
        };
        journey.end(result)
    }

    /// The stages that every request passes.
    async fn pass<B: Into<Body>>(
        self: &Arc<Self>,
        journey: &mut Journey,
        request: http::Request<B>,
        peer: &Arc<Peer>,
    ) -> Result<Response, Refusal> {
        let rules = Arc::clone(&journey.rules);
        // What is malformed is refused before anything is made of it (F1).
        let request = admission::request(request, peer, &rules.config.limits)?;
        // Onceward's own paths first: no route may hide them, and no alias of them reaches an upstream (R1).
        if agent_api::is_own(&request.normal) {
            return Box::pin(agent_api::answer(self, &rules, journey, request)).await;
        }
        if self.draining.load(Ordering::Acquire) {
            return Err(Reason::ShuttingDown.into());
        }
        // The ways part here, each in an allocation of its own: one future for all would be moved at the size of the
        // largest for every request.
        // Which rules it has: 404, 405 (R1).
        let entry = rules.table.find(&request.normal, &request.method)?;
        journey.set_entry(entry);
        if entry.route.passes_through() {
            return Box::pin(self.pass_through(journey, entry, request)).await;
        }
        if entry.route.mode == Mode::Observe {
            return Box::pin(self.observe(journey, entry, request)).await;
        }
        if entry.route.is_read(&request.method) {
            identity::is_one(&request.headers, &rules.config.identity)?;
            return Box::pin(self.read(journey, entry, request)).await;
        }
        // Whose keys it may use (I1).
        let principal = identity::principal(&request.headers, &rules.config.identity)?;
        self.metrics.principal(&principal);
        // From its forwarding on a write is finished even if its agent vanishes (K13).
        let write = write::Write::new(self, journey, entry, principal, request);
        let must_finish = write.must_finish();
        let (result, story) = Detachable::new(Box::pin(write.run()), must_finish, self.tasks.clone()).await;
        journey.take_story(story);
        result
    }
}

impl Rules {
    /// Joins a configuration with its upstreams, which keep their connections.
    pub fn new(
        config: Arc<Config>,
        metrics: &Arc<Metrics>,
        upstreams: &Upstreams,
        before: Option<&Self>,
    ) -> Self {
        let routes = config.routes.iter().map(|route| (&route.upstream.authority, &route.limits));
        let lists = config.queues.iter().filter_map(|tasks| match &tasks.source {
            TaskSource::Http(list) => Some((&list.authority, &list.limits)),
            TaskSource::Redis(_) | TaskSource::Amqp(_) | TaskSource::Postgres(_) => None,
        });
        let bound = |(authority, limits): (_, &RouteLimits)| (authority, limits.upstream_connections);
        upstreams.take(routes.chain(lists).map(bound));
        let entries = config.routes.iter().map(|route| {
            let client = upstreams.client(&route.upstream.authority, route.limits);
            let metrics = metrics.route(&route.name, route.mode == Mode::Observe);
            Arc::new(Entry { route: Arc::clone(route), client, metrics })
        });
        let table = Table::new(entries.collect());
        let spans = spans(&config, before);
        let routeless = metrics.route("", false);
        Self { config, table, routeless, spans }
    }
}

impl Rules {
    /// A route by its name; `None`: there was one of it, under other rules.
    pub(crate) fn route(&self, name: &str) -> Option<&Route> {
        self.config.routes.iter().find(|route| &*route.name == name).map(|route| &**route)
    }
}

/// Where spans go: on as before where that is the same place. No request fails for them, so no start does.
fn spans(config: &Config, before: Option<&Rules>) -> Option<Arc<Spans>> {
    let to = config.log.otlp.as_ref()?;
    let standing = before.and_then(|rules| rules.spans.as_ref()).filter(|spans| spans.goes_to(to));
    if let Some(standing) = standing {
        return Some(Arc::clone(standing));
    }
    match Spans::start(to) {
        Ok(spans) => Some(spans),
        Err(why) => {
            tracing::error!(why, "spans cannot be exported");
            None
        }
    }
}
