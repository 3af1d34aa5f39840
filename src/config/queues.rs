//! The queues: which keys go with which source, and what is left out.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::checked::{
    AmqpTasks, HttpTasks, Locks, PostgresTasks, RedisTasks, Secret, TaskDone, TaskSource, Tasks,
};
use super::parts::Text;
use super::places::TasksAt;
use super::problem::Kind;
use super::raw;
use super::reader::{At, Reader, Spot, quoted};
use super::routes::Top;
use super::settle::{or, seconds};
use crate::protocol::json;

/// Settles all queues.
pub(super) fn settle(given: Vec<At<raw::Tasks>>, top: &Top, reader: &mut Reader<'_>) -> Vec<Arc<Tasks>> {
    let mut queues = Vec::new();
    let mut names: HashMap<Arc<str>, String> = HashMap::new();
    for At { value: given, spot } in given {
        let name_spot = given.name.as_ref().map_or_else(|| spot.clone(), |name| name.spot.clone());
        let Some(queue) = queue(given, &name_spot, top, reader) else { continue };
        if let Some(other) = names.get(&queue.name) {
            let what = format!("{} is the name of {other} already", quoted(&queue.name));
            reader.report(Kind::Value, &name_spot, what);
        }
        names.entry(Arc::clone(&queue.name)).or_insert_with(|| spot.key.clone());
        queues.push(Arc::new(queue));
    }
    queues
}

fn queue(mut given: raw::Tasks, name_spot: &Spot, top: &Top, reader: &mut Reader<'_>) -> Option<Tasks> {
    let name = given.name.take()?.value.0;
    if name.contains(['/', '?', '#', '%']) || matches!(name.as_str(), "." | "..") {
        reader.report(Kind::Value, name_spot, "a queue's name is one segment of a path; leave out / ? # %");
    }
    let (idempotency, limits, _) = top.of_queues();
    let source = given.source.take()?;
    let mut keys = Keys { given, source: source.spot, reader };
    let source = match source.value {
        TasksAt::Http(authority) => TaskSource::Http(keys.http(authority, top)?),
        TasksAt::Redis(url) => TaskSource::Redis(keys.redis(url)?),
        TasksAt::Amqp(url) => TaskSource::Amqp(keys.amqp(url)?),
        TasksAt::Postgres(url) => TaskSource::Postgres(keys.postgres(url)?),
    };
    keys.rest();
    let given = keys.given;
    Some(Tasks {
        name: name.into(),
        visibility: or(given.visibility, seconds(60)),
        max_attempts: or(given.max_attempts, 5),
        max_wait: or(given.max_wait, seconds(30)),
        done_for: or(given.done_for, seconds(3600)),
        source,
        idempotency,
        max_body: limits.body,
    })
}

/// The keys of one queue; each source takes its own, and what is left is another's.
struct Keys<'r, 'a> {
    given: raw::Tasks,
    source: Spot,
    reader: &'r mut Reader<'a>,
}

impl Keys<'_, '_> {
    fn wrong(&mut self, spot: &Spot, what: impl Into<String>) {
        self.reader.report(Kind::Value, spot, what);
    }

    /// A key that this source cannot do without.
    fn needed(&mut self, given: Option<At<Text>>, what: &str) -> Option<String> {
        match given {
            Some(At { value: Text(text), .. }) if !text.is_empty() => Some(text),
            Some(At { spot, .. }) => {
                self.wrong(&spot, format!("it is empty; {what}"));
                None
            }
            None => {
                let spot = self.source.clone();
                self.wrong(&spot, what);
                None
            }
        }
    }

    fn http(&mut self, authority: http::uri::Authority, top: &Top) -> Option<HttpTasks> {
        let (_, limits, max_list) = top.of_queues();
        let list = self.given.list.take();
        let spot = list.as_ref().map_or_else(|| self.source.clone(), |list| list.spot.clone());
        let list = self.needed(
            list,
            "an upstream's tasks need a list; write for example list = \"GET /tasks?status=open\"",
        );
        let list = list.and_then(|text| self.call(&text, &spot));
        let list = list.and_then(|(method, target)| {
            if method != Method::GET {
                self.wrong(&spot, "a list is read by GET; write for example \"GET /tasks?status=open\"");
                return None;
            }
            Some(target)
        });
        let items = self.given.items.take();
        let items = self.pointer(items, "");
        let id = self.given.id.take();
        let id = self.pointer(id, "/id");
        let headers = self.headers();
        let done = self.done();
        let poll = or(self.given.poll.take(), seconds(1));
        Some(HttpTasks {
            authority,
            headers: headers?,
            list: list?,
            items: items?,
            id: id?,
            poll,
            done: done?,
            limits,
            max_list,
        })
    }

