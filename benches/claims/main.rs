//! The load of `benches/peers/claims`: workers that take tasks and are done with them, through Onceward or from the
//! source itself; what both need besides; and the list that stands for an upstream's.
//!
//! Each command prints one line of JSON. What is not as it must be ends the program: figures over wrong answers are worth
//! nothing.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a program for measuring stops at what it does not expect"
)]

mod agent;
mod figures;
mod http;
mod list;
mod place;
mod places;
mod wake;
mod work;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use place::{Crew, Place, Source};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serves a list of tasks over HTTP.
    List {
        #[arg(long)]
        port: u16,
        /// How many of the open tasks one answer has.
        #[arg(long)]
        page: usize,
    },
    /// Makes the place and puts tasks in.
    Fill {
        #[command(flatten)]
        at: At,
        #[arg(long)]
        tasks: u64,
    },
    /// Takes tasks as fast as it can.
    Work {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        who: Who,
        #[arg(long)]
        workers: usize,
        #[arg(long)]
        seconds: f64,
    },
    /// Waits for one task at a time, each of which is put in while it waits.
    Wake {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        who: Who,
        #[arg(long)]
        times: u64,
    },
    /// Removes the place with all that is left there.
    Clear {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args)]
struct At {
    #[arg(long)]
    source: Source,
    /// Its address.
    #[arg(long)]
    at: String,
    /// Of the table, the stream or the queue.
    #[arg(long)]
    name: String,
}

#[derive(Args)]
struct Who {
    /// The address of an Onceward with a queue `tasks` over it; else the source is spoken to.
    #[arg(long)]
    through: Option<String>,
    /// Milliseconds from one look at an empty list to the next.
    #[arg(long, default_value_t = 1000)]
    poll: u64,
}

impl At {
    async fn open(&self) -> Box<dyn Place> {
        places::open(self.source, &self.at, &self.name).await
    }
}

impl Who {
    async fn crew(&self, place: &dyn Place, workers: usize) -> Crew {
        let mut crew = Crew::new();
        for number in 0..workers {
            crew.push(match &self.through {
                Some(address) => agent::hire(address, number).await,
                None => place.hire(number, Duration::from_millis(self.poll)).await,
            });
        }
        crew
    }
}

fn main() {
    // cargo itself adds `--bench`.
    let words = std::env::args().filter(|word| word != "--bench");
    let arguments = Arguments::parse_from(words);
    // One thread, as the proxy has: what it does is the same on each core that it is put on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let said = tokio::task::LocalSet::new().block_on(&runtime, run(arguments.what));
    println!("{said}");
}

async fn run(what: What) -> serde_json::Value {
    match what {
        What::List { port, page } => list::serve(port, page).await,
        What::Fill { at, tasks } => {
            let place = at.open().await;
            place.make().await;
            place.fill(tasks).await;
            let stock = place.stock().await;
            assert_eq!(stock, (tasks, 0), "ready and taken, after {tasks} were put in");
            serde_json::json!({ "tasks": tasks })
        }
        What::Work { at, who, workers, seconds } => {
            let place = at.open().await;
            // Before anybody is given something ahead.
            let (ready, taken) = place.stock().await;
            assert_eq!(taken, 0, "tasks that are with somebody already");
            let crew = who.crew(place.as_ref(), workers).await;
            work::work(place.as_ref(), ready, crew, Duration::from_secs_f64(seconds)).await
        }
        What::Wake { at, who, times } => {
            let place = at.open().await;
            let crew = who.crew(place.as_ref(), 1).await;
            wake::wake(place.as_ref(), crew, times).await
        }
        What::Clear { at } => {
            at.open().await.clear().await;
            serde_json::Value::Null
        }
    }
}
