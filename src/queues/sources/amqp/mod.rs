//! Tasks of a RabbitMQ quorum queue (J2, J3).
//!
//! Nothing is fetched ahead: a task that an agent claims is got by `basic.get`, and while agents wait and there is none, a
//! consumer with room for one message waits for them. So what nobody claimed stays ready in the broker.
//!
//! A delivery is this instance's alone, and only its channel can acknowledge it: it is in hand until its claim has ended,
//! at whatever instance. Who has the task is said by its cell in Onceward's store; a delivery that the broker took back,
//! because a connection ended, comes again and is looked up there.

mod hands;
mod link;
mod name;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicRejectOptions,
};
use lapin::types::{AMQPValue, ShortString};
use lapin::{BasicProperties, Confirmation};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::super::source::{
    Busy, Content, Dead, Identity, NewTask, Offer, Source, SourceError, Taken, Told, Work,
};
use super::Ground;
use crate::config::checked::AmqpTasks;
use hands::{Hands, Out};
use link::{LANES, Link};

/// A `dead_letter` by this name is the queue's own dead-letter exchange: no queue's name may begin with `amq.`.
const BROKERS_OWN: &str = "amq.dead-letter";
/// A wait that could not begin ends after this long, so that the source is asked again.
const PAUSE: Duration = Duration::from_millis(250);
/// Messages survive a restart of the broker.
const PERSISTENT: u8 = 2;

/// A queue.
struct Queue(Arc<Inner>);

struct Inner {
    settings: AmqpTasks,
    ground: Ground,
    link: Link,
    hands: Arc<Hands>,
}

/// Makes the source of a queue.
pub(super) fn open(settings: &AmqpTasks, ground: &Ground) -> Arc<dyn Source> {
    let name = format!("onceward {}", ground.queue);
    Arc::new(Queue(Arc::new(Inner {
        link: Link::new(settings.url.expose(), &settings.queue, &name),
        settings: settings.clone(),
        ground: ground.clone(),
        hands: Arc::default(),
    })))
}

impl Inner {
    /// Up to so many messages, which are in hand from now on.
    async fn take(self: &Arc<Self>, most: usize) -> Result<Vec<Offer>, SourceError> {
        let mut offers = self.hands.waiting(most);
        let rest = most - offers.len();
        if rest == 0 {
            return Ok(offers);
        }
        let many = rest.min(LANES);
        let lane = |lane: usize| {
            let inner = Arc::clone(self);
            let share = rest / many + usize::from(lane < rest % many);
            self.ground.tasks.spawn(async move { inner.get(share).await })
        };
        let lanes: Vec<_> = (0..many).map(lane).collect();
        let mut failed = None;
        for lane in lanes {
            match lane.await {
                Ok((more, error)) => {
                    offers.extend(more);
                    failed = failed.or(error);
                }
                Err(_) => failed = Some(SourceError::NotDone("it closes".to_owned())),
            }
        }
        match failed {
            Some(error) if offers.is_empty() => Err(error),
            Some(_) | None => Ok(offers),
        }
    }

    /// One after the other, until the queue is empty.
    async fn get(&self, most: usize) -> (Vec<Offer>, Option<SourceError>) {
        let mut offers = Vec::new();
        while offers.len() < most {
            match self.get_one().await {
                Ok(Some(offer)) => offers.push(offer),
                Ok(None) => break,
                Err(error) => return (offers, Some(error)),
            }
        }
        (offers, None)
    }

    async fn get_one(&self) -> Result<Option<Offer>, SourceError> {
        let asked = Instant::now();
        let live = self.link.live().await?;
        let got = async {
            let channel = live.lane().await?;
            channel.basic_get(self.link.queue(), BasicGetOptions::default()).await
        };
        let got = self.link.ask(&live, got).await?;
        Ok(got.map(|message| self.hands.receive(message.delivery, asked)))
    }

    async fn back(&self, identity: &str) {
        let Some(mut out) = self.hands.take(identity) else { return };
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        while let Some(acker) = out.next() {
            if self.tell(acker.nack(options)).await.is_err() {
                // It goes back with its channel, or is found in hand.
                return;
            }
            out.told(true);
        }
    }

    /// Acknowledges all deliveries of a task, or rejects them.
    async fn end(&self, mut out: Out, reject: bool) -> Result<Told, SourceError> {
        let mut told = Told::Elsewhere;
        while let Some(acker) = out.next() {
            let said = match reject {
                true => self.tell(acker.reject(BasicRejectOptions { requeue: false })).await,
                false => self.tell(acker.ack(BasicAckOptions::default())).await,
            };
            let done = match said {
                // As sure as any: no acknowledgment is answered. If it was lost the message comes again and is found over.
                Err(SourceError::Unsure(_)) => true,
                said => said?,
            };
            // One whose channel has ended is the broker's again.
            if done {
                told = Told::Yes;
            }
            out.told(!done);
        }
        Ok(told)
    }

    async fn tell<T>(&self, asked: impl Future<Output = lapin::Result<T>>) -> Result<T, SourceError> {
        let live = self.link.live().await?;
        self.link.ask(&live, asked).await
    }

