//! A store that nobody reaches: each write is refused, and none leaves work behind.

use std::sync::Arc;

use super::CONFIGS;
use super::agent::patient;
use crate::http::Body;
use crate::stack::Gate;
use crate::store::model::{Ask, AtOnce, Model};
use crate::store::shared::Instance;
use crate::store::{Reply, StoreError};

struct Gone;

impl Ask for Gone {
    fn ask<T, F>(&self, _: &'static str, _: F) -> Reply<T>
    where
        T: Send + Unpin + 'static,
        F: FnOnce(&mut Model) -> T + Send + 'static,
    {
        Reply::now(Err(StoreError::Unreached))
    }

    fn look<T>(&self, act: impl FnOnce(&Model) -> T) -> T {
        act(&Model::default())
    }

    fn instance(&self) -> Option<Instance> {
        Some(Instance(1))
    }
}

// S4: an outage is as long as it is, and memory is not.
#[tokio::test(start_paused = true)]
async fn an_outage_leaves_nothing_behind() {
    let gate = Gate::new(&CONFIGS[0], Arc::new(Gone), AtOnce::store());
    for path in ["/tool/1", "/free/1"] {
        for n in 0..50 {
            let request =
                http::Request::post(path).header("host", "sim").header("idempotency-key", n.to_string());
            let request = request.body(Body::Empty).unwrap();
            let answer = Arc::clone(&gate).answer(request, Arc::new(patient()), None).await;
            assert_eq!(answer.status(), 503, "{path}");
        }
    }
    assert_eq!(gate.tasks.len(), 0, "tasks that wait for the store to come back");
    assert!(gate.turns.busy(8).is_empty());
}
