//! A record as a value in Redis: a head that scripts read, what of the record stays as it is, its state, its answer.
//! `lua/record.lua` has the places.

use bytes::Bytes;
use redis::Value;

use super::super::StoreError;
use super::super::disk::format;
use crate::protocol::record::{Mark, Millis, Phase, Record, RecordId, ResourceId, State};
use crate::store::shared::Instance;

/// What stands first: another one would be another layout.
const FORMAT: u8 = b'1';
const HEAD: usize = 52;
const PHASE_AT: usize = 1;
const FOLLOWED_AT: usize = 2;
/// A finished record stays so much longer than its time, for instances whose clocks are behind.
const SLACK: Millis = 60_000;
/// Redis counts until when it keeps a key in 63 bits; nothing is kept for a century.
const LONGEST: Millis = 100 * 365 * 24 * 60 * 60 * 1000;

/// The letter of a phase.
pub(super) fn letter(phase: Phase) -> &'static str {
    match phase {
        Phase::Claimed => "C",
        Phase::Queued => "Q",
        Phase::Forwarded => "F",
        Phase::Done => "D",
        Phase::Unknown => "U",
    }
}

/// The letter of a state's mark.
fn mark(state: &State) -> &'static str {
    match state {
        State::Forwarded { mark: Some(mark), .. } | State::Unknown { mark: Some(mark), .. } => {
            if mark.followed { "f" } else { "-" }
        }
        State::Forwarded { mark: None, .. }
        | State::Unknown { mark: None, .. }
        | State::Claimed
        | State::Queued
        | State::Done { .. } => "n",
    }
}

/// What of the head a new state changes.
pub(super) fn head(state: &State) -> String {
    format!("{}{}", letter(state.phase()), mark(state))
}

/// The time of expiry, as it stands in the head.
pub(super) fn expiry(state: &State) -> [u8; 8] {
    state.expires_at().unwrap_or(0).to_be_bytes()
}

/// For how long Redis keeps it; 0 for ever.
pub(super) fn life(state: &State, now: Millis) -> Millis {
    state.expires_at().map_or(0, |at| (at.saturating_sub(now).saturating_add(SLACK)).min(LONGEST))
}

/// A record that runs on `instance`, or ended there; without an answer.
pub(super) fn encode(record: &Record, instance: Instance) -> Vec<u8> {
    let whole = format::encode(record, b"");
    let state = state(&record.state).len();
    let stays = whole.len().saturating_sub(state);
    let mut value = Vec::with_capacity(HEAD + whole.len());
    value.push(FORMAT);
    value.extend_from_slice(head(&record.state).as_bytes());
    value.push(b'-');
    value.extend_from_slice(&record.owner.0.to_be_bytes());
    value.extend_from_slice(&instance.0.to_be_bytes());
    value.extend_from_slice(&ResourceId::new(&record.resource).0);
    value.extend_from_slice(&expiry(&record.state));
    value.extend_from_slice(&u32::try_from(stays).unwrap_or(u32::MAX).to_be_bytes());
    value.extend_from_slice(&u32::try_from(state).unwrap_or(u32::MAX).to_be_bytes());
    value.extend_from_slice(&whole);
    value
}

/// A record, and the answer behind it; `None` for bytes that are none of ours.
pub(super) fn decode(value: &Bytes) -> Option<(Record, Bytes)> {
    let (head, rest) = value.split_at_checked(HEAD)?;
    if head.first() != Some(&FORMAT) {
        return None;
    }
    let (mut record, answer) = format::decode(rest).ok()?;
    if head.get(FOLLOWED_AT) == Some(&b'f') {
        follow(&mut record);
    }
    Some((record, value.slice_ref(answer)))
}

fn follow(record: &mut Record) {
    let marked: Option<&mut Box<Mark>> = match &mut record.state {
        State::Forwarded { mark, .. } | State::Unknown { mark, .. } => mark.as_mut(),
        State::Claimed | State::Queued | State::Done { .. } => None,
    };
    if let Some(mark) = marked {
        mark.followed = true;
    }
}

/// A state as it stands behind what stays; its format is said before that already.
pub(super) fn state(state: &State) -> Bytes {
    Bytes::from(format::encode_state(state)).slice(1..)
}

/// What a script answered, piece by piece; anything unexpected is no answer.
pub(super) struct Said(pub(super) Value);

impl Said {
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.0, Value::Nil)
    }

    /// A claim that found another, or a step that is not its owner's: nothing was changed.
    pub(super) fn says_no(&self) -> bool {
        matches!(&self.0, Value::Array(list) if list.first() == Some(&Value::Int(0)))
    }

    /// A record, or a claim that found one, that waits or has ended: others may build on what is said of it.
    pub(super) fn says_what_lasts(&self) -> bool {
        let ends = |value: &Value| matches!(value, Value::BulkString(bytes) if matches!(bytes.get(PHASE_AT), Some(b'Q' | b'D' | b'U')));
        if let Value::Array(list) = &self.0 {
            return self.says_no() && list.get(1).is_some_and(ends);
        }
        ends(&self.0)
    }

    /// A number that may be below zero.
    pub(super) fn signed(self) -> Option<i64> {
        if let Value::Int(number) = self.0 { Some(number) } else { None }
    }

    pub(super) fn number(self) -> Option<u64> {
        if let Value::Int(number) = self.0 { u64::try_from(number).ok() } else { None }
    }

    pub(super) fn bytes(self) -> Option<Bytes> {
        if let Value::BulkString(bytes) = self.0 { Some(Bytes::from(bytes)) } else { None }
    }

    pub(super) fn text(self) -> Option<String> {
        String::from_utf8(self.bytes()?.into()).ok()
    }

    pub(super) fn eight(self) -> Option<u64> {
        Some(u64::from_be_bytes(<[u8; 8]>::try_from(&self.bytes()?[..]).ok()?))
    }

    pub(super) fn list(self) -> Option<std::vec::IntoIter<Value>> {
        if let Value::Array(list) = self.0 { Some(list.into_iter()) } else { None }
    }

    pub(super) fn record(self) -> Option<(Record, Bytes)> {
        decode(&self.bytes()?)
    }

    /// Pairs of an id and a record.
    pub(super) fn records(self) -> Option<Vec<(RecordId, Record)>> {
        self.list()?.map(pair).collect()
    }
}

/// An id and its record.
pub(super) fn pair(value: Value) -> Option<(RecordId, Record)> {
    let mut pair = Said(value).list()?;
    let id = RecordId::parse(&Said(pair.next()?).text()?)?;
    Some((id, Said(pair.next()?).record()?.0))
}

/// An answer that no script of this build gives.
pub(super) fn unreadable() -> StoreError {
    tracing::error!("the store holds, or answered, what this build cannot read");
    StoreError::Unavailable
}
