//! The source on a real Redis, and what can happen to one.

use super::*;
use crate::config::checked::Secret;
use bytes::Bytes;
use server::{Redis, Said};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[allow(
    dead_code,
    unreachable_pub,
    clippy::duplicate_mod,
    reason = "others include it too, and each uses a part"
)]
#[path = "../../../../tests/harness/servers/redis.rs"]
mod server;

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);

struct Nothing;

impl Busy for Nothing {
    fn is_busy(&self, _: &str) -> bool {
        false
    }

    fn some(&self, _: usize) -> Vec<Identity> {
        Vec::new()
    }
}

fn source(redis: &Redis, visibility: Duration) -> Arc<dyn Source> {
    let settings = RedisTasks {
        url: Secret::new(redis.url()),
        stream: "tasks".to_owned(),
        group: "onceward".to_owned(),
        dead_letter: Some("dead".to_owned()),
    };
    let ground = Ground {
        queue: "q".into(),
        visibility,
        tasks: TaskTracker::new(),
        closing: CancellationToken::new(),
    };
    open(&settings, &ground)
}

async fn add(redis: &Redis, task: &str) -> String {
    redis.ask(&["XADD", "tasks", "*", "task", task]).await.text().to_owned()
}

async fn take(source: &Arc<dyn Source>, most: usize) -> Vec<Offer> {
    source.take(most, &Nothing).await.unwrap().offers
}

fn names(offers: &[Offer]) -> Vec<&str> {
    offers.iter().map(|offer| &*offer.identity).collect()
}

/// How many entries are pending.
async fn pending(redis: &Redis) -> i64 {
    let Said::List(said) = redis.ask(&["XPENDING", "tasks", "onceward"]).await else { return 0 };
    let Some(Said::Number(number)) = said.first() else { panic!("{said:?}") };
    *number
}

