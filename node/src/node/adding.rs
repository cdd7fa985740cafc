//! `mesh add`: everything that is checked and asked before a folder becomes a space.
//!
//! Joining a space with a folder that holds files already is the dangerous case: the tree of the
//! mesh is fetched first (metadata only), both sides are compared, and nothing is merged unless the
//! user said so. A folder that is refused is left as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ownmesh_crdt::item::Content;

use super::Handle;
use crate::command::{AddPreview, AddReply, AddRequest, CommandError};
use crate::disk::hash::hash_file;
use crate::disk::real::RealDisk;
use crate::disk::rules::{Rules, current};
use crate::disk::{Disk, MetaKind, PRIVATE, RelPath, prepare};

/// How long the tree of a space is waited for before both sides are shown as far as they are known.
const TREE: Duration = Duration::from_secs(20);

/// What the mesh holds: path to what it is.
type Theirs = BTreeMap<String, Option<Content>>;

pub(super) async fn add(
    handle: &Handle,
    request: AddRequest,
    protected: Vec<PathBuf>,
) -> Result<AddReply, CommandError> {
    let stopped = |_| CommandError::not_running("the node is stopping");
    let taken = handle
        .call(|engine, _| engine.taken_paths())
        .await
        .map_err(stopped)?;
    let asked = request.clone();
    let path = blocking(move || check_path(Path::new(&asked.path), &protected, &taken)).await??;
    let name = match &request.name {
        Some(name) => name.clone(),
        None => path
            .file_name()
            .and_then(|n| n.to_str())
            .map(str::to_owned)
            .ok_or_else(|| {
                CommandError::usage("this folder has no usable name")
                    .hint("give one with --space NAME")
            })?,
    };
    let mode = crate::engine::mode_number(request.mode.as_deref().unwrap_or("full"))?;
    // A space of this name may just have been made on a device that is connected: its statement
    // gets a moment to arrive before a second one is made.
    for _ in 0..10 {
        let wanted = name.clone();
        let known = handle
            .call(move |engine, _| engine.knows_space(&wanted) || !engine.has_peers())
            .await
            .map_err(stopped)?;
        if known {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wanted = name.clone();
    let space = handle
        .call(move |engine, _| engine.may_add(&wanted))
        .await
        .map_err(stopped)??;
    let at = path.clone();
    let (fs, empty, fresh) = blocking(move || open_folder(&at, &space)).await??;
    let text = path
        .to_str()
        .ok_or_else(|| CommandError::usage("the path is not UTF-8"))?
        .to_owned();
    let added = {
        let (name, text) = (name.clone(), text.clone());
        handle
            .call(move |engine, now| engine.add_prepared(now, &name, &text, mode, fs, !empty))
            .await
            .map_err(stopped)?
    };
    let mut reply = match added {
        Ok(reply) => reply,
        Err(error) => {
            undo(path, fresh).await;
            return Err(error);
        }
    };
    if empty || !reply.joined {
        return Ok(reply);
    }
    // The tree first; nothing touches the folder while the space is held.
    let until = tokio::time::Instant::now() + TREE;
    loop {
        let wanted = name.clone();
        if handle
            .call(move |engine, _| engine.tree_is_here(&wanted))
            .await
            .map_err(stopped)?
            || tokio::time::Instant::now() > until
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wanted = name.clone();
    let Some((theirs, secret)) = handle
        .call(move |engine, _| engine.tree_of(&wanted))
        .await
        .map_err(stopped)?
    else {
        return Err(CommandError::failed("the space went away"));
    };
    let at = path.clone();
    let preview = blocking(move || compare(&at, &theirs, &secret)).await??;
    let clean = preview.differing == 0 && preview.only_here == 0;
    if request.merge || clean {
        let wanted = name.clone();
        handle
            .call(move |engine, now| engine.release(&wanted, now))
            .await
            .map_err(stopped)?;
        reply.merged = Some(preview);
        return Ok(reply);
    }
    let wanted = name.clone();
    handle
        .call(move |engine, _| engine.leave(&wanted))
        .await
        .map_err(stopped)??;
    undo(path, fresh).await;
    Err(CommandError::needs_confirmation(format!(
        "the folder is not empty: {} files are equal, {} differ, {} are only here, {} only in the mesh",
        preview.equal, preview.differing, preview.only_here, preview.only_there
    ))
    .hint(
        "merge both sides with --merge; where contents differ both are kept, \
         and what the others deleted goes to .mesh/trash",
    )
    .about(text)
    .preview(preview))
}

async fn blocking<R: Send + 'static>(
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<R, CommandError> {
    tokio::task::spawn_blocking(f)
        .await
        .map_err(|_| CommandError::failed("a worker failed"))
}

async fn undo(path: PathBuf, fresh: bool) {
    if fresh {
        let _removed =
            tokio::task::spawn_blocking(move || std::fs::remove_dir_all(path.join(PRIVATE))).await;
    }
}

fn check_path(
    asked: &Path,
    protected: &[PathBuf],
    taken: &[(String, String)],
) -> Result<PathBuf, CommandError> {
    let shown = asked.display().to_string();
    let path = std::fs::canonicalize(asked).map_err(|e| {
        CommandError::not_found("folder", shown.clone())
            .hint(format!("{e}; make it first, or check the path"))
    })?;
    let meta =
        std::fs::metadata(&path).map_err(|e| CommandError::failed(format!("{shown}: {e}")))?;
    if !meta.is_dir() {
        return Err(CommandError::usage(format!("{shown} is not a folder")));
    }
    let refuse = |why: &str| {
        Err(CommandError::refused(format!("{shown} cannot be a space: {why}")).about(shown.clone()))
    };
    if path.parent().is_none() {
        return refuse("it is the root of the filesystem");
    }
    let home = std::env::var_os("HOME").and_then(|h| std::fs::canonicalize(h).ok());
    if home.is_some_and(|home| home.starts_with(&path)) {
        return refuse("it is, or holds, your home directory; add folders inside it one by one");
    }
    for own in protected {
        let own = std::fs::canonicalize(own).unwrap_or_else(|_| own.clone());
        if path.starts_with(&own) || own.starts_with(&path) {
            return refuse("mesh keeps its own data there");
        }
    }
    for (name, other) in taken {
        let other = Path::new(other);
        if path == other {
            return refuse(&format!("it is the space {name} already"));
        }
        if path.starts_with(other) || other.starts_with(&path) {
            return refuse(&format!("it lies inside or around the space {name}"));
        }
    }
    Ok(path)
}

/// Prepares the private folder; returns the filesystem, whether the folder was empty, and whether
/// the private folder is new.
fn open_folder(
    path: &Path,
    space: &ownmesh_crypto::SpaceId,
) -> Result<(u64, bool, bool), CommandError> {
    let failed = |e: std::io::Error| {
        CommandError::failed(format!("{}: {e}", path.display()))
            .hint("mesh needs to write into the folder, and a filesystem that keeps names apart")
    };
    let disk = RealDisk::open(path).map_err(failed)?;
    let fresh = !path.join(PRIVATE).exists();
    let empty = disk
        .list(&RelPath::ROOT)
        .map_err(failed)?
        .iter()
        .all(|e| e.name.as_deref() == Ok(PRIVATE));
    prepare(&disk, space).map_err(|e| {
        if e.kind() != std::io::ErrorKind::AlreadyExists {
            return failed(e);
        }
        let private = path.join(PRIVATE);
        CommandError::refused(format!(
            "{} is marked as the folder of another space",
            path.display()
        ))
        .hint(format!(
            "if no node uses it any more, take what you need from {0}/trash and remove {0}",
            private.display()
        ))
        .about(path.display().to_string())
    })?;
    Ok((disk.fs_id().map_err(failed)?, empty, fresh))
}

/// Compares a folder with the mesh's tree, by content.
fn compare(
    path: &Path,
    theirs: &Theirs,
    secret: &ownmesh_crypto::SpaceSecret,
) -> Result<AddPreview, CommandError> {
    let failed = |e: std::io::Error| CommandError::failed(format!("{}: {e}", path.display()));
    let disk = RealDisk::open(path).map_err(failed)?;
    // The folder's own rules; those that only the mesh has come before anything is merged.
    let (rules, _) = current(&disk, &Rules::default());
    let mut preview = AddPreview::default();
    let mut open = vec![RelPath::ROOT];
    let mut seen = 0;
    while let Some(dir) = open.pop() {
        for entry in disk.list(&dir).map_err(failed)? {
            let Ok(name) = entry.name else { continue };
            if dir.is_root() && name == PRIVATE {
                continue;
            }
            let Ok(at) = dir.join(&name) else { continue };
            if rules.ignores(&at, entry.meta.kind == MetaKind::Dir) {
                continue;
            }
            let known = theirs.get(at.as_str());
            match entry.meta.kind {
                MetaKind::Dir => {
                    open.push(at);
                    continue;
                }
                MetaKind::Other => continue,
                MetaKind::File | MetaKind::Symlink => {}
            }
            let Some(known) = known else {
                preview.only_here += 1;
                continue;
            };
            seen += 1;
            let equal = match (known, entry.meta.kind) {
                (Some(Content::File { size, .. }), MetaKind::File) if *size == entry.meta.size => {
                    hash_file(&disk, &at, secret).is_ok_and(|h| Some(&h.content) == known.as_ref())
                }
                (Some(Content::Link { target }), MetaKind::Symlink) => {
                    disk.read_link(&at).is_ok_and(|t| t == *target)
                }
                _ => false,
            };
            if equal {
                preview.equal += 1;
            } else {
                preview.differing += 1;
            }
        }
    }
    let ignored = |path: &str| RelPath::parse(path).is_ok_and(|at| rules.ignores(&at, false));
    let files = theirs
        .iter()
        .filter(|(path, content)| content.is_some() && !ignored(path))
        .count();
    preview.only_there = u64::try_from(files).unwrap_or(0).saturating_sub(seen);
    Ok(preview)
}
