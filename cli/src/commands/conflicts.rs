//! `mesh conflicts`.

use ownmesh_node::command::{Keep, ResolveRequest};
use ownmesh_node::status::ConflictInfo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Context;
use crate::error::{End, Result};
use crate::ui::clean;
use crate::{start, words};

/// List files that two devices changed at once, or settle one
///
/// Nothing is lost in a conflict: one content has the file's name, the other lies beside it as a copy. Settling it once settles it on all
/// devices.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Settle a conflict, for all devices
    Resolve {
        /// SPACE:PATH, or the id that `mesh conflicts --json` shows
        #[arg(value_name = "ITEM")]
        item: String,

        /// The content under the file's name, the one in the copy, or both as two files
        #[arg(long, value_enum)]
        keep: KeepArg,
    },
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum KeepArg {
    Here,
    There,
    Both,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    conflicts: Vec<ConflictInfo>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let Some(Action::Resolve { item, keep }) = args.action else {
        let answer: Answer = client.get("/v1/conflicts").await?;
        context
            .ui
            .answer(&answer, |_| list(context, &answer.conflicts));
        return Ok(End::Done);
    };
    let keep = match keep {
        KeepArg::Here => Keep::Here,
        KeepArg::There => Keep::There,
        KeepArg::Both => Keep::Both,
    };
    let _: Value = client
        .post(
            "/v1/conflicts/resolve",
            Some(&ResolveRequest {
                item: item.clone(),
                keep,
            }),
        )
        .await?;
    context.ui.answer(
        &json!({ "item": item, "keep": keep, "resolved": true }),
        |ui| {
            ui.say(&format!("settled {}", clean(&item)));
        },
    );
    Ok(End::Done)
}

fn list(context: &Context, conflicts: &[ConflictInfo]) {
    let ui = context.ui;
    if conflicts.is_empty() {
        ui.say("no conflict");
        return;
    }
    for conflict in conflicts {
        ui.say(&format!(
            "{}:{}",
            clean(&conflict.space),
            clean(&conflict.path)
        ));
        let rows: Vec<_> = conflict
            .versions
            .iter()
            .map(|version| {
                let mtime = version
                    .mtime
                    .map_or_else(|| "-".into(), |time| words::ago(time, words::now()));
                let place = version
                    .copy_path
                    .as_deref()
                    .map_or_else(|| "under its name".into(), clean);
                vec![
                    format!("  from {}", clean(&version.device)),
                    words::size(version.size),
                    mtime,
                    place,
                ]
            })
            .collect();
        words::table(&rows).iter().for_each(|line| ui.say(line));
    }
    ui.hint(&format!(
        "\nSettle one: {}",
        context.next("conflicts resolve SPACE:PATH --keep here|there|both")
    ));
}
