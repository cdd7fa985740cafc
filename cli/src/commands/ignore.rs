//! `mesh ignore`.

use std::path::{Component, Path, PathBuf};

use ownmesh_node::command::CommandError;
use ownmesh_node::command::ignore::{
    IgnoreChange, IgnoreChanged, IgnoreReply, IgnoreRule, IgnoreTest, IgnoreTested, IgnoredItems,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Context;
use crate::client::{Client, segment};
use crate::error::{End, Result};
use crate::ui::{Ui, clean};
use crate::{start, words};

/// Say which files of a space mesh leaves alone: neither sent nor received, and never deleted
///
/// Patterns are git's. Rules for all devices stand in the file .meshignore at the space's root, which travels like any other file; those of
/// this device alone (--local) in .mesh/ignore. Both can be edited by hand. What is in the mesh already and becomes ignored stays as it is
/// on every device. Without a command the rules are listed.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    /// The space [default: the one whose folder this is, or the only one]
    #[arg(long, global = true, value_name = "NAME")]
    space: Option<String>,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// List the rules in force
    List {
        /// The space
        #[arg(value_name = "SPACE")]
        name: Option<String>,
    },
    /// Add a rule; says what travels no more
    Add {
        /// The pattern: name, dir/, *.log, /only/at/the/root, !exception
        #[arg(value_name = "PATTERN")]
        pattern: String,

        /// For this device alone
        #[arg(long)]
        local: bool,
    },
    /// Take a rule out; what it kept back is compared again
    Remove {
        /// The pattern as it stands in the file
        #[arg(value_name = "PATTERN", allow_hyphen_values = true)]
        pattern: String,

        /// Of the rules of this device alone
        #[arg(long)]
        local: bool,
    },
    /// Say which rule decides about a path, and what a pattern would leave out; changes nothing
    Test {
        /// A path in the space, or a pattern
        #[arg(value_name = "PATH|PATTERN")]
        what: String,

        /// As a rule of this device alone
        #[arg(long)]
        local: bool,
    },
}

/// As much of a space as is needed to find it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Joined {
    name: String,
    joined: bool,
    path: Option<String>,
}

#[derive(Deserialize)]
struct Spaces {
    spaces: Vec<Joined>,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let named = match &args.action {
        Some(Action::List { name: Some(name) }) => Some(name.clone()),
        _ => args.space,
    };
    let space = space(&client, named).await?;
    let url = format!("/v1/spaces/{}/ignore", segment(&space.name));
    match args.action {
        None | Some(Action::List { .. }) => {
            let reply: IgnoreReply = client.get(&url).await?;
            context.ui.answer(&json!(reply), |ui| list(ui, &reply));
        }
        Some(Action::Add { pattern, local }) => {
            let remove = false;
            change(context, &client, &url, pattern, local, remove).await?;
        }
        Some(Action::Remove { pattern, local }) => {
            change(context, &client, &url, pattern, local, true).await?;
        }
        Some(Action::Test { what, local }) => {
            let path = inside(&space, &what);
            let pattern = (!Path::new(&what).is_absolute()).then(|| what.clone());
            let request = IgnoreTest {
                path,
                pattern,
                device: local,
            };
            let url = format!("{url}/test");
            let reply: IgnoreTested = client.post(&url, Some(&request)).await?;
            context
                .ui
                .answer(&json!(reply), |ui| tested(ui, &what, &reply));
        }
    }
    Ok(End::Done)
}

/// The space that is named, or the one that the current directory is in, or the only one.
async fn space(client: &Client, named: Option<String>) -> Result<Joined> {
    let all: Spaces = client.get("/v1/spaces").await?;
    let joined: Vec<Joined> = all.spaces.into_iter().filter(|s| s.joined).collect();
    if let Some(name) = named {
        let found = joined.into_iter().find(|s| s.name == name);
        // The node says what there is instead.
        return Ok(found.unwrap_or(Joined {
            name,
            joined: false,
            path: None,
        }));
    }
    let here = std::env::current_dir().and_then(|dir| dir.canonicalize());
    if let Ok(here) = here
        && let Some(found) = joined
            .iter()
            .find(|s| s.path.as_ref().is_some_and(|p| here.starts_with(p)))
    {
        return Ok(found.clone());
    }
    match joined.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(CommandError::usage("this device has no spaces yet")
            .hint("make one with: mesh add PATH")),
        several => {
            let names: Vec<_> = several.iter().map(|s| clean(&s.name)).collect();
            Err(CommandError::usage("which space?")
                .hint(format!("--space NAME, one of: {}", names.join(", "))))
        }
    }
}

