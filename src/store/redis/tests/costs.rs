//! What is kept for how many bytes of the server's memory: the figures of docs/STORES.md, with room for the tables that
//! a server grows now and then.

use std::ops::Range;
use std::time::Duration;

use super::server;
use super::{Options, Redis, now, options};
use crate::protocol::record::{Owner, Record, RecordId, ResourceId, State};
use crate::store::conformance::{answer, done, mark, record, unknown};
use crate::store::{Before, Change, Move, Store};

const MANY: u64 = 2000;

fn id(n: u64) -> RecordId {
    RecordId::new(
        crate::protocol::record::Space::Enforced,
        &crate::protocol::record::Principal([7; 32]),
        &n.to_string(),
    )
}

/// Bytes in use but for connections, from one look: it is the same moment for all of them.
async fn used(server: &server::Redis) -> u64 {
    let info = server.ask(&["INFO", "memory"]).await;
    let of = |name: &str| {
        let line = info.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().parse::<u64>().unwrap()
    };
    of("used_memory") - of("mem_clients_normal")
}

async fn costs(what: &str, wanted: Range<u64>, before: u64, server: &server::Redis) {
    let each = used(server).await.saturating_sub(before) / MANY;
    println!("{what}: {each} bytes");
    assert!(wanted.contains(&each), "{what}: {each} bytes, not {wanted:?}");
}

// S3
#[tokio::test]
async fn what_a_record_costs() {
    let server = server::Redis::start().await;
    // A busy machine may take its time here.
    let patient = Duration::from_secs(600);
    let patient = Options { alive: patient, patience: patient, ..options(server.url()) };
    let store = Redis::open(patient).await.unwrap();
    let (now, body) = (now(), [b'x'; 300]);
    // The first ones bring the scripts along, and what the server makes once.
    for (what, wanted, many) in [
        ("unknown", 0..u64::MAX, 50),
        ("done, without an answer", 120..420, MANY),
        ("done, 300 bytes", 460..780, MANY),
        ("unknown", 520..1050, MANY),
    ] {
        let before = used(&server).await;
        for n in 0..many {
            let n = n + MANY * wanted.start;
            let state = State::Forwarded { mark: mark(1), status: None };
            let sent = Record { state, ..record(n, &format!("/documents/{n}")) };
            store.claim(id(n), sent, now).await.unwrap();
            let is_unknown = what == "unknown";
            let set = if is_unknown { unknown(1, now + 600_000) } else { done(now + 600_000) };
            let answer = if what == "done, 300 bytes" { answer(&body) } else { None };
            let change = Change::new(id(n), Owner(n), Before::Forwarded, set);
            assert!(store.commit(Change { answer, ..change }, now).await.unwrap());
        }
        costs(what, wanted, before, &server).await;
    }
    let before = used(&server).await;
    for n in 0..MANY {
        let to = store.next_number().await.unwrap();
        let resource = ResourceId::new(&format!("/documents/{n}"));
        let moved = Move { resource, to, later: None, ends_rest: false };
        store.move_version(moved, now).await.unwrap();
    }
    costs("a minted version", 80..260, before, &server).await;
}
