//! An honest upstream that keeps documents and writes down every effect it performs, to hold answers against.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::upstream::Seen;
use super::{Answer, Gate, Reply, Upstream};

/// One order over everything that happens in a test process.
pub fn tick() -> u64 {
    static TICKS: AtomicU64 = AtomicU64::new(1);
    TICKS.fetch_add(1, Ordering::SeqCst)
}

/// What the ledger does with one request beside its work.
#[derive(Clone, Default)]
pub enum Fault {
    #[default]
    None,
    /// Works for so long.
    Slow(Duration),
    /// Works when the gate is open.
    Held(Gate),
    /// Does the work, then closes instead of answering.
    Drop,
    /// Does the work, then cuts the answer in its middle.
    Cut,
    /// Does no work and closes.
    Lose,
    /// Does no work and answers with that status.
    Refuse(u16),
    /// Does the work, then answers with that status.
    Fail(u16),
    /// Closes at once, and does the work so much later.
    Late(Duration),
}

#[derive(Clone, Debug)]
pub struct Effect {
    /// The key's text, without the quotes of its spelling.
    pub key: Option<String>,
    /// The request that had the effect, by the `X-Attempt` its agent gave it.
    pub attempt: Option<String>,
    pub fence: Option<u64>,
    /// That of the claim on the task that it finishes, by `X-Fence` or `X-Claim`.
    pub claim: Option<u64>,
    pub resource: String,
    pub method: String,
    pub body: Vec<u8>,
    /// The body of the answer, whether it arrived or not.
    pub answer: Vec<u8>,
    pub started: u64,
    pub ended: u64,
}

/// What an agent was told, and when.
#[derive(Clone, Debug)]
pub struct Told {
    pub key: String,
    pub answer: Answer,
    pub at: u64,
}

impl Told {
    pub fn now(key: &str, answer: &Answer) -> Told {
        Told { key: key.to_owned(), answer: answer.clone(), at: tick() }
    }
}

#[derive(Default)]
struct Book {
    documents: BTreeMap<String, (Value, u64)>,
    effects: Vec<Effect>,
    revisions: u64,
    /// The highest fence of a claim that each document was written under.
    claims: HashMap<String, u64>,
    /// The answers under `/rerun/`, where this upstream honors keys itself.
    honored: HashMap<String, Reply>,
}

type Faults = Box<dyn Fn(&Seen) -> Fault + Send + Sync>;

/// What all connections share, over restarts too.
#[derive(Clone)]
struct Shared {
    book: Arc<Mutex<Book>>,
    faults: Arc<Faults>,
    tags: bool,
    life: Duration,
}

pub struct Ledger {
    pub upstream: Upstream,
    shared: Shared,
}

impl Ledger {
    pub async fn start() -> Ledger {
        Ledger::with(true, |_| Fault::None).await
    }

    /// With or without entity tags of its own, and with a fault for each request.
    pub async fn with(tags: bool, faults: impl Fn(&Seen) -> Fault + Send + Sync + 'static) -> Ledger {
        Ledger::mortal(Duration::MAX, tags, faults).await
    }

    /// A request that is older than `life` when its effect is due has none. What a proxy's `settle` (K12) is held
    /// against must not depend on how busy a machine is.
    pub async fn mortal(
        life: Duration,
        tags: bool,
        faults: impl Fn(&Seen) -> Fault + Send + Sync + 'static,
    ) -> Ledger {
        let book = Arc::new(Mutex::new(Book::default()));
        let shared = Shared { book, faults: Arc::new(Box::new(faults)), tags, life };
        Ledger { upstream: shared.serve().await, shared }
    }

    /// Ends every connection with what is in work on it, and listens somewhere else with the same book.
    pub async fn restart(&mut self) {
        self.upstream = self.shared.serve().await;
    }

    /// Puts a document there without an effect.
    pub fn holds(&self, path: &str, document: Value) -> &Ledger {
        let mut book = self.shared.book.lock();
        book.revisions += 1;
        let revision = book.revisions;
        book.documents.insert(path.to_owned(), (document, revision));
        self
    }

    pub fn document(&self, path: &str) -> Option<Value> {
        self.shared.book.lock().documents.get(path).map(|(document, _)| document.clone())
    }

    /// The documents under a path that have this status.
    pub fn listed(&self, path: &str, status: &str) -> Vec<Value> {
        listed(&self.shared.book.lock(), path, status)
    }

