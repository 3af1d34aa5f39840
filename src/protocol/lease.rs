//! Leases: an agent's own hold on a resource for a time (section L).
//!
//! 1. An agent names its lease by a token. Only a digest of that is kept, so whoever reads the store cannot use it.
//! 2. A lease stands in two places: under its resource as long as it is held, and under its digest, where it stays for
//!    a while after its end, so that "ended" and "never was" can be told apart.
//! 3. A lease whose time is over has ended, whether or not somebody has taken note of that.
//! 4. What another principal shows is as one that never was (I2).

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use super::event::Audience;
use super::record::{Millis, Owner, Principal, ResourceId};

/// Names a lease to operators, and in the store: a digest of its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub [u8; 16]);

/// The longest text that can be a token.
const LONGEST: usize = 128;

/// Makes a token of 128 bits of randomness.
pub fn token(random: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(random))
}

impl LeaseId {
    /// Of a token that an agent shows; `None` where the text cannot be one.
    pub fn of(token: &[u8]) -> Option<Self> {
        let fits = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',');
        if token.is_empty() || token.len() > LONGEST || !token.iter().all(fits) {
            return None;
        }
        Some(Self(digest(b"lease of", token)))
    }

    /// Lower-case hexadecimal, 32 characters.
    pub fn to_text(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// The other way round; `None` for anything but what [`Self::to_text`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        super::record::RecordId::parse(text).map(|id| Self(id.0))
    }
}

/// Where it is told that a resource is free again.
pub fn topic(resource: ResourceId) -> [u8; 16] {
    digest(b"lease end", &resource.0)
}

/// Where it is counted how many leases a principal holds.
pub fn counter(principal: &Principal) -> [u8; 16] {
    digest(b"leases of", &principal.0)
}

fn digest(what: &[u8], of: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(what).update(b"\0").update(of);
    let mut first = [0; 16];
    first.iter_mut().zip(hasher.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    first
}

/// A lease that is held.
#[derive(Clone, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    pub principal: Principal,
    /// Above all that were ever given for its resource (L3).
    pub fence: u64,
    /// How long it was asked for, for a renewal that does not say.
    pub asked: Millis,
    /// The route by whose rules it was granted.
    pub route: Arc<str>,
    /// Who is told what becomes of it, by those rules.
    pub audience: Audience,
    pub resource: Box<str>,
}

/// What stands under the digest of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Named {
    pub ended: bool,
    pub principal: Principal,
    pub resource: Box<str>,
}

/// A lease as it stands in a store.
#[derive(Clone, PartialEq, Eq)]
pub struct Standing {
    pub stamp: Owner,
    pub lease: Lease,
    /// By the store's clock; zero: its time is over.
    pub left: Duration,
}

/// The first bytes of what is kept: what it is, and in which form.
const LEASE: [u8; 2] = *b"L\x01";
const NAMED: [u8; 2] = *b"l\x01";
const COUNT: [u8; 2] = *b"c\x01";

impl Lease {
    /// As bytes.
    pub fn encode(&self) -> Box<[u8]> {
        let route = self.route.as_bytes();
        let length = u16::try_from(route.len()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(85 + route.len() + self.resource.len());
        bytes.extend_from_slice(&LEASE);
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.principal.0);
        bytes.extend_from_slice(&self.fence.to_be_bytes());
        bytes.extend_from_slice(&self.asked.to_be_bytes());
        bytes.push(self.audience as u8);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(route.get(..usize::from(length)).unwrap_or_default());
        bytes.extend_from_slice(self.resource.as_bytes());
        bytes.into()
    }

    /// The other way round; `None` for anything that [`Self::encode`] does not give.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first_chunk::<2>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let (principal, rest) = rest.split_first_chunk::<32>()?;
        let (fence, rest) = rest.split_first_chunk::<8>()?;
        let (asked, rest) = rest.split_first_chunk::<8>()?;
        let (audience, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (route, resource) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        (*form == LEASE).then_some(Self {
            id: LeaseId(*id),
            principal: Principal(*principal),
            fence: u64::from_be_bytes(*fence),
            asked: Millis::from_be_bytes(*asked),
            audience: Audience::from_number(*audience)?,
            route: std::str::from_utf8(route).ok()?.into(),
            resource: std::str::from_utf8(resource).ok()?.into(),
        })
    }
}

