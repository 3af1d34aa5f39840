//! The campaign: agents with retries against the real proxy on its store, while it is killed, stopped and ended, its
//! connections are cut and held, and its upstream fails in every way; then every promise is held against the ledger.
//!
//! `tests/campaign` runs it for longer, and again from a seed. A seed gives the same trouble and the same agents in
//! the same order; what meets what is the machine's business.

mod asking;
mod claimed;
mod claimed_tests;
mod claims;
mod courses;
mod crew;
mod history;
mod history_tests;
mod jobs;
mod jobs_tests;
mod journal;
mod leases;
mod line;
mod readers;
mod sending;
mod settings;
mod storm;
mod told;
mod told_tests;
mod verdict;
mod verdict_tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::harness::ground::Ground;
use courses::{course_of, resources};
use crew::{Crew, Member};
use line::Line;
use readers::{Last, Manner, Reader, Reading};
use settings::Settings;
use storm::{Store, Storm};
use verdict::Evidence;

use crate::harness::ledger::Ledger;
use crate::harness::relay::Relay;
use crate::harness::{Agent, Answer, Proxy};

/// How long everything may take to go on when the trouble is over.
const RECOVERY: Duration = Duration::from_secs(25);

// S5, K4, K7, K11, K12, K13, Q1, Q5, J1, J2, J3, O5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_on_disk_keeps_every_promise() {
    campaign(Settings::short("disk", 35).or_as_given()).await;
}

// S1, K7, K11, K12, Q1, Q5: what lives in memory keeps all of it, too, as long as it lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_in_memory_keeps_every_promise() {
    campaign(Settings::short("memory", 12).or_as_given()).await;
}

// S1, S3, K6, K7, K11, K12, Q1, Q4, Q5, O4: three instances on one Redis, which is killed and stopped itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_of_three_on_redis_keeps_every_promise() {
    campaign(Settings::short("redis", 15).or_as_given()).await;
}

// S1, S3, L3, E1: the same where it is not the last one: a replica takes the place of a primary that is killed or
// sleeps, and what was told is on both (`wait_replicas`).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_of_three_behind_sentinel_keeps_every_promise() {
    campaign(Settings::short("sentinel", 13).or_as_given()).await;
}

// The same on a Postgres.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_of_three_on_postgres_keeps_every_promise() {
    campaign(Settings::short("postgres", 15).or_as_given()).await;
}

async fn campaign(settings: Settings) {
    println!("{settings}");
    let ground = Ground::of(&settings.store).await;
    let calm = Arc::new(AtomicBool::new(true));
    let ledger = Ledger::mortal(courses::LIFE, true, storm::answers(settings.seed, calm.clone())).await;
    for resource in resources().filter(|resource| course_of(resource).register) {
        ledger.holds(&resource, json!({"rev": "first"}));
    }
    let behind = Relay::to(ledger.upstream.address(), settings.seed + 1).await;
    let (mut proxies, mut before, mut below) = (Vec::new(), Vec::new(), Vec::new());
    for instance in 0..settings.instances() {
        let seed = settings.seed + 2 + 2 * instance as u64;
        let mut store = ground.url();
        if let Some(address) = ground.address() {
            let relay = Relay::to(&address, seed + 1).await;
            store = store.replace(&address, &relay.address());
            below.push(relay);
        }
        let store = (&*store, ground.lines());
        let proxy = Proxy::start(&courses::configuration(store, &behind.url(), settings.jobs())).await;
        before.push(Relay::to(proxy.addr(), seed).await);
        proxies.push(proxy);
    }
    let crew = Arc::new(Crew {
        journal: journal::Journal::default(),
        addresses: before.iter().map(Relay::address).collect(),
        rude: settings.faults.have("rude"),
        stopped: AtomicBool::new(false),
        all_done: AtomicBool::new(false),
        jobs: settings.jobs(),
        accepted: parking_lot::Mutex::default(),
        open: parking_lot::Mutex::default(),
        last: parking_lot::Mutex::default(),
    });
    let mut readers = Vec::new();
    for (name, manner) in [("a follower", Manner::Follows), ("one that comes and goes", Manner::ComesAndGoes)]
    {
        readers.push(Reader::new(name, manner, settings.seed, &crew).begins().await);
    }
    let store = Store { address: ground.address().unwrap_or_default(), ground, below };
    let mut storm = Storm::new(&settings, proxies, (ledger, store), (before, behind), calm);
    let mut members = JoinSet::new();
    for number in 0..settings.agents {
        members.spawn(Member::new(number, settings.seed, &crew).work());
    }
    let mut workers = JoinSet::new();
    for number in 0..settings.agents.div_ceil(4) {
        workers.spawn(Member::new(3_000 + number, settings.seed, &crew).takes_tasks());
    }
    storm.rages(Instant::now() + settings.length).await;
    crew.stopped.store(true, Ordering::Relaxed);
    let mut breaches = gathers(&mut members).await;
    breaches.extend(goes_on(&settings, &crew).await);
    breaches.extend(jobs::all_end(&crew, RECOVERY).await);
    breaches.extend(operator(&storm, &crew).await);
    breaches.extend(claims::all_are_done(&storm.ledger, &crew, RECOVERY).await);
    breaches.extend(gathers(&mut workers).await);
    breaches.extend(none_waits(&storm).await);
    let (readings, stands) = ends(&crew, readers).await;
    for proxy in &mut storm.proxies {
        assert!(proxy.terminate().await.success(), "O5");
    }
    breaches.extend(crew.journal.all_strange());
    let evidence = Evidence {
        effects: storm.ledger.effects(),
        attempts: crew.journal.attempts(),
        histories: crew.journal.histories(),
        leases: crew.journal.leases(),
        states: crew.journal.states(),
        claims: crew.journal.claims(),
        said: crew.journal.all_said(),
        unknown: told::unknown(stands.as_ref().map_or(&readings[..], std::slice::from_ref)),
        start: Some("first".to_owned()),
    };
    breaches.extend(evidence.breaches());
    let (readings, stands, asked) = (&readings[..], stands.as_ref(), &crew.journal.asked());
    let forgets = matches!(&*settings.store, "redis" | "sentinel") && storm.figures.stores > 0;
    breaches.extend(told::Reader { evidence: &evidence, readings, stands, asked, forgets }.breaches());
    report(&storm, &crew, &evidence, readings, &breaches);
    // What broke is shown above; the whole log of the proxy would bury it.
    drop(storm);
    assert!(breaches.is_empty(), "{} violations; again by: {settings}", breaches.len());
}

