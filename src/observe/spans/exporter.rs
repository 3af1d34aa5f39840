//! The way to the collector: gRPC or HTTP, and a word in the log when it opens or closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

use crate::config::checked;

/// How long the collector has for one batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends batches on the runtime: the queue's own thread has none.
#[derive(Debug)]
pub(super) struct Exporter {
    inner: Arc<Otlp>,
    runtime: Handle,
    is_failing: AtomicBool,
}

impl Exporter {
    pub(super) fn new(to: &checked::Otlp) -> Result<Self, String> {
        let place = &to.authority;
        let mut inner = match to.over_http {
            true => {
                let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
                let client = client.map_err(|error| error.to_string())?;
                let builder = Otlp::builder().with_http().with_http_client(client);
                builder.with_endpoint(format!("http://{place}/v1/traces")).with_timeout(PATIENCE).build()
            }
            false => {
                let builder = Otlp::builder().with_tonic().with_endpoint(format!("http://{place}"));
                builder.with_timeout(PATIENCE).build()
            }
        }
        .map_err(|error| error.to_string())?;
        inner.set_resource(&resource());
        Ok(Self { inner: Arc::new(inner), runtime: Handle::current(), is_failing: AtomicBool::new(false) })
    }
}

/// Who sends: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` hold, as operators expect them to.
fn resource() -> Resource {
    let builder = Resource::builder();
    let builder = match std::env::var_os("OTEL_SERVICE_NAME") {
        Some(_) => builder,
        None => builder.with_service_name("onceward"),
    };
    builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let inner = Arc::clone(&self.inner);
        // Not tracked: a stop may cut it off, it has spans and nothing else.
        let sent = self.runtime.spawn(async move { inner.export(batch).await }).await;
        let result =
            sent.unwrap_or_else(|_| Err(OTelSdkError::InternalFailure("the runtime has stopped".to_owned())));
        match &result {
            Ok(()) if self.is_failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("spans are exported again");
            }
            Err(error) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "spans cannot be exported, and are lost until they can be again");
            }
            Ok(()) | Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }
}
