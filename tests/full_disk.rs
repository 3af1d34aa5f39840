//! A disk that is full (S4, K4): nothing that was acknowledged is lost, and all goes on when there is room again.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Agent, Proxy, Reply, Upstream, within};

/// A small disk of its own; unmounted at its end.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None` where mounting is not permitted.
    fn mount(mebibytes: u32) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"]).arg(folder.path());
        match mount.output() {
            Ok(done) if done.status.success() => Some(Self { folder }),
            Ok(_) | Err(_) => None,
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file =
            std::fs::File::options().create(true).append(true).open(self.ballast()).expect("a file");
        for length in [64 * 1024, 4096] {
            while file.write_all(&vec![1; length]).is_ok() {}
        }
    }

    fn clear(&self) {
        std::fs::remove_file(self.ballast()).expect("a file");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still ends may hold a file on it.
        Command::new("umount").arg("--lazy").arg(self.folder.path()).status().ok();
    }
}

// S4, K4, S5, O1
#[tokio::test]
async fn a_full_disk_loses_nothing_and_what_could_not_be_stored_is_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(64) else {
        eprintln!("skipped: a file system of its own cannot be mounted here");
        return;
    };
    let upstream = Upstream::answering(|seen| {
        let length = if seen.body == b"big" { 900_000 } else { 10 };
        Reply::new(201).body(vec![b'x'; length])
    })
    .await;
    let store = disk.folder.path().join("store");
    let lines = format!("guard = \"tool\"\n[store]\nurl = \"disk:{}\"", store.display());
    let mut proxy = Proxy::route(&upstream, &lines).await;
    let agent = Agent::new(&proxy);
    let post = |agent: &Agent, key: &str, body: &'static str| agent.post("/x").key(key).body(body);
    let mut stored = Vec::new();
    for n in 0..5 {
        let key = format!("small{n}");
        stored.push((key.clone(), "small", post(&agent, &key, "small").await));
    }
    disk.fill();
    let lost = loop {
        let key = format!("big{}", stored.len());
        let answer = post(&agent, &key, "big").await;
        if answer.status != 201 {
            let problem = answer.refused("result-not-stored");
            assert_eq!(problem.executed, "yes");
            assert_eq!(problem.json["upstream_status"], 201, "{problem:?}");
            break key;
        }
        stored.push((key, "big", answer));
        assert!(stored.len() < 200, "the disk is never full");
    };
    let sent = upstream.requests().len();
    assert_eq!(sent, stored.len() + 1);
    assert_eq!(post(&agent, &lost, "big").await.refused("in-flight").executed, "pending");
    let admin = Agent::admin(&proxy);
    within("readyz to tell", async {
        while admin.get("/readyz").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Between two tries it may be open for a moment, and a small write then finds room.
    let new = post(&agent, "new", "small").await;
    if new.status == 201 {
        stored.push(("new".to_owned(), "small", new));
    } else {
        assert_eq!(new.refused("store-unavailable").executed, "no");
    }
    assert_eq!(upstream.requests().len(), stored.len() + 1, "what was refused went out");
    disk.clear();
    let replayed = within("the store to be back by itself", async {
        loop {
            let answer = post(&agent, &lost, "big").await;
            if answer.status == 201 {
                return answer;
            }
            assert_eq!(answer.code(), "in-flight");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(
        (replayed.header("idempotent-replayed").as_deref(), replayed.body.len()),
        (Some("true"), 900_000)
    );
    assert_eq!(admin.get("/readyz").await.status, 200);
    post(&agent, "after", "small").await.is(201);
    proxy.kill();
    proxy.restart().await;
    let agent = Agent::new(&proxy);
    for (key, body, first) in &stored {
        post(&agent, key, body).await.replays(first);
    }
    assert_eq!(post(&agent, &lost, "big").await.is(201).body.len(), 900_000);
    assert_eq!(upstream.requests().len(), stored.len() + 2);
}
