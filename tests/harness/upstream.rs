//! A scripted upstream on raw sockets: it writes down what it got and answers as told, also badly.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::wire::{self, Framing, Head};
use super::{Gate, Reply, within};

/// A request as the upstream got it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub head: Head,
    pub body: Vec<u8>,
    /// All of the body has come.
    pub whole: bool,
    /// The other side left before the answer was sent.
    pub abandoned: bool,
    /// All that the script has for it was sent, or could not be.
    pub answered: bool,
    /// The upstream has closed the connection it came on.
    pub closed: bool,
    pub connection: usize,
    /// The how manieth request on its connection, from 0.
    pub nth: usize,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<String> {
        self.head.first(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Script = Box<dyn Fn(Seen) -> Answering + Send + Sync>;

struct Stage {
    queue: Mutex<VecDeque<Reply>>,
    script: Script,
    seen: watch::Sender<Vec<Seen>>,
}

pub struct Upstream {
    address: String,
    stage: Arc<Stage>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Answers 200 `ok` to everything that no queued reply is there for.
    pub async fn start() -> Upstream {
        Upstream::answering(|_| Reply::ok("ok")).await
    }

    pub async fn answering(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Upstream {
        Upstream::scripted(move |seen| {
            let reply = script(&seen);
            Box::pin(async move { reply })
        })
        .await
    }

    /// At a place of its own, for what has to have a known port.
    #[cfg(feature = "otlp")]
    pub async fn answering_at(
        place: &str,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Upstream {
        let script = move |seen: Seen| -> Answering {
            let reply = script(&seen);
            Box::pin(async move { reply })
        };
        Upstream::at(place, script).await
    }

    pub async fn scripted(script: impl Fn(Seen) -> Answering + Send + Sync + 'static) -> Upstream {
        Upstream::at("127.0.0.1:0", script).await
    }

    async fn at(place: &str, script: impl Fn(Seen) -> Answering + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind(place).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address").to_string();
        let queue = Mutex::new(VecDeque::new());
        let stage = Arc::new(Stage { queue, script: Box::new(script), seen: watch::Sender::new(Vec::new()) });
        let accepting = tokio::spawn(accept(listener, stage.clone()));
        Upstream { address, stage, accepting }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The reply to the next request that has none yet; before the script.
    pub fn next(&self, reply: Reply) -> &Upstream {
        self.stage.queue.lock().push_back(reply);
        self
    }

    /// Every request so far, in the order their heads came.
    pub fn requests(&self) -> Vec<Seen> {
        self.stage.seen.borrow().clone()
    }

    /// The requests with that method, in order.
    pub fn with_method(&self, method: &str) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.method == method).collect()
    }

    /// Waits until the heads of `count` requests have come.
    #[track_caller]
    pub fn arrived(&self, count: usize) -> impl Future<Output = Vec<Seen>> {
        self.until(format!("{count} requests at the upstream"), move |seen| seen.len() >= count)
    }

    /// Waits until `count` requests have come whole.
    #[track_caller]
    pub fn received(&self, count: usize) -> impl Future<Output = Vec<Seen>> {
        let whole = move |seen: &Vec<Seen>| seen.iter().filter(|one| one.whole).count() >= count;
        self.until(format!("{count} whole requests at the upstream"), whole)
    }

    /// Waits until the requests so far are as `wanted`.
    #[track_caller]
    pub fn until(
        &self,
        what: impl Into<String>,
        mut wanted: impl FnMut(&Vec<Seen>) -> bool,
    ) -> impl Future<Output = Vec<Seen>> {
        let mut changes = self.stage.seen.subscribe();
        within(what, async move { changes.wait_for(|seen| wanted(seen)).await.expect("it runs").clone() })
    }
}

/// A port that is taken and listened to by nobody: every connection is refused.
pub struct Nobody(tokio::net::TcpSocket);

impl Nobody {
    pub fn new() -> Nobody {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        Nobody(socket)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("a bound address"))
    }
}

/// A port whose line of connections to be taken is full: a new one neither succeeds nor fails.
pub struct Full {
    listener: tokio::net::TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Full {
    pub async fn new() -> Full {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(1).expect("a listener");
        let address = listener.local_addr().expect("a bound address");
        let mut waiting = Vec::new();
        // That one more does not come through shows that it is full.
        let long = std::time::Duration::from_millis(500);
        while let Ok(connected) = tokio::time::timeout(long, TcpStream::connect(address)).await {
            waiting.push(connected.expect("a connection that waits"));
        }
        Full { listener, _waiting: waiting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("a bound address"))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, stage: Arc<Stage>) {
    let mut connections = tokio::task::JoinSet::new();
    let mut count = 0;
    while let Ok((stream, _)) = listener.accept().await {
        let stage = stage.clone();
        let connection = count;
        count += 1;
        connections.spawn(async move {
            // How a connection ends is the script's business and shows on the other side.
            serve(stream, connection, &stage).await.ok();
            let of_it = |seen: &&mut Seen| seen.connection == connection;
            stage.seen.send_modify(|seen| seen.iter_mut().filter(of_it).for_each(|seen| seen.closed = true));
        });
    }
}

async fn serve(stream: TcpStream, connection: usize, stage: &Stage) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    for nth in 0.. {
        let Some(head) = wire::read_head(&mut stream).await? else { return Ok(()) };
        let framing = head.framing().unwrap_or(Framing::Empty);
        let index = note(stage, head, connection, nth);
        let queued = stage.queue.lock().pop_front();
        let early = queued.as_ref().is_some_and(|reply| reply.early);
        if !early {
            receive(&mut stream, framing, index, stage).await?;
        }
        let reply = match queued {
            Some(reply) => reply,
            None => {
                let seen = stage.seen.borrow()[index].clone();
                (stage.script)(seen).await
            }
        };
        let head_only = stage.seen.borrow()[index].method == "HEAD";
        let sent = answer(&mut stream, &reply, head_only, index, stage).await;
        stage.seen.send_modify(|seen| {
            seen[index].answered = true;
            seen[index].abandoned |= sent.is_err();
        });
        sent?;
        if reply.switches {
            return echo(stream).await;
        }
        if reply.reset {
            socket2::SockRef::from(stream.get_ref()).set_linger(Some(std::time::Duration::ZERO))?;
        }
        if reply.close {
            return Ok(());
        }
        if early {
            if let Some(gate) = &reply.reads_on {
                gate.passed().await;
            }
            receive(&mut stream, framing, index, stage).await?;
        }
    }
    Ok(())
}

/// Writes a request down when its head is there.
fn note(stage: &Stage, head: Head, connection: usize, nth: usize) -> usize {
    let mut words = head.start.split(' ').map(str::to_owned);
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let mut index = 0;
    stage.seen.send_modify(|seen| {
        index = seen.len();
        seen.push(Seen { method, target, head, connection, nth, ..Seen::default() });
    });
    index
}

async fn receive(
    stream: &mut BufReader<TcpStream>,
    framing: Framing,
    index: usize,
    stage: &Stage,
) -> io::Result<()> {
    let mut body = Vec::new();
    let result = wire::read_body(stream, framing, &mut body).await;
    let whole = matches!(result, Ok(true));
    stage.seen.send_modify(|seen| {
        seen[index].body = body;
        seen[index].whole = whole;
        seen[index].abandoned = !whole;
    });
    if whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn answer(
    stream: &mut BufReader<TcpStream>,
    reply: &Reply,
    head_only: bool,
    index: usize,
    stage: &Stage,
) -> io::Result<()> {
    if let (Some(bytes), true) = (&reply.verbatim, reply.silent) {
        stream.get_mut().write_all(bytes).await?;
    }
    if reply.silent {
        return hold(stream, &Gate::closed(), index, stage).await;
    }
    if let Some(gate) = &reply.held {
        hold(stream, gate, index, stage).await?;
    }
    if let Some(bytes) = &reply.verbatim {
        return stream.get_mut().write_all(bytes).await;
    }
    stream.get_mut().write_all(&reply.head()).await?;
    if head_only || reply.switches {
        return Ok(());
    }
    let sent = &reply.body[..reply.cut_after.unwrap_or(usize::MAX).min(reply.body.len())];
    let (first, gate) = match &reply.paused {
        Some((bytes, gate)) => (*bytes, Some(gate)),
        None => (sent.len(), None),
    };
    if let Some(pace) = reply.pace {
        return trickle(stream, reply, pace).await;
    }
    stream.get_mut().write_all(&reply.framed(&sent[..first])).await?;
    if let Some(gate) = gate {
        hold(stream, gate, index, stage).await?;
        stream.get_mut().write_all(&reply.framed(&sent[first..])).await?;
    }
    if reply.cut_after.is_none() {
        stream.get_mut().write_all(&[reply.end(), &reply.extra].concat()).await?;
    }
    Ok(())
}

async fn trickle(
    stream: &mut BufReader<TcpStream>,
    reply: &Reply,
    pace: std::time::Duration,
) -> io::Result<()> {
    for byte in reply.body.chunks(1) {
        tokio::time::sleep(pace).await;
        stream.get_mut().write_all(&reply.framed(byte)).await?;
    }
    stream.get_mut().write_all(reply.end()).await
}

/// Waits for the gate, and notes when the other side leaves meanwhile.
async fn hold(stream: &mut BufReader<TcpStream>, gate: &Gate, index: usize, stage: &Stage) -> io::Result<()> {
    let left = tokio::select! {
        () = gate.passed() => return Ok(()),
        read = stream.fill_buf() => !matches!(read, Ok(bytes) if !bytes.is_empty()),
    };
    if left {
        stage.seen.send_modify(|seen| seen[index].abandoned = true);
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    gate.passed().await;
    Ok(())
}

async fn echo(mut stream: BufReader<TcpStream>) -> io::Result<()> {
    let mut bytes = [0; 1024];
    loop {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        stream.get_mut().write_all(&bytes[..read]).await?;
    }
}
