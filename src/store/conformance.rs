//! What every store has to do: one list of cases for all of them (section S).

pub(super) mod cells;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) mod shared;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) mod wire;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::{Answer, Before, Change, Claimed, Encoded, Move, Resolution, Set, Store};
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::record::{Mark, Millis, Owner, Phase, Record, RecordId, ResourceId, State};

/// The store under test, and a time from which its cases count.
pub(super) struct Case {
    pub(super) store: Arc<dyn Store>,
    pub(super) now: Millis,
}

pub(super) fn id(n: u64) -> RecordId {
    RecordId((u128::from(n) << 64 | u128::from(n)).to_be_bytes())
}

pub(super) fn record(owner: u64, resource: &str) -> Record {
    Record {
        owner: Owner(owner),
        fingerprint: Fingerprint::from_bytes([7; 16]),
        started_at: 1,
        route: "documents".into(),
        resource: resource.into(),
        state: State::Claimed,
    }
}

pub(super) fn mark(fence: u64) -> Option<Box<Mark>> {
    Some(Box::new(Mark { compared: Some(None), forwarded: None, fence, quoted_key: false, followed: false }))
}

pub(super) fn forwarded(fence: u64) -> Set {
    Set::State(State::Forwarded { mark: mark(fence), status: None })
}

pub(super) fn unknown(fence: u64, expires_at: Millis) -> Set {
    Set::State(State::Unknown { mark: mark(fence), since: 1, expires_at })
}

pub(super) fn done(expires_at: Millis) -> Set {
    Set::State(State::Done { status: 201, kept: true, completed_at: 1, expires_at })
}

pub(super) fn answer(body: &[u8]) -> Option<Encoded> {
    let mut headers = HeaderMap::new();
    headers.append("x-n", "1".parse().unwrap());
    headers.append("x-n", "2".parse().unwrap());
    Some(Answer::encode(StatusCode::CREATED, &headers, |_| true, body))
}

impl Case {
    pub(super) async fn claim(&self, n: u64, owner: u64) -> bool {
        matches!(self.store.claim(id(n), record(owner, "/d"), self.now).await.unwrap(), Claimed::New)
    }

    pub(super) async fn step(&self, n: u64, owner: u64, before: Before, set: Set) -> bool {
        self.store.commit(Change::new(id(n), Owner(owner), before, set), self.now).await.unwrap()
    }

    async fn finish(&self, n: u64, owner: u64, body: &[u8], expires_at: Millis) -> bool {
        let change = Change::new(id(n), Owner(owner), Before::Forwarded, done(expires_at));
        self.store.commit(Change { answer: answer(body), ..change }, self.now).await.unwrap()
    }

    async fn phase(&self, n: u64) -> Option<Phase> {
        self.store.read(id(n), self.now).await.unwrap().map(|record| record.state.phase())
    }

    async fn followed(&self, n: u64) -> bool {
        match self.store.read(id(n), self.now).await.unwrap().unwrap().state {
            State::Forwarded { mark, .. } | State::Unknown { mark, .. } => mark.unwrap().followed,
            other @ (State::Claimed | State::Queued | State::Done { .. }) => panic!("{other:?}"),
        }
    }
}

/// K3, K15: a key is claimed once, and again when its record has expired.
pub(super) async fn a_key_is_claimed_once(case: &Case) {
    assert!(case.claim(1, 1).await);
    assert!(!case.claim(1, 2).await);
    let Claimed::Taken { standing, yours } =
        case.store.claim(id(1), record(3, "/d"), case.now).await.unwrap()
    else {
        panic!("claimed twice")
    };
    assert_eq!((standing.owner, yours.owner), (Owner(1), Owner(3)));
    assert!(case.step(1, 1, Before::Claimed, forwarded(5)).await);
    assert!(!case.claim(1, 2).await, "what runs has no time of expiry");
    assert!(case.finish(1, 1, b"x", case.now + 10).await);
    assert!(!case.claim(1, 2).await);
    let late = Case { store: Arc::clone(&case.store), now: case.now + 10 };
    assert_eq!(late.phase(1).await, None);
    assert!(late.claim(1, 4).await);
    assert_eq!(late.phase(1).await, Some(Phase::Claimed));
    assert!(late.step(1, 4, Before::Claimed, Set::Remove).await);
    assert_eq!(late.phase(1).await, None);
}

