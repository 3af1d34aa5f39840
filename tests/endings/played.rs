//! Plays an ending to a write and to a read, and holds every cell of its row to what comes of it.

use serde_json::json;

use super::ending::{At, Ending};
use super::table::{NOTHING, Row};
use crate::harness::raw::RawAnswer;
use crate::harness::{Agent, Proxy, Raw, Upstream, within};

/// So long that a rest ends by an operator's word alone, however slow the machine is.
const SETTLE: &str = "idempotency.settle = \"10m\"";

struct Stage {
    row: Row,
    ending: Ending,
    /// What the ending comes from; `None` where nobody answers.
    upstream: Option<Upstream>,
    proxy: Proxy,
    agent: Agent,
    /// Another route to the same resource.
    _fine: Upstream,
}

pub async fn play(name: &str, ending: Ending) {
    let mut stage = Stage::set(Row::of(name), ending).await;
    if stage.ending.head {
        stage.head().await;
    } else if stage.ending.shutdown {
        stage.shutdown("PUT").await;
        let mut stage = Stage::set(stage.row.clone(), stage.ending).await;
        stage.shutdown("GET").await;
    } else {
        stage.write().await;
        stage.read().await;
    }
}

impl Stage {
    async fn set(row: Row, ending: Ending) -> Stage {
        let fine = Upstream::start().await;
        let (upstream, url) = match &ending.at {
            At::Nowhere { url, .. } => (None, url.clone()),
            At::Script(_) => {
                let upstream = Upstream::start().await;
                let url = upstream.url();
                (Some(upstream), url)
            }
        };
        let limits = ending.limits;
        let broken = format!(
            "path = \"/broken/{{id}}\"\nupstream = \"{url}\"\nguard = \"tool\"\nversion = \"mint\"\n\
             resource = \"r/{{id}}\"\nidempotency.max_response = \"1KiB\"\n{SETTLE}\n{limits}"
        );
        let read = format!(
            "path = \"/read/{{id}}\"\nupstream = \"{url}\"\nversion.source = \"hash\"\nversion.max_body = \"1KiB\"\n{limits}"
        );
        let fine_route = format!(
            "path = \"/fine/{{id}}\"\nupstream = \"{}\"\nguard = \"tool\"\nversion = \"mint\"\n\
             resource = \"r/{{id}}\"\n{SETTLE}",
            fine.url()
        );
        let routes = [broken, read, fine_route].map(|route| format!("[[routes]]\n{route}\n")).concat();
        // What is to be seen of a shutdown afterwards, only a durable store tells.
        let store = if ending.shutdown { "disk:store" } else { "memory:" };
        let server = format!("[store]\nurl = \"{store}\"\n\n[server]\nshutdown_grace = \"300ms\"\n");
        let proxy = Proxy::start(&format!("{server}\n{routes}")).await;
        let agent = Agent::new(&proxy);
        let stage = Stage { row, ending, upstream, proxy, agent, _fine: fine };
        stage.keep_a_connection().await;
        stage
    }

    async fn keep_a_connection(&self) {
        let (Some(reply), Some(upstream)) = (&self.ending.kept, &self.upstream) else { return };
        upstream.next(reply.clone());
        self.agent.post("/broken/other").key("other").await.is(200);
        if reply.closes() {
            upstream.until("the kept connection to be closed", |seen| seen[0].closed).await;
        }
    }

    /// The next call to the upstream ends as the ending says.
    fn arm(&self) {
        if let (At::Script(script), Some(upstream)) = (&self.ending.at, &self.upstream) {
            upstream.next(script());
        }
    }

    async fn ask(&self, method: &str, path: &str, fields: &str, body: &[u8]) -> Raw {
        let mut raw = Raw::connect(&self.proxy).await;
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        raw.send(body).await;
        raw
    }

