//! The functions there decide as the rules here.

use super::{look, open, schema, server};
use crate::protocol::record::{Owner, Phase, Record, State, Step, step};
use crate::store::conformance::{id, mark, record};
use crate::store::{Before, Change, Claimed, Set};

const NOW: u64 = 1_000_000;

fn state(phase: Phase) -> State {
    match phase {
        Phase::Claimed => State::Claimed,
        Phase::Queued => State::Queued,
        Phase::Forwarded => State::Forwarded { mark: mark(1), status: None },
        Phase::Done => State::Done { status: 200, kept: false, completed_at: 1, expires_at: NOW * 2 },
        Phase::Unknown => State::Unknown { mark: mark(1), since: 1, expires_at: NOW * 2 },
    }
}

// Invariant 2: each step from each state, by the owner and by another, as `protocol::record` has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_is_decided_as_the_rules_have_it() {
    let store = open(&server().await.url(), &schema()).await;
    let phases = [Phase::Claimed, Phase::Forwarded, Phase::Done, Phase::Unknown];
    let mut n = 0;
    for from in [None, Some(0), Some(1), Some(2), Some(3)].map(|at| at.map(|at: usize| phases[at])) {
        for before in [Before::Claimed, Before::Forwarded, Before::Running, Before::Unknown] {
            for owner in [1, 2] {
                let replaced =
                    |owner, phase| Set::Replace(Record { state: state(phase), ..record(owner, "/d") });
                let mut sets: Vec<_> = phases.iter().map(|phase| Set::State(state(*phase))).collect();
                sets.extend([replaced(1, Phase::Claimed), replaced(3, Phase::Forwarded), Set::Remove]);
                for set in sets {
                    n += 1;
                    let standing = from.map(|phase| Record { state: state(phase), ..record(1, "/d") });
                    if let Some(standing) = &standing {
                        let claimed = store.claim(id(n), standing.clone(), NOW).await.unwrap();
                        assert!(matches!(claimed, Claimed::New));
                    }
                    let rule = step(standing.as_ref(), Owner(owner), before, &set);
                    let told = format!("{from:?} {before:?} by {owner}: {set:?}");
                    let change = Change::new(id(n), Owner(owner), before, set.clone());
                    assert_eq!(store.commit(change, NOW).await.unwrap(), rule != Step::Lost, "{told}");
                    let wanted = match (rule, set, standing) {
                        (Step::Apply, Set::State(state), Some(standing)) => {
                            Some(Record { state, ..standing })
                        }
                        (Step::Apply, Set::Replace(record), _) => Some(record),
                        (Step::Apply, Set::Remove | Set::State(_), _) => None,
                        (Step::Already | Step::Lost, _, standing) => standing,
                    };
                    assert_eq!(store.read(id(n), NOW).await.unwrap(), wanted, "{told}");
                }
            }
        }
    }
    assert_eq!(n, 5 * 4 * 2 * 7);
}

// R5: a resource may be named by anything that JSON can spell, and not only what a database takes for a text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_name_comes_back() {
    let store = open(&server().await.url(), &schema()).await;
    for (n, name) in (1..).zip(["", "\0", "a\0b", "\u{10ffff}", "'; drop schema x; --", "\\x00"]) {
        let claimed = store.claim(id(n), record(n, name), NOW).await.unwrap();
        assert!(matches!(claimed, Claimed::New));
        assert_eq!(store.read(id(n), NOW).await.unwrap(), Some(record(n, name)));
    }
}

// L3, V8: numbers are above the server's clock within a moment, so that they grow over a lost tail; and below 2^53.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_keep_up_with_the_clock() {
    let schema = schema();
    let store = open(&server().await.url(), &schema).await;
    let look = look(server().await).await;
    let clock = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    for _ in 0..3 {
        let before: i64 = look.query_one(clock, &[]).await.unwrap().get(0);
        let number = i64::try_from(store.next_number().await.unwrap()).unwrap();
        assert!(number > before - 60_000 && number < 1 << 53, "{number} at {before}");
        // What a failover would do.
        look.batch_execute(&format!("select setval('\"{schema}\".number', {})", number - 100_000))
            .await
            .unwrap();
        assert!(i64::try_from(store.next_fence().await.unwrap()).unwrap() > number);
    }
}
