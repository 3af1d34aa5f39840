//! The real binary, one process per test, on free ports, with its log shown when the test fails.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{Upstream, within};

pub struct Proxy {
    child: Child,
    directory: TempDir,
    /// The file of root certificates that it is given instead of the system's.
    roots: Option<String>,
    address: String,
    admin: Option<String>,
}

/// The configuration of one route for every path to `upstream`. `extra` are lines of that route; tables may follow.
pub fn one_route(upstream: &str, extra: &str) -> String {
    format!("[server]\n\n[[routes]]\npath = \"/{{*path}}\"\nupstream = \"{upstream}\"\n{extra}\n")
}

/// A configuration whose listeners stand on free ports, unless it says otherwise.
fn on_free_ports(config: &str) -> String {
    let mut lines = String::new();
    for (name, value) in [("listen", "127.0.0.1:0"), ("admin", "127.0.0.1:0")] {
        if !config.lines().any(|line| line.trim_start().starts_with(&format!("{name} ="))) {
            lines.push_str(&format!("{name} = \"{value}\"\n"));
        }
    }
    if config.contains("[server]\n") {
        config.replacen("[server]\n", &format!("[server]\n{lines}"), 1)
    } else {
        format!("{config}\n[server]\n{lines}")
    }
}

impl Proxy {
    /// One route for every path to `upstream`, with `extra` lines in it; tables may follow them.
    pub async fn route(upstream: &Upstream, extra: &str) -> Proxy {
        Proxy::start(&one_route(&upstream.url(), extra)).await
    }

    pub async fn start(config: &str) -> Proxy {
        Proxy::try_start(config).await.unwrap_or_else(|log| panic!("the proxy did not start:\n{log}"))
    }

    /// Gives the log back where the process ends instead of listening.
    pub async fn try_start(config: &str) -> Result<Proxy, String> {
        Proxy::start_with(config, None).await
    }

    /// The same, trusting the authority in that file and no other.
    pub async fn trusting(authority: &str, config: &str) -> Result<Proxy, String> {
        Proxy::start_with(config, Some(authority.to_owned())).await
    }

    async fn start_with(config: &str, roots: Option<String>) -> Result<Proxy, String> {
        let directory = TempDir::new().expect("a temporary directory");
        fs::write(directory.path().join("onceward.toml"), on_free_ports(config))
            .expect("a configuration file");
        let (child, ready) = spawn(directory.path(), roots.as_deref());
        let mut proxy = Proxy { child, directory, roots, address: String::new(), admin: None };
        proxy.ready(ready).await?;
        Ok(proxy)
    }

    /// Starts the process anew in the same directory, on new ports, after `kill` or `terminate`.
    pub async fn restart(&mut self) {
        let restarted = self.try_restart().await;
        restarted.unwrap_or_else(|log| panic!("the proxy did not start again:\n{log}"));
    }

    /// As [`Proxy::restart`]; the log where it ends before it listens.
    pub async fn try_restart(&mut self) -> Result<(), String> {
        let (child, ready) = spawn(self.directory.path(), self.roots.as_deref());
        self.child = child;
        self.ready(ready).await
    }

    async fn ready(&mut self, ready: oneshot::Receiver<String>) -> Result<(), String> {
        let Ok(line) = within("the proxy to listen", ready).await else { return Err(self.logs()) };
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        self.address = line["listening"][0].as_str().expect("an address").to_owned();
        self.admin = line["admin"].as_str().map(str::to_owned);
        Ok(())
    }

    pub fn addr(&self) -> &str {
        &self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.as_deref().expect("an admin listener"))
    }

    pub fn has_admin(&self) -> bool {
        self.admin.is_some()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn logs(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("onceward.toml")
    }

    /// Puts another configuration in the file's place, as an editor does: written beside, then renamed.
    pub fn rewrite(&self, config: &str) {
        let beside = self.directory.path().join("onceward.toml.new");
        fs::write(&beside, on_free_ports(config)).expect("a configuration file");
        fs::rename(&beside, self.config_file()).expect("a renamed configuration file");
    }

    /// The sum of a metric over all of its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = super::Agent::admin(self).get("/metrics").await;
        let text = page.is(200).text();
        let of_it = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until so many requests wait for a turn.
    #[track_caller]
    pub fn waiting(&self, count: usize) -> impl Future<Output = ()> {
        self.measures("onceward_turn_waiting", count as f64)
    }

    /// Waits until a metric has that value.
    #[track_caller]
    pub fn measures(&self, name: &'static str, value: f64) -> impl Future<Output = ()> {
        within(format!("{name} to be {value}"), async move {
            while self.metric(name).await != value {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }

    /// Waits until the log has a line with all of these, and gives it back.
    #[track_caller]
    pub fn logged(&self, words: &[&str]) -> impl Future<Output = String> {
        within(format!("a line of the log with {words:?}"), async move {
            loop {
                let log = self.logs();
                if let Some(line) = log.lines().find(|line| words.iter().all(|word| line.contains(word))) {
                    return line.to_owned();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("a killed process");
    }

    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let id = self.pid();
        within(format!("process {id} to end"), async {
            loop {
                if let Some(status) = self.child.try_wait().expect("a process to wait for") {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.pid())).status();
        assert!(sent.expect("a shell").success(), "no {name} for process {}", self.pid());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both fail only where the process has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- log of the proxy at {}\n{}---", self.address, self.logs());
        }
    }
}

/// Starts the binary; the channel gives its first line, or closes when it ends without one.
fn spawn(directory: &Path, roots: Option<&str>) -> (Child, oneshot::Receiver<String>) {
    let log = File::options().create(true).append(true).open(directory.join("log")).expect("a log file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_onceward"))
        .arg("serve")
        .arg("--config")
        .arg(directory.join("onceward.toml"))
        .current_dir(directory)
        .envs(roots.map(|roots| ("SSL_CERT_FILE", roots)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the binary");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let (send, ready) = oneshot::channel();
    std::thread::spawn(move || {
        let mut lines = output.lines().map_while(Result::ok);
        if let Some(line) = lines.next() {
            // A test that has given up no longer listens.
            send.send(line).ok();
        }
        lines.for_each(drop);
    });
    (child, ready)
}
