//! Behind a PgBouncer that gives sessions out for a transaction at a time: the same lists.

use tokio::sync::OnceCell;

use super::servers::PgBouncer;
use super::{open, options, schema, server};
use crate::store::Store;
use crate::store::conformance::{Case, on_each_case, on_each_cell_case};
use crate::store::postgres::Postgres;

/// Fewer sessions than connections: nothing may hold on to one.
async fn pooler() -> &'static PgBouncer {
    static POOLER: OnceCell<PgBouncer> = OnceCell::const_new();
    POOLER.get_or_init(|| async { PgBouncer::before(server().await, 3).await }).await
}

mod alone {
    use super::*;

    on_each_case!((Case { store: open(&pooler().await.url(), &schema()).await, now: 1_000_000 }, ()));
    on_each_cell_case!((Case { store: open(&pooler().await.url(), &schema()).await, now: 1_000_000 }, ()));
}

mod shared {
    use super::*;
    use crate::store::conformance::shared::on_each_shared_case;

    on_each_shared_case!((super::super::shared_case(pooler().await.url()), ()));
}

// S3: a start knows whether the server's sessions are its own, also while others are busy behind the same pooler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_knows_whose_the_sessions_are() {
    let direct = Postgres::open(options(&server().await.url(), &schema())).await.unwrap();
    assert!(direct.core.listens());
    for _ in 0..10 {
        let pooled = Postgres::open(options(&pooler().await.url(), &schema())).await.unwrap();
        assert!(!pooled.core.listens());
    }
}

// S3: one that gives a session out for as long as its connection lives is as none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_a_pooler_may_be_its_own() {
    let pooler = PgBouncer::with(server().await, 20, "session").await;
    let store = Postgres::open(options(&pooler.url(), &schema())).await.unwrap();
    assert!(store.core.listens());
    store.next_number().await.unwrap();
}
