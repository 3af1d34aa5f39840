//! What is told of what happened to a resource (E1): as it is kept, and as CloudEvents 1.0 have it.
//!
//! Kept events begin with a number of their form. One of a form that this build does not know is passed over, so that
//! instances of two builds may tell each other.

use std::sync::Arc;

use serde::Serialize;

use super::record::{Millis, Principal, RecordId};

/// What happened. The number is what stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A write was answered with a 2xx.
    Changed = 1,
    /// A write was refused as built on an old version.
    Conflict = 2,
    /// Nobody knows whether a write was done.
    Unknown = 3,
    LeaseGranted = 4,
    LeaseRenewed = 5,
    LeaseReleased = 6,
    LeaseExpired = 7,
    LeaseBroken = 8,
}

/// Who is told of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Audience {
    All = 1,
    /// The principal that did it.
    Own = 2,
    Nobody = 3,
}

impl Audience {
    /// The other way round from its number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::All, Self::Own, Self::Nobody].into_iter().find(|one| *one as u8 == number)
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Changed,
        Self::Conflict,
        Self::Unknown,
        Self::LeaseGranted,
        Self::LeaseRenewed,
        Self::LeaseReleased,
        Self::LeaseExpired,
        Self::LeaseBroken,
    ];

    /// The `type` of CloudEvents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "onceward.changed",
            Self::Conflict => "onceward.conflict",
            Self::Unknown => "onceward.unknown",
            Self::LeaseGranted => "onceward.lease.granted",
            Self::LeaseRenewed => "onceward.lease.renewed",
            Self::LeaseReleased => "onceward.lease.released",
            Self::LeaseExpired => "onceward.lease.expired",
            Self::LeaseBroken => "onceward.lease.broken",
        }
    }

    /// The other way round from its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the resource is, or may be, another after it.
    pub fn may_have_changed(self) -> bool {
        match self {
            Self::Changed | Self::Unknown => true,
            Self::Conflict
            | Self::LeaseGranted
            | Self::LeaseRenewed
            | Self::LeaseReleased
            | Self::LeaseExpired
            | Self::LeaseBroken => false,
        }
    }
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    pub kind: Kind,
    pub at: Millis,
    /// The resource.
    pub subject: &'a str,
    /// Who alone may see it (I2); `None`: everybody.
    pub only: Option<Principal>,
    /// The entity tag, with its quotes.
    pub version: Option<&'a str>,
    pub method: Option<&'a str>,
    pub status: Option<u16>,
    pub operation: Option<RecordId>,
}

/// The form of what [`Event::encoded`] gives.
const FORM: u8 = 1;
/// What of an event is there, one bit each.
const ONLY: u8 = 1;
const STATUS: u8 = 2;
const OPERATION: u8 = 4;
/// Form, kind, flags and time.
const HEAD: usize = 3 + 8;

impl<'a> Event<'a> {
    /// An event with nothing but what each one has.
    pub fn new(kind: Kind, at: Millis, subject: &'a str) -> Self {
        Self { kind, at, subject, only: None, version: None, method: None, status: None, operation: None }
    }

    /// As it is kept, in one allocation: form, kind, flags, time, what the flags say, then method, version and subject,
    /// the first two behind their lengths. An absent one is empty.
    pub fn encoded(&self) -> Arc<[u8]> {
        let [method, version] = [self.method, self.version].map(|text| short(text.unwrap_or_default()));
        let flag = |there: bool, flag: u8| if there { flag } else { 0 };
        let flags = flag(self.only.is_some(), ONLY)
            | flag(self.status.is_some(), STATUS)
            | flag(self.operation.is_some(), OPERATION);
        let status = self.status.map(u16::to_be_bytes);
        let at = self.at.to_be_bytes();
        let parts: [&[u8]; 10] = [
            &[FORM, self.kind as u8, flags],
            &at,
            self.only.as_ref().map_or(&[], |only| &only.0),
            status.as_ref().map_or(&[], |status| status),
            self.operation.as_ref().map_or(&[], |operation| &operation.0),
            &[method.1],
            method.0.as_bytes(),
            &[version.1],
            version.0.as_bytes(),
            self.subject.as_bytes(),
        ];
        let length = parts.iter().map(|part| part.len()).sum();
        let mut kept: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let mut rest = Arc::get_mut(&mut kept).unwrap_or_default();
        for part in parts {
            let Some((to, behind)) = rest.split_at_mut_checked(part.len()) else { break };
            to.copy_from_slice(part);
            rest = behind;
        }
        kept
    }

