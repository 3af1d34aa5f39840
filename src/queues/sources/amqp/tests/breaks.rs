//! Takes, connections, channels and brokers that end in the middle.

use super::*;

// J2: what was on its way to somebody who left is ready again.
#[tokio::test(flavor = "multi_thread")]
async fn a_take_that_is_dropped_gives_back() {
    let broker = server::shared().await;
    let beside = Beside::quorum(broker, "dropped").await;
    let source = source(broker, "dropped", None);
    assert!(take(&source, 1).await.is_empty());
    beside.named("1").await;
    for _ in 0..5 {
        // It begins, and nobody is there for what it brings.
        let mut taking = source.take(1, &Nothing);
        tokio::select! { biased; _ = &mut taking => {}, () = std::future::ready(()) => {} }
    }
    broker.reaches("dropped", (1, 0)).await;
    assert!(source.in_hand().is_empty());
}

// J2, J3: connections that are closed, a broker that hangs, and one that is killed and comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_goes_on() {
    let mut broker = RabbitMq::start().await;
    let beside = Beside::quorum(&broker, "tasks").await;
    let source = source(&broker, "tasks", None);
    for number in 0..4 {
        beside.named(&number.to_string()).await;
    }
    assert_eq!(soon(&source, 2).await, set(&["0", "1"]));
    let mut wakes = source.wake();

    // An operator closes all connections: all comes again.
    broker.control(&["close_all_connections", "for a test"]).await;
    let began = Instant::now();
    while !source.in_hand().is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?}", source.in_hand());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(source.done("0").await, Ok(Told::Elsewhere));
    tokio::time::timeout(PATIENCE, &mut wakes).await.unwrap();
    drop(wakes);
    assert_eq!(soon(&source, 4).await, set(&["0", "1", "2", "3"]));
    assert_eq!(source.done("0").await, Ok(Told::Yes));

    // It hangs: nothing waits for it long.
    broker.pause();
    let began = Instant::now();
    assert!(source.take(1, &Nothing).await.is_err());
    assert!(began.elapsed() < crate::queues::source::PATIENCE, "{:?}", began.elapsed());
    broker.resume();
    assert_eq!(soon(&source, 3).await, set(&["1", "2", "3"]));

    broker.kill();
    let began = Instant::now();
    assert!(source.take(1, &Nothing).await.is_err());
    source.wake().await;
    source.back("1").await;
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
    broker.start_again().await;
    assert_eq!(soon(&source, 3).await, set(&["1", "2", "3"]));
    for identity in ["1", "2", "3"] {
        assert_eq!(source.done(identity).await, Ok(Told::Yes));
    }
    broker.reaches("tasks", (0, 0)).await;
}

// J3: a delivery that is held for longer than the broker allows ends its channel; it comes again, and others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_broker_ends_takes_little_with_it() {
    let broker = RabbitMq::start().await;
    broker.control(&["eval", "application:set_env(rabbit, consumer_timeout, 1000)."]).await;
    broker.control(&["eval", "application:set_env(rabbit, channel_tick_interval, 500)."]).await;
    let beside = Beside::quorum(&broker, "slow").await;
    let source = source(&broker, "slow", None);
    beside.named("1").await;
    assert_eq!(soon(&source, 1).await, set(&["1"]));
    let began = Instant::now();
    while !source.in_hand().is_empty() {
        assert!(began.elapsed() < PATIENCE, "it is still in hand");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(soon(&source, 1).await, set(&["1"]));
    assert_eq!(source.done("1").await, Ok(Told::Yes));
    broker.reaches("slow", (0, 0)).await;
}
