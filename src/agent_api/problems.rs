//! `/.onceward/problems/{code}`: what each refusal means (P4). docs/REFUSALS.md is made of the same text.

use http::{HeaderValue, StatusCode, header};

use crate::http::problem::Subject;
use crate::http::refusal::{Executed, Unknown};
use crate::http::{Body, Reason, Refusal, Response};

/// One example of each reason, in the order of P5.
pub fn examples() -> Vec<Reason> {
    let stale = |status| Reason::StaleVersion {
        status,
        current: crate::protocol::entity_tag::EntityTag::parse("\"v8\""),
        body: None,
        wanted_none: false,
    };
    vec![
        Reason::BadRequest("The request has no Host header.".to_owned()),
        Reason::MissingKey,
        Reason::InvalidKey("The Idempotency-Key is empty.".to_owned()),
        Reason::InvalidPrecondition(
            "The If-Match header is malformed. Send an entity tag in double quotes, as in If-Match: \"v8\"."
                .to_owned(),
        ),
        Reason::NoResource("{json:/doc_id}".to_owned()),
        Reason::NoRoute,
        Reason::NotFound("No operation is known under this Idempotency-Key, or it has expired.".to_owned()),
        Reason::MethodNotAllowed("GET, PUT".to_owned()),
        Reason::RequestTimeout("The request's body"),
        stale(StatusCode::CONFLICT),
        Reason::InFlight,
        Reason::OutcomeUnknown(Unknown::Compared),
        Reason::ResponseNotKept { upstream_status: 200 },
        Reason::BodyTooLarge { limit: 1_048_576 },
        Reason::UriTooLong { limit: 8192 },
        Reason::HeadersTooLarge("The request has more than 100 header fields.".to_owned()),
        Reason::KeyReused,
        Reason::MissingPrecondition { any: false },
        Reason::QueueFull { waiting: 64 },
        Reason::QueueTimeout { resting: false, retry_after: 1 },
        Reason::InternalError(Executed::Unknown),
        Reason::UpstreamUnreachable("connection refused".to_owned()),
        Reason::VersionUnavailable("it has no strong ETag".to_owned()),
        Reason::UpstreamBrokeOff { write: Some(Unknown::Held) },
        Reason::UpstreamTimeout { write: Some(Unknown::Held) },
        Reason::StoreUnavailable,
        Reason::StoreFull,
        Reason::ShuttingDown,
        Reason::TooBusy("Too many connections are open"),
        Reason::ResultNotStored { upstream_status: 200 },
        Reason::Leased { seconds: 12 },
        Reason::LeaseLost,
        Reason::ClaimLost,
        Reason::Gone,
    ]
}

/// The page of one code.
///
/// # Errors
/// 404 for a code that there is not.
pub(super) fn page(code: &str) -> Result<Response, Refusal> {
    let reason = examples().into_iter().find(|reason| reason.code() == code);
    let reason = reason.ok_or_else(|| {
        let code = crate::http::problem::quoted(code);
        Reason::NotFound(format!(
            "There is no refusal with the code {code}. Check it for a spelling mistake."
        ))
    })?;
    let mut response = Response::new(Body::text(section(&reason)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/markdown; charset=utf-8"));
    Ok(response)
}

/// One code in Markdown.
pub fn section(reason: &Reason) -> String {
    let (method, path) = ("PUT".to_owned(), "/documents/7".to_owned());
    let subject = Subject { method, resource: path.clone(), path, markdown: false };
    format!(
        "## `{}`\n\n{}. Status {}, `executed: \"{}\"`, `retry: \"{}\"`.\n\n> {}\n",
        reason.code(),
        reason.title(),
        reason.status().as_u16(),
        reason.executed().as_str(),
        reason.retry().as_str(),
        reason.detail(&subject)
    )
}
