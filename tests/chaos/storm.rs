//! The trouble of a campaign: what is done to the proxy, to its connections and to its upstream, and how often.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::courses::HOLD;
use super::journal::clock;
use super::settings::{Faults, Settings};
use crate::harness::Proxy;
use crate::harness::ground::Ground;
use crate::harness::ledger::{Fault, Ledger};
use crate::harness::relay::Relay;
use crate::harness::servers::redis::watched::Watched;
use crate::harness::upstream::Seen;

/// So often is a proxy started that ends for it does not reach its store.
const STARTS: usize = 20;

pub struct Storm {
    pub proxies: Vec<Proxy>,
    pub ledger: Ledger,
    pub store: Store,
    /// Between the agents and each proxy, and between the proxies and the upstream.
    pub before: Vec<Relay>,
    pub behind: Relay,
    pub calm: Arc<AtomicBool>,
    faults: Faults,
    rng: fastrand::Rng,
    pub figures: Figures,
    /// A failover takes seconds, in which everything else goes on.
    failovers: JoinSet<()>,
    /// Whether there is a primary.
    stands: watch::Sender<bool>,
}

/// What the proxies keep their records in.
pub struct Store {
    pub ground: Ground,
    /// Where it is, if it is a server.
    pub address: String,
    /// Between each proxy and it.
    pub below: Vec<Relay>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    kills: u32,
    ends: u32,
    stops: u32,
    cuts: u32,
    holds: u32,
    upstreams: u32,
    pub stores: u32,
    failovers: u32,
    parts: u32,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { kills, ends, stops, cuts, holds, upstreams, stores, failovers, parts } = self;
        write!(f, "{kills} kills, {ends} graceful ends, {stops} stops, {cuts} cuts of all connections, ")?;
        write!(f, "{holds} holds, {upstreams} upstream restarts, {stores} of the store, ")?;
        write!(f, "{failovers} failovers, {parts} partings")
    }
}

/// One request in ten meets a fault of the upstream; reads meet only what has no effect.
pub fn answers(seed: u64, calm: Arc<AtomicBool>) -> impl Fn(&Seen) -> Fault + Send + Sync {
    let rng = Mutex::new(fastrand::Rng::with_seed(seed));
    move |seen| {
        let mut rng = rng.lock();
        if calm.load(Ordering::Relaxed) || rng.u8(0..10) != 0 {
            return Fault::None;
        }
        let slow = Duration::from_millis(rng.u64(1..120));
        let reads = matches!(seen.method.as_str(), "GET" | "HEAD");
        match rng.u8(0..if reads { 6 } else { 12 }) {
            0 | 1 => Fault::Slow(slow),
            2 => Fault::Lose,
            3 | 4 => Fault::Refuse(*rng.choice(&[500, 501, 502, 503, 504, 505, 507, 511]).unwrap_or(&500)),
            5 => Fault::Cut,
            6 | 7 => Fault::Drop,
            8 | 9 => Fault::Late(slow * 2),
            _ => Fault::Fail(*rng.choice(&[500, 502, 504, 520, 599]).unwrap_or(&500)),
        }
    }
}

impl Storm {
    pub fn new(
        settings: &Settings,
        proxies: Vec<Proxy>,
        (ledger, store): (Ledger, Store),
        relays: (Vec<Relay>, Relay),
        calm: Arc<AtomicBool>,
    ) -> Storm {
        let rng = fastrand::Rng::with_seed(settings.seed);
        let (before, behind) = relays;
        let faults = settings.faults.clone();
        let (figures, failovers, stands) = (Figures::default(), JoinSet::new(), watch::Sender::new(true));
        Storm { proxies, ledger, store, before, behind, calm, faults, rng, figures, failovers, stands }
    }

    /// Makes trouble until then, and ends with everything up and quiet.
    pub async fn rages(&mut self, until: Instant) {
        self.calm.store(!self.faults.have("answers"), Ordering::Relaxed);
        let breaks = if self.faults.have("cut") { 30 } else { 0 };
        self.before.iter().for_each(|relay| relay.breaks_one_in(breaks));
        self.behind.breaks_one_in(2 * breaks);
        let parts = if self.faults.have("part") { 4 } else { 0 };
        self.store.below.iter().for_each(|relay| relay.breaks_one_in(parts));
        while Instant::now() < until {
            sleep(Duration::from_millis(self.rng.u64(50..900))).await;
            self.strikes().await;
        }
        while let Some(ended) = self.failovers.join_next().await {
            ended.expect("a failover that comes to its end");
        }
        self.before.iter().for_each(|relay| relay.breaks_one_in(0));
        self.behind.breaks_one_in(0);
        self.store.below.iter().for_each(|relay| relay.breaks_one_in(0));
        self.calm.store(true, Ordering::Relaxed);
    }

