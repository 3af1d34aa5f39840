//! Spans over OTLP (O3): one of each request, and one of the time that its upstream had.
//!
//! A request carries a few numbers; a span is only made when it ends, and put into a bounded queue. Whatever happens
//! behind that queue no request waits for: what does not fit is lost, and so is what the collector does not take.

mod exporter;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use super::{Request, Story, context, method_label};
use crate::config::checked::Otlp;
use crate::protocol::trace_context::{SAMPLED, TraceContext};

/// Spans that wait for the collector.
const QUEUE: usize = 8192;
/// The longest that one waits, while the collector takes them.
const DELAY: Duration = Duration::from_secs(1);

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Where spans go.
pub struct Spans {
    to: Otlp,
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// The spans of one request that goes on.
pub struct Open {
    trace: TraceId,
    /// The agent's span.
    parent: Option<SpanId>,
    server: SpanId,
    client: SpanId,
    flags: TraceFlags,
}

/// One span, as far as the two kinds differ.
struct Kind<'a> {
    id: SpanId,
    parent: Option<SpanId>,
    is_remote: bool,
    kind: SpanKind,
    name: String,
    began: Instant,
    ended: Instant,
    status: Option<u16>,
    failed: bool,
    code: Option<&'a str>,
}

impl Spans {
    /// Begins to send spans there; the collector need not be up. To be called where the runtime is.
    ///
    /// # Errors
    /// Why it cannot be done at all.
    pub fn start(to: &Otlp) -> Result<Arc<Self>, String> {
        let exporter = exporter::Exporter::new(to)?;
        let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(DELAY);
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build();
        let scope = InstrumentationScope::builder("onceward").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Arc::new(Self { to: to.clone(), processor, scope }))
    }

    pub fn goes_to(&self, to: &Otlp) -> bool {
        self.to == *to
    }

    /// Puts the request under a span of ours: the upstream is told that one in the agent's place, within the agent's
    /// trace. `None`: the agent's trace is not recorded, and goes through as it came.
    pub fn begin(&self, headers: &mut HeaderMap) -> Option<Box<Open>> {
        let from = context(headers);
        if from.is_some_and(|from| !from.is_sampled()) {
            return None;
        }
        let (server, client) = (fastrand::u64(1..), fastrand::u64(1..));
        let trace = from.map_or_else(|| fastrand::u128(1..), |from| from.trace);
        let flags = from.map_or(SAMPLED, |from| from.flags);
        if from.is_none() {
            // It belongs to a trace that nobody can read.
            headers.remove(TRACESTATE);
        }
        let told = TraceContext { trace, span: client, flags }.to_string();
        headers.insert(TRACEPARENT, HeaderValue::try_from(told).ok()?);
        Some(Box::new(Open {
            trace: trace.into(),
            parent: from.map(|from| from.span.into()),
            server: server.into(),
            client: client.into(),
            flags: TraceFlags::new(flags),
        }))
    }

    /// The request is answered.
    pub fn end(&self, open: &Open, request: &Request<'_>, story: &Story) {
        // One pair for both spans, or a pause between two readings would shift one against the other.
        let now = (Instant::now(), SystemTime::now());
        let method = method_label(request.method);
        if let Some((began, ended)) = story.upstream_calls {
            let status = story.upstream_status;
            let upstream = Kind {
                id: open.client,
                parent: Some(open.server),
                is_remote: false,
                kind: SpanKind::Client,
                name: method.to_owned(),
                began,
                ended,
                status,
                failed: status.is_none_or(|status| status >= 400),
                code: None,
            };
            let mut span = self.span(open, upstream, request, now);
            if let Some((host, port)) = request.upstream.and_then(|place| place.rsplit_once(':')) {
                span.attributes.push(KeyValue::new("server.address", host.to_owned()));
                span.attributes.extend(port.parse().map(|port: i64| KeyValue::new("server.port", port)));
            }
            self.processor.on_end(span);
        }
        let whole = Kind {
            id: open.server,
            parent: open.parent,
            is_remote: true,
            kind: SpanKind::Server,
            name: request.path.map_or_else(|| method.to_owned(), |path| format!("{method} {path}")),
            began: story.began,
            ended: now.0,
            status: Some(request.status),
            failed: request.status >= 500,
            code: story.code,
        };
        let mut span = self.span(open, whole, request, now);
        span.attributes.push(KeyValue::new("onceward.outcome", story.outcome.as_str()));
        self.processor.on_end(span);
    }

    fn span(&self, open: &Open, of: Kind<'_>, request: &Request<'_>, now: (Instant, SystemTime)) -> SpanData {
        let (now, wall) = now;
        let time = |at: Instant| wall.checked_sub(now.saturating_duration_since(at)).unwrap_or(wall);
        let mut attributes = vec![KeyValue::new("http.request.method", method_label(request.method))];
        if let Some(path) = request.path {
            attributes.push(KeyValue::new("http.route", path.to_owned()));
        }
        if let Some(route) = request.route {
            attributes.push(KeyValue::new("onceward.route", route.to_owned()));
        }
        attributes
            .extend(of.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))));
        attributes.extend(of.code.map(|code| KeyValue::new("onceward.code", code.to_owned())));
        SpanData {
            span_context: SpanContext::new(open.trace, of.id, open.flags, false, TraceState::NONE),
            parent_span_id: of.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: of.is_remote && of.parent.is_some(),
            span_kind: of.kind,
            name: of.name.into(),
            start_time: time(of.began),
            end_time: time(of.ended),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if of.failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// Sends what waits, for as long as that; blocks. Nothing is sent any more after it.
    pub fn close(&self, within: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(within) {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    async fn begun(lines: &[(&HeaderName, &str)]) -> (Option<Box<Open>>, HeaderMap) {
        let to = Otlp { authority: http::uri::Authority::from_static("127.0.0.1:1"), over_http: false };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        (Spans::start(&to).unwrap().begin(&mut headers), headers)
    }

    // O3
    #[tokio::test]
    async fn the_agents_trace_is_continued_under_a_span_of_ours() {
        let (open, headers) = begun(&[(&TRACEPARENT, AGENT), (&TRACESTATE, "a=b")]).await;
        let (open, told) = (open.unwrap(), context(&headers).unwrap());
        assert_eq!(
            (open.trace.to_string(), open.parent.unwrap().to_string()),
            (AGENT[3..35].into(), AGENT[36..52].into())
        );
        assert_eq!((TraceId::from(told.trace), SpanId::from(told.span)), (open.trace, open.client));
        assert_ne!(open.server, open.client);
        assert_eq!(headers[TRACESTATE], "a=b");
    }

    // O3
    #[tokio::test]
    async fn what_nobody_records_goes_through_as_it_came() {
        let silent = AGENT.replace("-01", "-00");
        let (open, headers) = begun(&[(&TRACEPARENT, &silent)]).await;
        assert!(open.is_none());
        assert_eq!(headers[TRACEPARENT], silent);
    }

    // O3
    #[tokio::test]
    async fn without_a_trace_that_can_be_read_one_begins() {
        for lines in [&[][..], &[(&TRACEPARENT, "00-x")], &[(&TRACEPARENT, AGENT), (&TRACEPARENT, AGENT)]] {
            let (open, headers) = begun(&[lines, &[(&TRACESTATE, "a=b")]].concat()).await;
            assert!(open.unwrap().parent.is_none());
            assert!(context(&headers).unwrap().is_sampled() && !headers.contains_key(TRACESTATE));
        }
    }
}
