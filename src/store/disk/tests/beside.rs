//! Cells and events over restarts, and within bounds (S2, S5, E1).

use std::sync::Arc;
use std::time::Duration;

use super::medium::{Fault, Kind, Medium};
use super::{NOW, options, runtime};
use crate::protocol::record::{Owner, Phase, Record, State};
use crate::store::cells;
use crate::store::conformance::{forwarded, id, record};
use crate::store::disk::{Disk, Options};
use crate::store::{Before, Cell, CellId, Change, Claimed, Keep, Place, Put, Set, Store, StoreError, Swap};

fn name(n: u64) -> CellId {
    CellId { kind: cells::Kind::Job, name: u128::from(n).to_be_bytes() }
}

fn put(n: u64, value: &[u8], left: Option<Duration>) -> Put {
    let to = Some(Cell { stamp: Owner(n), left, value: value.into() });
    Put { id: name(n), was: None, to, tell: None }
}

/// Tells so many events, each with a cell that stands for it.
async fn tells(store: &Arc<Disk>, numbers: std::ops::RangeInclusive<u64>) {
    let mut crowd = tokio::task::JoinSet::new();
    for n in numbers {
        let store = Arc::clone(store);
        crowd.spawn(async move {
            let event = Some(n.to_string().as_bytes().into());
            let swap = Swap { puts: vec![put(n, b"x", None)], event, turn: None };
            assert!(store.swap(swap, NOW).await.unwrap());
        });
    }
    crowd.join_all().await;
}

