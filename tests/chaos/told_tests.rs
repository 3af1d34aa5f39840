//! What is said of events, against readings that are known to be bad.

use std::collections::BTreeMap;

use serde_json::json;

use super::journal::{Attempt, Heard};
use super::leases::Lease;
use super::readers::Reading;
use super::told::{Reader, operation};
use super::verdict::Evidence;
use crate::harness::events::Told;
use crate::harness::ledger::Effect;

const RESOURCE: &str = "/queue/0";

fn effect(key: &str, started: u64) -> Effect {
    Effect {
        key: Some(key.to_owned()),
        attempt: None,
        fence: Some(started),
        claim: None,
        resource: RESOURCE.to_owned(),
        method: "POST".to_owned(),
        body: Vec::new(),
        answer: Vec::new(),
        started,
        ended: started + 1,
    }
}

fn done(key: &str) -> Attempt {
    let heard = Heard { status: 200, recorded: true, ..Heard::default() };
    let (key, resource, heard) = (key.to_owned(), RESOURCE.to_owned(), Some(heard));
    Attempt { id: 0, agent: 1, key, resource, lease: None, sent: 0, at: 99, heard }
}

/// Two writes that are done, a lease, and one that somebody asked for and never heard of.
fn evidence() -> Evidence {
    let resource = RESOURCE.to_owned();
    let lease = Lease { agent: 1, resource, fence: 1, asked: 1, told: 2, until: 3, given_back: true };
    Evidence {
        effects: vec![effect("a", 10), effect("b", 20)],
        attempts: vec![done("a"), done("b")],
        leases: vec![lease],
        ..Evidence::default()
    }
}

fn told(id: &str, kind: &str, key: &str) -> Told {
    let data = json!({"operation": operation(1, key)});
    let id = if id.contains('-') { id.to_owned() } else { format!("e-{id}") };
    Told { id, kind: kind.to_owned(), subject: RESOURCE.to_owned(), data }
}

fn all() -> Vec<Told> {
    let kinds = ["lease.granted", "changed", "lease.renewed", "lease.expired", "changed"];
    let keys = ["", "a", "", "", "b"];
    let numbered = kinds.into_iter().zip(keys).enumerate();
    numbered.map(|(n, (kind, key))| told(&n.to_string(), kind, key)).collect()
}

fn read(told: Vec<Told>) -> Reading {
    Reading { name: "one", told, ended: true, ..Reading::default() }
}

fn breaches(readings: &[Reading], forgets: bool) -> String {
    let asked = &BTreeMap::from([(RESOURCE.to_owned(), 2)]);
    Reader { evidence: &evidence(), readings, stands: None, asked, forgets }.breaches().join("\n")
}

// E1
#[test]
fn good_readings_pass() {
    assert_eq!(breaches(&[read(all()), read(all())], false), "");
    // What was lost with the store is missed by nobody who may miss it.
    let gone = Reading { gone: vec![1], ..read(vec![told("9", "changed", "b")]) };
    assert_eq!(breaches(&[gone], true), "");
}

// E1
#[test]
fn each_broken_promise_of_a_reader_is_found() {
    let but = |change: &dyn Fn(&mut Vec<Told>)| {
        let mut told = all();
        change(&mut told);
        told
    };
    let cases = [
        ("no change told of key a", but(&|told| _ = told.remove(1))),
        ("2 changes told of key a", but(&|told| told.push(self::told("9", "changed", "a")))),
        ("told twice", but(&|told| told.extend_from_within(3..4))),
        ("nobody asked for", but(&|told| told.push(self::told("9", "changed", "c")))),
        ("another resource", but(&|told| told[1].subject = "/queue/1".to_owned())),
        ("order of the ledger", but(&|told| told.swap(1, 4))),
        ("a lease told of out of order", but(&|told| told[3].kind = "lease.granted".to_owned())),
        ("a lease told of out of order", but(&|told| told[0].kind = "lease.released".to_owned())),
        ("0 were told of", but(&|told| told.retain(|told| !told.kind.starts_with("lease")))),
    ];
    for (word, told) in cases {
        let found = breaches(&[read(told)], false);
        assert!(found.contains(word), "{word:?} is not in {found:?}");
    }
    let fewer = but(&|told| _ = told.remove(2));
    let found = breaches(&[read(all()), read(fewer)], false);
    assert!(found.contains("differ from event 2"), "{found}");
    let found = breaches(&[Reading { ended: false, ..read(all()) }], false);
    assert!(found.contains("never saw the last"), "{found}");
    let found = breaches(&[Reading { gone: vec![1], ..read(all()) }], false);
    assert!(found.contains("was told `gone`"), "{found}");
    // What the ledger does not have.
    let without = Evidence { effects: vec![effect("a", 10)], ..evidence() };
    let (readings, asked) = (&[read(all())], &BTreeMap::new());
    let found =
        Reader { evidence: &without, readings, stands: None, asked, forgets: false }.breaches().join("\n");
    assert!(found.contains("the ledger does not have"), "{found}");
}

// E1, S3: a store that was taken over by a replica
#[test]
fn what_was_told_stands_in_the_log_in_the_end() {
    let asked = &BTreeMap::from([(RESOURCE.to_owned(), 2)]);
    let gone = Reading { gone: vec![1], ..read(vec![told("9", "changed", "b")]) };
    let on = |stands: &Reading, read: Reading| {
        let (readings, stands) = (&[read], Some(stands));
        Reader { evidence: &evidence(), readings, stands, asked, forgets: true }.breaches().join("\n")
    };
    assert_eq!(on(&read(all()), gone.clone()), "");
    // What was told before the replica had it may be told again by the replica, though not twice.
    let mut again = gone.clone();
    again.told.push(told("f-1", "changed", "b"));
    assert_eq!(on(&read(all()), again.clone()), "");
    again.told.push(told("f-2", "changed", "b"));
    assert!(on(&read(all()), again).contains("2 changes told of key b"));
    // What it missed while it was gone was that one of them was unknown.
    let late = Reading { gone: vec![1], ..read(vec![told("8", "changed", "b"), told("9", "changed", "a")]) };
    assert!(on(&read(all()), late.clone()).contains("order of the ledger"));
    let unknown = read([vec![told("u", "unknown", "a")], all()].concat());
    assert_eq!(on(&unknown, late), "");
    let without = |n: usize| {
        let mut told = all();
        told.remove(n);
        read(told)
    };
    for (word, stands) in [
        ("no change told of key a", without(1)),
        ("0 were told of", read(all().into_iter().filter(|told| told.kind == "changed").collect())),
        ("cannot be read", Reading { ended: false, ..read(all()) }),
    ] {
        let found = on(&stands, gone.clone());
        assert!(found.contains(word), "{word:?} is not in {found:?}");
    }
}
