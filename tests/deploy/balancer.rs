//! HAProxy by deploy/haproxy.cfg, with the addresses of a test's proxies instead of the containers'.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Proxy, within};

pub(super) struct Balancer {
    child: Child,
    address: String,
    folder: TempDir,
}

impl Balancer {
    pub(super) async fn before(text: &str, one: &Proxy, two: &Proxy) -> Balancer {
        let folder = TempDir::new().expect("a temporary directory");
        let file = folder.path().join("haproxy.cfg");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port").to_string();
        fs::write(&file, placed(text, &address, one, two)).expect("a configuration file");
        let mut command = Command::new("/usr/sbin/haproxy");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let child = command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.expect("HAProxy, which tests/real/servers installs");
        let mut balancer = Balancer { child, address, folder };
        balancer.listens().await;
        balancer
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn listens(&mut self) {
        within("HAProxy to listen", async {
            while tokio::net::TcpStream::connect(&self.address).await.is_err() {
                let ended = self.child.try_wait().expect("a process to wait for");
                assert!(ended.is_none(), "HAProxy does not start:\n{}", self.log());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- log of HAProxy\n{}---", self.log());
        }
    }
}

/// The configuration with other addresses. Its proxies have an admin port each, so that of the check is said apart.
fn placed(text: &str, address: &str, one: &Proxy, two: &Proxy) -> String {
    let (ready, alive) = text.split_once("\nbackend alive").expect("a backend for when none is ready");
    let mut placed = ready.replace("bind :8080", &format!("bind {address}"));
    let mut rest = format!("\nbackend alive{alive}");
    for (name, proxy) in [("one", one), ("two", two)] {
        let line = format!("server {name} {name}:8080");
        assert!(placed.contains(&line) && rest.contains(&line), "no {line:?} in both backends");
        let admin = proxy.admin_url();
        let port = admin.rsplit(':').next().expect("a port");
        placed = placed.replace(&line, &format!("server {name} {} port {port}", proxy.addr()));
        rest = rest.replace(&line, &format!("server {name} {}", proxy.addr()));
    }
    placed + &rest
}
