//! The power is cut at any moment (S5): what was acknowledged is there, and nothing half.

use std::sync::Arc;

use super::medium::{Fault, Medium};
use super::told::{Agent, Book};
use super::{NOW, each_seed, options, runtime};
use crate::store::Store;
use crate::store::disk::Disk;

const AGENTS: u64 = 6;
const KEYS: u64 = 6;

/// All agents at once, while somebody sweeps.
async fn campaign(store: &Arc<Disk>, book: &Arc<Book>, random: &mut fastrand::Rng, first: u64) {
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..AGENTS {
        let (store, book) = (Arc::clone(store), Arc::clone(book));
        let agent = Agent { store, book, random: random.fork(), insists: false };
        let from = first + n * KEYS;
        crowd.spawn(agent.work(from..from + KEYS));
    }
    while crowd.join_next().await.is_some() {
        store.sweep(NOW);
    }
}

// S5, K15, V8, L4, O4, invariant 3
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    each_seed(60, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let medium = Medium::formatted();
        let book = Arc::new(Book::default());
        for round in 0..3 {
            let store = Arc::new(medium.open(options()).unwrap());
            runtime().block_on(async {
                book.check(&store, false).await;
                let dies =
                    Fault { kind: None, after: random.u64(..400), times: u64::MAX, synced_anyway: false };
                medium.fail(dies);
                campaign(&store, &book, &mut random, 1000 * round).await;
            });
            // Before the store is let go: nothing may be tidied up at its end.
            if random.u8(..4) == 0 { medium.kill() } else { medium.cut(&mut random) }
        }
        let store = medium.open(options()).unwrap();
        runtime().block_on(book.check(&store, false));
    });
}

// S5
#[test]
fn a_power_cut_while_it_is_opened_or_closed_loses_nothing() {
    each_seed(40, |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let medium = Medium::formatted();
        let book = Arc::new(Book::default());
        let store = Arc::new(medium.open(options()).unwrap());
        runtime().block_on(campaign(&store, &book, &mut random, 0));
        medium.fail(Fault { kind: None, after: random.u64(..40), times: u64::MAX, synced_anyway: false });
        // Whether it says so or not: the power may be gone in the middle of it.
        runtime().block_on(store.close()).ok();
        medium.cut(&mut random);
        for _ in 0..3 {
            medium.fail(Fault { kind: None, after: random.u64(..60), times: u64::MAX, synced_anyway: false });
            drop(medium.open(options()));
            medium.cut(&mut random);
        }
        let store = medium.open(options()).unwrap();
        runtime().block_on(book.check(&store, true));
    });
}
