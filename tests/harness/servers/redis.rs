//! A Redis of Debian's package, or a Sentinel, for one test: on a free port, in a folder of its own, ended with its
//! handle.
//!
//! The tests of the library include this file too: it stands on nothing but `std`, `tokio` and `tempfile`.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use certificates::place;
use talk::Talk;
pub use talk::{Monitor, Said};

#[allow(clippy::duplicate_mod, reason = "each server's file stands alone, in the tests of the library too")]
#[path = "certificates.rs"]
pub mod certificates;
#[path = "redis_talk.rs"]
mod talk;
#[path = "redis_watched.rs"]
pub mod watched;

/// How long a server may take to start, stop or answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// One running server.
pub struct Redis {
    program: &'static str,
    settings: Vec<String>,
    ports: Ports,
    /// Where its certificates are, if it speaks TLS too.
    certificates: Option<PathBuf>,
    child: Child,
    folder: tempfile::TempDir,
}

/// Where it listens: plainly, and within TLS if it does.
#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    tls: Option<u16>,
}

impl Redis {
    /// A Redis that forgets everything when it ends.
    pub async fn start() -> Self {
        Self::with(&["save", ""]).await
    }

    /// A Redis that writes each change to its disk before it answers.
    pub async fn durable() -> Self {
        Self::with(&["save", "", "appendonly", "yes", "appendfsync", "always"]).await
    }

    /// A Redis with these settings: name, value, name, value.
    pub async fn with(settings: &[&str]) -> Self {
        Self::run("redis-server", lines_of(settings), None).await
    }

    /// One that speaks TLS too, by [`certificates::Certificates`] in that folder. What it is asked here is asked plainly, and all
    /// else is within TLS: its URL, its replicas, who watches it.
    pub async fn within_tls(certificates: &Path, settings: &[&str]) -> Self {
        Self::run("redis-server", lines_of(settings), Some(certificates)).await
    }

    /// A replica of another.
    pub async fn replica_of(primary: &Self) -> Self {
        let mut settings = primary.settings.clone();
        settings.push(format!("replicaof 127.0.0.1 {}", primary.port_of_clients()));
        Self::run("redis-server", settings, primary.certificates.as_deref()).await
    }

    async fn run(program: &'static str, settings: Vec<String>, certificates: Option<&Path>) -> Self {
        let certificates = certificates.map(Path::to_owned);
        let folder = tempfile::tempdir().expect("a folder for a server");
        let began = Instant::now();
        loop {
            let ports = Ports { plain: free_port(), tls: certificates.as_ref().map(|_| free_port()) };
            let mut child = spawn(program, &settings, ports, certificates.as_deref(), folder.path());
            // Another may have taken a port in between.
            if answers(&mut child, ports.plain).await {
                return Self { program, settings, ports, certificates, child, folder };
            }
            assert!(began.elapsed() < PATIENCE, "{program} does not start: {}", log(folder.path()));
        }
    }

    /// Where it is asked plainly.
    pub fn port(&self) -> u16 {
        self.ports.plain
    }

    /// Where its clients are: within TLS if it speaks that.
    pub fn port_of_clients(&self) -> u16 {
        self.ports.tls.unwrap_or(self.ports.plain)
    }

