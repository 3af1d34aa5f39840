//! What stands between a store and its server: it passes on, until it is told to lose a reply.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The word of the request whose reply is to be lost.
type Lost = Arc<Mutex<Option<String>>>;

/// Connections to one server, in our hands.
pub(crate) struct Wire {
    port: u16,
    lost: Lost,
    accepting: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let lost = Lost::default();
        let loses = Arc::clone(&lost);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
                if let Ok(server) = server {
                    tokio::spawn(pass(client, server, Arc::clone(&loses)));
                }
            }
        });
        Self { port: own, lost, accepting }
    }

    /// Where a store connects instead.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The reply to the next request with this word in it is lost, and its connection with it. Others go on: a
    /// session that listens is looked after now and then.
    pub(crate) fn lose_the_reply_to(&self, word: &str) {
        *self.lost.lock().unwrap() = Some(word.to_owned());
    }

    /// Whether it was.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost.lock().unwrap().is_none()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, lost: Lost) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (loses, loses_next) = watch::channel(false);
    let there = tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = from_client.read(&mut bytes).await {
            {
                let mut lost = lost.lock().unwrap();
                let is_it = |word: &String| bytes[..n].windows(word.len()).any(|at| at == word.as_bytes());
                if lost.as_ref().is_some_and(is_it) {
                    *lost = None;
                    loses.send_replace(true);
                }
            }
            if to_server.write_all(&bytes[..n]).await.is_err() {
                break;
            }
        }
        to_server.shutdown().await.ok();
    });
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = from_server.read(&mut bytes).await {
        // What the server said is said, and it has done what it said.
        if *loses_next.borrow() || to_client.write_all(&bytes[..n]).await.is_err() {
            break;
        }
    }
    there.abort();
}
