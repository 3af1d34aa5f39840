//! Simulation: many agents with retries against the real stages, over a simulated upstream, store, clock and network.
//!
//! Everything is drawn from one seed, on one thread and a paused clock, so that a seed is a run that can be had again:
//!
//!     ONCEWARD_SEED=123 cargo test --lib simulation::a_seed -- --nocapture
//!
//! What is real: `stack`, `policy`, `protocol`, and `Gate::recover` after each crash. What is not: sockets (agents call
//! `Gate::answer`, and `upstream::Client` ends in [`upstream`]), the store ([`store`] over `store::model`), the clock.
//! What must hold is in [`ledger`]; that it would be noticed is shown by [`teeth`].

mod agent;
mod ledger;
mod outage;
mod store;
pub(crate) mod teeth;
mod upstream;
mod world;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, header};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::agent::Agent;
use self::store::{ALIVE, Server};
use self::teeth::Bad;
use self::upstream::Api;
use self::world::{Broken, Check, World};
use crate::config::{self, Config};
use crate::http::timestamp;
use crate::policy::identity;
use crate::protocol::record::{Phase, RecordId, Space};
use crate::stack::Gate;
use crate::store::model::AtOnce;

/// What agents find behind Onceward.
#[derive(Debug)]
struct Surface {
    name: &'static str,
    /// A value that is read with its version and replaced; else a tool.
    register: bool,
    keyed: bool,
    /// Its writes take turns.
    turns: bool,
    /// It honors the key, and Onceward may send again.
    reruns: bool,
    /// It has entity tags of its own, and compares them.
    own_tags: bool,
    /// A 500 of it says that nothing was done.
    vouched: bool,
}

const TOOL: Surface = Surface {
    name: "tool",
    register: false,
    keyed: true,
    turns: true,
    reruns: false,
    own_tags: false,
    vouched: false,
};
const REGISTER: Surface = Surface { name: "hash", register: true, ..TOOL };

const SURFACES: &[Surface] = &[
    REGISTER,
    Surface { name: "mint", ..REGISTER },
    Surface { name: "etag", own_tags: true, ..REGISTER },
    Surface { name: "upstream", own_tags: true, ..REGISTER },
    TOOL,
    Surface { name: "free", turns: false, ..TOOL },
    Surface { name: "patient", ..TOOL },
    Surface { name: "rerun", reruns: true, ..TOOL },
    Surface { name: "vouched", vouched: true, ..TOOL },
    Surface { name: "held", ..TOOL },
    Surface { name: "loose", keyed: false, ..TOOL },
];

/// Instances on a store that is shared.
const NODES: usize = 3;
const SETTLE: Duration = Duration::from_secs(5);

static CONFIGS: LazyLock<Vec<Arc<Config>>> = LazyLock::new(|| (0..NODES).map(configured).collect());

/// Which instance calls: each has another port of a host where nobody listens.
fn node_of(place: &Authority) -> usize {
    place.port_u16().map_or(0, |port| usize::from(port) - 1)
}

fn configured(node: usize) -> Arc<Config> {
    let mut text = "
        [idempotency]
        settle = \"5s\"
        max_response = \"2KiB\"
        max_wait = \"4s\"
        [queue]
        max_waiting = 3
        max_wait = \"3s\"
        [limits]
        upstream_response = \"2s\"\n"
        .to_owned();
    for surface in SURFACES {
        let name = surface.name;
        let rest = match name {
            "hash" | "mint" | "etag" | "upstream" => format!("version = \"{name}\""),
            "free" => "guard = \"tool\"".to_owned(),
            _ => {
                let own = match name {
                    "patient" => "in_flight = \"wait\"",
                    "rerun" => "on_unknown = \"rerun\"",
                    "vouched" => "on_5xx = \"release\"",
                    "held" => "on_5xx = \"hold\"",
                    "loose" => "required = false",
                    _ => "",
                };
                format!("guard = \"tool\"\nresource = \"/{name}/{{id}}\"\nidempotency = {{ {own} }}")
            }
        };
        let upstream = format!("upstream = \"http://127.0.0.1:{}\"", node + 1);
        text += &format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}/{{id}}\"\n{upstream}\n{rest}\n");
    }
    match config::load(&text, "simulation", &|_| None) {
        Ok(config) => Arc::new(config),
        Err(problems) => panic!("{}", problems.pretty()),
    }
}

fn surface(path: &str) -> &'static Surface {
    let name = path.split('/').nth(1).unwrap_or_default();
    SURFACES.iter().find(|surface| surface.name == name).unwrap_or(&TOOL)
}

