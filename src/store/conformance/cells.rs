//! What every store has to do for what stands beside the records: cells, and the log of events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Case, done, forwarded, id, record};
use crate::protocol::record::{Owner, Phase, Record, State};
use crate::store::cells::{Kind, Topic};
use crate::store::{Before, Cell, CellId, Change, Event, Keep, Place, Put, Set, Swap};

fn lease(n: u8) -> CellId {
    CellId { kind: Kind::Lease, name: [n; 16] }
}

fn cell(stamp: u64, left: Option<u64>, text: &str) -> Cell {
    Cell { stamp: Owner(stamp), left: left.map(Duration::from_secs), value: text.as_bytes().into() }
}

fn put(id: CellId, was: Option<u64>, to: Option<Cell>) -> Put {
    Put { id, was: was.map(Owner), to, tell: None }
}

fn event(text: &str) -> Option<Event> {
    Some(Event::from(text.as_bytes()))
}

impl Case {
    async fn swap(&self, puts: Vec<Put>) -> bool {
        self.store.swap(Swap { puts, ..Swap::default() }, self.now).await.unwrap()
    }

    async fn tell(&self, text: &str) {
        let swap = Swap { event: event(text), ..Swap::default() };
        let stamp = fastrand::u64(..);
        let swap = Swap { puts: vec![put(lease(250), None, Some(cell(stamp, None, "")))], ..swap };
        assert!(self.store.swap(swap, self.now).await.unwrap());
        assert!(self.swap(vec![put(lease(250), Some(stamp), None)]).await);
    }

    async fn text(&self, id: CellId) -> Option<String> {
        let cell = self.store.cell(id, self.now).await.unwrap()?;
        Some(String::from_utf8(cell.value.into()).unwrap())
    }

    async fn since(&self, after: Place) -> Option<Vec<String>> {
        let told = self.store.events(after, 100, self.now).await.unwrap()?;
        Some(told.iter().map(|event| String::from_utf8(event.to_vec()).unwrap()).collect())
    }
}

/// S3: a cell changes only from what its changer knows, and a lost reply may be asked for again.
pub(crate) async fn a_cell_is_swapped_by_compare(case: &Case) {
    assert_eq!(case.text(lease(1)).await, None);
    assert!(case.swap(vec![put(lease(1), None, Some(cell(7, Some(60), "a")))]).await);
    assert!(case.swap(vec![put(lease(1), None, Some(cell(7, Some(60), "a")))]).await, "the same again");
    assert!(!case.swap(vec![put(lease(1), None, Some(cell(8, Some(60), "b")))]).await, "it stands already");
    assert!(!case.swap(vec![put(lease(1), Some(6), Some(cell(8, Some(60), "b")))]).await);
    assert_eq!(case.text(lease(1)).await.as_deref(), Some("a"));
    assert!(case.swap(vec![put(lease(1), Some(7), Some(cell(8, None, "b")))]).await);
    let stands = case.store.cell(lease(1), case.now).await.unwrap().unwrap();
    assert_eq!(stands, cell(8, None, "b"));
    let other = CellId { kind: Kind::Token, ..lease(1) };
    assert_eq!(case.text(other).await, None, "another kind is another cell");
    assert!(!case.swap(vec![put(lease(1), Some(7), None)]).await);
    assert!(case.swap(vec![put(lease(1), Some(8), None)]).await);
    assert!(case.swap(vec![put(lease(1), Some(8), None)]).await, "the same removal again");
    assert_eq!(case.text(lease(1)).await, None);
}

/// S3: several cells are one step.
pub(crate) async fn cells_are_swapped_together_or_not_at_all(case: &Case) {
    assert!(case.swap(vec![put(lease(1), None, Some(cell(1, Some(5), "a")))]).await);
    let both = |was| {
        vec![put(lease(1), was, Some(cell(2, Some(5), "b"))), put(lease(2), None, Some(cell(3, None, "c")))]
    };
    assert!(!case.swap(both(None)).await);
    assert_eq!((case.text(lease(1)).await.as_deref(), case.text(lease(2)).await), (Some("a"), None));
    assert!(case.swap(both(Some(1))).await);
    assert!(case.swap(both(Some(1))).await, "the same again");
    let found = case.store.cells(Kind::Lease, 9, case.now).await.unwrap();
    let names: BTreeSet<_> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, BTreeSet::from([[1; 16], [2; 16]]));
    assert_eq!(case.store.cells(Kind::Lease, 1, case.now).await.unwrap().len(), 1);
    assert!(case.store.cells(Kind::Task, 9, case.now).await.unwrap().is_empty());
}

