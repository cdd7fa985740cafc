//! `mesh device rename|block|unblock`.

use ownmesh_node::told::{BlockRequest, RenameRequest};
use serde_json::{Value, json};

use super::Context;
use crate::error::{End, Result};
use crate::start;
use crate::ui::clean;

/// Rename a device, or stop talking to one
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Give a device another name, on all devices
    Rename {
        /// The device, by name or id
        #[arg(value_name = "NAME")]
        device: String,
        /// What it is to be called
        #[arg(value_name = "NEW")]
        name: String,
    },
    /// Stop talking to a device at once; this device alone, until unblocked
    ///
    /// It stays a device of the mesh and keeps its keys; what it writes still comes here through the others.
    Block {
        /// The device, by name or id
        #[arg(value_name = "NAME")]
        device: String,
    },
    /// Talk to a device again
    Unblock {
        /// The device, by name or id
        #[arg(value_name = "NAME")]
        device: String,
    },
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    match args.action {
        Action::Rename { device, name } => {
            let request = RenameRequest { device, name };
            let _: Value = client.post("/v1/devices/rename", Some(&request)).await?;
            context.ui.answer(&json!(request), |ui| {
                let (old, new) = (clean(&request.device), clean(&request.name));
                ui.say(&format!(
                    "{old} is called {new} now, on every device as it hears of it"
                ));
            });
        }
        Action::Block { device } => block(context, &client, device, true).await?,
        Action::Unblock { device } => block(context, &client, device, false).await?,
    }
    Ok(End::Done)
}

async fn block(
    context: &Context,
    client: &crate::client::Client,
    device: String,
    blocked: bool,
) -> Result<()> {
    let request = BlockRequest { device, blocked };
    let _: Value = client.post("/v1/devices/block", Some(&request)).await?;
    context.ui.answer(&json!(request), |ui| {
        let name = clean(&request.device);
        if blocked {
            ui.say(&format!("this device does not talk to {name} any more"));
            ui.hint("It is still a device of the mesh: the others go on talking to it, and it keeps what it has.");
        } else {
            ui.say(&format!("this device talks to {name} again"));
        }
    });
    Ok(())
}