/// The record of an agent's key.
fn record_id(agent: &str, key: &str) -> RecordId {
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(agent).unwrap())]);
    let principal = identity::principal(&headers, &[header::AUTHORIZATION]).unwrap();
    RecordId::new(Space::Enforced, &principal, key)
}

/// A run takes minutes of its own time; whatever takes so long hangs.
const LONGEST: Duration = Duration::from_secs(3600);

/// What became of a run, with everything that happened in it.
struct Ran {
    result: Result<u64, Broken>,
    trace: Vec<String>,
}

/// One run of one seed.
fn run(seed: u64, nodes: usize, bad: Option<Bad>) -> Ran {
    LazyLock::force(&CONFIGS);
    fastrand::seed(seed);
    teeth::make(bad);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = World::new(seed, nodes);
    runtime.block_on(async {
        timestamp::simulated::set(Some(Instant::now()));
        tokio::select! {
            biased;
            () = world.failed.notified() => {}
            () = play(&world, bad) => {}
            () = sleep(LONGEST) => world.broken(Check::Proceeds, "it does not end".to_owned()),
        }
    });
    // Nothing of it may be left for the next run on this thread.
    for node in &world.nodes {
        *node.gate.lock() = None;
    }
    drop(runtime);
    crate::upstream::simulated::set(None);
    timestamp::simulated::set(None);
    teeth::make(None);
    Ran { result: world.result(), trace: world.trace() }
}

/// Agents work while there are faults; then there are none, and everything has to come to an end.
async fn play(world: &Arc<World>, bad: Option<Bad>) {
    let server = Server::start(world, bad);
    crate::upstream::simulated::set(Some(Api::new(world, &server)));
    for node in 0..world.nodes.len() {
        tokio::spawn(keep_alive(Arc::clone(world), Arc::clone(&server), node));
    }
    let crowd = if world.is_shared() { 4 } else { 2 } + world.below(5);
    let mut agents: Vec<Agent> = (1..=crowd).map(|number| Agent::new(world, number)).collect();
    let mut working = JoinSet::new();
    for mut agent in agents.drain(..) {
        working.spawn(async move {
            agent.work().await;
            agent
        });
    }
    agents = working.join_all().await;
    world.calm();
    while world.nodes.iter().any(|node| node.gate.lock().is_none()) {
        sleep(Duration::from_millis(100)).await;
    }
    let mut ending = JoinSet::new();
    for (number, mut agent) in agents.into_iter().enumerate() {
        ending.spawn(async move {
            agent.finish().await;
            if number == 0 {
                agent.write_all().await;
            }
        });
    }
    ending.join_all().await;
    // The last rests, and what is tried in the background.
    sleep(SETTLE * 3 + ALIVE * 2).await;
    nothing_is_left(world, &server);
}

/// Starts the process, and starts it again whenever it died.
async fn keep_alive(world: Arc<World>, server: Arc<Server>, node: usize) {
    let mut life = world.life(node);
    loop {
        let opens = async {
            let handle = server.open(&world, node, life).await;
            let gate = Gate::new(&CONFIGS[node], handle, AtOnce::store());
            while gate.recover().await.is_err() {
                sleep(Duration::from_millis(200)).await;
            }
            // Both wait for the store, which answers no dead process.
            tokio::spawn(Arc::clone(&gate).follow_news());
            tokio::spawn(Arc::clone(&gate).settle_lapsed(ALIVE / 3));
            gate
        };
        tokio::select! {
            biased;
            () = world.crashed(node, life) => {}
            gate = opens => {
                *world.nodes[node].gate.lock() = Some(gate);
                world.crashed(node, life).await;
            }
        }
        sleep(Duration::from_millis(world.below(2000))).await;
        life = world.starts(node);
    }
}

fn nothing_is_left(world: &World, server: &Server) {
    let open =
        server.phases().into_iter().filter(|(_, phase)| matches!(phase, Phase::Claimed | Phase::Forwarded));
    let open: Vec<_> = open.collect();
    if !open.is_empty() {
        world.broken(Check::Proceeds, format!("left behind: {open:?}"));
    }
    let gates: Vec<_> = world.nodes.iter().filter_map(|node| node.gate.lock().clone()).collect();
    let busy = gates.iter().flat_map(|gate| gate.turns.busy(8)).map(|busy| busy.resource.into());
    let busy: Vec<Box<str>> = busy.chain(server.busy()).collect();
    if !busy.is_empty() {
        world.broken(Check::Proceeds, format!("still busy: {busy:?}"));
    }
}