/// A path as people type it, from the space's root: absolute, from the current directory if that is in
/// the space, or from the root.
fn inside(space: &Joined, what: &str) -> Option<String> {
    let slash = if what.ends_with('/') { "/" } else { "" };
    let root = PathBuf::from(space.path.as_deref()?);
    let typed = Path::new(what);
    let dir = std::env::current_dir()
        .and_then(|dir| dir.canonicalize())
        .ok()
        .filter(|dir| !typed.is_absolute() && dir.starts_with(&root));
    let full = match dir {
        Some(dir) => dir.join(typed),
        None => root.join(typed),
    };
    let mut flat = PathBuf::new();
    for part in full.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                flat.pop();
            }
            part => flat.push(part),
        }
    }
    let below = flat.strip_prefix(&root).ok()?.to_str()?;
    let usable = !below.is_empty() && !below.starts_with('!');
    usable.then(|| format!("{below}{slash}"))
}

async fn change(
    context: &Context,
    client: &Client,
    url: &str,
    pattern: String,
    device: bool,
    remove: bool,
) -> Result<()> {
    let spinner = context.ui.spinner("looking at the folder");
    let request = IgnoreChange {
        pattern: pattern.clone(),
        device,
        remove,
    };
    let reply = client.post::<IgnoreChanged>(url, Some(&request)).await;
    spinner.finish_and_clear();
    let reply = reply?;
    context.ui.answer(&json!(reply), |ui| {
        let (pattern, file) = (clean(&pattern), clean(&reply.file));
        ui.say(&match (reply.changed, remove) {
            (false, _) => format!("{file} has the rule {pattern} already"),
            (true, remove) => format!("{} ({file})", holds(&pattern, remove)),
        });
        if reply.stops.items > 0 {
            ui.say(&format!(
                "  neither sent nor received: {}",
                sum(&reply.stops)
            ));
            ui.hint("  They stay in the mesh and on every device as they are now.");
        }
        if reply.resumes.items > 0 {
            ui.say(&format!("  compared again: {}", sum(&reply.resumes)));
        }
    });
    Ok(())
}

/// What holds once a rule stands in its file, or does not any more.
fn holds(pattern: &str, removed: bool) -> String {
    match (pattern.strip_prefix('!'), removed) {
        (None, false) => format!("{pattern} is ignored from now on"),
        (None, true) => format!("{pattern} is not ignored any more"),
        (Some(what), false) => {
            format!("{what} is an exception from now on: the rules above do not ignore it")
        }
        (Some(what), true) => format!("{what} is no exception any more: the other rules decide"),
    }
}

fn list(ui: Ui, reply: &IgnoreReply) {
    if reply.rules.is_empty() {
        ui.say(&format!("nothing is ignored in {}", clean(&reply.space)));
    }
    let rows: Vec<_> = reply
        .rules
        .iter()
        .map(|rule| vec![clean(&rule.pattern), place(rule)])
        .collect();
    words::table(&rows).iter().for_each(|line| ui.say(line));
    for problem in &reply.problems {
        ui.say(&format!("! {}", clean(problem)));
    }
    if reply.held_items > 0 {
        let s = if reply.held_items == 1 { "" } else { "s" };
        ui.hint(&format!(
            "{} item{s} of the mesh left as they are on this device",
            reply.held_items
        ));
    }
}

fn place(rule: &IgnoreRule) -> String {
    format!("{}:{}", clean(&rule.file), rule.line)
}

fn tested(ui: Ui, what: &str, reply: &IgnoreTested) {
    if let Some(path) = &reply.path {
        let name = clean(&path.path);
        let there = if path.exists {
            ""
        } else {
            " (nothing is there)"
        };
        let by = path.rule.as_ref().map(|rule| {
            let at = path.at.as_deref().filter(|at| *at != path.path);
            let at = at.map_or_else(String::new, |at| format!(", for {}", clean(at)));
            format!("{} in {}{at}", clean(&rule.pattern), place(rule))
        });
        ui.say(&match (path.ignored, by) {
            (true, Some(by)) => format!("{name}{there}: ignored by {by}"),
            (false, Some(by)) => format!("{name}{there}: not ignored, by the exception {by}"),
            (_, None) => format!("{name}{there}: not ignored, no rule fits"),
        });
    }
    if let Some(stops) = &reply.stops {
        let what = clean(what);
        if stops.items == 0 {
            ui.say(&format!("as a new rule, {what} would change nothing"));
        } else {
            ui.say(&format!(
                "as a new rule, {what} would leave out {}",
                sum(stops)
            ));
        }
    }
}

/// "12 items, 3 MB: node_modules/, a.log and 4 more"
fn sum(found: &IgnoredItems) -> String {
    let s = if found.items == 1 { "" } else { "s" };
    let names: Vec<String> = found.names.iter().map(|n| clean(n)).collect();
    let shown = names.join(", ");
    let more = if found.names.len() >= 8 { ", ..." } else { "" };
    format!(
        "{} item{s}, {}: {shown}{more}",
        found.items,
        words::size(found.bytes)
    )
}
