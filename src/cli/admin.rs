//! The admin listener of an Onceward that runs, as commands ask it (O4).
//!
//! Exit 0: done; 1: it was refused, and why is on standard error; 2: it could not be asked.

use std::process::ExitCode;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Url, redirect};
use serde_json::Value;

/// Which listener is asked, and how its answer is shown.
#[derive(clap::Args)]
pub(super) struct AdminArgs {
    /// The admin listener of the Onceward that is asked
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:9090", value_parser = super::admin_address)]
    admin: Url,
    /// Its server.admin_token, which changing something needs where the listener is not loopback
    #[arg(long, global = true, env = "ONCEWARD_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print the listener's answer as it is
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Why there is nothing to print.
pub(super) enum Failed {
    /// The listener said no.
    Refused(String),
    /// It was not asked, or gave no answer that can be read.
    NotAsked(String),
}

/// How long the listener may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command that asks, and prints what came of it.
pub(super) fn run(name: &'static str, ask: impl Future<Output = Result<String, Failed>>) -> ExitCode {
    let result = match super::block_on(ask) {
        Ok(result) => result,
        Err(error) => Err(Failed::NotAsked(error.to_string())),
    };
    match result {
        Ok(text) => super::race::finish(name, &text, &[]),
        Err(Failed::Refused(why)) => super::race::finish(name, "", &[why]),
        Err(Failed::NotAsked(why)) => super::race::cannot_run(name, &why),
    }
}

impl AdminArgs {
    pub(super) fn url(&self, path: &[&str], query: Option<&str>) -> Url {
        let mut url = self.admin.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url.set_query(query);
        url
    }

    pub(super) fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Failed> {
        // A redirect would take the token along.
        let client =
            Client::builder().timeout(PATIENCE).no_proxy().redirect(redirect::Policy::none()).build();
        let client = client.map_err(|error| Failed::NotAsked(error.to_string()))?;
        let request = client.request(method, url);
        Ok(match self.token.as_deref().filter(|token| !token.is_empty()) {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Value, Failed> {
        let answer = request
            .send()
            .await
            .map_err(|error| Failed::NotAsked(format!("{} cannot be asked: {}", self.admin, root(&error))))?;
        let status = answer.status();
        let body: Option<Value> = answer.json().await.ok();
        if status.is_success() {
            let none = || Failed::NotAsked(format!("{} is no admin listener of Onceward", self.admin));
            return body.ok_or_else(none);
        }
        let detail = body.as_ref().and_then(|body| body["detail"].as_str()).unwrap_or_default();
        let hint = match status.as_u16() {
            401 => " Give it by --token or ONCEWARD_ADMIN_TOKEN.",
            _ => "",
        };
        Err(Failed::Refused(format!("{status}: {detail}{hint}")))
    }
}

/// What went wrong at the bottom of it.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}
