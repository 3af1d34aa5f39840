//! The example that reacts to changes.

use super::{Api, keeps_all, python};

// E1: an event for each change, in order, over streams that break off. E2: a read that waits for the newest state.
#[tokio::test]
async fn a_reader_of_events_misses_no_change() {
    let api = Api::start(python("apis.py"));
    keeps_all("event-reader", &api).await;
}