    /// Sends a message to a queue, and is sure that it is there.
    async fn publish(&self, to: &str, body: &[u8], properties: BasicProperties) -> Result<(), SourceError> {
        let to = ShortString::try_new(to).map_err(|error| SourceError::NotDone(error.to_string()))?;
        let live = self.link.live().await?;
        let sent = async {
            let channel = live.channel(&live.publish).await?;
            // Without a queue of that name it comes back.
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            channel.basic_publish(ShortString::default(), to, options, body, properties).await?.await
        };
        match self.link.ask(&live, sent).await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                Err(SourceError::NotDone("there is no such queue".to_owned()))
            }
            Confirmation::Nack(None) => Err(SourceError::NotDone("the queue took no message".to_owned())),
            Confirmation::NotRequested => Err(SourceError::Unsure("the broker does not confirm".to_owned())),
        }
    }

    async fn bury(&self, task: &Dead) -> Result<Told, SourceError> {
        let Some(out) = self.hands.take(&task.identity) else { return Ok(Told::Elsewhere) };
        match self.settings.dead_letter.as_deref() {
            // The one who asks keeps it.
            None => self.end(out, false).await,
            Some(BROKERS_OWN) => self.end(out, true).await,
            Some(place) => {
                let properties = out.first().map(|held| held.properties.clone()).unwrap_or_default();
                self.publish(place, task.content.as_bytes(), buried(properties, task)).await?;
                self.end(out, false).await
            }
        }
    }
}

/// A dead letter's properties: the message's own, and what became of it.
fn buried(properties: BasicProperties, task: &Dead) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    let identity = AMQPValue::LongString(task.identity.as_bytes().into());
    headers.insert("x-onceward-task".into(), identity);
    headers.insert("x-onceward-attempts".into(), AMQPValue::LongLongInt(task.attempts.into()));
    properties.with_headers(headers).with_delivery_mode(PERSISTENT)
}

/// Offers on their way to who asked; what does not arrive goes back.
struct Batch {
    inner: Arc<Inner>,
    offers: Vec<Offer>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.offers.is_empty() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (inner, offers) = (Arc::clone(&self.inner), std::mem::take(&mut self.offers));
        self.inner.ground.tasks.spawn(async move {
            for offer in offers {
                inner.back(&offer.identity).await;
            }
        });
    }
}

impl Source for Queue {
    fn take<'a>(&'a self, most: usize, busy: &'a dyn Busy) -> Work<'a, Result<Taken, SourceError>> {
        Box::pin(async move {
            let (give, given) = oneshot::channel();
            let inner = Arc::clone(&self.0);
            // Whoever asks may go while the answer is on its way, and what it brings is in hand by then.
            self.0.ground.tasks.spawn(async move {
                let taken = inner.take(most).await;
                drop(give.send(taken.map(|offers| Batch { inner, offers })));
            });
            let mut batch = given.await.map_err(|_| SourceError::NotDone("it closes".to_owned()))??;
            self.0.hands.rename(&mut batch.offers, busy);
            Ok(Taken { offers: std::mem::take(&mut batch.offers), all: None })
        })
    }

    fn wake(&self) -> Work<'_, ()> {
        Box::pin(async move {
            if self.0.hands.is_waiting() {
                return;
            }
            let left = CancellationToken::new();
            let _leaves = left.clone().drop_guard();
            let (tell, told) = oneshot::channel();
            self.0.ground.tasks.spawn(watch::watch(Arc::clone(&self.0), tell, left));
            if told.await.is_err() {
                // No queue or no broker: the next `take` says so, or finds it again.
                tokio::time::sleep(PAUSE).await;
            }
        })
    }

    fn back<'a>(&'a self, identity: &'a str) -> Work<'a, ()> {
        Box::pin(self.0.back(identity))
    }

    fn is_another(&self, identity: &str, content: &Content) -> bool {
        self.0.hands.offer_anew(identity, content)
    }

    fn done<'a>(&'a self, identity: &'a str) -> Work<'a, Result<Told, SourceError>> {
        Box::pin(async move {
            match self.0.hands.take(identity) {
                Some(out) => self.0.end(out, false).await,
                None => Ok(Told::Elsewhere),
            }
        })
    }

    fn buries(&self) -> bool {
        self.0.settings.dead_letter.is_some()
    }

    fn dead<'a>(&'a self, task: &'a Dead) -> Work<'a, Result<Told, SourceError>> {
        Box::pin(self.0.bury(task))
    }

    /// An acknowledgment that the broker got is kept there; one that it did not get brings the message back as soon as the
    /// connection ends.
    fn has<'a>(&'a self, identity: &'a str) -> Work<'a, Result<bool, SourceError>> {
        Box::pin(async move {
            if self.0.hands.has(identity) {
                return Ok(true);
            }
            if self.0.link.stands().await {
                return Ok(false);
            }
            self.0.link.live().await.map(|_| true)
        })
    }

    fn in_hand(&self) -> Vec<Identity> {
        self.0.hands.all()
    }

    fn can_put(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, task: &'a NewTask) -> Work<'a, Result<Option<Identity>, SourceError>> {
        Box::pin(async move {
            // The same operation, sent again because nobody knew what became of it, is the same task.
            let id = ShortString::try_new(task.operation.as_str())
                .map_err(|error| SourceError::NotDone(error.to_string()))?;
            let mut properties =
                BasicProperties::default().with_message_id(id).with_delivery_mode(PERSISTENT);
            let kind = task.content_type.as_deref().and_then(|kind| ShortString::try_new(kind).ok());
            if let Some(kind) = kind {
                properties = properties.with_content_type(kind);
            }
            self.0.publish(&self.0.settings.queue, &task.body, properties).await?;
            Ok(Some(Identity::from(task.operation.as_str())))
        })
    }
}

#[cfg(test)]
mod tests;
