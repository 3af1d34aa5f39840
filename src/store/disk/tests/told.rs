//! Agents who write down what they were told, and what they asked for and were not told.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::NOW;
use crate::protocol::record::{Owner, ResourceId, State};
use crate::store::conformance::{answer, forwarded, id, mark, record};
use crate::store::disk::Disk;
use crate::store::{Before, Change, Claimed, Move, Number, Resolution, Set, Store};

/// All of one key that a store keeps, in one commit each time.
#[derive(Debug, Clone, PartialEq, Default)]
struct Truth {
    /// `None`: nothing, or a claim that nothing went out for.
    state: Option<State>,
    body: Option<Vec<u8>>,
    /// The minted version of its resource, where it has one of its own.
    number: Option<Number>,
    resolutions: usize,
}

#[derive(Default)]
struct Key {
    /// What it is, or one of what it may be.
    truths: Vec<Truth>,
}

/// What all agents were told.
#[derive(Default)]
pub(super) struct Book {
    keys: Mutex<HashMap<u64, Key>>,
    numbers: Mutex<u64>,
    fences: Mutex<u64>,
}

/// One agent, with keys of its own.
pub(super) struct Agent {
    pub(super) store: Arc<Disk>,
    pub(super) book: Arc<Book>,
    pub(super) random: fastrand::Rng,
    /// Asks again until it is told; else it ends at the first failure.
    pub(super) insists: bool,
}

/// The store did not say what became of a step.
pub(super) struct NotTold;

fn resource(n: u64) -> ResourceId {
    ResourceId::new(&format!("/{n}"))
}

impl Agent {
    /// Works on so many keys, one after another.
    pub(super) async fn work(mut self, keys: std::ops::Range<u64>) {
        for n in keys {
            if self.one(n).await.is_err() {
                return;
            }
        }
    }

    async fn one(&mut self, n: u64) -> Result<(), NotTold> {
        let owner = n * 10 + 1;
        let claim = self.store.claim(id(n), record(owner, &format!("/{n}")), NOW).await;
        assert!(matches!(claim.map_err(|_| NotTold)?, Claimed::New), "key {n} was claimed before");
        let mut truth = Truth::default();
        self.book.keys.lock().entry(n).or_default().truths = vec![truth.clone()];
        let fence = self.fence().await?;
        truth.state = Some(State::Forwarded { mark: mark(fence), status: None });
        self.step(n, Change::new(id(n), Owner(owner), Before::Claimed, forwarded(fence)), &truth).await?;
        let end = |set| Change::new(id(n), Owner(owner), Before::Forwarded, set);
        match self.random.u8(..8) {
            0 => {
                truth.state = None;
                self.step(n, end(Set::Remove), &truth).await
            }
            1 => self.ends_unknown(n, owner, fence, truth).await,
            2 => {
                let streams = State::Forwarded { mark: mark(fence), status: Some(200) };
                truth.state = Some(streams.clone());
                self.step(n, end(Set::State(streams)), &truth).await?;
                self.finish(n, end, truth, None).await
            }
            _ => {
                let length = [0, 10, 300, 3_000, 70_000][self.random.usize(..5)];
                let body = std::iter::repeat_with(|| self.random.u8(..)).take(length).collect();
                self.finish(n, end, truth, Some(body)).await
            }
        }
    }

    async fn finish(
        &mut self,
        n: u64,
        end: impl Fn(Set) -> Change,
        mut truth: Truth,
        body: Option<Vec<u8>>,
    ) -> Result<(), NotTold> {
        let expires_at = if self.random.u8(..4) == 0 { NOW } else { NOW + 1000 + self.random.u64(..9) };
        let done = State::Done { status: 201, kept: body.is_some(), completed_at: 1, expires_at };
        let lives = expires_at > NOW;
        truth.state = lives.then(|| done.clone());
        let to = self.number().await?;
        truth.number = Some(to);
        let version = Some(Move { resource: resource(n), to, later: None, ends_rest: false });
        let answer = body.as_deref().and_then(answer);
        truth.body = body.filter(|_| lives);
        self.step(n, Change { answer, version, ..end(Set::State(done)) }, &truth).await
    }

