//! What goes into a statement, each with its type: nothing is prepared by name, so that a pooler may stand between.

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

type Failed = Box<dyn std::error::Error + Sync + Send>;

/// One parameter.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Id(Option<[u8; 16]>),
    Ids(Vec<[u8; 16]>),
    MaybeIds(Vec<Option<[u8; 16]>>),
    Number(Option<i64>),
    Numbers(Vec<Option<i64>>),
    Int(i32),
    Phase(i16),
    Flag(Option<bool>),
    Data(Option<Bytes>),
    Texts(Vec<Option<Bytes>>),
}

impl Value {
    /// A number of ours; all are below 2^63, but for owners and instances, whose bits are kept.
    pub(super) fn number(number: u64) -> Self {
        Self::Number(Some(number.cast_signed()))
    }

    pub(super) fn id(id: [u8; 16]) -> Self {
        Self::Id(Some(id))
    }

    pub(super) fn flag(flag: bool) -> Self {
        Self::Flag(Some(flag))
    }

    pub(super) fn data(data: &[u8]) -> Self {
        Self::Data(Some(Bytes::copy_from_slice(data)))
    }

    pub(super) fn of_type(&self) -> Type {
        match self {
            Self::Id(_) => Type::UUID,
            Self::Ids(_) | Self::MaybeIds(_) => Type::UUID_ARRAY,
            Self::Number(_) => Type::INT8,
            Self::Numbers(_) => Type::INT8_ARRAY,
            Self::Int(_) => Type::INT4,
            Self::Phase(_) => Type::INT2,
            Self::Flag(_) => Type::BOOL,
            Self::Data(_) => Type::BYTEA,
            Self::Texts(_) => Type::BYTEA_ARRAY,
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match self {
            Self::Id(id) => id.map(Uuid).to_sql(ty, out),
            Self::Ids(ids) => ids.iter().copied().map(Uuid).collect::<Vec<_>>().to_sql(ty, out),
            Self::MaybeIds(ids) => ids.iter().map(|id| id.map(Uuid)).collect::<Vec<_>>().to_sql(ty, out),
            Self::Number(number) => number.to_sql(ty, out),
            Self::Numbers(numbers) => numbers.to_sql(ty, out),
            Self::Int(number) => number.to_sql(ty, out),
            Self::Phase(phase) => phase.to_sql(ty, out),
            Self::Flag(flag) => flag.to_sql(ty, out),
            Self::Data(data) => data.as_deref().to_sql(ty, out),
            Self::Texts(texts) => texts.iter().map(Option::as_deref).collect::<Vec<_>>().to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        self.to_sql(ty, out)
    }
}

/// Sixteen bytes, which take less room as a `uuid` than as a `bytea`, and can be read by people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uuid(pub(super) [u8; 16]);

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        self.to_sql(ty, out)
    }
}

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

/// A column of a row; `None` where there is none, or another type in it.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Option<T> {
    row.try_get(name).ok()
}
