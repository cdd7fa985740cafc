//! `mesh wait`.

use ownmesh_node::command::{Kind, WaitReply, WaitRequest};

use super::Context;
use crate::error::{End, Result};
use crate::start;
use crate::ui::clean;

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

    /// Confirmed by every lasting device
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
    let spinner = context.ui.spinner("waiting for the other devices");
    let reply = client.post::<WaitReply>("/v1/wait", Some(&request)).await;
    spinner.finish_and_clear();
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