/// Takes until there is something.
async fn soon(source: &Arc<dyn Source>) -> Vec<Offer> {
    let began = Instant::now();
    loop {
        match source.take(8, &Nothing).await {
            Ok(taken) if !taken.offers.is_empty() => return taken.offers,
            _ => assert!(began.elapsed() < PATIENCE, "nothing comes"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// J2: what nobody asked for stays in the stream, as no consumer's.
#[tokio::test]
async fn no_more_is_taken_than_is_asked_for() {
    let redis = Redis::start().await;
    let source = source(&redis, LONG);
    let mut ids = Vec::new();
    for task in 0..10 {
        ids.push(add(&redis, &task.to_string()).await);
    }
    let taken = take(&source, 3).await;
    assert_eq!(names(&taken), ids[..3]);
    assert_eq!(taken[1].content.to_json(), "1");
    assert_eq!(pending(&redis).await, 3);
    assert_eq!(names(&take(&source, 100).await), ids[3..]);
    assert!(take(&source, 1).await.is_empty());
}

// J3: what is acknowledged is gone, told once or twice, and only that.
#[tokio::test]
async fn what_is_done_does_not_come_again() {
    let redis = Redis::start().await;
    let source = source(&redis, Duration::from_millis(50));
    let (one, two) = (add(&redis, "1").await, add(&redis, "2").await);
    assert_eq!(names(&take(&source, 2).await), [&*one, &*two]);
    assert_eq!(source.has(&one).await, Ok(true));
    for _ in 0..2 {
        assert_eq!(source.done(&one).await, Ok(Told::Yes));
    }
    assert_eq!(source.has(&one).await, Ok(false));
    assert_eq!(source.has(&two).await, Ok(true));
    assert_eq!(names(&soon(&source).await), [&*two]);
    // Its group made anew gives all again.
    redis.ask(&["XGROUP", "DESTROY", "tasks", "onceward"]).await;
    assert_eq!(source.has(&one).await, Ok(true));
    assert_eq!(names(&take(&source, 1).await), [&*one]);
    assert_eq!(source.has(&two).await, Ok(true));
}

// J3: an instance that died with a task costs one visibility; a task given back costs nothing, on any instance.
#[tokio::test]
async fn what_was_taken_comes_again() {
    let redis = Redis::start().await;
    let (short, long) = (source(&redis, Duration::from_millis(300)), source(&redis, LONG));
    let one = add(&redis, "1").await;
    assert_eq!(names(&take(&short, 1).await), [&*one]);
    assert!(take(&long, 1).await.is_empty());
    let began = Instant::now();
    assert_eq!(names(&soon(&short).await), [&*one]);
    assert!(began.elapsed() > Duration::from_millis(150), "{:?}", began.elapsed());

    long.back(&one).await;
    assert_eq!(names(&take(&long, 1).await), [&*one]);
    assert!(take(&long, 1).await.is_empty());
    // New entries do not keep one that was given back from its turn for long.
    long.back(&one).await;
    for task in 0..200 {
        add(&redis, &task.to_string()).await;
    }
    let began = Instant::now();
    while names(&take(&long, 1).await) != [&*one] {
        assert!(began.elapsed() < PATIENCE, "it does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// J3: long lists of pending entries are looked through.
#[tokio::test]
async fn one_of_many_is_found() {
    let redis = Redis::start().await;
    let source = source(&redis, LONG);
    let mut last = String::new();
    for task in 0..2000 {
        last = add(&redis, &task.to_string()).await;
    }
    assert_eq!(take(&source, 2000).await.len(), 2000);
    source.back(&last).await;
    assert_eq!(names(&take(&source, 1).await), [&*last]);
}

// J3: the dead-letter stream gets it once, with what it was, and the group has it no longer.
#[tokio::test]
async fn what_is_given_up_is_buried_once() {
    let redis = Redis::start().await;
    let source = source(&redis, LONG);
    redis.ask(&["XADD", "tasks", "1-1", "id", "7"]).await;
    let taken = take(&source, 1).await.remove(0);
    let dead = Dead { identity: taken.identity, content: taken.content, attempts: 5 };
    assert!(source.buries());
    for _ in 0..2 {
        assert_eq!(source.dead(&dead).await, Ok(Told::Yes));
    }
    let Said::List(buried) = redis.ask(&["XRANGE", "dead", "-", "+"]).await else { panic!("a list") };
    let text = format!("{buried:?}");
    assert_eq!(buried.len(), 1, "{text}");
    for word in ["\"id\"", "\"7\"", "\"onceward_task\"", "\"1-1\"", "\"onceward_attempts\"", "\"5\""] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(pending(&redis).await, 0);

    // What cannot be buried stays.
    redis.ask(&["DEL", "dead"]).await;
    redis.ask(&["SET", "dead", "something else"]).await;
    add(&redis, "2").await;
    let taken = take(&source, 1).await.remove(0);
    let dead = Dead { identity: taken.identity, content: taken.content, attempts: 5 };
    assert!(matches!(source.dead(&dead).await, Err(SourceError::NotDone(_))));
    assert_eq!(pending(&redis).await, 1);
}

// J2: what is put in comes out.
#[tokio::test]
async fn a_task_can_be_put_in() {
    let redis = Redis::start().await;
    let source = source(&redis, LONG);
    let body = Bytes::from_static(b"{\"n\": 1.50}");
    let task = NewTask { content_type: Some("application/json".to_owned()), body, operation: "o".to_owned() };
    let put = source.put(&task).await.unwrap().unwrap();
    let taken = take(&source, 1).await.remove(0);
    assert_eq!((taken.identity, taken.content.to_json()), (put, "{\"n\": 1.50}".to_owned()));
}

// J2: a wait ends when something comes, and takes nothing.
#[tokio::test]
async fn a_wait_ends_when_a_task_comes() {
    let redis = Redis::start().await;
    let source = source(&redis, LONG);
    assert!(take(&source, 1).await.is_empty());
    let mut slowest = Duration::ZERO;
    for task in 0..20 {
        let wake = source.wake();
        let told = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            add(&redis, &task.to_string()).await;
            Instant::now()
        };
        let (woken, added) = tokio::join!(async { (wake.await, Instant::now()).1 }, told);
        slowest = slowest.max(woken.saturating_duration_since(added));
        assert_eq!(pending(&redis).await, task);
        assert_eq!(take(&source, 1).await.len(), 1);
    }
    assert!(slowest < LOOK, "it was polled: {slowest:?}");
    // One that is dropped neither takes what comes nor holds the next one up.
    for task in 0..5 {
        let mut wake = source.wake();
        tokio::select! { () = &mut wake => panic!("nothing came"), () = tokio::time::sleep(Duration::from_millis(30)) => {} }
        drop(wake);
        add(&redis, "late").await;
        assert_eq!(pending(&redis).await, 20 + task);
        let began = Instant::now();
        source.wake().await;
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        assert_eq!(take(&source, 1).await.len(), 1);
    }
}

// J2: what was on its way to somebody who left is there for the next, on any instance.
#[tokio::test]
async fn a_take_that_is_dropped_gives_back() {
    let redis = Redis::start().await;
    let (one, other) = (source(&redis, LONG), source(&redis, LONG));
    assert!(take(&one, 1).await.is_empty());
    let id = add(&redis, "1").await;
    redis.pause();
    let left = tokio::time::timeout(Duration::from_millis(200), one.take(1, &Nothing)).await;
    assert!(left.is_err());
    redis.resume();
    assert_eq!(names(&soon(&other).await), [&*id]);
}

// J2, J3: a Redis that is killed, and comes again with what it has, goes on; until then nothing waits for it.
#[tokio::test]
async fn a_redis_that_comes_back_goes_on() {
    let mut redis = Redis::durable().await;
    let source = source(&redis, Duration::from_millis(500));
    let (one, two) = (add(&redis, "1").await, add(&redis, "2").await);
    assert_eq!(names(&take(&source, 1).await), [&*one]);
    redis.kill();
    let began = Instant::now();
    assert!(source.take(1, &Nothing).await.is_err());
    assert!(source.done(&one).await.is_err());
    source.wake().await;
    source.back(&one).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    redis.start_again().await;
    let mut found: Vec<String> = Vec::new();
    while found.len() < 2 {
        found.extend(soon(&source).await.iter().map(|offer| offer.identity.to_string()));
    }
    found.sort();
    assert_eq!(found, [one.clone(), two]);
    assert_eq!(source.done(&one).await, Ok(Told::Yes));

    // One that hangs is given up, and found again.
    redis.pause();
    let began = Instant::now();
    assert!(matches!(source.done(&one).await, Err(SourceError::Unsure(_))));
    assert!(began.elapsed() < super::super::super::source::PATIENCE);
    redis.resume();
    let began = Instant::now();
    while source.done(&one).await.is_err() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// J2: a stream that was deleted, with its group, begins anew; entries that were trimmed away do no harm.
#[tokio::test]
async fn a_stream_that_is_gone_begins_anew() {
    let redis = Redis::start().await;
    let source = source(&redis, Duration::from_millis(50));
    add(&redis, "1").await;
    assert_eq!(take(&source, 1).await.len(), 1);
    redis.ask(&["FLUSHALL"]).await;
    source.wake().await;
    let one = add(&redis, "1").await;
    assert_eq!(names(&take(&source, 1).await), [&*one]);
    redis.ask(&["XTRIM", "tasks", "MAXLEN", "0"]).await;
    let two = add(&redis, "2").await;
    assert_eq!(names(&soon(&source).await), [&*two]);
    assert_eq!(source.has(&one).await, Ok(false));
}
