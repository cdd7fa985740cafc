//! `mesh log`.

use ownmesh_node::command::{CommandError, LogEntry, LogVerified};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Context;
use crate::client::segment;
use crate::error::{End, Result};
use crate::ui::clean;
use crate::{start, times, words};

/// Show what happened on this device: who was let in or refused, spaces, conflicts, stops, undos
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// About this device only
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// Of this kind only
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,

    /// From then on: 2h, 3d, or a moment
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Check that no entry was edited, deleted, moved or cut off
    Verify,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    entries: Vec<LogEntry>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    if args.action.is_some() {
        let verdict: LogVerified = client.get("/v1/log/verify").await?;
        if let Some((seq, how)) = wrong(&verdict) {
            return Err(CommandError::failed(format!(
                "the operation log was tampered with: entry {seq}: {how}"
            ))
            .hint("entries before it are as they were written")
            .about(seq.to_string()));
        }
        context.ui.answer(&json!(verdict), |ui| {
            ui.say(&format!(
                "whole: entries {} to {} are as they were written",
                verdict.first, verdict.last
            ));
        });
        return Ok(End::Done);
    }
    let since = args.since.as_deref().map(times::past).transpose()?;
    let query = [
        ("device", args.device),
        ("kind", args.kind),
        ("since", since.map(|t| t.to_string())),
    ];
    let query: Vec<String> = query
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", segment(&value?))))
        .collect();
    let answer: Answer = client.get(&format!("/v1/log?{}", query.join("&"))).await?;
    context.ui.answer(&answer, |ui| {
        let row = |e: &LogEntry| {
            vec![
                e.seq.to_string(),
                times::minute(e.at),
                clean(&e.kind),
                clean(&e.message),
            ]
        };
        let rows: Vec<_> = answer.entries.iter().map(row).collect();
        words::table(&rows).iter().for_each(|line| ui.say(line));
    });
    let verdict: LogVerified = client.get("/v1/log/verify").await?;
    if let Some((seq, how)) = wrong(&verdict) {
        context.ui.note(&format!(
            "The log was tampered with: entry {seq}: {}. Entries before it are as they were written.",
            clean(how)
        ));
    }
    Ok(End::Done)
}

/// The first entry that is wrong, and what is wrong with it.
fn wrong(verdict: &LogVerified) -> Option<(u64, &str)> {
    let how = verdict.wrong.as_deref().unwrap_or_default();
    verdict.seq.filter(|_| !verdict.whole).map(|seq| (seq, how))
}