    /// The other way round; `None` for what this build does not know.
    pub fn decode(kept: &'a [u8]) -> Option<Self> {
        let (head, rest) = kept.split_at_checked(HEAD)?;
        let [FORM, kind, flags, at @ ..] = head else { return None };
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == *kind)?;
        let at = u64::from_be_bytes(at.try_into().ok()?);
        let (only, rest) = taken::<32>(rest, flags & ONLY != 0)?;
        let (status, rest) = taken::<2>(rest, flags & STATUS != 0)?;
        let (operation, rest) = taken::<16>(rest, flags & OPERATION != 0)?;
        let (method, rest) = text(rest)?;
        let (version, rest) = text(rest)?;
        Some(Self {
            kind,
            at,
            subject: std::str::from_utf8(rest).ok()?,
            only: only.map(Principal),
            version,
            method,
            status: status.map(u16::from_be_bytes),
            operation: operation.map(RecordId),
        })
    }

    /// Whether this principal may see it (I2).
    pub fn is_for(&self, principal: &Principal) -> bool {
        self.only.is_none_or(|only| only == *principal)
    }

    /// As CloudEvents 1.0 have it in JSON. `time`: its own, as RFC 3339 has it.
    pub fn cloud_event(&self, id: &str, time: &str) -> String {
        let Self { kind, subject, version, method, status, .. } = *self;
        let operation = self.operation.map(RecordId::to_text);
        let data = Data { version, method, status, operation };
        let cloud = Cloud {
            specversion: "1.0",
            id,
            source: SOURCE,
            r#type: kind.name(),
            subject,
            time,
            datacontenttype: "application/json",
            data,
        };
        // Strings and numbers under fixed names: there is nothing that could fail.
        serde_json::to_string(&cloud).unwrap_or_default()
    }
}

/// Who tells: Onceward, as an agent reaches it. With the `id` it names an event, as CloudEvents want it.
pub const SOURCE: &str = "/.onceward";

#[derive(Serialize)]
struct Cloud<'a> {
    specversion: &'a str,
    id: &'a str,
    source: &'a str,
    r#type: &'a str,
    subject: &'a str,
    time: &'a str,
    datacontenttype: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
}

/// A text with its length. One that is longer than any method or tag should be is left out: a part of a tag is none.
fn short(text: &str) -> (&str, u8) {
    u8::try_from(text.len()).map_or(("", 0), |length| (text, length))
}

/// So many bytes, where they are there.
fn taken<const LENGTH: usize>(rest: &[u8], there: bool) -> Option<(Option<[u8; LENGTH]>, &[u8])> {
    if !there {
        return Some((None, rest));
    }
    let (first, behind) = rest.split_first_chunk::<LENGTH>()?;
    Some((Some(*first), behind))
}

/// A text behind its length; `None` in it: it is absent.
fn text(rest: &[u8]) -> Option<(Option<&str>, &[u8])> {
    let (length, rest) = rest.split_first()?;
    let (text, behind) = rest.split_at_checked(usize::from(*length))?;
    let text = std::str::from_utf8(text).ok()?;
    Some((Some(text).filter(|text| !text.is_empty()), behind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(subject: &str) -> Event<'_> {
        Event {
            only: Some(Principal([7; 32])),
            version: Some("\"v\\8\""),
            method: Some("PUT"),
            status: Some(200),
            operation: Some(RecordId([0xab; 16])),
            ..Event::new(Kind::Changed, 1_767_225_600_123, subject)
        }
    }

    // E1
    #[test]
    fn an_event_is_a_cloud_event() {
        let json = all("/dé\"x\n").cloud_event("7-1", "2026-01-01T00:00:00.123Z");
        let expected = r#"{"specversion":"1.0","id":"7-1","source":"/.onceward","type":"onceward.changed","subject":"/dé\"x\n","time":"2026-01-01T00:00:00.123Z","datacontenttype":"application/json","data":{"version":"\"v\\8\"","method":"PUT","status":200,"operation":"abababababababababababababababab"}}"#;
        assert_eq!(json, expected);
        let bare = Event::new(Kind::LeaseBroken, 0, "x").cloud_event("1-2", "t");
        assert!(bare.ends_with(r#""data":{}}"#) && !bare.contains('\n'), "{bare}");
    }

    // E1, I2
    #[test]
    fn what_is_told_to_one_is_for_nobody_else() {
        let own = all("/d");
        assert!(own.is_for(&Principal([7; 32])) && !own.is_for(&Principal([8; 32])));
        assert!(Event { only: None, ..own }.is_for(&Principal([8; 32])));
    }

    #[test]
    fn what_is_kept_keeps_its_form() {
        let kept = all("/d").encoded();
        assert_eq!(kept[..3], [1, 1, 7]);
        assert_eq!(kept.len(), 11 + 32 + 2 + 16 + 4 + 6 + 2);
        let mut other = kept.to_vec();
        other[0] = 2;
        assert!(Event::decode(&other).is_none(), "another form");
        other[..2].copy_from_slice(&[1, 99]);
        assert!(Event::decode(&other).is_none(), "another kind");
        for cut in 0..kept.len() - 2 {
            assert!(Event::decode(&kept[..cut]).is_none(), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_had_again(
            kind in 0..8_usize, at: u64, subject: String, only: Option<[u8; 32]>, status: Option<u16>,
            operation: Option<[u8; 16]>, version in proptest::option::of("[!-~]{1,255}"), method: bool,
        ) {
            let event = Event {
                only: only.map(Principal),
                version: version.as_deref(),
                method: method.then_some("DELETE"),
                status,
                operation: operation.map(RecordId),
                ..Event::new(Kind::ALL[kind], at, &subject)
            };
            prop_assert!(Event::decode(&event.encoded()) == Some(event));
        }

        #[test]
        fn bytes_of_any_kind_are_read_without_harm(bytes: Vec<u8>) {
            if let Some(event) = Event::decode(&bytes) {
                prop_assert!(event.subject.len() < bytes.len());
            }
        }
    }
}
