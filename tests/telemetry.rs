//! Spans over OTLP, and traces that are continued (O3).

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};

use crate::harness::collector::{Collector, attribute, hex};
use crate::harness::proxy::one_route;
use crate::harness::upstream::Nobody;
use crate::harness::{Agent, Proxy, Reply, Upstream};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn agents_trace(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

fn config(upstream: &Upstream, otlp: &str) -> String {
    one_route(&upstream.url(), &format!("guard = \"tool\"\nname = \"calls\"\n[log]\notlp = \"{otlp}\""))
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind as i32).collect()
}

// O3
#[tokio::test]
async fn a_request_is_a_span_in_its_agents_trace() {
    let (upstream, collector) = (Upstream::start().await, Collector::grpc().await);
    let proxy = Proxy::start(&config(&upstream, collector.url())).await;
    let agent = Agent::named(&proxy, "secret-agent");
    upstream.next(Reply::new(201).body("made"));
    let call = agent.post("/secret-resource").key("secret-key");
    call.header("traceparent", &agents_trace("01")).header("tracestate", "vendor=1").await.is(201);

    let spans = collector.spans(2).await;
    let ([server], [client]) =
        (&of_kind(&spans, SpanKind::Server)[..], &of_kind(&spans, SpanKind::Client)[..])
    else {
        panic!("not a span of each side: {spans:?}")
    };
    assert_eq!((hex(&server.trace_id), hex(&client.trace_id)), (TRACE.to_owned(), TRACE.to_owned()));
    assert_eq!(hex(&server.parent_span_id), PARENT);
    assert_eq!(client.parent_span_id, server.span_id);
    assert_eq!(server.name, "POST /{*path}");
    for (key, value) in [
        ("http.request.method", Some("POST")),
        ("http.route", Some("/{*path}")),
        ("http.response.status_code", Some("201")),
        ("onceward.route", Some("calls")),
        ("onceward.outcome", Some("executed")),
        ("onceward.code", None),
    ] {
        assert_eq!(attribute(server, key).as_deref(), value, "{key}");
    }
    assert_eq!(attribute(client, "http.response.status_code").as_deref(), Some("201"));
    assert_eq!(attribute(client, "server.address").as_deref(), Some("127.0.0.1"));
    let within = server.start_time_unix_nano <= client.start_time_unix_nano
        && client.start_time_unix_nano < client.end_time_unix_nano
        && client.end_time_unix_nano <= server.end_time_unix_nano;
    assert!(within, "{server:?} {client:?}");
    // The upstream's spans will stand below ours.
    let seen = upstream.received(1).await[0].clone();
    assert_eq!(seen.field("traceparent").unwrap(), format!("00-{TRACE}-{}-01", hex(&client.span_id)));
    assert_eq!(seen.field("tracestate").as_deref(), Some("vendor=1"));

    let sent = collector.text();
    assert!(!sent.contains("secret"), "a key, a principal or a resource in {sent}");
    assert!(sent.contains("service.name") && sent.contains("\"onceward\""), "{sent}");
    proxy.logged(&["executed", TRACE]).await;
}

// O3
#[tokio::test]
async fn what_never_reached_the_upstream_is_one_span_with_its_code() {
    let (upstream, collector) = (Upstream::start().await, Collector::grpc().await);
    let proxy = Proxy::start(&config(&upstream, collector.url())).await;
    let agent = Agent::new(&proxy);
    agent.post("/x").await.refused("missing-idempotency-key");
    upstream.next(Reply::ok("lost").cut());
    agent.post("/x").key("1").await.refused("upstream-broke-off");

    let spans = collector.spans(3).await;
    let servers = of_kind(&spans, SpanKind::Server);
    let with_code = |code: &str| {
        let found = servers.iter().find(|span| attribute(span, "onceward.code").as_deref() == Some(code));
        *found.unwrap_or_else(|| panic!("no {code} in {servers:?}"))
    };
    let refused = with_code("missing-idempotency-key");
    assert_eq!(attribute(refused, "onceward.outcome").as_deref(), Some("missing_key"));
    assert_eq!(attribute(refused, "http.response.status_code").as_deref(), Some("400"));
    assert!(
        refused.parent_span_id.is_empty() && refused.status.as_ref().is_none_or(|status| status.code == 0)
    );
    let broken = with_code("upstream-broke-off");
    assert_eq!(broken.status.as_ref().map(|status| status.code), Some(StatusCode::Error as i32));
    let [client] = of_kind(&spans, SpanKind::Client)[..] else { panic!("{spans:?}") };
    assert_eq!((&client.parent_span_id, &client.trace_id), (&broken.span_id, &broken.trace_id));
    assert_eq!(client.status.as_ref().map(|status| status.code), Some(StatusCode::Error as i32));
    let told = upstream.received(1).await[0].field("traceparent").unwrap();
    assert_eq!(told, format!("00-{}-{}-01", hex(&client.trace_id), hex(&client.span_id)));
}

