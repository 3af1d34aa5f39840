//! A relay right before a real API that passes every byte on as it comes, and knows afterwards which writes came by.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// All that was sent over one connection, from its start.
type Sent = Arc<Mutex<Vec<u8>>>;

pub struct Witness {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Sent>>>,
    accepting: JoinHandle<()>,
}

impl Witness {
    pub async fn start(upstream: SocketAddr) -> Witness {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, upstream, connections.clone()));
        Witness { address, connections, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The idempotency keys of all requests that came by (K16). A read or a probe has none (R3, V1).
    fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for sent in self.connections.lock().iter() {
            let text = String::from_utf8_lossy(&sent.lock()).into_owned();
            for line in text.split("\r\n") {
                if let Some((name, key)) = line.split_once(':')
                    && name.eq_ignore_ascii_case("idempotency-key")
                {
                    keys.push(key.trim().to_owned());
                }
            }
        }
        keys
    }

    /// Asserts that so many writes came by, no two of them under one key.
    #[track_caller]
    pub fn saw_each_key_once(&self, writes: usize) {
        let keys = self.keys();
        let different: HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len(), "a key reached the API twice");
        assert_eq!(keys.len(), writes, "writes that reached the API");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, connections: Arc<Mutex<Vec<Sent>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let sent = Sent::default();
        connections.lock().push(sent.clone());
        // A connection that breaks off here has broken off on one of its sides, where it is noticed.
        tokio::spawn(async move { relay(stream, upstream, sent).await.ok() });
    }
}

async fn relay(proxy: TcpStream, upstream: SocketAddr, sent: Sent) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream).await?;
    proxy.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_proxy, to_proxy) = proxy.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    tokio::try_join!(requests(from_proxy, to_upstream, sent), answers(from_upstream, to_proxy))?;
    Ok(())
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, sent: Sent) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        sent.lock().extend_from_slice(&buffer[..length]);
        to.write_all(&buffer[..length]).await?;
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