    async fn strikes(&mut self) {
        let names = ["kill", "kill", "term", "stop", "cut", "cut", "hold", "upstream", "store", "part"];
        let name = names[self.rng.usize(..names.len())];
        // However short it is, one failover is in it, and it takes its time.
        let name = if self.awaits_a_failover() { "store" } else { name };
        if !self.faults.have(name) {
            return;
        }
        let which = self.rng.usize(..self.proxies.len());
        println!("{:>7} {name} {which}", clock());
        match name {
            "kill" => self.kills(which).await,
            "term" => self.ends(which).await,
            "stop" => self.stops(which).await,
            "cut" => self.cuts(which),
            "hold" => self.holds(which).await,
            "store" => self.shakes_the_store().await,
            "part" => self.parts(which).await,
            _ => self.moves_the_upstream().await,
        }
    }

    async fn kills(&mut self, which: usize) {
        self.figures.kills += 1;
        // Nobody else's listener is mistaken for the proxy, should it get the port that is free now.
        self.before[which].moves("");
        self.proxies[which].kill();
        self.starts(which).await;
    }

    async fn ends(&mut self, which: usize) {
        self.figures.ends += 1;
        self.before[which].moves("");
        let status = self.proxies[which].terminate().await;
        assert!(status.success(), "O5: ended with {status}");
        self.starts(which).await;
    }

    async fn starts(&mut self, which: usize) {
        sleep(Duration::from_millis(self.rng.u64(0..200))).await;
        self.stands.subscribe().wait_for(|stands| *stands).await.expect("its own sender");
        // One whose store is not reached within `limits.store` ends, and whoever runs it starts it again.
        let mut tries = 0;
        while let Err(log) = self.proxies[which].try_restart().await {
            let why = log.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
            tries += 1;
            assert!(why.starts_with("onceward: store.url: ") && tries < STARTS, "no start but:\n{log}");
        }
        self.before[which].moves(self.proxies[which].addr());
    }

    async fn stops(&mut self, which: usize) {
        self.figures.stops += 1;
        self.proxies[which].signal("STOP");
        sleep(Duration::from_millis(self.rng.u64(20..1_500))).await;
        if self.faults.have("kill") && self.rng.u8(0..4) == 0 {
            return self.kills(which).await;
        }
        self.proxies[which].signal("CONT");
    }

    fn cuts(&mut self, which: usize) {
        self.figures.cuts += 1;
        if self.rng.bool() { self.before[which].cut_all() } else { self.behind.cut_all() }
    }

    async fn holds(&mut self, which: usize) {
        self.figures.holds += 1;
        let time = Duration::from_millis(self.rng.u64(10..HOLD.as_millis() as u64));
        if self.rng.bool() { self.before[which].hold(time).await } else { self.behind.hold(time).await }
    }

    async fn shakes_the_store(&mut self) {
        self.figures.stores += 1;
        let time = Duration::from_millis(self.rng.u64(20..1_500));
        if let Ground::Sentinel(guarded) = &self.store.ground {
            let servers = guarded.servers.clone();
            return self.fails_over(servers, time);
        }
        let ground = &mut self.store.ground;
        if self.rng.bool() { ground.pauses(time).await } else { ground.falls(time).await }
    }

    fn awaits_a_failover(&self) -> bool {
        let is_watched = matches!(self.store.ground, Ground::Sentinel(_));
        is_watched && self.figures.failovers == 0 && self.faults.have("store")
    }

    /// A primary that is killed comes back as a replica, and so does one that slept meanwhile; or it is slow for a while.
    fn fails_over(&mut self, servers: Arc<tokio::sync::Mutex<Watched>>, time: Duration) {
        let how = if self.awaits_a_failover() { 0 } else { self.rng.u8(0..5) };
        let Ok(mut servers) = servers.try_lock_owned() else { return };
        self.figures.failovers += u32::from(how < 4);
        let stands = self.stands.clone();
        self.failovers.spawn(async move {
            if how == 4 {
                return servers.pauses(time).await;
            }
            servers.settles().await;
            stands.send_replace(false);
            servers.loses_its_primary(how < 3).await;
            stands.send_replace(true);
            println!("{:>7} a replica took over", clock());
            sleep(time).await;
            servers.has_it_again(how < 3).await;
            println!("{:>7} the two are one again", clock());
        });
    }

    /// One proxy loses the store, or hears nothing from it, for longer than it counts as alive now and then.
    async fn parts(&mut self, which: usize) {
        self.figures.parts += 1;
        let time = Duration::from_millis(self.rng.u64(20..2_500));
        let relay = &self.store.below[which];
        if self.rng.bool() {
            return relay.hold(time).await;
        }
        relay.moves("");
        relay.cut_all();
        // Who has not lost who knows the primary is back at once.
        if let Ground::Sentinel(guarded) = &self.store.ground
            && let Ok(servers) = guarded.servers.try_lock()
        {
            servers.hangs_up().await;
        }
        sleep(time).await;
        relay.moves(&self.store.address);
    }

    async fn moves_the_upstream(&mut self) {
        self.figures.upstreams += 1;
        self.behind.moves("");
        self.ledger.restart().await;
        sleep(Duration::from_millis(self.rng.u64(0..150))).await;
        self.behind.moves(self.ledger.upstream.address());
    }
}
