//! What every store that instances share has to do besides: several handles on one store stand for as many instances
//! (S3, Q4, Q5).
//!
//! A handle that is closed ends as a process that is stopped, one that is dropped as a process that is killed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{answer, done, forwarded, id, mark, record, unknown};
use crate::protocol::record::{Millis, Owner, Phase, Record, RecordId, ResourceId, State};
use crate::store::shared::{Grant, Lapsed, News, Shared, TurnEnd, Turned, Wish};
use crate::store::{Before, Change, Claimed, Move, Set, Store};

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

/// Q4, L3: one has the turn, whoever asks; each fence is above all before it.
pub(crate) async fn a_turn_is_held_by_one(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let mut heard = two.news();
    let first = one.granted(1, 1).await;
    assert!(first.fence < 1 << 53);
    assert_eq!(two.ask(1, 2).await, Turned::Busy);
    assert_eq!(one.ask(1, 3).await, Turned::Busy, "not the same instance either");
    assert_eq!(one.granted(1, 1).await.fence, first.fence, "the same asked again is the same turn");
    assert!(two.granted(2, 9).await.fence > first.fence, "another resource is not held up");
    two.end(1, 2).await;
    assert_eq!(two.ask(1, 2).await, Turned::Busy, "it was not its to end");
    one.end(1, 1).await;
    hears(&mut heard, News::Freed(resource(1))).await;
    let second = two.granted(1, 2).await;
    assert!(second.fence > first.fence);
    one.end(1, 1).await;
    assert_eq!(one.ask(1, 3).await, Turned::Busy, "the same end again ends nothing");
    two.end(1, 2).await;
    one.granted(1, 3).await;
}

/// Q4: instances stand in line once each, first come first served, and one that asks always starves none.
pub(crate) async fn the_line_is_fair(case: &SharedCase) {
    let (one, two, three) = (case.instance().await, case.instance().await, case.instance().await);
    let (mut two_hears, mut three_hears) = (two.news(), three.news());
    one.granted(1, 1).await;
    for _ in 0..3 {
        assert_eq!(two.ask(1, 2).await, Turned::Busy);
        assert_eq!(three.ask(1, 3).await, Turned::Busy);
        assert_eq!(one.ask(1, 4).await, Turned::Busy);
    }
    one.end(1, 1).await;
    assert_eq!(one.ask(1, 4).await, Turned::Busy, "two came first");
    assert_eq!(three.ask(1, 3).await, Turned::Busy, "two came first");
    hears(&mut two_hears, News::Freed(resource(1))).await;
    two.granted(1, 2).await;
    assert_eq!(two.ask(1, 5).await, Turned::Busy, "at the end of the line again");
    two.end(1, 2).await;
    hears(&mut three_hears, News::Freed(resource(1))).await;
    assert_eq!(two.ask(1, 5).await, Turned::Busy);
    assert_eq!(one.ask(1, 4).await, Turned::Busy);
    three.granted(1, 3).await;
    three.end(1, 3).await;
    one.granted(1, 4).await;
    one.end(1, 4).await;
    two.granted(1, 5).await;
}

/// Q4: who leaves passes its time on, and who does not come when it is told loses it.
pub(crate) async fn nobody_waits_for_one_that_left(case: &SharedCase) {
    let (one, two, three) = (case.instance().await, case.instance().await, case.instance().await);
    let mut heard = three.news();
    one.granted(1, 1).await;
    assert_eq!(two.ask(1, 2).await, Turned::Busy);
    assert_eq!(three.ask(1, 3).await, Turned::Busy);
    one.end(1, 1).await;
    two.shared().leave_line(resource(1)).await.unwrap();
    hears(&mut heard, News::Freed(resource(1))).await;
    three.granted(1, 3).await;
    // This time it says nothing.
    assert_eq!(two.ask(1, 2).await, Turned::Busy);
    assert_eq!(one.ask(1, 4).await, Turned::Busy);
    three.end(1, 3).await;
    assert_eq!(one.ask(1, 4).await, Turned::Busy);
    until("a turn that was not fetched", || async {
        matches!(one.ask(1, 4).await, Turned::Granted(_)).then_some(())
    })
    .await;
}

/// Q5: a rest keeps all from the turn, and an operator ends it.
pub(crate) async fn a_resource_rests_for_all(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let mut heard = two.news();
    one.granted(1, 1).await;
    assert_eq!(two.ask(1, 2).await, Turned::Busy);
    one.shared().end_turn(end(1, 1, Some(REST))).await.unwrap();
    for instance in [&one, &two] {
        let Turned::Rests(left) = instance.ask(1, 2).await else { panic!("it does not rest") };
        assert!(left <= REST && left > REST - PATIENCE, "{left:?}");
    }
    one.shared().end_rest(resource(1)).await.unwrap();
    hears(&mut heard, News::Freed(resource(1))).await;
    two.granted(1, 2).await;
    two.shared().end_turn(end(1, 2, Some(Duration::from_millis(300)))).await.unwrap();
    assert!(matches!(one.ask(1, 3).await, Turned::Rests(_)));
    // It runs out by itself.
    until("the end of a rest", || async { matches!(one.ask(1, 3).await, Turned::Granted(_)).then_some(()) })
        .await;
}

