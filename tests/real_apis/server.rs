//! A real API's own server, as a process on a free port that keeps all it has in a temporary directory.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::apis::Api;
use crate::harness::Agent;

/// A free port may be taken by somebody else before the server is there.
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Server {
    pub async fn start<A: Api>() -> Server {
        let mut log = String::new();
        for _ in 0..TRIES {
            let mut server = Server::spawn::<A>();
            if server.is_ready::<A>().await {
                return server;
            }
            log = server.log();
        }
        panic!("{} does not start:\n{log}", A::NAME)
    }

    fn spawn<A: Api>() -> Server {
        let directory = TempDir::new().expect("a temporary directory");
        let port = free_port();
        let log = File::create(directory.path().join("log")).expect("a log file");
        let child = A::command(directory.path(), port)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}; run tests/run", A::NAME));
        Server { child, directory, port }
    }

    /// Whether it answers; not if it ended or stayed silent.
    async fn is_ready<A: Api>(&mut self) -> bool {
        let agent = Agent::at(&self.url());
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait().expect("a process to wait for").is_some() {
                return false;
            }
            if agent.get(A::READY).try_send().await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    fn log(&self) -> String {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where the process has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- last lines of the server at {}\n{}\n---", self.url(), last.join("\n"));
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// The Python of the environment that the APIs are installed in.
pub fn python() -> Command {
    Command::new(installed("venv/bin/python"))
}

/// Node, with a script of an installed package.
pub fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(installed("node/node_modules").join(script));
    command
}

/// A path below `target/real`; its set-up leaves `made-from` when all of it is there.
fn installed(path: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/real");
    assert!(
        root.join("made-from").exists(),
        "the real APIs are not installed: run tests/run, or tests/real/setup alone"
    );
    root.join(path)
}
