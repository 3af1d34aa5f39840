//! An upstream with a list of tasks, as any issue tracker has one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::harness::upstream::Seen;
use crate::harness::{Proxy, Reply, Upstream};

type Tasks = Arc<Mutex<BTreeMap<u32, String>>>;

pub struct Board {
    pub upstream: Upstream,
    tasks: Tasks,
}

impl Board {
    /// With so many open tasks, from 1.
    pub async fn with(count: u32) -> Board {
        let tasks = Tasks::default();
        tasks.lock().extend((1..=count).map(|id| (id, "open".to_owned())));
        Board { upstream: serve(&tasks).await, tasks }
    }

    /// Ends every connection, and listens somewhere else with the same tasks.
    pub async fn restart(&mut self) {
        self.upstream = serve(&self.tasks).await;
    }

    pub fn add(&self, id: u32) {
        self.tasks.lock().insert(id, "open".to_owned());
    }

    pub fn remove(&self, id: u32) {
        self.tasks.lock().remove(&id);
    }

    pub fn status(&self, id: u32) -> String {
        self.tasks.lock().get(&id).cloned().unwrap_or_default()
    }

    pub fn open(&self) -> Vec<u32> {
        let tasks = self.tasks.lock();
        tasks.iter().filter(|(_, status)| *status == "open").map(|(id, _)| *id).collect()
    }

    /// How often the list was read.
    pub fn reads(&self) -> usize {
        self.upstream.with_method("GET").iter().filter(|seen| seen.target.starts_with("/tasks?")).count()
    }

    /// What stands before it, as the configuration of one queue and one route.
    pub fn config(&self, lines: &str) -> String {
        let url = self.upstream.url();
        format!(
            "[server]\n\n[[routes]]\npath = \"/{{*path}}\"\nupstream = \"{url}\"\nguard = \"tool\"\n\n[[queues]]\n\
             name = \"tasks\"\nsource = \"{url}\"\nlist = \"GET /tasks?status=open\"\nitems = \"/items\"\n{lines}\n"
        )
    }

    pub async fn proxy(&self, lines: &str) -> Proxy {
        Proxy::start(&self.config(lines)).await
    }
}

async fn serve(tasks: &Tasks) -> Upstream {
    let shown = Arc::clone(tasks);
    Upstream::answering(move |seen| answer(&shown, seen)).await
}

fn answer(tasks: &Mutex<BTreeMap<u32, String>>, seen: &Seen) -> Reply {
    let mut tasks = tasks.lock();
    if seen.method == "GET" {
        let open = tasks.iter().filter(|(_, status)| *status == "open");
        let items: Vec<_> = open.map(|(id, _)| format!("{{\"id\": {id}, \"weight\": 1.50}}")).collect();
        return Reply::ok(format!("{{\"items\": [{}]}}", items.join(", ")));
    }
    let id = seen.target.rsplit('/').next().and_then(|id| id.parse::<u32>().ok());
    let status = serde_json::from_slice::<Value>(&seen.body).ok();
    let status = status.and_then(|body| body["status"].as_str().map(str::to_owned));
    match (id.and_then(|id| tasks.get_mut(&id)), status) {
        (Some(task), Some(status)) if task == "open" => {
            *task = status;
            Reply::ok("{\"changed\": true}")
        }
        (Some(_), Some(_)) => Reply::new(409).body("it is not open"),
        (_, _) => Reply::new(404).body("no such task"),
    }
}
