//! A RabbitMQ of Debian's package: on free ports, in a folder of its own, with a port mapper of its own, ended with its
//! handle, or by its guard when this process is gone.
//!
//! It takes seconds to start, so tests share one and have queues of their own ([`shared`]); those that kill it start their
//! own. The tests of the library include this file too: it stands on nothing but `std`, `tokio` and `tempfile`.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use certificates::{Certificates, place};

#[allow(clippy::duplicate_mod, reason = "each server's file stands alone, in the tests of the library too")]
#[path = "certificates.rs"]
pub mod certificates;

/// How long a server may take to start, stop or answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Debian's own start script wants its own user; this is what that one calls.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// Starts a program and waits for a word. Where none comes this process is gone, or has no use for it any more.
const GUARD: &str = r#"
"$@" >>"$FOLDER/$NAME.log" 2>&1 &
program=$!
echo "$program" >"$FOLDER/$NAME.new" && mv "$FOLDER/$NAME.new" "$FOLDER/$NAME.pid"
read -r word
kill -KILL "$program" 2>/dev/null
wait "$program"
[ "$word" = end ] || rm -rf "$FOLDER"
"#;

/// A program that runs under its guard.
struct Program {
    guard: Child,
    folder: PathBuf,
    name: &'static str,
}

/// One broker.
pub struct RabbitMq {
    folder: tempfile::TempDir,
    certificates: Certificates,
    port: u16,
    /// Within TLS.
    tls_port: u16,
    /// Of the distribution, and of the port mapper.
    ports: (u16, u16),
    mapper: Program,
    broker: Program,
}

/// The one that tests share which leave it alone.
pub async fn shared() -> &'static RabbitMq {
    static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
    SHARED.get_or_init(RabbitMq::start).await
}

impl RabbitMq {
    /// An empty one.
    pub async fn start() -> Self {
        let began = Instant::now();
        loop {
            let folder = tempfile::tempdir().expect("a folder for a broker");
            let certificates = Certificates::made_for(None);
            let (port, tls_port, ports) = (free_port(), free_port(), (free_port(), free_port()));
            fs::write(folder.path().join("plugins"), "[].\n").expect("a list of plugins");
            let settings = settings(tls_port, certificates.folder());
            fs::write(folder.path().join("rabbitmq.conf"), settings).expect("a file of settings");
            let mut mapper = Command::new("epmd");
            mapper.args(["-port", &ports.1.to_string(), "-address", "127.0.0.1"]);
            let mapper = Program::start(folder.path(), "epmd", mapper);
            let broker = Program::start(folder.path(), "broker", server(folder.path(), port, ports));
            let mut started = Self { folder, certificates, port, tls_port, ports, mapper, broker };
            // Another may have taken a port in between.
            if started.answers().await {
                return started;
            }
            assert!(began.elapsed() < PATIENCE, "rabbitmq does not start: {}", started.broker.log());
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The same within TLS.
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}/%2f", self.tls_port)
    }

    /// A file with the certificate that its own is made by.
    pub fn authority(&self) -> String {
        self.certificates.authority()
    }

    /// Ends it as a power cut would, or what of one a process can see.
    pub fn kill(&mut self) {
        self.broker.end();
    }

    /// Starts it again where it was, after [`Self::kill`].
    pub async fn start_again(&mut self) {
        let began = Instant::now();
        loop {
            self.broker = Program::start(
                self.folder.path(),
                "broker",
                server(self.folder.path(), self.port, self.ports),
            );
            if self.answers().await {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "rabbitmq does not start again: {}", self.broker.log());
        }
    }

    /// Stops its processor: connections stand, and nothing answers.
    pub fn pause(&self) {
        self.broker.signal("-STOP");
    }

    pub fn resume(&self) {
        self.broker.signal("-CONT");
    }

