//! `mesh history`.

use ownmesh_node::command::{HistoryReply, RestoreReply, RevertRequest, Version};
use serde_json::json;

use super::Context;
use crate::client::segment;
use crate::error::{End, Result};
use crate::ui::clean;
use crate::{paths, start, times, words};

/// Show what happened to a file, directory or link, newest first, or bring a version back
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// SPACE:PATH, or a path on the disk; also of what is deleted
    #[arg(value_name = "PATH")]
    path: String,

    /// Bring this version back, as an edit
    #[arg(long, value_name = "VERSION")]
    restore: Option<String>,

    /// Restore it as a new file instead of over the one that stands there: SPACE:PATH, or a path from the current directory (outside of all
    /// spaces from the root of the item's own)
    #[arg(long, value_name = "PATH", requires = "restore")]
    to: Option<String>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let path = paths::item(&args.path)?;
    if let Some(version) = args.restore {
        let to = match &args.to {
            Some(to) => Some(paths::target(&client, to).await?),
            None => None,
        };
        let request = RevertRequest { path, version, to };
        let spinner = context.ui.spinner("gathering the bytes");
        let reply = client.post("/v1/history/restore", Some(&request)).await;
        spinner.finish_and_clear();
        let reply: RestoreReply = reply?;
        context.ui.answer(&json!(reply), |ui| {
            ui.say(&format!(
                "{}:{} is version {} again",
                clean(&reply.space),
                clean(&reply.path),
                clean(&request.version)
            ));
        });
        return Ok(End::Done);
    }
    let url = format!("/v1/history?path={}", segment(&path));
    let reply: HistoryReply = client.get(&url).await?;
    context.ui.answer(&json!(reply), |ui| {
        let rows: Vec<_> = reply.versions.iter().map(row).collect();
        words::table(&rows).iter().for_each(|line| ui.say(line));
        ui.hint(&format!(
            "\nTimes are those of the devices' own clocks. Bring one back: {}",
            context.next("history PATH --restore VERSION")
        ));
    });
    Ok(End::Done)
}

fn row(version: &Version) -> Vec<String> {
    let content = match version.content.as_str() {
        "here" => "here",
        "trash" => "in the trash here",
        "elsewhere" => "not here",
        _ => "",
    };
    let mut what = version.what.join(", ");
    if let Some(from) = &version.from {
        what = format!("{what} from {}", clean(from));
    }
    vec![
        version.version.clone(),
        version.at.map_or_else(|| "-".into(), times::minute),
        clean(&version.device),
        version.size.map_or_else(String::new, words::size),
        content.to_owned(),
        what,
    ]
}
