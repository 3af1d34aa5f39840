//! The verdict against evidence that is known to be bad.

use super::journal::{Attempt, Heard, Refused, hash};
use super::leases::Lease;
use super::verdict::Evidence;
use crate::harness::ledger::Effect;

pub(super) fn effect(key: &str, attempt: u64, fence: u64, started: u64, ended: u64) -> Effect {
    Effect {
        key: Some(key.to_owned()),
        attempt: Some(attempt.to_string()),
        fence: Some(fence),
        claim: None,
        resource: "/queue/0".to_owned(),
        method: "POST".to_owned(),
        body: Vec::new(),
        answer: b"done".to_vec(),
        started,
        ended,
    }
}

pub(super) fn attempt(id: u64, key: &str, sent: u64, at: u64, heard: Option<Heard>) -> Attempt {
    let (key, resource) = (key.to_owned(), "/queue/0".to_owned());
    Attempt { id, agent: 1, key, resource, lease: None, sent, at, heard }
}

fn done(replayed: bool, print: u64) -> Option<Heard> {
    let body = hash(&b"done"[..]);
    Some(Heard { status: 200, recorded: true, replayed, print, body, ..Heard::default() })
}

fn refused(code: &str, executed: &str) -> Option<Heard> {
    let (code, executed) = (code.to_owned(), executed.to_owned());
    let refusal = Some(Refused { code, executed, upstream_status: None, detail: String::new() });
    Some(Heard { status: 409, refusal, ..Heard::default() })
}

fn not_stored(upstream_status: u64) -> Option<Heard> {
    let mut heard = refused("result-not-stored", "yes");
    let refusal = heard.as_mut().and_then(|heard| heard.refusal.as_mut());
    refusal.expect("a refusal").upstream_status = Some(upstream_status);
    heard
}

fn breaches(effects: Vec<Effect>, attempts: Vec<Attempt>) -> String {
    Evidence { effects, attempts, ..Evidence::default() }.breaches().join("\n")
}

#[test]
fn good_evidence_passes() {
    let effects = vec![effect("a", 2, 1, 10, 11), effect("b", 5, 2, 20, 21)];
    let attempts = vec![
        attempt(1, "a", 1, 5, refused("queue-timeout", "no")),
        attempt(2, "a", 6, 12, None),
        attempt(3, "a", 13, 14, refused("outcome-unknown", "unknown")),
        attempt(5, "b", 15, 22, done(false, 7)),
        attempt(6, "b", 23, 24, done(true, 7)),
        attempt(7, "b", 25, 26, refused("shutting-down", "no")),
        attempt(8, "c", 27, 28, not_stored(500)),
    ];
    assert_eq!(breaches(effects, attempts), "");
}

#[test]
fn each_broken_promise_is_found() {
    let one = || vec![effect("a", 1, 1, 10, 11)];
    let cases = [
        ("2 effects", vec![effect("a", 1, 1, 10, 11), effect("a", 2, 2, 12, 13)], vec![]),
        ("at once", vec![effect("a", 1, 1, 10, 13), effect("b", 2, 2, 12, 14)], vec![]),
        ("did not grow", vec![effect("a", 1, 2, 10, 11), effect("b", 2, 2, 12, 14)], vec![]),
        ("and had the effect", one(), vec![attempt(1, "a", 1, 5, refused("shutting-down", "no"))]),
        ("after the effect", one(), vec![attempt(2, "a", 12, 15, refused("stale-version", "no"))]),
        ("there is no effect", vec![], vec![attempt(1, "a", 1, 5, refused("response-not-kept", "yes"))]),
        ("there is no effect", vec![], vec![attempt(1, "a", 1, 5, not_stored(201))]),
        ("effect that is none", vec![], vec![attempt(1, "a", 1, 5, done(false, 1))]),
        (
            "other bytes",
            one(),
            vec![attempt(1, "a", 1, 12, done(false, 1)), attempt(2, "a", 13, 14, done(true, 2))],
        ),
        (
            "not replayed",
            one(),
            vec![
                attempt(1, "a", 1, 12, done(false, 1)),
                attempt(2, "a", 13, 14, refused("outcome-unknown", "unknown")),
            ],
        ),
        (
            "not replayed",
            one(),
            vec![attempt(1, "a", 1, 12, done(false, 1)), attempt(2, "a", 13, 14, done(false, 1))],
        ),
    ];
    for (word, effects, attempts) in cases {
        let found = breaches(effects, attempts);
        assert!(found.contains(word), "{word:?} is not in {found:?}");
    }
}

fn leased(id: u64, key: &str, fence: u64) -> Attempt {
    Attempt { lease: Some(fence), ..attempt(id, key, 1, 99, None) }
}

fn lease(fence: u64, asked: u64, until: u64) -> Lease {
    let resource = "/queue/0".to_owned();
    Lease { agent: 1, resource, fence, asked, told: asked + 1, until, given_back: false }
}

fn on_leases(effects: Vec<Effect>, attempts: Vec<Attempt>, leases: Vec<Lease>) -> String {
    Evidence { effects, attempts, leases, ..Evidence::default() }.breaches().join("\n")
}

// L1, L2, L3, L4
#[test]
fn each_broken_promise_of_a_lease_is_found() {
    let writes = || vec![effect("a", 1, 5, 20, 21), effect("b", 2, 5, 22, 23), effect("c", 3, 6, 40, 41)];
    let sent = || vec![leased(1, "a", 5), leased(2, "b", 5), attempt(3, "c", 1, 99, None)];
    assert_eq!(on_leases(writes(), sent(), vec![lease(5, 10, 30), lease(7, 50, 60)]), "");
    let stranger = || vec![effect("c", 3, 6, 20, 21)];
    let cases = [
        ("lived", stranger(), sent(), vec![lease(5, 10, 30)]),
        // Also where it carries the holder's own fence.
        ("lived", vec![effect("c", 3, 5, 20, 21)], sent(), vec![lease(5, 10, 30)]),
        ("carries another", vec![effect("a", 1, 6, 20, 21)], sent(), vec![]),
        ("two leases at once", vec![], vec![], vec![lease(5, 10, 30), lease(6, 20, 40)]),
        ("did not grow", vec![], vec![], vec![lease(5, 10, 12), lease(5, 20, 22)]),
        ("did not grow", stranger(), sent(), vec![lease(6, 30, 32)]),
        ("did not grow", stranger(), sent(), vec![lease(7, 10, 12)]),
        (
            "did not grow",
            vec![effect("a", 1, 5, 20, 21), effect("c", 3, 5, 22, 23)],
            sent(),
            vec![lease(5, 10, 15)],
        ),
    ];
    for (word, effects, attempts, leases) in cases {
        let found = on_leases(effects, attempts, leases);
        assert!(found.contains(word), "{word:?} is not in {found:?}");
    }
}
