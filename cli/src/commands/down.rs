//! `mesh down`.

use serde_json::json;

use super::Context;
use crate::error::{End, Result};
use crate::start;

/// Stop the node in order
///
/// Returns when it has ended. Folders stay as they are; what changes meanwhile is found at the next start.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, Args {}: Args) -> Result<End> {
    let stopped = start::stop(&context.home).await?;
    context.ui.answer(&json!({ "stopped": stopped }), |ui| {
        ui.say(if stopped {
            "The node has stopped."
        } else {
            "The node was not running."
        });
    });
    Ok(End::Done)
}
