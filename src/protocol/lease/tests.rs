use super::*;

const OWN: Principal = Principal([1; 32]);
const OTHER: Principal = Principal([2; 32]);
const ID: LeaseId = LeaseId([7; 16]);
const ELSE: LeaseId = LeaseId([8; 16]);

fn standing(id: LeaseId, principal: Principal, left: u64) -> Standing {
    let (route, resource) = ("r".into(), "/d/é".into());
    let audience = crate::protocol::event::Audience::Own;
    let lease = Lease { id, principal, fence: 5, asked: 30_000, route, audience, resource };
    Standing { stamp: Owner(1), lease, left: Duration::from_millis(left) }
}

// L2: every case of what stands there and of what a write shows
#[test]
fn what_a_write_is_told() {
    let (own, other) = (standing(ID, OWN, 1001), standing(ELSE, OTHER, 1000));
    let (over, others_over) = (standing(ID, OWN, 0), standing(ELSE, OTHER, 0));
    let held = Verdict::Held { fence: 5 };
    let leased = |seconds| Verdict::Leased { seconds };
    let table = [
        (None, None, Verdict::Free),
        (None, Some((ID, true)), Verdict::Lost),
        (None, Some((ID, false)), Verdict::Lost),
        (Some(&own), None, leased(2)),
        (Some(&own), Some((ID, true)), held),
        // What is remembered of it does not count while it stands.
        (Some(&own), Some((ID, false)), held),
        (Some(&own), Some((ELSE, true)), Verdict::Lost),
        (Some(&own), Some((ELSE, false)), leased(2)),
        (Some(&over), None, Verdict::Free),
        (Some(&over), Some((ID, true)), Verdict::Lost),
        (Some(&over), Some((ELSE, false)), Verdict::Lost),
        (Some(&other), None, leased(1)),
        (Some(&other), Some((ID, true)), Verdict::Lost),
        (Some(&other), Some((ID, false)), leased(1)),
        // Another's token, even one that is right, is as one that never was.
        (Some(&other), Some((ELSE, false)), leased(1)),
        (Some(&others_over), None, Verdict::Free),
        (Some(&others_over), Some((ELSE, false)), Verdict::Lost),
    ];
    for (n, (standing, shown, wanted)) in table.into_iter().enumerate() {
        assert_eq!(of_write(standing, &OWN, shown), wanted, "row {n}");
    }
}

// L1, I2: every case of what an agent may have under the name of a lease
#[test]
fn what_is_held_under_a_name() {
    let named = |ended, principal| Named { ended, principal, resource: "/d".into() };
    let (own, gone, others) = (named(false, OWN), named(true, OWN), named(false, OTHER));
    let (lives, over) = (standing(ID, OWN, 1), standing(ID, OWN, 0));
    let (next, others_own) = (standing(ELSE, OWN, 1), standing(ID, OTHER, 1));
    let table = [
        (None, None, Hold::Never),
        (None, Some(&lives), Hold::Never),
        (Some(&own), Some(&lives), Hold::Lives),
        (Some(&own), Some(&over), Hold::RanOut),
        (Some(&own), Some(&next), Hold::Ended),
        (Some(&own), None, Hold::Ended),
        (Some(&gone), None, Hold::Ended),
        (Some(&gone), Some(&next), Hold::Ended),
        (Some(&others), Some(&others_own), Hold::Never),
        (Some(&others), None, Hold::Never),
    ];
    for (n, (named, standing, wanted)) in table.into_iter().enumerate() {
        assert_eq!(hold(ID, &OWN, named, standing), wanted, "row {n}");
    }
}

// L1, L4: what is stored comes back, and nothing else is taken for it
#[test]
fn what_is_kept_comes_back() {
    let lease = standing(ID, OWN, 1).lease;
    let bytes = lease.encode();
    assert!(Lease::decode(&bytes).is_some_and(|read| read == lease));
    for ended in [false, true] {
        let named = Named { ended, principal: OWN, resource: "/d/é".into() };
        let bytes = named.encode();
        assert!(Named::decode(&bytes).is_some_and(|read| read == named));
        assert!(Lease::decode(&bytes).is_none() && decode_count(&bytes).is_none());
    }
    assert_eq!(decode_count(&encode_count(70_000)), Some(70_000));
    for length in 0..bytes.len().min(69) {
        assert!(Lease::decode(&bytes[..length]).is_none(), "{length}");
    }
    let mut later = bytes.to_vec();
    later[1] = 2;
    assert!(Lease::decode(&later).is_none(), "a form that is not known here");
    assert!(Named::decode(&bytes).is_none() && Named::decode(b"l\x01\x02").is_none());
    assert_eq!(decode_count(b"c\x01\0\0\0"), None);
}

// L1: a token is told from what cannot be one, and says nothing of what is kept
#[test]
fn tokens() {
    let token = token(*b"0123456789abcdef");
    assert_eq!(token, "30313233343536373839616263646566");
    let id = LeaseId::of(token.as_bytes()).unwrap();
    assert_ne!(id.to_text(), token);
    assert_eq!(LeaseId::parse(&id.to_text()), Some(id));
    for text in ["", "a b", "a,b", "\"a\"", "é", "a\t", &"a".repeat(129)] {
        assert_eq!(LeaseId::of(text.as_bytes()), None, "{text:?}");
    }
    assert_ne!(LeaseId::of(b"a"), LeaseId::of(b"b"));
    assert_ne!(topic(ResourceId([1; 16])), counter(&Principal([1; 32])));
}
