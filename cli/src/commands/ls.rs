//! `mesh ls`.

use ownmesh_node::command::ItemsReply;
use ownmesh_node::status::{ItemInfo, ItemKind, Residency};
use serde_json::json;

use super::{Context, spaces};
use crate::client::segment;
use crate::error::{End, Result};
use crate::ui::clean;
use crate::{start, words};

/// List the items of a space, also those that are not on this disk
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The space, and a path below its root; without it the spaces are listed
    #[arg(value_name = "SPACE[:PATH]")]
    place: Option<String>,

    /// With mode, size, time and residency
    #[arg(short, long)]
    long: bool,

    /// With everything below
    #[arg(short = 'R', long)]
    recursive: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let Some(place) = args.place else {
        return spaces::run(context, spaces::Args {}).await;
    };
    let (space, path) = place.split_once(':').unwrap_or((&place, ""));
    let path = path.trim_matches('/');
    let client = start::node(context).await?;
    let url = format!(
        "/v1/spaces/{}/items?path={}&recursive={}",
        segment(space),
        segment(path),
        u8::from(args.recursive)
    );
    let reply: ItemsReply = client.get(&url).await?;
    context.ui.answer(&json!(reply), |ui| {
        let shown = |item: &ItemInfo| {
            let mut name = clean(&item.path);
            if let Some(here) = &item.local_name {
                name = format!("{name} (here: {})", clean(here));
            }
            match item.kind {
                ItemKind::Directory => format!("{name}/"),
                ItemKind::Symlink => {
                    format!("{name} -> {}", clean(item.target.as_deref().unwrap_or("?")))
                }
                ItemKind::File => name,
            }
        };
        if args.long {
            let rows: Vec<_> = reply
                .items
                .iter()
                .map(|item| row(item, shown(item)))
                .collect();
            words::table(&rows).iter().for_each(|line| ui.say(line));
        } else {
            reply.items.iter().for_each(|item| ui.say(&shown(item)));
        }
    });
    Ok(End::Done)
}

fn row(item: &ItemInfo, name: String) -> Vec<String> {
    let residency = match item.residency {
        _ if item.ignored => "ignored",
        Residency::Local => "here",
        Residency::Cached => "cached",
        Residency::Remote => "away",
    };
    let mode = item
        .mode
        .map_or_else(|| "-".into(), |mode| format!("{:04o}", mode & 0o7777));
    let size = if item.kind == ItemKind::File {
        words::size(item.size)
    } else {
        "-".into()
    };
    let mtime = item.mtime.map_or_else(
        || "-".into(),
        |time| {
            time.to_string()
                .chars()
                .take(16)
                .collect::<String>()
                .replace('T', " ")
        },
    );
    let conflict = if item.conflict { "  conflict" } else { "" };
    vec![
        mode,
        format!("{size:>7}"),
        mtime,
        residency.into(),
        format!("{name}{conflict}"),
    ]
}
