//! Agents who write down what they were told, and what they asked for and were not told.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::NOW;
use crate::protocol::record::{Owner, ResourceId, State};
use crate::store::cells::Kind;
use crate::store::conformance::{answer, forwarded, id, mark, record};
use crate::store::disk::Disk;
use crate::store::{
    Before, Cell, CellId, Change, Claimed, Move, Number, Place, Put, Reply, Resolution, Set, Store, Swap,
};

/// All of one key that a store keeps, in one commit each time.
#[derive(Debug, Clone, PartialEq, Default)]
struct Truth {
    /// `None`: nothing, or a claim that nothing went out for.
    state: Option<State>,
    body: Option<Vec<u8>>,
    /// The minted version of its resource, where it has one of its own.
    number: Option<Number>,
    resolutions: usize,
    /// What stands in its cell, with its stamp.
    cell: Option<(u64, String)>,
    /// All that was told of it, in order.
    told: Vec<String>,
    /// It waits as a job, whose request stands in a cell (J1).
    job: bool,
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

fn job(n: u64) -> CellId {
    CellId { kind: Kind::Job, name: id(n).0 }
}

fn forwarded_as(fence: u64) -> Option<State> {
    Some(State::Forwarded { mark: mark(fence), status: None })
}

fn cell(n: u64) -> CellId {
    CellId::lease(resource(n))
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
        let mut owner = n * 10 + 1;
        let claim = self.store.claim(id(n), record(owner, &format!("/{n}")), NOW).await;
        assert!(matches!(claim.map_err(|_| NotTold)?, Claimed::New), "key {n} was claimed before");
        let mut truth = Truth::default();
        self.book.keys.lock().entry(n).or_default().truths = vec![truth.clone()];
        if self.random.u8(..4) == 0 {
            self.swap(n, &mut truth).await?;
        }
        if self.random.u8(..8) == 0 {
            // Refused: nothing of it is kept but what is told of that.
            let change = Change::new(id(n), Owner(owner), Before::Claimed, Set::Remove);
            return self.step(n, change, &mut truth).await;
        }
        let fence = self.fence().await?;
        truth.state = forwarded_as(fence);
        let mut change = Change::new(id(n), Owner(owner), Before::Claimed, forwarded(fence));
        if self.random.u8(..3) == 0 {
            owner = self.waits(n, owner, &mut truth).await?;
            (change.owner, truth.job, truth.state) = (Owner(owner), false, forwarded_as(fence));
            change.cells.push(Put { id: job(n), was: Some(Owner(n)), to: None, tell: None });
        }
        self.step(n, change, &mut truth).await?;
        let end = |set| Change::new(id(n), Owner(owner), Before::Forwarded, set);
        match self.random.u8(..8) {
            0 => {
                truth.state = None;
                self.step(n, end(Set::Remove), &mut truth).await
            }
            1 => self.ends_unknown(n, owner, fence, truth).await,
            2 => {
                let streams = State::Forwarded { mark: mark(fence), status: Some(200) };
                truth.state = Some(streams.clone());
                self.step(n, end(Set::State(streams)), &mut truth).await?;
                self.finish(n, end, truth, None).await
            }
            _ => {
                let length = [0, 10, 300, 3_000, 70_000][self.random.usize(..5)];
                let body = std::iter::repeat_with(|| self.random.u8(..)).take(length).collect();
                self.finish(n, end, truth, Some(body)).await
            }
        }
    }

    /// It is queued, taken, given back and taken again. Who took it last.
    async fn waits(&mut self, n: u64, owner: u64, truth: &mut Truth) -> Result<u64, NotTold> {
        (truth.state, truth.job) = (Some(State::Queued), true);
        let to = Some(Cell { stamp: Owner(n), left: None, value: b"sealed".as_slice().into() });
        let cells = vec![Put { id: job(n), was: None, to, tell: None }];
        let queued = || Set::State(State::Queued);
        let change = Change::new(id(n), Owner(owner), Before::Claimed, queued());
        self.step(n, Change { cells, ..change }, truth).await?;
        for last in [owner, owner + 1] {
            let taken = Set::Replace(record(last + 1, &format!("/{n}")));
            let taken = Change::new(id(n), Owner(last), Before::Queued, taken);
            assert!(self.store.commit(taken, NOW).await.map_err(|_| NotTold)?, "key {n} cannot be taken");
            if last == owner {
                let back = Change::new(id(n), Owner(last + 1), Before::Claimed, queued());
                assert!(
                    self.store.commit(back, NOW).await.map_err(|_| NotTold)?,
                    "key {n} cannot be given back"
                );
            }
        }
        Ok(owner + 2)
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
        self.step(n, Change { answer, version, ..end(Set::State(done)) }, &mut truth).await
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
        self.step(n, change, &mut truth).await?;
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
        self.step(n, Change { resolution: Some(resolution), ..change }, &mut truth).await
    }

