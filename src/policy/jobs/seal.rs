//! A request as it waits in the store: sealed by `store.secret`, since it holds an agent's credentials and content.
//!
//! One byte of format, the order and the resource in clear, a random nonce, then ChaCha20-Poly1305 (RFC 8439) over the
//! request. The record's id and what is in clear are authenticated with it: no request runs under another's record.

use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::line::Job;
use crate::http::{Request, fields};
use crate::protocol::prefer;
use crate::protocol::record::{Principal, RecordId, ResourceId};
use crate::store::cells::Kind;

/// The format that is written.
const FORMAT: u8 = 1;
/// Format, order, resource.
const CLEAR: usize = 1 + 8 + 16;
/// A list of jobs tells it.
const _: () = assert!(matches!(Kind::Job.listed(), Some(listed) if listed >= CLEAR));

/// A request that was asked for before it runs.
pub struct Asked {
    pub method: Method,
    pub version: Version,
    pub target: PathAndQuery,
    pub host: HeaderValue,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub principal: Principal,
    pub route: Arc<str>,
    /// For `X-Forwarded-For` and `Forwarded`.
    pub ip: HeaderValue,
    pub forwarded_for: String,
}

#[derive(Serialize, Deserialize)]
struct Plain<'a> {
    method: &'a str,
    /// 10, 11 or 20.
    version: u8,
    target: &'a str,
    host: &'a [u8],
    headers: Vec<(&'a str, &'a [u8])>,
    body: &'a [u8],
    principal: [u8; 32],
    route: &'a str,
    ip: &'a [u8],
    forwarded_for: &'a str,
}

/// Seals and opens.
pub(super) struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Sealer {
    pub(super) fn new(secret: &[u8; 32]) -> Option<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, secret).ok()?;
        Some(Self { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// The value of a job's cell.
    pub(super) fn seal(
        &self,
        job: &Job,
        (request, body): (&Request, &[u8]),
        principal: &Principal,
        route: &str,
    ) -> Option<Vec<u8>> {
        let mut headers = request.headers.clone();
        fields::strip_hops(&mut headers);
        used_up(&mut headers);
        let plain = Plain {
            method: request.method.as_str(),
            version: match request.version {
                Version::HTTP_10 => 10,
                Version::HTTP_2 => 20,
                _ => 11,
            },
            target: request.target.as_str(),
            host: request.host.as_bytes(),
            headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
            body,
            principal: principal.0,
            route,
            ip: request.peer.ip.as_bytes(),
            forwarded_for: &request.peer.forwarded_for,
        };
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut text = postcard::to_stdvec(&plain).ok()?;
        let mut value = Vec::with_capacity(CLEAR + NONCE_LEN + text.len() + CHACHA20_POLY1305.tag_len());
        value.push(FORMAT);
        value.extend_from_slice(&job.order.to_be_bytes());
        value.extend_from_slice(&job.resource.0);
        let bound = bound(job.id, &value);
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text)
            .ok()?;
        value.extend_from_slice(&nonce);
        value.append(&mut text);
        Some(value)
    }

    /// The other way round; `None` for what this secret did not seal for this record.
    pub(super) fn open(&self, id: RecordId, value: &[u8]) -> Option<Asked> {
        let (clear, rest) = value.split_at_checked(CLEAR)?;
        if clear.first() != Some(&FORMAT) {
            return None;
        }
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let text = self.key.open_in_place(nonce, Aad::from(bound(id, clear)), &mut sealed).ok()?;
        let plain: Plain<'_> = postcard::from_bytes(text).ok()?;
        let mut headers = HeaderMap::with_capacity(plain.headers.len());
        for (name, value) in plain.headers {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
        Some(Asked {
            method: Method::from_bytes(plain.method.as_bytes()).ok()?,
            version: match plain.version {
                10 => Version::HTTP_10,
                20 => Version::HTTP_2,
                _ => Version::HTTP_11,
            },
            target: plain.target.parse().ok()?,
            host: HeaderValue::from_bytes(plain.host).ok()?,
            headers,
            body: Bytes::copy_from_slice(plain.body),
            principal: Principal(plain.principal),
            route: plain.route.into(),
            ip: HeaderValue::from_bytes(plain.ip).ok()?,
            forwarded_for: plain.forwarded_for.to_owned(),
        })
    }
}

/// The wait and the answer ahead were asked of Onceward, and are used up (W1, J1).
fn used_up(headers: &mut HeaderMap) {
    let left = prefer::without(&fields::lines(headers, &fields::PREFER), &["wait", "respond-async"]);
    match left.and_then(|left| HeaderValue::from_bytes(&left).ok()) {
        Some(left) => drop(headers.insert(fields::PREFER, left)),
        None => drop(headers.remove(fields::PREFER)),
    }
}

fn bound(id: RecordId, clear: &[u8]) -> Vec<u8> {
    [&id.0[..], clear].concat()
}

/// What the cell of a job says in clear.
pub(super) fn job(id: RecordId, value: &[u8]) -> Option<Job> {
    let (clear, _) = value.split_at_checked(CLEAR)?;
    let (format, rest) = clear.split_first()?;
    let (order, resource) = rest.split_at_checked(8)?;
    let order = u64::from_be_bytes(order.try_into().ok()?);
    (*format == FORMAT).then_some(Job { id, resource: ResourceId(resource.try_into().ok()?), order })
}