/// L1, J2: a cell and a record are one step: neither is without the other.
pub(crate) async fn a_cell_goes_with_its_record(case: &Case) {
    let start = case.store.last_event().await.unwrap();
    assert!(case.claim(1, 1).await);
    let end = |owner, was| Change {
        cells: vec![put(lease(1), was, Some(cell(5, Some(60), "held")))],
        event: event("granted"),
        ..Change::new(id(1), Owner(owner), Before::Claimed, done(case.now + 1000))
    };
    assert!(!case.store.commit(end(1, Some(9)), case.now).await.unwrap(), "another cell was expected");
    assert!(!case.store.commit(end(2, None), case.now).await.unwrap(), "another's record");
    assert_eq!(case.text(lease(1)).await, None);
    assert_eq!(case.store.read(id(1), case.now).await.unwrap().unwrap().owner, Owner(1));
    assert!(case.store.commit(end(1, None), case.now).await.unwrap());
    assert!(case.store.commit(end(1, None), case.now).await.unwrap(), "the same again");
    assert_eq!(case.text(lease(1)).await.as_deref(), Some("held"));
    assert_eq!(case.since(start).await, Some(vec!["granted".to_owned()]));
    // A write that goes out has nothing to do with it.
    assert!(case.claim(2, 2).await);
    assert!(case.step(2, 2, Before::Claimed, forwarded(1)).await);
    assert!(case.step(2, 2, Before::Forwarded, Set::Remove).await);
    assert_eq!(case.text(lease(1)).await.as_deref(), Some("held"));
}

/// J1, K17: a job is nobody's while it is queued, whoever tried it; its cell goes with its end.
pub(crate) async fn a_job_is_nobodys_between_its_tries(case: &Case) {
    let job = CellId { kind: Kind::Job, name: id(1).0 };
    let queued = || Set::State(State::Queued);
    let of = |owner, state| Record { owner: Owner(owner), state, ..record(1, "/a") };
    assert!(case.claim(1, 1).await);
    let put = |was, to| vec![put(job, was, to)];
    let change = Change::new(id(1), Owner(1), Before::Claimed, queued());
    let change = Change { cells: put(None, Some(cell(7, None, "sealed"))), ..change };
    for _ in 0..2 {
        assert!(case.store.commit(change.clone(), case.now).await.unwrap());
    }
    assert_eq!((case.phase(1).await, case.text(job).await.as_deref()), (Some(Phase::Queued), Some("sealed")));
    assert!(!case.claim(1, 9).await, "it is claimed by nobody, and stands");
    let waits = async |phase| case.store.scan(Some(phase), 9, case.now).await.unwrap().len();
    assert_eq!((waits(Phase::Queued).await, waits(Phase::Claimed).await), (1, 0));
    assert!(!case.step(1, 1, Before::Running, Set::Remove).await);
    assert!(case.step(1, 1, Before::Queued, Set::Replace(of(2, State::Claimed))).await);
    assert!(!case.step(1, 1, Before::Queued, Set::Replace(of(3, State::Claimed))).await, "it is taken");
    assert_eq!((waits(Phase::Queued).await, waits(Phase::Claimed).await), (0, 1));
    // Put back in one commit with its cell: who knows only what stood before gets nothing.
    let back = Change::new(id(1), Owner(2), Before::Claimed, queued());
    let due = put(Some(7), Some(cell(8, Some(60), "sealed")));
    assert!(case.store.commit(Change { cells: due, ..back }, case.now).await.unwrap());
    assert_eq!((case.phase(1).await, case.text(job).await.as_deref()), (Some(Phase::Queued), Some("sealed")));
    assert!(!case.step(1, 1, Before::Queued, Set::Replace(of(3, State::Claimed))).await);
    assert!(case.step(1, 2, Before::Queued, Set::Replace(of(4, State::Claimed))).await);
    assert!(case.step(1, 4, Before::Claimed, forwarded(1)).await);
    assert!(case.step(1, 4, Before::Forwarded, queued()).await, "nothing was sent after all");
    assert!(case.step(1, 4, Before::Queued, Set::Replace(of(5, State::Claimed))).await);
    assert!(case.step(1, 5, Before::Claimed, forwarded(1)).await);
    let end = Change::new(id(1), Owner(5), Before::Forwarded, done(case.now + 1000));
    assert!(case.store.commit(Change { cells: put(Some(8), None), ..end }, case.now).await.unwrap());
    assert_eq!((case.phase(1).await, case.text(job).await), (Some(Phase::Done), None));
}

