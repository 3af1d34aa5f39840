//! Whether a precondition holds, looked at inside the turn (V5, V6).

use http::StatusCode;

use super::probe::{Current, Probe};
use crate::config::checked::Source;
use crate::http::{Reason, Response};
use crate::protocol::entity_tag::{Condition, EntityTag, Preconditions};

/// What was compared: goes into the record's mark (K12).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compared {
    /// `Some(None)`: there was no resource.
    pub with: Option<Option<EntityTag>>,
    pub forwarded: bool,
}

/// Why nothing is forwarded.
pub enum Stop {
    Refused(Reason),
    /// The upstream's own 401 or 403 (V1).
    GivenOn(Box<Response>),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

/// Compares the preconditions that are there; costs nothing where there are none.
///
/// `minted`: the resource's tag where its versions are minted here.
///
/// # Errors
/// [`Stop`]: stale, unavailable, or the upstream's 401 or 403.
pub async fn compare(
    probe: &Probe<'_>,
    preconditions: &Preconditions,
    minted: Option<EntityTag>,
) -> Result<Compared, Stop> {
    if preconditions.is_empty() || probe.version.source == Source::None {
        return Ok(Compared::default());
    }
    if probe.version.source == Source::Upstream {
        return Ok(Compared { with: None, forwarded: true });
    }
    let (current, body) = match (&probe.version.source, minted) {
        (Source::Mint, Some(minted)) if !asks_for_existence(preconditions) => (Some(minted), None),
        (Source::Mint, Some(minted)) => match probe.current().await? {
            Current::Tag(..) => (Some(minted), None),
            Current::Nothing => (None, None),
            Current::GivenOn(answer) => return Err(Stop::GivenOn(Box::new(answer))),
        },
        _ => match probe.current().await? {
            Current::Tag(tag, body) => (Some(tag), body),
            Current::Nothing => (None, None),
            Current::GivenOn(answer) => return Err(Stop::GivenOn(Box::new(answer))),
        },
    };
    if !preconditions.holds(current.as_ref()) {
        let body = match body {
            None if probe.version.include_current && current.is_some() => probe.body().await,
            body => body.filter(|_| probe.version.include_current),
        };
        return Err(Stop::Refused(stale(probe.version.stale_status, preconditions, current, body)));
    }
    Ok(Compared { with: Some(current), forwarded: probe.version.source == Source::Etag })
}

/// `*` asks whether there is a resource, which a counter cannot tell (V8).
fn asks_for_existence(preconditions: &Preconditions) -> bool {
    let any = |condition: &Option<Condition>| matches!(condition, Some(Condition::Any));
    any(&preconditions.if_match) || any(&preconditions.if_none_match)
}

/// V6.
fn stale(
    status: StatusCode,
    preconditions: &Preconditions,
    current: Option<EntityTag>,
    body: Option<bytes::Bytes>,
) -> Reason {
    let wanted_none = matches!(preconditions.if_none_match, Some(Condition::Any));
    Reason::StaleVersion { status, current, body, wanted_none }
}
