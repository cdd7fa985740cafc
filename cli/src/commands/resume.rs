//! `mesh continue` and `mesh revert`: the two answers to a space that stopped and asks.

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
}

/// Bring back what a stopped space would have lost
#[derive(clap::Args, Debug)]
pub(crate) struct RevertArgs {
    /// The space
    #[arg(value_name = "SPACE")]
    space: String,
}

pub(crate) async fn go_on(context: &Context, args: ContinueArgs) -> Result<End> {
    answer(context, &args.space, "continue", "goes on").await
}

pub(crate) async fn revert(context: &Context, args: RevertArgs) -> Result<End> {
    answer(context, &args.space, "revert", "is brought back").await
}

async fn answer(context: &Context, space: &str, what: &str, words: &str) -> Result<End> {
    start::node(context)
        .await?
        .order(&format!("/v1/spaces/{}/{what}", segment(space)))
        .await?;
    context
        .ui
        .answer(&json!({ "space": space, "answer": what }), |ui| {
            ui.say(&format!("{} {words}", clean(space)));
        });
    Ok(End::Done)
}
