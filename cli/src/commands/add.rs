//! `mesh add`.

use std::path::{Path, PathBuf};

use ownmesh_node::command::{AddReply, AddRequest, CommandError, MODES};

mod defaults;

use super::Context;
use crate::client::Client;
use crate::error::{End, Result, file_error};
use crate::start;
use crate::ui::clean;

/// Keep a folder in sync: make a space of it, or join the space of that name
///
/// On the first device it makes the space; on every other one, the same command with the same name joins it. Joining with a folder that is
/// not empty shows what both sides hold and needs --merge.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The folder
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// The space's name [default: the folder's]
    #[arg(long, value_name = "NAME")]
    space: Option<String>,

    /// How this device takes part
    #[arg(long, value_name = "MODE", value_parser = MODES)]
    mode: Option<String>,

    /// Merge a folder that is not empty with what the space holds: nothing is lost, what differs becomes conflicts
    #[arg(long)]
    merge: bool,

    /// Leave out what tools make again (node_modules, target, .venv, caches), if the space is new: writes .meshignore
    #[arg(long)]
    ignore_defaults: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let path = args
        .path
        .canonicalize()
        .map_err(|error| file_error("find", &args.path, &error))?;
    if !path.is_dir() {
        return Err(CommandError::usage(format!(
            "{} is not a folder",
            path.display()
        )));
    }
    let Some(path) = path.to_str() else {
        return Err(CommandError::usage(format!(
            "{} has a name that is not UTF-8",
            path.display()
        )));
    };
    let client = start::node(context).await?;
    let named = args.space.is_some();
    let offer = offer(context, &client, &args, Path::new(path)).await?;
    let request = AddRequest {
        path: path.to_owned(),
        name: args.space,
        mode: args.mode,
        merge: args.merge,
    };
    let spinner = context.ui.spinner("looking at the folder");
    let reply = client.post::<AddReply>("/v1/spaces", Some(&request)).await;
    spinner.finish_and_clear();
    let reply = reply.map_err(|error| {
        if offer.written {
            // It was made for a space that there is not.
            drop(std::fs::remove_file(
                Path::new(path).join(ownmesh_node::disk::rules::SHARED),
            ));
        }
        if error.preview.is_some() && error.hint.is_empty() {
            error.hint("--merge merges both")
        } else {
            error
        }
    })?;
    let others = if reply.joined || !named {
        Vec::new()
    } else {
        others(&client, &reply.space).await
    };
    context.ui.answer(&reply, |ui| {
        let verb = if reply.joined { "joined" } else { "made" };
        ui.say(&format!(
            "{verb} space {} in {}",
            clean(&reply.space),
            clean(&reply.path)
        ));
        if let Some(merged) = &reply.merged {
            ui.say(&format!(
                "  equal {}, differing {} (now conflicts), only here {}, only there {}",
                merged.equal, merged.differing, merged.only_here, merged.only_there
            ));
        }
        let patterns: Vec<_> = offer.patterns.iter().map(|p| clean(p)).collect();
        if offer.written {
            ui.say(&format!(
                "  left out: {} (.meshignore)",
                patterns.join(", ")
            ));
        } else if !patterns.is_empty() {
            ui.hint(&format!(
                "  Tools make these again; they can be left out with mesh ignore add: {}",
                patterns.join(", ")
            ));
        }
        if !others.is_empty() {
            ui.hint(&format!(
                "  No device had a space of this name; the mesh has {}",
                others.join(", ")
            ));
        }
        if !reply.joined {
            ui.hint(&format!(
                "  On another device: mesh add PATH --space {}",
                clean(&reply.space)
            ));
        }
    });
    Ok(End::Done)
}

/// What could be left out of a new space, and whether a rule file was written for it.
struct Offer {
    patterns: Vec<String>,
    written: bool,
}

/// Offers to leave out what tools make again. A space that the mesh has brings its own rules.
async fn offer(context: &Context, client: &Client, args: &Args, path: &Path) -> Result<Offer> {
    let own = path.file_name().and_then(|name| name.to_str());
    let name = args.space.as_deref().or(own).unwrap_or_default();
    let nothing = Offer {
        patterns: Vec::new(),
        written: false,
    };
    let all = client.get::<serde_json::Value>("/v1/spaces").await?;
    let mut known = all["spaces"].as_array().into_iter().flatten();
    let rules = path.join(ownmesh_node::disk::rules::SHARED);
    if known.any(|space| space["name"] == name) || rules.symlink_metadata().is_ok() {
        return Ok(nothing);
    }
    let patterns = defaults::found(path);
    if patterns.is_empty() {
        return Ok(nothing);
    }
    let agreed = args.ignore_defaults
        || context.ui.can_ask()
            && context.ui.confirm(
                &format!(
                    "Tools make these again: {}. Leave them out?",
                    clean(&patterns.join(", "))
                ),
                "--ignore-defaults",
            )?;
    let written = agreed
        && defaults::write(path, &patterns).map_err(|error| file_error("write", &rules, &error))?;
    Ok(Offer { patterns, written })
}

/// The other spaces of the mesh: somebody who mistyped a name sees it here.
async fn others(client: &Client, made: &str) -> Vec<String> {
    let all = client.get::<serde_json::Value>("/v1/spaces").await;
    let all = all.unwrap_or_default();
    let names = all["spaces"].as_array().into_iter().flatten();
    names
        .filter_map(|space| space["name"].as_str())
        .filter(|name| *name != made)
        .map(clean)
        .map(|name| name.to_string())
        .collect()
}
