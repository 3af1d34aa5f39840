//! The five APIs: how each one's server is run, and how a counter is kept in it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{node, python};
use crate::harness::agent::Call;
use crate::harness::{Agent, Answer};

/// What a counter starts with: three digits from beginning to end, so that lengths tell no two values apart.
pub const START: u64 = 100;

pub trait Api: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    /// The configuration of Onceward before it.
    const CONFIG: &'static str;
    /// A path that is answered once the server is up.
    const READY: &'static str;
    /// How long to wait for a direct answer.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// The command that runs the server, in `directory`.
    fn command(directory: &Path, port: u16) -> Command;

    /// The agent with the credentials that the API wants.
    fn signed(agent: Agent) -> Agent {
        agent
    }

    /// Makes the counter, at `START`.
    async fn prepare(upstream: &Agent) -> Self;

    fn read(&self, agent: &Agent) -> Call;

    fn write(&self, agent: &Agent, value: u64) -> Call;

    /// The counter in the answer to a read; `None` where it is not a whole one.
    fn value(&self, answer: &Answer) -> Option<u64>;
}

/// A number in a JSON answer.
fn number(answer: &Answer, pointer: &str) -> Option<u64> {
    serde_json::from_slice::<Value>(&answer.body).ok()?.pointer(pointer)?.as_u64()
}

#[derive(Clone)]
pub struct JsonServer;

impl Api for JsonServer {
    const NAME: &'static str = "json-server";
    const CONFIG: &'static str = include_str!("../../config/real/json-server.toml");
    const READY: &'static str = "/counters";

    fn command(directory: &Path, port: u16) -> Command {
        let database = json!({ "counters": [{ "id": 1, "n": START }] });
        fs::write(directory.join("db.json"), database.to_string()).expect("a database file");
        let mut command = node("json-server/lib/cli/bin.js");
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "db.json"]);
        command
    }

    async fn prepare(_: &Agent) -> JsonServer {
        JsonServer
    }

    fn read(&self, agent: &Agent) -> Call {
        agent.get("/counters/1")
    }

    fn write(&self, agent: &Agent, value: u64) -> Call {
        agent.call("PATCH", "/counters/1").json(&json!({ "n": value }))
    }

    fn value(&self, answer: &Answer) -> Option<u64> {
        number(answer, "/n")
    }
}

/// `agents:x`. Kinto takes any name and password for an identity; Radicale without authentication takes the name.
const CREDENTIALS: &str = "Basic YWdlbnRzOng=";

const KINTO_INI: &str = "\
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = %(http_port)s
threads = 8

