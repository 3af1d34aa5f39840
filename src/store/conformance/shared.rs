//! What every store that instances share has to do besides: several handles on one store stand for as many instances
//! (S3, Q4, Q5).
//!
//! A handle that is closed ends as a process that is stopped, one that is dropped as a process that is killed.

mod beside;
mod turns;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{answer, done, forwarded, id, mark, record, unknown};
use crate::protocol::record::{Millis, Owner, Phase, Record, RecordId, ResourceId, State};
use crate::store::cells::Kind;
use crate::store::shared::{Also, Beside, Grant, Lapsed, News, Shared, TurnEnd, Turned, Wish};
use crate::store::{Before, Cell, CellId, Change, Claimed, Move, Put, Set, Store, StoreError};

pub(crate) use beside::*;
pub(crate) use turns::*;

/// Opens one more handle on the store under test.
type Open = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Arc<dyn Store>> + Send>> + Send + Sync>;

/// A store that nobody is on yet.
pub(crate) struct SharedCase {
    pub(crate) open: Open,
    /// A time from which its cases count.
    pub(crate) now: Millis,
}

/// One instance on it.
struct Instance {
    store: Arc<dyn Store>,
    now: Millis,
}

/// Nothing here takes as long; a test says what did not happen.
const PATIENCE: Duration = Duration::from_secs(20);
const REST: Duration = Duration::from_secs(600);

fn resource(n: u64) -> ResourceId {
    ResourceId::new(&format!("/{n}"))
}

fn wish(n: u64, token: u64) -> Wish {
    Wish { resource: resource(n), name: format!("/{n}").into(), token: Owner(token) }
}

fn end(n: u64, token: u64, rest: Option<Duration>) -> TurnEnd {
    TurnEnd { resource: resource(n), token: Owner(token), rest }
}

/// A claim with a wish for the turn, and what became of that.
pub(crate) async fn claim_in_turn(
    store: &dyn Shared,
    id: RecordId,
    record: Record,
    wish: Wish,
    now: Millis,
) -> Result<(Claimed, Option<Turned>), StoreError> {
    let (claimed, also) = store.claim_beside(id, record, Beside::Turn(wish), now).await?;
    match also {
        Some(Also::Turned(turned)) => Ok((claimed, Some(turned))),
        None => Ok((claimed, None)),
        Some(Also::Lease(lease)) => panic!("asked for a turn, told of a lease: {lease:?}"),
    }
}

/// A record of `n`'s own resource.
fn own(n: u64, owner: u64) -> Record {
    record(owner, &format!("/{n}"))
}

fn sent(n: u64, owner: u64, fence: u64) -> Record {
    Record { state: State::Forwarded { mark: mark(fence), status: None }, ..own(n, owner) }
}

/// Asks until the answer is there.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asked = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

impl SharedCase {
    async fn instance(&self) -> Instance {
        Instance { store: (self.open)().await, now: self.now }
    }
}

impl Instance {
    fn shared(&self) -> &dyn Shared {
        self.store.shared().unwrap()
    }

    async fn claim(&self, n: u64, record: Record) -> bool {
        matches!(self.store.claim(id(n), record, self.now).await.unwrap(), Claimed::New)
    }

    async fn step(&self, n: u64, owner: u64, before: Before, set: Set) -> bool {
        self.commit(Change::new(id(n), Owner(owner), before, set)).await
    }

    async fn commit(&self, change: Change) -> bool {
        self.store.commit(change, self.now).await.unwrap()
    }

    async fn phase(&self, n: u64) -> Option<Phase> {
        self.store.read(id(n), self.now).await.unwrap().map(|record| record.state.phase())
    }

    async fn ask(&self, n: u64, token: u64) -> Turned {
        self.shared().take_turn(wish(n, token), self.now).await.unwrap()
    }

    async fn granted(&self, n: u64, token: u64) -> Grant {
        match self.ask(n, token).await {
            Turned::Granted(grant) => grant,
            other @ (Turned::Busy | Turned::Rests(_)) => panic!("no turn of {n} for {token}: {other:?}"),
        }
    }

    async fn end(&self, n: u64, token: u64) {
        self.shared().end_turn(end(n, token, None)).await.unwrap();
    }

    fn news(&self) -> mpsc::Receiver<News> {
        self.shared().news().unwrap()
    }

    async fn lapsed(&self) -> Vec<Lapsed> {
        self.shared().lapsed().await.unwrap()
    }

    /// The one other instance that lapsed, as soon as it has.
    async fn waits_for_a_lapse(&self) -> Lapsed {
        until("a lapse", || async { self.lapsed().await.first().copied() }).await
    }

