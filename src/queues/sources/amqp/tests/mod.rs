//! The source on a real RabbitMQ, and what can happen to one.

mod breaks;

use std::collections::BTreeSet;

use super::*;
use crate::config::checked::Secret;
use bytes::Bytes;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use server::RabbitMq;
use tokio_util::task::TaskTracker;

#[allow(dead_code, unreachable_pub, reason = "the integration tests include it too, and each uses a part")]
#[path = "../../../../../tests/harness/servers/rabbitmq.rs"]
mod server;

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

struct Nothing;

impl Busy for Nothing {
    fn is_busy(&self, _: &str) -> bool {
        false
    }

    fn some(&self, _: usize) -> Vec<Identity> {
        Vec::new()
    }
}

/// A queue, beside all that Onceward does.
struct Beside {
    _connection: Connection,
    channel: Channel,
    queue: String,
}

impl Beside {
    async fn declare(broker: &RabbitMq, queue: &str, arguments: &[(&str, AMQPValue)]) -> Self {
        let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(Default::default()).await.unwrap();
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(queue.into(), durable, table).await.unwrap();
        Self { _connection: connection, channel, queue: queue.to_owned() }
    }

    /// A quorum queue.
    async fn quorum(broker: &RabbitMq, queue: &str) -> Self {
        Self::declare(broker, queue, &[("x-queue-type", text("quorum"))]).await
    }

    async fn send(&self, body: &str, properties: BasicProperties) {
        let queue = ShortString::from(self.queue.as_str());
        let sent =
            self.channel.basic_publish("".into(), queue, Default::default(), body.as_bytes(), properties);
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }

    async fn plain(&self, body: &str) {
        self.send(body, BasicProperties::default()).await;
    }

    async fn named(&self, id: &str) {
        self.send(id, BasicProperties::default().with_message_id(id.into())).await;
    }

