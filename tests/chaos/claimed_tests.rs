//! What is said of claims, against evidence that is known to be bad.

use super::claimed::{Claim, Said, Word};
use super::journal::Attempt;
use super::verdict::Evidence;
use crate::harness::ledger::Effect;

fn claim(fence: u64, attempt: u64, asked: u64, until: u64) -> Claim {
    let (agent, task) = (1, "t".to_owned());
    Claim { agent, task, fence, attempt, asked, told: asked + 1, until, over: false }
}

fn said(claim: usize, word: Word, sent: u64, stands: bool) -> Said {
    let key = (word == Word::AckWithWrite).then(|| format!("k{claim}"));
    Said { claim, word, key, sent, at: sent + 3, in_time: true, stands: Some(stands) }
}

fn effect(key: &str, claim: u64, started: u64) -> Effect {
    Effect {
        key: Some(key.to_owned()),
        attempt: None,
        fence: Some(started),
        claim: Some(claim),
        resource: "/tasks/t".to_owned(),
        method: "PATCH".to_owned(),
        body: Vec::new(),
        answer: Vec::new(),
        started,
        ended: started + 1,
    }
}

/// A claim that lapses and is late, one that is released, and one whose acknowledgment carries the write.
fn good() -> Evidence {
    Evidence {
        effects: vec![effect("early", 5, 14), effect("k2", 7, 41)],
        claims: vec![claim(5, 1, 10, 20), claim(6, 2, 21, 30), claim(7, 3, 31, 40)],
        said: vec![
            said(0, Word::Extend, 15, true),
            said(0, Word::Ack, 25, false),
            said(1, Word::Release, 29, true),
            said(1, Word::Release, 35, true),
            said(2, Word::AckWithWrite, 40, true),
            said(2, Word::Ack, 45, true),
            said(2, Word::Release, 50, false),
        ],
        ..Evidence::default()
    }
}

// J2, J3
#[test]
fn good_evidence_passes() {
    assert_eq!(good().breaches(), Vec::<String>::new());
    let figures = good().claim_figures();
    let counts = (figures.claims, figures.tasks, figures.acknowledged, figures.lost, figures.left);
    assert_eq!(counts, (3, 1, 1, 2, 0));
}

// J2, J3
#[test]
fn each_broken_promise_of_a_claim_is_found() {
    type Fault = fn(&mut Evidence);
    let cases: [(&str, Fault); 11] = [
        ("with two at once", |all| all.claims[0].until = 24),
        ("a fence that did not grow", |all| all.claims[1].fence = 5),
        ("a fence that did not grow", |all| all.claims[2].fence = 4),
        ("an attempt that did not grow", |all| all.claims[2].attempt = 2),
        ("a late word was heard", |all| all.said[1].stands = Some(true)),
        ("a late word was heard", |all| all.said.push(said(0, Word::Extend, 25, true))),
        ("handed out after", |all| all.claims.push(claim(8, 4, 60, 70))),
        ("after Said", |all| all.said[5].stands = Some(false)),
        ("after Said", |all| all.said[6].stands = Some(true)),
        ("under a claim that was overtaken", |all| all.effects.push(effect("late", 6, 50))),
        ("acknowledgment's write ran late", |all| all.claims.push(claim(8, 4, 38, 42))),
    ];
    for (word, fault) in cases {
        let mut all = good();
        fault(&mut all);
        let found = all.breaches().join("\n");
        assert!(found.contains(word), "{word:?} is not in {found:?}");
    }
    // The result of a write came so late that the claim had ended.
    let mut all = good();
    (all.said[4].in_time, all.said[5].stands) = (false, Some(false));
    assert_eq!(all.breaches(), Vec::<String>::new());
    // A worker was told of its claim so late that the next two were told before.
    let mut all = good();
    all.claims.push(Claim { told: 38, ..claim(4, 0, 1, 0) });
    assert_eq!(all.breaches(), Vec::<String>::new());
    // A write of its own may begin when a later claim was told: the upstream is there to refuse it.
    let direct = Attempt {
        id: 0,
        agent: 1,
        key: "early".to_owned(),
        resource: "/tasks/t".to_owned(),
        lease: None,
        sent: 13,
        at: 29,
        heard: None,
    };
    let mut all = Evidence { attempts: vec![direct], ..good() };
    (all.effects[0].started, all.effects[0].ended) = (26, 27);
    (all.effects[0].fence, all.effects[1].fence) = (Some(1), Some(2));
    assert_eq!(all.breaches(), Vec::<String>::new());
}
