//! Kept answers in memory: written one after the other into segments, and the segments held by moka.
//!
//! A cache entry for each answer would cost more than the answer: its key, its place in the queues and its timer come
//! to some 300 bytes. So answers are appended to a segment; a full one goes into the cache as one entry, weighed in
//! bytes, and expires with the last of its answers. What is let go first is the oldest (S2).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use moka::Expiry;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::protocol::record::Millis;

/// An answer as it is replayed.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer as bytes.
#[derive(Debug, Clone)]
pub struct Encoded {
    bytes: Bytes,
    has_content: bool,
}

impl Encoded {
    /// Its length.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is content in it, which may be let go (S2). Without any it is small, and stays in the record.
    pub(super) fn has_content(&self) -> bool {
        self.has_content
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl Answer {
    /// As bytes: status, the fields that `keep` keeps in their order and count, content.
    pub fn encode(
        status: StatusCode,
        headers: &HeaderMap,
        keep: impl Fn(&HeaderName) -> bool,
        body: &[u8],
    ) -> Encoded {
        let kept = || headers.iter().filter(|(name, _)| keep(name)).take(usize::from(u16::MAX));
        let fields: usize = kept().map(|(name, value)| name.as_str().len() + value.len() + 6).sum();
        let mut bytes = Vec::with_capacity(4 + fields + body.len());
        bytes.put_u16(status.as_u16());
        // All of these fit: a head that came in has far fewer and far shorter fields.
        bytes.put_u16(u16::try_from(kept().count()).unwrap_or(u16::MAX));
        for (name, value) in kept() {
            bytes.put_u16(u16::try_from(name.as_str().len()).unwrap_or(u16::MAX));
            bytes.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
            bytes.put_slice(name.as_str().as_bytes());
            bytes.put_slice(value.as_bytes());
        }
        bytes.put_slice(body);
        Encoded { bytes: Bytes::from(bytes), has_content: !body.is_empty() }
    }

    /// The other way round; the values share the bytes. `None` for anything that [`Self::encode`] does not give.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let status = StatusCode::from_u16(bytes.try_get_u16().ok()?).ok()?;
        let count = bytes.try_get_u16().ok()?;
        let mut headers = HeaderMap::with_capacity(usize::from(count) + 8);
        for _ in 0..count {
            let name_length = usize::from(bytes.try_get_u16().ok()?);
            let value_length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
            if bytes.len() < name_length + value_length {
                return None;
            }
            let name = HeaderName::from_bytes(&bytes.split_to(name_length)).ok()?;
            headers.append(name, HeaderValue::from_maybe_shared(bytes.split_to(value_length)).ok()?);
        }
        Some(Self { status, headers, body: bytes })
    }
}

/// Where an answer stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location {
    segment: u64,
    offset: u32,
    length: u32,
}

/// A full segment.
#[derive(Clone)]
struct Sealed {
    bytes: Bytes,
    /// When the last of its answers expires.
    until: Instant,
}

struct UntilLast;

impl Expiry<u64, Sealed> for UntilLast {
    fn expire_after_create(&self, _: &u64, sealed: &Sealed, now: Instant) -> Option<Duration> {
        Some(sealed.until.saturating_duration_since(now))
    }
}

struct Open {
    segment: u64,
    bytes: Vec<u8>,
    until: Instant,
    /// Sealed segments, the oldest first.
    order: VecDeque<u64>,
}

/// All kept answers.
pub(super) struct Answers {
    open: Mutex<Open>,
    sealed: Cache<u64, Sealed>,
    held: Arc<AtomicUsize>,
    segment_size: usize,
}

