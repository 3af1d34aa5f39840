//! A result that the store does not take when it is there (K4): the way to it is cut between the upstream's answer and the
//! commit, for one of two proxies.

use super::{comes_to, told};
use crate::harness::ground::{Ground, on_each_store};
use crate::harness::relay::Relay;
use crate::harness::{Agent, Gate, Proxy, Reply, Upstream};

fn config(ground: &Ground, store: &str, upstream: &Upstream) -> String {
    // So long that nobody takes the one that is cut off for dead.
    format!(
        "[store]\nurl = \"{store}\"\n{}alive = \"60s\"\n[limits]\nstore = \"4s\"\n[[routes]]\npath = \"/{{*path}}\"\n\
         upstream = \"{}\"\nversion = \"none\"\n",
        ground.lines(),
        upstream.url()
    )
}

// K4, S3, S4, Q3
async fn a_result_that_is_not_stored_is_told_and_stored_later(store: &str) {
    let (upstream, ground) = (Upstream::start().await, Ground::of(store).await);
    let address = ground.address().expect("a server");
    let relay = Relay::to(&address, 1).await;
    let cut_off = ground.url().replace(&address, &relay.address());
    let one = Proxy::start(&config(&ground, &cut_off, &upstream)).await;
    let two = Proxy::start(&config(&ground, &ground.url(), &upstream)).await;
    let (one, two) = (Agent::new(&one), Agent::new(&two));
    let gate = Gate::closed();
    upstream.next(Reply::new(201).field("X-Of", "tool").body("made").held(&gate));
    let first = one.post("/d").key("k").body("1").spawn();
    upstream.received(1).await;
    relay.moves("");
    relay.cut_all();
    gate.open();
    let problem = first.await.unwrap().refused("result-not-stored");
    assert_eq!((problem.executed.as_str(), problem.json["upstream_status"].as_u64()), ("yes", Some(201)));
    // Until it is stored it has no end for anybody, and nobody builds on it.
    two.post("/d").key("k").body("1").await.refused("in-flight");
    two.post("/d").key("l").body("2").wait(0).await.refused("queue-timeout");
    two.post("/e").key("m").body("3").await.is(200);
    relay.moves(&address);
    comes_to(&two, "done").await;
    let replayed = two.post("/d").key("k").body("1").await;
    assert_eq!(replayed.is(201).is_replay().text(), "made");
    assert_eq!(replayed.needs("x-of"), "tool");
    told(one.post("/d").key("k").body("1")).await.replays(&replayed);
    two.post("/d").key("l").body("2").wait(15).await.is(200).is_first_run();
    assert_eq!(upstream.requests().len(), 3);
}

use self as results;
on_each_store! { redis = "redis" postgres = "postgres": {
    results: a_result_that_is_not_stored_is_told_and_stored_later;
} }
