//! `mesh undo`.

use ownmesh_node::command::{
    CommandError, Kind, UndoItem, UndoLeft, UndoLeftOut, UndoReply, UndoRequest,
};
use serde::Deserialize;
use serde_json::json;

use super::Context;
use crate::client::Client;
use crate::error::{End, Result};
use crate::ui::{Ui, clean};
use crate::{paths, start, times, words};

/// Lines of each kind that a preview shows.
const SHOWN: usize = 20;

/// Undo what a device did since some time; what others changed later stays
///
/// Deleted files return, edited ones are what they were, renamed ones go back, and what was made since goes to the trash, on all devices. It is
/// shown first, and can itself be undone like any other change of this device. Ends with 7 if the bytes of something could not be had, or a
/// space was left out as it is paused or its folder away; with 4 if no space could be looked at.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Only this and what is below it: SPACE:PATH, a space, or a path on the disk
    #[arg(value_name = "PATH")]
    path: Option<String>,

    /// What this device did [default: every device]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// From when on, by that device's clock: 30m, 2h, 3d, or a moment
    #[arg(long, value_name = "TIME", default_value = "1h")]
    since: String,

    /// Only show it
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let mut request = UndoRequest {
        device: args.device,
        since: Some(times::past(&args.since)?),
        path: match args.path.as_deref() {
            Some(path) => Some(place(&client, path).await?),
            None => None,
        },
        confirm: false,
    };
    let spinner = context.ui.spinner("looking at what was changed");
    let preview = client.post("/v1/undo", Some(&request)).await;
    spinner.finish_and_clear();
    let preview: UndoReply = preview?;
    if preview.items.is_empty() {
        context.ui.answer(&json!(preview), |ui| {
            let elsewhere = if preview.left_out.is_empty() {
                ""
            } else {
                " in the other spaces"
            };
            ui.say(&format!("there is nothing to undo{elsewhere}"));
            list_left(ui, "stays as it is", &preview.left);
            list_left_out(ui, &preview.left_out);
        });
        return Ok(end(&preview));
    }
    if !context.ui.json() {
        show(context.ui, &preview);
    }
    if args.dry_run {
        context.ui.answer(&json!(preview), |_| {});
        return Ok(end(&preview));
    }
    let question = format!(
        "Undo {} ({} stay as they are)?",
        words::count(preview.items.len() as u64, "item"),
        preview.left.len()
    );
    if !args.yes && !context.ui.confirm(&question, "--yes")? {
        return Err(CommandError::refused("nothing was changed"));
    }
    request.confirm = true;
    let spinner = context.ui.spinner("gathering the bytes");
    let done = client.post("/v1/undo", Some(&request)).await;
    spinner.finish_and_clear();
    let done: UndoReply = done?;
    context.ui.answer(&json!(done), |ui| {
        ui.say(&format!(
            "undone: {}{}",
            words::count(done.items.len() as u64, "item"),
            match done.missing.len() {
                0 => String::new(),
                n => format!("; {n} could not be had"),
            }
        ));
        list_left(ui, "not undone", &done.missing);
        list_left_out(ui, &done.left_out);
        if !done.items.is_empty() {
            ui.hint(&format!(
                "\nThe other devices follow; {} waits for them.",
                context.next("wait")
            ));
        }
    });
    Ok(end(&done))
}

/// A space by its name, else an item: also one that stands there no more.
async fn place(client: &Client, typed: &str) -> Result<String> {
    let known = paths::item_or_name(typed)?;
    if known != typed || paths::split(typed).is_some() {
        return Ok(known);
    }
    let spaces: Spaces = client.get("/v1/spaces").await?;
    if spaces.spaces.iter().any(|space| space.name == typed) {
        Ok(known)
    } else {
        paths::item(typed)
    }
}

#[derive(Deserialize)]
struct Spaces {
    spaces: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// What could not be had, or looked at, may be undone later: a script has to know.
fn end(reply: &UndoReply) -> End {
    let lacks = reply.done && !reply.missing.is_empty();
    if lacks || !reply.left_out.is_empty() {
        End::Answered(Kind::NotFinished)
    } else {
        End::Done
    }
}

fn show(ui: Ui, preview: &UndoReply) {
    let kinds = [
        ("returned", "deleted, would return"),
        ("content", "would be what it was"),
        ("renamed", "would go back to its name"),
        ("mode", "would get its mode back"),
        ("touched", "would get its time back"),
        ("removed", "made since, would go to the trash"),
    ];
    for (kind, words) in kinds {
        let items: Vec<&UndoItem> = preview.items.iter().filter(|i| i.what == kind).collect();
        if items.is_empty() {
            continue;
        }
        ui.note(&format!(
            "{} {words}",
            words::count(items.len() as u64, "item")
        ));
        for item in items.iter().take(SHOWN) {
            let to = item.to.as_ref();
            let to = to.map_or_else(String::new, |to| format!(" -> {}", clean(to)));
            ui.note(&format!(
                "  {}:{}{to}",
                clean(&item.space),
                clean(&item.path)
            ));
        }
        if items.len() > SHOWN {
            ui.note(&format!("  and {} more", items.len() - SHOWN));
        }
    }
    list_left(ui, "would stay as it is", &preview.left);
    list_left_out(ui, &preview.left_out);
    if !preview.missing.is_empty() {
        ui.note(&format!(
            "{} of these have no bytes here; they would be asked for on the other devices",
            preview.missing.len()
        ));
    }
}

fn list_left(ui: Ui, words: &str, left: &[UndoLeft]) {
    for one in left.iter().take(SHOWN) {
        let may = if one.may_have.is_empty() {
            String::new()
        } else {
            format!("; may be on {}", clean(&one.may_have.join(", ")))
        };
        ui.note(&format!(
            "{words}: {}:{}, {}{may}",
            clean(&one.space),
            clean(&one.path),
            clean(&one.why)
        ));
    }
    if left.len() > SHOWN {
        ui.note(&format!("and {} more", left.len() - SHOWN));
    }
}

fn list_left_out(ui: Ui, left: &[UndoLeftOut]) {
    for one in left {
        ui.note(&format!(
            "the space {} was left out: {}",
            clean(&one.space),
            clean(&one.why)
        ));
        if !one.next.is_empty() {
            ui.note(&format!("  {}", clean(&one.next)));
        }
    }
}
