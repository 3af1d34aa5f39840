//! Where the primary is: at an address, or where Sentinel says (S3). A URL may hold a password: nothing here shows it.

use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisResult, TlsMode,
};
use tokio::sync::Mutex;

/// Where Sentinel listens where nothing else is said.
const SENTINEL_PORT: u16 = 26379;

/// How the primary is found.
pub(crate) enum Address {
    Fixed(Box<ConnectionInfo>),
    Watched(Box<Mutex<SentinelClient>>),
}

impl Address {
    /// A `store.url`: `redis://`, `rediss://`, `redis+sentinel://` or `rediss+sentinel://`.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("it has no scheme")?;
        if scheme.starts_with("rediss") {
            // Others in this process may have chosen already; whose choice it is does not matter.
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        match scheme {
            "redis" | "rediss" => Ok(Self::Fixed(Box::new(info(url)?))),
            "redis+sentinel" => Self::watched(rest, false),
            "rediss+sentinel" => Self::watched(rest, true),
            other => Err(format!("{other}:// is no way to a Redis")),
        }
    }

    /// `[user:password@]host[:port][,host[:port]…]/MASTER[/db][?sentinel_user=…&sentinel_password=…]`
    fn watched(rest: &str, tls: bool) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, rest) = rest.rsplit_once('@').map_or(("", rest), |(before, after)| (before, after));
        let mut parts = rest.split('/');
        let hosts = parts.next().unwrap_or_default();
        let master = parts.next().filter(|name| !name.is_empty());
        let master = master.ok_or("it lacks the name of the primary: redis+sentinel://HOST:PORT/NAME")?;
        let database = parts.next().unwrap_or_default();
        let nodes = hosts.split(',').map(|host| sentinel(host, tls)).collect::<Result<Vec<_>, _>>()?;
        let primary = info(&format!("redis://{}localhost/{database}", at(credentials)))?;
        let given = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let (user, password) = (given("sentinel_user"), given("sentinel_password"));
        let own = format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default());
        let own = info(&format!("redis://{}localhost", at(if own == ":" { "" } else { &own })))?;
        let client = build(nodes, master, tls, &primary, &own);
        Ok(Self::Watched(Box::new(Mutex::new(client.map_err(|error| error.to_string())?))))
    }

    /// The primary as it is now. Sentinel is asked each time.
    pub(crate) async fn primary(&self) -> RedisResult<Primary> {
        match self {
            Self::Fixed(info) => Primary::at(info.as_ref().clone()),
            Self::Watched(client) => {
                let client = client.lock().await.async_get_client().await?;
                Primary::at(client.get_connection_info().clone())
            }
        }
    }

    /// Whether the primary may move.
    pub(crate) fn is_watched(&self) -> bool {
        matches!(self, Self::Watched(_))
    }
}

/// A way to one server: for steps, and for what the server tells by itself.
pub(crate) struct Primary {
    pub(crate) steps: Client,
    pub(crate) news: Client,
}

impl Primary {
    fn at(info: ConnectionInfo) -> RedisResult<Self> {
        // Steps are small and each is waited for.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_tcp_settings(tcp);
        let pushed = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let news = Client::open(info.clone().set_redis_settings(pushed))?;
        Ok(Self { steps: Client::open(info)?, news })
    }

    /// Host and port, for people.
    pub(crate) fn place(&self) -> String {
        self.steps.get_connection_info().addr().to_string()
    }
}

fn at(credentials: &str) -> String {
    if credentials.is_empty() { String::new() } else { format!("{credentials}@") }
}

fn info(url: &str) -> Result<ConnectionInfo, String> {
    url.into_connection_info().map_err(|error| error.to_string())
}

fn sentinel(host: &str, tls: bool) -> Result<ConnectionAddr, String> {
    let named = |port: &str| port.parse().map_err(|_| format!("{port:?} is no port of a Sentinel"));
    let (name, port) = match host.rsplit_once(':') {
        // A bare IPv6 address has colons of its own.
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, named(port)?),
        Some(_) | None => (host, SENTINEL_PORT),
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    if name.is_empty() {
        return Err("one of its Sentinels has no name".to_owned());
    }
    Ok(match tls {
        true => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(name, port),
    })
}

fn build(
    nodes: Vec<ConnectionAddr>,
    master: &str,
    tls: bool,
    primary: &ConnectionInfo,
    sentinel: &ConnectionInfo,
) -> RedisResult<SentinelClient> {
    let mut builder = SentinelClientBuilder::new(nodes, master, SentinelServerType::Master)?
        .set_client_to_redis_db(primary.redis_settings().db());
    if tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(user) = primary.redis_settings().username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = primary.redis_settings().password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = sentinel.redis_settings().username() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = sentinel.redis_settings().password() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder.build()
}
