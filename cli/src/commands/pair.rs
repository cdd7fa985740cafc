//! `mesh pair`: without an argument the window on a device of the mesh, with a ticket the new device's side.

use std::path::PathBuf;

use super::Context;
use crate::error::{End, Result};

mod join;
mod window;

/// Let another device in, or join the mesh of one that is
///
/// On a device of the mesh, `mesh pair` shows a ticket for five minutes. On the new device, `mesh pair -` asks for it. The new device then
/// shows two words, which are typed on the first one: so each knows that nobody stands between.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Join: - reads the ticket from standard input or asks for it, FILE reads it from a file
    #[arg(value_name = "-|FILE")]
    ticket: Option<String>,

    /// Join under this name [default: the machine's name]
    #[arg(long, value_name = "NAME", requires = "ticket")]
    name: Option<String>,

    /// Join: where the other device is, if the ticket's addresses do not lead to it
    #[arg(long, value_name = "HOST[:PORT]", requires = "ticket")]
    at: Option<String>,

    /// Join even if this home has a mesh, as long as it takes part in no space there
    #[arg(long, requires = "ticket")]
    replace: bool,

    /// Trust the ticket alone: no words, no question
    #[arg(long)]
    yes: bool,

    /// The password, where one guards pairing
    #[arg(long, value_name = "F", conflicts_with = "ticket")]
    password_file: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    match args.ticket {
        None => window::run(context, args.yes, args.password_file.as_deref()).await,
        Some(ticket) => {
            let options = join::Options {
                ticket,
                name: args.name,
                at: args.at,
                replace: args.replace,
                yes: args.yes,
            };
            join::run(context, options).await
        }
    }
}
