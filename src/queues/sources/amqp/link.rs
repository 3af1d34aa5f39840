//! The connection to the broker, and its channels: made when they are needed, and again after they broke.
//!
//! A channel ends with each thing that the broker refuses on it, and with a delivery that is not acknowledged in the
//! broker's `consumer_timeout`; all that is in hand on it is the broker's again then. So what may be refused has a channel
//! of its own, and another channel takes the place of one that ended. lapin's own recovery is not used: after it nobody
//! could tell which deliveries still stand.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lapin::options::{BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::super::source::SourceError;

/// How long it may take to connect, and to answer.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(3);
/// After a connection could not be made the next is not tried sooner.
const PAUSE: Duration = Duration::from_millis(100);
/// Seconds; twice that without a word and the broker is gone, also where nothing is asked of it.
const HEARTBEAT: u16 = 10;
/// Channels for deliveries: a broker answers on several at once, and each is one more that a late delivery does not end.
pub(super) const LANES: usize = 8;

/// Where the broker is, and the connection that stands.
pub(super) struct Link {
    uri: Result<AMQPUri, String>,
    queue: ShortString,
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Live>>,
    failed: Option<(Instant, String)>,
}

/// A connection.
pub(super) struct Live {
    connection: Connection,
    lanes: Vec<Slot>,
    next: AtomicUsize,
    pub(super) watch: Slot,
    pub(super) publish: Slot,
}

/// What a channel is for.
#[derive(Clone, Copy)]
enum Use {
    Get,
    Watch,
    Publish,
}

/// A place for one channel.
pub(super) struct Slot(Use, Mutex<Option<Channel>>);

impl Link {
    pub(super) fn new(url: &str, queue: &str, name: &str) -> Self {
        let uri = AMQPUri::from_str(url).map_err(|error| format!("its URL cannot be read: {error}"));
        let named = ShortString::try_new(queue);
        let uri = uri.and_then(|mut uri| {
            named.as_ref().map_err(|error| format!("the queue's name: {error}"))?;
            uri.query.heartbeat.get_or_insert(HEARTBEAT);
            if uri.scheme == AMQPScheme::AMQPS {
                // Others in this process may have chosen already; whose choice it is does not matter.
                rustls::crypto::ring::default_provider().install_default().ok();
            }
            Ok(uri)
        });
        let queue = named.unwrap_or_default();
        Self { uri, queue, name: name.to_owned(), state: Mutex::default() }
    }

    pub(super) fn queue(&self) -> ShortString {
        self.queue.clone()
    }

    /// The connection as it stands, or a new one.
    pub(super) async fn live(&self) -> Result<Arc<Live>, SourceError> {
        let mut state = self.state.lock().await;
        if let Some(live) = state.live.as_ref().filter(|live| live.stands()) {
            return Ok(Arc::clone(live));
        }
        if let Some((_, why)) = state.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            return Err(SourceError::NotDone(why.clone()));
        }
        state.live = None;
        match timeout(CONNECT, self.connect()).await.unwrap_or_else(|_| Err(NO_ANSWER.to_owned())) {
            Ok(live) => {
                state.failed = None;
                Ok(Arc::clone(state.live.insert(Arc::new(live))))
            }
            Err(why) => {
                state.failed = Some((Instant::now(), why.clone()));
                Err(SourceError::NotDone(why))
            }
        }
    }

    async fn connect(&self) -> Result<Live, String> {
        let uri = self.uri.clone()?;
        let named = ConnectionProperties::default().with_connection_name(self.name.clone().into());
        let connection = Connection::connect_uri(uri, named).await.map_err(|error| error.to_string())?;
        self.check(&connection).await?;
        let lanes = (0..LANES).map(|_| Slot::of(Use::Get)).collect();
        let next = AtomicUsize::new(0);
        Ok(Live { connection, lanes, next, watch: Slot::of(Use::Watch), publish: Slot::of(Use::Publish) })
    }

    /// The queue must be there, and must be a quorum queue: others forget which messages were delivered before.
    async fn check(&self, connection: &Connection) -> Result<(), String> {
        let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
        let there = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = channel.queue_declare(self.queue(), there, FieldTable::default()).await;
        found.map_err(|error| format!("the queue cannot be used: {error}"))?;
        // A look alone does not tell what it is. To declare what is there changes nothing; what differs is refused, the
        // first difference by its name, and who may not declare is refused too.
        let mut kind = FieldTable::default();
        kind.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let told = match channel.queue_declare(self.queue(), durable, kind).await {
            Ok(_) => return Ok(()),
            Err(error) => error.to_string(),
        };
        let differs = |what: &str| told.contains(&format!("'{what}'"));
        if ["x-queue-type", "durable", "auto_delete", "exclusive"].into_iter().any(differs) {
            return Err(format!("the queue is no quorum queue: {told}"));
        }
        Ok(())
    }

    /// What the broker was asked, in its time; whatever `live` is by then.
    pub(super) async fn ask<T>(
        &self,
        live: &Arc<Live>,
        asked: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, SourceError> {
        match timeout(ANSWER, asked).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.is_amqp_soft_error() => Err(SourceError::NotDone(error.to_string())),
            Ok(Err(error)) => {
                // Where the channel alone has ended, another takes its place.
                if !live.stands() {
                    self.lose(live).await;
                }
                // Refused on this side, before anything was sent.
                let is_refused = matches!(
                    error.kind(),
                    ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_)
                );
                let error = error.to_string();
                Err(if is_refused { SourceError::NotDone(error) } else { SourceError::Unsure(error) })
            }
            Err(_) => {
                self.lose(live).await;
                Err(SourceError::Unsure(NO_ANSWER.to_owned()))
            }
        }
    }

    async fn lose(&self, lost: &Arc<Live>) {
        let mut state = self.state.lock().await;
        if state.live.as_ref().is_some_and(|live| Arc::ptr_eq(live, lost)) {
            state.live = None;
        }
    }

    /// Whether a connection stands.
    pub(super) async fn stands(&self) -> bool {
        self.state.lock().await.live.as_ref().is_some_and(|live| live.stands())
    }
}

const NO_ANSWER: &str = "the broker does not answer";

impl Live {
    fn stands(&self) -> bool {
        self.connection.status().connected()
    }

    /// A channel for deliveries, another one each time.
    pub(super) async fn lane(&self) -> lapin::Result<Channel> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % LANES;
        self.channel(self.lanes.get(at).unwrap_or(&self.watch)).await
    }

    pub(super) async fn channel(&self, slot: &Slot) -> lapin::Result<Channel> {
        let Slot(its_use, place) = slot;
        let mut place = place.lock().await;
        if let Some(channel) = place.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.connection.create_channel().await?;
        match its_use {
            Use::Get => {}
            // Each wait is for one: what else there is can be asked for then.
            Use::Watch => channel.basic_qos(1, BasicQosOptions::default()).await?,
            Use::Publish => channel.confirm_select(ConfirmSelectOptions::default()).await?,
        }
        *place = Some(channel.clone());
        Ok(channel)
    }
}

impl Slot {
    fn of(its_use: Use) -> Self {
        Self(its_use, Mutex::default())
    }
}
