//! Connections to one primary, to which `hello` was said before anything else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisError, RedisResult, cmd, pipe};

use super::address::Primary;
use super::health::{Health, Unfit};
use super::script::{self, Call};
use super::value::Said;
use crate::store::shared::Instance;

/// Steps share connections: a few of them keep a long answer from holding up all others.
const SHARED: usize = 4;
/// Steps on their way on one connection, beside those that it waits for.
const BUFFER: usize = 1024;

/// What each connection is made with.
pub(super) struct Terms<'a> {
    pub(super) prefix: &'a str,
    pub(super) patience: Duration,
    pub(super) connections: usize,
    pub(super) wait_replicas: usize,
}

/// What this instance says at a connection.
pub(super) struct Greeting {
    /// What it believes; 0 for nothing yet.
    pub(super) epoch: u64,
    /// The highest number it saw.
    pub(super) seen: u64,
    pub(super) instance: Option<Instance>,
    pub(super) next: Instance,
    pub(super) alive: Duration,
}

/// What the primary said to it.
pub(super) struct Welcome {
    pub(super) epoch: u64,
    /// Whether the instance lives on.
    pub(super) kept: bool,
}

/// Why there is no connection.
pub(super) enum Unmet {
    /// It is no Redis for this; trying again will not help.
    Refused(String),
    /// It may be met a little later.
    Failed(String),
}

impl From<RedisError> for Unmet {
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some("WRONGPASS" | "NOAUTH" | "NOPERM") => Self::Refused(error.to_string()),
            _ if error.kind() == redis::ErrorKind::AuthenticationFailed => Self::Refused(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Connections that stand.
pub(super) struct Live {
    pub(super) epoch: u64,
    /// Tells one set of connections from the next.
    pub(super) generation: u64,
    pub(super) place: String,
    steps: Vec<MultiplexedConnection>,
    news: MultiplexedConnection,
    next: AtomicUsize,
    prefix: String,
    patience: Duration,
    wait_replicas: usize,
}

impl Live {
    /// Connects, looks whether a store may stand there, and says hello on each connection.
    pub(super) async fn meet(
        primary: &Primary,
        terms: &Terms<'_>,
        greeting: &Greeting,
        generation: u64,
        heard: impl Fn(&PushInfo) + Send + Sync + 'static,
    ) -> Result<(Self, Welcome), Unmet> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(terms.patience))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(BUFFER);
        let mut first = open(&primary.steps, &config).await?;
        let health = Health::read(&cmd("INFO").query_async::<String>(&mut first).await?);
        fit(&health)?;
        let welcome = hello(&mut first, terms.prefix, &health.run_id, greeting).await?;
        let mut steps = vec![first];
        let many = if terms.wait_replicas > 0 { terms.connections } else { terms.connections.min(SHARED) };
        while steps.len() < many {
            let mut another = open(&primary.steps, &config).await?;
            // A name may lead elsewhere the next time.
            let there = Health::read(&cmd("INFO").arg("server").query_async::<String>(&mut another).await?);
            if there.run_id != health.run_id {
                return Err(Unmet::Failed("its name leads to several servers".to_owned()));
            }
            steps.push(another);
        }
        let push = move |push: PushInfo| {
            heard(&push);
            Ok::<_, std::convert::Infallible>(())
        };
        let mut news = open(&primary.news, &config.set_push_sender(push)).await?;
        news.subscribe(&[super::news::ended(terms.prefix), super::news::told(terms.prefix)]).await?;
        let live = Self {
            epoch: welcome.epoch,
            generation,
            place: primary.place(),
            steps,
            news,
            next: AtomicUsize::new(0),
            prefix: terms.prefix.to_owned(),
            patience: terms.patience,
            wait_replicas: terms.wait_replicas,
        };
        Ok((live, welcome))
    }

