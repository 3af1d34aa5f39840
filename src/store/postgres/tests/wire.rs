//! What stands between a store and its server: it passes on, until it is told to lose a reply.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Connections to one server, in our hands.
pub(super) struct Wire {
    port: u16,
    loses_reply: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl Wire {
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let loses_reply = Arc::new(AtomicBool::new(false));
        let loses = Arc::clone(&loses_reply);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
                if let Ok(server) = server {
                    tokio::spawn(pass(client, server, Arc::clone(&loses)));
                }
            }
        });
        Self { port: own, loses_reply, accepting }
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://postgres:secret@127.0.0.1:{}/postgres", self.port)
    }

    /// The next reply is lost, and its connection with it.
    pub(super) fn lose_a_reply(&self) {
        self.loses_reply.store(true, Ordering::SeqCst);
    }

    /// Whether it was.
    pub(super) fn has_lost(&self) -> bool {
        !self.loses_reply.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, loses: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = tokio::spawn(async move {
        tokio::io::copy(&mut from_client, &mut to_server).await.ok();
        to_server.shutdown().await.ok();
    });
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = from_server.read(&mut bytes).await {
        if loses.swap(false, Ordering::SeqCst) {
            // What the server said is said, and it has done what it said.
            break;
        }
        if to_client.write_all(&bytes[..n]).await.is_err() {
            break;
        }
    }
    there.abort();
}
