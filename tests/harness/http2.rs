//! An HTTP/2 client that sends a head as it is told, a `host` beside `:authority` included.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Answer, Proxy, within};

pub struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Http2 {
    pub async fn connect(proxy: &Proxy) -> Http2 {
        Http2::to(proxy.addr()).await
    }

    pub async fn to(address: &str) -> Http2 {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let started = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = started.expect("an HTTP/2 connection");
        Http2 { sender, connection: tokio::spawn(connection) }
    }

    /// Waits until the other side has closed the connection.
    pub async fn closed(self) {
        within("an HTTP/2 connection to be closed", self.connection).await.expect("no panic").ok();
    }

    /// Sends one request, and leaves the answer's body where it is.
    pub async fn head(&mut self, request: http::Request<&'static str>) -> http::Response<Incoming> {
        let request = request.map(|body| Full::new(Bytes::from_static(body.as_bytes())));
        within("a head on HTTP/2", self.sender.send_request(request)).await.expect("an answer")
    }

    /// Sends one request; `None` where the proxy ends the stream instead of answering.
    pub async fn send(&mut self, request: http::Request<&'static str>) -> Option<Answer> {
        let request = request.map(|body| Full::new(Bytes::from_static(body.as_bytes())));
        let answered = within("an answer on HTTP/2", self.sender.send_request(request)).await;
        let (head, body) = answered.ok()?.into_parts();
        let body = within("the body of an answer on HTTP/2", body.collect()).await.ok()?.to_bytes();
        Some(Answer::new(head.status.as_u16(), head.headers, body))
    }
}