    /// One message of it, acknowledged.
    async fn get(&self) -> Option<(String, BasicProperties)> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(self.queue.as_str().into(), options).await.unwrap()?;
        let delivery = got.delivery;
        Some((String::from_utf8(delivery.data).unwrap(), delivery.properties))
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn source(broker: &RabbitMq, queue: &str, dead_letter: Option<&str>) -> Arc<dyn Source> {
    let settings = AmqpTasks {
        url: Secret::new(broker.url()),
        queue: queue.to_owned(),
        dead_letter: dead_letter.map(str::to_owned),
    };
    let ground = Ground {
        queue: queue.into(),
        visibility: Duration::from_secs(60),
        tasks: TaskTracker::new(),
        closing: CancellationToken::new(),
    };
    open(&settings, &ground)
}

async fn take(source: &Arc<dyn Source>, most: usize) -> Vec<Offer> {
    source.take(most, &Nothing).await.unwrap().offers
}

/// Takes until there are so many, and no more.
async fn soon(source: &Arc<dyn Source>, many: usize) -> BTreeSet<String> {
    let began = Instant::now();
    let mut found = BTreeSet::new();
    while found.len() < many {
        if let Ok(taken) = source.take(many, &Nothing).await {
            found.extend(taken.offers.iter().map(|offer| offer.identity.to_string()));
        }
        assert!(began.elapsed() < PATIENCE, "only {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    found
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

// J2: what nobody asked for stays ready; what was taken is in hand until it ends.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_than_is_asked_for() {
    let broker = server::shared().await;
    let beside = Beside::quorum(broker, "few").await;
    let source = source(broker, "few", None);
    for number in 0..10 {
        beside.named(&number.to_string()).await;
    }
    assert_eq!(soon(&source, 3).await, set(&["0", "1", "2"]));
    broker.reaches("few", (7, 3)).await;
    assert_eq!(source.in_hand().len(), 3);
    for identity in ["0", "1"] {
        assert_eq!(source.has(identity).await, Ok(true));
        assert_eq!(source.done(identity).await, Ok(Told::Yes));
        assert_eq!(source.has(identity).await, Ok(false));
        assert_eq!(source.done(identity).await, Ok(Told::Elsewhere));
    }
    source.back("2").await;
    broker.reaches("few", (8, 0)).await;
    let began = Instant::now();
    let rest = soon(&source, 8).await;
    println!("8 tasks in {:?}", began.elapsed());
    assert_eq!(rest, set(&["2", "3", "4", "5", "6", "7", "8", "9"]));
    assert!(take(&source, 1).await.is_empty());
}

// J2: a wait ends when something comes; when nobody waits any more it takes nothing, and what came goes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_a_task_comes() {
    let broker = server::shared().await;
    let beside = Beside::quorum(broker, "wait").await;
    let source = source(broker, "wait", None);
    assert!(take(&source, 1).await.is_empty());
    let mut all = Vec::new();
    for number in 0..30 {
        let wake = source.wake();
        let told = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let sent = Instant::now();
            beside.named(&number.to_string()).await;
            sent
        };
        let (woken, sent) = tokio::join!(
            async {
                wake.await;
                Instant::now()
            },
            told
        );
        all.push(woken.saturating_duration_since(sent));
        assert_eq!(take(&source, 1).await.len(), 1);
        assert_eq!(source.done(&number.to_string()).await, Ok(Told::Yes));
    }
    all.sort();
    println!("wake-up: median {:?}, slowest {:?}", all[15], all[29]);

    let mut wake = source.wake();
    tokio::select! {
        () = &mut wake => panic!("nothing came"),
        () = tokio::time::sleep(Duration::from_millis(200)) => {}
    }
    drop(wake);
    beside.named("late").await;
    broker.reaches("wait", (1, 0)).await;
    // Something comes, and nobody asks for it.
    source.wake().await;
    broker.reaches("wait", (1, 0)).await;
    assert!(source.in_hand().is_empty());
    assert_eq!(soon(&source, 1).await, set(&["late"]));
}

// J2: equal messages without an id are tasks of their own, and are the same ones when they come again.
#[tokio::test(flavor = "multi_thread")]
async fn equal_messages_are_tasks_of_their_own() {
    let broker = server::shared().await;
    let beside = Beside::quorum(broker, "equal").await;
    let one = source(broker, "equal", None);
    for _ in 0..3 {
        beside.plain("tick").await;
    }
    let names = soon(&one, 3).await;
    assert_eq!(one.in_hand().len(), 3);
    // The instance is gone: another one has the same tasks.
    drop(one);
    let other = source(broker, "equal", None);
    assert_eq!(soon(&other, 3).await, names);
    // Done is one of them.
    let first = names.first().unwrap();
    assert_eq!(other.done(first).await, Ok(Told::Yes));
    broker.reaches("equal", (0, 2)).await;
    // A new one is a new task, though one like it was done.
    beside.plain("tick").await;
    let new = soon(&other, 1).await;
    assert!(new.is_disjoint(&names), "{new:?} {names:?}");
    // A message whose name is taken, as others know, is a task of its own.
    struct Taken;
    impl Busy for Taken {
        fn is_busy(&self, identity: &str) -> bool {
            !identity.ends_with("@2")
        }
        fn some(&self, _: usize) -> Vec<Identity> {
            Vec::new()
        }
    }
    drop(other);
    broker.reaches("equal", (3, 0)).await;
    broker.control(&["purge_queue", "equal"]).await;
    beside.plain("tick").await;
    let third = source(broker, "equal", None);
    let taken = third.take(1, &Taken).await.unwrap().offers.remove(0);
    assert!(taken.identity.ends_with("@2"), "{}", taken.identity);
    // So is one that turns out to be taken when it is claimed.
    assert!(third.is_another(&taken.identity, &taken.content));
    let anew = take(&third, 1).await.remove(0);
    assert!(anew.identity.ends_with("@3"), "{}", anew.identity);
    assert_eq!(anew.content, taken.content);
    assert_eq!(third.done(&anew.identity).await, Ok(Told::Yes));
    broker.reaches("equal", (0, 0)).await;
    // One that was delivered before may be the very one.
    beside.plain("tick").await;
    let new = take(&third, 1).await.remove(0);
    third.back(&new.identity).await;
    let again = soon(&third, 1).await.pop_first().unwrap();
    assert_eq!(again, *new.identity);
    assert!(!third.is_another(&again, &new.content));
}

// J2: two messages with one id are one task.
#[tokio::test(flavor = "multi_thread")]
async fn messages_with_one_id_are_one_task() {
    let broker = server::shared().await;
    let beside = Beside::quorum(broker, "twice").await;
    let source = source(broker, "twice", None);
    beside.named("7").await;
    beside.named("7").await;
    let taken = take(&source, 2).await;
    assert_eq!(taken.len(), 2);
    assert_eq!(source.in_hand().len(), 1);
    assert_eq!(source.done("7").await, Ok(Told::Yes));
    broker.reaches("twice", (0, 0)).await;
}

// J3: the dead-letter queue gets it with its properties, the broker's own exchange in its own way.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_buried() {
    let broker = server::shared().await;
    let own = [
        ("x-queue-type", text("quorum")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("buried")),
        ("x-delivery-limit", AMQPValue::LongInt(2)),
    ];
    let beside = Beside::declare(broker, "mortal", &own).await;
    let buried = Beside::quorum(broker, "buried").await;
    let (by_name, by_broker) =
        (source(broker, "mortal", Some("buried")), source(broker, "mortal", Some(BROKERS_OWN)));
    assert!(by_name.buries() && by_broker.buries());

