//! Which rules a request has, and which resource (R1, R5, R6).

mod lookup;

pub use lookup::form_decoded;

use std::sync::Arc;

use http::Method;

use crate::config::checked::{Mode, Route};
use crate::http::{Reason, Refusal, Request};
use crate::observe::RouteMetrics;
use crate::protocol::path::NormalPath;
use crate::upstream::Client;

/// A route with what stands behind it.
pub struct Entry {
    pub route: Arc<Route>,
    pub client: Arc<Client>,
    pub metrics: RouteMetrics,
}

/// All routes, the most specific first.
pub struct Table {
    entries: Vec<Arc<Entry>>,
}

impl Table {
    /// Orders the routes.
    pub fn new(mut entries: Vec<Arc<Entry>>) -> Self {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.route.path.specificity()));
        Self { entries }
    }

    /// All of them.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The route of a path and method (R1).
    ///
    /// # Errors
    /// 404 without a route, 405 with the methods it has.
    pub fn find(&self, path: &NormalPath, method: &Method) -> Result<&Arc<Entry>, Refusal> {
        let found = self.entries.iter().find(|entry| entry.route.path.matches(path).is_some());
        let entry = found.ok_or(Reason::NoRoute)?;
        match &entry.route.methods {
            // Observed routes refuse nothing (R4).
            Some(methods) if entry.route.mode == Mode::Enforce && !methods.contains(method) => {
                Err(not_allowed(entry, methods))
            }
            Some(_) | None => Ok(entry),
        }
    }
}

impl Table {
    /// The route whose writes a lease of this resource keeps back (L1, L2), in its one spelling; one that leases are
    /// switched on for before all others.
    pub fn of_lease(&self, resource: &str) -> Option<&Arc<Entry>> {
        let path = NormalPath::parse(resource).ok().filter(|path| path.as_str() == resource);
        let by_path = path.and_then(|path| {
            let found = self.entries.iter().find(|entry| entry.route.path.matches(&path).is_some());
            found.filter(|entry| entry.route.resource.is_none())
        });
        let by_hand = self.entries.iter().filter(|entry| {
            entry.route.resource.as_ref().is_some_and(|template| template.could_give(resource))
        });
        by_path.into_iter().chain(by_hand).find(|entry| entry.route.leases.is_some())
    }
}

fn not_allowed(entry: &Entry, methods: &[Method]) -> Refusal {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allow = names.join(", ");
    let mut refusal = Refusal::from(Reason::MethodNotAllowed(allow.clone()));
    refusal.allow = Some(allow);
    refusal.route = Some(Arc::clone(&entry.route.name));
    refusal
}

/// The resource that a request is about (R5).
///
/// # Errors
/// The part of the template that gave nothing (R6).
pub fn resource(route: &Route, request: &Request, body: &[u8]) -> Result<Box<str>, Reason> {
    let Some(template) = &route.resource else { return Ok(request.normal.as_str().into()) };
    render(route, template, request, body)
}

/// A template rendered from a request.
///
/// # Errors
/// As [`resource`].
pub fn render(
    route: &Route,
    template: &crate::protocol::template::Template,
    request: &Request,
    body: &[u8],
) -> Result<Box<str>, Reason> {
    let captures = route.path.matches(&request.normal);
    let from = lookup::Sources { captures, request, body };
    template.render(&from).map(Into::into).map_err(|unrendered| Reason::NoResource(unrendered.part))
}
