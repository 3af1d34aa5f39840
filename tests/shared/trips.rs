//! What a request asks of a shared store, as the server counts it (S3).

use std::collections::HashMap;

use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use crate::harness::ground::Ground;
use crate::harness::servers::redis::Monitor;
use crate::harness::{Agent, Answer, Proxy, Upstream};

/// Of each kind, all at once, so that what an instance does besides every second is told from what each request asks.
const REQUESTS: usize = 60;

/// Counts the steps that a server takes.
enum Counts {
    Redis(Monitor),
    Postgres(tokio_postgres::Client),
}

impl Counts {
    async fn of(ground: &Ground) -> Counts {
        match ground {
            Ground::Redis(redis) => Counts::Redis(redis.monitor().await),
            Ground::Postgres(postgres) | Ground::Advisory(postgres) => {
                let (client, connection) =
                    tokio_postgres::connect(&postgres.url(), NoTls).await.expect("a connection");
                tokio::spawn(connection);
                client.batch_execute("create extension pg_stat_statements").await.expect("it counts");
                Counts::Postgres(client)
            }
            Ground::Memory | Ground::Disk(_) | Ground::Sentinel(_) => unreachable!("nobody counts there"),
        }
    }

    /// How often each step was taken since the last look.
    async fn since(&mut self) -> HashMap<String, usize> {
        match self {
            Counts::Redis(monitor) => {
                let mut taken = HashMap::new();
                for line in monitor.seen().await {
                    // The command, and the digest of its script.
                    let words: Vec<_> = line.split('"').skip(1).step_by(2).take(2).collect();
                    *taken.entry(words.join(" ")).or_default() += 1;
                }
                taken
            }
            Counts::Postgres(client) => {
                let sql = "select query, calls from pg_stat_statements where query not like '%pg_stat%'";
                let rows = client.query(sql, &[]).await.expect("counts");
                client.batch_execute("select pg_stat_statements_reset()").await.expect("a new count");
                rows.iter()
                    .map(|row| (row.get(0), usize::try_from(row.get::<_, i64>(1)).unwrap_or(0)))
                    .collect()
            }
        }
    }

    /// Each of [`REQUESTS`] requests took so many.
    async fn come_to(&mut self, each: usize, of: &str) {
        let mut taken = self.since().await;
        // What an instance does besides it does seldom.
        taken.retain(|_, times| *times >= REQUESTS / 2);
        assert_eq!(taken.values().sum::<usize>(), each * REQUESTS, "{of}: {taken:#?}");
    }
}

async fn succeed(calls: Vec<JoinHandle<Answer>>) {
    for call in calls {
        call.await.expect("a request").is(200);
    }
}

// S3: a fresh write two, with turn and version three; a replay one, and none where this instance has it.
pub(super) async fn a_request_asks_as_little_as_it_must(store: &str) {
    let upstream = Upstream::start().await;
    let ground = Ground::of(store).await;
    let text = format!(
        "[store]\nurl = \"{}\"\n{}alive = \"600s\"\n\
         [[routes]]\npath = \"/tool/{{*path}}\"\nguard = \"tool\"\n{to}\
         [[routes]]\npath = \"/state/{{*path}}\"\nguard = \"state\"\nversion = \"mint\"\n{to}",
        ground.url(),
        ground.lines(),
        to = format_args!("upstream = \"{}\"\n", upstream.url()),
    );
    let (one, two) = (Proxy::start(&text).await, Proxy::start(&text).await);
    let mut counts = Counts::of(&ground).await;
    let (first, other) = (Agent::new(&one), Agent::new(&two));
    let post = async |agent: &Agent| {
        let call = |n| agent.post(&format!("/tool/{n}")).key(&format!("post-{n}")).body("1").spawn();
        succeed((0..REQUESTS).map(call).collect()).await;
    };
    counts.since().await;
    post(&first).await;
    counts.come_to(2, "a fresh write").await;
    // What ended here is in this instance's cache on Redis, whose step tells it the whole record.
    let own = usize::from(!matches!(ground, Ground::Redis(_)));
    for (agent, wanted) in [(&first, own), (&first, 0), (&other, 1), (&other, 0)] {
        post(agent).await;
        counts.come_to(wanted, "a replay").await;
    }
    let mut tags = Vec::new();
    for n in 0..REQUESTS {
        tags.push(first.get(&format!("/state/{n}")).await.header("etag").expect("a tag").to_owned());
    }
    counts.since().await;
    let call = |(n, tag): (usize, &String)| {
        first.put(&format!("/state/{n}")).key(&format!("put-{n}")).if_match(tag).body("1").spawn()
    };
    succeed(tags.iter().enumerate().map(call).collect()).await;
    counts.come_to(3, "a write with turn and version").await;
    assert_eq!(upstream.requests().len(), 3 * REQUESTS);
}
