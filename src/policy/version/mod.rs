//! Which version a write was built on, and which one there is (section V).
//!
//! 1. `required`: a precondition that is well-formed, and there where it must be (V3, V4);
//! 2. `compare`: whether it holds, inside the turn (V5, V6);
//! 3. `refresh`: the version after a successful write (V7);
//! 4. `read`: reads that carry their version (V2).

mod compare;
mod probe;
mod read;

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};

use crate::config::checked::{Source, Version};
use crate::http::{Reason, fields};
use crate::protocol::entity_tag::{PreconditionProblem, Preconditions};

pub use compare::{Compared, Stop, compare};
pub use probe::{Current, Probe, asks_upstream, refresh, told};
pub use read::{Reading, in_memory, prepare, with_version, without_version};

/// The precondition of a write (V3, V4). Empty on a route without versions.
///
/// # Errors
/// 400 where it is malformed or weak, 428 where one is required and none names a version.
pub fn required(headers: &HeaderMap, method: &Method, version: &Version) -> Result<Preconditions, Reason> {
    if version.source == Source::None {
        return Ok(Preconditions::default());
    }
    let if_match = fields::lines(headers, &header::IF_MATCH);
    let if_none_match = fields::lines(headers, &header::IF_NONE_MATCH);
    let preconditions =
        Preconditions::parse(&if_match, &if_none_match).map_err(|problem| malformed(&problem))?;
    if version.required.contains(method) && !preconditions.names_version(version.allow_any) {
        let any = preconditions.if_match.is_some();
        return Err(Reason::MissingPrecondition { any });
    }
    Ok(preconditions)
}

fn malformed(problem: &PreconditionProblem) -> Reason {
    Reason::InvalidPrecondition(problem.to_string())
}

/// Fields that a conditional or partial request may carry.
pub(super) const CONDITIONAL: [HeaderName; 6] = [
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::RANGE,
];

/// Whether what goes upstream keeps the precondition (V5).
pub fn forwards_precondition(source: &Source) -> bool {
    matches!(source, Source::Etag | Source::Upstream | Source::None)
}

/// Takes the preconditions off that were compared here (V5).
pub fn strip_preconditions(headers: &mut HeaderMap, source: &Source) {
    if !forwards_precondition(source) {
        headers.remove(header::IF_MATCH);
        headers.remove(header::IF_NONE_MATCH);
    }
}

/// Whether the answer to a write may name the version that comes after it (V7).
pub fn names_next_version(
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
    resource_by_hand: bool,
) -> bool {
    if !status.is_success() {
        return false;
    }
    if status == StatusCode::CREATED && headers.contains_key(header::LOCATION) {
        // What was made is at that location, which may be another resource than the target.
        return false;
    }
    *method != Method::POST || resource_by_hand
}
