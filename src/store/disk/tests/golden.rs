//! Files that were written once are read for ever: one for each layout, with a record of each kind.
//!
//! A new layout gets a new file by `ONCEWARD_WRITE_GOLDEN=1`; one that is there is never written again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{NOW, options, runtime};
use crate::protocol::entity_tag::{Condition, EntityTag, Preconditions};
use crate::protocol::record::{Mark, Owner, Record, ResourceId, State};
use crate::store::cells::Kind;
use crate::store::conformance::{answer, id, record};
use crate::store::disk::Disk;
use crate::store::disk::file::LAYOUT;
use crate::store::{Before, Cell, CellId, Change, Claimed, Move, Place, Put, Resolution, Set, Store, Swap};

const LATER: u64 = NOW + 1_000_000_000_000;

fn place(layout: u64) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/disk-{layout}.redb"))
}

fn tag(text: &str) -> EntityTag {
    EntityTag::parse(text).unwrap()
}

/// All kinds of marks.
fn marks() -> Vec<Option<Box<Mark>>> {
    let plain = Mark { compared: None, forwarded: None, fence: 0, quoted_key: false, followed: false };
    let tags = Condition::Tags(vec![tag("\"v1\""), tag("\"v2\"")]);
    let sent = |if_match, if_none_match| Some(Preconditions { if_match, if_none_match });
    vec![
        None,
        Some(Box::new(plain.clone())),
        Some(Box::new(Mark { compared: Some(None), fence: 7, ..plain.clone() })),
        Some(Box::new(Mark {
            compared: Some(Some(tag("\"v1\""))),
            quoted_key: true,
            followed: true,
            ..plain.clone()
        })),
        Some(Box::new(Mark { forwarded: sent(Some(tags), None), fence: 1 << 52, ..plain.clone() })),
        Some(Box::new(Mark { forwarded: sent(None, Some(Condition::Any)), ..plain })),
    ]
}

fn body(length: u32) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// What stands in it: each record's number, its end, and its kept answer.
fn records() -> Vec<(u64, State, Option<Vec<u8>>)> {
    let mut records = Vec::new();
    for (n, mark) in (10..).zip(marks()) {
        records.push((n, State::Forwarded { mark: mark.clone(), status: None }, None));
        records.push((n + 10, State::Unknown { mark, since: NOW, expires_at: LATER }, None));
    }
    records.push((30, State::Forwarded { mark: None, status: Some(200) }, None));
    let done = |kept| State::Done { status: 201, kept, completed_at: NOW, expires_at: LATER };
    records.push((40, done(true), Some(body(0))));
    records.push((41, done(true), Some(body(300))));
    records.push((42, done(true), Some(body(70_000))));
    records.push((43, done(false), None));
    records
}

/// Those that an earlier layout could not hold are not among the first.
fn records_of(layout: u64) -> Vec<(u64, State, Option<Vec<u8>>)> {
    let mut records = records();
    if layout > 1 {
        records.push((44, State::Queued, None));
    }
    records
}

fn of(n: u64, state: State) -> Record {
    Record { state, ..record(n, &format!("/d/{n}")) }
}

fn resolution(executed: bool) -> Resolution {
    let (who, why) = ("ops".to_owned(), "seen in the ledger".to_owned());
    Resolution { id: id(50), executed, who, why, at: NOW, expires_at: LATER + u64::from(executed) }
}

/// The counters: as they stand now, and later.
fn moves() -> [Move; 2] {
    let (a, b) = (ResourceId::new("/a"), ResourceId::new("/b"));
    let once = Move { resource: a, to: 5, later: None, ends_rest: false };
    [once, Move { resource: b, to: 6, later: Some((LATER, 9)), ends_rest: false }]
}

/// What stands beside the records since layout 2.
fn cells() -> Vec<(Kind, Cell)> {
    let cell =
        |n: u8, left| Cell { stamp: Owner(u64::MAX - u64::from(n)), left, value: body(n.into()).into() };
    let kinds = Kind::ALL.into_iter().zip(0..);
    kinds
        .map(|(kind, n)| (kind, cell(n * 50, (n % 2 == 0).then_some(Duration::from_millis(LATER)))))
        .collect()
}

const EVENTS: [&[u8]; 3] = [b"", b"{\"a\":1}", b"\xff\0"];

async fn write_beside(store: &Disk) {
    let puts = cells().into_iter().map(|(kind, cell)| {
        let id = CellId { kind, name: [kind as u8; 16] };
        Put { id, was: None, to: Some(cell), tell: None }
    });
    for (put, event) in puts.zip(EVENTS.into_iter().map(Some).chain(std::iter::repeat(None))) {
        let swap = Swap { puts: vec![put], event: event.map(Into::into), turn: None };
        assert!(store.swap(swap, NOW).await.unwrap());
    }
}

