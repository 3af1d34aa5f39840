//! Maps whose keys are digests.

use std::hash::{BuildHasherDefault, Hasher};

/// Takes the first eight bytes of an id for its hash: ids are digests already.
#[derive(Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.0 ^= u64::from_ne_bytes(first);
    }

    fn write_usize(&mut self, _: usize) {}
}

pub(crate) type ById = BuildHasherDefault<FirstBytes>;
