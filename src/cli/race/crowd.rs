//! Many agents at once.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::agent::{Agent, Tally};
use super::cuts;
use super::scene::Scene;

/// How many agents, with how many operations each.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Size {
    /// How many agents work at the same time, each on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=256))]
    pub(crate) agents: u16,
    /// How many increments each agent makes
    #[arg(long, value_name = "M", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) ops: u16,
}

impl Size {
    pub(crate) fn operations(self) -> u64 {
        u64::from(self.agents) * u64::from(self.ops)
    }
}

/// Lets all agents begin together, waits for the last, and sums up. Their connections are closed by then.
pub(crate) async fn race(scene: Scene, size: Size) -> Result<Tally, String> {
    let scene = Arc::new(scene);
    let start = Arc::new(Barrier::new(usize::from(size.agents)));
    let mut crowd = JoinSet::new();
    let cuts = cuts::plan(usize::from(size.agents), usize::from(size.ops), SEED);
    for (number, operations) in cuts.into_iter().enumerate() {
        let agent = Agent::new(Arc::clone(&scene), number)?;
        let start = Arc::clone(&start);
        crowd.spawn(async move {
            start.wait().await;
            agent.work(operations).await
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = crowd.join_next().await {
        all.add(tally.map_err(|_| "an agent broke off")?);
    }
    Ok(all)
}

/// Each row loses the answers of the same operations.
const SEED: u64 = 9110;

impl Tally {
    fn add(&mut self, other: Self) {
        self.done.extend(other.done);
        self.unresolved.extend(other.unresolved);
        self.retries += other.retries;
        self.replays += other.replays;
        self.conflicts += other.conflicts;
        self.again += other.again;
    }
}