    let properties =
        BasicProperties::default().with_message_id("1".into()).with_content_type("text/plain".into());
    beside.send("one", properties).await;
    let taken = take(&by_name, 1).await.remove(0);
    let dead = Dead { identity: taken.identity, content: taken.content, attempts: 5 };
    assert_eq!(by_broker.dead(&dead).await, Ok(Told::Elsewhere));
    assert_eq!(by_name.dead(&dead).await, Ok(Told::Yes));
    assert_eq!(by_name.dead(&dead).await, Ok(Told::Elsewhere));
    let (body, properties) = buried.get().await.unwrap();
    assert_eq!(body, "one");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
    let headers = properties.headers().clone().unwrap();
    assert_eq!(headers.inner()["x-onceward-task"], text("1"));
    assert_eq!(headers.inner()["x-onceward-attempts"], AMQPValue::LongLongInt(5));
    broker.reaches("mortal", (0, 0)).await;

    beside.named("2").await;
    let taken = take(&by_broker, 1).await.remove(0);
    let dead = Dead { identity: taken.identity, content: taken.content, attempts: 5 };
    assert_eq!(by_broker.dead(&dead).await, Ok(Told::Yes));
    broker.reaches("buried", (1, 0)).await;
    assert_eq!(buried.get().await.unwrap().0, "2");

    // The broker's own limit holds: what went back too often is its to bury.
    beside.named("3").await;
    for _ in 0..3 {
        soon(&by_name, 1).await;
        by_name.back("3").await;
    }
    broker.reaches("buried", (1, 0)).await;
    broker.reaches("mortal", (0, 0)).await;
    assert_eq!(buried.get().await.unwrap().0, "3");

    // Where there is no such queue it stays.
    let nowhere = source(broker, "mortal", Some("nowhere"));
    beside.named("4").await;
    let taken = take(&nowhere, 1).await.remove(0);
    let dead = Dead { identity: taken.identity, content: taken.content, attempts: 5 };
    assert!(matches!(nowhere.dead(&dead).await, Err(SourceError::NotDone(_))));
    assert_eq!(nowhere.in_hand().len(), 1);
}

// J2: what is put in is there when it is answered, and put in twice it is one task.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_can_be_put_in() {
    let broker = server::shared().await;
    let _beside = Beside::quorum(broker, "put").await;
    let source = source(broker, "put", None);
    let body = Bytes::from_static(b"{\"n\": 1.50}");
    let task = NewTask { content_type: Some("application/json".to_owned()), body, operation: "o".to_owned() };
    assert_eq!(source.put(&task).await, Ok(Some("o".into())));
    let taken = take(&source, 1).await.remove(0);
    assert_eq!((&*taken.identity, taken.content.to_json().as_str()), ("o", "{\"n\": 1.50}"));
}

// J2: only a quorum queue that is there will do, and the text says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_must_be_there_and_be_a_quorum_queue() {
    let broker = server::shared().await;
    let _classic = Beside::declare(broker, "classic", &[]).await;
    for (queue, why) in [("missing", "NOT_FOUND"), ("classic", "is no quorum queue")] {
        let source = source(broker, queue, None);
        match source.take(1, &Nothing).await {
            Err(SourceError::NotDone(text)) => assert!(text.contains(why), "{text}"),
            _ => panic!("{queue} is taken from"),
        }
        let began = Instant::now();
        source.wake().await;
        assert!(began.elapsed() > Duration::from_millis(100), "a hot loop");
    }
    // It was not made by looking.
    assert!(!broker.control(&["list_queues", "name"]).await.contains("missing"));
    // One that comes later is found.
    let source = source(broker, "later", None);
    assert!(source.take(1, &Nothing).await.is_err());
    let beside = Beside::quorum(broker, "later").await;
    beside.named("1").await;
    assert_eq!(soon(&source, 1).await, set(&["1"]));
}
