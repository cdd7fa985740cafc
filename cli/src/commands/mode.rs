//! `mesh mode`.

use ownmesh_node::command::{MODES, ModeRequest};
use serde_json::{Value, json};

use super::Context;
use crate::client::segment;
use crate::error::{End, Result};
use crate::start;
use crate::ui::clean;

/// Change how this device takes part in a space
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The space
    #[arg(value_name = "SPACE")]
    space: String,

    /// The new way
    #[arg(value_name = "MODE", value_parser = MODES)]
    mode: String,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let request = ModeRequest {
        mode: args.mode.clone(),
    };
    let _: Value = client
        .post(
            &format!("/v1/spaces/{}/mode", segment(&args.space)),
            Some(&request),
        )
        .await?;
    context
        .ui
        .answer(&json!({ "space": args.space, "mode": args.mode }), |ui| {
            ui.say(&format!("{} is {} here", clean(&args.space), args.mode));
        });
    Ok(End::Done)
}
