//! `onceward serve`: load, build, serve, reload, drain (C1, C3, O5).

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Config, Over, Problems, Stamp};
use crate::observe::{self, Logging};
use crate::server::{NotStarted, Running};
use crate::stack::{Gate, Rules};

/// Arguments of `serve`.
#[derive(clap::Args)]
pub(super) struct ServeArgs {
    /// The configuration, in TOML.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// Every route's upstream; without a configuration one route on every path goes there.
    #[arg(long)]
    upstream: Option<String>,
    /// Where to listen, in place of server.listen.
    #[arg(long)]
    listen: Option<String>,
}

/// Where the configuration is, where the command line names neither it nor an upstream.
const USUAL: &str = "onceward.toml";

/// How often a file is looked at for a change.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn run(args: &ServeArgs) -> ExitCode {
    without_huge_pages();
    let config = match load(args) {
        Ok(config) => config,
        Err(problems) => {
            eprint!("{}", problems.pretty());
            return ExitCode::from(2);
        }
    };
    let logging = match observe::init(&config.log) {
        Ok(logging) => logging,
        Err(why) => return fail(&format!("log.level: {why}")),
    };
    for note in config::notes(&config) {
        tracing::warn!("{note}");
    }
    let runtime = match runtime(config.server.threads) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    match runtime.block_on(serve(args, config, &logging)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.0),
    }
}

/// A store grows page by page. In pages of two megabytes, which the allocator asks for, each takes as long at once as
/// five hundred small ones, and every request waits: 0.2 ms where the memory is there, 9 ms on a virtual machine whose
/// host takes free memory back and gives it anew at the first touch.
fn without_huge_pages() {
    // A kernel that does not know them has none.
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true).ok();
}

fn fail(why: &str) -> ExitCode {
    eprintln!("onceward: {why}");
    ExitCode::FAILURE
}

/// One thread needs no hand-over between threads.
fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    match threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        0 => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
        threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

fn load(args: &ServeArgs) -> Result<Config, Problems> {
    match (&args.config, &args.upstream) {
        (None, Some(upstream)) => config::quick(upstream, args.listen.as_deref()),
        (file, upstream) => {
            let over = Over { upstream: upstream.as_deref(), listen: args.listen.as_deref() };
            config::read_over(file.as_deref().unwrap_or(Path::new(USUAL)), &over)
        }
    }
}

async fn serve(args: &ServeArgs, config: Config, logging: &Logging) -> Result<(), NotStarted> {
    let broken = |error: std::io::Error| NotStarted(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    let hang_up = signal(SignalKind::hangup()).map_err(broken)?;
    let running = Running::start(config).await?;
    // For whoever started it on port 0.
    println!("{}", json!({"listening": running.addresses(), "admin": running.admin()}));
    let listening: Vec<_> = running.addresses().iter().map(ToString::to_string).collect();
    let admin = running.admin().map_or("off".to_owned(), |address| address.to_string());
    tracing::info!(listening = listening.join(", "), admin, "ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = reload_for_ever(args, &running.gate, logging, hang_up) => {}
    }
    tracing::info!("shutting down");
    running.shutdown().await;
    Ok(())
}

/// Reloads on SIGHUP, and when the file has changed (C3).
async fn reload_for_ever(args: &ServeArgs, gate: &Arc<Gate>, logging: &Logging, mut hang_up: Signal) {
    let mut seen = stamp(args).await;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            _ = hang_up.recv() => true,
            _ = tick.tick() => false,
        };
        let now = stamp(args).await;
        if asked || now != seen {
            seen = now;
            reload(args, gate, logging);
        }
    }
}

async fn stamp(args: &ServeArgs) -> Option<Stamp> {
    config::stamp(args.config.as_deref().unwrap_or(Path::new(USUAL))).await
}

fn reload(args: &ServeArgs, gate: &Arc<Gate>, logging: &Logging) {
    let standing = gate.rules.load_full();
    let ok = match load(args) {
        // The file may have been wrong in between.
        Ok(config) if config == *standing.config => true,
        Ok(config) => apply(config, &standing, gate, logging),
        Err(problems) => {
            tracing::error!(%problems, "the configuration was not reloaded; the old one stays");
            false
        }
    };
    gate.metrics.config_last_reload_successful.set(i64::from(ok));
}

fn apply(config: Config, standing: &Rules, gate: &Arc<Gate>, logging: &Logging) -> bool {
    let needs = config::needs_restart(&standing.config, &config);
    if !needs.is_empty() {
        let keys = needs.join(", ");
        tracing::error!(
            keys,
            "the configuration was not reloaded: these keys are changed, and that needs a restart"
        );
        return false;
    }
    if config.log != standing.config.log
        && let Err(why) = logging.reload(&config.log)
    {
        tracing::error!(why, "the configuration was not reloaded: logging cannot be changed");
        return false;
    }
    let rules = Arc::new(Rules::new(Arc::new(config), &gate.metrics, &gate.upstreams, Some(standing)));
    gate.take(Arc::clone(&rules));
    retire(standing, &rules);
    tracing::info!("the configuration was reloaded");
    true
}

/// Sends what waits for a collector that is no longer the one; requests that still run are not told to it.
fn retire(before: &Rules, now: &Rules) {
    let Some(spans) = &before.spans else { return };
    if now.spans.as_ref().is_none_or(|other| !Arc::ptr_eq(other, spans)) {
        let spans = Arc::clone(spans);
        drop(tokio::task::spawn_blocking(move || spans.close(Duration::from_secs(10))));
    }
}
