//! `mesh scan`.

use ownmesh_node::status::Status;
use serde_json::json;

use super::Context;
use crate::client::segment;
use crate::error::{End, Result};
use crate::start;
use crate::ui::clean;

/// Look at the disk now instead of waiting for the watcher
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// This space only [default: all that this device takes part in]
    #[arg(value_name = "SPACE")]
    space: Option<String>,

    /// Return when it has ended, not when it has begun
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let spaces = match args.space {
        Some(space) => vec![space],
        None => client
            .get::<Status>("/v1/status")
            .await?
            .spaces
            .into_iter()
            .map(|space| space.name)
            .collect(),
    };
    let spinner = context.ui.spinner("looking at the disk");
    let mut result = Ok(());
    for space in &spaces {
        let path = format!("/v1/spaces/{}/scan", segment(space));
        // The scan goes on in the node when nobody waits for its end; a moment shows whether the space is there at all.
        result = if args.wait {
            client.order(&path).await
        } else {
            tokio::time::timeout(std::time::Duration::from_secs(1), client.order(&path))
                .await
                .unwrap_or(Ok(()))
        };
        if result.is_err() {
            break;
        }
    }
    spinner.finish_and_clear();
    result?;
    context
        .ui
        .answer(&json!({ "spaces": spaces, "ended": args.wait }), |ui| {
            let verb = if args.wait { "looked at" } else { "looking at" };
            spaces
                .iter()
                .for_each(|space| ui.say(&format!("{verb} {}", clean(space))));
        });
    Ok(End::Done)
}