    pub fn url(&self) -> String {
        let scheme = if self.ports.tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port_of_clients())
    }

    /// Ends it as a power cut would, or what of one a process can see.
    pub fn kill(&mut self) {
        self.child.kill().expect("a server that can be killed");
        self.child.wait().expect("a server that ended");
    }

    /// Starts it again where it was, after [`Self::kill`].
    pub async fn start_again(&mut self) {
        let began = Instant::now();
        loop {
            let certificates = self.certificates.as_deref();
            self.child = spawn(self.program, &self.settings, self.ports, certificates, self.folder.path());
            if answers(&mut self.child, self.ports.plain).await {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{} does not start again", self.program);
        }
    }

    /// Stops its processor: connections stand, and nothing answers.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal} {}", self.child.id());
    }

    /// Asks it for one thing, on a connection of its own.
    pub async fn ask(&self, words: &[&str]) -> Said {
        self.try_ask(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    async fn try_ask(&self, words: &[&str]) -> std::io::Result<Said> {
        let asked = async { Talk::open(self.ports.plain).await?.ask(words).await };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    /// As [`Self::ask`], with a password.
    pub async fn ask_as(&self, password: &str, words: &[&str]) -> Said {
        let asked = async {
            let mut talk = Talk::open(self.ports.plain).await?;
            talk.ask(&["AUTH", password]).await?;
            talk.ask(words).await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => panic!("{words:?}: {error}"),
            Err(_) => panic!("{words:?}: no answer"),
        }
    }

    /// One line of `INFO`, by its name.
    pub async fn info(&self, name: &str) -> String {
        line_of(&self.ask(&["INFO"]).await, name)
    }

    /// Waits until a line of `INFO` is so. A Redis that is promoted ends its connections.
    pub async fn reaches(&self, name: &str, value: &str) {
        let began = Instant::now();
        while !self.try_ask(&["INFO"]).await.is_ok_and(|said| line_of(&said, name) == value) {
            assert!(began.elapsed() < PATIENCE, "{name} never was {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sees every command that it carries out from now on.
    pub async fn monitor(&self) -> Monitor {
        Monitor::of(self.ports.plain).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A test that failed has nobody left who could be told.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One line of what `INFO` said.
fn line_of(said: &Said, name: &str) -> String {
    let line = said.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().to_owned()
}

/// Settings as lines: name, value, name, value. A replica need not wait for others that may come.
fn lines_of(settings: &[&str]) -> Vec<String> {
    [settings, &["repl-diskless-sync-delay", "0"]]
        .concat()
        .chunks(2)
        .map(|pair| pair.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
        .collect()
}

/// What makes it speak TLS, with its replicas and those who watch it too. A client need not show who it is.
fn tls(certificates: &Path) -> [String; 5] {
    [
        format!("tls-cert-file {}", place(certificates, "server.pem")),
        format!("tls-key-file {}", place(certificates, "server.key")),
        format!("tls-ca-cert-file {}", place(certificates, "ca.pem")),
        "tls-auth-clients no".to_owned(),
        "tls-replication yes".to_owned(),
    ]
}

fn quoted(word: &str) -> String {
    if word.is_empty() { "\"\"".to_owned() } else { word.to_owned() }
}

fn free_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    probe.local_addr().expect("its address").port()
}

fn spawn(
    program: &str,
    settings: &[String],
    ports: Ports,
    certificates: Option<&Path>,
    folder: &Path,
) -> Child {
    let mut own = vec![
        format!("port {}", ports.plain),
        "bind 127.0.0.1".to_owned(),
        format!("dir {}", folder.display()),
        format!("logfile {}/log", folder.display()),
        "daemonize no".to_owned(),
    ];
    own.extend(ports.tls.map(|port| format!("tls-port {port}")));
    own.extend(certificates.into_iter().flat_map(tls));
    let file = folder.join("server.conf");
    // A Sentinel writes into its file what it learned, and goes on from there.
    if !file.exists() {
        let lines = own.iter().chain(settings).map(|line| format!("{line}\n")).collect::<String>();
        std::fs::write(&file, lines).expect("a file of settings");
    } else if let Ok(text) = std::fs::read_to_string(&file) {
        let lines = text.lines().map(|line| match (line.split(' ').next(), ports.tls) {
            (Some("port"), _) => format!("port {}\n", ports.plain),
            (Some("tls-port"), Some(port)) => format!("tls-port {port}\n"),
            _ => format!("{line}\n"),
        });
        std::fs::write(&file, lines.collect::<String>()).expect("a file of settings");
    }
    let mut command = Command::new(program);
    command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{program} cannot be started ({error}): run tests/real/servers"))
}

/// Waits until it answers; `false` if it ended instead.
async fn answers(child: &mut Child, port: u16) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let asked = async { Talk::open(port).await?.ask(&["PING"]).await };
        if let Ok(Ok(Said::Text(_))) = tokio::time::timeout(Duration::from_secs(1), asked).await {
            return child.try_wait().is_ok_and(|ended| ended.is_none());
        }
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}