    pub fn effects(&self) -> Vec<Effect> {
        self.shared.book.lock().effects.clone()
    }

    pub fn effects_of(&self, key: &str) -> usize {
        self.effects().iter().filter(|effect| effect.key.as_deref() == Some(key)).count()
    }

    /// Holds the promises: at most one effect a key, no overlap and growing fences per resource, and every answer true.
    #[track_caller]
    pub fn check(&self, told: &[Told]) {
        let effects = self.effects();
        check_effects(&effects);
        check_answers(&effects, told);
    }
}

impl Shared {
    async fn serve(&self) -> Upstream {
        let shared = self.clone();
        Upstream::scripted(move |seen| {
            let fault = (shared.faults)(&seen);
            Box::pin(shared.clone().work(seen, fault))
        })
        .await
    }

    async fn work(self, seen: Seen, fault: Fault) -> Reply {
        let (started, arrived) = (tick(), Instant::now());
        match fault {
            Fault::Lose => return Reply::ok("").cut(),
            Fault::Refuse(status) => return Reply::json(status, &json!({"refused": true})),
            Fault::Slow(time) => tokio::time::sleep(time).await,
            Fault::Held(ref gate) => gate.passed().await,
            Fault::Late(time) => {
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    self.perform(&seen, started, arrived);
                });
                return Reply::ok("").cut();
            }
            Fault::None | Fault::Drop | Fault::Cut | Fault::Fail(_) => {}
        }
        let Some(reply) = self.perform(&seen, started, arrived) else { return Reply::ok("").cut() };
        match fault {
            Fault::Drop => reply.cut(),
            Fault::Cut => reply.cut_after(1),
            Fault::Fail(status) => Reply::json(status, &json!({"failed": true})),
            Fault::None
            | Fault::Slow(_)
            | Fault::Held(_)
            | Fault::Late(_)
            | Fault::Lose
            | Fault::Refuse(_) => reply,
        }
    }

    /// Nothing for a request that has lived too long.
    fn perform(&self, seen: &Seen, started: u64, arrived: Instant) -> Option<Reply> {
        let mut book = self.book.lock();
        if arrived.elapsed() > self.life {
            return None;
        }
        let key = key_of(seen).filter(|_| seen.target.starts_with("/rerun/"));
        let known = key.as_ref().and_then(|key| book.honored.get(key));
        let reply = known.cloned().unwrap_or_else(|| perform(&mut book, seen, started, self.tags));
        if let Some(key) = key {
            book.honored.insert(key, reply.clone());
        }
        Some(reply)
    }
}

fn key_of(seen: &Seen) -> Option<String> {
    seen.field("idempotency-key").map(|key| key.trim_matches('"').to_owned())
}

fn listed(book: &Book, path: &str, status: &str) -> Vec<Value> {
    let under = format!("{path}/");
    let documents = book.documents.iter().filter(|(place, _)| place.starts_with(&under));
    let of_status = documents.filter(|(_, (document, _))| document["status"] == status);
    of_status.map(|(_, (document, _))| document.clone()).collect()
}

