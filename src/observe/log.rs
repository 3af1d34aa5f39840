//! One line per request (O3).

use std::io::IsTerminal;

use http::{HeaderMap, Method};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::{Story, context};
use crate::config::checked::{Log, LogFormat};

/// What a request's line and its spans name beside its story.
pub struct Request<'a> {
    pub method: &'a Method,
    /// Its route's name and path, and the authority of its upstream.
    pub route: Option<&'a str>,
    pub path: Option<&'a str>,
    pub upstream: Option<&'a str>,
    pub status: u16,
}

/// The log, for as long as this lives.
pub struct Logging {
    writer: NonBlocking,
    lines: Handle<Lines, Registry>,
    _written: WorkerGuard,
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging to standard error, filtered by `ONCEWARD_LOG` where it is set, else by `level`. It is written by a
/// thread of its own: a request never waits for a terminal or a pipe.
///
/// # Errors
/// A sentence that says what is wrong with the filter, or that logging was started already.
pub fn init(log: &Log) -> Result<Logging, String> {
    let (writer, written) = tracing_appender::non_blocking(std::io::stderr());
    let (layer, lines) = reload::Layer::new(lines(log, &writer)?);
    tracing_subscriber::registry().with(layer).try_init().map_err(|error| error.to_string())?;
    Ok(Logging { writer, lines, _written: written })
}

impl Logging {
    /// Logs from now on as this says (C3).
    ///
    /// # Errors
    /// As [`init`]; then nothing has changed.
    pub fn reload(&self, log: &Log) -> Result<(), String> {
        self.lines.reload(lines(log, &self.writer)?).map_err(|error| error.to_string())
    }
}

fn lines(log: &Log, writer: &NonBlocking) -> Result<Lines, String> {
    let directive = std::env::var("ONCEWARD_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(&directive)
        .map_err(|error| format!("{directive:?} is not a log filter: {error}"))?;
    let is_terminal = std::io::stderr().is_terminal();
    let pretty = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let lines = fmt::layer().with_writer(writer.clone());
    Ok(if pretty {
        filter.and_then(lines.with_ansi(is_terminal)).boxed()
    } else {
        let json = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        filter.and_then(json).boxed()
    })
}

/// The id of a request: the trace of a valid `traceparent`, else one of its own.
pub fn request_id(headers: &HeaderMap) -> String {
    let trace = context(headers).map_or_else(|| fastrand::u128(..), |context| context.trace);
    format!("{trace:032x}")
}

/// Writes the line of a request.
pub fn line(id: &str, request: &Request<'_>, story: &Story) {
    tracing::info!(
        target: "onceward::request",
        request_id = id,
        method = request.method.as_str(),
        route = request.route,
        status = request.status,
        outcome = story.outcome.as_str(),
        code = story.code,
        key_hash = story.key.map(|key| key.to_text()),
        upstream_status = story.upstream_status,
        duration_ms = story.began.elapsed().as_secs_f64() * 1e3,
        upstream_ms = story.upstream_time.as_secs_f64() * 1e3,
        waited_ms = story.waited.as_secs_f64() * 1e3,
    );
}