/// Every agent ends what it is at.
async fn gathers(members: &mut JoinSet<()>) -> Vec<String> {
    let all = async {
        while let Some(ended) = members.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    };
    let ended = timeout(RECOVERY, all).await;
    ended
        .is_err()
        .then(|| format!("{} agents at work {RECOVERY:?} after the end", members.len()))
        .into_iter()
        .collect()
}

/// Every resource takes a new write.
async fn goes_on(settings: &Settings, crew: &Arc<Crew>) -> Vec<String> {
    let mut writers = JoinSet::new();
    for (n, resource) in resources().enumerate() {
        let mut member = Member::new(1_000 + n, settings.seed, crew);
        writers.spawn(async move {
            let course = course_of(&resource);
            let done = async { while !member.one(course, &resource).await {} };
            timeout(RECOVERY, done)
                .await
                .map_err(|_| format!("{resource} takes no write {RECOVERY:?} after the end"))
        });
    }
    writers.join_all().await.into_iter().filter_map(Result::err).collect()
}

/// A last write, whose event all readers wait for. One more reader gets all of it again; or, where a place was gone,
/// the log as it stands in the end, from before its first event.
async fn ends(crew: &Arc<Crew>, readers: Vec<JoinHandle<Reading>>) -> (Vec<Reading>, Option<Reading>) {
    let number = 2_000;
    let course = course_of("/queue/0");
    let mut member = Member::new(number, 0, crew).without_jobs();
    let done = async { while !member.one(course, "/queue/0").await {} };
    // That it takes none is found by the readers that never see it.
    timeout(RECOVERY, done).await.ok();
    let attempts = crew.journal.attempts();
    let last = attempts.iter().rev().find(|one| one.agent == number);
    let key = last.map(|one| one.key.clone()).unwrap_or_default();
    *crew.last.lock() = Last::is(told::operation(number, &key), Instant::now() + RECOVERY);
    let mut readings = Vec::new();
    for reader in readers {
        readings.push(reader.await.expect("a reader"));
    }
    if readings.iter().all(|one| one.gone.is_empty()) {
        let again =
            Reader::new("one that reads all again", Manner::Follows, 0, crew).behind(&readings[0].start);
        readings.push(again.reads_all(RECOVERY).await);
        return (readings, None);
    }
    let last = readings[0].told.last().map(|told| format!("{}-0", told::epoch(told)));
    let stands =
        Reader::new("the log in the end", Manner::Follows, 0, crew).behind(&last.unwrap_or_default());
    (readings, Some(stands.reads_all(RECOVERY).await))
}

