//! A Redis Stream and a consumer group of it; a connection for each worker.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Value, cmd};

use crate::place::{Number, Place, Work, Worker, batches, number, text};

/// As Onceward calls it where nothing else is configured.
const GROUP: &str = "onceward";
/// Entries that are sent together.
const BATCH: u64 = 1000;

pub(super) struct Stream {
    url: String,
    name: String,
    to: MultiplexedConnection,
}

async fn connect(url: &str) -> MultiplexedConnection {
    let info = url.into_connection_info().expect("an address");
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = Client::open(info.set_tcp_settings(tcp)).expect("an address");
    // A wait has its own time.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
}

impl Stream {
    pub(super) async fn at(url: &str, name: &str) -> Self {
        Self { url: url.to_owned(), name: name.to_owned(), to: connect(url).await }
    }

    async fn add(&self, tasks: std::ops::RangeInclusive<u64>) {
        let mut all = redis::pipe();
        for task in tasks {
            all.cmd("XADD").arg(&self.name).arg("*").arg("task").arg(text(task)).ignore();
        }
        all.exec_async(&mut self.to.clone()).await.expect("entries");
    }
}

impl Place for Stream {
    fn make(&self) -> Work<'_, ()> {
        Box::pin(async move {
            let mut create = cmd("XGROUP");
            create.arg("CREATE").arg(&self.name).arg(GROUP).arg("0").arg("MKSTREAM");
            create.exec_async(&mut self.to.clone()).await.expect("a group");
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

    fn stock(&self) -> Work<'_, (u64, u64)> {
        Box::pin(async move {
            let mut asks = cmd("XINFO");
            asks.arg("GROUPS").arg(&self.name);
            let groups: Vec<Value> = asks.query_async(&mut self.to.clone()).await.expect("groups");
            let group = groups.into_iter().next().expect("a group");
            let (mut lag, mut pending) = (None, None);
            for (word, value) in group.into_map_iter().expect("words") {
                let place = match redis::from_redis_value::<String>(word).expect("a word").as_str() {
                    "lag" => &mut lag,
                    "pending" => &mut pending,
                    _ => continue,
                };
                *place = redis::from_redis_value::<u64>(value).ok();
            }
            (lag.expect("Redis 7"), pending.expect("a number"))
        })
    }

    fn clear(&self) -> Work<'_, ()> {
        Box::pin(async move {
            cmd("DEL").arg(&self.name).exec_async(&mut self.to.clone()).await.expect("an end");
        })
    }

    fn hire(&self, number: usize, _: Duration) -> Work<'_, Box<dyn Worker>> {
        Box::pin(async move {
            let to = connect(&self.url).await;
            let (name, consumer) = (self.name.clone(), format!("worker-{number}"));
            Box::new(Consumer { to, name, consumer, entry: String::new() }) as Box<dyn Worker>
        })
    }
}

struct Consumer {
    to: MultiplexedConnection,
    name: String,
    consumer: String,
    entry: String,
}

/// Of each stream its entries: each its id and its words.
type Entries = Option<Vec<(String, Vec<(String, Vec<Vec<u8>>)>)>>;

impl Worker for Consumer {
    fn next(&mut self, patience: Duration) -> Work<'_, Option<Number>> {
        Box::pin(async move {
            let mut read = cmd("XREADGROUP");
            read.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(1);
            read.arg("BLOCK").arg(patience.as_millis() as u64).arg("STREAMS").arg(&self.name).arg(">");
            let said: Entries = read.query_async(&mut self.to).await.expect("entries");
            let (_, entries) = said?.pop().expect("a stream");
            let (entry, words) = entries.into_iter().next()?;
            self.entry = entry;
            Some(number(&words[1]))
        })
    }

    fn done(&mut self) -> Work<'_, bool> {
        Box::pin(async move {
            let mut ack = cmd("XACK");
            ack.arg(&self.name).arg(GROUP).arg(&self.entry);
            ack.query_async::<u64>(&mut self.to).await.expect("an answer") == 1
        })
    }
}