/// Runs seeds on two threads; the first that breaks something.
fn search(seeds: std::ops::Range<u64>, nodes: usize, bad: Option<Bad>) -> (u64, Option<Broken>) {
    let middle = seeds.start + (seeds.end - seeds.start) / 2;
    let parts = [seeds.start..middle, middle..seeds.end];
    std::thread::scope(|scope| {
        let search = |part: std::ops::Range<u64>| {
            move || {
                let mut steps = 0;
                for seed in part {
                    match run(seed, nodes, bad).result {
                        Ok(more) => steps += more,
                        Err(broken) => return (steps, Some(broken)),
                    }
                }
                (steps, None)
            }
        };
        let running: Vec<_> = parts.into_iter().map(|part| scope.spawn(search(part))).collect();
        let mut found = running.into_iter().map(|thread| thread.join().unwrap());
        found.by_ref().fold((0, None), |(all, first), (steps, broken)| (all + steps, first.or(broken)))
    })
}

// K4 K6 K7 K8 K10 K11 K12 K13 K14 V5 Q1 Q2 Q3 Q5 L3
#[test]
fn no_seed_breaks_a_promise() {
    all_hold(1);
}

// S3 Q4 Q5 K6 K11 K12 L3 V8: three instances on one store, which die, lose it and miss what they are told
#[test]
fn no_seed_breaks_a_promise_across_instances() {
    all_hold(NODES);
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn all_hold(nodes: usize) {
    let seeds = variable("ONCEWARD_SEEDS").unwrap_or(if nodes == 1 { 2_000 } else { 500 });
    let began = std::time::Instant::now();
    let (steps, broken) = search(0..seeds, nodes, None);
    println!("{nodes} instances, {seeds} seeds, {steps} steps, {:?}", began.elapsed());
    if let Some(broken) = broken {
        panic!("{broken}");
    }
}

/// Replays `ONCEWARD_SEED`, with all that happens in it, on as many instances as `ONCEWARD_NODES` says (1).
#[test]
fn a_seed() {
    let seed = variable("ONCEWARD_SEED").unwrap_or(1);
    let nodes = variable("ONCEWARD_NODES").map_or(1, |nodes| usize::try_from(nodes).unwrap().clamp(1, NODES));
    let Ran { result, trace } = run(seed, nodes, None);
    for (step, line) in trace.iter().enumerate() {
        println!("{:>5} {line}", step + 1);
    }
    if let Err(broken) = result {
        panic!("{broken}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for (seed, nodes) in (0..20).flat_map(|seed| [(seed, 1), (seed, NODES)]) {
        let (first, second) = (run(seed, nodes, None).trace, run(seed, nodes, None).trace);
        let differs = first.iter().zip(&second).position(|(first, second)| first != second);
        assert!(
            differs.is_none() && first.len() == second.len(),
            "seed {seed} on {nodes} differs at step {differs:?}"
        );
    }
}

/// Each mistake, and the checks that may see it first.
const TEETH: [(Bad, usize, &[Check]); 12] = [
    (Bad::ClaimAfterSending, 1, &[Check::ForwardedFirst]),
    (Bad::UnknownIsAbsent, 1, &[Check::FreeMeansNotRun]),
    (Bad::CheckBeforeTheTurn, 1, &[Check::NoLostUpdate]),
    (Bad::TurnFreedAtTheHead, 1, &[Check::OneAtATime]),
    (Bad::FingerprintWithoutBody, 1, &[Check::OwnAnswer]),
    (Bad::AnsweredBeforeDurable, 1, &[Check::FreeMeansNotRun, Check::KeptAnswer]),
    (Bad::ForwardedNotStored, 1, &[Check::FreeMeansNotRun, Check::OneAtATime]),
    (Bad::SendsThoughLapsed, NODES, &[Check::OneAtATime, Check::NoLostUpdate, Check::ForwardedFirst]),
    (Bad::SendsInAnotherLife, NODES, &[Check::OneAtATime, Check::NoLostUpdate, Check::ForwardedFirst]),
    (Bad::LapseFreesForwarded, NODES, &[Check::FreeMeansNotRun]),
    (Bad::NoRestFromLapse, NODES, &[Check::OneAtATime]),
    (Bad::TurnsOfOneInstance, NODES, &[Check::OneAtATime, Check::NoLostUpdate]),
];

// DESIGN: "Teeth"
#[test]
fn every_mistake_is_caught() {
    for (bad, nodes, checks) in TEETH {
        let (_, broken) = search(0..1000, nodes, Some(bad));
        let broken = broken.unwrap_or_else(|| panic!("nothing noticed {bad:?}"));
        println!("{bad:?}: seed {}, step {}: {:?}: {}", broken.seed, broken.step, broken.check, broken.what);
        assert!(checks.contains(&broken.check), "{bad:?} was caught by {broken}");
    }
}
