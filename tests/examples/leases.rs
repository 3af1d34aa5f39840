//! The examples whose agents hold what they work on.

use super::{Api, keeps_all, python};

// L1: who waits gets it when it is given back or lapses. L2, P5: what comes with a lease that lapsed is refused, as
// `late write: lease-lost` in the output.
#[tokio::test]
async fn agents_lease_what_they_take_through_its_steps() {
    let api = Api::start(python("apis.py"));
    keeps_all("workflow-lease", &api).await;
}

// V6, Q1, L2: the same count by each
#[tokio::test]
async fn a_counter_is_protected_in_three_ways() {
    let api = Api::start(python("apis.py"));
    keeps_all("counter-three-ways", &api).await;
}
