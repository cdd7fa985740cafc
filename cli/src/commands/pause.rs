//! `mesh pause` and `mesh resume`.

use ownmesh_node::told::{PauseRequest, ResumeRequest, SpacesReply};
use serde_json::json;

use super::Context;
use crate::amounts;
use crate::error::{End, Result};
use crate::start;
use crate::ui::clean;

/// Let a space wait: it neither looks at its folder nor sends nor takes anything in
///
/// It stays so over a restart, until `mesh resume` or the end of the time. Nothing is lost: going on begins with a look at the whole folder.
#[derive(clap::Args, Debug)]
pub(crate) struct PauseArgs {
    /// The space [default: all that this device takes part in]
    #[arg(value_name = "SPACE")]
    space: Option<String>,

    /// For how long, as in 90m or 2h [default: until mesh resume]
    #[arg(long = "for", value_name = "T", value_parser = amounts::seconds)]
    time: Option<u64>,
}

/// Let a paused space go on
#[derive(clap::Args, Debug)]
pub(crate) struct ResumeArgs {
    /// The space [default: all that are paused]
    #[arg(value_name = "SPACE")]
    space: Option<String>,
}

pub(crate) async fn pause(context: &Context, args: PauseArgs) -> Result<End> {
    let client = start::node(context).await?;
    let request = PauseRequest {
        space: args.space,
        seconds: args.time,
    };
    let reply: SpacesReply = client.post("/v1/pause", Some(&request)).await?;
    context.ui.answer(
        &json!({ "spaces": reply.spaces, "paused": true, "seconds": request.seconds }),
        |ui| {
            if reply.spaces.is_empty() {
                ui.say("no folder yet: nothing to pause");
            }
            for space in &reply.spaces {
                ui.say(&format!("{} is paused", clean(space)));
            }
        },
    );
    Ok(End::Done)
}

pub(crate) async fn resume(context: &Context, args: ResumeArgs) -> Result<End> {
    let client = start::node(context).await?;
    let request = ResumeRequest { space: args.space };
    let reply: SpacesReply = client.post("/v1/resume", Some(&request)).await?;
    context
        .ui
        .answer(&json!({ "spaces": reply.spaces, "paused": false }), |ui| {
            if reply.spaces.is_empty() {
                ui.say("nothing was paused");
            }
            for space in &reply.spaces {
                ui.say(&format!("{} goes on", clean(space)));
            }
        });
    Ok(End::Done)
}