    /// The write, the same each time.
    async fn put(&self, tag: &str) -> Raw {
        let length = self.ending.upload;
        let fields = format!("Idempotency-Key: k\r\nIf-Match: {tag}\r\nContent-Length: {length}\r\n");
        self.ask("PUT", "/broken/1", &fields, &vec![b'x'; length]).await
    }

    /// Where a kept connection is what it is about, the write went over it.
    fn kept_connection_was_used(&self) {
        let kept = self.ending.kept.as_ref().filter(|reply| !reply.closes());
        let (Some(_), Some(upstream)) = (kept, &self.upstream) else { return };
        let over: Vec<_> = upstream.requests().iter().map(|seen| seen.connection).collect();
        assert_eq!(over, [0, 0], "not over the kept connection");
    }

    fn puts(&self) -> usize {
        self.upstream.as_ref().map_or(0, |upstream| upstream.with_method("PUT").len())
    }

    async fn write(&self) {
        let row = &self.row;
        let before = self.agent.tag("/fine/1").await;
        self.arm();
        let first = answered(&mut self.put(&before).await).await;
        self.check("A write gets", &row.write, first.as_ref());
        if let Some(refusal) = first.as_ref().filter(|answer| answer.is_refusal()) {
            let problem = refusal.problem();
            assert_eq!(problem.executed, row.executed, "`executed`: {refusal:?}");
            assert_eq!(problem.retry, row.retry, "`retry`: {refusal:?}");
        } else {
            assert_eq!((row.executed.as_str(), row.retry.as_str()), (NOTHING, NOTHING));
        }
        self.told_afterwards(&before, first.as_ref()).await;
    }

    /// What record, turn, version and retry say when the first answer is there. `before`: the version until then.
    async fn told_afterwards(&self, before: &str, first: Option<&RawAnswer>) {
        let row = &self.row;
        self.record().await;
        let during = self.agent.tag("/fine/1").await;
        assert_eq!(during != before, row.version != "stays", "Version: {before} became {during}");
        assert_eq!(self.rests().await, row.turn == "rests", "Turn");
        // K14, whatever the table says.
        assert_eq!(self.puts(), usize::from(self.upstream.is_some()), "the write was sent more than once");
        self.kept_connection_was_used();
        self.again(before, first).await;
        self.next_write(&during).await;
    }

    async fn record(&self) {
        let answer = self.agent.get("/.onceward/operations/k").wait(10).await;
        if self.row.record == "free" {
            answer.refused("not-found");
        } else {
            assert_eq!(answer.is(200).json()["state"], self.row.record.as_str(), "Record: {answer}");
        }
    }

    /// Whether the resource rests, as an operator sees it.
    async fn rests(&self) -> bool {
        let busy = Agent::admin(&self.proxy).get("/resources?busy=true").await.is(200).json();
        let rows = busy["resources"].as_array().expect("a list").clone();
        rows.iter().any(|row| row["resource"] == "r/1" && !row["rest_seconds"].is_null())
    }

    /// What a retry gets.
    async fn again(&self, before: &str, first: Option<&RawAnswer>) {
        let retry = answered(&mut self.put(before).await).await.expect("an answer to the retry");
        let runs = match self.row.again.as_str() {
            "runs" => {
                retry.is_first_run();
                match &self.upstream {
                    Some(_) => retry.is(200).is_first_run(),
                    None => first.inspect(|first| assert_eq!(retry.code(), first.code())).expect("a refusal"),
                };
                1
            }
            "the same" => {
                let first = first.expect("a first answer");
                retry.replays(first);
                0
            }
            code => {
                assert_eq!(shown(Some(&retry)), code, "A retry gets: {retry:?}");
                0
            }
        };
        let first = usize::from(self.upstream.is_some());
        assert_eq!(self.puts(), first * (1 + runs), "how often it went upstream after a retry");
    }