    async fn left_by(&self, lapsed: Lapsed) -> Vec<RecordId> {
        let left = self.shared().left_by(lapsed.instance, 99).await.unwrap();
        let mut left: Vec<_> = left.into_iter().map(|(id, _)| id).collect();
        left.sort();
        left
    }
}

/// Waits for one piece of news; others may come before.
async fn hears(news: &mut mpsc::Receiver<News>, wanted: News) {
    let heard = async { while news.recv().await.unwrap() != wanted {} };
    tokio::time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("never heard {wanted:?}"));
}

/// What has been told up to now, but that something may have been missed.
fn told(news: &mut mpsc::Receiver<News>) -> Vec<News> {
    std::iter::from_fn(|| news.try_recv().ok()).filter(|news| *news != News::Anything).collect()
}

/// S3: what one claims and ends the others see; the step counts by its owner, whoever hands it in.
pub(crate) async fn instances_see_one_store(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    assert!(one.shared().is_alive() && two.shared().is_alive());
    assert!(one.claim(1, own(1, 1)).await);
    assert!(!two.claim(1, own(1, 2)).await);
    assert!(!two.step(1, 2, Before::Claimed, forwarded(1)).await);
    assert!(two.step(1, 1, Before::Claimed, forwarded(1)).await);
    assert_eq!(one.phase(1).await, Some(Phase::Forwarded));
    assert_eq!(two.store.scan(Some(Phase::Forwarded), 9, case.now).await.unwrap().len(), 1);
}

/// K7: an answer that one instance recorded is replayed by another, byte by byte.
pub(crate) async fn another_instance_replays(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    assert!(one.claim(1, sent(1, 1, 0)).await);
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(case.now + 60_000));
    assert!(one.commit(Change { answer: answer(b"\0the body\xff"), ..change }).await);
    for instance in [&two, &one, &two] {
        let claimed = instance.store.claim(id(1), own(1, 2), case.now).await.unwrap();
        let Claimed::Taken { standing, yours } = claimed else { panic!("claimed twice") };
        assert_eq!((standing.owner, yours.owner), (Owner(1), Owner(2)));
        assert_eq!(standing.state.phase(), Phase::Done);
        let answer = instance.store.answer(id(1)).await.unwrap().unwrap();
        assert_eq!(&answer.body[..], b"\0the body\xff");
        assert_eq!(answer.headers.get_all("x-n").iter().count(), 2);
    }
    assert!(!two.claim(1, own(1, 3)).await);
    let late = Instance { now: case.now + 60_000, ..two };
    assert!(late.claim(1, own(1, 4)).await, "its time is over, whoever remembers it");
}

/// S3: what a killed instance had in flight is found by the others, its turn stands until that is settled, and the
/// late finisher's word counts as long as nobody decided otherwise.
pub(crate) async fn what_a_dead_instance_left_is_settled(case: &SharedCase) {
    let (one, dies) = (case.instance().await, case.instance().await);
    assert!(dies.claim(1, own(1, 1)).await);
    assert!(dies.claim(2, own(2, 2)).await);
    let fence = dies.granted(2, 2).await.fence;
    assert!(dies.step(2, 2, Before::Claimed, forwarded(fence)).await);
    assert!(dies.claim(3, sent(3, 3, 0)).await);
    assert!(dies.step(3, 3, Before::Forwarded, done(case.now + 60_000)).await);
    dies.granted(4, 4).await;
    assert!(one.lapsed().await.is_empty());
    drop(dies);
    let lapsed = one.waits_for_a_lapse().await;
    assert!(lapsed.ago < PATIENCE);
    assert_eq!(one.left_by(lapsed).await, [id(1), id(2)]);
    assert_eq!(one.ask(2, 9).await, Turned::Busy, "what was forwarded is not settled yet");
    one.shared().bury(lapsed.instance).await.unwrap();
    one.granted(4, 9).await;
    assert_eq!(one.ask(2, 9).await, Turned::Busy, "nor is it by a burial");
    assert_eq!(one.lapsed().await.len(), 1, "and it is not forgotten");
    assert!(one.step(1, 1, Before::Claimed, Set::Remove).await);
    let change = Change::new(id(2), Owner(2), Before::Forwarded, unknown(fence, case.now + 60_000));
    assert!(one.commit(Change { turn: Some(end(2, 2, Some(REST))), ..change.clone() }).await);
    assert!(one.commit(change).await, "two may settle at once");
    one.shared().bury(lapsed.instance).await.unwrap();
    assert!(one.lapsed().await.is_empty());
    assert!(matches!(one.ask(2, 9).await, Turned::Rests(_)));
    assert!(one.claim(1, own(1, 7)).await, "nothing went out for it");
    assert_eq!(one.store.unknown().await.unwrap(), 1);
    // It was alive after all, and knows the outcome.
    let change = Change::new(id(2), Owner(2), Before::Forwarded, done(case.now + 60_000));
    assert!(one.commit(Change { answer: answer(b"late"), ..change }).await);
    assert_eq!(&one.store.answer(id(2)).await.unwrap().unwrap().body[..], b"late");
    assert_eq!(one.store.unknown().await.unwrap(), 0);
}

