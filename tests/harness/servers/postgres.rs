//! A PostgreSQL of Debian's package, or a PgBouncer before one: on a free port, in a folder of its own, ended with its
//! handle, or by its guard when this process is gone.
//!
//! The tests of the library include this file too: it stands on nothing but `std`, `tokio` and `tempfile`.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use certificates::{Certificates, place};

#[allow(clippy::duplicate_mod, reason = "each server's file stands alone, in the tests of the library too")]
#[path = "certificates.rs"]
pub mod certificates;

/// How long a server may take to start, stop or answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a server and waits for a word. Where none comes this process is gone, or has no use for the folder.
const GUARD: &str = r#"
"$@" >>"$FOLDER/log" 2>&1 &
server=$!
echo "$server" >"$FOLDER/pid.new" && mv "$FOLDER/pid.new" "$FOLDER/pid"
read -r word
kill -"$STOP" "$server" 2>/dev/null
wait "$server"
[ "$word" = keep ] || rm -rf "$FOLDER"
"#;

/// Nothing of it promises less than a real one would when a process is killed, and not a machine.
const SETTINGS: [&str; 8] = [
    "fsync=off",
    "shared_buffers=32MB",
    "max_connections=300",
    "wal_level=minimal",
    "max_wal_senders=0",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "shared_preload_libraries=pg_stat_statements",
];

/// A program that runs under its guard.
struct Server {
    guard: Child,
    folder: PathBuf,
    command: Vec<String>,
    stop: &'static str,
}

/// One PostgreSQL.
pub struct Postgres {
    server: Server,
    port: u16,
    certificates: Option<Certificates>,
}

/// One PgBouncer.
pub struct PgBouncer {
    _server: Server,
    port: u16,
}

impl Postgres {
    /// An empty one.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// One with settings besides, each as `name=value`.
    pub async fn with(settings: &[&str]) -> Self {
        let began = Instant::now();
        loop {
            let port = free_port();
            let folder = folder();
            run(Command::new("cp").arg("-a").arg(template()).arg(folder.join("data")));
            let mut command = vec![program("postgres"), "-D".to_owned(), text(&folder.join("data"))];
            command.extend(["-p".to_owned(), port.to_string()]);
            for setting in SETTINGS.iter().chain(settings) {
                command.extend(["-c".to_owned(), (*setting).to_owned()]);
            }
            let mut server = Server::start(folder, command, "QUIT");
            // Another may have taken the port in between.
            if server.answers(port).await {
                return Self { server, port, certificates: None };
            }
            assert!(began.elapsed() < PATIENCE, "postgres does not start: {}", server.log());
        }
    }

    /// One that speaks TLS too, by a name that [`Self::authority`] vouches for.
    pub async fn with_tls() -> Self {
        let certificates = Certificates::made_for(server_user());
        let certificate = format!("ssl_cert_file={}", place(certificates.folder(), "server.pem"));
        let key = format!("ssl_key_file={}", place(certificates.folder(), "server.key"));
        let started = Self::with(&["ssl=on", &certificate, &key]).await;
        Self { certificates: Some(certificates), ..started }
    }