/// The answer when the store is there again: on a busy machine an instance may lapse without a fault.
async fn in_quiet(what: &str, ask: impl AsyncFn() -> Answer) -> Answer {
    let answered = async {
        loop {
            let answer = ask().await;
            if answer.status != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(RECOVERY, answered).await.unwrap_or_else(|_| panic!("no answer but 503 in quiet: {what}"))
}

/// No job is left, also none that its agent never heard of.
async fn none_waits(storm: &Storm) -> Vec<String> {
    let admin = Agent::admin(&storm.proxies[0]);
    let queued = || async {
        let answer = in_quiet("the jobs", async || admin.get("/operations?state=queued").await).await;
        answer.is(200).json()["operations"].as_array().cloned().unwrap_or_default()
    };
    let none = async {
        while !queued().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match timeout(RECOVERY, none).await {
        Ok(()) => Vec::new(),
        Err(_) => vec![format!("jobs that wait {RECOVERY:?} after the end: {:?}", queued().await)],
    }
}

/// What is still unknown is ended by an operator who looks into the ledger, and then answered so.
async fn operator(storm: &Storm, crew: &Arc<Crew>) -> Vec<String> {
    let mut found = Vec::new();
    let admin = Agent::admin(&storm.proxies[0]);
    let open = std::mem::take(&mut *crew.open.lock());
    for write in open.into_iter().rev().take(30) {
        let write = &sending::Write { later: None, ..write };
        let line = Line::to(&crew.addresses);
        let sender = sending::Sender { line: &line, journal: &crew.journal };
        let Some((answer, _)) = sender.send(write).await else {
            found.push(format!("no answer in quiet to {write:?}"));
            continue;
        };
        if !answer.is_refusal() || answer.code() != "outcome-unknown" {
            continue;
        }
        let id = answer.problem().json["operation"].as_str().unwrap_or_default().to_owned();
        let executed = storm.ledger.effects_of(&write.key) > 0;
        let word = if executed { "executed" } else { "not-executed" };
        let resolution = json!({"as": word, "who": "campaign", "why": "the ledger says so"});
        let resolve = async || admin.post(&format!("/operations/{id}/resolve")).json(&resolution).await;
        in_quiet("a resolution", resolve).await.is(200);
        let after = sender.send(write).await.map(|(answer, _)| answer);
        let fits = after.as_ref().is_some_and(|after| match (executed, after.is_refusal()) {
            (true, _) => after.status == 204 && after.header("idempotent-replayed").is_some(),
            (false, true) => matches!(&*after.code(), "stale-version" | "lease-lost" | "claim-lost"),
            // Or the upstream says that the task has another.
            (false, false) => after.status < 300 || (after.status == 409 && write.claim.is_some()),
        });
        if !fits {
            found.push(format!("resolved as {word}, but answered {after:?}: {write:?}"));
        }
    }
    found
}

fn report(storm: &Storm, crew: &Crew, evidence: &Evidence, readings: &[Reading], breaches: &[String]) {
    let verdict::Figures { retries, replays, unknown, lost, judged } = evidence.figures();
    let operations = crew.journal.operations.load(Ordering::Relaxed);
    let reads = crew.journal.reads.load(Ordering::Relaxed);
    println!(
        "{operations} writes, {reads} reads, {} effects, {retries} retries, {replays} replays",
        evidence.effects.len()
    );
    println!("{unknown} unknown, {lost} without an answer, {judged} operations judged");
    let before: u64 = storm.before.iter().map(Relay::cuts).sum();
    let below: u64 = storm.store.below.iter().map(Relay::cuts).sum();
    println!("{}, {before} + {} + {below} connections cut", storm.figures, storm.behind.cuts());
    let of = |kind: &str| readings[0].told.iter().filter(|told| told.kind == kind).count();
    let (granted, expired) = (of("lease.granted"), of("lease.expired"));
    println!("{granted} leases granted, {expired} expired, {} given back", of("lease.released"));
    let jobs::Figures { accepted, unknown, refused } = evidence.job_figures();
    println!("{accepted} jobs accepted, {unknown} of them unknown, {refused} refused");
    let claimed::Figures { claims, tasks, acknowledged, lost, left } = evidence.claim_figures();
    print!("{claims} claims on {tasks} tasks, {acknowledged} acknowledged, ");
    println!("{lost} were told claim-lost, {left} left without a word");
    for Reading { name, told, resumes, gone, .. } in readings {
        println!("{name}: {} events read, {resumes} resumes, {} times gone", told.len(), gone.len());
    }
    println!("{} violations", breaches.len());
    for breach in breaches.iter().take(5) {
        println!("--- {breach}");
    }
}
