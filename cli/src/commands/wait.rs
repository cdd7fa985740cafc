//! `mesh wait`.

use std::convert::Infallible;
use std::time::Duration;

use indicatif::ProgressBar;
use ownmesh_node::command::{Kind, WaitReply, WaitRequest};
use ownmesh_node::status::{SpaceStatus, Status};

use super::Context;
use crate::client::Client;
use crate::error::{End, Result};
use crate::start;
use crate::ui::clean;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// Wait until what is on the disk now is safe elsewhere and nothing is missing here
///
/// Looks at the disk first. Ends with 0 as soon as one other device has confirmed everything and nothing known is missing here; with 7 and
/// the reasons at the time-out, or at once if there is no other device.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Give up after this many seconds
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,

    /// This space only [default: all that this device takes part in]
    #[arg(long, value_name = "NAME")]
    space: Option<String>,

    /// Confirmed by this device, not just any
    #[arg(long, value_name = "D", conflicts_with = "all")]
    device: Option<String>,

    /// Confirmed by every lasting device, but for what its own ignore rules keep out, if one has everything
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let request = WaitRequest {
        timeout_s: args.timeout,
        space: args.space,
        device: args.device,
        all: args.all,
    };
    let bar = context.ui.bar("waiting for the other devices", 0);
    let reply = tokio::select! {
        reply = client.post::<WaitReply>("/v1/wait", Some(&request)) => reply,
        never = show_progress(&client, &bar) => match never {},
    };
    bar.finish_and_clear();
    let reply = reply?;
    context.ui.answer(&reply, |ui| {
        ui.say(if reply.done {
            "done: confirmed elsewhere, nothing known is missing here"
        } else {
            "not done:"
        });
        for reason in &reply.reasons {
            ui.say(&format!("  {}", clean(reason)));
        }
    });
    Ok(if reply.done {
        End::Done
    } else {
        End::Answered(Kind::NotFinished)
    })
}

/// Fills the bar as items are confirmed and arrive, as far as the status tells. Only a picture: the answer decides.
async fn show_progress(client: &Client, bar: &ProgressBar) -> Infallible {
    let mut most = 0;
    while !bar.is_hidden() {
        if let Ok(status) = client.get::<Status>("/v1/status").await {
            let left: u64 = status.spaces.iter().map(left).sum();
            most = most.max(left);
            bar.set_length(most);
            bar.set_position(most - left);
        }
        tokio::time::sleep(LOOK).await;
    }
    std::future::pending().await
}

/// Items that are missing here, and items that the device which has most has not confirmed.
fn left(space: &SpaceStatus) -> u64 {
    space.missing_items + space.unconfirmed.values().min().copied().unwrap_or(0)
}
