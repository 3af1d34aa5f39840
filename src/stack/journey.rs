//! What is known of one request from its head to its answer, for refusals, metrics and the log.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, HeaderMap};
use http::{HeaderValue, Method, Uri, Version};

use super::Rules;
use crate::http::budget::Budget;
use crate::http::problem::{Subject, quoted};
use crate::http::{Refusal, Response, fields};
use crate::observe::{self, Open, Outcome, Story};
use crate::protocol::path::percent_encode_non_ascii;
use crate::protocol::prefer::Prefer;
use crate::route::Entry;

/// One request's way through the stack.
pub(crate) struct Journey {
    pub(crate) rules: Arc<Rules>,
    pub(crate) entry: Option<Arc<Entry>>,
    pub(crate) budget: Budget,
    /// The bound of the place where it waited by `Prefer` (W1).
    pub(crate) wait_bound: Option<Duration>,
    pub(crate) resource: Option<Box<str>>,
    pub(crate) story: Story,
    /// What a refusal speaks of, where that is another request than this one.
    pub(crate) about: Option<(&'static str, Box<str>)>,
    method: Method,
    uri: Uri,
    accept: Vec<HeaderValue>,
    request_id: Option<String>,
    spans: Option<Box<Open>>,
}

impl Journey {
    pub(super) fn begin<B>(rules: Arc<Rules>, request: &mut http::Request<B>) -> Self {
        // First of all, so that the request's id is that of its trace.
        let spans = rules.spans.as_ref().and_then(|spans| spans.begin(request.headers_mut()));
        let headers: &HeaderMap = request.headers();
        let prefer = Prefer::parse(&fields::lines(headers, &fields::PREFER));
        let logged = tracing::enabled!(target: "onceward::request", tracing::Level::INFO);
        let budget = Budget::new(prefer.wait);
        Self {
            rules,
            entry: None,
            budget,
            wait_bound: None,
            resource: None,
            story: Story::new(budget.head().into_std()),
            about: None,
            method: request.method().clone(),
            uri: request.uri().clone(),
            accept: headers.get_all(ACCEPT).iter().cloned().collect(),
            request_id: logged.then(|| observe::request_id(headers)),
            spans,
        }
    }

    pub(super) fn set_entry(&mut self, entry: &Arc<Entry>) {
        self.entry = Some(Arc::clone(entry));
    }

    pub(super) fn take_story(&mut self, told: super::write::Told) {
        self.story = told.story;
        self.resource = told.resource;
        self.wait_bound = told.wait_bound;
    }

    /// Makes an answer of what came out, and tells of it.
    pub(super) fn end(mut self, result: Result<Response, Refusal>) -> Response {
        let mut response = match result {
            Ok(response) => response,
            Err(refusal) => self.refuse(refusal),
        };
        self.dress(&mut response);
        self.tell(response.status().as_u16());
        response
    }

    /// Tells metrics, log and spans.
    fn tell(&self, status: u16) {
        let metrics = self.entry.as_ref().map_or(&self.rules.routeless, |entry| &entry.metrics);
        metrics.count(&self.method, &self.story);
        let route = self.entry.as_ref().map(|entry| &entry.route);
        let request = observe::Request {
            method: &self.method,
            route: route.map(|route| route.name.as_ref()),
            path: route.map(|route| route.path.as_str()),
            upstream: route.map(|route| route.upstream.authority.as_str()),
            status,
        };
        if let Some(id) = &self.request_id {
            observe::line(id, &request, &self.story);
        }
        if let (Some(spans), Some(open)) = (&self.rules.spans, &self.spans) {
            spans.end(open, &request, &self.story);
        }
    }

    fn refuse(&mut self, mut refusal: Refusal) -> Response {
        let code = refusal.reason.code();
        self.story.code = Some(code);
        let is_unknown = refusal.reason.executed() == crate::http::Executed::Unknown;
        self.story.outcome = if is_unknown { Outcome::Unknown } else { Outcome::of_code(code) };
        if refusal.route.is_none() {
            refusal.route = self.entry.as_ref().map(|entry| Arc::clone(&entry.route.name));
        }
        if refusal.resource.is_none() {
            refusal.resource.clone_from(&self.resource);
        }
        let mut subject = Subject::new(&self.method, self.uri.path(), self.accept.iter());
        let by_hand = self.entry.as_ref().is_some_and(|entry| entry.route.resource.is_some());
        if let Some(resource) = self.resource.as_deref().filter(|_| by_hand) {
            // Two resources may be written through one path.
            subject.resource = quoted(resource);
        }
        if let Some((method, path)) = &self.about {
            (subject.method, subject.path) = ((*method).to_owned(), quoted(path));
            subject.resource.clone_from(&subject.path);
        }
        refusal.into_response(&subject)
    }

    fn dress(&self, response: &mut Response) {
        // Every upstream is spoken to in HTTP/1.1.
        fields::add_via(response.headers_mut(), Version::HTTP_11);
        if let Some(applied) = self.wait_bound.and_then(|bound| self.budget.applied(bound)) {
            // Beside what the upstream applied.
            response.headers_mut().append(fields::PREFERENCE_APPLIED, applied);
        }
        if let Some(resource) = &self.resource
            && let Ok(value) = HeaderValue::from_str(&percent_encode_non_ascii(resource))
        {
            response.headers_mut().insert(fields::ONCEWARD_RESOURCE, value);
        }
    }
}
