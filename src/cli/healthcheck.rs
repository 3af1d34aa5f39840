//! `onceward healthcheck`: exit 0 if the admin listener answers (C5).

use std::process::ExitCode;
use std::time::Duration;

use reqwest::Url;

/// Arguments of `healthcheck`.
#[derive(clap::Args)]
pub(super) struct HealthcheckArgs {
    /// The admin listener's address.
    #[arg(long, default_value = "http://127.0.0.1:9090", value_parser = super::admin_address)]
    admin: Url,
    /// Ask whether it is ready instead of whether it is alive.
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(args: &HealthcheckArgs) -> ExitCode {
    let mut url = args.admin.clone();
    url.set_path(if args.ready { "readyz" } else { "healthz" });
    match super::block_on(ask(url.as_str())) {
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
