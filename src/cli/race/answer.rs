//! What an agent makes of the answer to a write, from a plain API or from Onceward.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An agent in a race waits no longer than this, whatever it is told.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Performed, now or (a replay) by an earlier try.
    Done { replayed: bool },
    /// Onceward refused it as built on an old version; nothing was done and the key is free again.
    Stale,
    /// The API itself refused it as a conflict: an answer, which its key stands for from now on.
    Conflict,
    /// Not now: the same request again after this time.
    Later(Duration),
    /// Anything else, in words.
    Other(String),
}

pub(crate) fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    if status.is_success() {
        return Answer::Done { replayed: headers.contains_key(&REPLAYED) };
    }
    let refusal = refusal(headers, body);
    let code = refusal.as_ref().and_then(|refusal| refusal.get("code")?.as_str());
    match (status, code) {
        (_, Some("stale-version")) => Answer::Stale,
        (StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED, None) => Answer::Conflict,
        (status, code) => match pause(status, code, headers) {
            Some(pause) => Answer::Later(pause),
            None => Answer::Other(words(status, headers, body)),
        },
    }
}

/// Onceward says with `Retry-After` that the same request may come again; of others only what did nothing.
fn pause(status: StatusCode, code: Option<&str>, headers: &HeaderMap) -> Option<Duration> {
    let did_nothing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    (code.is_some() || did_nothing).then_some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// The body of a refusal that is Onceward's own.
fn refusal(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    let problem = headers.get(CONTENT_TYPE)?.as_bytes().starts_with(b"application/problem+json");
    let body: Value = if problem { serde_json::from_slice(body).ok()? } else { return None };
    body.get("type")?.as_str()?.starts_with("urn:problem:onceward:").then_some(body)
}

/// An answer that is not the wished one, with what Onceward says about it.
pub(crate) fn words(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> String {
    let refusal = refusal(headers, body);
    let part = |name| refusal.as_ref().and_then(|refusal| refusal.get(name)?.as_str());
    match (part("code"), part("detail")) {
        (Some(code), Some(detail)) => format!("{status}, {code}: {detail}"),
        (Some(code), None) => format!("{status}, {code}"),
        (None, _) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn refused(status: u16, code: &str, fields: &[(&'static str, &'static str)]) -> Answer {
        let mut headers = headers(fields);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let body = format!(r#"{{"type":"urn:problem:onceward:{code}","code":"{code}","detail":"Ask."}}"#);
        judge(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn success_is_done_and_a_replay_says_so() {
        assert_eq!(judge(StatusCode::NO_CONTENT, &headers(&[]), b""), Answer::Done { replayed: false });
        let replay = headers(&[("idempotent-replayed", "true")]);
        assert_eq!(judge(StatusCode::OK, &replay, b"{}"), Answer::Done { replayed: true });
    }

    #[test]
    fn a_stale_version_is_known_by_its_code_and_not_by_its_status() {
        assert_eq!(refused(409, "stale-version", &[]), Answer::Stale);
        assert_eq!(refused(412, "stale-version", &[]), Answer::Stale);
        assert_eq!(judge(StatusCode::CONFLICT, &headers(&[]), b""), Answer::Conflict);
        assert_eq!(judge(StatusCode::PRECONDITION_FAILED, &headers(&[]), b""), Answer::Conflict);
    }

    #[test]
    fn what_may_come_again_waits_as_told_but_not_for_ever() {
        let wait = |seconds| Answer::Later(Duration::from_secs(seconds));
        assert_eq!(refused(409, "in-flight", &[("retry-after", "2")]), wait(2));
        assert_eq!(refused(429, "queue-full", &[("retry-after", "3600")]), wait(5));
        assert_eq!(judge(StatusCode::TOO_MANY_REQUESTS, &headers(&[("retry-after", "1")]), b""), wait(1));
    }

    #[test]
    fn the_rest_is_told_in_words() {
        let unknown = "409 Conflict, outcome-unknown: Ask.".to_owned();
        assert_eq!(refused(409, "outcome-unknown", &[]), Answer::Other(unknown));
        let busy = headers(&[("retry-after", "1")]);
        let error = "500 Internal Server Error".to_owned();
        assert_eq!(judge(StatusCode::INTERNAL_SERVER_ERROR, &busy, b""), Answer::Other(error));
    }
}
