//! `mesh conflicts`.

use ownmesh_node::command::{Keep, ResolveRequest};
use ownmesh_node::status::{ConflictInfo, DiffKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Context;
use crate::client::{Client, segment};
use crate::error::{End, Result};
use crate::ui::{Ui, clean};
use crate::{paths, start, words};

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
    /// Show how the copies differ from the file, as diff -u does
    ///
    /// Compares what stands on this disk: text up to 1 MiB. What is no text, too long or not here yet is called so.
    Diff {
        /// One conflict: SPACE:PATH, a path on the disk, or the id that `mesh conflicts --json` shows [default: all]
        #[arg(value_name = "ITEM")]
        item: Option<String>,
    },
    /// Settle a conflict, for all devices
    Resolve {
        /// SPACE:PATH, a path on the disk, or the id that `mesh conflicts --json` shows
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
    let (item, keep) = match args.action {
        Some(Action::Resolve { item, keep }) => (paths::item_or_name(&item)?, keep),
        Some(Action::Diff { item }) => return diff(context, &client, item.as_deref()).await,
        None => {
            let answer: Answer = client.get("/v1/conflicts").await?;
            context
                .ui
                .answer(&answer, |_| list(context, &answer.conflicts));
            return Ok(End::Done);
        }
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

async fn diff(context: &Context, client: &Client, item: Option<&str>) -> Result<End> {
    let item = item.map(paths::item_or_name).transpose()?;
    let item = item.map_or_else(String::new, |item| format!("&item={}", segment(&item)));
    let answer: Answer = client.get(&format!("/v1/conflicts?diff=1{item}")).await?;
    context.ui.answer(&answer, |ui| {
        if answer.conflicts.is_empty() {
            ui.say("no conflict");
        }
        for conflict in &answer.conflicts {
            compared(ui, conflict);
        }
    });
    Ok(End::Done)
}

fn compared(ui: Ui, conflict: &ConflictInfo) {
    ui.say(&format!(
        "{}:{}",
        clean(&conflict.space),
        clean(&conflict.path)
    ));
    for version in &conflict.versions {
        let Some(diff) = &version.diff else { continue };
        let from = clean(&version.device);
        let copy = version.copy_path.as_deref().map(clean);
        let what = copy.map_or_else(
            || format!("the version from {from}"),
            |copy| format!("{copy}, from {from}"),
        );
        match (diff.kind, &diff.text) {
            (DiffKind::Text, Some(text)) => {
                for line in text.lines() {
                    // A tab does no harm.
                    let parts: Vec<_> = line.split('\t').map(clean).collect();
                    ui.say(&parts.join("\t"));
                }
            }
            (DiffKind::Same, _) => ui.say(&format!("  {what}: the same bytes")),
            (DiffKind::Binary, _) => ui.say(&format!("  {what}: one of the two is no text")),
            (DiffKind::TooLarge, _) => ui.say(&format!("  {what}: too long to compare")),
            (DiffKind::Text | DiffKind::NotHere, _) => {
                ui.say(&format!("  {what}: one of the two is not here yet"));
            }
        }
    }
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
        "\nHow they differ: {}\nSettle one: {}",
        context.next("conflicts diff SPACE:PATH"),
        context.next("conflicts resolve SPACE:PATH --keep here|there|both")
    ));
}