    /// `METHOD /path`.
    fn call(&mut self, text: &str, spot: &Spot) -> Option<(Method, String)> {
        let (method, target) = text.split_once(' ').unwrap_or(("", text));
        let is_upper = !method.is_empty() && !method.chars().any(|c| c.is_ascii_lowercase());
        let method: Option<Method> = method.parse().ok().filter(|_| is_upper);
        let target = target.trim();
        let fits =
            target.starts_with('/') && target.replace("{id}", "x").parse::<http::uri::PathAndQuery>().is_ok();
        match method.filter(|_| fits && target.bytes().all(|byte| byte.is_ascii_graphic())) {
            Some(method) => Some((method, target.to_owned())),
            None => {
                self.wrong(
                    spot,
                    format!("{} is not a method and a path, such as \"PATCH /tasks/{{id}}\"", quoted(text)),
                );
                None
            }
        }
    }

    fn pointer(&mut self, given: Option<At<Text>>, default: &str) -> Option<String> {
        let Some(At { value: Text(text), spot }) = given else { return Some(default.to_owned()) };
        if json::is_pointer(&text) {
            return Some(text);
        }
        let right = format!("/{}", text.trim_start_matches(['$', '.', '/']).replace('.', "/"));
        self.wrong(&spot, format!("{} is not a JSON pointer; write for example {right:?}", quoted(&text)));
        None
    }

    fn headers(&mut self) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let mut headers = Vec::new();
        let mut all = true;
        for (name, At { value: Text(text), spot }) in
            self.given.headers.take().map(|at| at.value).into_iter().flatten()
        {
            match (name.parse::<HeaderName>(), HeaderValue::from_str(&text)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((name, value));
                }
                (Err(_), _) => {
                    all = false;
                    self.wrong(&spot, format!("{} is not a header's name", quoted(&name)));
                }
                // The text itself is left out: it may be a secret.
                (_, Err(_)) => {
                    all = false;
                    self.wrong(&spot, "a header's value is visible ASCII");
                }
            }
        }
        all.then_some(headers)
    }

    fn done(&mut self) -> Option<Option<TaskDone>> {
        let body = self.given.done_body.take();
        let Some(At { value: Text(text), spot }) = self.given.done.take() else {
            if let Some(body) = body {
                self.wrong(&body.spot, "goes with `done`; say which call has this body");
            }
            return Some(None);
        };
        let (method, target) = self.call(&text, &spot)?;
        Some(Some(TaskDone { method, target, body: body.map(|body| body.value.0) }))
    }

    fn redis(&mut self, url: Secret) -> Option<RedisTasks> {
        let stream = self.given.stream.take();
        let stream =
            self.needed(stream, "tasks in a Redis need a stream; write for example stream = \"tasks\"");
        let group = self.given.group.take().map_or_else(|| "onceward".to_owned(), |at| at.value.0);
        Some(RedisTasks { url, stream: stream?, group, dead_letter: self.dead_letter() })
    }

    fn amqp(&mut self, url: Secret) -> Option<AmqpTasks> {
        let queue = self.given.queue.take();
        let queue = self
            .needed(queue, "tasks in a broker need a queue that exists; write for example queue = \"tasks\"");
        Some(AmqpTasks { url, queue: queue?, dead_letter: self.dead_letter() })
    }

    fn postgres(&mut self, url: Secret) -> Option<PostgresTasks> {
        let table = self.given.table.take();
        let table =
            self.needed(table, "tasks in a Postgres need a table; write for example table = \"tasks\"");
        let text = |at: Option<At<Text>>| at.map(|at| at.value.0).filter(|text| !text.is_empty());
        let id = text(self.given.id.take()).unwrap_or_else(|| "id".to_owned());
        Some(PostgresTasks {
            url,
            table: table?,
            task: text(self.given.task.take()),
            id,
            ready: text(self.given.ready.take()),
            order: text(self.given.order.take()),
            done: self.given.done.take().map(|at| at.value.0),
            locks: or(self.given.locks.take(), Locks::Rows),
            dead_letter: self.dead_letter(),
        })
    }

    fn dead_letter(&mut self) -> Option<String> {
        self.given.dead_letter.take().map(|at| at.value.0).filter(|text| !text.is_empty())
    }

    /// What another source's key is, this one has no use for.
    fn rest(&mut self) {
        let raw::Tasks {
            name: _, visibility: _, max_attempts: _, max_wait: _, done_for: _, source: _, ..
        } = &self.given;
        let given = &mut self.given;
        let spots = [
            given.headers.take().map(|at| at.spot),
            given.list.take().map(|at| at.spot),
            given.items.take().map(|at| at.spot),
            given.id.take().map(|at| at.spot),
            given.poll.take().map(|at| at.spot),
            given.done.take().map(|at| at.spot),
            given.done_body.take().map(|at| at.spot),
            given.stream.take().map(|at| at.spot),
            given.group.take().map(|at| at.spot),
            given.queue.take().map(|at| at.spot),
            given.table.take().map(|at| at.spot),
            given.task.take().map(|at| at.spot),
            given.ready.take().map(|at| at.spot),
            given.order.take().map(|at| at.spot),
            given.locks.take().map(|at| at.spot),
            given.dead_letter.take().map(|at| at.spot),
        ];
        for spot in spots.into_iter().flatten() {
            self.wrong(&spot, "does not go with a source of this kind; leave it out");
        }
    }
}
