//! An answer as an agent got it. Every refusal of the proxy's own is checked against P1 to P5 as it comes in.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::refusal::{self, Problem};

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Takes an answer in; a refusal that breaks a rule of P fails the test here, whatever the test is about.
    #[track_caller]
    pub fn new(status: u16, headers: HeaderMap, body: Bytes) -> Answer {
        let answer = Answer { status, headers, body };
        if answer.is_refusal() && !answer.body.is_empty() {
            refusal::check(&answer);
        }
        answer
    }

    /// Whether the proxy itself refused (an upstream's own problem is no refusal).
    pub fn is_refusal(&self) -> bool {
        let described = self.all("link").iter().any(|link| link.contains("/.onceward/problems/"));
        let named = self.body.windows(20).any(|part| part == b"urn:problem:onceward");
        let problem =
            self.header("content-type").is_some_and(|value| value.starts_with("application/problem+json"));
        problem && (described || named)
    }

    #[track_caller]
    pub fn problem(&self) -> Problem {
        assert!(self.is_refusal(), "a refusal was expected, this came: {self}");
        refusal::check(self)
    }

    #[track_caller]
    pub fn code(&self) -> String {
        self.problem().code
    }

    /// Asserts that this is the refusal with that code.
    #[track_caller]
    pub fn refused(&self, code: &str) -> Problem {
        let problem = self.problem();
        assert_eq!(problem.code, code, "another refusal than expected: {self}");
        problem
    }

    /// Asserts that the answer has that status and is no refusal of the proxy's own.
    #[track_caller]
    pub fn is(&self, status: u16) -> &Answer {
        assert!(self.status == status && !self.is_refusal(), "{status} was expected, this came: {self}");
        self
    }

    /// Asserts that this is a replay (K7) of `first`: status, body and every kept field.
    #[track_caller]
    pub fn replays(&self, first: &Answer) -> &Answer {
        assert_eq!(self.header("idempotent-replayed").as_deref(), Some("true"), "no replay: {self}");
        assert_eq!(self.status, first.status, "a replay with another status: {self}, first {first}");
        assert_eq!(self.body, first.body, "a replay with another body: {self}, first {first}");
        assert_eq!(kept(self), kept(first), "a replay with other fields: {self}, first {first}");
        self
    }

    #[track_caller]
    pub fn is_replay(&self) -> &Answer {
        assert_eq!(self.header("idempotent-replayed").as_deref(), Some("true"), "no replay: {self}");
        self
    }

    #[track_caller]
    pub fn is_first_run(&self) -> &Answer {
        assert!(
            !self.headers.contains_key("idempotent-replayed"),
            "a replay where a first run was due: {self}"
        );
        self
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.all(name).into_iter().next()
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.headers
            .get_all(name)
            .iter()
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
            .collect()
    }

    #[track_caller]
    pub fn needs(&self, name: &str) -> String {
        self.header(name).unwrap_or_else(|| panic!("no {name} on {self}"))
    }

    #[track_caller]
    pub fn etag(&self) -> String {
        self.needs("etag")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The fields a replay owes, without those that say of this very answer how it was sent (K9).
pub fn kept(answer: &Answer) -> Vec<(String, Vec<u8>)> {
    const NOT_KEPT: [&str; 11] = [
        "connection",
        "transfer-encoding",
        "content-length",
        "date",
        "idempotent-replayed",
        "set-cookie",
        "www-authenticate",
        "server-timing",
        "alt-svc",
        "keep-alive",
        // Of this request, not of the recorded answer.
        "preference-applied",
    ];
    let kept = |name: &str| !NOT_KEPT.contains(&name) && !name.starts_with("ratelimit");
    let fields = answer.headers.iter().filter(|(name, _)| kept(name.as_str()));
    let mut fields: Vec<_> =
        fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "  {name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        let shown = &self.body[..self.body.len().min(2000)];
        write!(f, "  [{} bytes] {}", self.body.len(), String::from_utf8_lossy(shown))
    }
}