    /// A file with the certificate that all others are made by.
    pub fn authority(&self) -> String {
        self.certificates.as_ref().expect("a server with TLS").authority()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Of the database that is always there.
    pub fn url(&self) -> String {
        format!("postgres://postgres:secret@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as a power cut would, or what of one a process can see.
    pub fn kill(&self) {
        self.server.signal("-KILL");
    }

    /// Ends it at once and in order, as for an update.
    pub fn stop(&self) {
        self.server.signal("-INT");
    }

    /// Starts it again where it was, after [`Self::kill`] or [`Self::stop`].
    pub async fn start_again(&mut self) {
        let began = Instant::now();
        loop {
            self.server.again();
            if self.server.answers(self.port).await {
                return;
            }
            // What the last one left may still be ending.
            assert!(began.elapsed() < PATIENCE, "postgres does not start again: {}", self.server.log());
        }
    }

    /// Stops its processor: connections stand, and nothing answers.
    pub fn pause(&self) {
        self.server.signal("-STOP");
        self.server.children().iter().for_each(|child| signal("-STOP", child));
    }

    pub fn resume(&self) {
        self.server.children().iter().for_each(|child| signal("-CONT", child));
        self.server.signal("-CONT");
    }
}

impl PgBouncer {
    /// Before a PostgreSQL, where it has at most so many sessions; it gives them out for a transaction at a time.
    pub async fn before(postgres: &Postgres, sessions: usize) -> Self {
        Self::with(postgres, sessions, "transaction").await
    }

    /// The same, by another `pool_mode`.
    pub async fn with(postgres: &Postgres, sessions: usize, mode: &str) -> Self {
        let began = Instant::now();
        loop {
            let (port, folder) = (free_port(), folder());
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
                 default_pool_size = {sessions}\nmax_client_conn = 500\nserver_login_retry = 1\n",
                postgres.port
            );
            let file = folder.join("pgbouncer.ini");
            fs::write(&file, settings).expect("settings of a pgbouncer");
            let command = vec!["/usr/sbin/pgbouncer".to_owned(), text(&file)];
            let mut server = Server::start(folder, command, "TERM");
            if server.answers(port).await {
                return Self { _server: server, port };
            }
            assert!(began.elapsed() < PATIENCE, "pgbouncer does not start: {}", server.log());
        }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres:secret@127.0.0.1:{}/postgres", self.port)
    }
}

impl Server {
    fn start(folder: PathBuf, command: Vec<String>, stop: &'static str) -> Self {
        let guard = guard(&folder, &command, stop);
        Self { guard, folder, command, stop }
    }

    /// Another one in the same folder, when the last one has ended.
    fn again(&mut self) {
        if let Some(stdin) = &mut self.guard.stdin {
            stdin.write_all(b"keep\n").ok();
        }
        self.guard.wait().expect("a guard that ends");
        fs::remove_file(self.folder.join("pid")).ok();
        self.guard = guard(&self.folder, &self.command, self.stop);
    }

    /// Whether it takes connections; `false` when it has ended.
    async fn answers(&mut self, port: u16) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let mut asked = Command::new(program("pg_isready"));
            asked.args([
                "-q",
                "-h",
                "127.0.0.1",
                "-d",
                "postgres",
                "-U",
                "postgres",
                "-p",
                &port.to_string(),
            ]);
            if asked.status().is_ok_and(|status| status.success()) {
                return true;
            }
            if self.pid().is_some_and(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists()) {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    fn pid(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("pid")).ok().map(|pid| pid.trim().to_owned())
    }

    fn signal(&self, name: &str) {
        signal(name, &self.pid().expect("a server that was started"));
    }

    fn children(&self) -> Vec<String> {
        let pid = self.pid().expect("a server that was started");
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        self.guard.wait().ok();
    }
}

fn guard(folder: &Path, command: &[String], stop: &str) -> Child {
    let mut guard = as_server(Command::new("sh"));
    guard.args(["-c", GUARD, "guard"]).args(command).env("FOLDER", folder).env("STOP", stop);
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(folder);
    guard.spawn().expect("a shell")
}

fn signal(name: &str, pid: &str) {
    // A child may have ended by itself.
    Command::new("kill").args([name, pid]).stderr(Stdio::null()).status().expect("kill");
}

/// A data folder as a fresh one is, made once; removed when this process is gone.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (template, _guard) = TEMPLATE.get_or_init(|| {
        let (folder, data) = (folder(), "data");
        let mut init = as_server(Command::new(program("initdb")));
        init.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", data]);
        run(init.current_dir(&folder));
        let guard = guard(&folder, &["true".to_owned()], "TERM");
        (folder.join(data), guard)
    });
    template
}

/// A folder that the servers may write in.
fn folder() -> PathBuf {
    let folder = tempfile::tempdir().expect("a folder for a server").keep();
    if let Some((user, group)) = server_user() {
        chown(&folder, Some(user), Some(group)).expect("a folder of the servers' own");
    }
    folder
}

/// These servers refuse to run as root.
fn as_server(mut command: Command) -> Command {
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command
}

fn server_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").expect("/proc").uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let user = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    };
    Some(user("postgres").or_else(|| user("nobody")).expect("a user for servers"))
}

/// A program of the newest PostgreSQL that Debian installed.
fn program(name: &str) -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|program| program.exists());
    found.sort();
    let newest = found.pop();
    text(&newest.unwrap_or_else(|| panic!("{name} is not installed: run tests/real/servers")))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program that can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a port").port()
}