/// Invariant 2: only its owner moves a record, only from where it stands, and a lost reply may be asked for again.
pub(super) async fn a_step_is_its_owners(case: &Case) {
    assert!(case.claim(1, 1).await);
    assert!(!case.step(1, 2, Before::Claimed, forwarded(5)).await);
    assert!(!case.step(1, 1, Before::Forwarded, done(case.now + 9)).await);
    assert!(case.step(1, 1, Before::Claimed, forwarded(5)).await);
    assert!(case.step(1, 1, Before::Claimed, forwarded(5)).await, "the same step again");
    assert!(
        !case.step(1, 1, Before::Claimed, Set::Remove).await,
        "what was forwarded is not released as claimed"
    );
    assert!(case.finish(1, 1, b"x", case.now + 99).await);
    assert!(case.finish(1, 1, b"x", case.now + 99).await, "the same end again");
    assert!(!case.step(1, 1, Before::Forwarded, unknown(5, case.now + 99)).await);
    assert_eq!(case.phase(1).await, Some(Phase::Done));
    assert!(!case.step(2, 1, Before::Forwarded, done(9)).await, "nothing stands there");
    assert!(case.step(2, 1, Before::Running, Set::Remove).await, "and nothing is to stand there");
}

/// K7, K9: an answer comes back as it was, whatever its length.
pub(super) async fn an_answer_comes_back(case: &Case) {
    for (n, length) in [(1, 0), (2, 1), (3, 300), (4, 5_000), (5, 200_000)] {
        let body: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        assert!(case.claim(n, n).await);
        assert!(case.store.answer(id(n)).await.unwrap().is_none());
        assert!(case.step(n, n, Before::Claimed, forwarded(n)).await);
        assert!(case.finish(n, n, &body, case.now + 1000).await);
        let answer = case.store.answer(id(n)).await.unwrap().unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::CREATED, &body[..]));
        assert_eq!(answer.headers.get_all("x-n").iter().count(), 2);
    }
    assert!(case.claim(6, 6).await);
    assert!(case.step(6, 6, Before::Claimed, forwarded(6)).await);
    let not_kept = State::Done { status: 200, kept: false, completed_at: 1, expires_at: case.now + 1000 };
    assert!(case.step(6, 6, Before::Forwarded, Set::State(not_kept)).await);
    assert!(case.store.answer(id(6)).await.unwrap().is_none());
}

/// K6, K8: a released key is free, or handed to the next.
pub(super) async fn a_key_is_released_and_handed_on(case: &Case) {
    assert!(case.claim(1, 1).await);
    assert!(case.step(1, 1, Before::Claimed, forwarded(1)).await);
    assert!(case.step(1, 1, Before::Forwarded, Set::Replace(record(2, "/d"))).await);
    assert_eq!(case.phase(1).await, Some(Phase::Claimed));
    assert!(case.step(1, 2, Before::Claimed, Set::Replace(record(3, "/d"))).await);
    assert!(!case.step(1, 2, Before::Claimed, forwarded(2)).await, "it was handed on");
    assert!(case.step(1, 3, Before::Claimed, forwarded(2)).await);
    assert!(case.step(1, 3, Before::Running, Set::Remove).await);
    assert_eq!(case.phase(1).await, None);
    assert!(case.claim(1, 4).await);
}

/// K11, O4: what is unknown is counted and found, and what runs again or is resolved no longer is.
pub(super) async fn unknown_operations_are_found(case: &Case) {
    for n in 1..=3 {
        assert!(case.claim(n, n).await);
        assert!(case.step(n, n, Before::Claimed, forwarded(n)).await);
    }
    assert_eq!(case.store.scan(Some(Phase::Forwarded), 9, case.now).await.unwrap().len(), 3);
    assert!(case.step(1, 1, Before::Forwarded, unknown(1, case.now + 1000)).await);
    assert!(case.step(2, 2, Before::Forwarded, unknown(2, case.now + 1000)).await);
    assert_eq!(case.store.unknown().await.unwrap(), 2);
    let found = case.store.scan(Some(Phase::Unknown), 1, case.now).await.unwrap();
    assert_eq!(found.len(), 1);
    let again = Record { state: State::Forwarded { mark: mark(1), status: None }, ..record(8, "/d") };
    assert!(case.step(1, 1, Before::Unknown, Set::Replace(again)).await);
    assert_eq!(case.store.unknown().await.unwrap(), 1);
    assert!(case.finish(3, 3, b"x", case.now + 1000).await);
    let all = case.store.scan(None, 9, case.now).await.unwrap();
    let mut phases: Vec<_> = all.iter().map(|(_, record)| format!("{:?}", record.state.phase())).collect();
    phases.sort();
    assert_eq!(phases, ["Done", "Forwarded", "Unknown"]);
    assert_eq!(case.store.scan(Some(Phase::Done), 9, case.now).await.unwrap()[0].0, id(3));
}

