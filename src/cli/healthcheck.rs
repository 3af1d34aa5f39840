//! `onceward healthcheck`: exit 0 if the admin listener answers (C5).

use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `healthcheck`.
#[derive(clap::Args)]
pub(super) struct HealthcheckArgs {
    /// The admin listener's address.
    #[arg(long, default_value = "http://127.0.0.1:9090")]
    admin: String,
    /// Ask whether it is ready instead of whether it is alive.
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(args: &HealthcheckArgs) -> ExitCode {
    let place = if args.ready { "readyz" } else { "healthz" };
    let url = format!("{}/{place}", args.admin.trim_end_matches('/'));
    match super::block_on(ask(&url)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(why)) => fail(&why),
        Err(error) => fail(&error.to_string()),
    }
}

async fn ask(url: &str) -> Result<(), String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().build();
    let answer = client.map_err(|error| error.to_string())?.get(url).send().await;
    let answer = answer.map_err(|error| format!("{url} cannot be reached: {error}"))?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("{url} answers {}", answer.status())) }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("onceward healthcheck: {why}");
    ExitCode::FAILURE
}
