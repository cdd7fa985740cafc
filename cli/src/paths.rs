//! What people type for an item: `SPACE:PATH`, or a path on the disk, from the current directory, of what stands there or stood there once.

use std::path::{Component, Path, PathBuf};

use ownmesh_node::command::CommandError;
use serde::Deserialize;

use crate::client::Client;
use crate::error::{Result, file_error};

/// `SPACE:PATH`, where no file of that very name is there.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    let (space, path) = text.split_once(':')?;
    let named = !space.is_empty() && !space.contains('/');
    (named && Path::new(text).symlink_metadata().is_err()).then_some((space, path))
}

/// The path as the node knows it: links followed up to the last name, which may be a link or not there.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        return Err(CommandError::usage("the path is empty"));
    }
    let whole = std::path::absolute(path).map_err(|error| file_error("find", path, &error))?;
    let mut out = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
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

/// The same as text, as the API takes it.
pub(crate) fn text(path: &Path) -> Result<String> {
    let path = absolute(path)?;
    path.to_str().map(str::to_owned).ok_or_else(|| {
        CommandError::usage(format!("{} is not UTF-8: it cannot travel", path.display()))
    })
}

/// An item by `SPACE:PATH`, or else by its path, whether something stands there or not.
pub(crate) fn item(typed: &str) -> Result<String> {
    match split(typed) {
        Some(_) => Ok(typed.to_owned()),
        None => text(Path::new(typed)),
    }
}

/// The same where a word may also be the name of something that is no path: a path if something stands there, or if it looks like one.
pub(crate) fn item_or_name(typed: &str) -> Result<String> {
    let is_path = typed.starts_with('.') || typed.contains('/');
    if is_path || Path::new(typed).symlink_metadata().is_ok() {
        item(typed)
    } else {
        Ok(typed.to_owned())
    }
}

#[derive(Deserialize)]
struct Spaces {
    spaces: Vec<Folder>,
}

#[derive(Deserialize)]
struct Folder {
    path: Option<String>,
}

/// Where something is to go, as git takes paths: from the current directory. Outside of all spaces a path that is not absolute is left as
/// it is: it is meant from the root of the item's own space.
pub(crate) async fn target(client: &Client, typed: &str) -> Result<String> {
    if split(typed).is_some() || typed.starts_with(['/', '.']) {
        return item(typed);
    }
    let spaces: Spaces = client.get("/v1/spaces").await?;
    let here = std::env::current_dir().and_then(|dir| dir.canonicalize());
    let folders = spaces.spaces.into_iter().filter_map(|space| space.path);
    let inside = here.is_ok_and(|here| {
        let mut folders = folders;
        folders.any(|folder| here.starts_with(folder))
    });
    if inside {
        item(typed)
    } else {
        Ok(typed.to_owned())
    }
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

    #[test]
    fn what_is_gone_is_a_path_where_it_looks_like_one() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let at = |name: &str| here.join(name).to_str().unwrap().to_owned();
        assert_eq!(item("gone/a").unwrap(), at("gone/a"));
        assert_eq!(item("gone").unwrap(), at("gone"));
        assert_eq!(item("docs:gone/a").unwrap(), "docs:gone/a");
        assert_eq!(item_or_name("gone/a").unwrap(), at("gone/a"));
        assert_eq!(item_or_name("./gone").unwrap(), at("gone"));
        assert_eq!(item_or_name("gone").unwrap(), "gone");
        let kind = |typed: &str| item(typed).unwrap_err().kind;
        assert_eq!(kind(""), ownmesh_node::command::Kind::Usage);
    }
}
