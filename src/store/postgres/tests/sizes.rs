//! What is kept takes as much room as the documentation says.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{look, options, servers};
use crate::protocol::record::{Owner, ResourceId};
use crate::store::conformance::shared::claim_in_turn;
use crate::store::conformance::{answer, done, forwarded, record};
use crate::store::postgres::Postgres;
use crate::store::shared::{TurnEnd, Turned, Wish};
use crate::store::{Before, Change, Move, Store};

const NOW: u64 = 1_000_000;
const WRITES: u64 = 1000;
/// Of its answer.
const ANSWER: usize = 200;

/// A write with turn and version, on a resource of its own, with an answer of 200 bytes.
async fn write(store: &Postgres, n: u64) {
    let id = crate::protocol::record::RecordId(
        blake3::hash(&n.to_be_bytes()).as_bytes()[..16].try_into().unwrap(),
    );
    let name = format!("/documents/{n:08}");
    let resource = ResourceId::new(&name);
    let wish = Wish { resource, name: name.clone().into(), token: Owner(n) };
    let (_, turned) = claim_in_turn(store, id, record(n, &name), wish, NOW).await.unwrap();
    let Some(Turned::Granted(grant)) = turned else { panic!("{turned:?}") };
    let sent = Change::new(id, Owner(n), Before::Claimed, forwarded(grant.fence));
    assert!(store.commit(sent, NOW).await.unwrap());
    let turn = Some(TurnEnd { resource, token: Owner(n), rest: None });
    let version = Some(Move { resource, to: grant.numbers[0], later: None, ends_rest: false });
    let change = Change::new(id, Owner(n), Before::Forwarded, done(NOW + n));
    assert!(
        store.commit(Change { answer: answer(&[b'x'; ANSWER]), turn, version, ..change }, NOW).await.unwrap()
    );
}

/// Bytes of a table for each write, with its indexes, once it is packed.
async fn packed(look: &Client, table: &str) -> i64 {
    look.batch_execute(&format!("vacuum full onceward.{table}")).await.unwrap();
    let sql = format!("select pg_total_relation_size('onceward.{table}')");
    look.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0) / i64::try_from(WRITES).unwrap()
}

// S3: docs/STORES.md says how much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_takes_as_much_room_as_is_said() {
    let server = servers::Postgres::start().await;
    let store = Postgres::open(options(&server.url(), "onceward")).await.unwrap();
    let mut crowd = JoinSet::new();
    for part in 0..4 {
        let store = Arc::clone(&store);
        crowd.spawn(async move {
            for n in 0..WRITES / 4 {
                write(&store, part * (WRITES / 4) + n).await;
            }
        });
    }
    crowd.join_all().await;
    let look = look(&server).await;
    let (record, counter) = (packed(&look, "record").await, packed(&look, "counter").await);
    assert!((430..=550).contains(&record), "a record with its answer takes {record} bytes");
    assert!((90..=130).contains(&counter), "a version that is counted here takes {counter} bytes");
}
