//! A Redis and its Sentinel within TLS (S1): `rediss://` and `rediss+sentinel://`. Root certificates are the system's or
//! those that `SSL_CERT_FILE` names, so each proxy has an environment of its own.

use super::told;
use crate::harness::servers::redis::certificates::Certificates;
use crate::harness::servers::redis::watched::Watched;
use crate::harness::servers::redis::{Redis, Said};
use crate::harness::{Agent, Gate, Proxy, Reply, Upstream, within};

/// So many handshakes may take their time.
fn config(store: &str, upstream: &Upstream) -> String {
    patient("15s", store, upstream)
}

/// For those that are refused, which takes all of its patience.
fn hasty(store: &str, upstream: &Upstream) -> String {
    patient("3s", store, upstream)
}

fn patient(patience: &str, store: &str, upstream: &Upstream) -> String {
    format!(
        "[store]\nurl = \"{store}\"\nalive = \"15s\"\nconnections = 2\n[limits]\nstore = \"{patience}\"\n[[routes]]\npath = \"/{{*path}}\"\n\
         upstream = \"{}\"\nguard = \"tool\"\nresource = \"one\"\n",
        upstream.url()
    )
}

async fn refused(roots: &str, text: &str) -> String {
    let Err(log) = Proxy::trusting(roots, text).await else { panic!("it was trusted") };
    assert!(log.contains("store.url"), "{log}");
    log
}

/// Where the connections that this server was made come in, but those of the test itself.
async fn doors(redis: &Redis) -> Vec<String> {
    let Said::Text(list) = redis.ask(&["CLIENT", "LIST"]).await else { panic!("a list of clients") };
    let others = list.lines().filter(|line| !line.contains(" cmd=client|list "));
    let door = |line: &str| line.split(' ').find_map(|word| word.strip_prefix("laddr=")).map(str::to_owned);
    others.filter_map(door).collect()
}

// S1, S3, K7, Q4
#[tokio::test]
async fn a_redis_within_tls_is_shared_as_one_without() {
    let (certificates, upstream) = (Certificates::made_for(None), Upstream::start().await);
    let redis = Redis::within_tls(certificates.folder(), &["save", ""]).await;
    let (roots, text) = (certificates.authority(), config(&redis.url(), &upstream));
    let one = Proxy::trusting(&roots, &text).await.expect("a proxy within TLS");
    let two = Proxy::trusting(&roots, &text).await.expect("a proxy within TLS");
    let first = Agent::new(&one).post("/x").key("k").body("1").await;
    Agent::new(&two).post("/x").key("k").body("1").await.replays(first.is(200));
    // Who waits on the other is told, over the connection for news too.
    let gate = Gate::closed();
    upstream.next(Reply::ok("slow").held(&gate));
    let slow = Agent::new(&one).post("/x").key("slow").body("1").spawn();
    upstream.received(2).await;
    let next = Agent::new(&two).post("/x").key("next").body("1").wait(15).spawn();
    within("it to stand in the line of instances", async {
        let admin = Agent::admin(&two);
        while admin.get("/resources?busy=true").await.json()["resources"].as_array().is_none_or(Vec::is_empty)
        {
        }
    })
    .await;
    gate.open();
    slow.await.unwrap().is(200);
    next.await.unwrap().is(200);
    let doors = doors(&redis).await;
    let within_tls = format!("127.0.0.1:{}", redis.port_of_clients());
    assert!(doors.len() >= 4 && doors.iter().all(|door| *door == within_tls), "{doors:?}");
}

// S1: who is not vouched for, or speaks plainly, is no store
#[tokio::test]
async fn a_redis_that_nobody_vouches_for_is_refused() {
    let (ours, others) = (Certificates::made_for(None), Certificates::made_for(None));
    let upstream = Upstream::start().await;
    let redis = Redis::within_tls(ours.folder(), &["save", ""]).await;
    let log = refused(&others.authority(), &hasty(&redis.url(), &upstream)).await;
    assert!(log.contains("certificate"), "{log}");
    // Vouched for by another name.
    let named = redis.url().replace("127.0.0.1", "localhost");
    let log = refused(&ours.authority(), &hasty(&named, &upstream)).await;
    assert!(log.contains("certificate"), "{log}");
    let plain = format!("redis://127.0.0.1:{}", redis.port_of_clients());
    refused(&ours.authority(), &hasty(&plain, &upstream)).await;
    let wrapped = format!("rediss://127.0.0.1:{}", redis.port());
    refused(&ours.authority(), &hasty(&wrapped, &upstream)).await;
}

// S1, S3: within TLS and by a password each, Sentinel is asked, its primary used, and the next one after that
#[tokio::test]
async fn a_sentinel_within_tls_and_its_passwords_lead_to_the_primary() {
    let (ours, others) = (Certificates::made_for(None), Certificates::made_for(None));
    let upstream = Upstream::start().await;
    let users = ["user", "ow on >right~word ~* &* +@all", "user", "se on >other~word ~* &* +@all"];
    let primary = Redis::within_tls(ours.folder(), &[&["save", ""][..], &users].concat()).await;
    let mut redis = Watched::over(primary).await;
    let url = |word: &str, other: &str| {
        let port = redis.sentinel.port_of_clients();
        format!(
            "rediss+sentinel://ow:{word}@127.0.0.1:{port}/watched/1?sentinel_user=se&sentinel_password={other}"
        )
    };
    let text = config(&url("right~word", "other~word"), &upstream);
    for (word, other) in [("wr0ng", "other~word"), ("right~word", "wr0ng")] {
        let log = refused(&ours.authority(), &hasty(&url(word, other), &upstream)).await;
        assert!(!log.contains("wr0ng") && !log.contains("~word"), "{log}");
    }
    refused(&others.authority(), &hasty(&url("right~word", "other~word"), &upstream)).await;
    let proxy = Proxy::trusting(&ours.authority(), &text).await.expect("a proxy within TLS");
    let agent = Agent::new(&proxy);
    let first = agent.post("/x").key("k").body("1").await;
    first.is(200);
    redis.is_copied().await;
    redis.primary.kill();
    redis.replica.reaches("role", "master").await;
    told(agent.post("/x").key("l").body("1").wait(15)).await.is(200).is_first_run();
    let late = Proxy::trusting(&ours.authority(), &text).await.expect("a proxy on the next primary");
    told(Agent::new(&late).post("/x").key("k").body("1")).await.replays(&first);
    let within_tls = format!("127.0.0.1:{}", redis.replica.port_of_clients());
    within("the proxies to be on it", async {
        while doors(&redis.replica).await.iter().filter(|door| **door == within_tls).count() < 4 {}
    })
    .await;
}