/// L1, J3: whose time has come is found, the soonest first.
pub(crate) async fn what_is_due_comes_soonest_first(case: &Case) {
    for (n, left) in [(1, Some(30)), (2, Some(0)), (3, None), (4, Some(0)), (5, Some(3000))] {
        assert!(case.swap(vec![put(lease(n), None, Some(cell(n.into(), left, "x")))]).await);
    }
    let other = CellId { kind: Kind::Task, name: [9; 16] };
    assert!(case.swap(vec![put(other, None, Some(cell(9, Some(0), "x")))]).await);
    let due = |within, most| async move {
        let due = case.store.due(Kind::Lease, Duration::from_secs(within), most, case.now).await.unwrap();
        due.into_iter().map(|(name, cell)| (name[0], cell.left)).collect::<Vec<_>>()
    };
    let now: BTreeSet<_> = due(0, 9).await.into_iter().collect();
    let over = Some(Duration::ZERO);
    assert_eq!(now, BTreeSet::from([(2, over), (4, over)]));
    let soon = due(60, 9).await;
    assert_eq!(soon.iter().map(|(n, _)| *n).skip(2).collect::<Vec<_>>(), [1]);
    let left = soon.last().unwrap().1.unwrap();
    assert!(left <= Duration::from_secs(30) && left > Duration::from_secs(20), "{left:?}");
    assert_eq!(due(60, 1).await.len(), 1);
    // What is moved, and what is gone, is not found where it was.
    assert!(case.swap(vec![put(lease(2), Some(2), Some(cell(22, Some(3000), "x")))]).await);
    assert!(case.swap(vec![put(lease(4), Some(4), None)]).await);
    assert_eq!(due(0, 9).await, []);
}

/// E1: events are told with their commits, in their order, once.
pub(crate) async fn events_come_in_the_order_of_commits(case: &Case) {
    let start = case.store.last_event().await.unwrap();
    assert_eq!(case.since(start).await, Some(vec![]));
    let mut signal = case.store.event_signal();
    signal.mark_unchanged();
    case.tell("one").await;
    let woken = tokio::time::timeout(Duration::from_secs(20), signal.changed()).await;
    assert!(woken.is_ok(), "nobody was told");
    let lost = Swap {
        puts: vec![put(lease(1), Some(1), None), put(lease(2), Some(1), Some(cell(2, None, "")))],
        event: event("lost"),
        turn: None,
    };
    assert!(!case.store.swap(lost, case.now).await.unwrap());
    assert!(case.claim(1, 1).await);
    assert!(case.step(1, 1, Before::Claimed, forwarded(1)).await);
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(case.now + 1000));
    let change = Change { event: event("two"), ..change };
    for _ in 0..2 {
        assert!(case.store.commit(change.clone(), case.now).await.unwrap());
    }
    case.tell("three").await;
    assert_eq!(case.since(start).await, Some(["one", "two", "three"].map(str::to_owned).to_vec()));
    // What has no record and no cell is told by itself.
    assert!(case.store.swap(Swap { event: event("four"), ..Swap::default() }, case.now).await.unwrap());
    let second = Place { number: start.number + 1, ..start };
    assert_eq!(case.since(second).await, Some(["two", "three", "four"].map(str::to_owned).to_vec()));
    let few = case.store.events(start, 2, case.now).await.unwrap().unwrap();
    assert_eq!(few.len(), 2);
    assert_eq!(case.store.last_event().await.unwrap(), Place { number: start.number + 4, ..start });
}

/// E1: what is no longer held, and what never was, is said to be so.
pub(crate) async fn a_place_that_is_not_held_is_gone(case: &Case) {
    let start = case.store.last_event().await.unwrap();
    assert_eq!(case.since(Place { number: start.number + 1, ..start }).await, None, "it never was");
    assert_eq!(case.since(Place { epoch: start.epoch + 1, ..start }).await, None, "another history");
    case.store.keep_events(Keep { history: 3, ttl: Duration::from_secs(3600) });
    for n in 0..5 {
        case.tell(&n.to_string()).await;
        // How much is kept is looked at now and then.
        for _ in 0..256 {
            case.store.sweep(case.now);
        }
    }
    let first = Place { number: start.number + 2, ..start };
    let gone = async {
        while case.since(start).await.is_some() {
            case.store.sweep(case.now);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it is kept for ever");
    assert_eq!(case.since(first).await, Some(["2", "3", "4"].map(str::to_owned).to_vec()));
}

/// L1: many ask at once, one gets it.
pub(crate) async fn one_of_many_gets_the_cell(case: &Case) {
    let mut crowd = tokio::task::JoinSet::new();
    for stamp in 1..=32 {
        let (store, now) = (Arc::clone(&case.store), case.now);
        crowd.spawn(async move {
            let mut one = put(lease(1), None, Some(cell(stamp, Some(60), "mine")));
            one.tell = Some(Topic([1; 16]));
            u32::from(store.swap(Swap { puts: vec![one], ..Swap::default() }, now).await.unwrap())
        });
    }
    assert_eq!(crowd.join_all().await.into_iter().sum::<u32>(), 1);
}
