//! `onceward leases` (O4): who holds what, and an end to a lease whose holder does not give it back.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::json;

use super::admin::{AdminArgs, Failed};
use super::rows;

/// See which resources are leased, and break a lease that its holder does not give back
#[derive(clap::Args)]
pub(super) struct LeasesArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List leases, the one that ends first before the others
    List,
    /// End a lease: its holder's next write is refused, and the next agent may have the resource
    Break {
        /// As list shows it; it is not what its holder knows it by
        id: String,
        /// Who decided this; it is logged
        #[arg(long)]
        who: String,
        /// By what; it is logged
        #[arg(long)]
        why: String,
    },
}

const NAME: &str = "leases";

/// The columns of a list.
const COLUMNS: [rows::Column; 4] =
    [("id", "ID"), ("fence", "FENCE"), ("expires_at", "EXPIRES"), ("resource", "RESOURCE")];

pub(super) fn run(args: &LeasesArgs) -> ExitCode {
    super::admin::run(NAME, args.ask())
}

impl LeasesArgs {
    /// Asks, and makes a text of the answer.
    async fn ask(&self) -> Result<String, Failed> {
        let admin = &self.admin;
        let answer = match &self.command {
            Command::List => admin.send(admin.request(Method::GET, admin.url(&[NAME], None))?).await?,
            Command::Break { id, who, why } => {
                let request = admin.request(Method::DELETE, admin.url(&[NAME, id], None))?;
                admin.send(request.json(&json!({"who": who, "why": why}))).await?
            }
        };
        if admin.json {
            return Ok(format!("{answer:#}\n"));
        }
        Ok(match &self.command {
            Command::List => rows::list(&answer, NAME, &COLUMNS),
            Command::Break { id, .. } => format!("{id} is broken\n"),
        })
    }
}
