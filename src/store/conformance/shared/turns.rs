//! Turns between instances (Q4, Q5): who has one, who waits, and who is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::{done, forwarded, id};
use super::{PATIENCE, REST, SharedCase, claim_in_turn, end, hears, own, resource, until, wish};
use crate::protocol::record::Owner;
use crate::store::shared::{News, Turned};
use crate::store::{Before, Change, Claimed, Move, Set};

/// Q4, L3: one has the turn, whoever asks; each fence is above all before it.
pub(crate) async fn a_turn_is_held_by_one(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let mut heard = two.news();
    let first = one.granted(1, 1).await;
    assert!(first.fence < 1 << 53);
    assert_eq!(two.ask(1, 2).await, Turned::Busy);
    assert_eq!(one.ask(1, 3).await, Turned::Busy, "not the same instance either");
    assert_eq!(one.granted(1, 1).await.fence, first.fence, "the same asked again is the same turn");
    assert!(two.granted(2, 9).await.fence > first.fence, "another resource is not held up");
    two.end(1, 2).await;
    assert_eq!(two.ask(1, 2).await, Turned::Busy, "it was not its to end");
    one.end(1, 1).await;
    hears(&mut heard, News::Freed(resource(1))).await;
    let second = two.granted(1, 2).await;
    assert!(second.fence > first.fence);
    one.end(1, 1).await;
    assert_eq!(one.ask(1, 3).await, Turned::Busy, "the same end again ends nothing");
    two.end(1, 2).await;
    one.granted(1, 3).await;
}

/// Q4: instances stand in line once each, first come first served, and one that asks always starves none.
pub(crate) async fn the_line_is_fair(case: &SharedCase) {
    let (one, two, three) = (case.instance().await, case.instance().await, case.instance().await);
    let (mut two_hears, mut three_hears) = (two.news(), three.news());
    one.granted(1, 1).await;
    for _ in 0..3 {
        assert_eq!(two.ask(1, 2).await, Turned::Busy);
        assert_eq!(three.ask(1, 3).await, Turned::Busy);
        assert_eq!(one.ask(1, 4).await, Turned::Busy);
    }
    one.end(1, 1).await;
    assert_eq!(one.ask(1, 4).await, Turned::Busy, "two came first");
    assert_eq!(three.ask(1, 3).await, Turned::Busy, "two came first");
    hears(&mut two_hears, News::Freed(resource(1))).await;
    two.granted(1, 2).await;
    assert_eq!(two.ask(1, 5).await, Turned::Busy, "at the end of the line again");
    two.end(1, 2).await;
    hears(&mut three_hears, News::Freed(resource(1))).await;
    assert_eq!(two.ask(1, 5).await, Turned::Busy);
    assert_eq!(one.ask(1, 4).await, Turned::Busy);
    three.granted(1, 3).await;
    three.end(1, 3).await;
    one.granted(1, 4).await;
    one.end(1, 4).await;
    two.granted(1, 5).await;
}

/// Q4: who leaves passes its time on, and who does not come when it is told loses it.
pub(crate) async fn nobody_waits_for_one_that_left(case: &SharedCase) {
    let (one, two, three) = (case.instance().await, case.instance().await, case.instance().await);
    let mut heard = three.news();
    one.granted(1, 1).await;
    assert_eq!(two.ask(1, 2).await, Turned::Busy);
    assert_eq!(three.ask(1, 3).await, Turned::Busy);
    one.end(1, 1).await;
    two.shared().leave_line(resource(1)).await.unwrap();
    hears(&mut heard, News::Freed(resource(1))).await;
    three.granted(1, 3).await;
    // This time it says nothing.
    assert_eq!(two.ask(1, 2).await, Turned::Busy);
    assert_eq!(one.ask(1, 4).await, Turned::Busy);
    three.end(1, 3).await;
    assert_eq!(one.ask(1, 4).await, Turned::Busy);
    until("a turn that was not fetched", || async {
        matches!(one.ask(1, 4).await, Turned::Granted(_)).then_some(())
    })
    .await;
}

/// Q5: a rest keeps all from the turn, and an operator ends it.
pub(crate) async fn a_resource_rests_for_all(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let mut heard = two.news();
    one.granted(1, 1).await;
    assert_eq!(two.ask(1, 2).await, Turned::Busy);
    one.shared().end_turn(end(1, 1, Some(REST))).await.unwrap();
    for instance in [&one, &two] {
        let Turned::Rests(left) = instance.ask(1, 2).await else { panic!("it does not rest") };
        assert!(left <= REST && left > REST - PATIENCE, "{left:?}");
    }
    one.shared().end_rest(resource(1)).await.unwrap();
    hears(&mut heard, News::Freed(resource(1))).await;
    two.granted(1, 2).await;
    two.shared().end_turn(end(1, 2, Some(Duration::from_millis(300)))).await.unwrap();
    assert!(matches!(one.ask(1, 3).await, Turned::Rests(_)));
    // It runs out by itself.
    until("the end of a rest", || async { matches!(one.ask(1, 3).await, Turned::Granted(_)).then_some(()) })
        .await;
}