    fn pick(&self) -> Option<MultiplexedConnection> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.steps.len().max(1);
        self.steps.get(at).cloned()
    }

    /// Takes one step.
    pub(super) async fn step(&self, call: &Call) -> RedisResult<Step> {
        let mut connection = self.pick().ok_or((redis::ErrorKind::Io, "no connection"))?;
        let step = self.known(&mut connection, call).await?;
        if self.wait_replicas == 0 || !call.is_told() || !step.is_copied || !step.value.says_what_lasts() {
            return Ok(step);
        }
        // Another wrote it, and may not know yet that it is copied.
        let lasts = self.known(&mut connection, &Call::of(&script::LASTS).durable(true)).await?;
        Ok(Step { is_copied: lasts.is_copied, ..step })
    }

    async fn known(&self, connection: &mut MultiplexedConnection, call: &Call) -> RedisResult<Step> {
        let known = self.once(connection, call, false).await;
        match known {
            Err(error) if error.code() == Some("NOSCRIPT") => self.once(connection, call, true).await,
            known => known,
        }
    }

    async fn once(
        &self,
        connection: &mut MultiplexedConnection,
        call: &Call,
        whole: bool,
    ) -> RedisResult<Step> {
        let command = call.command(&self.prefix, self.epoch, whole);
        if !call.is_durable() || self.wait_replicas == 0 {
            let value = connection.send_packed_command(&command).await?.extract_error()?;
            return Ok(Step { value: Said(value), is_copied: true });
        }
        // WAIT counts what its own connection wrote, and keeps it waiting meanwhile.
        let mut both = pipe();
        let patience = u64::try_from(self.patience.as_millis() * 9 / 10).unwrap_or(u64::MAX);
        both.add_command(command).cmd("WAIT").arg(self.wait_replicas).arg(patience);
        let mut values = connection.send_packed_commands(&both, 0, 2).await?.into_iter();
        let value = Said(values.next().unwrap_or_default().extract_error()?);
        let copies = Said(values.next().unwrap_or_default().extract_error()?).number().unwrap_or(0);
        // What says no changed nothing; but what it found another may have changed.
        let says_no = value.says_no() && !(call.is_told() && value.says_what_lasts());
        Ok(Step { is_copied: copies >= self.wait_replicas as u64 || says_no, value })
    }

    /// What the server says of itself.
    pub(super) async fn health(&self) -> RedisResult<Health> {
        let mut connection = self.pick().ok_or((redis::ErrorKind::Io, "no connection"))?;
        Ok(Health::read(&cmd("INFO").query_async::<String>(&mut connection).await?))
    }

    /// Hears from now on what is said to this instance.
    pub(super) async fn listen(&self, instance: Instance) -> RedisResult<()> {
        self.news.clone().subscribe(super::news::to(&self.prefix, instance)).await
    }

    /// Whether the connection for news stands; the others are asked often enough.
    pub(super) async fn hears(&self) -> RedisResult<()> {
        cmd("PING").exec_async(&mut self.news.clone()).await
    }
}

/// What a step came to.
pub(super) struct Step {
    pub(super) value: Said,
    /// As many replicas have it as are configured, or there is nothing to have.
    pub(super) is_copied: bool,
}

/// Whether the server has gone.
pub(super) fn is_gone(push: &PushInfo) -> bool {
    push.kind == PushKind::Disconnection
}

async fn open(client: &Client, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
    client.get_multiplexed_async_connection_with_config(config).await
}

fn fit(health: &Health) -> Result<(), Unmet> {
    health.check().map_err(|unfit| match unfit {
        Unfit::Refused(why) => Unmet::Refused(why),
        Unfit::Replica => Unmet::Failed("it is a replica; a store stands on the primary".to_owned()),
    })
}

/// Says hello, and makes all steps known.
async fn hello(
    connection: &mut MultiplexedConnection,
    prefix: &str,
    run_id: &str,
    greeting: &Greeting,
) -> Result<Welcome, Unmet> {
    let Greeting { epoch, seen, instance, next, alive } = greeting;
    let call = Call::of(&script::HELLO)
        .arg(run_id)
        .number(*seen)
        .arg(instance.map(|instance| instance.0.to_be_bytes().to_vec()).unwrap_or_default())
        .arg(next.0.to_be_bytes())
        .number(u64::try_from(alive.as_millis()).unwrap_or(u64::MAX));
    let value = connection.send_packed_command(&call.command(prefix, *epoch, true)).await?.extract_error()?;
    let strange = || Unmet::Failed("it answers what no Redis answers".to_owned());
    let mut said = Said(value).list().ok_or_else(strange)?.map(|value| Said(value).number());
    let (Some(Some(epoch)), Some(Some(kept))) = (said.next(), said.next()) else { return Err(strange()) };
    let mut load = pipe();
    for script in script::all() {
        load.add_command(script.load()).ignore();
    }
    load.exec_async(connection).await?;
    Ok(Welcome { epoch, kept: kept == 1 })
}
