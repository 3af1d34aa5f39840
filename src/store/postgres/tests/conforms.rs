//! What every store has to do, and what every shared one has to.

use super::{open, schema, server};
use crate::store::conformance::{Case, on_each_case};

mod alone {
    use super::*;

    on_each_case!((Case { store: open(&server().await.url(), &schema()).await, now: 1_000_000 }, ()));
}

mod shared {
    use super::*;
    use crate::store::conformance::shared::{SharedCase, on_each_shared_case};

    async fn case() -> SharedCase {
        let (url, schema) = (server().await.url(), schema());
        let open = Box::new(move || {
            let (url, schema) = (url.clone(), schema.clone());
            let opened: std::pin::Pin<Box<dyn Future<Output = _> + Send>> =
                Box::pin(async move { open(&url, &schema).await });
            opened
        });
        SharedCase { open, now: 1_000_000 }
    }

    on_each_shared_case!((case().await, ()));
}
