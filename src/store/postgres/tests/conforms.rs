//! What every store has to do, and what every shared one has to.

use super::{open, schema, server, shared_case};
use crate::store::conformance::{Case, on_each_case, on_each_cell_case};

mod alone {
    use super::*;

    on_each_case!((Case { store: open(&server().await.url(), &schema()).await, now: 1_000_000 }, ()));
    on_each_cell_case!((Case { store: open(&server().await.url(), &schema()).await, now: 1_000_000 }, ()));
}

mod shared {
    use super::*;
    use crate::store::conformance::shared::on_each_shared_case;

    on_each_shared_case!((shared_case(server().await.url()), ()));
}