impl Answers {
    /// For at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let held = Arc::new(AtomicUsize::new(0));
        let gone = Arc::clone(&held);
        let sealed = Cache::builder()
            .max_capacity(limit as u64)
            .weigher(|_, sealed: &Sealed| u32::try_from(sealed.bytes.len()).unwrap_or(u32::MAX))
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .expire_after(UntilLast)
            .eviction_listener(move |_, sealed: Sealed, _| {
                gone.fetch_sub(sealed.bytes.len(), Ordering::Relaxed);
            })
            .build();
        let open = Open { segment: 0, bytes: Vec::new(), until: Instant::now(), order: VecDeque::new() };
        Self { open: Mutex::new(open), sealed, held, segment_size: (limit / 256).clamp(4 * 1024, 256 * 1024) }
    }

    /// Bytes that answers take now.
    pub(super) fn bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed) + self.segment_size
    }

    /// Keeps an answer for `life`.
    pub(super) fn put(&self, answer: &[u8], life: Duration) -> Option<Location> {
        let length = u32::try_from(answer.len()).ok()?;
        let until = Instant::now() + life;
        let mut open = self.open.lock();
        if open.bytes.len() + answer.len() > self.segment_size {
            self.seal(&mut open);
        }
        if open.bytes.is_empty() {
            open.bytes.reserve_exact(self.segment_size.max(answer.len()));
        }
        let offset = u32::try_from(open.bytes.len()).ok()?;
        open.bytes.extend_from_slice(answer);
        open.until = open.until.max(until);
        Some(Location { segment: open.segment, offset, length })
    }

    fn seal(&self, open: &mut Open) {
        if open.bytes.is_empty() {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut open.bytes));
        self.held.fetch_add(bytes.len(), Ordering::Relaxed);
        self.sealed.insert(open.segment, Sealed { bytes, until: open.until });
        open.order.push_back(open.segment);
        open.segment += 1;
        open.until = Instant::now();
    }

    /// The answer, or `None` where it was let go.
    pub(super) fn get(&self, at: Location) -> Option<Answer> {
        let range = usize::try_from(at.offset).ok()?..usize::try_from(at.offset + at.length).ok()?;
        {
            let open = self.open.lock();
            if open.segment == at.segment {
                return Answer::decode(Bytes::copy_from_slice(open.bytes.get(range)?));
            }
        }
        let sealed = self.sealed.get(&at.segment)?;
        (range.end <= sealed.bytes.len()).then(|| sealed.bytes.slice(range)).and_then(Answer::decode)
    }

    /// Lets the oldest segment go; `false` if there is none.
    pub(super) fn drop_oldest(&self) -> bool {
        let mut open = self.open.lock();
        while let Some(oldest) = open.order.pop_front() {
            if self.sealed.contains_key(&oldest) {
                self.sealed.invalidate(&oldest);
                self.sealed.run_pending_tasks();
                return true;
            }
        }
        false
    }

    /// Forgets what has expired.
    pub(super) fn sweep(&self, _now: Millis) {
        self.sealed.run_pending_tasks();
        let mut open = self.open.lock();
        while open.order.front().is_some_and(|oldest| !self.sealed.contains_key(oldest)) {
            open.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    // K9
    #[test]
    fn an_answer_comes_back_with_order_count_and_bytes() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-b", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        headers.append("x-a", HeaderValue::from_static("2"));
        let bytes = Answer::encode(StatusCode::CREATED, &headers, |_| true, b"\0body").bytes;
        let answer = Answer::decode(bytes.clone()).unwrap();
        assert_eq!(
            (answer.status, &answer.headers, &answer.body[..]),
            (StatusCode::CREATED, &headers, &b"\0body"[..])
        );
        for cut in 0..bytes.len() - 5 {
            assert!(Answer::decode(bytes.slice(..cut)).is_none(), "cut at {cut}");
        }
    }

    // S2
    #[test]
    fn answers_come_back_from_open_and_sealed_segments_until_let_go() {
        let answers = Answers::new(1 << 20);
        let encoded = |n: usize| {
            Answer::encode(StatusCode::OK, &HeaderMap::new(), |_| true, format!("{n:0300}").as_bytes())
        };
        let places: Vec<_> = (0..100).map(|n| answers.put(encoded(n).bytes(), LIFE).unwrap()).collect();
        for (n, place) in places.iter().enumerate() {
            assert_eq!(answers.get(*place).unwrap().body, format!("{n:0300}"));
        }
        assert!(answers.drop_oldest());
        assert!(answers.get(places[0]).is_none());
        assert!(answers.get(places[99]).is_some());
    }

    // S2
    #[test]
    fn an_answer_larger_than_a_segment_has_one_of_its_own() {
        let answers = Answers::new(1 << 20);
        let large = Answer::encode(StatusCode::OK, &HeaderMap::new(), |_| true, &[7; 100_000]);
        let at = answers.put(large.bytes(), LIFE).unwrap();
        let after = answers
            .put(Answer::encode(StatusCode::OK, &HeaderMap::new(), |_| true, b"x").bytes(), LIFE)
            .unwrap();
        assert_eq!(answers.get(at).unwrap().body.len(), 100_000);
        assert_eq!(answers.get(after).unwrap().body, "x");
    }
}
