//! Tasks from a RabbitMQ queue, on a real broker.

use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;

use super::ack_with_write::is_one_with_its_write;
use super::drained::{EACH, KILLS, Source, drains};
use super::{Claim, claims, none, routed};
use crate::harness::servers::rabbitmq::{RabbitMq, shared};
use crate::harness::servers::redis::certificates::Certificates;
use crate::harness::{Agent, Proxy, Upstream, within};

const CLAIM: &str = "/.onceward/queues/tasks/claim";

/// A queue, beside Onceward.
struct Queue {
    _connection: Connection,
    channel: Channel,
    name: &'static str,
}

impl Queue {
    async fn declare(broker: &RabbitMq, name: &'static str) -> Queue {
        let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(Default::default()).await.unwrap();
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.into(), durable, quorum).await.unwrap();
        Queue { _connection: connection, channel, name }
    }

    /// Until somebody waits for its messages.
    async fn is_consumed(&self) {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let consumers = async || {
            let asked = self.channel.queue_declare(self.name.into(), passive, FieldTable::default());
            asked.await.unwrap().consumer_count()
        };
        within("a consumer", async { while consumers().await == 0 {} }).await;
    }

    /// A message without an id.
    async fn send(&self, id: u32) {
        let body = json!({"id": id}).to_string();
        let (options, properties) =
            (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
        let sent =
            self.channel.basic_publish("".into(), self.name.into(), options, body.as_bytes(), properties);
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }
}

fn config(broker: &RabbitMq, queue: &str, lines: &str) -> String {
    format!(
        "[server]\n\n[[routes]]\npath = \"/x\"\nupstream = \"http://127.0.0.1:9\"\n\n[[queues]]\nname = \"tasks\"\n\
         source = \"{}\"\nqueue = \"{queue}\"\n{lines}\n",
        broker.url()
    )
}

// J2, J3: what nobody claimed stays ready
#[tokio::test]
async fn a_queue_hands_out_its_messages() {
    let broker = shared().await;
    let queue = Queue::declare(broker, "outside").await;
    let proxy = Proxy::start(&config(broker, "outside", "visibility = \"20s\"")).await;
    let agent = Agent::new(&proxy);
    none(&agent, "none").await;
    for id in 1..=5 {
        queue.send(id).await;
    }
    let first = claims(&agent, "a").await;
    assert_eq!((first.task.clone(), first.attempt), (json!({"id": 1}), 1));
    broker.reaches("outside", (4, 1)).await;
    agent.post(&first.path("ack")).await.is(204);
    broker.reaches("outside", (4, 0)).await;

    let put = agent.post("/.onceward/queues/tasks/tasks").key("p").json(&json!({"id": 6})).await;
    put.is(201);
    agent.post("/.onceward/queues/tasks/tasks").key("p").json(&json!({"id": 6})).await.replays(&put);
    broker.reaches("outside", (5, 0)).await;
}

// J2, J3: alone in its queue, for the broker does not say where it puts one back
#[tokio::test]
async fn a_message_comes_again_with_its_next_attempt() {
    let broker = shared().await;
    let queue = Queue::declare(broker, "again").await;
    let proxy = Proxy::start(&config(broker, "again", "")).await;
    let agent = Agent::new(&proxy);
    queue.send(2).await;
    let first = claims(&agent, "b").await;
    // The broker counts once in a while: each count is waited for, or the one before would do.
    broker.reaches("again", (0, 1)).await;
    agent.post(&first.path("release")).await.is(204);
    broker.reaches("again", (1, 0)).await;
    let again = claims(&agent, "c").await;
    assert_eq!((again.task.clone(), again.attempt), (json!({"id": 2}), 2));
    assert!(again.fence > first.fence);
    agent.post(&first.path("ack")).await.refused("claim-lost");
    broker.reaches("again", (0, 1)).await;
    // Not acknowledged in time, it is ready again.
    agent.post(&again.path("extend")).json(&json!({"visibility": "1s"})).await.is(200);
    broker.reaches("again", (1, 0)).await;
    agent.post(&again.path("ack")).await.refused("claim-lost");
    assert_eq!(claims(&agent, "d").await.attempt, 3);
}

// J3: an instance that is killed takes no task with it
#[tokio::test]
async fn a_killed_instance_gives_its_messages_back() {
    let broker = shared().await;
    let queue = Queue::declare(broker, "killed").await;
    let mut proxy = Proxy::start(&config(broker, "killed", "")).await;
    queue.send(1).await;
    claims(&Agent::new(&proxy), "a").await;
    broker.reaches("killed", (0, 1)).await;
    proxy.kill();
    broker.reaches("killed", (1, 0)).await;
    let proxy = Proxy::start(&config(broker, "killed", "")).await;
    assert_eq!(claims(&Agent::new(&proxy), "a").await.task, json!({"id": 1}));
}