/// O4: a resolution is in the commit of what it does, and is known after the record is gone.
pub(super) async fn a_resolution_is_kept(case: &Case) {
    for n in [1, 2] {
        assert!(case.claim(n, n).await);
        assert!(case.step(n, n, Before::Claimed, forwarded(n)).await);
        assert!(case.step(n, n, Before::Forwarded, unknown(n, case.now + 1000)).await);
        let resolution = Resolution {
            id: id(n),
            executed: n == 2,
            who: "ops".to_owned(),
            why: "seen in the ledger".to_owned(),
            at: case.now,
            expires_at: case.now + 50,
        };
        let set = if n == 2 { done(case.now + 1000) } else { Set::Remove };
        let change = Change::new(id(n), Owner(n), Before::Unknown, set);
        let change = Change { resolution: Some(resolution.clone()), ..change };
        let wrong = Change { owner: Owner(9), ..change.clone() };
        assert!(!case.store.commit(wrong, case.now).await.unwrap());
        assert!(case.store.resolutions(id(n), case.now).await.unwrap().is_empty());
        assert!(case.store.commit(change, case.now).await.unwrap());
        assert_eq!(case.store.resolutions(id(n), case.now).await.unwrap(), [resolution]);
        assert!(case.store.resolutions(id(n), case.now + 50).await.unwrap().is_empty());
    }
    assert_eq!(case.store.unknown().await.unwrap(), 0);
    assert!(case.claim(1, 5).await);
}

/// K12: an unknown operation remembers that another write has gone to its resource, also while it runs again.
pub(super) async fn who_follows_is_marked(case: &Case) {
    for (n, resource) in [(1, "/a"), (2, "/a"), (3, "/b"), (4, "/a")] {
        assert!(matches!(
            case.store.claim(id(n), record(n, resource), case.now).await.unwrap(),
            Claimed::New
        ));
    }
    assert!(case.step(1, 1, Before::Claimed, forwarded(1)).await);
    assert!(case.step(1, 1, Before::Forwarded, unknown(1, case.now + 1000)).await);
    assert!(case.step(3, 3, Before::Claimed, forwarded(2)).await);
    assert!(!case.followed(1).await, "another resource");
    let again = Record { state: State::Forwarded { mark: mark(1), status: None }, ..record(8, "/a") };
    assert!(case.step(1, 1, Before::Unknown, Set::Replace(again)).await);
    assert!(!case.followed(1).await, "itself");
    assert!(case.step(2, 2, Before::Claimed, forwarded(3)).await);
    assert!(case.followed(1).await);
    assert!(!case.followed(2).await);
    assert!(case.step(1, 8, Before::Forwarded, unknown(1, case.now + 1000)).await);
    assert!(case.followed(1).await, "it is not forgotten when the second run comes to nothing");
    let stale = Record { state: State::Forwarded { mark: mark(1), status: None }, ..record(9, "/a") };
    assert!(case.step(1, 8, Before::Unknown, Set::Replace(stale)).await);
    assert!(case.followed(1).await, "nor when it begins on what was read before");
    assert!(case.step(2, 2, Before::Forwarded, Set::Remove).await);
    assert!(case.step(1, 9, Before::Forwarded, Set::Remove).await);
    assert!(case.step(4, 4, Before::Claimed, forwarded(4)).await);
}

/// V8, L3: numbers and fences only grow; a minted version moves with its commit or by itself, and twice where the
/// outcome is unknown.
pub(super) async fn versions_move_forward(case: &Case) {
    let store = &case.store;
    let (a, b) = (ResourceId::new("/a"), ResourceId::new("/b"));
    let (one, two) = (store.next_fence().await.unwrap(), store.next_fence().await.unwrap());
    assert!(one < two);
    let (n1, n2, n3) = (
        store.next_number().await.unwrap(),
        store.next_number().await.unwrap(),
        store.next_number().await.unwrap(),
    );
    assert!(n1 < n2 && n2 < n3);
    let before = store.minted(a, case.now).await.unwrap();
    assert_ne!(before, store.minted(b, case.now).await.unwrap());
    let to = Move { resource: a, to: n1, later: None, ends_rest: false };
    store.move_version(to, case.now).await.unwrap();
    let moved = store.minted(a, case.now).await.unwrap();
    assert_eq!(moved, store.minted_tag(a, n1));
    assert_ne!(moved, before);
    assert!(case.claim(1, 1).await);
    assert!(case.step(1, 1, Before::Claimed, forwarded(one)).await);
    let version = Some(Move { resource: a, to: n2, later: Some((case.now + 30, n3)), ends_rest: false });
    let change = Change::new(id(1), Owner(1), Before::Forwarded, unknown(one, case.now + 1000));
    let lost = Change { version, owner: Owner(9), ..change.clone() };
    assert!(!store.commit(lost, case.now).await.unwrap());
    assert_eq!(store.minted(a, case.now).await.unwrap(), moved, "it moves only with its record");
    assert!(store.commit(Change { version, ..change }, case.now).await.unwrap());
    assert_eq!(store.minted(a, case.now + 29).await.unwrap(), store.minted_tag(a, n2));
    assert_eq!(store.minted(a, case.now + 30).await.unwrap(), store.minted_tag(a, n3));
    assert_eq!(store.minted(b, case.now).await.unwrap(), store.minted(b, case.now + 30).await.unwrap());
}

