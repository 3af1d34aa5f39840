//! A TCP relay with one address for good, whose other side moves, that can cut, hold and reset what goes through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: Mutex<String>,
    /// Each change ends every connection there is.
    cut: watch::Sender<u64>,
    /// While it is true nothing goes through, either way.
    held: watch::Sender<bool>,
    /// One connection in so many ends after a few bytes or chunks of its own accord; 0: none.
    breaks: AtomicU64,
    cuts: AtomicU64,
    rng: Mutex<fastrand::Rng>,
}

impl Relay {
    pub async fn to(target: &str, seed: u64) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            cut: watch::Sender::new(0),
            held: watch::Sender::new(false),
            breaks: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Relay { address, shared, accepting }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on new connections go there.
    pub fn moves(&self, target: &str) {
        *self.shared.target.lock() = target.to_owned();
    }

    pub fn cut_all(&self) {
        self.shared.cut.send_modify(|times| *times += 1);
    }

    /// One connection in `n` breaks of its own accord from now on; 0: none.
    pub fn breaks_one_in(&self, n: u64) {
        self.shared.breaks.store(n, Ordering::Relaxed);
    }

    /// Nothing goes through for so long, and then everything.
    pub async fn hold(&self, time: Duration) {
        self.holds(true);
        tokio::time::sleep(time).await;
        self.holds(false);
    }

    /// Nothing goes through until it is told otherwise.
    pub fn holds(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    /// How many connections were cut while somebody still wanted them.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(carry(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(near: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    let target = shared.target.lock().clone();
    let Ok(far) = TcpStream::connect(&target).await else { return };
    // A socket that is gone already shows when it is used.
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    let (there, back) = (shared.patience(), shared.patience());
    let both = async {
        tokio::try_join!(
            pump(near_reads, far_writes, &shared, there),
            pump(far_reads, near_writes, &shared, back)
        )
    };
    // Dropping a half with bytes unread resets, otherwise it closes: both happen.
    tokio::select! {
        done = both => {
            let broke = done.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::Other);
            shared.cuts.fetch_add(u64::from(broke), Ordering::Relaxed);
        }
        _ = cut.changed() => {
            shared.cuts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shared {
    /// After how many bytes a direction breaks, if it does.
    fn patience(&self) -> Option<usize> {
        let one_in = self.breaks.load(Ordering::Relaxed);
        let mut rng = self.rng.lock();
        (one_in > 0 && rng.u64(0..2 * one_in) == 0).then(|| rng.usize(0..3_000))
    }
}

/// Carries one direction to its end, and closes that direction behind it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    mut patience: Option<usize>,
) -> std::io::Result<()> {
    let mut held = shared.held.subscribe();
    let mut bytes = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut bytes).await?;
        if held.wait_for(|held| !held).await.is_err() || read == 0 {
            return to.shutdown().await;
        }
        let sent = read.min(patience.unwrap_or(read));
        to.write_all(&bytes[..sent]).await?;
        patience = patience.map(|left| left - sent);
        if patience == Some(0) {
            return Err(std::io::Error::other("cut"));
        }
    }
}
