//! A disk that knows what was synced and what was only written, loses its power, fails and hangs on demand.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use redb::{Builder, StorageBackend};

use crate::store::disk::file::{self, Opener};
use crate::store::disk::{Disk, Options};

/// What a disk keeps or loses as a whole.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    SetLen,
    Sync,
}

/// Which operations fail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// `None`: of every kind.
    pub(super) kind: Option<Kind>,
    /// So many go well before.
    pub(super) after: u64,
    /// So many fail.
    pub(super) times: u64,
    /// What a failed sync was to make durable is durable all the same.
    pub(super) synced_anyway: bool,
}

#[derive(Debug)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Debug, Default)]
struct Inside {
    /// What a process reads.
    current: Vec<u8>,
    /// What surely survives.
    durable: Vec<u8>,
    unsynced: Vec<Op>,
    fault: Option<Fault>,
    /// Whoever opened it before a power cut has it no more.
    generation: u64,
    hangs: bool,
    is_hanging: bool,
    syncs: u64,
}

/// A disk with one file on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Medium(Arc<(Mutex<Inside>, Condvar)>);

fn apply(to: &mut Vec<u8>, op: &Op) {
    match op {
        Op::SetLen(length) => to.resize(*length, 0),
        Op::Write(at, data) => {
            let end = (at + data.len()).min(to.len());
            if *at < end {
                to[*at..end].copy_from_slice(&data[..end - at]);
            }
        }
    }
}

impl Medium {
    /// With an empty store on it.
    pub(super) fn formatted() -> Self {
        let medium = Self::default();
        let database = (medium.opener())(&Builder::new()).unwrap();
        file::prepare(&database).unwrap();
        drop(database);
        medium
    }

    /// With this file on it.
    pub(super) fn holding(file: Vec<u8>) -> Self {
        let medium = Self::default();
        medium.0.0.lock().durable = file.clone();
        medium.0.0.lock().current = file;
        medium
    }

    pub(super) fn content(&self) -> Vec<u8> {
        self.0.0.lock().current.clone()
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.0.lock().syncs
    }

    /// For one process: after a power cut it opens nothing more.
    pub(super) fn opener(&self) -> Opener {
        let (medium, generation) = (self.clone(), self.0.0.lock().generation);
        Box::new(move |builder| builder.create_with_backend(Handle { medium: medium.clone(), generation }))
    }

    pub(super) fn open(&self, options: Options) -> Result<Disk, String> {
        Disk::open_by(self.opener(), None, options)
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.0.0.lock().fault = Some(fault);
    }

    /// Syncs wait from now on, or no longer.
    pub(super) fn hang(&self, hangs: bool) {
        self.0.0.lock().hangs = hangs;
        self.0.1.notify_all();
    }

    /// Waits until a sync hangs.
    pub(super) async fn until_it_hangs(&self) {
        while !self.0.0.lock().is_hanging {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The power is cut: of what was not synced each sector may be there or not.
    pub(super) fn cut(&self, random: &mut fastrand::Rng) {
        let mut inside = self.0.0.lock();
        let mut left = std::mem::take(&mut inside.durable);
        for op in std::mem::take(&mut inside.unsynced) {
            match (random.u8(..4), op) {
                (0, _) => {}
                (1, Op::Write(at, data)) => {
                    for (n, sector) in data.chunks(SECTOR).enumerate().filter(|_| random.bool()) {
                        apply(&mut left, &Op::Write(at + n * SECTOR, sector.to_vec()));
                    }
                }
                (_, op) => apply(&mut left, &op),
            }
        }
        inside.durable.clone_from(&left);
        inside.current = left;
        inside.generation += 1;
        inside.fault = None;
    }

    /// The process is killed: what it wrote is there.
    pub(super) fn kill(&self) {
        let mut inside = self.0.0.lock();
        inside.unsynced.clear();
        inside.durable = inside.current.clone();
        inside.generation += 1;
        inside.fault = None;
    }
}

#[derive(Debug)]
struct Handle {
    medium: Medium,
    generation: u64,
}

impl Handle {
    fn act<T>(&self, kind: Kind, act: impl FnOnce(&mut Inside) -> io::Result<T>) -> io::Result<T> {
        let (inside, changed) = &*self.medium.0;
        let mut inside = inside.lock();
        if kind == Kind::Sync {
            inside.syncs += 1;
            while inside.hangs {
                inside.is_hanging = true;
                changed.notify_all();
                changed.wait(&mut inside);
            }
            inside.is_hanging = false;
        }
        if inside.generation != self.generation {
            return Err(io::Error::other("the power is off"));
        }
        if let Some(fault) = &mut inside.fault
            && fault.kind.is_none_or(|failing| failing == kind)
        {
            if fault.after > 0 {
                fault.after -= 1;
                return act(&mut inside);
            }
            let synced = kind == Kind::Sync && fault.synced_anyway;
            fault.times = fault.times.saturating_sub(1);
            if fault.times == 0 {
                inside.fault = None;
            }
            if synced {
                drop(act(&mut inside));
            }
            return Err(io::Error::new(io::ErrorKind::StorageFull, "injected"));
        }
        act(&mut inside)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.act(Kind::Read, |inside| Ok(inside.current.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.act(Kind::Read, |inside| {
            let data = inside.current.get(at..at + out.len());
            out.copy_from_slice(data.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let op = Op::SetLen(usize::try_from(length).unwrap());
        self.act(Kind::SetLen, |inside| {
            apply(&mut inside.current, &op);
            inside.unsynced.push(op);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.act(Kind::Sync, |inside| {
            for op in std::mem::take(&mut inside.unsynced) {
                apply(&mut inside.durable, &op);
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let op = Op::Write(usize::try_from(offset).unwrap(), data.to_vec());
        self.act(Kind::Write, |inside| {
            apply(&mut inside.current, &op);
            inside.unsynced.push(op);
            Ok(())
        })
    }
}
