//! All metrics, by name (O2). A label is a route, a method of the registered ones, an outcome or a mode: never a key,
//! a principal or a resource.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::{Outcome, Story, method_label};
use crate::protocol::record::Principal;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    outcome: &'static str,
    mode: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

/// Seconds, from a tenth of a millisecond to a minute.
const BUCKETS: [f64; 15] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

type Histograms = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// The registry and what is counted in it.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histograms,
    upstream_duration: Histograms,
    turn_wait: Histograms,
    turn_waiting: Gauge,
    unknown_operations: Gauge,
    pub store_errors: Counter,
    store_fill_ratio: Gauge<f64, AtomicU64>,
    principals_new: Counter,
    pub event_readers: Gauge,
    pub event_readers_cut_off: Counter,
    pub config_last_reload_successful: Gauge,
    principals: Mutex<Seen>,
}

/// Principals seen lately, so that new ones can be counted: a jump says that credentials change between tries (I1).
#[derive(Default)]
struct Seen {
    now: std::collections::HashSet<[u8; 8]>,
    before: std::collections::HashSet<[u8; 8]>,
}

const MOST_SEEN: usize = 10_000;

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("onceward");
        let family = || Histograms::new_with_constructor(histogram);
        let metrics = Self {
            requests: Family::default(),
            request_duration: family(),
            upstream_duration: family(),
            turn_wait: family(),
            turn_waiting: Gauge::default(),
            unknown_operations: Gauge::default(),
            store_errors: Counter::default(),
            store_fill_ratio: Gauge::default(),
            principals_new: Counter::default(),
            event_readers: Gauge::default(),
            event_readers_cut_off: Counter::default(),
            config_last_reload_successful: Gauge::default(),
            principals: Mutex::default(),
            registry: Registry::default(),
        };
        metrics.config_last_reload_successful.set(1);
        registry.register("requests", "Requests by how they ended", metrics.requests.clone());
        registry.register(
            "request_duration_seconds",
            "From a request's head to its answer's head",
            metrics.request_duration.clone(),
        );
        registry.register(
            "upstream_duration_seconds",
            "Time spent in calls of the upstream",
            metrics.upstream_duration.clone(),
        );
        registry.register(
            "turn_wait_seconds",
            "Time writes waited for their turn",
            metrics.turn_wait.clone(),
        );
        registry.register("turn_waiting", "Writes that wait for a turn now", metrics.turn_waiting.clone());
        registry.register(
            "unknown_operations",
            "Operations whose outcome is unknown",
            metrics.unknown_operations.clone(),
        );
        registry.register("store_errors", "Steps that the store did not take", metrics.store_errors.clone());
        registry.register(
            "store_fill_ratio",
            "How full the store is, 0 to 1",
            metrics.store_fill_ratio.clone(),
        );
        registry.register("principals_new", "Principals not seen lately", metrics.principals_new.clone());
        registry.register(
            "event_readers",
            "Streams of events, and reads that wait for a change, now",
            metrics.event_readers.clone(),
        );
        registry.register(
            "event_readers_cut_off",
            "Readers of events that did not keep up",
            metrics.event_readers_cut_off.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "1 if the last reload of the configuration was applied",
            metrics.config_last_reload_successful.clone(),
        );
        let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The build that runs", info);
        Arc::new(Self { registry, ..metrics })
    }

    /// The handles of one route, so that a request looks up no label.
    pub fn route(self: &Arc<Self>, name: &str, observe: bool) -> RouteMetrics {
        let labels = RouteLabels { route: name.to_owned() };
        RouteMetrics {
            metrics: Arc::clone(self),
            route: name.to_owned(),
            mode: if observe { "observe" } else { "enforce" },
            counters: Mutex::default(),
            request_duration: self.request_duration.get_or_create_owned(&labels),
            upstream_duration: self.upstream_duration.get_or_create_owned(&labels),
            turn_wait: self.turn_wait.get_or_create_owned(&labels),
        }
    }

    /// Counts a principal that was not seen lately.
    pub fn principal(&self, principal: &Principal) {
        let Some(short) = principal.0.first_chunk::<8>() else { return };
        let mut seen = self.principals.lock();
        if seen.now.contains(short) {
            return;
        }
        if !seen.before.contains(short) {
            self.principals_new.inc();
        }
        if seen.now.len() >= MOST_SEEN {
            seen.before = std::mem::take(&mut seen.now);
        }
        seen.now.insert(*short);
    }

    /// The text of `/metrics`, with the gauges as they are now.
    pub fn text(&self, turn_waiting: usize, unknown: Option<u64>, fill: Option<f64>) -> String {
        self.turn_waiting.set(i64::try_from(turn_waiting).unwrap_or(i64::MAX));
        if let Some(unknown) = unknown {
            self.unknown_operations.set(i64::try_from(unknown).unwrap_or(i64::MAX));
        }
        if let Some(fill) = fill {
            self.store_fill_ratio.set(fill);
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _written: std::fmt::Result = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// The metrics of one route.
pub struct RouteMetrics {
    metrics: Arc<Metrics>,
    route: String,
    mode: &'static str,
    counters: Mutex<Vec<((&'static str, Outcome), Counter)>>,
    request_duration: Histogram,
    upstream_duration: Histogram,
    turn_wait: Histogram,
}

impl RouteMetrics {
    /// Counts one request.
    pub fn count(&self, method: &Method, story: &Story) {
        self.counter(method_label(method), story.outcome).inc();
        self.request_duration.observe(story.began.elapsed().as_secs_f64());
        if !story.upstream_time.is_zero() {
            self.upstream_duration.observe(story.upstream_time.as_secs_f64());
        }
    }

    /// A turn was waited for.
    pub fn turn_waited(&self, waited: Duration) {
        self.turn_wait.observe(waited.as_secs_f64());
    }

    fn counter(&self, method: &'static str, outcome: Outcome) -> Counter {
        let mut counters = self.counters.lock();
        if let Some((_, counter)) = counters.iter().find(|(of, _)| *of == (method, outcome)) {
            return counter.clone();
        }
        let labels =
            RequestLabels { route: self.route.clone(), method, outcome: outcome.as_str(), mode: self.mode };
        let counter = self.metrics.requests.get_or_create_owned(&labels);
        counters.push(((method, outcome), counter.clone()));
        counter
    }
}
