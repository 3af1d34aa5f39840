//! `onceward operations` (O4): what became of operations, and an operator's word on an unknown one.

mod resolve;

use std::process::ExitCode;

use reqwest::Method;

use self::resolve::Resolve;
use super::admin::{AdminArgs, Failed};
use super::rows;

/// See what became of operations, and say what became of an unknown one
#[derive(clap::Args)]
pub(super) struct OperationsArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    admin: AdminArgs,
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

const NAME: &str = "operations";

/// The columns of a list.
const COLUMNS: [rows::Column; 6] = [
    ("id", "ID"),
    ("state", "STATE"),
    ("status", "STATUS"),
    ("started_at", "STARTED"),
    ("route", "ROUTE"),
    ("resource", "RESOURCE"),
];

pub(super) fn run(args: &OperationsArgs) -> ExitCode {
    super::admin::run(NAME, args.ask())
}

impl OperationsArgs {
    /// Asks, and makes a text of the answer.
    async fn ask(&self) -> Result<String, Failed> {
        let admin = &self.admin;
        let answer = match &self.command {
            Command::List { state } => {
                admin.send(admin.request(Method::GET, admin.url(&[NAME], state.query()))?).await?
            }
            Command::Show { id } => {
                admin.send(admin.request(Method::GET, admin.url(&[NAME, id], None))?).await?
            }
            Command::Resolve(resolve) => {
                let body = resolve.body().map_err(Failed::NotAsked)?;
                let url = admin.url(&[NAME, &resolve.id, "resolve"], None);
                admin.send(admin.request(Method::POST, url)?.json(&body)).await?
            }
        };
        if admin.json {
            return Ok(format!("{answer:#}\n"));
        }
        Ok(match &self.command {
            Command::List { .. } => rows::list(&answer, NAME, &COLUMNS),
            Command::Show { .. } => rows::one(&answer),
            Command::Resolve(resolve) => format!("{} is resolved as {}\n", resolve.id, resolve.end.name()),
        })
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
