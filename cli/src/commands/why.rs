//! `mesh why`.

use std::path::{Path, PathBuf};

use ownmesh_node::command::CommandError;
use ownmesh_node::why::Why;

use super::Context;
use crate::client::segment;
use crate::error::{End, Result, file_error};
use crate::start;
use crate::ui::{Ui, clean};

/// Tell everything the node knows about one path, and what happens next
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A path on the disk, there or not, or SPACE:PATH
    #[arg(value_name = "PATH")]
    path: String,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let query = match split(&args.path) {
        Some((space, path)) => format!("space={}&path={}", segment(space), segment(path)),
        None => {
            let path = absolute(Path::new(&args.path))?;
            let path = path.to_str().ok_or_else(|| {
                CommandError::usage(format!("{} is not UTF-8: it cannot travel", path.display()))
            })?;
            format!("path={}", segment(path))
        }
    };
    let why: Why = client.get(&format!("/v1/why?{query}")).await?;
    context.ui.answer(&why, |ui| show(ui, &why));
    Ok(End::Done)
}

/// `SPACE:PATH`, where no file of that very name is there.
fn split(text: &str) -> Option<(&str, &str)> {
    let (space, path) = text.split_once(':')?;
    let named = !space.is_empty() && !space.contains('/');
    (named && Path::new(text).symlink_metadata().is_err()).then_some((space, path))
}

/// The path as the node knows it: links followed up to the last name, which may be a link or not there.
fn absolute(path: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(path).map_err(|error| file_error("find", path, &error))?;
    let mut out = PathBuf::new();
    for part in whole.components() {
        match part {
            std::path::Component::ParentDir => drop(out.pop()),
            std::path::Component::CurDir => {}
            part => out.push(part),
        }
    }
    // What is gone may have been in a directory that is gone too.
    let mut tail = Vec::new();
    let mut at = out.as_path();
    while let (Some(dir), Some(name)) = (at.parent(), at.file_name()) {
        tail.push(name);
        if let Ok(found) = dir.canonicalize() {
            return Ok(tail.iter().rev().fold(found, |path, name| path.join(name)));
        }
        at = dir;
    }
    Ok(out)
}

fn show(ui: Ui, why: &Why) {
    let place = match &why.space {
        Some(space) => format!("{}:{}", clean(space), clean(&why.path)),
        None => clean(&why.path),
    };
    ui.say(&place);
    for words in &why.words {
        ui.say(&format!("  {}", clean(words)));
    }
    if let Some(conflict) = &why.conflict {
        for version in &conflict.versions {
            let at = version.copy_path.as_deref().unwrap_or(&conflict.path);
            ui.say(&format!("    {} by {}", clean(at), clean(&version.device)));
        }
    }
    ui.say(&format!("  next: {}", clean(&why.next)));
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_not_there_are_found_by_what_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
        assert_eq!(
            absolute(&root.join("link/gone/../also/file")).unwrap(),
            root.join("real/also/file")
        );
        assert_eq!(absolute(&root.join("link")).unwrap(), root.join("link"));
        assert_eq!(split("docs:a/b"), Some(("docs", "a/b")));
        assert_eq!(split("./docs:a"), None);
    }
}
