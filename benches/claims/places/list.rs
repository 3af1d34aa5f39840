//! A list: whoever wants a task reads it, chooses one, and says that it is done. Two may have chosen the same.

use std::time::{Duration, Instant};

use crate::http::Http;
use crate::place::{Number, Place, Task, Work, Worker};

pub(super) struct List {
    address: String,
}

impl List {
    pub(super) fn at(address: &str) -> Self {
        Self { address: address.trim_start_matches("http://").to_owned() }
    }

    async fn ask(&self, method: &str, path: &str, status: u16) -> String {
        let mut http = Http::to(&self.address).await;
        let answer = http.ask(method, path, "", "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        String::from_utf8_lossy(answer.body).into_owned()
    }
}

impl Place for List {
    fn make(&self) -> Work<'_, ()> {
        self.clear()
    }

    fn fill(&self, tasks: u64) -> Work<'_, ()> {
        Box::pin(async move { drop(self.ask("POST", &format!("/fill/{tasks}"), 201).await) })
    }

    fn put(&self, task: Number) -> Work<'_, ()> {
        Box::pin(async move { drop(self.ask("PUT", &format!("/tasks/{task}"), 201).await) })
    }

    fn stock(&self) -> Work<'_, (u64, u64)> {
        Box::pin(async move { (self.ask("GET", "/open", 200).await.parse().expect("a number"), 0) })
    }

    fn clear(&self) -> Work<'_, ()> {
        Box::pin(async move { drop(self.ask("DELETE", "/tasks", 200).await) })
    }

    fn hire(&self, _: usize, poll: Duration) -> Work<'_, Box<dyn Worker>> {
        Box::pin(async move {
            let http = Http::to(&self.address).await;
            Box::new(Reader { http, poll, chosen: 0 }) as Box<dyn Worker>
        })
    }
}

struct Reader {
    http: Http,
    poll: Duration,
    chosen: Number,
}

impl Worker for Reader {
    fn next(&mut self, patience: Duration) -> Work<'_, Option<Number>> {
        Box::pin(async move {
            let began = Instant::now();
            loop {
                let answer = self.http.ask("GET", "/tasks", "", "").await;
                let open: Vec<Task> = serde_json::from_slice(answer.body).expect("a list");
                // Any of them, so that not all choose the first.
                if let Some(task) = fastrand::choice(&open) {
                    self.chosen = task.id;
                    return Some(task.id);
                }
                if began.elapsed() >= patience {
                    return None;
                }
                tokio::time::sleep(self.poll).await;
            }
        })
    }

    fn done(&mut self) -> Work<'_, bool> {
        Box::pin(async move {
            let path = format!("/tasks/{}/done", self.chosen);
            let answer = self.http.ask("POST", &path, "", "").await;
            assert!([200, 410].contains(&answer.status), "not done: {}", answer.shown());
            answer.status == 200
        })
    }
}