/// J1, S3: a job that waits is no instance's, one that a dead instance had taken waits again, and its end is told.
pub(crate) async fn a_dead_instances_job_waits_again(case: &SharedCase) {
    let (one, dies) = (case.instance().await, case.instance().await);
    let mut heard = one.news();
    let queue = |n| Change::new(id(n), Owner(n), Before::Claimed, Set::State(State::Queued));
    for n in [1, 2] {
        let job = CellId { kind: Kind::Job, name: id(n).0 };
        let to = Cell { stamp: Owner(n), left: None, value: vec![0; 99].into() };
        let cells = vec![Put { id: job, was: None, to: Some(to), tell: None }];
        assert!(dies.claim(n, own(n, n)).await);
        assert!(one.shared().watch(id(n), case.now).await.unwrap().is_some());
        assert!(dies.commit(Change { cells, ..queue(n) }).await);
        hears(&mut heard, News::Ended(id(n))).await;
    }
    assert!(dies.step(1, 1, Before::Queued, Set::Replace(own(1, 1))).await);
    dies.granted(1, 1).await;
    drop(dies);
    let lapsed = one.waits_for_a_lapse().await;
    assert_eq!(one.left_by(lapsed).await, [id(1)]);
    assert!(one.commit(Change { turn: Some(end(1, 1, None)), ..queue(1) }).await);
    one.shared().bury(lapsed.instance).await.unwrap();
    assert!(one.lapsed().await.is_empty());
    assert_eq!(one.store.scan(Some(Phase::Queued), 9, case.now).await.unwrap().len(), 2);
    let cells = one.store.cells(Kind::Job, 9, case.now).await.unwrap();
    let listed: Vec<_> = cells.iter().map(|(_, cell)| Some(cell.value.len())).collect();
    assert_eq!(listed, [Kind::Job.listed(); 2], "a list has no bodies");
    one.granted(1, 9).await;
    for n in [1, 2] {
        assert!(one.shared().watch(id(n), case.now).await.unwrap().is_some());
        assert!(one.step(n, n, Before::Queued, Set::Replace(own(n, n + 7))).await);
        assert!(one.step(n, n + 7, Before::Claimed, forwarded(0)).await);
        assert!(one.step(n, n + 7, Before::Forwarded, done(case.now + 60_000)).await);
        hears(&mut heard, News::Ended(id(n))).await;
    }
}

/// S3: a late finisher finds what was resolved, or ran again, as it is.
pub(crate) async fn a_late_end_changes_no_decision(case: &SharedCase) {
    let one = case.instance().await;
    for n in [1, 2] {
        assert!(one.claim(n, sent(n, n, 1)).await);
        assert!(one.step(n, n, Before::Forwarded, unknown(1, case.now + 60_000)).await);
    }
    assert!(one.step(1, 1, Before::Unknown, Set::Replace(sent(1, 8, 1))).await);
    assert!(one.step(2, 2, Before::Unknown, Set::Remove).await);
    assert!(!one.step(1, 1, Before::Forwarded, done(case.now + 60_000)).await);
    assert!(!one.step(2, 2, Before::Forwarded, done(case.now + 60_000)).await);
    assert_eq!((one.phase(1).await, one.phase(2).await), (Some(Phase::Forwarded), None));
}

/// S3: a record belongs to the instance that took it over; one that runs there is not left by the first.
pub(crate) async fn what_was_taken_over_is_not_left(case: &SharedCase) {
    let (one, dies) = (case.instance().await, case.instance().await);
    for n in [1, 2] {
        assert!(dies.claim(n, sent(n, n, 1)).await);
    }
    assert!(dies.step(1, 1, Before::Forwarded, unknown(1, case.now + 60_000)).await);
    assert!(one.step(1, 1, Before::Unknown, Set::Replace(sent(1, 8, 1))).await);
    drop(dies);
    let lapsed = one.waits_for_a_lapse().await;
    assert_eq!(one.left_by(lapsed).await, [id(2)]);
    assert!(one.step(2, 2, Before::Forwarded, unknown(1, case.now + 60_000)).await);
    one.shared().bury(lapsed.instance).await.unwrap();
    assert!(one.lapsed().await.is_empty());
    assert_eq!(one.phase(1).await, Some(Phase::Forwarded));
    assert!(one.step(1, 8, Before::Forwarded, done(case.now + 60_000)).await);
}