/// Q4: a claim takes the turn with it where it is free, and stands all the same where it is not.
pub(crate) async fn a_claim_asks_for_its_turn(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let (first, turned) = claim_in_turn(one.shared(), id(1), own(7, 1), wish(7, 1), case.now).await.unwrap();
    assert!(matches!(first, Claimed::New));
    let Some(Turned::Granted(grant)) = turned else { panic!("{turned:?}") };
    assert_eq!(grant.minted, one.store.minted(resource(7), case.now).await.unwrap());
    assert!(grant.numbers[0] < grant.numbers[1]);
    let (second, turned) = claim_in_turn(two.shared(), id(2), own(7, 2), wish(7, 2), case.now).await.unwrap();
    assert!(matches!(second, Claimed::New));
    assert_eq!(turned, Some(Turned::Busy));
    let (third, turned) = claim_in_turn(two.shared(), id(1), own(8, 3), wish(8, 3), case.now).await.unwrap();
    let Claimed::Taken { standing, yours } = third else { panic!("claimed twice") };
    assert_eq!((standing.owner, yours.owner, turned), (Owner(1), Owner(3), None));
    one.granted(8, 4).await;
    // The end of the record, of its version and of the turn are one step.
    assert!(one.step(1, 1, Before::Claimed, forwarded(grant.fence)).await);
    let version = Some(Move { resource: resource(7), to: grant.numbers[0], later: None, ends_rest: false });
    let change = Change::new(id(1), Owner(1), Before::Forwarded, done(case.now + 60_000));
    assert!(one.commit(Change { version, turn: Some(end(7, 1, None)), ..change }).await);
    let next = two.granted(7, 2).await;
    assert!(next.fence > grant.fence);
    assert_eq!(next.minted, two.store.minted_tag(resource(7), grant.numbers[0]));
}

/// Q3: a turn ends with the commit that says so, even where the record is another's by now.
pub(crate) async fn a_lost_step_ends_its_turn(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    assert!(one.claim(1, own(1, 1)).await);
    one.granted(1, 1).await;
    let lost = Change::new(id(1), Owner(5), Before::Claimed, Set::Remove);
    assert!(!one.commit(Change { turn: Some(end(1, 5, None)), ..lost.clone() }).await);
    assert_eq!(two.ask(1, 2).await, Turned::Busy, "it ends by its token only");
    assert!(!one.commit(Change { turn: Some(end(1, 1, None)), ..lost }).await);
    two.granted(1, 2).await;
}

/// O4: what goes on is seen from everywhere, by name.
pub(crate) async fn busy_resources_are_seen(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    assert!(one.shared().busy(9).await.unwrap().is_empty());
    one.granted(1, 1).await;
    one.granted(2, 2).await;
    one.shared().end_turn(end(2, 2, Some(REST))).await.unwrap();
    one.granted(3, 3).await;
    one.end(3, 3).await;
    let mut busy = two.shared().busy(9).await.unwrap();
    busy.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = busy.iter().map(|b| (&*b.name, b.in_flight, b.rest.is_some())).collect();
    assert_eq!(seen, [("/1", true, false), ("/2", false, true)]);
    assert_eq!(two.shared().busy(1).await.unwrap().len(), 1);
}

/// Invariant 4, Q4: many on two instances want one resource; never two have it, each gets it, fences only grow.
pub(crate) async fn one_at_a_time(case: &SharedCase) {
    let instances = [Arc::new(case.instance().await), Arc::new(case.instance().await)];
    let held = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for token in 1..=12_u64 {
        let instance = Arc::clone(&instances[usize::from(token % 2 == 0)]);
        let held = Arc::clone(&held);
        crowd.spawn(async move {
            let grant = until("a turn", || async {
                match instance.ask(1, token).await {
                    Turned::Granted(grant) => Some(grant),
                    Turned::Busy | Turned::Rests(_) => None,
                }
            })
            .await;
            assert!(!held.swap(true, Ordering::SeqCst), "two at once");
            tokio::task::yield_now().await;
            assert!(held.swap(false, Ordering::SeqCst));
            instance.end(1, token).await;
            grant.fence
        });
    }
    let mut fences = crowd.join_all().await;
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 12);
}
