//! `/.onceward/problems/{code}`: what each refusal means (P4). docs/REFUSALS.md is [`document`], word for word.

mod when;

use http::{HeaderValue, StatusCode, header};

use self::when::when;
use crate::http::problem::{RETRIES, Subject};
use crate::http::refusal::{Executed, Retry, Unknown};
use crate::http::{Body, Reason, Refusal, Response};
use crate::protocol::entity_tag::{EntityTag, PreconditionProblem};

/// Examples of each reason, in the order of P5; one code's stand together.
pub fn examples() -> Vec<Reason> {
    let tag = |text| EntityTag::parse(text);
    let stale =
        |status| Reason::StaleVersion { status, current: tag("\"v8\""), body: None, wanted_none: false };
    let moved = |compared| Unknown::Moved { compared: tag(compared), current: tag("\"v8\"") };
    vec![
        Reason::BadRequest("The request has no Host header.".to_owned()),
        Reason::MissingKey,
        Reason::InvalidKey("The Idempotency-Key is empty.".to_owned()),
        Reason::InvalidPrecondition(PreconditionProblem::Malformed.to_string()),
        Reason::InvalidPrecondition(PreconditionProblem::Weak.to_string()),
        Reason::NoResource("{json:/doc_id}".to_owned()),
        Reason::NoRoute,
        Reason::NotFound("No operation is known under this Idempotency-Key, or it has expired.".to_owned()),
        Reason::MethodNotAllowed("GET, PUT".to_owned()),
        Reason::RequestTimeout("The request's body"),
        stale(StatusCode::CONFLICT),
        stale(StatusCode::PRECONDITION_FAILED),
        Reason::InFlight,
        Reason::OutcomeUnknown(Unknown::Compared),
        Reason::OutcomeUnknown(moved("\"v7\"")),
        Reason::OutcomeUnknown(moved("\"v8\"")),
        Reason::OutcomeUnknown(Unknown::Held),
        Reason::OutcomeUnknown(Unknown::Rerun),
        Reason::ResponseNotKept { upstream_status: 200 },
        Reason::LeaseLost,
        Reason::ClaimLost,
        Reason::Gone,
        Reason::BodyTooLarge { limit: 1_048_576 },
        Reason::UriTooLong { limit: 8192 },
        Reason::HeadersTooLarge("The request has more than 100 header fields.".to_owned()),
        Reason::KeyReused,
        Reason::Leased { seconds: 12 },
        Reason::MissingPrecondition { any: false },
        Reason::MissingPrecondition { any: true },
        Reason::QueueFull { waiting: 64 },
        Reason::LeasesFull { most: 100 },
        Reason::QueueTimeout { resting: false, retry_after: 1 },
        Reason::QueueTimeout { resting: true, retry_after: 1 },
        Reason::InternalError(Executed::No),
        Reason::InternalError(Executed::Yes),
        Reason::InternalError(Executed::Unknown),
        Reason::UpstreamUnreachable("connection refused".to_owned()),
        Reason::VersionUnavailable("it has no strong ETag".to_owned()),
        Reason::UpstreamBrokeOff { write: Some(Unknown::Compared) },
        Reason::UpstreamBrokeOff { write: Some(Unknown::Held) },
        Reason::UpstreamBrokeOff { write: Some(Unknown::Rerun) },
        Reason::UpstreamBrokeOff { write: None },
        Reason::RequestBrokeOff(Unknown::Held),
        Reason::UpstreamTimeout { write: Some(Unknown::Compared) },
        Reason::UpstreamTimeout { write: Some(Unknown::Held) },
        Reason::UpstreamTimeout { write: Some(Unknown::Rerun) },
        Reason::UpstreamTimeout { write: None },
        Reason::StoreUnavailable,
        Reason::StoreFull,
        Reason::ShuttingDown,
        Reason::TooBusy("Too many connections are open"),
        Reason::ResultNotStored { upstream_status: 200 },
    ]
}

