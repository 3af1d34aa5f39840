//! A collector of OpenTelemetry: what it was sent, by gRPC or by HTTP.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest as Export, ExportTraceServiceResponse as Exported,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::{Reply, Upstream, within};

type Got = watch::Sender<Vec<Export>>;

pub struct Collector {
    url: String,
    got: Arc<Got>,
    _serving: Serving,
}

enum Serving {
    Grpc(JoinHandle<()>),
    Http { _upstream: Upstream },
}

struct Service(Arc<Got>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(&self, sent: tonic::Request<Export>) -> Result<tonic::Response<Exported>, tonic::Status> {
        self.0.send_modify(|got| got.push(sent.into_inner()));
        Ok(tonic::Response::new(Exported::default()))
    }
}

impl Collector {
    pub async fn grpc() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound address"));
        let got = Arc::new(watch::Sender::new(Vec::new()));
        let service = TraceServiceServer::new(Service(Arc::clone(&got)));
        let serving = tokio::spawn(async move {
            let served =
                Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
            served.await.expect("a collector that serves");
        });
        Collector { url, got, _serving: Serving::Grpc(serving) }
    }

    /// On the port that is for HTTP, of an address that no other test has.
    pub async fn http(address: &str) -> Collector {
        let got = Arc::new(watch::Sender::new(Vec::new()));
        let seen = Arc::clone(&got);
        let place = format!("{address}:4318");
        let upstream = Upstream::answering_at(&place, move |request| {
            assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/v1/traces"));
            assert_eq!(request.field("content-type").as_deref(), Some("application/x-protobuf"));
            let export = Export::decode(request.body.as_slice()).expect("an export");
            seen.send_modify(|got| got.push(export));
            Reply::ok("").field("Content-Type", "application/x-protobuf")
        });
        let upstream = upstream.await;
        Collector { url: upstream.url(), got, _serving: Serving::Http { _upstream: upstream } }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// All that came, as text: what must not be in it can be looked for.
    pub fn text(&self) -> String {
        format!("{:?}", *self.got.borrow())
    }

    /// Waits until `count` spans have come.
    #[track_caller]
    pub fn spans(&self, count: usize) -> impl Future<Output = Vec<Span>> {
        let mut changes = self.got.subscribe();
        within(format!("{count} spans at the collector"), async move {
            let got = changes.wait_for(|got| spans(got).len() >= count).await.expect("a collector");
            spans(&got)
        })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Serving::Grpc(task) = self {
            task.abort();
        }
    }
}

fn spans(got: &[Export]) -> Vec<Span> {
    let scopes = got.iter().flat_map(|export| &export.resource_spans).flat_map(|one| &one.scope_spans);
    scopes.flat_map(|scope| scope.spans.clone()).collect()
}

/// A span's attribute as text.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// A span's or a trace's id as `traceparent` writes it.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
