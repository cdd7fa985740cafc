//! `mesh trash`.

use ownmesh_node::command::{
    CommandError, EmptyReply, EmptyRequest, Kind, RestoreReply, RestoreRequest, TrashEntry,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Context;
use crate::client::{Client, segment};
use crate::error::{End, Result};
use crate::ui::clean;
use crate::{paths, start, times, words};

/// List what was replaced or deleted here, take something back, or empty the trash
///
/// What another device deletes or replaces goes to the trash of this one, .mesh/trash in the space's folder, and stays there for 30 days.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// This space only [default: all that this device takes part in]
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Take something out of the trash; what stands there already is never written over
    Restore {
        /// SPACE:PATH or a path on the disk (of several versions the last), or the name that `mesh trash --json` shows
        #[arg(value_name = "ITEM")]
        item: String,

        /// Where to, in the same space: SPACE:PATH, or a path from the current directory (outside of all spaces from the root of the item's
        /// own) [default: where it stood]
        #[arg(long, value_name = "PATH")]
        to: Option<String>,
    },
    /// Remove for good what lies in the trash of this device
    Empty {
        /// This space only
        #[arg(long, value_name = "SPACE")]
        space: Option<String>,

        /// Only what came there longer ago: 2h, 3d, or a moment
        #[arg(long, value_name = "TIME")]
        older_than: Option<String>,

        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct Answer {
    trash: Vec<TrashEntry>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    match args.action {
        None => list(context, &client, args.space).await,
        Some(Action::Restore { item, to }) => {
            let to = match &to {
                Some(to) => Some(paths::target(&client, to).await?),
                None => None,
            };
            let reply = restore(&client, &item, to).await?;
            context.ui.answer(&json!(reply), |ui| {
                ui.say(&format!(
                    "restored {}:{}",
                    clean(&reply.space),
                    clean(&reply.path)
                ));
            });
            Ok(End::Done)
        }
        Some(Action::Empty {
            space,
            older_than,
            yes,
        }) => {
            let request = EmptyRequest {
                space: space.or(args.space),
                before: older_than.as_deref().map(times::past).transpose()?,
                confirm: false,
            };
            empty(context, &client, request, yes).await
        }
    }
}

/// By `SPACE:PATH`, name in the trash, or path; a word that is no name there is a path, though nothing stands at it.
async fn restore(client: &Client, item: &str, to: Option<String>) -> Result<RestoreReply> {
    let ask = |item: String| {
        let to = to.clone();
        async move {
            let request = RestoreRequest { item, to };
            client
                .post::<RestoreReply>("/v1/trash/restore", Some(&request))
                .await
        }
    };
    let (first, path) = (paths::item_or_name(item)?, paths::item(item)?);
    match ask(first.clone()).await {
        Err(error) if error.kind == Kind::NotFound && path != first => {
            ask(path).await.map_err(|second| match second.kind {
                Kind::NotFound => error,
                _ => second,
            })
        }
        done => done,
    }
}

async fn list(context: &Context, client: &Client, space: Option<String>) -> Result<End> {
    let query = space.map_or_else(String::new, |s| format!("?space={}", segment(&s)));
    let answer: Answer = client.get(&format!("/v1/trash{query}")).await?;
    context.ui.answer(&answer, |ui| {
        if answer.trash.is_empty() {
            ui.say("the trash is empty");
            return;
        }
        let rows: Vec<_> = answer.trash.iter().map(row).collect();
        words::table(&rows).iter().for_each(|line| ui.say(line));
        let bytes = answer.trash.iter().map(|e| e.size).sum();
        ui.hint(&format!(
            "\n{}, {}. Take one back: {}",
            words::count(answer.trash.len() as u64, "file"),
            words::size(bytes),
            context.next("trash restore SPACE:PATH")
        ));
    });
    Ok(End::Done)
}

fn row(entry: &TrashEntry) -> Vec<String> {
    let why = match (entry.why.as_str(), &entry.device) {
        ("set-aside", _) => "set aside here".to_owned(),
        (why, Some(device)) => format!("{why} by {}", clean(device)),
        (why, None) => why.to_owned(),
    };
    vec![
        words::ago(entry.at, words::now()),
        format!("{:>7}", words::size(entry.size)),
        why,
        format!("{}:{}", clean(&entry.space), clean(&entry.path)),
    ]
}

async fn empty(
    context: &Context,
    client: &Client,
    mut request: EmptyRequest,
    yes: bool,
) -> Result<End> {
    let preview: EmptyReply = client.post("/v1/trash/empty", Some(&request)).await?;
    let what = |reply: &EmptyReply| {
        format!(
            "{}, {}",
            words::count(reply.entries, "file"),
            words::size(reply.bytes)
        )
    };
    let mut done = preview.clone();
    if preview.entries > 0 {
        context.ui.hint(&format!(
            "{} would be removed for good. Other devices' trash is not touched.",
            what(&preview)
        ));
        if !yes && !context.ui.confirm("Remove them?", "--yes")? {
            return Err(CommandError::refused("nothing was removed"));
        }
        request.confirm = true;
        done = client.post("/v1/trash/empty", Some(&request)).await?;
    }
    context.ui.answer(&json!(done), |ui| {
        ui.say(&match done.entries {
            0 => "nothing to remove".to_owned(),
            _ => format!("removed {}", what(&done)),
        });
    });
    Ok(End::Done)
}
