//! One line per request (O3).

use std::io::IsTerminal;

use http::{HeaderMap, Method};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use super::Story;
use crate::config::checked::{Log, LogFormat};

/// What a request's line names beside its story.
pub struct Request<'a> {
    pub id: &'a str,
    pub method: &'a Method,
    pub route: Option<&'a str>,
    pub status: u16,
}

/// Starts logging to standard error, filtered by `ONCEWARD_LOG` where it is set, else by `level`. What is logged
/// while the guard lives is written by a thread of its own: a request never waits for a terminal or a pipe.
///
/// # Errors
/// A sentence that says what is wrong with the filter, or that logging was started already.
pub fn init(log: &Log) -> Result<WorkerGuard, String> {
    let directive = std::env::var("ONCEWARD_LOG").unwrap_or_else(|_| log.level.clone());
    let filter = EnvFilter::try_new(&directive)
        .map_err(|error| format!("{directive:?} is not a log filter: {error}"))?;
    let is_terminal = std::io::stderr().is_terminal();
    let pretty = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = if pretty {
        builder.with_ansi(is_terminal).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    started.map_err(|error| error.to_string())?;
    Ok(guard)
}

/// The id of a request: the trace of a valid `traceparent`, else one of its own.
pub fn request_id(headers: &HeaderMap) -> String {
    let trace = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(trace_id);
    trace.map_or_else(|| format!("{:032x}", fastrand::u128(..)), str::to_owned)
}

/// The trace id of a `traceparent` (W3C Trace Context §3.2).
fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, parent) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16);
    (valid && !zero(trace) && !zero(parent)).then_some(trace)
}

/// Writes the line of a request.
pub fn line(request: &Request<'_>, story: &Story) {
    tracing::info!(
        target: "onceward::request",
        request_id = request.id,
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
