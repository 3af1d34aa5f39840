//! Readers of events: how long what they missed is held, how many there are, and those that do not keep up (E1).

use std::time::{Duration, Instant};

use super::{TOOL, memory, whats};
use crate::harness::events::Block;
use crate::harness::{Agent, Events, Proxy, Raw, Upstream, proxied, within};

async fn writes(agent: &Agent, from: usize, count: usize) {
    for n in from..from + count {
        agent.post(&format!("/x?r={n}")).key(&n.to_string()).await.is(200);
    }
}

async fn is_gone(proxy: &Proxy, id: &str) {
    let problem =
        Events::ask(proxy, "", &[("Last-Event-ID", id)]).await.err().expect("a refusal").refused("gone");
    assert_eq!((problem.executed.as_str(), problem.retry.as_str()), ("no", "after-reread"));
}

// E1, P5
#[tokio::test]
async fn what_is_no_longer_held_is_gone() {
    let upstream = Upstream::start().await;
    let proxy = memory(&upstream, "history = 3", TOOL).await;
    let agent = Agent::new(&proxy);
    let mut events = Events::open(&proxy, "").await;
    let start = events.last_id.clone();
    writes(&agent, 0, 5).await;
    let all = events.some(5).await;
    is_gone(&proxy, &start).await;
    is_gone(&proxy, &all[0].id).await;
    let mut held = Events::behind(&proxy, "", &all[1].id).await;
    assert_eq!(held.some(3).await, all[2..]);
    // What never was is gone too, and so is what another history had.
    let (epoch, number) = start.split_once('-').unwrap();
    let other = format!("{:x}-{number}", u64::from_str_radix(epoch, 16).unwrap() + 1);
    for id in ["x", "1", "1-1", "-", "ü", &format!("{epoch}-9"), &format!("{epoch}-05"), &other] {
        is_gone(&proxy, id).await;
    }
    // An empty one is none.
    Events::ask(&proxy, "", &[("Last-Event-ID", "")]).await.expect("a stream");
}

// E1: with nothing held those who read now still see all
#[tokio::test]
async fn the_time_that_events_are_held_ends() {
    let upstream = Upstream::start().await;
    let proxy = memory(&upstream, "history = 0\nttl = \"200ms\"", TOOL).await;
    let mut events = Events::open(&proxy, "").await;
    let start = events.last_id.clone();
    writes(&Agent::new(&proxy), 0, 3).await;
    let all = events.some(3).await;
    assert_eq!(whats(&all), [("changed", "0"), ("changed", "1"), ("changed", "2")]);
    is_gone(&proxy, &start).await;
    Events::behind(&proxy, "", &all[2].id).await;
    let proxy = memory(&upstream, "ttl = \"200ms\"", TOOL).await;
    let start = Events::open(&proxy, "").await.last_id;
    writes(&Agent::new(&proxy), 0, 1).await;
    Events::behind(&proxy, "", &start).await;
    within("its time to be over", async {
        while Events::ask(&proxy, "", &[("Last-Event-ID", &start)]).await.is_ok() {}
    })
    .await;
    is_gone(&proxy, &start).await;
}

// E1: a stream shows that it lives, and a reader of what seldom happens keeps its place
#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let upstream = Upstream::start().await;
    let proxy = memory(&upstream, "heartbeat = \"50ms\"\nhistory = 2", TOOL).await;
    let mut quiet = Events::open(&proxy, "?resource=quiet").await;
    let start = quiet.last_id.clone();
    writes(&Agent::new(&proxy), 0, 5).await;
    is_gone(&proxy, &start).await;
    let number = |id: &str| id.split_once('-').unwrap().1.parse::<u64>().unwrap();
    while number(&quiet.last_id) < number(&start) + 5 {
        let block = quiet.block().await.unwrap();
        assert!(matches!(&block, Some(Block::Word(word)) if word.starts_with(": heartbeat")), "{block:?}");
    }
    let mut again = Events::behind(&proxy, "", &quiet.last_id).await;
    Agent::new(&proxy).post("/x?r=quiet").key("q").await.is(200);
    assert_eq!(again.next().await, quiet.next().await);
}

// E1, P5
#[tokio::test]
async fn readers_are_so_many() {
    let upstream = Upstream::start().await;
    let proxy = memory(&upstream, "readers = 2\nheartbeat = \"20ms\"", TOOL).await;
    let (one, two) = (Events::open(&proxy, "").await, Events::open(&proxy, "?resource=x").await);
    proxy.measures("onceward_event_readers", 2.0).await;
    let full = Events::ask(&proxy, "", &[]).await.err().expect("a refusal");
    full.refused("too-many-connections");
    drop(two);
    // Its place is free once it is seen to be gone.
    proxy.measures("onceward_event_readers", 1.0).await;
    let mut two = Events::open(&proxy, "").await;
    drop(one);
    writes(&Agent::new(&proxy), 0, 1).await;
    assert_eq!(two.next().await.what(), ("changed", "0"));
}

