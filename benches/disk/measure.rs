//! Folders, processes and what they take.

use std::path::Path;
use std::process::Command;

/// Bytes of memory, now and at most.
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) most: f64,
}

pub(crate) fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a known line");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    Memory { now: kib("VmRSS:") * 1024.0, most: kib("VmHWM:") * 1024.0 }
}

/// Runs this program again, in a process of its own.
pub(crate) fn itself(words: &[&str]) {
    let program = std::env::current_exe().expect("this program");
    // One that fills and is killed ends by a signal.
    let ended = Command::new(program).args(words).status().expect("a process");
    assert!(ended.success() || words.last() == Some(&"killed"), "{words:?}: {ended}");
}

/// A folder of its own that is gone afterwards.
pub(crate) fn in_folder(work: impl FnOnce(&Path)) {
    let within = std::env::var_os("ONCEWARD_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(within).expect("a folder");
    work(folder.path());
}

pub(crate) fn file_size(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("onceward.redb")).expect("a file").len()
}
