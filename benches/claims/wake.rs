//! How soon one who waits for a task has it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::figures::{percentile, waited};
use crate::place::{Crew, Place};

/// Nobody waits as long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Milliseconds from one task to the next: whoever waits has long been waiting then, and no rhythm fits.
const PAUSE: std::ops::Range<u64> = 20..60;

pub(crate) async fn wake(place: &dyn Place, mut crew: Crew, times: u64) -> Value {
    let worker = &mut crew[0];
    let (mut after_put, mut after_asked, mut puts) = (Vec::new(), Vec::new(), Vec::new());
    let (began, waited_before) = (Instant::now(), waited());
    // The first one is not counted: connections are made by it.
    for task in 0..=times {
        let waits = async {
            let got = worker.next(PATIENCE).await;
            assert_eq!(got, Some(task), "the task that was put in");
            Instant::now()
        };
        let put = async {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE))).await;
            let asked = Instant::now();
            place.put(task).await;
            (asked, Instant::now())
        };
        let (got, (asked, confirmed)) = tokio::join!(waits, put);
        assert!(worker.done().await, "task {task} was another's");
        if task > 0 {
            // It may be here before its confirmation is.
            after_put.push(got.saturating_duration_since(confirmed));
            after_asked.push(got - asked);
            puts.push(confirmed - asked);
        }
    }
    worker.leave().await;
    json!({
        "times": times,
        "seconds": began.elapsed().as_secs_f64(),
        "waited": (waited() - waited_before).as_secs_f64(),
        "p50_ms": percentile(&mut after_put, 50),
        "p99_ms": percentile(&mut after_put, 99),
        "asked_p50_ms": percentile(&mut after_asked, 50),
        "asked_p99_ms": percentile(&mut after_asked, 99),
        "put_p50_ms": percentile(&mut puts, 50),
    })
}
