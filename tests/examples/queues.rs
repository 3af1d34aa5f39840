//! The example whose workers claim tasks.

use super::{Api, keeps_all, python};

// J2: a list that any API has is handed out. J3: what a worker died with is handed out again, and its late
// acknowledgment is refused, as `late acknowledgment: claim-lost` in the output.
#[tokio::test]
async fn workers_share_a_task_list() {
    let api = Api::start(python("apis.py"));
    keeps_all("task-list", &api).await;
}
