//! The judge of histories against histories known to be good and bad, and against trying every order.

use super::history::{Kind, Operation, Value, Verdict, judge, shortest};

fn value(name: &str) -> Value {
    (name != "-").then(|| name.to_owned())
}

/// `r a` reads, `w a b` swaps, `s a` is stale; then when it began and when it was answered, `?` for never.
fn history(lines: &[&str]) -> Vec<Operation> {
    let operation = |(agent, line): (usize, &&str)| {
        let words: Vec<_> = line.split(' ').collect();
        let kind = match words[0] {
            "r" => Kind::Read(value(words[1])),
            "w" => Kind::Swap(value(words[1]), value(words[2])),
            _ => Kind::Stale(value(words[1])),
        };
        let times = &words[words.len() - 2..];
        let invoked = times[0].parse().expect("a time");
        Operation { agent, kind, invoked, returned: times[1].parse().ok() }
    };
    lines.iter().enumerate().map(operation).collect()
}

#[test]
fn good_histories_pass() {
    let good: [&[&str]; 9] = [
        &["r a 1 2", "w a b 3 4", "r b 5 6"],
        // At once with the write, a read may see either.
        &["w a b 1 6", "r a 2 3", "r b 4 5"],
        &["w a b 1 9", "r b 2 3", "w b c 4 5", "r c 6 7"],
        // What is unknown may have had its effect, later, or never.
        &["w a b 1 ?", "r b 2 3"],
        &["w a b 1 ?", "r a 2 3", "r b 4 5"],
        &["w a b 1 ?", "r a 2 3", "w a c 4 5", "r c 6 7"],
        &["w a b 1 ?", "w b c 2 3", "r c 4 5"],
        // Stale while another write is under way, and after it.
        &["w a b 1 4", "s a 2 3", "s a 5 6", "s zz 7 8"],
        // Nothing there is a value like any other.
        &["w a - 1 2", "r - 3 4", "w - b 5 6", "w b - 7 8", "w - c 9 ?", "r - 10 11", "r c 12 13"],
    ];
    for lines in good {
        assert_eq!(judge(&value("a"), &history(lines)), Verdict::Linearizable, "{lines:?}");
    }
}

#[test]
fn bad_histories_are_caught() {
    let bad: [(&[&str], usize); 11] = [
        // An old value after the write was answered.
        (&["w a b 1 2", "r a 3 4"], 1),
        // A lost update: two swaps from one value.
        (&["w a b 1 2", "w a c 3 4"], 1),
        (&["w a b 1 4", "w a c 2 3"], 0),
        // The new value and then the old one.
        (&["w a b 1 9", "r b 2 3", "r a 4 5"], 2),
        // A value that nobody wrote, and one before it was written.
        (&["r z 1 2"], 0),
        (&["r b 1 2", "w a b 3 4"], 0),
        // An unknown write that had its effect twice, and one that came back after another.
        (&["w a b 1 ?", "r b 2 3", "w b a 4 5", "r b 6 7"], 3),
        (&["w a b 1 ?", "w a c 2 3", "r b 4 5"], 2),
        // Refused as stale while it was not.
        (&["s a 1 2"], 0),
        (&["w a b 3 4", "s a 1 2"], 1),
        // A wrong tag that was let through.
        (&["w wrong b 1 2"], 0),
    ];
    for (lines, which) in bad {
        assert_eq!(judge(&value("a"), &history(lines)), Verdict::Broken(which), "{lines:?}");
    }
}

#[test]
fn a_broken_history_is_shortened_to_what_matters() {
    let lines = [
        "w a b 1 2",
        "r b 3 4",
        "w b c 5 ?",
        "r b 6 7",
        "w b d 8 9",
        "r d 10 11",
        "s a 12 13",
        "r c 14 15",
        "w d e 16 17",
    ];
    let (start, left) = shortest(&value("a"), &history(&lines));
    let kinds: Vec<_> = left.iter().map(|one| one.kind.clone()).collect();
    assert_eq!(start, value("d"), "{left:?}");
    assert_eq!(kinds, [Kind::Swap(value("b"), value("c")), Kind::Read(value("c"))]);
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    let mut broken = 0;
    for seed in 0..6_000 {
        let all = random(&mut fastrand::Rng::with_seed(seed));
        let fits = tried(&value("0"), &all, &mut vec![false; all.len()]);
        let verdict = judge(&value("0"), &all);
        assert_eq!(verdict == Verdict::Linearizable, fits, "seed {seed}: {all:?}");
        broken += usize::from(!fits);
    }
    assert!((500..5_500).contains(&broken), "{broken} of 6000 broken, so little was compared");
}

fn random(rng: &mut fastrand::Rng) -> Vec<Operation> {
    let any = |rng: &mut fastrand::Rng| Some(rng.u8(0..3).to_string());
    let mut times: Vec<u64> = (0..14).collect();
    rng.shuffle(&mut times);
    let one = |agent: usize, rng: &mut fastrand::Rng| {
        let (a, b) = (times[2 * agent], times[2 * agent + 1]);
        let kind = match rng.u8(0..5) {
            0 | 1 => Kind::Read(any(rng)),
            2 => Kind::Stale(any(rng)),
            _ => Kind::Swap(any(rng), any(rng)),
        };
        let unknown = matches!(kind, Kind::Swap(..)) && rng.u8(0..3) == 0;
        Operation { agent, kind, invoked: a.min(b), returned: (!unknown).then_some(a.max(b)) }
    };
    (0..rng.usize(2..7)).map(|agent| one(agent, rng)).collect()
}

/// Whether some order of the operations, unknown ones left out at will, fits.
fn tried(state: &Value, all: &[Operation], placed: &mut Vec<bool>) -> bool {
    if all.iter().zip(&*placed).all(|(one, placed)| *placed || one.returned.is_none()) {
        return true;
    }
    for index in 0..all.len() {
        let before = |(other, placed): (&Operation, &bool)| {
            !placed && other.returned.is_some_and(|returned| returned < all[index].invoked)
        };
        if placed[index] || all.iter().zip(&*placed).any(before) {
            continue;
        }
        let next = match &all[index].kind {
            Kind::Read(value) if value == state => state.clone(),
            Kind::Stale(old) if old != state => state.clone(),
            Kind::Swap(old, new) if old == state => new.clone(),
            _ => continue,
        };
        placed[index] = true;
        if tried(&next, all, placed) {
            return true;
        }
        placed[index] = false;
    }
    false
}