    /// What `rabbitmqctl` answers.
    pub async fn control(&self, words: &[&str]) -> String {
        let mut asked = Command::new(format!("{PROGRAMS}/rabbitmqctl"));
        asked.args(words).args(["--quiet", "--timeout", "60"]);
        asked.envs(names(self.folder.path(), self.port, self.ports));
        let asked = tokio::task::spawn_blocking(move || asked.output());
        let output = asked.await.expect("an answer").expect("rabbitmqctl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// How many messages of a queue are ready, and how many are delivered and not acknowledged.
    pub async fn messages(&self, queue: &str) -> (u64, u64) {
        let said = self.control(&["list_queues", "name", "messages_ready", "messages_unacknowledged"]).await;
        let lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let found = lines.into_iter().find(|words| words.first() == Some(&queue));
        let words = found.unwrap_or_else(|| panic!("no queue {queue}: {said}"));
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0);
        (number(1), number(2))
    }

    /// Waits until a queue's messages are so: the broker counts them once in a while.
    pub async fn reaches(&self, queue: &str, messages: (u64, u64)) {
        let began = Instant::now();
        loop {
            let now = self.messages(queue).await;
            if now == messages {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{queue}: {now:?}, never {messages:?}");
        }
    }

    /// Waits until the broker would know a queue after a kill: the name of a quorum queue gets to its disk seconds after
    /// it was declared, whatever it has confirmed of messages by then.
    pub async fn keeps(&self, queue: &str) {
        let node = format!("onceward-{}@localhost", self.port);
        let names = self.folder.path().join("data").join(&node).join("quorum").join(&node).join("names.dets");
        let name = format!("%2F_{queue}");
        let began = Instant::now();
        let has = |text: &[u8]| text.windows(name.len()).any(|part| part == name.as_bytes());
        while !fs::read(&names).is_ok_and(|text| has(&text)) {
            assert!(began.elapsed() < PATIENCE, "{queue} is not in {}", names.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it takes connections; `false` when it has ended.
    async fn answers(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            // Its ports open as the last thing of all, this one after the other.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.tls_port)).await.is_ok() {
                return self.broker.runs() && self.mapper.runs();
            }
            if !self.broker.runs() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

impl Program {
    fn start(folder: &Path, name: &'static str, command: Command) -> Self {
        fs::remove_file(folder.join(format!("{name}.pid"))).ok();
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(command.get_program()).args(command.get_args());
        guard.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        guard.env("FOLDER", folder).env("NAME", name).current_dir(folder);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().expect("a shell");
        let started = Self { guard, folder: folder.to_owned(), name };
        let began = Instant::now();
        while started.pid().is_none() {
            assert!(began.elapsed() < PATIENCE, "{name} is not started");
            std::thread::sleep(Duration::from_millis(2));
        }
        started
    }

    fn pid(&self) -> Option<String> {
        let pid = fs::read_to_string(self.folder.join(format!("{}.pid", self.name)));
        pid.ok().map(|pid| pid.trim().to_owned())
    }

    fn runs(&self) -> bool {
        self.pid().is_some_and(|pid| Path::new(&format!("/proc/{pid}/exe")).exists())
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().expect("a program that was started");
        Command::new("kill").args([name, &pid]).stderr(Stdio::null()).status().expect("kill");
    }

    fn end(&mut self) {
        if let Some(mut stdin) = self.guard.stdin.take() {
            stdin.write_all(b"end\n").ok();
        }
        self.guard.wait().ok();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// The broker itself, in the foreground and without a shell before it.
fn server(folder: &Path, port: u16, ports: (u16, u16)) -> Command {
    let program = format!("{PROGRAMS}/rabbitmq-server");
    assert!(Path::new(&program).exists(), "rabbitmq-server is not installed: run tests/real/servers");
    let mut server = Command::new(program);
    server.arg("-noinput").envs(names(folder, port, ports));
    server
}

/// That it speaks TLS too. A client need not show who it is.
fn settings(port: u16, certificates: &Path) -> String {
    let files = [("cacertfile", "ca.pem"), ("certfile", "server.pem"), ("keyfile", "server.key")];
    let files = files.map(|(name, file)| format!("ssl_options.{name} = {}\n", place(certificates, file)));
    format!("listeners.ssl.1 = 127.0.0.1:{port}\n{}", files.concat())
}

/// Where everything is, and what it is called.
fn names(folder: &Path, port: u16, ports: (u16, u16)) -> Vec<(&'static str, String)> {
    let path = |name: &str| folder.join(name).to_str().expect("a path in UTF-8").to_owned();
    let path_of = std::env::var("PATH").unwrap_or_default();
    vec![
        // For the cookie that its programs know each other by.
        ("HOME", path("")),
        ("PATH", format!("{path_of}:/usr/sbin:/usr/bin:/bin")),
        ("RABBITMQ_NODENAME", format!("onceward-{port}@localhost")),
        ("RABBITMQ_MNESIA_BASE", path("data")),
        ("RABBITMQ_LOG_BASE", path("log")),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_SCHEMA_DIR", path("schema")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", path("generated")),
        ("RABBITMQ_CONF_ENV_FILE", path("none")),
        ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", path("none")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        ("RABBITMQ_PID_FILE", path("beam.pid")),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", ports.0.to_string()),
        ("ERL_EPMD_PORT", ports.1.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        // Its start script becomes the broker itself, so that its number is the broker's.
        ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
    ]
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a port").port()
}
