//! A crew that does all tasks of a source, whatever the source is, and whatever ends meanwhile (J2, J3).

use super::crew::{Crew, LINES};
use crate::harness::Proxy;
use crate::harness::ground::Ground;
use crate::harness::servers::postgres::Postgres;
use crate::harness::servers::rabbitmq::RabbitMq;
use crate::harness::servers::redis::Redis;

/// How a source is not there.
#[derive(Clone, Copy, Debug)]
pub enum Away {
    /// It is ended without a word.
    Killed,
    /// Its connections stand, and nothing answers.
    Hanging,
}

/// What happens while a crew works.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The source is away until somebody has felt it.
    Source(Away),
    /// Onceward is killed, and started again on what it stored when a worker has felt it.
    Onceward,
}

/// Each that there is.
pub const EACH: [Fault; 3] = [Fault::Source(Away::Killed), Fault::Source(Away::Hanging), Fault::Onceward];
/// What is killed: the source, then Onceward.
pub const KILLS: [Fault; 2] = [Fault::Source(Away::Killed), Fault::Onceward];

/// What can be away.
pub trait Server {
    async fn goes(&mut self, how: Away);
    async fn comes_back(&mut self, how: Away);
}

macro_rules! servers {
    ($($server:ty)+) => {$(
        impl Server for $server {
            async fn goes(&mut self, how: Away) {
                match how {
                    Away::Killed => self.kill(),
                    Away::Hanging => self.pause(),
                }
            }

            async fn comes_back(&mut self, how: Away) {
                match how {
                    Away::Killed => self.start_again().await,
                    Away::Hanging => self.resume(),
                }
            }
        }
    )+};
}

servers!(Postgres RabbitMq Redis);

/// Where tasks come from, with a number each as their `id`.
pub trait Source {
    type Server: Server;

    /// A configuration whose queue `tasks` has these lines too.
    fn config(&self, lines: &str) -> String;
    /// Who has the tasks.
    fn server(&mut self) -> &mut Self::Server;
    /// Until it knows that every task is done.
    async fn has_heard(&self);
}

/// Every task done, none by two at once, by so many workers, with the faults spread over the tasks.
pub async fn drains(source: &mut impl Source, tasks: u32, workers: usize, faults: &[Fault]) {
    // What is in memory would be gone with Onceward (S2).
    let ground = Ground::of(if faults.is_empty() { "memory" } else { "disk" }).await;
    let config = format!("[store]\nurl = \"{}\"\n{}", ground.url(), source.config(LINES));
    let mut proxy = Proxy::start(&config).await;
    let crew = Crew::new(&[&proxy], tasks);
    tokio::join!(crew.work(workers), async {
        let parts = u32::try_from(faults.len()).expect("few") + 1;
        for (part, fault) in (1..).zip(faults) {
            crew.reaches(tasks * part / parts).await;
            match *fault {
                Fault::Source(how) => {
                    source.server().goes(how).await;
                    match how {
                        Away::Killed => crew.feels_an_outage().await,
                        Away::Hanging => crew.feels_a_silence().await,
                    }
                    source.server().comes_back(how).await;
                }
                Fault::Onceward => {
                    proxy.kill();
                    crew.feels_an_outage().await;
                    proxy.restart().await;
                    crew.moves(0, &proxy);
                }
            }
        }
    });
    source.has_heard().await;
}
