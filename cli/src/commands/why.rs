//! `mesh why`.

use std::path::Path;

use ownmesh_node::why::Why;

use super::Context;
use crate::client::segment;
use crate::error::{End, Result};
use crate::ui::{Ui, clean};
use crate::{paths, start};

/// Tell everything the node knows about one path, and what happens next
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A path on the disk, there or not, or SPACE:PATH
    #[arg(value_name = "PATH")]
    path: String,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let query = match paths::split(&args.path) {
        Some((space, path)) => format!("space={}&path={}", segment(space), segment(path)),
        None => format!("path={}", segment(&paths::text(Path::new(&args.path))?)),
    };
    let why: Why = client.get(&format!("/v1/why?{query}")).await?;
    context.ui.answer(&why, |ui| show(ui, &why));
    Ok(End::Done)
}

fn show(ui: Ui, why: &Why) {
    let place = match &why.space {
        Some(space) => format!("{}:{}", clean(space), clean(&why.path)),
        None => clean(&why.path),
    };
    ui.say(&place);
    for words in &why.words {
        ui.say(&format!("  {}", clean(words)));
    }
    if let Some(conflict) = &why.conflict {
        for version in &conflict.versions {
            let at = version.copy_path.as_deref().unwrap_or(&conflict.path);
            ui.say(&format!("    {} by {}", clean(at), clean(&version.device)));
        }
    }
    ui.say(&format!("  next: {}", clean(&why.next)));
}
