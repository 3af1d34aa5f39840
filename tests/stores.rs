//! What the configuration says of a store that is shared, seen from outside (S1, S3).

#[cfg(feature = "postgres")]
use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::proxy::one_route;
use crate::harness::servers::postgres::Postgres;
use crate::harness::servers::redis::{Redis, Said};
use crate::harness::{Agent, Proxy, Upstream, within};

/// A proxy on that store, before an upstream whose writes need nothing but a key.
async fn on(url: &str, lines: &str, upstream: &Upstream) -> Proxy {
    let route = one_route(&upstream.url(), "guard = \"tool\"");
    Proxy::start(&format!("[store]\nurl = \"{url}\"\n{lines}\n{route}")).await
}

/// Two proxies that share a server and nothing in it.
async fn are_apart(one: &Proxy, two: &Proxy, upstream: &Upstream) {
    for proxy in [one, two] {
        let write = || Agent::new(proxy).post("/x").key("k").body("1");
        let first = write().await;
        first.is(200).is_first_run();
        write().await.replays(&first);
    }
    assert_eq!(upstream.requests().len(), 2);
}

async fn keys(redis: &Redis, pattern: &str) -> Vec<String> {
    match redis.ask(&["KEYS", pattern]).await {
        Said::List(keys) => keys.iter().map(|key| key.text().to_owned()).collect(),
        other => panic!("no keys: {other:?}"),
    }
}

// S1, S3: `store.prefix`
#[tokio::test]
async fn by_their_prefixes_two_are_apart_on_one_redis() {
    let (redis, upstream) = (Redis::start().await, Upstream::start().await);
    let one = on(&redis.url(), "prefix = \"one:\"", &upstream).await;
    let two = on(&redis.url(), "prefix = \"two:\"", &upstream).await;
    are_apart(&one, &two, &upstream).await;
    let all = keys(&redis, "*").await;
    for prefix in ["one:", "two:"] {
        assert!(all.iter().any(|key| key.starts_with(prefix)), "{prefix} in {all:?}");
    }
    assert!(all.iter().all(|key| key.starts_with("one:") || key.starts_with("two:")), "{all:?}");
}

// S1, S3: `store.schema`
#[tokio::test]
async fn by_their_schemas_two_are_apart_on_one_postgres() {
    let (postgres, upstream) = (Postgres::start().await, Upstream::start().await);
    let one = on(&postgres.url(), "schema = \"one\"", &upstream).await;
    let two = on(&postgres.url(), "schema = \"two\"", &upstream).await;
    are_apart(&one, &two, &upstream).await;
}

// S3: `store.wait_replicas`
#[tokio::test]
async fn what_too_few_replicas_have_does_not_go_out() {
    let (redis, upstream) = (Redis::start().await, Upstream::start().await);
    let proxy = on(&redis.url(), "wait_replicas = 1\n[limits]\nstore = \"1s\"", &upstream).await;
    let write = || Agent::new(&proxy).post("/x").key("k").body("1");
    write().await.refused("store-unavailable");
    assert!(upstream.requests().is_empty(), "it went out on a record that no replica has");
    let _replica = Redis::replica_of(&redis).await;
    let written = within("the write to go out", async {
        loop {
            let answer = write().await;
            if !answer.is_refusal() {
                return answer;
            }
        }
    });
    written.await.is(200);
    assert_eq!(upstream.requests().len(), 1);
}

// S3: `store.connections`
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_sees_so_many_connections_and_no_more() {
    let (postgres, upstream) = (Postgres::start().await, Upstream::start().await);
    let proxy = on(&postgres.url(), "connections = 2", &upstream).await;
    let (client, connection) =
        tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let over = Arc::new(AtomicBool::new(false));
    let crowd = (0..16).map(|agent| {
        let call = Agent::new(&proxy);
        let over = Arc::clone(&over);
        tokio::spawn(async move {
            let mut n = 0;
            while !over.load(Ordering::Acquire) {
                call.post("/x").key(&format!("{agent}-{n}")).await.is(200);
                n += 1;
            }
        })
    });
    let crowd: Vec<_> = crowd.collect();
    let mut most = 0;
    for _ in 0..50 {
        let sql = "select count(*) from pg_stat_activity where application_name = 'onceward'";
        let open: i64 = client.query_one(sql, &[]).await.expect("a count").get(0);
        most = most.max(open);
    }
    over.store(true, Ordering::Release);
    for agent in crowd {
        agent.await.unwrap();
    }
    // Two for steps, one for the sign of life, one for news.
    assert_eq!(most, 4);
}

// O4, V8: what has no minted version gets no counter, which would stay for good
#[tokio::test]
async fn a_resolution_makes_no_counter_where_nothing_is_minted() {
    let (redis, upstream) = (Redis::start().await, Upstream::start().await);
    let route = |path: &str, version: &str| {
        format!(
            "[[routes]]\npath = \"/{path}/{{id}}\"\nupstream = \"{}\"\nguard = \"tool\"\nresource = \"{path}\"\n{version}\n",
            upstream.url()
        )
    };
    let minted = "version = { source = \"mint\", required = [] }";
    let routes = route("plain", "") + &route("minted", minted);
    let proxy = Proxy::start(&format!("[store]\nurl = \"{}\"\n{routes}", redis.url())).await;
    let (agent, admin) = (Agent::new(&proxy), Agent::admin(&proxy));
    for (path, counters) in [("plain", 0), ("minted", 1)] {
        upstream.next(crate::harness::Reply::ok("lost").cut());
        let lost = agent.post(&format!("/{path}/1")).key(path).await.refused("upstream-broke-off");
        let id = lost.json["operation"].as_str().expect("an operation");
        let how = serde_json::json!({"as": "executed", "who": "ann", "why": "the order book says so"});
        admin.post(&format!("/operations/{id}/resolve")).json(&how).await.is(200);
        assert_eq!(keys(&redis, "onceward:v:*").await.len(), counters, "{path}");
    }
}
