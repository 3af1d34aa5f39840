//! An agent's socket, shared between the connection that reads it and a wait that must see the agent leave.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::http::gather::Gather;
use crate::http::request::Gone;

/// A handle; all of them are one socket.
#[derive(Clone)]
pub(super) struct Socket(pub(super) Arc<TcpStream>);

impl Socket {
    /// Reads what is there.
    ///
    /// A read that does not fill the buffer has emptied the socket, so its readiness is taken back at once, within
    /// the same look at it: that saves the read that would only say "nothing there".
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let mut taken = 0;
            let room = buffer.len();
            let read = self.0.try_io(Interest::READABLE, || {
                taken = rustix::io::read(&*self.0, &mut *buffer)?;
                if taken > 0 && taken < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
            });
            match read {
                Ok(bytes) => return Poll::Ready(Ok(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if taken > 0 {
                        return Poll::Ready(Ok(taken));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let sent = match Gather::new().join(buffers) {
                Some(joined) => self.0.try_write(joined),
                None => self.0.try_write_vectored(buffers),
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Makes the close of the socket a reset.
    pub(super) fn reset(&self) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_linger(&*self.0, Some(std::time::Duration::ZERO))?)
    }

    /// Says that nothing more comes from here (a FIN).
    pub(super) fn shutdown(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Write)?)
    }

    /// Reads and drops what the agent still sends, so that closing does not reset an answer it has not read yet (F6).
    pub(super) async fn linger(&self) {
        const MOST_BYTES: usize = 16 << 20;
        const MOST_TIME: std::time::Duration = std::time::Duration::from_secs(1);
        drop(
            tokio::time::timeout(MOST_TIME, async {
                let (mut scratch, mut total) = ([0_u8; 4096], 0);
                while total < MOST_BYTES {
                    match std::future::poll_fn(|cx| self.poll_recv(cx, &mut scratch)).await {
                        Ok(0) | Err(_) => return,
                        Ok(bytes) => total += bytes,
                    }
                }
            })
            .await,
        );
    }
}

impl Gone for Socket {
    fn gone(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            // Whatever it says, an error on the socket is the end of it. A half-close raises none.
            drop(self.0.ready(Interest::ERROR).await);
        })
    }
}
