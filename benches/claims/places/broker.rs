//! A quorum queue of a RabbitMQ; a channel for each worker, with a consumer that is given one message at a time.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use crate::place::{Number, Place, Work, Worker, batches, number, text};

/// Messages that are sent before the first is confirmed.
const BATCH: u64 = 500;
/// Messages survive a restart of the broker.
const PERSISTENT: u8 = 2;

pub(super) struct Broker {
    name: ShortString,
    connection: Connection,
    channel: Channel,
}

impl Broker {
    pub(super) async fn at(url: &str, name: &str) -> Self {
        let connection =
            Connection::connect(url, ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { name: ShortString::try_new(name).expect("a name"), connection, channel }
    }

    async fn add(&self, tasks: std::ops::RangeInclusive<u64>) {
        let mut confirms = Vec::new();
        for task in tasks {
            let id = ShortString::try_new(task.to_string()).expect("a name");
            let properties = BasicProperties::default().with_message_id(id).with_delivery_mode(PERSISTENT);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let (exchange, to) = (ShortString::default(), self.name.clone());
            let sent =
                self.channel.basic_publish(exchange, to, options, text(task).as_bytes(), properties).await;
            confirms.push(sent.expect("a message on its way"));
        }
        for confirm in confirms {
            assert_eq!(confirm.await.expect("a confirmation"), Confirmation::Ack(None));
        }
    }
}

impl Place for Broker {
    fn make(&self) -> Work<'_, ()> {
        Box::pin(async move {
            let mut kind = FieldTable::default();
            kind.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            self.channel.queue_declare(self.name.clone(), durable, kind).await.expect("a queue");
        })
    }

    fn fill(&self, tasks: u64) -> Work<'_, ()> {
        Box::pin(async move {
            for batch in batches(tasks, BATCH) {
                self.add(batch).await;
            }
        })
    }

    fn put(&self, task: Number) -> Work<'_, ()> {
        Box::pin(self.add(task..=task))
    }

    /// It does not say here how many are with somebody; those are missing among the ready.
    fn stock(&self) -> Work<'_, (u64, u64)> {
        Box::pin(async move {
            let there = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let found = self.channel.queue_declare(self.name.clone(), there, FieldTable::default()).await;
            (found.expect("a queue").message_count().into(), 0)
        })
    }

    fn clear(&self) -> Work<'_, ()> {
        Box::pin(async move {
            let gone = self.channel.queue_delete(self.name.clone(), QueueDeleteOptions::default()).await;
            gone.expect("an end");
        })
    }

    fn hire(&self, _: usize, _: Duration) -> Work<'_, Box<dyn Worker>> {
        Box::pin(async move {
            let channel = self.connection.create_channel().await.expect("a channel");
            channel.basic_qos(1, BasicQosOptions::default()).await.expect("one at a time");
            let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
            let consumer =
                channel.basic_consume(self.name.clone(), tag, options, FieldTable::default()).await;
            let consumer = consumer.expect("a consumer");
            Box::new(Consumer { channel, consumer, last: None }) as Box<dyn Worker>
        })
    }
}

struct Consumer {
    channel: Channel,
    consumer: lapin::Consumer,
    last: Option<Delivery>,
}

impl Worker for Consumer {
    fn next(&mut self, patience: Duration) -> Work<'_, Option<Number>> {
        Box::pin(async move {
            let next = tokio::time::timeout(patience, self.consumer.next()).await.ok()?;
            let delivery = next.expect("a consumer that stands").expect("a message");
            let task = number(&delivery.data);
            self.last = Some(delivery);
            Some(task)
        })
    }

    fn done(&mut self) -> Work<'_, bool> {
        Box::pin(async move {
            let last = self.last.take().expect("a message");
            last.acker.ack(BasicAckOptions::default()).await.expect("an acknowledgment on its way")
        })
    }

    fn leave(&mut self) -> Work<'_, ()> {
        Box::pin(async move {
            self.channel.close(200, "done".into()).await.expect("a channel that closes");
        })
    }
}