/// The page of one code.
///
/// # Errors
/// 404 for a code that there is not.
pub(super) fn page(code: &str) -> Result<Response, Refusal> {
    let mut examples = examples();
    examples.retain(|reason| reason.code() == code);
    if examples.is_empty() {
        let code = crate::http::problem::quoted(code);
        return Err(Reason::NotFound(format!(
            "There is no refusal with the code {code}. Check it for a spelling mistake."
        ))
        .into());
    }
    let mut response = Response::new(Body::text(section(&examples)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/markdown; charset=utf-8"));
    Ok(response)
}

/// One code in Markdown, with an example of each way it is said.
fn section(examples: &[Reason]) -> String {
    let Some(first) = examples.first() else { return String::new() };
    let mut text = format!("## `{}`\n\n{}. {}\n", first.code(), first.title(), when(first));
    let (method, path) = ("PUT".to_owned(), "/documents/7".to_owned());
    let subject = Subject { method, resource: path.clone(), path, markdown: false };
    for reason in examples {
        text.push_str(&format!(
            "\n{}, `executed: \"{}\"`, `retry: \"{}\"`:\n\n> {}\n",
            reason.status().as_u16(),
            reason.executed().as_str(),
            reason.retry().as_str(),
            reason.detail(&subject)
        ));
    }
    text
}

/// docs/REFUSALS.md, whole.
pub fn document() -> String {
    let examples = examples();
    let codes: Vec<&[Reason]> = examples.chunk_by(|a, b| a.code() == b.code()).collect();
    let mut text = HEAD.to_owned();
    for retry in RETRIES {
        text.push_str(&format!("| `{}` | {} |\n", retry.as_str(), next_step(retry)));
    }
    text.push_str("\n## All codes\n\n| code | status | executed | retry |\n|---|---|---|---|\n");
    for examples in &codes {
        text.push_str(&row(examples));
    }
    for examples in codes {
        text.push_str(&format!("\n{}", section(examples)));
    }
    text
}

const HEAD: &str = "# Refusals

<!-- Made from src/agent_api/problems.rs. Do not edit; tests/docs.rs says how it is renewed. -->

Each refusal of Onceward's own is a problem document (RFC 9457, `application/problem+json`). Everything else that an
agent gets comes from the upstream. A refusal carries `Link: </.onceward/problems/{code}>; rel=\"describedby\"`, and a
running Onceward serves the section of that code there. With `Accept: text/markdown` the refusal itself is Markdown.

| member | meaning |
|---|---|
| `type` | `urn:problem:onceward:` and the code |
| `title` | the same for each refusal of the code |
| `status` | the HTTP status |
| `detail` | one or two sentences for the agent's model: what happened, and what to do next |
| `code` | what programs compare |
| `executed` | whether the write had an effect: `no`, `yes`, `pending` (it still runs), `unknown` |
| `retry` | what to do next, see below |
| `retry_after` | seconds, as in the header `Retry-After` |
| `route` | the name of the route |
| `resource` | the resource that the write would change |
| `current_etag` | the version that is there now, or `null` |
| `current` | the body that is there now, by `version.include_current` |
| `compared_etag` | the version that an unknown write was compared with |
| `upstream_status` | the status of an answer that is not there |
| `operation` | what an operator looks it up by, where it left a record: `onceward operations show ID` |

Those from `retry_after` on are there where they apply. `retry: \"same-key\"`, the header `Retry-After`, the member `retry_after` and
`x-should-retry: true` come together; every other refusal has `x-should-retry: false`.

| retry | what to do |
|---|---|
";

fn next_step(retry: Retry) -> &'static str {
    match retry {
        Retry::SameKey => "wait for `Retry-After`, then send the same request with the same key",
        Retry::NewKey => "send this write with a new key",
        Retry::AfterReread => {
            "read the resource again, then decide; what is still to be written goes under a new key"
        }
        Retry::AfterFixing => "correct the request first; as it is it will be refused again",
        Retry::AskOperator => "do not send it again; an operator finds out what became of it",
    }
}

/// One line of the table: every value that the code's examples have.
fn row(examples: &[Reason]) -> String {
    let code = examples.first().map_or("", Reason::code);
    let values = |of: &dyn Fn(&Reason) -> String| {
        let mut all: Vec<String> = examples.iter().map(of).collect();
        all.dedup();
        all.join(", ")
    };
    format!(
        "| [`{code}`](#{code}) | {} | {} | {} |\n",
        values(&|reason| reason.status().as_u16().to_string()),
        values(&|reason| reason.executed().as_str().to_owned()),
        values(&|reason| reason.retry().as_str().to_owned())
    )
}