// E1, S5: numbers go on, a reader goes on from its place, and the file does not grow for ever.
#[test]
fn the_file_forgets_what_is_no_longer_held_and_goes_on_counting() {
    let medium = Medium::formatted();
    let store = Arc::new(medium.open(options()).unwrap());
    let (start, end) = runtime().block_on(async {
        store.keep_events(Keep { history: 3, ttl: Duration::from_secs(3600) });
        let start = store.last_event().await.unwrap();
        tells(&store, 1..=2000).await;
        assert_eq!(store.last_event().await.unwrap().number, start.number + 2000);
        store.sweep(NOW);
        // What comes behind a look after things comes after it, and there are four of them for so many.
        for n in 3001..=3008 {
            tells(&store, n..=n).await;
        }
        (start, store.last_event().await.unwrap())
    });
    medium.kill();
    let store = Arc::new(medium.open(options()).unwrap());
    runtime().block_on(async {
        assert_eq!(store.last_event().await.unwrap(), end, "a reader finds its place again");
        let since = |number| store.events(Place { number, ..end }, 10_000, NOW);
        assert!(since(start.number).await.unwrap().is_none());
        let left = since(2000).await.unwrap().expect("what was told last is held");
        let left: Vec<_> = left.iter().map(|event| String::from_utf8(event.to_vec()).unwrap()).collect();
        assert_eq!(left, (3001..=3008).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(since(1990).await.unwrap().is_none(), "the file still has what nobody is told any more");
        assert!(since(end.number + 1).await.unwrap().is_none(), "it never was");
        tells(&store, 4001..=4001).await;
        assert_eq!(since(end.number).await.unwrap().unwrap().len(), 1);
        // What is too old is gone, and the numbers go on all the same.
        let late = NOW + 3_600_001;
        assert!(store.events(end, 9, late).await.unwrap().is_none());
        store.sweep(late);
        store.close().await.unwrap();
    });
    let store = medium.open(options()).unwrap();
    let last = runtime().block_on(store.last_event()).unwrap();
    assert_eq!(last, Place { number: end.number + 1, ..end });
}

// S5, L1, J1: a cell's time goes on over a restart, by the clock on the wall.
#[test]
fn a_cell_and_its_time_outlive_the_process() {
    let medium = Medium::formatted();
    let store = medium.open(options()).unwrap();
    runtime().block_on(async {
        for (n, left) in [(1, Some(Duration::from_secs(60))), (2, None), (3, Some(Duration::ZERO))] {
            assert!(
                store
                    .swap(Swap { puts: vec![put(n, b"sealed", left)], ..Swap::default() }, NOW)
                    .await
                    .unwrap()
            );
        }
    });
    medium.kill();
    let store = medium.open(options()).unwrap();
    runtime().block_on(async {
        let later = NOW + 20_000;
        let left = |seconds| Some(Duration::from_secs(seconds));
        for (n, left) in [(1, left(40)), (2, None), (3, left(0))] {
            let cell = Cell { stamp: Owner(n), left, value: b"sealed".as_slice().into() };
            assert_eq!(store.cell(name(n), later).await.unwrap(), Some(cell), "cell {n}");
        }
        let due = store.due(cells::Kind::Job, Duration::from_secs(50), 9, later).await.unwrap();
        assert_eq!(due.iter().map(|(_, cell)| cell.stamp.0).collect::<Vec<_>>(), [3, 1]);
    });
}

// J1, invariant 6: who runs a job is in no file; the job is, whatever failed meanwhile.
#[test]
fn a_job_that_was_taken_is_queued_again_after_a_crash() {
    let medium = Medium::formatted();
    let store = Arc::new(medium.open(options()).unwrap());
    let queued = || Set::State(State::Queued);
    let take = |owner, next| {
        let record = Record { owner: Owner(next), ..record(next, "/a") };
        Change::new(id(1), Owner(owner), Before::Queued, Set::Replace(record))
    };
    let out = |owner| Change::new(id(1), Owner(owner), Before::Claimed, forwarded(1));
    let phase = async |store: &Disk| store.read(id(1), NOW).await.unwrap().unwrap().state.phase();
    runtime().block_on(async {
        assert!(matches!(store.claim(id(1), record(1, "/a"), NOW).await, Ok(Claimed::New)));
        let change = Change::new(id(1), Owner(1), Before::Claimed, queued());
        let change = Change { cells: vec![put(1, b"sealed", None)], ..change };
        assert!(store.commit(change, NOW).await.unwrap());
        let before = medium.syncs();
        assert!(store.commit(take(1, 2), NOW).await.unwrap());
        assert!(store.commit(Change::new(id(1), Owner(2), Before::Claimed, queued()), NOW).await.unwrap());
        assert!(store.commit(take(2, 3), NOW).await.unwrap());
        assert_eq!(medium.syncs(), before, "a try that sends nothing costs the disk nothing");
        // It was to go out, and nobody was told that it may; what the file had of that is taken back.
        medium.fail(Fault { kind: Some(Kind::Sync), after: 0, times: 1, synced_anyway: true });
        assert_eq!(store.commit(out(3), NOW).await, Err(StoreError::Unavailable));
        while store.reach().await.is_err() {
            store.sweep(NOW);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(phase(&store).await, Phase::Claimed);
    });
    medium.kill();
    let store = medium.open(options()).unwrap();
    runtime().block_on(async {
        assert_eq!(phase(&store).await, Phase::Queued);
        assert!(store.cell(name(1), NOW).await.unwrap().is_some());
        let standing = store.read(id(1), NOW).await.unwrap().unwrap().owner.0;
        assert!(store.commit(take(standing, 4), NOW).await.unwrap());
        assert!(store.commit(out(4), NOW).await.unwrap());
    });
    medium.kill();
    let store = medium.open(options()).unwrap();
    assert_eq!(runtime().block_on(phase(&store)), Phase::Forwarded, "it is not queued again once it was out");
}

// S2: cells count, and are never dropped; events make room.
#[test]
fn cells_and_events_are_bounded_by_memory() {
    let medium = Medium::formatted();
    let store = medium.open(Options { max_memory: 1 << 20, ..options() }).unwrap();
    runtime().block_on(async {
        for n in 0..20 {
            let event = Some([b'x'; 30_000].as_slice().into());
            let swap = Swap { puts: vec![put(1_000 + n, b"", None)], event, turn: None };
            assert!(store.swap(swap, NOW).await.unwrap());
        }
        assert!(matches!(store.claim(id(1), record(1, "/a"), NOW).await, Ok(Claimed::New)));
        let start = store.last_event().await.unwrap();
        assert!(store.fill_ratio().await.unwrap() > 0.5);
        let mut held = 0;
        let full = loop {
            held += 1;
            let swap = Swap { puts: vec![put(held, &[0; 10_000], None)], ..Swap::default() };
            match store.swap(swap, NOW).await {
                Ok(done) => assert!(done),
                Err(error) => break error,
            }
        };
        assert_eq!(full, StoreError::Full);
        assert!((60..80).contains(&held), "{held}");
        assert_eq!(store.last_event().await.unwrap(), start);
        assert!(store.events(Place { number: 1, ..start }, 9, NOW).await.unwrap().is_none());
        let cell = vec![put(held + 1, &[0; 10_000], None)];
        let change = Change { cells: cell, ..Change::new(id(1), Owner(1), Before::Claimed, Set::Remove) };
        assert_eq!(store.commit(change, NOW).await, Err(StoreError::Full));
        assert!(store.read(id(1), NOW).await.unwrap().is_some(), "half of a step was done");
        // What only gives room is never refused.
        let gone = Put { id: name(1), was: Some(Owner(1)), to: None, tell: None };
        assert!(store.swap(Swap { puts: vec![gone], ..Swap::default() }, NOW).await.unwrap());
        assert!(
            store.swap(Swap { puts: vec![put(1, &[0; 9_000], None)], ..Swap::default() }, NOW).await.unwrap()
        );
    });
}

// S4, E1: what nobody was told of is not told after a restart either, though the file may have had it.
#[test]
fn an_event_of_a_failed_commit_is_told_to_nobody() {
    let medium = Medium::formatted();
    let store = Arc::new(medium.open(options()).unwrap());
    runtime().block_on(async {
        tells(&store, 1..=1).await;
        medium.fail(Fault { kind: Some(Kind::Sync), after: 0, times: 1, synced_anyway: true });
        let swap = Swap { puts: vec![put(2, b"x", None)], event: Some(b"2".as_slice().into()), turn: None };
        assert_eq!(store.swap(swap, NOW).await, Err(StoreError::Unavailable));
        assert_eq!(store.cell(name(2), NOW).await.unwrap(), None);
        while store.reach().await.is_err() {
            store.sweep(NOW);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tells(&store, 3..=3).await;
    });
    medium.kill();
    let store = medium.open(options()).unwrap();
    runtime().block_on(async {
        let end = store.last_event().await.unwrap();
        let told = store.events(Place { number: end.number - 2, ..end }, 9, NOW).await.unwrap().unwrap();
        assert_eq!(told.iter().map(|event| &event[..]).collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(store.cell(name(2), NOW).await.unwrap(), None);
        assert!(store.cell(name(3), NOW).await.unwrap().is_some());
    });
}