    /// How the next write to the resource fares: at once, or after the rest, whose end moves the version once more.
    /// An operator ends the rest (Q5, O4).
    async fn next_write(&self, during: &str) {
        let next = |key: &str| self.agent.post("/fine/1").key(key);
        if self.row.turn == "passes on" {
            next("next").wait(0).await.is(200);
            return;
        }
        next("at-once").wait(0).await.refused("queue-timeout");
        let late = next("after-the-rest").if_match(during).spawn();
        self.proxy.waiting(1).await;
        let admin = Agent::admin(&self.proxy);
        let unknown = admin.get("/operations?state=unknown").await.is(200).json();
        let id = unknown["operations"][0]["id"].as_str().expect("an unknown operation").to_owned();
        let resolution = json!({"as": "not-executed", "who": "ann", "why": "nothing of it is there"});
        admin.post(&format!("/operations/{id}/resolve")).json(&resolution).await;
        let late = late.await.expect("an answer after the rest");
        late.refused("stale-version");
        assert_eq!(self.row.version, "moves twice", "the rest moved {during} to {}", late.etag());
    }

    async fn read(&self) {
        if self.row.read == NOTHING {
            return;
        }
        self.arm();
        let mut raw = self.ask("GET", "/read/1", "", b"").await;
        let answer = answered(&mut raw).await;
        self.check("A read gets", &self.row.read, answer.as_ref());
        let refusal = answer.as_ref().filter(|answer| answer.is_refusal());
        if let Some(problem) = refusal.map(|answer| answer.problem()) {
            assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("no", "same-key"));
        } else if self.ending.limits.is_empty() {
            self.nothing_is_left_over().await;
        }
    }

    /// F6: what the upstream sent beside its answer is nobody's answer.
    async fn nothing_is_left_over(&self) {
        for path in ["/broken/2", "/read/2"] {
            assert_eq!(self.agent.get(path).await.is(200).text(), "ok");
        }
    }

    async fn head(&self) {
        self.arm();
        let mut raw = self.ask("HEAD", "/broken/1", "", b"").await;
        let answer = raw.answer_to("HEAD").await;
        assert_eq!(shown(Some(&answer)), self.row.read);
        self.nothing_is_left_over().await;
    }

    /// The proxy is stopped while the call is under way; its grace ends before the call does.
    async fn shutdown(&mut self, method: &str) {
        let before = self.agent.tag("/fine/1").await;
        self.arm();
        let mut raw = match method {
            "PUT" => self.put(&before).await,
            _ => self.ask("GET", "/read/1", "", b"").await,
        };
        self.upstream.as_ref().expect("a script").arrived(1).await;
        self.proxy.signal("TERM");
        let answer = answered(&mut raw).await;
        let cell = if method == "PUT" { &self.row.write } else { &self.row.read };
        self.check(method, cell, answer.as_ref());
        if method == "PUT" {
            assert_eq!(self.puts(), 1);
        }
        assert_eq!(self.proxy.ended().await.code(), Some(0), "{}", self.proxy.logs());
        if method == "PUT" {
            self.proxy.restart().await;
            self.agent = Agent::new(&self.proxy);
            self.told_afterwards(&before, answer.as_ref()).await;
        }
    }

    fn check(&self, column: &str, cell: &str, answer: Option<&RawAnswer>) {
        assert_eq!(shown(answer), cell, "{column}: {answer:?}");
        if let Some(answer) = answer.filter(|_| cell.ends_with("as it came")) {
            assert_eq!(answer.text(), self.ending.content, "{column}: another content");
        }
    }
}

async fn answered(raw: &mut Raw) -> Option<RawAnswer> {
    within("the answer of a case", raw.answer_or_end()).await
}

/// An answer as the table writes it.
fn shown(answer: Option<&RawAnswer>) -> String {
    match answer {
        None => "no answer".to_owned(),
        Some(answer) if answer.is_refusal() => format!("{} {}", answer.status, answer.code()),
        Some(answer) if answer.whole => format!("{}, as it came", answer.status),
        Some(answer) => format!("{}, cut", answer.status),
    }
}
