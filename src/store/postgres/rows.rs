//! Records as rows.

use bytes::Bytes;
use tokio_postgres::Row;

use super::value::{Uuid, Value, column};
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::record::{Before, Mark, Millis, Owner, Phase, Record, RecordId, ResourceId, Set, State};
use crate::store::disk::format::{decode_state, encode_state};
use crate::store::finished::Finished;
use crate::store::shared::TurnEnd;
use crate::store::{Change, Resolution, StoreError};

/// As it stands in the column `phase`.
pub(super) fn number_of(phase: Phase) -> i16 {
    match phase {
        Phase::Claimed => 0,
        Phase::Forwarded => 1,
        Phase::Done => 2,
        Phase::Unknown => 3,
        Phase::Queued => 4,
    }
}

fn mark(state: &State) -> Option<&Mark> {
    match state {
        State::Forwarded { mark, .. } | State::Unknown { mark, .. } => mark.as_deref(),
        State::Claimed | State::Queued | State::Done { .. } => None,
    }
}

fn is_followed(state: &State) -> bool {
    mark(state).is_some_and(|mark| mark.followed)
}

fn expires_at(state: &State) -> Value {
    Value::Number(state.expires_at().map(u64::cast_signed))
}

/// The parameters of a new record: owner, phase, fingerprint, start, route, resource and its id, state, followed, expiry.
pub(super) fn record_values(record: &Record) -> Vec<Value> {
    vec![
        Value::number(record.owner.0),
        Value::Phase(number_of(record.state.phase())),
        Value::id(*record.fingerprint.as_bytes()),
        Value::number(record.started_at),
        Value::data(record.route.as_bytes()),
        Value::data(record.resource.as_bytes()),
        Value::id(ResourceId::new(&record.resource).0),
        Value::Data(Some(encode_state(&record.state).into())),
        Value::flag(is_followed(&record.state)),
        expires_at(&record.state),
    ]
}

/// The same where only the state is new.
fn state_values(state: &State) -> Vec<Value> {
    vec![
        Value::Number(None),
        Value::Phase(number_of(state.phase())),
        Value::Id(None),
        Value::Number(None),
        Value::Data(None),
        Value::Data(None),
        Value::Id(None),
        Value::Data(Some(encode_state(state).into())),
        Value::flag(is_followed(state)),
        expires_at(state),
    ]
}

fn removal_values() -> Vec<Value> {
    let mut values = state_values(&State::Claimed);
    values.truncate(1);
    values.extend([
        Value::Phase(-1),
        Value::Id(None),
        Value::Number(None),
        Value::Data(None),
        Value::Data(None),
    ]);
    values.extend([Value::Id(None), Value::Data(None), Value::flag(false), Value::Number(None)]);
    values
}

/// The phases that a step may start from, as bits.
fn fits(before: Before, set: &Set) -> i32 {
    [Phase::Claimed, Phase::Queued, Phase::Forwarded, Phase::Done, Phase::Unknown]
        .into_iter()
        .filter(|phase| before.allows(*phase, set))
        .fold(0, |bits, phase| bits | 1 << number_of(phase))
}

/// The parameters of a commit.
pub(super) fn commit_values(change: Change, goes_out: bool, now: Millis, instance: u64) -> Vec<Value> {
    // What stands beside comes behind it, see `beside`.
    let Change { id, owner, before, set, answer, version, resolution, turn, cells: _, event: _ } = change;
    let (kind, of_set) = match &set {
        Set::State(state) => (0, state_values(state)),
        Set::Replace(record) => (1, record_values(record)),
        Set::Remove => (2, removal_values()),
    };
    let mut values = vec![
        Value::id(id.0),
        Value::number(owner.0),
        Value::Int(fits(before, &set)),
        Value::Int(kind),
        Value::flag(goes_out),
        Value::number(now),
        Value::number(instance),
    ];
    values.extend(of_set);
    values.push(Value::Data(answer.map(crate::store::Encoded::into_bytes)));
    values.extend(move_values(version));
    values.extend(resolution_values(resolution));
    values.extend(turn_values(turn));
    values
}