/// Q4: a claim takes the turn with it where it is free, and stands all the same where it is not.
pub(crate) async fn a_claim_asks_for_its_turn(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let (first, turned) = one.shared().claim_in_turn(id(1), own(7, 1), wish(7, 1), case.now).await.unwrap();
    assert!(matches!(first, Claimed::New));
    let Some(Turned::Granted(grant)) = turned else { panic!("{turned:?}") };
    assert_eq!(grant.minted, one.store.minted(resource(7), case.now).await.unwrap());
    assert!(grant.numbers[0] < grant.numbers[1]);
    let (second, turned) = two.shared().claim_in_turn(id(2), own(7, 2), wish(7, 2), case.now).await.unwrap();
    assert!(matches!(second, Claimed::New));
    assert_eq!(turned, Some(Turned::Busy));
    let (third, turned) = two.shared().claim_in_turn(id(1), own(8, 3), wish(8, 3), case.now).await.unwrap();
    let Claimed::Taken { standing, yours } = third else { panic!("claimed twice") };
    assert_eq!((standing.owner, yours.owner, turned), (Owner(1), Owner(3), None));
    one.granted(8, 4).await;
    // The end of the record, of its version and of the turn are one step.
    assert!(one.step(1, 1, Before::Claimed, forwarded(grant.fence)).await);
    let version = Some(Move { resource: resource(7), to: grant.numbers[0], later: None, ends_rest: false });
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(case.now + 60_000));
    assert!(one.commit(Change { version, turn: Some(end(7, 1, None)), ..change }).await);
    let next = two.granted(7, 2).await;
    assert!(next.fence > grant.fence);
    assert_eq!(next.minted, two.store.minted_tag(resource(7), grant.numbers[0]));
}

/// Q3: a turn ends with the commit that says so, even where the record is another's by now.
pub(crate) async fn a_lost_step_ends_its_turn(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    assert!(one.claim(1, own(1, 1)).await);
    one.granted(1, 1).await;
    let lost = Change::new(id(1), Owner(5), Before::Claimed, Set::Remove);
    assert!(!one.commit(Change { turn: Some(end(1, 5, None)), ..lost.clone() }).await);
    assert_eq!(two.ask(1, 2).await, Turned::Busy, "it ends by its token only");
    assert!(!one.commit(Change { turn: Some(end(1, 1, None)), ..lost }).await);
    two.granted(1, 2).await;
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

/// O4: what goes on is seen from everywhere, by name.
pub(crate) async fn busy_resources_are_seen(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    assert!(one.shared().busy(9).await.unwrap().is_empty());
    one.granted(1, 1).await;
    one.granted(2, 2).await;
    one.shared().end_turn(end(2, 2, Some(REST))).await.unwrap();
    one.granted(3, 3).await;
    one.end(3, 3).await;
    let mut busy = two.shared().busy(9).await.unwrap();
    busy.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = busy.iter().map(|b| (&*b.name, b.in_flight, b.rest.is_some())).collect();
    assert_eq!(seen, [("/1", true, false), ("/2", false, true)]);
    assert_eq!(two.shared().busy(1).await.unwrap().len(), 1);
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

/// Invariant 4, Q4: many on two instances want one resource; never two have it, each gets it, fences only grow.
pub(crate) async fn one_at_a_time(case: &SharedCase) {
    let instances = [Arc::new(case.instance().await), Arc::new(case.instance().await)];
    let held = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for token in 1..=12_u64 {
        let instance = Arc::clone(&instances[usize::from(token % 2 == 0)]);
        let held = Arc::clone(&held);
        crowd.spawn(async move {
            let grant = until("a turn", || async {
                match instance.ask(1, token).await {
                    Turned::Granted(grant) => Some(grant),
                    Turned::Busy | Turned::Rests(_) => None,
                }
            })
            .await;
            assert!(!held.swap(true, Ordering::SeqCst), "two at once");
            tokio::task::yield_now().await;
            assert!(held.swap(false, Ordering::SeqCst));
            instance.end(1, token).await;
            grant.fence
        });
    }
    let mut fences = crowd.join_all().await;
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 12);
}

/// Runs every case, each on a store of its own.
macro_rules! on_each_shared_case {
    ($case:expr) => {
        $crate::store::conformance::shared::on_each_shared_case!($case; instances_see_one_store
            another_instance_replays a_turn_is_held_by_one the_line_is_fair nobody_waits_for_one_that_left
            a_resource_rests_for_all a_claim_asks_for_its_turn a_lost_step_ends_its_turn
            what_a_dead_instance_left_is_settled a_late_end_changes_no_decision what_was_taken_over_is_not_left
            a_closed_instance_is_over an_end_is_told busy_resources_are_seen a_write_is_everywhere one_at_a_time);
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
