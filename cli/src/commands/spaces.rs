//! `mesh spaces`.

use ownmesh_node::status::SpaceInfo;
use serde::{Deserialize, Serialize};

use super::Context;
use crate::error::{End, Result};
use crate::ui::clean;
use crate::{start, words};

/// List all spaces of the mesh, joined here or not
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

#[derive(Serialize, Deserialize)]
struct Answer {
    spaces: Vec<SpaceInfo>,
}

pub(crate) async fn run(context: &Context, Args {}: Args) -> Result<End> {
    let answer: Answer = start::node(context).await?.get("/v1/spaces").await?;
    context.ui.answer(&answer, |ui| {
        if answer.spaces.is_empty() {
            ui.say("no space yet");
            ui.hint(&format!("  {} makes one", context.next("add PATH")));
        }
        let rows: Vec<_> = answer.spaces.iter().map(row).collect();
        words::table(&rows).iter().for_each(|line| ui.say(line));
    });
    Ok(End::Done)
}

fn row(space: &SpaceInfo) -> Vec<String> {
    let others = if space.devices.is_empty() {
        String::new()
    } else {
        clean(&space.devices.join(", "))
    };
    if !space.joined {
        return vec![
            clean(&space.name),
            "not joined here".into(),
            String::new(),
            others,
        ];
    }
    vec![
        clean(&space.name),
        clean(space.path.as_deref().unwrap_or("-")),
        format!(
            "{}, {}",
            words::count(space.files, "file"),
            words::size(space.bytes)
        ),
        others,
    ]
}
