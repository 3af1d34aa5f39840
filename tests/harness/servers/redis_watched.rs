//! A primary, its replica, and a Sentinel that watches both: what happens to a primary, and how the next one is had.

use std::time::{Duration, Instant};

use super::{PATIENCE, Redis, Said};

/// The primary may be either of the two: [`Watched::settles`] gives them their names again.
pub struct Watched {
    pub primary: Redis,
    pub replica: Redis,
    pub sentinel: Redis,
}

/// What a primary asks for that is cut off.
const UNKNOWN: &str = "unknown to the replica";

impl Watched {
    pub async fn start() -> Self {
        Self::over(Redis::start().await).await
    }

    /// Over this primary; within TLS if it is.
    pub async fn over(primary: Redis) -> Self {
        let replica = Redis::replica_of(&primary).await;
        replica.reaches("master_link_status", "up").await;
        let sentinel = Redis::sentinel_of(&primary).await;
        let began = Instant::now();
        let asked = ["SENTINEL", "REPLICAS", "watched"];
        while !matches!(sentinel.ask(&asked).await, Said::List(list) if !list.is_empty()) {
            assert!(began.elapsed() < PATIENCE, "the Sentinel does not find the replica");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { primary, replica, sentinel }
    }

    /// As a store's configuration names it.
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/watched/1", self.address())
    }

    /// Where its Sentinel is.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.sentinel.port())
    }

    /// Waits until the replica has all that the primary has done up to now.
    pub async fn is_copied(&self) {
        let done = offset(&self.primary.info("master_repl_offset").await);
        let began = Instant::now();
        while offset(&self.replica.info("slave_repl_offset").await) < done {
            assert!(began.elapsed() < PATIENCE, "the replica does not keep up");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Cuts the replica's connection: it finds that it may not come back, and gets nothing more. Whoever else is
    /// connected stays so.
    pub async fn cut(&self) {
        self.primary.ask(&["CONFIG", "SET", "requirepass", UNKNOWN]).await;
        let killed = self.primary.ask_as(UNKNOWN, &["CLIENT", "KILL", "TYPE", "replica"]).await;
        assert_eq!(killed, Said::Number(1));
    }

    /// Cuts the primary off, from its replica and from the Sentinel. Whoever else is connected stays so, and finds a
    /// primary that takes everything.
    pub async fn parts(&self) {
        self.cut().await;
        let clients = self.primary.ask_as(UNKNOWN, &["CLIENT", "LIST"]).await;
        let watch = clients.text().lines().filter(|line| line.contains(" name=sentinel-"));
        let places: Vec<_> =
            watch.filter_map(|line| line.split(' ').find_map(|it| it.strip_prefix("addr="))).collect();
        assert!(!places.is_empty(), "the Sentinel is not connected: {clients:?}");
        for place in places {
            self.primary.ask_as(UNKNOWN, &["CLIENT", "KILL", "ADDR", place]).await;
        }
    }

    /// The cut heals: the Sentinel finds the old primary, and makes it a replica.
    pub async fn heals(&mut self) {
        self.primary.ask_as(UNKNOWN, &["CONFIG", "SET", "requirepass", ""]).await;
        self.settles().await;
    }

    /// Waits until the Sentinel names one of the two, and the other is its replica and has what it has.
    pub async fn settles(&mut self) {
        let began = Instant::now();
        while !self.is_settled().await {
            assert!(began.elapsed() < 2 * PATIENCE, "the two servers do not come to terms");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_settled(&mut self) -> bool {
        let Some(named) = self.named().await else { return false };
        if named == self.replica.port_of_clients() {
            std::mem::swap(&mut self.primary, &mut self.replica);
        }
        let asked = ["SENTINEL", "REPLICAS", "watched"];
        let Ok(Said::List(replicas)) = self.sentinel.try_ask(&asked).await else { return false };
        let is_seen = replicas.iter().any(|one| {
            let Said::List(words) = one else { return false };
            let says =
                |name, value| words.chunks(2).any(|pair| pair[0].text() == name && pair[1].text() == value);
            says("flags", "slave") && says("master-link-status", "ok")
        });
        let port = named.to_string();
        is_seen
            && self.primary.says("role", "master").await
            && self.replica.says("master_port", &port).await
            && self.replica.says("master_link_status", "up").await
    }

    /// The port of the primary, as the Sentinel names it.
    async fn named(&self) -> Option<u16> {
        match self.sentinel.try_ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "watched"]).await {
            Ok(Said::List(address)) => address.get(1)?.text().parse().ok(),
            _ => None,
        }
    }

    /// The primary is killed, or only stands still. Returns once the replica has taken its place.
    pub async fn loses_its_primary(&mut self, killed: bool) {
        self.settles().await;
        if killed {
            self.primary.kill();
        } else {
            self.primary.pause();
        }
        self.replica.reaches("role", "master").await;
        let began = Instant::now();
        while self.named().await != Some(self.replica.port_of_clients()) {
            assert!(began.elapsed() < PATIENCE, "the Sentinel does not name the replica");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// It comes back after that, as it was, and is made a replica.
    pub async fn has_it_again(&mut self, killed: bool) {
        if killed {
            self.primary.start_again().await;
        } else {
            self.primary.resume();
        }
        self.settles().await;
    }

    /// The primary stands still for so long; the Sentinel may make of it what it will.
    pub async fn pauses(&mut self, time: Duration) {
        self.settles().await;
        self.primary.pause();
        tokio::time::sleep(time).await;
        self.primary.resume();
    }

    /// Ends the connections of everybody to the primary.
    pub async fn hangs_up(&self) {
        for kind in ["normal", "pubsub"] {
            self.primary.ask(&["CLIENT", "KILL", "TYPE", kind]).await;
        }
    }
}

fn offset(text: &str) -> u64 {
    text.parse().expect("a place in what is copied")
}

impl Redis {
    /// A Sentinel, alone, that watches a primary as `watched` and soon takes it for dead.
    pub async fn sentinel_of(primary: &Self) -> Self {
        let mut lines = vec![
            format!("sentinel monitor watched 127.0.0.1 {} 1", primary.port_of_clients()),
            // A replica that has heard nothing for ten times as long is not promoted.
            "sentinel down-after-milliseconds watched 1000".to_owned(),
            // One that came to nothing is tried again after twice as long.
            "sentinel failover-timeout watched 2500".to_owned(),
        ];
        // Whom its primary knows it knows too.
        lines.extend(primary.settings.iter().filter(|line| line.starts_with("user ")).cloned());
        let sentinel = Self::run("redis-sentinel", lines, primary.certificates.as_deref()).await;
        for (name, value) in [
            // On a busy machine it would take its own late timer for a clock that jumped, and do nothing for 30 s.
            ("tilt-trigger", "20000"),
            // It bears with one that comes back as a primary for four times as long.
            ("publish-period", "250"),
            ("info-period", "500"),
        ] {
            let told = sentinel.ask(&["SENTINEL", "DEBUG", name, value]).await;
            assert_eq!(told, Said::Text("OK".to_owned()));
        }
        sentinel
    }

    async fn says(&self, name: &str, value: &str) -> bool {
        self.try_ask(&["INFO"]).await.is_ok_and(|said| super::line_of(&said, name) == value)
    }
}