// O3
#[tokio::test]
async fn port_4318_is_spoken_to_by_http() {
    let (upstream, collector) = (Upstream::start().await, Collector::http("127.43.18.1").await);
    let proxy = Proxy::start(&config(&upstream, collector.url())).await;
    Agent::new(&proxy).post("/x").key("1").header("traceparent", &agents_trace("01")).await.is(200);
    let spans = collector.spans(2).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
}

// O3
#[tokio::test]
async fn without_a_collector_a_trace_goes_through_as_it_came() {
    let upstream = Upstream::start().await;
    let off = Proxy::start(&config(&upstream, "")).await;
    let collector = Collector::grpc().await;
    let on = Proxy::start(&config(&upstream, collector.url())).await;
    // Nor is one changed that its agent does not want recorded.
    for (n, (proxy, flags)) in [(&off, "01"), (&on, "00")].into_iter().enumerate() {
        let call = Agent::new(proxy).get("/x").header("traceparent", &agents_trace(flags));
        call.header("tracestate", "vendor=1").await.is(200);
        let seen = upstream.received(n + 1).await[n].clone();
        assert_eq!(seen.field("traceparent").unwrap(), agents_trace(flags));
        assert_eq!(seen.field("tracestate").as_deref(), Some("vendor=1"));
    }
    Agent::new(&off).get("/x").await.is(200);
    assert_eq!(upstream.received(3).await[2].field("traceparent"), None);
    Agent::new(&on).get("/x").await.is(200);
    assert_eq!(of_kind(&collector.spans(2).await, SpanKind::Server).len(), 1);
}

// O3
#[tokio::test]
async fn a_collector_that_is_not_there_harms_no_request() {
    let upstream = Upstream::start().await;
    let mut proxy = Proxy::start(&config(&upstream, &Nobody::new().url())).await;
    let agent = Agent::new(&proxy);
    for n in 0..20 {
        agent.post("/x").key(&n.to_string()).await.is(200);
    }
    proxy.logged(&["WARN", "spans cannot be exported"]).await;
    agent.post("/x").key("after").await.is(200);
    let start = std::time::Instant::now();
    assert_eq!(proxy.terminate().await.code(), Some(0), "{}", proxy.logs());
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "it waited for a collector");
}

// O3, O5
#[tokio::test]
async fn a_shutdown_sends_the_last_spans() {
    let (upstream, collector) = (Upstream::start().await, Collector::grpc().await);
    let mut proxy = Proxy::start(&config(&upstream, collector.url())).await;
    Agent::new(&proxy).get("/x").await.is(200);
    assert_eq!(proxy.terminate().await.code(), Some(0), "{}", proxy.logs());
    assert_eq!(collector.spans(2).await.len(), 2);
}

// C3, O3
#[tokio::test]
async fn a_reload_changes_level_and_collector() {
    let (upstream, collector) = (Upstream::start().await, Collector::grpc().await);
    let proxy = Proxy::start(&config(&upstream, "")).await;
    Agent::new(&proxy).get("/before").await.is(200);
    proxy.logged(&["passed"]).await;
    let quiet =
        config(&upstream, collector.url()).replace("[log]\n", "[log]\nlevel = \"onceward=warn,info\"\n");
    proxy.rewrite(&quiet);
    // A request is a span from then on.
    crate::harness::within("spans after the reload", async {
        while collector.text() == "[]" {
            Agent::new(&proxy).get("/after").await.is(200);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    Agent::new(&proxy).get("/quiet").header("traceparent", &agents_trace("01")).await.is(200);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!proxy.logs().contains(TRACE), "{}", proxy.logs());
}