/// S3, O5: a closed instance is over at once, and nobody waits until its time is.
pub(crate) async fn a_closed_instance_is_over(case: &SharedCase) {
    let (one, two, ends) = (case.instance().await, case.instance().await, case.instance().await);
    ends.granted(1, 1).await;
    two.granted(2, 8).await;
    assert!(ends.claim(1, own(1, 1)).await);
    ends.store.close().await.unwrap();
    assert!(ends.store.claim(id(9), own(9, 9), case.now).await.is_err(), "it takes nothing any more");
    let lapsed = one.lapsed().await;
    assert_eq!(lapsed.len(), 1);
    assert!(lapsed[0].ago < PATIENCE);
    assert_eq!(one.left_by(lapsed[0]).await, [id(1)]);
    let change = Change::new(id(1), Owner(1), Before::Claimed, Set::Remove);
    assert!(one.commit(Change { turn: Some(end(1, 1, None)), ..change }).await);
    one.shared().bury(lapsed[0].instance).await.unwrap();
    one.granted(1, 2).await;
    one.end(1, 2).await;
    two.end(2, 8).await;
    two.store.close().await.unwrap();
    assert!(one.lapsed().await.is_empty(), "it left nothing");
}

/// K6, K17: who watches a record hears of its end on any instance, and not of its being handed on.
pub(crate) async fn an_end_is_told(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let mut heard = two.news();
    let ends = [done(case.now + 60_000), unknown(0, case.now + 60_000), Set::Remove];
    for (n, end) in (1..).zip(ends) {
        assert!(one.claim(n, own(n, n)).await);
        let watched = two.shared().watch(id(n), case.now).await.unwrap().unwrap();
        assert_eq!(watched.state.phase(), Phase::Claimed);
        let owner = n + 100;
        assert!(one.step(n, n, Before::Claimed, Set::Replace(own(n, owner))).await);
        assert!(one.step(n, owner, Before::Claimed, forwarded(0)).await);
        let before = told(&mut heard);
        assert!(before.is_empty(), "{before:?}");
        assert!(one.step(n, owner, Before::Forwarded, end).await);
        hears(&mut heard, News::Ended(id(n))).await;
    }
    assert!(two.shared().watch(id(9), case.now).await.unwrap().is_none());
    let ended = two.shared().watch(id(1), case.now).await.unwrap().unwrap();
    assert_eq!(ended.state.phase(), Phase::Done);
}

/// K12, V8: what one instance's write does to a resource the others see.
pub(crate) async fn a_write_is_everywhere(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    assert!(one.claim(1, sent(7, 1, 1)).await);
    assert!(one.step(1, 1, Before::Forwarded, unknown(1, case.now + 60_000)).await);
    assert!(two.claim(2, own(7, 2)).await);
    assert!(two.step(2, 2, Before::Claimed, forwarded(2)).await);
    let record = one.store.read(id(1), case.now).await.unwrap().unwrap();
    let State::Unknown { mark: Some(mark), .. } = record.state else { panic!("{record:?}") };
    assert!(mark.followed);
    let to = two.store.next_number().await.unwrap();
    let before = one.store.minted(resource(7), case.now).await.unwrap();
    let moved = Move { resource: resource(7), to, later: None, ends_rest: false };
    two.store.move_version(moved, case.now).await.unwrap();
    let after = one.store.minted(resource(7), case.now).await.unwrap();
    assert_ne!(before, after);
    assert_eq!(after, one.store.minted_tag(resource(7), to));
    let (fence, number) = (one.store.next_fence().await.unwrap(), one.store.next_number().await.unwrap());
    assert!(two.store.next_fence().await.unwrap() > fence && two.store.next_number().await.unwrap() > number);
}

/// Runs every case, each on a store of its own.
macro_rules! on_each_shared_case {
    ($case:expr) => {
        $crate::store::conformance::shared::on_each_shared_case!($case; instances_see_one_store
            another_instance_replays a_turn_is_held_by_one the_line_is_fair nobody_waits_for_one_that_left
            a_resource_rests_for_all a_claim_asks_for_its_turn a_lost_step_ends_its_turn
            what_a_dead_instance_left_is_settled a_dead_instances_job_waits_again
            a_late_end_changes_no_decision what_was_taken_over_is_not_left
            a_closed_instance_is_over an_end_is_told busy_resources_are_seen a_write_is_everywhere one_at_a_time
            a_topic_is_told_everywhere a_grant_tells_of_the_lease a_claim_tells_of_the_lease an_event_wakes_another_instance
            events_of_many_come_once_and_in_order);
    };
    ($case:expr; $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (case, _keep) = $case;
            $crate::store::conformance::shared::$name(&case).await;
        })*
    };
}

pub(crate) use on_each_shared_case;