/// The parameters of a turn's end.
pub(super) fn turn_values(turn: Option<TurnEnd>) -> [Value; 3] {
    [
        Value::Id(turn.map(|turn| turn.resource.0)),
        Value::Number(turn.map(|turn| turn.token.0.cast_signed())),
        Value::Number(turn.and_then(|turn| turn.rest).map(whole_millis)),
    ]
}

/// The parameters of a version's move.
pub(super) fn move_values(to: Option<crate::store::Move>) -> Vec<Value> {
    let later = to.and_then(|to| to.later);
    vec![
        Value::Id(to.map(|to| to.resource.0)),
        Value::Number(to.map(|to| to.to.cast_signed())),
        Value::Number(later.map(|(at, _)| at.cast_signed())),
        Value::Number(later.map(|(_, number)| number.cast_signed())),
        Value::Flag(to.map(|to| to.ends_rest)),
    ]
}

fn resolution_values(resolution: Option<Resolution>) -> Vec<Value> {
    let Some(Resolution { executed, who, why, at, expires_at, .. }) = resolution else {
        return vec![
            Value::Flag(None),
            Value::Data(None),
            Value::Data(None),
            Value::Number(None),
            Value::Number(None),
        ];
    };
    vec![
        Value::flag(executed),
        Value::Data(Some(who.into())),
        Value::Data(Some(why.into())),
        Value::number(at),
        Value::number(expires_at),
    ]
}

/// Milliseconds, rounded up.
pub(super) fn whole_millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// The columns that [`record`] reads.
pub(super) const RECORD: &str =
    "owner, phase, fingerprint, started_at, route, resource, state, followed, expires_at";

/// A record, read back.
///
/// # Errors
/// Where it is none of this build: it is not to be taken for an absent one.
pub(super) fn record(row: &Row) -> Result<Record, StoreError> {
    read_record(row).ok_or_else(|| {
        tracing::error!("a record in the store cannot be read: it is damaged, or a newer build wrote it");
        StoreError::Unavailable
    })
}

fn read_record(row: &Row) -> Option<Record> {
    let mut state = decode_state(column(row, "state")?).ok()?;
    let followed: bool = column(row, "followed")?;
    if let State::Forwarded { mark: Some(mark), .. } | State::Unknown { mark: Some(mark), .. } = &mut state {
        mark.followed = followed;
    }
    let text = |name| std::str::from_utf8(column(row, name)?).ok();
    Some(Record {
        owner: Owner(column::<i64>(row, "owner")?.cast_unsigned()),
        fingerprint: Fingerprint::from_bytes(column::<Uuid>(row, "fingerprint")?.0),
        started_at: column::<i64>(row, "started_at")?.cast_unsigned(),
        route: text("route")?.into(),
        resource: text("resource")?.into(),
        state,
    })
}

/// With the answer, if it is done.
pub(super) fn finished(row: &Row, record: &Record) -> Option<Finished> {
    (record.state.phase() == Phase::Done).then(|| {
        let answer = column::<Option<&[u8]>>(row, "answer").flatten().map(Bytes::copy_from_slice);
        Finished { record: record.clone(), answer }
    })
}

pub(super) fn id(row: &Row) -> Result<RecordId, StoreError> {
    column::<Uuid>(row, "id").map(|id| RecordId(id.0)).ok_or(StoreError::Unavailable)
}

/// An operator's word.
pub(super) fn resolution(id: RecordId, row: &Row) -> Option<Resolution> {
    let text = |name| String::from_utf8(column::<Vec<u8>>(row, name)?).ok();
    Some(Resolution {
        id,
        executed: column(row, "executed")?,
        who: text("who")?,
        why: text("why")?,
        at: column::<i64>(row, "moment")?.cast_unsigned(),
        expires_at: column::<i64>(row, "expires_at")?.cast_unsigned(),
    })
}