// J2: equal messages are tasks of their own
#[tokio::test]
async fn equal_messages_are_as_many_tasks() {
    let broker = shared().await;
    let queue = Queue::declare(broker, "alike").await;
    let proxy = Proxy::start(&config(broker, "alike", "")).await;
    let agent = Agent::new(&proxy);
    queue.send(1).await;
    queue.send(1).await;
    let (one, two) = (claims(&agent, "a").await, claims(&agent, "b").await);
    agent.post(&one.path("ack")).await.is(204);
    queue.send(1).await;
    let three = claims(&agent, "c").await;
    assert_eq!((&one.task, &two.task), (&two.task, &three.task));
    agent.post(&two.path("ack")).await.is(204);
    agent.post(&three.path("ack")).await.is(204);
    none(&agent, "d").await;
    broker.reaches("alike", (0, 0)).await;
}

// J3
#[tokio::test]
async fn a_dead_task_goes_to_its_queue() {
    let broker = shared().await;
    let queue = Queue::declare(broker, "ending").await;
    let _dead = Queue::declare(broker, "ended").await;
    let proxy = Proxy::start(&config(broker, "ending", "max_attempts = 1\ndead_letter = \"ended\"")).await;
    let agent = Agent::new(&proxy);
    queue.send(1).await;
    let claim = claims(&agent, "a").await;
    agent.post(&claim.path("release")).await.is(204);
    broker.reaches("ended", (1, 0)).await;
    broker.reaches("ending", (0, 0)).await;
    none(&agent, "b").await;
}

// J2: woken, not polled
#[tokio::test]
async fn a_message_wakes_who_waits() {
    let broker = shared().await;
    let queue = Queue::declare(broker, "woken").await;
    let proxy = Proxy::start(&config(broker, "woken", "")).await;
    let agent = Agent::new(&proxy);
    let mut waits = Vec::new();
    for n in 0..20 {
        let wait = agent.post(CLAIM).key(&format!("{n}")).wait(15).spawn();
        // In its wait.
        queue.is_consumed().await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..60))).await;
        let sent = Instant::now();
        queue.send(n).await;
        Claim::of(&wait.await.unwrap());
        waits.push(sent.elapsed());
    }
    waits.sort_unstable();
    println!("woken by a message after {:?} in the middle, {:?} at the most", waits[10], waits[19]);
    assert!(waits[10] < Duration::from_millis(500), "{waits:?}");
}

// J2, K7
#[tokio::test]
async fn a_message_is_done_with_its_write() {
    let (broker, upstream) = (shared().await, Upstream::start().await);
    let queue = Queue::declare(broker, "written").await;
    let proxy = Proxy::start(&routed(&config(broker, "written", ""), &upstream)).await;
    queue.send(1).await;
    let hears = async |done: bool| broker.reaches("written", (0, u64::from(!done))).await;
    is_one_with_its_write(&proxy, &upstream, hears).await;
}

// J2: `amqps://`, by the roots that the process is given
#[tokio::test]
async fn a_queue_within_tls_hands_out_its_messages() {
    let (broker, others) = (shared().await, Certificates::made_for(None));
    let queue = Queue::declare(broker, "wrapped").await;
    let text = config(broker, "wrapped", "").replace(&broker.url(), &broker.tls_url());
    let proxy = Proxy::trusting(&broker.authority(), &text).await.expect("a proxy");
    queue.send(1).await;
    let agent = Agent::new(&proxy);
    let claim = claims(&agent, "a").await;
    assert_eq!(claim.task, json!({"id": 1}));
    agent.post(&claim.path("ack")).await.is(204);
    broker.reaches("wrapped", (0, 0)).await;
    let proxy = Proxy::trusting(&others.authority(), &text).await.expect("a proxy");
    let refused = Agent::new(&proxy).post(CLAIM).key("b").await.refused("upstream-unreachable");
    assert!(refused.detail.contains("certificate"), "{}", refused.detail);
}

/// So many tasks.
async fn fill(broker: &RabbitMq, tasks: u32) {
    let queue = Queue::declare(broker, "tasks").await;
    for id in 0..tasks {
        queue.send(id).await;
    }
}

impl Source for RabbitMq {
    type Server = RabbitMq;

    fn config(&self, lines: &str) -> String {
        config(self, "tasks", lines)
    }

    fn server(&mut self) -> &mut RabbitMq {
        self
    }

    async fn has_heard(&self) {
        self.reaches("tasks", (0, 0)).await;
    }
}

// J2, J3, S5: one after the other, for a broker takes its time to start
#[tokio::test]
async fn eight_and_sixty_four_workers_do_each_message_once_whatever_ends() {
    let mut broker = RabbitMq::start().await;
    fill(&broker, 100).await;
    broker.keeps("tasks").await;
    drains(&mut broker, 100, 8, &EACH).await;
    fill(&broker, 200).await;
    drains(&mut broker, 200, 64, &KILLS).await;
}
