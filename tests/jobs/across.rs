//! Jobs on a store that two instances share, each started here (J1, S3): a job is nobody's until it runs.

use super::{SECRET, accepted, ended, later};
use crate::harness::ground::{Ground, on_each_store};
use crate::harness::{Agent, Gate, Proxy, Reply, Upstream};

async fn pair(store: &str, upstream: &str) -> (Proxy, Proxy, Ground) {
    let ground = Ground::of(store).await;
    let text = format!(
        "[store]\nurl = \"{}\"\n{}secret = \"{SECRET}\"\nalive = \"2s\"\n[limits]\nstore = \"4s\"\n[[routes]]\n\
         path = \"/{{*path}}\"\nupstream = \"{upstream}\"\nasync = true\nguard = \"tool\"\nresource = \"{{path}}\"\n\
         idempotency.settle = \"0s\"\n",
        ground.url(),
        ground.lines()
    );
    (Proxy::start(&text).await, Proxy::start(&text).await, ground)
}

// J1, Q1, S3, K7: in the order in which they were accepted, wherever that was; once; replayed and looked up on both
async fn jobs_run_once_and_in_order_over_all(store: &str) {
    let upstream = Upstream::start().await;
    let (one, two, _ground) = pair(store, &upstream.url()).await;
    let (agents, gate) = ([Agent::new(&one), Agent::new(&two)], Gate::closed());
    upstream.next(Reply::ok("first").held(&gate));
    let call =
        |n: usize, at: usize| later(agents[at % 2].post("/a").key(&format!("k{n}")).body(n.to_string()));
    let mut places = Vec::new();
    for n in 0..8 {
        places.push(accepted(&call(n, n).await));
        upstream.received(1).await;
    }
    accepted(&call(5, 0).await);
    let admin = Agent::admin(&two);
    let queued = admin.get("/operations?state=queued").await.is(200).json();
    assert_eq!(queued["operations"].as_array().map(Vec::len), Some(7), "{queued}");
    let other = accepted(&later(agents[1].post("/b").key("b").body("b")).await);
    assert_eq!(ended(&agents[0], &other).await["state"], "done");
    let waits = call(7, 0).header("prefer", "respond-async, wait=20").spawn();
    gate.open();
    waits.await.unwrap().is(200);
    for (n, place) in places.iter().enumerate() {
        assert_eq!(ended(&agents[(n + 1) % 2], place).await["state"], "done");
        let answer = call(n, n).await;
        call(n, n + 1).await.replays(&answer);
    }
    let order: Vec<_> =
        upstream.requests().iter().map(|seen| seen.text()).filter(|text| text != "b").collect();
    assert_eq!(order, (0..8).map(|n| n.to_string()).collect::<Vec<_>>());
}

// J1, S3, K11: what a killed instance accepted runs on the other, once; what it had out is unknown
async fn a_killed_instances_jobs_run_on_the_other(store: &str) {
    let upstream = Upstream::start().await;
    let (mut one, two, _ground) = pair(store, &upstream.url()).await;
    // Nothing runs on the second before the first is dead, since both stand behind what that has out.
    let (first, second, gate) = (Agent::new(&one), Agent::new(&two), Gate::closed());
    upstream.next(Reply::ok("out").held(&gate));
    let out = tokio::spawn(first.post("/a").key("out").body("out").try_send());
    upstream.received(1).await;
    let mut places = Vec::new();
    for n in 0..4 {
        places.push(accepted(&later(first.post("/a").key(&format!("k{n}")).body(n.to_string())).await));
    }
    one.kill();
    drop(out.await);
    for place in &places {
        assert_eq!(ended(&second, place).await["state"], "done");
    }
    second.post("/a").key("out").body("out").await.refused("outcome-unknown");
    gate.open();
    one.restart().await;
    let first = Agent::new(&one);
    for n in 0..4 {
        for agent in [&first, &second] {
            later(agent.post("/a").key(&format!("k{n}")).body(n.to_string())).await.is(200).is_replay();
        }
    }
    let sent: Vec<_> = upstream.requests().iter().map(|seen| seen.text()).collect();
    assert_eq!(sent, ["out", "0", "1", "2", "3"]);
}

// J1, S4: what was stored is accepted, whatever becomes of the store while its agent waits for the end
async fn a_store_that_goes_away_takes_no_job_back(store: &str) {
    let upstream = Upstream::start().await;
    let (one, _two, mut ground) = pair(store, &upstream.url()).await;
    let (agent, gate) = (Agent::new(&one), Gate::closed());
    upstream.next(Reply::ok("out").held(&gate));
    let call = agent.post("/a").key("k").header("prefer", "respond-async, wait=20");
    let waits = tokio::spawn(call.try_send());
    upstream.received(1).await;
    let answer = ground.without(waits).await;
    accepted(&answer.expect("an answer").expect("it came whole"));
    gate.open();
}

use self as across;
on_each_store! { redis = "redis" postgres = "postgres" postgres_advisory = "postgres, advisory": {
    across: jobs_run_once_and_in_order_over_all a_killed_instances_jobs_run_on_the_other
    a_store_that_goes_away_takes_no_job_back;
} }
