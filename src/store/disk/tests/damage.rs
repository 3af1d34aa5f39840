//! The file is cut short or overwritten: it opens with all that was acknowledged, or says that it does not (S5).

use std::sync::Arc;

use super::medium::Medium;
use super::told::{Agent, Book};
use super::{NOW, each_seed, options, runtime};
use crate::store::Store;

/// A file with some hundred records, after a clean close.
fn file() -> (Vec<u8>, Arc<Book>) {
    let medium = Medium::formatted();
    let book = Arc::new(Book::default());
    let store = Arc::new(medium.open(options()).unwrap());
    runtime().block_on(async {
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..10 {
            let (store, book, random) = (Arc::clone(&store), Arc::clone(&book), fastrand::Rng::with_seed(n));
            let agent = Agent { store, book, random, insists: false };
            crowd.spawn(agent.work(n * 100..n * 100 + 12));
        }
        crowd.join_all().await;
        store.sweep(NOW);
        store.close().await.unwrap();
        book.check(&medium.open(options()).unwrap(), true).await;
    });
    (medium.content(), book)
}

fn damaged(file: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut file = file.to_vec();
    let at = random.usize(..file.len());
    let page = at / 4096 * 4096;
    match random.u8(..6) {
        0 => file.truncate(at),
        1 => file.truncate(page),
        2 => file[at] ^= 1 << random.u8(..8),
        3 => file[page..(page + 4096).min(at.max(page + 1))].fill(0),
        4 => file.iter_mut().skip(at).take(random.usize(1..9000)).for_each(|byte| *byte = random.u8(..)),
        _ => file[..at.min(4096)].iter_mut().for_each(|byte| *byte = random.u8(..)),
    }
    file
}

// S5
#[test]
fn a_damaged_file_is_told_and_never_taken_for_whole() {
    let (whole, book) = file();
    let mut told = 0;
    each_seed(300, |seed| {
        let file = damaged(&whole, &mut fastrand::Rng::with_seed(seed));
        match Medium::holding(file).open(options()) {
            Ok(store) => runtime().block_on(book.check(&store, true)),
            Err(why) => {
                assert!(!why.is_empty());
                told += 1;
            }
        }
    });
    assert!(told > 0 || std::env::var_os("ONCEWARD_SEED").is_some(), "nothing was damaged");
}

// S5: by the door that operators use, with the way out.
#[test]
fn an_empty_or_foreign_file_is_no_new_store() {
    for content in [&b""[..], b"something else", &[0; 100_000]] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, content).unwrap();
        let Err(why) = crate::store::disk::Disk::open(&path, options()) else { panic!("it was opened") };
        assert!(why.contains("store cannot be opened") && why.contains("move it away"), "{why}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "it was written to");
    }
}