impl Named {
    /// As bytes.
    pub fn encode(&self) -> Box<[u8]> {
        let ended = [u8::from(self.ended)];
        [&NAMED[..], &ended, &self.principal.0, self.resource.as_bytes()].concat().into()
    }

    /// The other way round; `None` for anything that [`Self::encode`] does not give.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first_chunk::<2>()?;
        let (ended, rest) = rest.split_first_chunk::<1>()?;
        let (principal, resource) = rest.split_first_chunk::<32>()?;
        (*form == NAMED && ended[0] <= 1).then_some(Self {
            ended: ended[0] == 1,
            principal: Principal(*principal),
            resource: std::str::from_utf8(resource).ok()?.into(),
        })
    }
}

/// How many leases a principal holds, as bytes.
pub fn encode_count(count: u32) -> Box<[u8]> {
    [&COUNT[..], &count.to_be_bytes()].concat().into()
}

/// The other way round.
pub fn decode_count(bytes: &[u8]) -> Option<u32> {
    let (form, count) = bytes.split_first_chunk::<2>()?;
    let count = <[u8; 4]>::try_from(count).ok()?;
    (*form == COUNT).then(|| u32::from_be_bytes(count))
}

impl Standing {
    /// Whether its time is not over.
    pub fn lives(&self) -> bool {
        !self.left.is_zero()
    }

    /// Whether it is the one that this principal shows.
    pub fn is(&self, id: LeaseId, principal: &Principal) -> bool {
        self.lease.id == id && self.lease.principal == *principal
    }

    /// Whole seconds until its time is over, rounded up.
    pub fn seconds(&self) -> u64 {
        self.left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
    }
}

/// What a write to a resource is told by its lease (L2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody holds it, and the write does not say that it does.
    Free,
    /// The write's own agent holds it.
    Held { fence: u64 },
    /// Another does, for so long.
    Leased { seconds: u64 },
    /// The lease that it shows has ended, or is none of this resource.
    Lost,
}

/// L2. `shown`: the lease that the write names, and whether it once was its principal's on this resource, which counts
/// only while another's stands.
///
/// A write that shows any lease is never let through as one that shows none: what it was made for was a lease that
/// held.
pub fn of_write(
    standing: Option<&Standing>,
    principal: &Principal,
    shown: Option<(LeaseId, bool)>,
) -> Verdict {
    let living = standing.filter(|standing| standing.lives());
    match (living, shown) {
        (None, None) => Verdict::Free,
        (None, Some(_)) => Verdict::Lost,
        (Some(held), Some((id, _))) if held.is(id, principal) => Verdict::Held { fence: held.lease.fence },
        (Some(_), Some((_, true))) => Verdict::Lost,
        (Some(held), Some((_, false)) | None) => Verdict::Leased { seconds: held.seconds() },
    }
}

/// What becomes of a renewal, or of a lease that is given back (L1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is held.
    Lives,
    /// It ended by its time, and nobody has taken note of that.
    RanOut,
    /// It has ended.
    Ended,
    /// There never was one, or it is another's.
    Never,
}

/// What is held of a lease that a principal names. `named` and `standing` are what stands under its digest and under
/// the resource that is named there.
pub fn hold(id: LeaseId, principal: &Principal, named: Option<&Named>, standing: Option<&Standing>) -> Hold {
    match named.filter(|named| named.principal == *principal) {
        None => Hold::Never,
        Some(Named { ended: true, .. }) => Hold::Ended,
        Some(Named { ended: false, .. }) => match standing.filter(|standing| standing.is(id, principal)) {
            Some(standing) if standing.lives() => Hold::Lives,
            Some(_) => Hold::RanOut,
            None => Hold::Ended,
        },
    }
}

/// What is told of a lease (E1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Granted,
    Renewed,
    Released,
    Expired,
    Broken,
}