    async fn ends_unknown(
        &mut self,
        n: u64,
        owner: u64,
        fence: u64,
        mut truth: Truth,
    ) -> Result<(), NotTold> {
        let unknown = State::Unknown { mark: mark(fence), since: 1, expires_at: NOW + 1000 };
        truth.state = Some(unknown.clone());
        let change = Change::new(id(n), Owner(owner), Before::Forwarded, Set::State(unknown));
        self.step(n, change, &truth).await?;
        let executed = self.random.bool();
        let done = State::Done { status: 204, kept: false, completed_at: 1, expires_at: NOW + 2000 };
        truth.state = executed.then(|| done.clone());
        truth.resolutions = 1;
        let resolution = Resolution {
            id: id(n),
            executed,
            who: "ops".to_owned(),
            why: "seen".to_owned(),
            at: NOW,
            expires_at: NOW + 500,
        };
        let set = if executed { Set::State(done) } else { Set::Remove };
        let change = Change::new(id(n), Owner(owner), Before::Unknown, set);
        self.step(n, Change { resolution: Some(resolution), ..change }, &truth).await
    }

    async fn step(&self, n: u64, change: Change, truth: &Truth) -> Result<(), NotTold> {
        self.book.keys.lock().entry(n).or_default().truths.push(truth.clone());
        loop {
            match self.store.commit(change.clone(), NOW).await {
                Ok(done) => {
                    assert!(done, "key {n} is another's: {change:?}");
                    self.book.keys.lock().entry(n).or_default().truths = vec![truth.clone()];
                    return Ok(());
                }
                Err(_) if self.insists => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
                Err(_) => return Err(NotTold),
            }
        }
    }

    async fn number(&self) -> Result<Number, NotTold> {
        let number = self.store.next_number().await.map_err(|_| NotTold)?;
        let mut most = self.book.numbers.lock();
        *most = number.max(*most);
        Ok(number)
    }

    async fn fence(&self) -> Result<u64, NotTold> {
        let fence = self.store.next_fence().await.map_err(|_| NotTold)?;
        let mut most = self.book.fences.lock();
        *most = fence.max(*most);
        Ok(fence)
    }
}

impl Book {
    /// The store holds what everybody was told; what was not told is there as a whole or not at all, and becomes what
    /// is known from here on.
    pub(super) async fn check(&self, store: &Disk, exactly: bool) {
        let keys: Vec<_> = self.keys.lock().iter().map(|(n, key)| (*n, key.truths.clone())).collect();
        for (n, truths) in keys {
            let found = truth(store, n).await;
            let fitting = truths.contains(&found) && (!exactly || truths.len() == 1);
            assert!(fitting, "key {n} is {found:?}, and not one of {truths:?}");
            self.keys.lock().entry(n).or_default().truths = vec![found];
        }
        let (number, fence) = (store.next_number().await.unwrap(), store.next_fence().await.unwrap());
        assert!(number > *self.numbers.lock() && fence > *self.fences.lock(), "given twice");
    }
}

async fn truth(store: &Disk, n: u64) -> Truth {
    let state = store.read(id(n), NOW).await.unwrap().map(|record| record.state);
    let body = match &state {
        Some(State::Done { .. }) => store.answer(id(n)).await.unwrap().map(|answer| answer.body.to_vec()),
        Some(State::Claimed | State::Forwarded { .. } | State::Unknown { .. }) | None => None,
    };
    let tag = store.minted(resource(n), NOW).await.unwrap();
    let number = tag.split('.').nth(1).map(|number| u64::from_str_radix(number, 16).unwrap());
    let state = state.filter(|state| !matches!(state, State::Claimed));
    let resolutions = store.resolutions(id(n), NOW).await.unwrap().len();
    Truth { state, body, number: number.filter(|number| *number > 0), resolutions }
}
