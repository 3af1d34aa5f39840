//! Processes of the examples: an API that says where it listens, and a program that comes to its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::timeout;

/// How long a program may take, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Killed when it is no longer wanted.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub struct Api {
    pub url: String,
    _process: Running,
}

impl Api {
    /// Starts it on a free port.
    pub fn start(mut command: Command) -> Api {
        let child = command.arg("0").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut process = Running(child.expect("python3"));
        let mut output = BufReader::new(process.0.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line of the API");
        std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(drop));
        let url = line.trim().strip_prefix("listening on ");
        let url = url.unwrap_or_else(|| panic!("no address in {line:?} of {command:?}")).to_owned();
        Api { url, _process: process }
    }
}

/// Runs it to its end; gives what it printed, which has to be little enough for a pipe to hold.
pub async fn finished(mut command: Command) -> (ExitStatus, String) {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut process = Running(child.expect("python3"));
    let end = timeout(DEADLINE, async {
        loop {
            if let Some(status) = process.0.try_wait().expect("a process to wait for") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let status = end.await.unwrap_or_else(|_| panic!("not done within {DEADLINE:?}: {command:?}"));
    let mut printed = String::new();
    process.0.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
    (status, printed)
}