/// Invariant 1: many ask at once, one gets it.
pub(super) async fn one_of_many_gets_the_claim(case: &Case) {
    let mut crowd = tokio::task::JoinSet::new();
    for owner in 0..64 {
        let (store, now) = (Arc::clone(&case.store), case.now);
        crowd.spawn(async move {
            let claimed = store.claim(id(1), record(owner, "/d"), now).await.unwrap();
            if matches!(claimed, Claimed::New) {
                let change = Change::new(id(1), Owner(owner), Before::Claimed, forwarded(owner));
                assert!(store.commit(change, now).await.unwrap());
                return 1;
            }
            0
        });
    }
    assert_eq!(crowd.join_all().await.into_iter().sum::<u32>(), 1);
}

/// K15: what has expired is forgotten, what has not is not.
pub(super) async fn only_what_expired_is_forgotten(case: &Case) {
    for (n, life) in [(1, 10), (2, 10), (3, 1000)] {
        assert!(case.claim(n, n).await);
        assert!(case.step(n, n, Before::Claimed, forwarded(n)).await);
        let end = if n == 2 { unknown(n, case.now + life) } else { done(case.now + life) };
        let change = Change::new(id(n), Owner(n), Before::Forwarded, end);
        let answer = if n == 2 { None } else { answer(b"x") };
        assert!(case.store.commit(Change { answer, ..change }, case.now).await.unwrap());
    }
    assert!(case.claim(4, 4).await);
    // A store that knows no maximum is never full.
    let full = case.store.fill_ratio().await.unwrap();
    let is_bounded = full > 0.0;
    // Each call looks at a part; a store that writes behind is done a little later.
    for _ in 0..100 {
        for _ in 0..256 {
            case.store.sweep(case.now + 20);
        }
        if case.store.unknown().await.unwrap() == 0
            && (case.store.fill_ratio().await.unwrap() < full || !is_bounded)
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(case.store.unknown().await.unwrap(), 0);
    assert!(case.store.fill_ratio().await.unwrap() < full || !is_bounded);
    assert_eq!((case.phase(3).await, case.phase(4).await), (Some(Phase::Done), Some(Phase::Claimed)));
    let late = Case { store: Arc::clone(&case.store), now: case.now + 20 };
    assert!(late.claim(1, 9).await && late.claim(2, 9).await);
}

/// Runs every case about what stands beside the records, each on a store of its own.
macro_rules! on_each_cell_case {
    ($case:expr) => {
        $crate::store::conformance::on_each_case!($case; cells: a_cell_is_swapped_by_compare
            cells_are_swapped_together_or_not_at_all a_job_is_nobodys_between_its_tries a_cell_goes_with_its_record what_is_due_comes_soonest_first
            events_come_in_the_order_of_commits a_place_that_is_not_held_is_gone one_of_many_gets_the_cell);
    };
}

/// Runs every case, each on a store of its own.
macro_rules! on_each_case {
    ($case:expr; cells: $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (case, _keep) = $case;
            $crate::store::conformance::cells::$name(&case).await;
        })*
    };
    ($case:expr) => {
        $crate::store::conformance::on_each_case!($case; a_key_is_claimed_once a_step_is_its_owners
            an_answer_comes_back a_key_is_released_and_handed_on unknown_operations_are_found a_resolution_is_kept
            who_follows_is_marked versions_move_forward one_of_many_gets_the_claim
            only_what_expired_is_forgotten);
    };
    ($case:expr; $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (case, _keep) = $case;
            $crate::store::conformance::$name(&case).await;
        })*
    };
}

pub(super) use {on_each_case, on_each_cell_case};
