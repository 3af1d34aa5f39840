//! One process a file (S3): a second one is told who has it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Held as long as the store is open. The kernel lets it go with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock beside a store's file.
    ///
    /// # Errors
    /// A sentence for the operator: who holds it, or why it cannot be had.
    pub(super) fn take(store: &Path) -> Result<Self, String> {
        let path = beside(store);
        let cannot = |error: &dyn std::fmt::Display| format!("{} cannot be locked: {error}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| cannot(&error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(store, &mut file)),
            Err(error) => return Err(cannot(&error)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| write!(file, "{}", std::process::id())).map_err(|error| cannot(&error))?;
        Ok(Self { _file: file })
    }
}

fn beside(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn held(store: &Path, file: &mut File) -> String {
    let mut by = String::new();
    // Who it is only helps; that it is held is enough.
    let who = match file.read_to_string(&mut by) {
        Ok(_) if by.parse::<u32>().is_ok() => format!("process {by}"),
        Ok(_) | Err(_) => "another process".to_owned(),
    };
    format!(
        "{} is in use by {who}. A disk store is one instance's own: stop that one, or give this one another path",
        store.display()
    )
}
