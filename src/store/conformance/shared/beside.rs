//! What stands beside the records, between instances: topics, leases in grants, and the log of events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::{done, forwarded, id};
use super::{Instance, PATIENCE, SharedCase, claim_in_turn, end, hears, own, resource, sent, wish};
use crate::protocol::record::Owner;
use crate::store::cells::{Kind, Topic};
use crate::store::shared::{Also, Beside, News, Turned};
use crate::store::{Before, Cell, CellId, Change, Claimed, Event, Place, Put, Swap};

fn lease(n: u64, was: Option<u64>, to: Option<u64>) -> Put {
    let cell = |stamp: u64| Cell {
        stamp: Owner(stamp),
        left: Some(Duration::from_secs(60)),
        value: stamp.to_string().into_bytes().into(),
    };
    Put { id: CellId::lease(resource(n)), was: was.map(Owner), to: to.map(cell), tell: None }
}

fn event(text: &str) -> Option<Event> {
    Some(Event::from(text.as_bytes()))
}

fn text(event: &Event) -> String {
    String::from_utf8(event.to_vec()).unwrap()
}

impl Instance {
    async fn swap(&self, swap: Swap) -> bool {
        self.store.swap(swap, self.now).await.unwrap()
    }

    async fn since(&self, after: Place, most: usize) -> Vec<Event> {
        self.store.events(after, most, self.now).await.unwrap().expect("it is held")
    }

    /// What a grant tells of the lease.
    fn told_of(turned: Turned) -> Option<(Owner, Option<Duration>, String)> {
        let Turned::Granted(grant) = turned else { panic!("{turned:?}") };
        let lease = grant.lease?;
        Some((lease.stamp, lease.left, String::from_utf8(lease.value.into()).unwrap()))
    }
}

/// W1: who waits for a topic on one instance hears of it from another, once it has happened.
pub(crate) async fn a_topic_is_told_everywhere(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let mut heard = two.news();
    let (topic, never) = (Topic([7; 16]), Topic([8; 16]));
    let told = |was, to, topic| Put { tell: Some(topic), ..lease(1, was, to) };
    assert!(one.swap(Swap { puts: vec![told(None, Some(1), topic)], ..Swap::default() }).await);
    hears(&mut heard, News::Told(topic)).await;
    assert!(!one.swap(Swap { puts: vec![told(Some(9), Some(2), never)], ..Swap::default() }).await);
    // With a record's step too.
    assert!(one.claim(1, own(1, 1)).await);
    let cells = vec![told(Some(1), None, topic)];
    let change = Change::new(id(1), Owner(1), Before::Claimed, done(case.now + 60_000));
    assert!(one.commit(Change { cells, ..change }).await);
    let next = async {
        loop {
            match heard.recv().await.unwrap() {
                News::Told(told) => break told,
                News::Ended(_) | News::Freed(_) | News::Anything => {}
            }
        }
    };
    let next = tokio::time::timeout(PATIENCE, next).await.expect("it is told");
    assert_eq!(next, topic, "what did not happen is not told");
}

/// L3, L4: who has the turn knows the lease as it stands, in the same round trip.
pub(crate) async fn a_grant_tells_of_the_lease(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    assert_eq!(Instance::told_of(two.ask(1, 1).await), None);
    two.end(1, 1).await;
    // Granted in a turn, which ends with it; who waited for the turn knows of it.
    one.granted(1, 2).await;
    assert_eq!(two.ask(1, 3).await, Turned::Busy);
    let swap = Swap { puts: vec![lease(1, None, Some(5))], turn: Some(end(1, 2, None)), event: None };
    assert!(one.swap(swap).await);
    let (stamp, left, value) = Instance::told_of(two.ask(1, 3).await).unwrap();
    assert_eq!((stamp, value.as_str()), (Owner(5), "5"));
    let left = left.unwrap();
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(60) - PATIENCE, "{left:?}");
    assert_eq!(Instance::told_of(two.ask(1, 3).await).unwrap().0, Owner(5), "the same turn asked again");
    two.end(1, 3).await;
    let (claimed, turned) =
        claim_in_turn(two.shared(), id(1), own(1, 4), wish(1, 4), case.now).await.unwrap();
    assert!(matches!(claimed, Claimed::New));
    assert_eq!(Instance::told_of(turned.unwrap()).unwrap().0, Owner(5));
    assert_eq!(Instance::told_of(two.ask(2, 9).await), None, "another resource");
    // A turn ends by a swap that is lost, too.
    let lost = Swap { puts: vec![lease(1, None, Some(6))], turn: Some(end(1, 4, None)), event: None };
    assert!(!two.swap(lost).await);
    one.granted(1, 7).await;
}

