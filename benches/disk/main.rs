//! What the disk store costs: a start with many records, after a clean close and after a kill; memory and file size;
//! and a day's worth of keys that expires while others are written.
//!
//!     cargo bench --bench disk -- start-up [RECORDS [BODY]]
//!     cargo bench --bench disk -- expiry [RECORDS A DAY]
//!
//! `ONCEWARD_BENCH_DIR` says where the files go (the folder for temporary files).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a program for measuring stops at what it does not expect"
)]

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod load;
mod measure;

use std::path::Path;
use std::time::Instant;

fn main() {
    // cargo itself adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number =
        |at: usize, otherwise: u64| words.get(at).map_or(otherwise, |word| word.parse().expect("a number"));
    match words.first().map(String::as_str) {
        Some("fill") => load::fill(Path::new(&words[1]), number(2, 0), number(3, 0), words[4] == "closed"),
        Some("open") => open(Path::new(&words[1]), number(2, 1)),
        Some("expiry") => measure::in_folder(|folder| load::expiry(folder, number(1, 200_000))),
        Some("start-up") => start_up(number(1, 1_000_000), number(2, 300)),
        Some(_) | None => start_up(1_000_000, 300),
    }
}

/// Fills a file and starts on it, each in a process of its own.
fn start_up(records: u64, body: u64) {
    for end in ["closed", "killed"] {
        measure::in_folder(|folder| {
            let (folder, records, body) =
                (folder.display().to_string(), records.to_string(), body.to_string());
            measure::itself(&["fill", &folder, &records, &body, end]);
            for _ in 0..2 {
                // The second start is after a clean close, whatever the first was.
                print!("{records} records of {body} bytes, {end}: ");
                measure::itself(&["open", &folder, &records]);
            }
        });
    }
}

fn open(folder: &Path, records: u64) {
    let before = measure::memory();
    let begun = Instant::now();
    let store = load::open(folder, load::NOW);
    let took = begun.elapsed();
    let after = measure::memory();
    load::spot_check(&store, records);
    println!(
        "open {:.2} s, memory {:.0} MiB ({:.0} bytes a record, {:.0} MiB at most), file {:.0} bytes a record",
        took.as_secs_f64(),
        after.now / MIB,
        (after.now - before.now) / records as f64,
        measure::memory().most / MIB,
        measure::file_size(folder) as f64 / records as f64,
    );
    load::close(&store);
}

const MIB: f64 = 1024.0 * 1024.0;
