//! `mesh continue` and `mesh revert`: the two answers to a space that stopped and asks.
//!
//! Both change what every device of the mesh holds, so both say first what they will do, and ask.

use ownmesh_node::command::CommandError;
use ownmesh_node::status::{SpaceState, SpaceStatus, Status};
use serde_json::json;

use super::Context;
use crate::client::segment;
use crate::error::{End, Result};
use crate::start;
use crate::ui::clean;

/// Let a space go on that stopped because most of it was deleted, or its folder looked wrong
#[derive(clap::Args, Debug)]
pub(crate) struct ContinueArgs {
    /// The space
    #[arg(value_name = "SPACE")]
    space: String,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Bring back what a stopped space would have lost
#[derive(clap::Args, Debug)]
pub(crate) struct RevertArgs {
    /// The space
    #[arg(value_name = "SPACE")]
    space: String,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy)]
enum Answer {
    Continue,
    Revert,
}

pub(crate) async fn go_on(context: &Context, args: ContinueArgs) -> Result<End> {
    answer(context, &args.space, args.yes, Answer::Continue).await
}

pub(crate) async fn revert(context: &Context, args: RevertArgs) -> Result<End> {
    answer(context, &args.space, args.yes, Answer::Revert).await
}

async fn answer(context: &Context, name: &str, yes: bool, answer: Answer) -> Result<End> {
    let client = start::node(context).await?;
    let status: Status = client.get("/v1/status").await?;
    let space = status.spaces.iter().find(|space| space.name == name);
    // The node says what is wrong with another name, or a space that asks nothing.
    // Nor can one go on without a folder.
    let asks = |space: &&SpaceStatus| {
        let gone = folder_stop(space) && is_gone(space);
        space.state == SpaceState::Stopped && (matches!(answer, Answer::Revert) || !gone)
    };
    if let Some(space) = space.filter(asks) {
        let (what, question) = preview(space, answer);
        context.ui.hint(&what);
        if !yes && !context.ui.confirm(question, "--yes")? {
            return Err(CommandError::refused("nothing was changed"));
        }
    }
    let (what, words) = match answer {
        Answer::Continue => ("continue", "goes on"),
        Answer::Revert => ("revert", "is brought back"),
    };
    client
        .order(&format!("/v1/spaces/{}/{what}", segment(name)))
        .await?;
    context
        .ui
        .answer(&json!({ "space": name, "answer": what }), |ui| {
            ui.say(&format!("{} {words}", clean(name)));
        });
    Ok(End::Done)
}

/// What an answer will do, and the question.
fn preview(space: &SpaceStatus, answer: Answer) -> (String, &'static str) {
    let path = clean(&space.path);
    let folder = folder_stop(space);
    let why = stop_reason(space);
    match (answer, folder) {
        (Answer::Continue, false) => (
            format!(
                "{why}.\nGoing on deletes them here, and on every device that waits for the answer. \
                 What is deleted goes to the trash in {path}/.mesh/trash."
            ),
            "Delete them?",
        ),
        (Answer::Continue, true) => (
            format!(
                "{why}.\nGoing on takes what is in {path} now for the space: what is not in it counts \
                 as deleted, on all devices."
            ),
            "Is what is there now right?",
        ),
        (Answer::Revert, false) => (
            format!(
                "{why}.\nBringing back takes the deletions back, on all devices: those that have \
                 followed get the files again."
            ),
            "Bring them back?",
        ),
        (Answer::Revert, true) if is_gone(space) => (
            format!("{why}.\nBringing back makes {path} and fills it from the other devices."),
            "Make it and fill it?",
        ),
        (Answer::Revert, true) => (
            format!(
                "{why}.\nBringing back fills {path} from the other devices. Files that are in it are \
                 kept and compared."
            ),
            "Fill the folder that is there now?",
        ),
    }
}

/// Whether its folder is not there at all.
pub(super) fn is_gone(space: &SpaceStatus) -> bool {
    std::fs::symlink_metadata(&space.path).is_err()
}

/// Whether a space stands still because its folder is not the one it was.
pub(super) fn folder_stop(space: &SpaceStatus) -> bool {
    space
        .problems
        .iter()
        .any(|p| p.item.is_none() && p.kind == "folder")
}

fn stop_reason(space: &SpaceStatus) -> String {
    let mut reasons = space.problems.iter().filter(|p| p.item.is_none());
    let found = reasons.find(|p| p.kind == "folder" || p.kind == "deletions");
    clean(&found.map_or_else(|| "it is stopped".to_owned(), |p| p.reason.clone()))
}