[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.userid_hmac_secret = only for tests
kinto.bucket_create_principals = system.Authenticated
multiauth.policies = basicauth
multiauth.policy.basicauth.use = kinto.core.authentication.BasicAuthAuthenticationPolicy
";

#[derive(Clone)]
pub struct Kinto;

impl Kinto {
    const BUCKET: &'static str = "/v1/buckets/state";
    const COLLECTION: &'static str = "/v1/buckets/state/collections/counters";
    const RECORD: &'static str = "/v1/buckets/state/collections/counters/records/one";
}

impl Api for Kinto {
    const NAME: &'static str = "Kinto";
    const CONFIG: &'static str = include_str!("../../config/real/kinto.toml");
    const READY: &'static str = "/v1/__heartbeat__";

    fn command(directory: &Path, port: u16) -> Command {
        fs::write(directory.join("kinto.ini"), KINTO_INI).expect("a configuration file");
        let mut command = python();
        command.args(["-c", "import sys; from kinto.__main__ import main; sys.exit(main())"]);
        command.args(["start", "--ini", "kinto.ini", "--port", &port.to_string()]);
        command
    }

    fn signed(agent: Agent) -> Agent {
        agent.with("authorization", CREDENTIALS)
    }

    async fn prepare(upstream: &Agent) -> Kinto {
        for parent in [Kinto::BUCKET, Kinto::COLLECTION] {
            upstream.put(parent).json(&json!({ "data": {} })).await.is(201);
        }
        Kinto.write(upstream, START).await.is(201);
        Kinto
    }

    fn read(&self, agent: &Agent) -> Call {
        agent.get(Kinto::RECORD)
    }

    fn write(&self, agent: &Agent, value: u64) -> Call {
        agent.put(Kinto::RECORD).json(&json!({ "data": { "n": value } }))
    }

    fn value(&self, answer: &Answer) -> Option<u64> {
        number(answer, "/data/n")
    }
}

#[derive(Clone)]
pub struct Radicale;

impl Radicale {
    /// Without rights of their own, agents own what stands below their name.
    const CALENDAR: &'static str = "/agents/tasks/";
    const ITEM: &'static str = "/agents/tasks/counter.ics";
}

impl Api for Radicale {
    const NAME: &'static str = "Radicale";
    const CONFIG: &'static str = include_str!("../../config/real/radicale.toml");
    const READY: &'static str = "/.web/";

    fn command(_: &Path, port: u16) -> Command {
        let mut command = python();
        // An empty list of configuration files keeps it from reading the system's.
        command.args(["-m", "radicale", "--config", "", "--auth-type", "none"]);
        command.args(["--server-hosts", &format!("127.0.0.1:{port}")]);
        command.args(["--storage-filesystem-folder", "collections"]);
        command
    }

    fn signed(agent: Agent) -> Agent {
        agent.with("authorization", CREDENTIALS)
    }

    async fn prepare(upstream: &Agent) -> Radicale {
        upstream.call("MKCALENDAR", Radicale::CALENDAR).await.is(201);
        Radicale.write(upstream, START).await.is(201);
        Radicale
    }

    fn read(&self, agent: &Agent) -> Call {
        agent.get(Radicale::ITEM)
    }

    fn write(&self, agent: &Agent, value: u64) -> Call {
        let count = format!("X-COUNT:{value}");
        let lines = [
            "BEGIN:VCALENDAR",
            "VERSION:2.0",
            "PRODID:-//counter//EN",
            "BEGIN:VTODO",
            "UID:counter",
            "DTSTAMP:20260101T000000Z",
            "SUMMARY:counter",
            &count,
            "END:VTODO",
            "END:VCALENDAR",
            "",
        ];
        agent.put(Radicale::ITEM).typed("text/calendar; charset=utf-8", lines.join("\r\n"))
    }

    fn value(&self, answer: &Answer) -> Option<u64> {
        answer.text().lines().find_map(|line| line.strip_prefix("X-COUNT:")?.parse().ok())
    }
}

#[derive(Clone)]
pub struct WsgiDav;

impl Api for WsgiDav {
    const NAME: &'static str = "WsgiDAV";
    const CONFIG: &'static str = include_str!("../../config/real/wsgidav.toml");
    const READY: &'static str = "/";
    // A read that meets a write can be promised bytes that never come.
    const PATIENCE: Duration = Duration::from_millis(500);

    fn command(directory: &Path, port: u16) -> Command {
        fs::create_dir(directory.join("files")).expect("a directory to serve");
        let mut command = python();
        command.args(["-m", "wsgidav.server.server_cli", "--no-config", "--auth", "anonymous"]);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--root", "files"]);
        command
    }

    async fn prepare(upstream: &Agent) -> WsgiDav {
        WsgiDav.write(upstream, START).await.is(201);
        WsgiDav
    }

    fn read(&self, agent: &Agent) -> Call {
        agent.get("/counter.json")
    }

    fn write(&self, agent: &Agent, value: u64) -> Call {
        agent.put("/counter.json").json(&json!({ "n": value }))
    }

    fn value(&self, answer: &Answer) -> Option<u64> {
        number(answer, "/n")
    }
}

#[derive(Clone)]
pub struct Chroma {
    collection: String,
}

impl Chroma {
    const COLLECTIONS: &'static str = "/api/v2/tenants/default_tenant/databases/default_database/collections";

    fn post(&self, agent: &Agent, operation: &str, body: &Value) -> Call {
        agent.post(&format!("{}/{}/{operation}", Chroma::COLLECTIONS, self.collection)).json(body)
    }
}

impl Api for Chroma {
    const NAME: &'static str = "Chroma";
    const CONFIG: &'static str = include_str!("../../config/real/chroma.toml");
    const READY: &'static str = "/api/v2/heartbeat";

    fn command(_: &Path, port: u16) -> Command {
        let mut command = python();
        // What the command `chroma` calls, without the client's packages that it imports on the way.
        command.args(["-c", "import sys, chromadb_rust_bindings as c; c.cli(['chroma', *sys.argv[1:]])"]);
        command.args(["run", "--host", "127.0.0.1", "--port", &port.to_string(), "--path", "data"]);
        command.env("ANONYMIZED_TELEMETRY", "False");
        command
    }

    async fn prepare(upstream: &Agent) -> Chroma {
        let made = upstream.post(Chroma::COLLECTIONS).json(&json!({ "name": "state" })).await;
        let id = made.is(200).json()["id"].as_str().expect("the id of a collection").to_owned();
        let chroma = Chroma { collection: id };
        // The embedding comes with the record: the server is never asked to make one, which takes a model.
        let record = json!({ "ids": ["counter"], "embeddings": [[0.0, 1.0]], "metadatas": [{ "n": START }] });
        chroma.post(upstream, "add", &record).await.is(201);
        chroma
    }

    fn read(&self, agent: &Agent) -> Call {
        self.post(agent, "get", &json!({ "ids": ["counter"], "include": ["metadatas"] }))
    }

    fn write(&self, agent: &Agent, value: u64) -> Call {
        self.post(agent, "update", &json!({ "ids": ["counter"], "metadatas": [{ "n": value }] }))
    }

    fn value(&self, answer: &Answer) -> Option<u64> {
        number(answer, "/metadatas/0/n")
    }
}