async fn compare_beside(store: &Disk, layout: u64) {
    let end = store.last_event().await.unwrap();
    let (cells, events) = if layout == 1 { (Vec::new(), &[][..]) } else { (cells(), &EVENTS[..]) };
    assert_eq!(end, Place { epoch: 7, number: events.len() as u64 });
    let told = store.events(Place { number: 0, ..end }, 9, NOW).await.unwrap().unwrap();
    assert_eq!(told.iter().map(|event| &event[..]).collect::<Vec<_>>(), events);
    let mut stand = Vec::new();
    for kind in Kind::ALL {
        for (name, listed) in store.cells(kind, 9, NOW).await.unwrap() {
            assert_eq!(name, [kind as u8; 16]);
            // A list tells only the begin of a long one.
            let cell = store.cell(CellId { kind, name }, NOW).await.unwrap().unwrap();
            assert!(cell.value.starts_with(&listed.value));
            stand.push((kind, cell));
        }
    }
    assert_eq!(stand, cells);
}

async fn write(store: &Disk) {
    write_beside(store).await;
    let go = |n, before, set| Change::new(id(n), Owner(n), before, set);
    for (n, state, body) in records_of(LAYOUT) {
        let claimed = store.claim(id(n), of(n, State::Claimed), NOW).await.unwrap();
        assert!(matches!(claimed, Claimed::New));
        let forwarded = match &state {
            State::Forwarded { mark, .. } => State::Forwarded { mark: mark.clone(), status: None },
            State::Claimed | State::Queued | State::Done { .. } | State::Unknown { .. } => {
                State::Forwarded { mark: None, status: None }
            }
        };
        assert!(store.commit(go(n, Before::Claimed, Set::State(forwarded)), NOW).await.unwrap());
        let end = go(n, Before::Forwarded, Set::State(state));
        assert!(store.commit(Change { answer: body.as_deref().and_then(answer), ..end }, NOW).await.unwrap());
    }
    for to in moves() {
        store.move_version(to, NOW).await.unwrap();
    }
    for executed in [false, true] {
        let unknown = State::Unknown { mark: None, since: NOW, expires_at: LATER };
        assert!(matches!(store.claim(id(50), of(50, State::Claimed), NOW).await.unwrap(), Claimed::New));
        let forwarded = State::Forwarded { mark: None, status: None };
        assert!(store.commit(go(50, Before::Claimed, Set::State(forwarded)), NOW).await.unwrap());
        assert!(store.commit(go(50, Before::Forwarded, Set::State(unknown)), NOW).await.unwrap());
        let end = go(50, Before::Unknown, Set::Remove);
        assert!(store.commit(Change { resolution: Some(resolution(executed)), ..end }, NOW).await.unwrap());
    }
    store.close().await.unwrap();
}

// S5
#[test]
fn the_file_of_each_layout_is_read() {
    let golden = place(LAYOUT);
    if !golden.exists() && std::env::var_os("ONCEWARD_WRITE_GOLDEN").is_some() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = Arc::new(Disk::open(&path, options()).unwrap());
        runtime().block_on(write(&store));
        drop(store);
        std::fs::copy(path, &golden).unwrap();
    }
    for layout in 1..=LAYOUT {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::copy(place(layout), &path).unwrap();
        let store = Disk::open(&path, options()).unwrap();
        runtime().block_on(compare(&store, layout));
        runtime().block_on(compare_beside(&store, layout));
    }
}

async fn compare(store: &Disk, layout: u64) {
    let records = records_of(layout);
    let most = records.len();
    for (n, state, body) in records {
        assert_eq!(store.read(id(n), NOW).await.unwrap(), Some(of(n, state)), "record {n}");
        let kept = store.answer(id(n)).await.unwrap();
        assert_eq!(kept.as_ref().map(|answer| &answer.body[..]), body.as_deref(), "answer {n}");
        assert!(kept.is_none_or(|answer| answer.headers.get_all("x-n").iter().count() == 2));
    }
    assert_eq!(store.scan(None, 1000, NOW).await.unwrap().len(), most);
    assert_eq!(store.unknown().await.unwrap(), marks().len() as u64);
    for (to, later) in moves().into_iter().zip([5, 9]) {
        assert_eq!(store.minted(to.resource, NOW).await.unwrap(), store.minted_tag(to.resource, to.to));
        assert_eq!(store.minted(to.resource, LATER).await.unwrap(), store.minted_tag(to.resource, later));
    }
    assert!(store.minted_tag(ResourceId::new("/a"), 1).starts_with("\"7.1."), "another epoch");
    assert!(store.next_number().await.unwrap() > 9 && store.next_fence().await.unwrap() > 7);
    assert_eq!(store.resolutions(id(50), NOW).await.unwrap(), [resolution(true), resolution(false)]);
    assert!(store.read(id(50), NOW).await.unwrap().is_none());
}
