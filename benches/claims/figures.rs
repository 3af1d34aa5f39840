//! What is made of measurements.

use std::time::Duration;

/// The time that so many of a hundred took at most, in milliseconds.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    if times.is_empty() {
        return 0.0;
    }
    times.sort_unstable();
    let at = (times.len() * percent).div_ceil(100).max(1) - 1;
    times[at].as_secs_f64() * 1000.0
}

/// How long this process was ready to run but something else had its core.
pub(crate) fn waited() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
    let waited = |task: std::fs::DirEntry| {
        // Threads come and go, and not every kernel keeps count.
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.flatten().filter_map(waited).sum())
}
