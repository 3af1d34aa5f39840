//! How a record stands in the file (S5).
//!
//! A value is one byte for its format, the record by postcard, and the kept answer behind it. A field that is added
//! makes a new format beside this one: what was written once stays readable, and golden files hold us to it.

use serde::{Deserialize, Serialize};

use crate::protocol::entity_tag::{Condition, EntityTag, Preconditions};
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::record::{Mark, Millis, Owner, Record, RecordId, State};
use crate::store::cells::Stored;
use crate::store::{Event, Resolution};

/// The format that is written.
const FORMAT: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Record1<'a> {
    owner: u64,
    fingerprint: [u8; 16],
    started_at: Millis,
    route: &'a str,
    resource: &'a str,
    state: State1,
}

#[derive(Serialize, Deserialize)]
enum State1 {
    Claimed,
    Forwarded { mark: Option<Mark1>, status: Option<u16> },
    Done { status: u16, kept: bool, completed_at: Millis, expires_at: Millis },
    Unknown { mark: Option<Mark1>, since: Millis, expires_at: Millis },
    Queued,
}

#[derive(Serialize, Deserialize)]
struct Mark1 {
    compared: Option<Option<String>>,
    /// `If-Match` and `If-None-Match`; no tags: `*`.
    forwarded: Option<[Option<Vec<String>>; 2]>,
    fence: u64,
    quoted_key: bool,
    followed: bool,
}

#[derive(Serialize, Deserialize)]
struct Resolution1<'a> {
    executed: bool,
    who: &'a str,
    why: &'a str,
    at: Millis,
}

/// A value that this build cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Unreadable;

/// A record, with its kept answer behind it.
pub(in crate::store) fn encode(record: &Record, answer: &[u8]) -> Vec<u8> {
    let plain = Record1 {
        owner: record.owner.0,
        fingerprint: *record.fingerprint.as_bytes(),
        started_at: record.started_at,
        route: &record.route,
        resource: &record.resource,
        state: State1::from(&record.state),
    };
    let mut bytes = Vec::with_capacity(96 + record.resource.len() + answer.len());
    bytes.push(FORMAT);
    // Writing into memory cannot fail.
    let mut bytes = postcard::to_extend(&plain, bytes).unwrap_or_default();
    bytes.extend_from_slice(answer);
    bytes
}

/// The other way round: the record, and what stands behind it.
///
/// # Errors
/// Another format, or bytes that are none.
pub(in crate::store) fn decode(bytes: &[u8]) -> Result<(Record, &[u8]), Unreadable> {
    let (&FORMAT, bytes) = bytes.split_first().ok_or(Unreadable)? else { return Err(Unreadable) };
    let (plain, answer) = postcard::take_from_bytes::<Record1<'_>>(bytes).map_err(|_| Unreadable)?;
    let record = Record {
        owner: Owner(plain.owner),
        fingerprint: Fingerprint::from_bytes(plain.fingerprint),
        started_at: plain.started_at,
        route: plain.route.into(),
        resource: plain.resource.into(),
        state: plain.state.try_into()?,
    };
    Ok((record, answer))
}

/// A state alone, for a store that keeps the rest of a record in columns of its own.
#[cfg(feature = "postgres")]
pub(in crate::store) fn encode_state(state: &State) -> Vec<u8> {
    postcard::to_extend(&State1::from(state), vec![FORMAT]).unwrap_or_default()
}

/// The other way round.
///
/// # Errors
/// Another format, or bytes that are none.
#[cfg(feature = "postgres")]
pub(in crate::store) fn decode_state(bytes: &[u8]) -> Result<State, Unreadable> {
    let (&FORMAT, bytes) = bytes.split_first().ok_or(Unreadable)? else { return Err(Unreadable) };
    postcard::from_bytes::<State1>(bytes).map_err(|_| Unreadable)?.try_into()
}

/// An operator's word.
pub(in crate::store) fn encode_resolution(resolution: &Resolution) -> Vec<u8> {
    let Resolution { executed, who, why, at, .. } = resolution;
    let plain = Resolution1 { executed: *executed, who, why, at: *at };
    postcard::to_extend(&plain, vec![FORMAT]).unwrap_or_default()
}

/// The other way round.
///
/// # Errors
/// Another format, or bytes that are none.
pub(in crate::store) fn decode_resolution(
    id: RecordId,
    expires_at: Millis,
    bytes: &[u8],
) -> Result<Resolution, Unreadable> {
    let (&FORMAT, bytes) = bytes.split_first().ok_or(Unreadable)? else { return Err(Unreadable) };
    let plain: Resolution1<'_> = postcard::from_bytes(bytes).map_err(|_| Unreadable)?;
    let Resolution1 { executed, who, why, at } = plain;
    Ok(Resolution { id, executed, who: who.to_owned(), why: why.to_owned(), at, expires_at })
}

