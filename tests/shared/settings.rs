//! What `[store]` sets of a server that instances share.

use tokio_postgres::NoTls;

use super::told;
use crate::harness::servers::postgres::Postgres;
use crate::harness::servers::redis::{Redis, Said};
use crate::harness::{Agent, Gate, Proxy, Reply, Upstream};

async fn on(url: &str, upstream: &Upstream, lines: &str) -> Proxy {
    Proxy::start(&format!(
        "[store]\nurl = \"{url}\"\n{lines}\n[limits]\nstore = \"2s\"\n[[routes]]\npath = \"/{{*path}}\"\n\
         upstream = \"{}\"\nguard = \"tool\"\n",
        upstream.url()
    ))
    .await
}

/// Two that are one deployment, and one that is another: the same key is one operation on two of them.
async fn are_apart(url: &str, upstream: &Upstream, lines: [&str; 2]) {
    let (one, two) = (on(url, upstream, lines[0]).await, on(url, upstream, lines[0]).await);
    let other = on(url, upstream, lines[1]).await;
    let first = Agent::new(&one).post("/x").key("k").body("1").await;
    Agent::new(&two).post("/x").key("k").body("1").await.replays(first.is(200));
    Agent::new(&other).post("/x").key("k").body("2").await.is(200).is_first_run();
    assert_eq!(upstream.requests().len(), 2);
}

// S3: `store.prefix`
#[tokio::test]
async fn a_prefix_keeps_deployments_apart() {
    let (redis, upstream) = (Redis::start().await, Upstream::start().await);
    are_apart(&redis.url(), &upstream, ["prefix = \"a:\"", "prefix = \"b:\""]).await;
    let Said::List(keys) = redis.ask(&["KEYS", "*"]).await else { panic!("a list of keys") };
    let of = |prefix: &str| keys.iter().filter(|key| key.text().starts_with(prefix)).count();
    assert!(of("a:") > 3 && of("b:") > 3 && of("a:") + of("b:") == keys.len(), "{keys:?}");
}

// S3: `store.schema`
#[tokio::test]
async fn a_schema_keeps_deployments_apart() {
    let (postgres, upstream) = (Postgres::start().await, Upstream::start().await);
    are_apart(&postgres.url(), &upstream, ["schema = \"a\"", "schema = \"b\""]).await;
    let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    for schema in ["a", "b"] {
        let records = client.query_one(&format!("select count(*) from {schema}.record"), &[]).await;
        assert_eq!(records.expect("a count").get::<_, i64>(0), 1, "{schema}");
    }
    let others = "select count(*) from pg_tables where schemaname not in ('a', 'b', 'pg_catalog', 'information_schema')";
    assert_eq!(client.query_one(others, &[]).await.expect("a count").get::<_, i64>(0), 0);
}

/// Writes that are at work at the same time, more than there are connections.
async fn crowd(proxy: &Proxy) -> Vec<tokio::task::JoinHandle<crate::harness::Answer>> {
    let agent = Agent::new(proxy);
    (0..60).map(|n| agent.post(&format!("/{n}")).key(&format!("{n}")).body("1").spawn()).collect()
}

// S3: `store.connections` bounds those for steps; one is for news, and on Postgres one for the sign of life
#[tokio::test]
async fn connections_are_as_many_as_configured() {
    let (redis, postgres) = (Redis::start().await, Postgres::start().await);
    let upstream = Upstream::start().await;
    let proxy = on(&redis.url(), &upstream, "connections = 2").await;
    let writes = crowd(&proxy).await;
    let Said::Text(list) = redis.ask(&["CLIENT", "LIST"]).await else { panic!("a list of clients") };
    assert_eq!(list.lines().filter(|line| !line.contains(" cmd=client|list ")).count(), 3, "{list}");
    for write in writes {
        write.await.unwrap().is(200);
    }
    let proxy = on(&postgres.url(), &upstream, "connections = 2").await;
    let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let writes = crowd(&proxy).await;
    let asked = "select count(*) from pg_stat_activity where application_name = 'onceward'";
    let mut most = 0;
    while !writes.iter().all(tokio::task::JoinHandle::is_finished) {
        most = most.max(client.query_one(asked, &[]).await.expect("a count").get::<_, i64>(0));
    }
    assert_eq!(most, 4, "two for steps, one for the sign of life, one for news");
    for write in writes {
        write.await.unwrap().is(200);
    }
}

// S3, S4, K4: `store.wait_replicas`: what too few have is not said to be stored, and nothing goes out on it
#[tokio::test]
async fn what_too_few_replicas_have_is_not_stored() {
    let (primary, upstream) = (Redis::start().await, Upstream::start().await);
    let replica = Redis::replica_of(&primary).await;
    replica.reaches("master_link_status", "up").await;
    let proxy = on(&primary.url(), &upstream, "wait_replicas = 1").await;
    let agent = Agent::new(&proxy);
    agent.post("/x").key("a").body("1").await.is(200);
    let gate = Gate::closed();
    upstream.next(Reply::new(201).body("made").held(&gate));
    let out = agent.post("/x").key("b").body("1").spawn();
    upstream.received(2).await;
    replica.pause();
    gate.open();
    let problem = out.await.unwrap().refused("result-not-stored");
    assert_eq!((problem.executed.as_str(), problem.json["upstream_status"].as_u64()), ("yes", Some(201)));
    assert_eq!(agent.post("/x").key("c").body("1").await.refused("store-unavailable").executed, "no");
    assert_eq!(upstream.requests().len(), 2, "a write went out that too few know of");
    replica.resume();
    assert_eq!(told(agent.post("/x").key("b").body("1")).await.is(201).is_replay().text(), "made");
    told(agent.post("/x").key("c").body("1")).await.is(200).is_first_run();
    assert_eq!(upstream.requests().len(), 3);
}
