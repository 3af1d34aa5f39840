//! `onceward operations` (O4): what became of operations, and an operator's word on an unknown one.
//!
//! It asks the admin listener of an Onceward that runs. Exit 0: done; 1: it was refused, and why is on standard
//! error; 2: it could not be asked.

mod resolve;
mod rows;

use std::process::ExitCode;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Url, redirect};
use serde_json::Value;

use self::resolve::Resolve;

/// See what became of operations, and say what became of an unknown one
#[derive(clap::Args)]
pub(super) struct OperationsArgs {
    #[command(subcommand)]
    command: Command,
    /// The admin listener of the Onceward that is asked
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:9090", value_parser = super::admin_address)]
    admin: Url,
    /// Its server.admin_token, which resolving needs where the listener is not loopback
    #[arg(long, global = true, env = "ONCEWARD_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print the listener's answer as it is
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List operations, the newest first
    List {
        /// Of which state
        #[arg(long, value_enum, default_value_t = Which::Unknown)]
        state: Which,
    },
    /// Show one operation
    Show {
        /// As list shows it, and as the refusal that the agent got names it
        id: String,
    },
    /// Say what became of an unknown operation, once somebody has looked
    ///
    /// --not-executed: it had no effect. Its key is free, and the agent's next try runs.
    ///
    /// --executed: it had its effect. Each retry is answered from now on by what is given here, or by 204.
    #[command(verbatim_doc_comment)]
    Resolve(Resolve),
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Unknown,
    Running,
    Queued,
    Done,
    All,
}

/// Why there is nothing to print.
enum Failed {
    /// The listener said no.
    Refused(String),
    /// It was not asked, or gave no answer that can be read.
    NotAsked(String),
}

pub(super) fn run(args: &OperationsArgs) -> ExitCode {
    let result = match super::block_on(args.ask()) {
        Ok(result) => result,
        Err(error) => Err(Failed::NotAsked(error.to_string())),
    };
    match result {
        Ok(text) => super::race::finish(NAME, &text, &[]),
        Err(Failed::Refused(why)) => super::race::finish(NAME, "", &[why]),
        Err(Failed::NotAsked(why)) => super::race::cannot_run(NAME, &why),
    }
}

const NAME: &str = "operations";

/// How long the listener may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl OperationsArgs {
    /// Asks, and makes a text of the answer.
    async fn ask(&self) -> Result<String, Failed> {
        let answer = match &self.command {
            Command::List { state } => {
                self.send(self.request(Method::GET, self.url(&[], state.query()))?).await?
            }
            Command::Show { id } => self.send(self.request(Method::GET, self.url(&[id], None))?).await?,
            Command::Resolve(resolve) => {
                let body = resolve.body().map_err(Failed::NotAsked)?;
                let url = self.url(&[&resolve.id, "resolve"], None);
                self.send(self.request(Method::POST, url)?.json(&body)).await?
            }
        };
        if self.json {
            return Ok(format!("{answer:#}\n"));
        }
        Ok(match &self.command {
            Command::List { .. } => rows::list(&answer),
            Command::Show { .. } => rows::one(&answer),
            Command::Resolve(resolve) => format!("{} is resolved as {}\n", resolve.id, resolve.end.name()),
        })
    }

    fn url(&self, path: &[&str], query: Option<&str>) -> Url {
        let mut url = self.admin.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("operations").extend(path);
        }
        url.set_query(query);
        url
    }

    fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Failed> {
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

    async fn send(&self, request: RequestBuilder) -> Result<Value, Failed> {
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

impl Which {
    fn query(self) -> Option<&'static str> {
        match self {
            Self::Unknown => Some("state=unknown"),
            Self::Running => Some("state=running"),
            Self::Queued => Some("state=queued"),
            Self::Done => Some("state=done"),
            Self::All => None,
        }
    }
}

/// What went wrong at the bottom of it.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}
