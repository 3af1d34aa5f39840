//! The rules beside a naive model: many agents, any order of steps, a claim that lapses at any moment.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Claim,
    Acknowledge(usize),
    Release(usize),
    Extend(usize),
    /// Its time is over, and nobody has looked yet.
    Due,
    /// Somebody looked.
    Lapse,
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Claim),
        2 => (0..8_usize).prop_map(Step::Acknowledge),
        2 => (0..8_usize).prop_map(Step::Release),
        1 => (0..8_usize).prop_map(Step::Extend),
        2 => Just(Step::Due),
        2 => Just(Step::Lapse),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What a claim came to, by plain reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Lives,
    Acknowledged,
    Released,
    Lapsed,
}

fn tag(nth: usize) -> Tag {
    Tag((nth as u64).to_be_bytes())
}

fn claim(nth: usize, attempt: u32, released: Option<Tag>) -> Standing {
    let content = Some(Content::Json("1".into()));
    Standing::Held(Held {
        claim: tag(nth),
        principal: [7; 32],
        fence: nth as u64,
        attempt,
        content,
        released,
    })
}

const MOST: u32 = 3;

proptest! {
    // J3: one at a time, attempts only grow, at most so many; a late word changes nothing.
    #[test]
    fn a_task_is_with_one_agent_at_a_time(steps in steps()) {
        let (mut standing, mut due, mut ends, mut attempts) = (None::<Standing>, false, Vec::<End>::new(), 0);
        for step in steps {
            let before = standing.clone();
            match step {
                Step::Claim => match offered(standing.as_ref(), due, MOST) {
                    Offered::Claim { attempt, released } => {
                        prop_assert!(due || !ends.contains(&End::Lives), "with two at once");
                        ends.iter_mut().filter(|end| **end == End::Lives).for_each(|end| *end = End::Lapsed);
                        prop_assert_eq!(attempt, attempts + 1);
                        prop_assert!(attempt <= MOST);
                        attempts = attempt;
                        standing = Some(claim(ends.len(), attempt, released));
                        (due, _) = (false, ends.push(End::Lives));
                    }
                    Offered::Held => prop_assert!(ends.contains(&End::Lives) && !due),
                    Offered::Dead { attempts } => prop_assert!(attempts >= MOST),
                    Offered::Ended => prop_assert!(matches!(before, Some(Standing::Ended(_)))),
                },
                Step::Acknowledge(nth) => {
                    let lives = ends.get(nth) == Some(&End::Lives) && !due;
                    match acknowledge(standing.as_ref(), due, tag(nth)) {
                        Word::Stands(then) => {
                            prop_assert!(lives);
                            (standing, ends[nth]) = (Some(then), End::Acknowledged);
                        }
                        Word::Already => prop_assert_eq!(ends.get(nth), Some(&End::Acknowledged)),
                        Word::Lost => prop_assert!(!lives),
                    }
                }
                Step::Release(nth) => {
                    let lives = ends.get(nth) == Some(&End::Lives) && !due;
                    match release(standing.as_ref(), due, tag(nth), MOST) {
                        Word::Stands(then) => {
                            prop_assert!(lives);
                            (standing, ends[nth]) = (Some(then), End::Released);
                        }
                        Word::Already => prop_assert_eq!(ends.get(nth), Some(&End::Released)),
                        Word::Lost => prop_assert!(!lives),
                    }
                }
                Step::Extend(nth) => {
                    let lives = ends.get(nth) == Some(&End::Lives) && !due;
                    let extends = matches!(extend(standing.as_ref(), due, tag(nth)), Word::Stands(_));
                    prop_assert_eq!(lives, extends);
                }
                Step::Due => due = matches!(standing, Some(Standing::Held(_))),
                Step::Lapse => {
                    if let Some(Standing::Held(held)) = standing.as_ref().filter(|_| due) {
                        ends.iter_mut().filter(|end| **end == End::Lives).for_each(|end| *end = End::Lapsed);
                        (standing, due) = (Some(lapsed(held, MOST)), false);
                    }
                }
                // What is over is forgotten, and the task may come again as a new one.
                Step::Forget => {
                    if matches!(standing, Some(Standing::Ended(_))) {
                        (standing, attempts) = (None, 0);
                    }
                }
            }
            let bytes = standing.clone().map(|standing| Task { queue: "q".into(), identity: "7".into(), standing });
            if let Some(task) = bytes {
                prop_assert_eq!(Task::decode(&task.encode()), Some(task));
            }
        }
    }
}

// J2: released, then handed out again: the first agent's word again is still only that word.
#[test]
fn a_release_is_known_again_after_the_next_claim() {
    let first = claim(0, 1, None);
    let Word::Stands(waiting) = release(Some(&first), false, tag(0), MOST) else {
        panic!("it is not released")
    };
    assert_eq!(release(Some(&waiting), false, tag(0), MOST), Word::Already);
    let Offered::Claim { attempt: 2, released } = offered(Some(&waiting), false, MOST) else {
        panic!("no claim")
    };
    let second = claim(1, 2, released);
    assert_eq!(release(Some(&second), false, tag(0), MOST), Word::Already);
    assert_eq!(acknowledge(Some(&second), false, tag(0)), Word::Lost);
    assert_eq!(extend(Some(&second), false, tag(0)), Word::Lost);
}

// J3: from the last attempt on it is dead, with what it is about.
#[test]
fn the_last_attempt_ends_in_the_dead_letter_place() {
    let Standing::Held(last) = claim(0, MOST, None) else { panic!("no claim") };
    let dead = dead(MOST, Some(Content::Json("1".into())));
    assert_eq!(lapsed(&last, MOST), dead);
    assert_eq!(release(Some(&Standing::Held(last.clone())), false, tag(0), MOST), Word::Stands(dead.clone()));
    assert_eq!(offered(Some(&dead), true, MOST), Offered::Ended);
    // Fewer attempts are allowed since: its next offer brings what it is about.
    let early = Held { attempt: 2, content: None, ..last };
    assert_eq!(lapsed(&early, 1), Standing::Waiting { attempts: 2, released: None });
    assert_eq!(offered(Some(&lapsed(&early, 1)), false, 1), Offered::Dead { attempts: 2 });
}

#[test]
fn what_another_program_wrote_is_no_task() {
    assert_eq!(Task::decode(b""), None);
    assert_eq!(Task::decode(&[FORMAT]), None);
    let task = Task { queue: "q".into(), identity: "7".into(), standing: claim(0, 1, None) };
    let mut newer = task.encode();
    newer[0] = FORMAT + 1;
    assert_eq!(Task::decode(&newer), None);
}