/// L2, S3: a claim without a turn tells of the lease, what stands there of it and how long.
pub(crate) async fn a_claim_tells_of_the_lease(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let asks = async |instance: &Instance, n: u64, owner: u64| {
        let beside = Beside::Lease(resource(1));
        let told = instance.shared().claim_beside(id(n), own(n, owner), beside, case.now).await;
        let (claimed, also) = told.unwrap();
        (matches!(claimed, Claimed::New), also)
    };
    assert_eq!(asks(&one, 1, 1).await, (true, Some(Also::Lease(None))));
    assert!(one.swap(Swap { puts: vec![lease(1, None, Some(5))], ..Swap::default() }).await);
    let (is_new, also) = asks(&two, 2, 2).await;
    let Some(Also::Lease(Some(cell))) = also else { panic!("{also:?}") };
    assert_eq!((is_new, cell.stamp, &*cell.value), (true, Owner(5), &b"5"[..]));
    let left = cell.left.unwrap();
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(60) - PATIENCE, "{left:?}");
    // The same claim again tells it again; another's key that is taken tells nothing.
    assert!(matches!(asks(&two, 2, 2).await, (true, Some(Also::Lease(Some(_))))));
    assert_eq!(asks(&one, 2, 3).await, (false, None));
    assert!(one.swap(Swap { puts: vec![lease(1, Some(5), None)], ..Swap::default() }).await);
    assert_eq!(asks(&one, 3, 4).await, (true, Some(Also::Lease(None))));
}

/// E1: what one instance tells wakes who reads on another.
pub(crate) async fn an_event_wakes_another_instance(case: &SharedCase) {
    let (one, two) = (case.instance().await, case.instance().await);
    let mut place = two.store.last_event().await.unwrap();
    let mut signal = two.store.event_signal();
    for n in 0..3_u64 {
        assert!(two.since(place, 9).await.is_empty());
        signal.mark_unchanged();
        let puts = vec![lease(n, None, Some(n + 1))];
        assert!(one.swap(Swap { puts, event: event(&n.to_string()), turn: None }).await);
        let read = async {
            loop {
                signal.changed().await.unwrap();
                let told = two.since(place, 9).await;
                if !told.is_empty() {
                    return told;
                }
            }
        };
        let told = tokio::time::timeout(PATIENCE, read).await.expect("it was woken");
        assert_eq!(told.iter().map(text).collect::<Vec<_>>(), [n.to_string()]);
        place.number += 1;
    }
    assert_eq!(one.store.last_event().await.unwrap(), place, "both have the same numbers");
}

const WRITERS: u64 = 8;
const WRITES: u64 = 12;

/// A writer's own resource, one write after the other, each with its event.
async fn writes(instance: Arc<Instance>, resource: u64) {
    for n in 0..WRITES {
        let of = 1000 * (resource + 1) + n;
        assert!(instance.claim(of, sent(resource, of, 1)).await);
        let change = Change::new(id(of), Owner(of), Before::Forwarded, done(instance.now + 60_000));
        let change = Change { event: event(&format!("{resource} {n}")), ..change };
        assert!(instance.commit(change).await);
    }
}

/// E1: a reader sees each event of many writers on several instances once, in the order of each resource.
pub(crate) async fn events_of_many_come_once_and_in_order(case: &SharedCase) {
    let writers = [Arc::new(case.instance().await), Arc::new(case.instance().await)];
    let mut place = writers[0].store.last_event().await.unwrap();
    let mut crowd = JoinSet::new();
    for resource in 0..WRITERS {
        crowd.spawn(writes(Arc::clone(&writers[usize::from(resource % 2 == 0)]), resource));
    }
    let mut signal = writers[1].store.event_signal();
    let mut next: HashMap<String, u64> = HashMap::new();
    let reads = async {
        while next.values().sum::<u64>() < WRITERS * WRITES {
            let told = writers[1].since(place, 7).await;
            if told.is_empty() {
                // A slow look as well: who only just began to read may be told of nothing.
                drop(tokio::time::timeout(Duration::from_secs(1), signal.changed()).await);
            }
            place.number += told.len() as u64;
            for event in &told {
                let text = text(event);
                let (resource, n) = text.split_once(' ').unwrap();
                let next = next.entry(resource.to_owned()).or_default();
                assert_eq!(n.parse::<u64>().unwrap(), *next, "of {resource}");
                *next += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE * 3, reads).await.expect("all of them come");
    crowd.join_all().await;
    assert!(next.values().all(|many| *many == WRITES), "{next:?}");
    assert!(writers[0].since(place, 9).await.is_empty(), "and nothing else");
    // What was refused is not told, and what is told again is not either.
    let lost = Change::new(id(1000), Owner(1000), Before::Claimed, forwarded(1));
    assert!(!writers[0].commit(Change { event: event("lost"), ..lost }).await);
    let again = Change::new(id(1000), Owner(1000), Before::Forwarded, done(case.now + 60_000));
    assert!(writers[0].commit(Change { event: event("again"), ..again }).await);
    let kind = CellId { kind: Kind::Task, ..CellId::lease(resource(1)) };
    assert!(writers[0].store.cell(kind, case.now).await.unwrap().is_none());
    assert!(writers[0].since(place, 9).await.is_empty());
}
