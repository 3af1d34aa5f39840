//! What a campaign is made of: its length, seed, agents, store and faults, from the environment or as given.

use std::env;
use std::fmt;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub agents: usize,
    pub length: Duration,
    /// `disk`, `memory`, `redis`, `sentinel` or `postgres`.
    pub store: String,
    pub faults: Faults,
}

/// Which kinds of trouble there are.
#[derive(Clone, Debug)]
pub struct Faults(Vec<String>);

/// `kill` is `kill -9`, `term` SIGTERM, `stop` SIGSTOP; `cut` and `hold` are of connections on both sides;
/// `upstream` restarts it; `answers` are its own faults; `rude` agents leave, double, hurry and lie; `store` kills and
/// stops a store that is a server, or the primary of two, and `part` takes one proxy's connections to it away.
const FAULTS: [&str; 10] =
    ["kill", "term", "stop", "cut", "hold", "upstream", "answers", "rude", "store", "part"];

impl Faults {
    pub fn all() -> Faults {
        Faults(FAULTS.map(str::to_owned).to_vec())
    }

    pub fn have(&self, name: &str) -> bool {
        assert!(FAULTS.contains(&name), "no fault {name}");
        self.0.iter().any(|one| one == name)
    }

    fn named(text: &str) -> Faults {
        let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
        for name in &names {
            assert!(FAULTS.contains(&name.as_str()), "no fault {name:?}, there are {FAULTS:?}");
        }
        Faults(names)
    }
}

impl Settings {
    /// How many proxies there are: on a store that can be shared, some.
    pub fn instances(&self) -> usize {
        if matches!(self.store.as_str(), "disk" | "memory") { 1 } else { 3 }
    }

    /// Whether writes may be accepted before they run: only where the store outlives its process.
    pub fn jobs(&self) -> bool {
        self.store != "memory"
    }

    pub fn short(store: &str, seconds: u64) -> Settings {
        Settings {
            seed: fastrand::u64(..1_000_000),
            agents: 32,
            length: Duration::from_secs(seconds),
            store: store.to_owned(),
            faults: Faults::all(),
        }
        .possible()
    }

    /// With what `ONCEWARD_CAMPAIGN_SEED`, `_AGENTS`, `_SECONDS` and `_FAULTS` say instead.
    pub fn or_as_given(self) -> Settings {
        let given = |name: &str| env::var(format!("ONCEWARD_CAMPAIGN_{name}")).ok();
        let number = |name: &str| given(name).map(|text| text.parse().expect("a whole number"));
        Settings {
            seed: number("SEED").unwrap_or(self.seed),
            agents: number("AGENTS").map_or(self.agents, |agents| usize::try_from(agents).expect("agents")),
            length: number("SECONDS").map_or(self.length, Duration::from_secs),
            faults: given("FAULTS").map_or(self.faults, |text| Faults::named(&text)),
            store: self.store,
        }
        .possible()
    }

    /// What forgets on a restart promises nothing over one.
    fn possible(mut self) -> Settings {
        if self.store == "memory" {
            self.faults.0.retain(|name| name != "kill" && name != "term");
        }
        if self.instances() == 1 {
            self.faults.0.retain(|name| name != "store" && name != "part");
        }
        self
    }
}

/// The command that runs the same again.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seed, agents, length, store, faults } = self;
        let (seconds, faults) = (length.as_secs(), faults.0.join(","));
        write!(f, "tests/campaign --seed {seed} --seconds {seconds} --agents {agents} --store {store} ")?;
        write!(f, "--faults {faults}")
    }
}