    /// What goes with every other step: a cell that is swapped or taken away, and an event.
    fn beside(&mut self, n: u64, truth: &mut Truth) -> Swap {
        let number = truth.told.len() as u64 + 1;
        let (text, stamp) = (format!("{n}.{number}"), n * 100 + number);
        let left = self.random.bool().then_some(std::time::Duration::from_secs(60));
        let stands = truth.cell.is_none() || self.random.bool();
        let to = Cell { stamp: Owner(stamp), left, value: text.as_bytes().into() };
        let was = truth.cell.as_ref().map(|(stamp, _)| Owner(*stamp));
        truth.cell = stands.then(|| (stamp, text.clone()));
        truth.told.push(text.clone());
        let puts = vec![Put { id: cell(n), was, to: stands.then_some(to), tell: None }];
        Swap { puts, event: Some(text.as_bytes().into()), turn: None }
    }

    async fn step(&mut self, n: u64, mut change: Change, truth: &mut Truth) -> Result<(), NotTold> {
        if self.random.bool() {
            let beside = self.beside(n, truth);
            change.cells.extend(beside.puts);
            change.event = beside.event;
        }
        self.until_told(n, truth, |store| store.commit(change.clone(), NOW)).await
    }

    async fn swap(&mut self, n: u64, truth: &mut Truth) -> Result<(), NotTold> {
        let swap = self.beside(n, truth);
        self.until_told(n, truth, |store| store.swap(swap.clone(), NOW)).await
    }

    async fn until_told(
        &self,
        n: u64,
        truth: &Truth,
        ask: impl Fn(&Disk) -> Reply<bool>,
    ) -> Result<(), NotTold> {
        self.book.keys.lock().entry(n).or_default().truths.push(truth.clone());
        loop {
            match ask(&self.store).await {
                Ok(done) => {
                    assert!(done, "key {n} is another's: {truth:?}");
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
        let start = Place { number: 0, ..store.last_event().await.unwrap() };
        let told = store.events(start, usize::MAX, NOW).await.unwrap().expect("all events are held");
        let told: Vec<_> = told.iter().map(|event| String::from_utf8(event.to_vec()).unwrap()).collect();
        for (n, truths) in keys {
            let found = truth(store, n, &told).await;
            let fitting = truths.contains(&found) && (!exactly || truths.len() == 1);
            assert!(fitting, "key {n} is {found:?}, and not one of {truths:?}");
            self.keys.lock().entry(n).or_default().truths = vec![found];
        }
        let (number, fence) = (store.next_number().await.unwrap(), store.next_fence().await.unwrap());
        assert!(number > *self.numbers.lock() && fence > *self.fences.lock(), "given twice");
    }
}

async fn truth(store: &Disk, n: u64, told: &[String]) -> Truth {
    let state = store.read(id(n), NOW).await.unwrap().map(|record| record.state);
    let body = match &state {
        Some(State::Done { .. }) => store.answer(id(n)).await.unwrap().map(|answer| answer.body.to_vec()),
        Some(State::Claimed | State::Queued | State::Forwarded { .. } | State::Unknown { .. }) | None => None,
    };
    let tag = store.minted(resource(n), NOW).await.unwrap();
    let number = tag.split('.').nth(1).map(|number| u64::from_str_radix(number, 16).unwrap());
    let job = store.cell(job(n), NOW).await.unwrap().is_some();
    let state = match state {
        // Who runs a job is in no file.
        Some(State::Claimed) if job => Some(State::Queued),
        Some(State::Claimed) => None,
        state => state,
    };
    let resolutions = store.resolutions(id(n), NOW).await.unwrap().len();
    let cell = store.cell(cell(n), NOW).await.unwrap();
    let cell = cell.map(|cell| (cell.stamp.0, String::from_utf8(cell.value.into()).unwrap()));
    let own = |event: &&String| event.split_once('.').is_some_and(|(key, _)| key == n.to_string());
    let told = told.iter().filter(own).cloned().collect();
    Truth { state, body, number: number.filter(|number| *number > 0), resolutions, cell, told, job }
}
