//! What is said of jobs, against evidence that is known to be bad.

use std::collections::HashSet;

use super::jobs::{Says, State};
use super::journal::{Attempt, Heard, Refused, hash};
use super::told::operation;
use super::verdict::Evidence;
use super::verdict_tests;
use crate::harness::ledger::Effect;

fn effect(key: &str, attempt: u64, started: u64) -> Effect {
    verdict_tests::effect(key, attempt, started, started, started + 1)
}

fn attempt(id: u64, key: &str, sent: u64, heard: Heard) -> Attempt {
    verdict_tests::attempt(id, key, sent, sent + 1, Some(heard))
}

fn accepted() -> Heard {
    Heard { status: 202, accepted: true, ..Heard::default() }
}

fn replayed() -> Heard {
    let body = hash(&b"done"[..]);
    Heard { status: 200, recorded: true, replayed: true, print: 7, body, ..Heard::default() }
}

fn refused(code: &str, executed: &str) -> Heard {
    let (code, executed) = (code.to_owned(), executed.to_owned());
    let refusal = Some(Refused { code, executed, upstream_status: None, detail: String::new() });
    Heard { status: 409, refusal, ..Heard::default() }
}

/// A refusal that is the end of a job.
fn kept(print: u64) -> Heard {
    Heard { recorded: true, replayed: true, print, ..refused("stale-version", "no") }
}

fn state(key: &str, asked: u64, name: &str, status: Option<u64>) -> State {
    let completed_at = (name == "done").then(|| "then".to_owned());
    let says = Says { state: name.to_owned(), status, completed_at };
    State { key: key.to_owned(), asked, at: asked + 1, says }
}

/// Two jobs, one after the other, that are done, and a third that is refused.
fn good() -> Evidence {
    Evidence {
        effects: vec![effect("a", 1, 10), effect("b", 2, 12)],
        attempts: vec![
            attempt(1, "a", 1, accepted()),
            attempt(2, "b", 3, accepted()),
            attempt(3, "a", 5, accepted()),
            attempt(4, "a", 18, refused("shutting-down", "no")),
            attempt(5, "a", 20, replayed()),
            attempt(6, "b", 20, replayed()),
            attempt(7, "c", 30, accepted()),
            attempt(8, "c", 36, kept(8)),
            attempt(9, "c", 38, kept(8)),
        ],
        states: vec![
            state("a", 14, "running", None),
            state("a", 16, "done", Some(200)),
            state("b", 16, "done", Some(200)),
            state("c", 32, "queued", None),
            state("c", 34, "done", Some(409)),
        ],
        unknown: Some(HashSet::new()),
        ..Evidence::default()
    }
}

// J1
#[test]
fn good_evidence_passes() {
    assert_eq!(good().breaches(), Vec::<String>::new());
    let figures = good().job_figures();
    assert_eq!((figures.accepted, figures.unknown, figures.refused), (3, 0, 1));
}

// J1, K7, K17
#[test]
fn each_broken_promise_of_a_job_is_found() {
    type Fault = fn(&mut Evidence);
    let cases: [(&str, Fault); 16] = [
        ("said otherwise", |all| all.states.push(state("a", 18, "queued", None))),
        ("said otherwise", |all| all.states.push(state("a", 18, "done", Some(500)))),
        ("said to be done, then attempt 10", |all| all.attempts.push(attempt(10, "a", 18, accepted()))),
        ("said to be done, then attempt 10", |all| {
            all.attempts.push(attempt(10, "a", 18, refused("outcome-unknown", "unknown")));
        }),
        ("said to be Says", |all| all.states[4].says.status = Some(200)),
        ("has no end", |all| all.attempts.push(attempt(10, "d", 40, accepted()))),
        // The key of a job that is lost is a new one.
        ("it was accepted, then attempt 3", |all| all.attempts[2].heard = Some(refused("queue-full", "no"))),
        ("it was accepted, then attempt 3", |all| {
            all.attempts[2].heard = Some(Heard { replayed: false, ..replayed() });
        }),
        ("attempt 3 ran it", |all| all.effects[0].attempt = Some("3".to_owned())),
        ("job b overtook job a", |all| (all.effects[1].started, all.effects[1].ended) = (8, 9)),
        ("job b overtook job a", |all| (all.effects[1].started, all.effects[1].ended) = (10, 13)),
        // What every write promises holds for jobs too.
        ("2 effects", |all| all.effects.push(effect("b", 2, 14))),
        ("effect that is none", |all| _ = all.effects.pop()),
        ("for good, and there is an effect", |all| all.effects.push(effect("c", 7, 99))),
        ("other bytes", |all| all.attempts[8].heard = Some(kept(9))),
        ("not replayed", |all| all.attempts.push(attempt(10, "c", 40, refused("stale-version", "no")))),
    ];
    for (word, fault) in cases {
        let mut all = good();
        fault(&mut all);
        let found = all.breaches().join("\n");
        assert!(found.contains(word), "{word:?} is not in {found:?}");
    }
}

// J1, K12: what was unknown may run again, behind others
#[test]
fn an_unknown_job_may_run_again() {
    let later = || Evidence {
        effects: vec![effect("b", 2, 12), effect("a", 5, 20)],
        attempts: vec![
            attempt(1, "a", 1, accepted()),
            attempt(2, "b", 3, accepted()),
            attempt(5, "a", 19, Heard { replayed: false, ..replayed() }),
            attempt(6, "b", 20, replayed()),
        ],
        unknown: Some(HashSet::from([operation(1, "a")])),
        ..Evidence::default()
    };
    assert_eq!(later().breaches(), Vec::<String>::new());
    let known = Evidence { unknown: Some(HashSet::new()), ..later() };
    let found = known.breaches().join("\n");
    for word in ["overtook", "attempt 5 ran it", "then attempt 5 heard"] {
        assert!(found.contains(word), "{word:?} is not in {found:?}");
    }
    // Where some of what was told is missing, nobody knows.
    assert_eq!(Evidence { unknown: None, ..later() }.breaches(), Vec::<String>::new());
}
