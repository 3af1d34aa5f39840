//! The resource that is raced for, its ways in, and how it is left as it was found.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use reqwest::Url;

use super::agent::{Agent, Tally};
use super::crowd::{Size, race};
use super::field::Field;
use super::front::Front;
use super::row::Row;
use super::scene::{Scene, Under, Write};
use super::{RaceArgs, Way, WriteMethod};

/// What writes that their agents left behind are given to end.
const SETTLE: Duration = Duration::from_millis(500);
/// What setting the number back may take.
const RESTORE: Duration = Duration::from_secs(30);

pub(super) struct Target {
    start: i64,
    size: Size,
    ways: Vec<(Way, Scene)>,
    field: Field,
    front: Option<Front>,
}

impl Target {
    /// Reads the resource, and starts an Onceward if the race needs one.
    pub(super) async fn open(args: &RaceArgs) -> Result<Self, String> {
        let direct = scene(args, Way::Direct, args.url.clone(), Field::value());
        let document = reader(&direct)?.document().await?;
        let field = args.field.clone().map_or_else(|| Field::only(&document), Ok)?;
        let start = field.get(&document)?;
        let mut target = Self { start, size: args.size, ways: Vec::new(), field, front: None };
        for way in Way::ALL.into_iter().filter(|way| args.only.is_none_or(|only| only == *way)) {
            let url = match way {
                Way::Direct => args.url.clone(),
                Way::Version | Way::Lease => target.through(args).await?,
            };
            let scene = scene(args, way, url, target.field.clone());
            target.ways.push((way, scene));
        }
        Ok(target)
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    async fn through(&mut self, args: &RaceArgs) -> Result<Url, String> {
        if let Some(url) = &args.through {
            return Ok(url.clone());
        }
        let front = match self.front.take() {
            Some(front) => front,
            None => Front::start(&routes(&args.url)).await?,
        };
        let mut url = args.url.clone();
        let address = front.address();
        let moved = url.set_ip_host(address.ip()).and_then(|()| url.set_port(Some(address.port())));
        self.front = Some(front);
        moved.map_err(|()| format!("{url} cannot be reached through {address}"))?;
        Ok(url)
    }

    pub(super) async fn rows(&self) -> Result<Vec<Row>, String> {
        let mut rows = Vec::new();
        for (way, scene) in &self.ways {
            let mut agent = reader(scene)?;
            let start = agent.number_at(&self.field).await?;
            let tally = race(scene.clone(), self.size).await?;
            tokio::time::sleep(SETTLE).await;
            rows.push(count(way.name(), start, agent.number_at(&self.field).await?, &tally));
        }
        Ok(rows)
    }

    /// Sets the number back by the last way in, which is the protected one where there is one.
    pub(super) async fn close(self) -> Result<(), String> {
        tokio::time::sleep(SETTLE).await;
        let restored = match self.ways.last() {
            Some((_, scene)) => tokio::time::timeout(RESTORE, reader(scene)?.restore(self.start)).await,
            None => Ok(Ok(())),
        };
        let restored = restored.unwrap_or_else(|_| Err("it takes too long".to_owned()));
        if let Some(front) = self.front {
            front.stop().await;
        }
        restored.map_err(|why| format!("the number could not be set back to {}: {why}", self.start))
    }
}

/// One that stands beside the race.
fn reader(scene: &Scene) -> Result<Agent, String> {
    Agent::new(Arc::new(scene.clone()), usize::MAX)
}

fn scene(args: &RaceArgs, way: Way, url: Url, field: Field) -> Scene {
    let method = match args.method {
        WriteMethod::Put => Method::PUT,
        WriteMethod::Patch => Method::PATCH,
    };
    let under = match way {
        Way::Direct => Under::Nothing,
        Way::Version => Under::Version,
        Way::Lease => Under::Lease,
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &args.headers {
        headers.append(name, value.clone());
    }
    Scene {
        url,
        write: Write::Document { field, method, under },
        run: format!("race-{:08x}-{}", fastrand::u32(..), way.name()),
        headers,
        identified: false,
        echo: None,
    }
}

/// One `state` route over all that is at the URL's origin. As many agents as there are may wait for a turn.
fn routes(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    format!(
        r#"
queue = {{ max_waiting = 256, max_wait = "60s" }}

[[routes]]
path = "/{{*path}}"
upstream = "http://{host}:{port}"
guard = "state"
"#
    )
}

fn count(name: &'static str, start: i64, last: i64, tally: &Tally) -> Row {
    let row = Row::new(name, start, last, tally);
    let lost = row.expected.saturating_sub(last);
    // An operation without a known end may have been performed all the same.
    let over = last.saturating_sub(row.expected).saturating_sub_unsigned(row.unresolved);
    let duplicated = u64::try_from(over).unwrap_or(0).max(tally.again);
    Row { lost: u64::try_from(lost).unwrap_or(0), duplicated, ..row }
}

#[cfg(test)]
mod tests {
    use super::super::front::checked;
    use super::*;

    #[test]
    fn the_proxy_accepts_its_route() {
        for url in ["http://127.0.0.1:3000/counters/1", "http://[::1]:3000/", "http://api.example/a?b=c"] {
            let config = checked(&routes(&Url::parse(url).unwrap()));
            assert_eq!(config.map(|config| config.routes.len()), Ok(1), "{url}");
        }
    }

    fn tally(again: u64) -> Tally {
        Tally { done: vec![String::new(); 4], again, ..Tally::default() }
    }

    #[test]
    fn what_is_missing_is_lost_and_what_is_over_was_doubled() {
        let counts = |last, again| {
            let row = count("direct", 10, last, &tally(again));
            (row.expected, row.lost, row.duplicated)
        };
        assert_eq!(counts(14, 0), (14, 0, 0));
        assert_eq!(counts(11, 2), (14, 3, 2));
        assert_eq!(counts(16, 1), (14, 0, 2));
    }

    #[test]
    fn what_came_to_no_end_is_no_double() {
        let tally = Tally { unresolved: vec![String::new(); 2], ..tally(0) };
        assert_eq!(count("version", 10, 15, &tally).duplicated, 0);
        assert_eq!(count("version", 10, 17, &tally).duplicated, 1);
    }
}
