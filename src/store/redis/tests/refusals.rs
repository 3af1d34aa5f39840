//! What no store may stand on, and what is said of it.

use std::time::{Duration, Instant};

use super::super::health::Health;
use super::server;
use super::{Options, Redis, options};

async fn refusal(options: Options) -> String {
    match Redis::open(options).await {
        Ok(_) => panic!("it was opened"),
        Err(why) => why,
    }
}

// S6
#[tokio::test]
async fn one_that_evicts_is_refused() {
    let server = server::Redis::with(&["maxmemory", "64mb", "maxmemory-policy", "allkeys-lru"]).await;
    let why = refusal(options(server.url())).await;
    assert!(why.contains("\"allkeys-lru\"") && why.contains("\"noeviction\""), "{why}");
    assert!(why.contains(&server.port().to_string()), "{why}");
    server.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    Redis::open(options(server.url())).await.unwrap();
}

// S3
#[tokio::test]
async fn a_cluster_and_a_replica_are_refused() {
    let cluster = server::Redis::with(&["cluster-enabled", "yes"]).await;
    let why = refusal(options(cluster.url())).await;
    assert!(why.contains("Redis Cluster") && why.contains("Sentinel"), "{why}");
    let primary = server::Redis::start().await;
    let replica = server::Redis::replica_of(&primary).await;
    let why = refusal(Options { patience: Duration::from_secs(3), ..options(replica.url()) }).await;
    assert!(why.contains("replica") && why.contains("primary"), "{why}");
}

// S3
#[test]
fn an_old_one_is_refused() {
    let info = "redis_version:5.0.14\r\nrun_id:abc\r\nrole:master\r\n";
    let why = format!("{:?}", Health::read(info).check());
    assert!(why.contains("5.0") && why.contains("6.2"), "{why}");
    assert!(Health::read(&info.replace("5.0.14", "6.2.0")).check().is_ok());
}

// S4: a start waits for as long as a step may take, and says nothing that is secret.
#[tokio::test]
async fn one_that_is_not_there_is_told_without_secrets() {
    let mut server = server::Redis::start().await;
    server.kill();
    let url = format!("redis://user:hunter2@127.0.0.1:{}", server.port());
    let began = Instant::now();
    let why = refusal(Options { patience: Duration::from_millis(500), ..options(url) }).await;
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(why.contains(&server.port().to_string()) && !why.contains("hunter2"), "{why}");
    for url in ["redis://user:hunter2@", "http://user:hunter2@h", "redis+sentinel://:hunter2@h:1", "hunter2"]
    {
        let why = refusal(options(url.to_owned())).await;
        assert!(!why.is_empty() && !why.contains("hunter2"), "{why}");
    }
}

// S3
#[tokio::test]
async fn a_password_is_given_and_a_wrong_one_refused_at_once() {
    let server =
        server::Redis::with(&["save", "", "user", "ow on >right~word ~onceward:* &onceward:* +@all"]).await;
    let url = |word: &str| format!("redis://ow:{word}@127.0.0.1:{}/3", server.port());
    let store = Redis::open(options(url("right~word"))).await.unwrap();
    drop(store);
    let began = Instant::now();
    let why = refusal(options(url("wrong"))).await;
    assert!(began.elapsed() < Duration::from_secs(4), "it was asked again and again");
    assert!(!why.contains("wrong@"), "{why}");
}