/// A cell, with what stands in it behind it.
pub(super) fn encode_cell(cell: &Stored) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + cell.value.len());
    bytes.push(FORMAT);
    let mut bytes = postcard::to_extend(&(cell.stamp.0, cell.due), bytes).unwrap_or_default();
    bytes.extend_from_slice(&cell.value);
    bytes
}

/// The other way round.
///
/// # Errors
/// Another format, or bytes that are none.
pub(super) fn decode_cell(bytes: &[u8]) -> Result<Stored, Unreadable> {
    let (&FORMAT, bytes) = bytes.split_first().ok_or(Unreadable)? else { return Err(Unreadable) };
    let ((stamp, due), value): ((u64, Option<Millis>), _) =
        postcard::take_from_bytes(bytes).map_err(|_| Unreadable)?;
    Ok(Stored { stamp: Owner(stamp), due, value: value.into() })
}

/// An event behind its time.
pub(super) fn encode_event(at: Millis, event: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + event.len());
    bytes.push(FORMAT);
    let mut bytes = postcard::to_extend(&at, bytes).unwrap_or_default();
    bytes.extend_from_slice(event);
    bytes
}

/// The other way round.
///
/// # Errors
/// Another format, or bytes that are none.
pub(super) fn decode_event(bytes: &[u8]) -> Result<(Millis, Event), Unreadable> {
    let (&FORMAT, bytes) = bytes.split_first().ok_or(Unreadable)? else { return Err(Unreadable) };
    let (at, event): (Millis, _) = postcard::take_from_bytes(bytes).map_err(|_| Unreadable)?;
    Ok((at, event.into()))
}

impl From<&State> for State1 {
    fn from(state: &State) -> Self {
        let mark = |mark: &Option<Box<Mark>>| mark.as_deref().map(Mark1::from);
        match state {
            State::Claimed => Self::Claimed,
            State::Queued => Self::Queued,
            State::Forwarded { mark: marked, status } => {
                Self::Forwarded { mark: mark(marked), status: *status }
            }
            State::Done { status, kept, completed_at, expires_at } => Self::Done {
                status: *status,
                kept: *kept,
                completed_at: *completed_at,
                expires_at: *expires_at,
            },
            State::Unknown { mark: marked, since, expires_at } => {
                Self::Unknown { mark: mark(marked), since: *since, expires_at: *expires_at }
            }
        }
    }
}

impl TryFrom<State1> for State {
    type Error = Unreadable;

    fn try_from(plain: State1) -> Result<Self, Unreadable> {
        let mark = |mark: Option<Mark1>| mark.map(|mark| Mark::try_from(mark).map(Box::new)).transpose();
        Ok(match plain {
            State1::Claimed => Self::Claimed,
            State1::Queued => Self::Queued,
            State1::Forwarded { mark: marked, status } => Self::Forwarded { mark: mark(marked)?, status },
            State1::Done { status, kept, completed_at, expires_at } => {
                Self::Done { status, kept, completed_at, expires_at }
            }
            State1::Unknown { mark: marked, since, expires_at } => {
                Self::Unknown { mark: mark(marked)?, since, expires_at }
            }
        })
    }
}

impl From<&Mark> for Mark1 {
    fn from(mark: &Mark) -> Self {
        let text = |tag: &EntityTag| tag.as_str().to_owned();
        let tags = |condition: &Condition| match condition {
            Condition::Any => Vec::new(),
            Condition::Tags(tags) => tags.iter().map(text).collect(),
        };
        Self {
            compared: mark.compared.as_ref().map(|compared| compared.as_ref().map(text)),
            forwarded: mark
                .forwarded
                .as_ref()
                .map(|sent| [sent.if_match.as_ref().map(tags), sent.if_none_match.as_ref().map(tags)]),
            fence: mark.fence,
            quoted_key: mark.quoted_key,
            followed: mark.followed,
        }
    }
}

impl TryFrom<Mark1> for Mark {
    type Error = Unreadable;

    fn try_from(plain: Mark1) -> Result<Self, Unreadable> {
        let compared = match plain.compared {
            Some(Some(text)) => Some(Some(tag(&text)?)),
            Some(None) => Some(None),
            None => None,
        };
        let forwarded = match plain.forwarded {
            Some([if_match, if_none_match]) => Some(Preconditions {
                if_match: condition(if_match)?,
                if_none_match: condition(if_none_match)?,
            }),
            None => None,
        };
        let Mark1 { fence, quoted_key, followed, .. } = plain;
        Ok(Self { compared, forwarded, fence, quoted_key, followed })
    }
}

fn tag(text: &str) -> Result<EntityTag, Unreadable> {
    EntityTag::parse(text).ok_or(Unreadable)
}

fn condition(tags: Option<Vec<String>>) -> Result<Option<Condition>, Unreadable> {
    let Some(tags) = tags else { return Ok(None) };
    if tags.is_empty() {
        return Ok(Some(Condition::Any));
    }
    let tags = tags.iter().map(|text| tag(text)).collect::<Result<_, _>>()?;
    Ok(Some(Condition::Tags(tags)))
}
