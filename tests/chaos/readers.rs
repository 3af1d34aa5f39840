//! Readers of events (E1): some follow from the start, some let go now and then; each goes on where it was cut off.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::crew::Crew;
use crate::harness::Events;
use crate::harness::events::{Block, Told};

/// A stream that says nothing for so long, not even that it lives, is left. Three times its heartbeat.
const SILENCE: Duration = Duration::from_millis(1_500);

/// What one reader was told.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub name: &'static str,
    /// The id it began behind.
    pub start: String,
    pub told: Vec<Told>,
    pub resumes: usize,
    /// It was told that its place is gone, and began anew behind so many events.
    pub gone: Vec<usize>,
    /// It saw the last event that there is.
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Leaves only what is broken.
    Follows,
    /// Leaves after a few events, and comes back.
    ComesAndGoes,
}

pub struct Reader {
    crew: Arc<Crew>,
    manner: Manner,
    rng: fastrand::Rng,
    reading: Reading,
    /// So many of what it was told are not the last.
    looked_at: usize,
}

impl Reader {
    pub fn new(name: &'static str, manner: Manner, seed: u64, crew: &Arc<Crew>) -> Reader {
        let rng = fastrand::Rng::with_seed(seed);
        Reader {
            crew: crew.clone(),
            manner,
            rng,
            reading: Reading { name, ..Reading::default() },
            looked_at: 0,
        }
    }

    /// One that reads all again from there.
    pub fn behind(mut self, id: &str) -> Reader {
        self.reading.start = id.to_owned();
        self
    }

    /// Begins before anybody writes, and reads until the event of the operation that [`Crew::last`] names.
    pub async fn begins(mut self) -> JoinHandle<Reading> {
        let first = self.opens("").await;
        self.reading.start.clone_from(&first.last_id);
        tokio::spawn(async move { self.reads(Some(first)).await })
    }

    /// Reads to the end, within that time.
    pub async fn reads_all(self, within: Duration) -> Reading {
        timeout(within, self.reads(None)).await.unwrap_or_default()
    }

    async fn reads(mut self, mut stream: Option<Events>) -> Reading {
        let mut last = self.reading.start.clone();
        loop {
            let mut events = match stream.take() {
                Some(events) => events,
                None => self.opens(&last).await,
            };
            self.follows(&mut events).await;
            last.clone_from(&events.last_id);
            if self.reading.ended || self.crew.last.lock().overdue() {
                return self.reading;
            }
            self.reading.resumes += 1;
        }
    }

    /// Reads until the stream breaks, or it has enough of it.
    async fn follows(&mut self, events: &mut Events) {
        let enough = match self.manner {
            Manner::Follows => usize::MAX,
            Manner::ComesAndGoes => self.rng.usize(1..150),
        };
        let mut seen = 0;
        while seen < enough {
            let Ok(Ok(Some(block))) = timeout(SILENCE, events.read_block()).await else { return };
            if let Block::Event(told) = block {
                seen += 1;
                self.reading.told.push(told);
            }
            // It may have come before anybody knew that it is the last; then the next heartbeat is the end.
            let last = self.crew.last.lock();
            self.reading.ended = last.is_among(&self.reading.told, &mut self.looked_at);
            if self.reading.ended || last.overdue() {
                return;
            }
        }
    }

    /// A stream behind that event; "" is behind all that there are.
    async fn opens(&mut self, last: &str) -> Events {
        let mut fields = vec![("Authorization".to_owned(), "Bearer reader".to_owned())];
        fields.push(("Last-Event-ID".to_owned(), last.to_owned()));
        loop {
            let address = fastrand::choice(&self.crew.addresses).cloned().unwrap_or_default();
            let asked = timeout(2 * SILENCE, Events::try_ask(&address, "", &fields)).await;
            match asked {
                Ok(Ok(Ok(events))) => return events,
                Ok(Ok(Err(answer))) if answer.is_refusal() && answer.code() == "gone" => {
                    self.reading.gone.push(self.reading.told.len());
                    fields.pop();
                }
                Ok(Ok(Err(answer))) if answer.is_refusal() && answer.problem().retry == "same-key" => {}
                Ok(Ok(Err(answer))) => {
                    self.crew.journal.strange(format!("no stream behind {last:?}: {answer}"));
                }
                // No connection, or it broke.
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(Duration::from_millis(self.rng.u64(10..80))).await;
        }
    }
}

/// The operation whose event is the last that readers wait for, and how long.
#[derive(Debug, Default)]
pub struct Last(Option<(String, Instant)>);

impl Last {
    pub fn is(operation: String, until: Instant) -> Last {
        Last(Some((operation, until)))
    }

    /// Looks at each event once, however many there are.
    fn is_among(&self, told: &[Told], looked_at: &mut usize) -> bool {
        let Some((operation, _)) = &self.0 else { return false };
        let new = std::mem::replace(looked_at, told.len());
        told.iter().skip(new).any(|told| told.data["operation"].as_str() == Some(operation))
    }

    fn overdue(&self) -> bool {
        self.0.as_ref().is_some_and(|(_, until)| Instant::now() > *until)
    }
}