/// Reads, or changes and writes the effect down. `POST {"add": n}` adds to `value`; PATCH merges; PUT replaces. A GET
/// with `?status=` lists what is under its path; a write whose `X-Fence` is below one seen before has no effect.
fn perform(book: &mut Book, seen: &Seen, started: u64, tags: bool) -> Reply {
    let path = seen.target.split('?').next().unwrap_or_default().to_owned();
    let current = book.documents.get(&path).cloned();
    let tag = current.as_ref().map(|(_, revision)| format!("\"r{revision}\""));
    if matches!(seen.method.as_str(), "GET" | "HEAD") {
        if let Some((_, status)) = seen.target.split_once("?status=") {
            return Reply::json(200, &listed(book, &path, status).into());
        }
        return match current {
            Some((document, revision)) => tagged(Reply::json(200, &document), tags, revision),
            None => Reply::json(404, &json!({"missing": path})),
        };
    }
    let wanted = seen.field("if-match").filter(|wanted| tags && wanted != "*");
    if wanted.is_some_and(|wanted| Some(wanted) != tag) {
        return Reply::json(412, &json!({"stale": true}));
    }
    if tag.is_some() && seen.field("if-none-match").as_deref() == Some("*") {
        return Reply::json(412, &json!({"stale": true}));
    }
    let number =
        |name: &str| seen.field(name).map(|fence| fence.parse::<u64>().expect("a fence is a number"));
    let shown = number("x-fence");
    let claim = shown.or_else(|| number("x-claim"));
    let highest = book.claims.entry(path.clone()).or_default();
    if shown.is_some_and(|shown| shown < *highest) {
        return Reply::json(409, &json!({"late": true}));
    }
    *highest = claim.unwrap_or_default().max(*highest);
    let sent = serde_json::from_slice(&seen.body).unwrap_or(Value::Null);
    book.revisions += 1;
    let revision = book.revisions;
    let (status, document) = changed(&seen.method, current.map(|(document, _)| document), sent);
    match &document {
        Some(document) => book.documents.insert(path.clone(), (document.clone(), revision)),
        None => book.documents.remove(&path),
    };
    let answer = json!({"revision": revision, "document": document});
    book.effects.push(Effect {
        key: key_of(seen),
        attempt: seen.field("x-attempt"),
        fence: number("onceward-fence"),
        claim,
        resource: path,
        method: seen.method.clone(),
        body: seen.body.clone(),
        answer: answer.to_string().into_bytes(),
        started,
        ended: tick(),
    });
    tagged(Reply::json(status, &answer), tags && document.is_some(), revision)
}

fn tagged(reply: Reply, tags: bool, revision: u64) -> Reply {
    if tags { reply.field("ETag", format!("\"r{revision}\"")) } else { reply }
}

fn changed(method: &str, current: Option<Value>, sent: Value) -> (u16, Option<Value>) {
    let status = if current.is_some() { 200 } else { 201 };
    match method {
        "DELETE" => (200, None),
        "PUT" => (status, Some(sent)),
        "PATCH" => {
            let mut merged = current.and_then(|document| document.as_object().cloned()).unwrap_or_default();
            merged.extend(sent.as_object().cloned().unwrap_or_default());
            (status, Some(Value::Object(merged)))
        }
        _ => {
            let old = current.and_then(|document| document["value"].as_i64()).unwrap_or(0);
            let sum = old + sent["add"].as_i64().unwrap_or(0);
            (status, Some(Value::Object(Map::from_iter([("value".to_owned(), json!(sum))]))))
        }
    }
}

#[track_caller]
fn check_effects(effects: &[Effect]) {
    let mut keys: HashMap<&str, &Effect> = HashMap::new();
    for effect in effects {
        let Some(key) = &effect.key else { continue };
        if let Some(first) = keys.insert(key, effect) {
            panic!("two effects under the key {key:?}: {first:?} and {effect:?}");
        }
    }
    let mut resources: BTreeMap<&str, Vec<&Effect>> = BTreeMap::new();
    for effect in effects {
        resources.entry(&effect.resource).or_default().push(effect);
    }
    for mut of_one in resources.into_values() {
        of_one.sort_by_key(|effect| effect.started);
        for pair in of_one.windows(2) {
            assert!(pair[0].ended < pair[1].started, "two effects at once: {pair:?}");
            if let (Some(first), Some(second)) = (pair[0].fence, pair[1].fence) {
                assert!(first <= second, "a fence went back: {pair:?}");
            }
        }
    }
}

#[track_caller]
fn check_answers(effects: &[Effect], told: &[Told]) {
    let mut results: HashMap<&str, &Told> = HashMap::new();
    for one in told {
        let started =
            effects.iter().find(|effect| effect.key.as_deref() == Some(&one.key)).map(|e| e.started);
        if one.answer.is_refusal() {
            let problem = one.answer.problem();
            // `key-reused` speaks of another operation than the one that holds the key.
            if problem.executed == "no" && problem.code != "key-reused" {
                assert!(started.is_none_or(|started| started > one.at), "executed after all: {one:?}");
            }
            continue;
        }
        if (200..300).contains(&one.answer.status) {
            assert!(
                started.is_some_and(|started| started < one.at),
                "told of an effect that is none: {one:?}"
            );
        }
        if let Some(first) = results.insert(&one.key, one) {
            assert_eq!(
                first.answer.status, one.answer.status,
                "two results of one key: {first:?} and {one:?}"
            );
            assert_eq!(first.answer.body, one.answer.body, "two results of one key: {first:?} and {one:?}");
        }
    }
}