// E1: one that takes nothing is cut off, and neither writers nor other readers wait for it
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_cut_off_and_costs_nobody_anything() {
    let upstream = Upstream::start().await;
    // Few are enough then, however much the sockets between hold.
    let long = "r".repeat(7500);
    let proxy = memory(&upstream, "", &format!("{TOOL}\nqueue = false")).await;
    let mut slow = Raw::with_small_window(&proxy).await;
    slow.send("GET /.onceward/events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut others = Events::open(&proxy, "").await;
    let start = others.last_id.clone();
    let writer = Agent::new(&proxy);
    let reading = tokio::spawn(async move {
        let mut count = 0;
        loop {
            if others.next().await.subject == "end" {
                return count;
            }
            count += 1;
        }
    });
    let (mut wrote, mut slowest) = (0, Duration::ZERO);
    within("the slow reader to be cut off", async {
        while proxy.metric("onceward_event_readers_cut_off_total").await == 0.0 {
            for _ in 0..50 {
                let began = Instant::now();
                writer.post(&format!("/x?r={long}")).key(&wrote.to_string()).await.is(200);
                slowest = slowest.max(began.elapsed());
                wrote += 1;
            }
        }
    })
    .await;
    // Whoever waits for a reader that takes nothing waits for `limits.write_time`.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    writer.post("/x?r=end").key("end").await.is(200);
    assert_eq!(reading.await.unwrap(), wrote, "the other reader was not given all");
    assert_eq!(proxy.metric("onceward_event_readers_cut_off_total").await, 1.0);
    // What it was given before is there for it, in whole events, and then it may resume.
    let (head, mut rest) = (slow.head().await, Vec::new());
    assert!(slow.body(&head, &mut rest).await, "a cut in the middle of an event");
    let text = String::from_utf8_lossy(&rest);
    let last = text.rmatch_indices("\nid: ").next().map(|(at, _)| &text[at + 5..]).unwrap();
    let last = last.lines().next().unwrap().trim();
    let mut again = Events::behind(&proxy, "", last).await;
    let (epoch, number) = last.split_once('-').unwrap();
    let next = format!("{epoch}-{}", number.parse::<u64>().unwrap() + 1);
    assert_eq!(again.next().await.id, next);
    assert_ne!(last, start);
}

// E1, O5: a shutdown waits for no reader, and its streams come to a whole end
#[tokio::test]
async fn a_shutdown_ends_streams() {
    let (_upstream, mut proxy) = proxied(TOOL).await;
    let mut events = Events::open(&proxy, "").await;
    let mut of_one = Events::open(&proxy, "?resource=0").await;
    writes(&Agent::new(&proxy), 0, 2).await;
    let began = Instant::now();
    assert!(proxy.terminate().await.success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let (told, whole) = events.rest().await;
    assert_eq!((whats(&told), whole), (vec![("changed", "0"), ("changed", "1")], true));
    let (told, whole) = of_one.rest().await;
    assert_eq!((whats(&told), whole), (vec![("changed", "0")], true));
}

// E1, F5
#[tokio::test]
async fn streams_go_over_http2_too() {
    let upstream = Upstream::start().await;
    let proxy = memory(&upstream, "heartbeat = \"20ms\"", TOOL).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = format!("{}/.onceward/events", proxy.url());
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = client.get(&url).send().await.unwrap();
        assert_eq!((stream.status().as_u16(), stream.version()), (200, http::Version::HTTP_2));
        streams.push(stream);
    }
    writes(&Agent::new(&proxy), 0, 1).await;
    for stream in &mut streams {
        within("an event", async {
            let mut text = String::new();
            while !text.contains("\"subject\":\"0\"") {
                text.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
            }
        })
        .await;
    }
    // A stream that is reset gives its place back.
    drop(streams);
    proxy.measures("onceward_event_readers", 0.0).await;
}

// E1, C3: how many read is what a reload says
#[tokio::test]
async fn a_reload_sets_how_many_read() {
    let upstream = Upstream::start().await;
    let config = |readers: usize| {
        format!(
            "[events]\nreaders = {readers}\n[[routes]]\npath = \"/{{*path}}\"\nupstream = \"{}\"\n{TOOL}\n",
            upstream.url()
        )
    };
    let proxy = Proxy::start(&config(1)).await;
    let _one = Events::open(&proxy, "").await;
    Events::ask(&proxy, "", &[]).await.err().expect("a refusal").refused("too-many-connections");
    proxy.rewrite(&config(2));
    proxy.signal("HUP");
    within("the new limit to count", async { while Events::ask(&proxy, "", &[]).await.is_err() {} }).await;
}
