//! `mesh pair`: without an argument the window on a device of the mesh, with a code or ticket the new device's side.

use std::path::PathBuf;

use super::Context;
use crate::error::{End, Result};

mod join;
mod qr;
mod user;
mod window;

/// Let another device in, or join the mesh of one that is
///
/// On a device of the mesh, `mesh pair` shows nine digits for five minutes, and a ticket, which does the same where the two do not find each
/// other. On the new device, `mesh pair` with the digits joins. The new device then shows two words, which are typed on the first one, and
/// that one shows a third, which is typed on the new one: so each knows that nobody stands between.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Join: the nine digits; - asks for digits or ticket or reads them from standard input, FILE reads them from a file
    #[arg(value_name = "CODE|-|FILE")]
    invitation: Option<String>,

    /// Draw the ticket as a QR code too
    #[arg(long, conflicts_with = "invitation")]
    qr: bool,

    /// Join under this name [default: the machine's name]
    #[arg(long, value_name = "NAME", requires = "invitation")]
    name: Option<String>,

    /// Join: where the other device is, if it is not found. Its mesh pair shows the port, which a ticket says by itself
    #[arg(long, value_name = "HOST[:PORT]", requires = "invitation")]
    at: Option<String>,

    /// Join even if this home has a mesh, as long as it takes part in no space there
    #[arg(long, requires = "invitation")]
    replace: bool,

    /// Trust code or ticket alone: no words, no question on this side
    #[arg(long)]
    yes: bool,

    /// The mesh's password: lets another device in from one that else may not. - reads it from standard input
    #[arg(long, value_name = "F", conflicts_with = "invitation")]
    password_file: Option<PathBuf>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    match args.invitation {
        None => {
            let options = window::Options {
                yes: args.yes,
                qr: args.qr,
                password_file: args.password_file,
            };
            window::run(context, options).await
        }
        Some(invitation) => {
            let options = join::Options {
                invitation,
                name: args.name,
                at: args.at,
                replace: args.replace,
                yes: args.yes,
            };
            join::run(context, options).await
        }
    }
}
