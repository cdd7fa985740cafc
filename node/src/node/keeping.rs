//! `mesh trash`: what lies there, taking something out, emptying it.
//!
//! Taking out is a rename to a free name, as if the user had done it; the next scan finds a new file. Nothing is ever
//! written over. A kill leaves the file in the trash or at its place, never in both or none.

use std::io;

use super::Handle;
use super::undoing::{blocking, failed};
use crate::command::{
    CommandError, EmptyReply, EmptyRequest, RestoreReply, RestoreRequest, TrashEntry,
};
use crate::db::Db;
use crate::disk::trash::{self, Trashed};
use crate::disk::{Disk, MetaKind, PRIVATE, RelPath, TRASH, private};
use crate::past::{find, trash as told};

impl Handle {
    /// What lies in the trash, of one space or of all, oldest first.
    ///
    /// # Errors
    /// No such space.
    pub async fn trash(&self, space: Option<String>) -> Result<Vec<TrashEntry>, CommandError> {
        let scope = self.scope(None).await?;
        let mut out = Vec::new();
        for space in chosen(&scope.spaces, space.as_deref())? {
            // A folder that is away has a trash nobody can see now.
            let Ok(open) = self.open(&space) else {
                continue;
            };
            let (db, names) = (scope.db.clone(), scope.names.clone());
            out.extend(
                blocking(move || {
                    let conn = Db::reader(&db).map_err(failed)?;
                    let all = list(&*open.disk)?;
                    all.iter()
                        .map(|one| told::entry(&conn, &space, one, &names).map_err(failed))
                        .collect::<Result<Vec<_>, _>>()
                })
                .await?,
            );
        }
        Ok(out)
    }

    /// `mesh trash restore`.
    ///
    /// # Errors
    /// No such thing in the trash; something stands where it is to go.
    pub async fn restore(&self, request: RestoreRequest) -> Result<RestoreReply, CommandError> {
        let scope = self.scope(None).await?;
        let all = self.trash(None).await?;
        let named = find::split(&scope.spaces, &request.item).ok();
        let is_it = |e: &&TrashEntry| {
            e.item == request.item
                || named
                    .as_ref()
                    .is_some_and(|(space, path)| space.name == e.space && *path == e.path)
        };
        // The newest, if there are several of a path.
        let Some(entry) = all.iter().rev().find(is_it).cloned() else {
            return Err(CommandError::not_found("thing in the trash", request.item)
                .hint("mesh trash lists what there is"));
        };
        let Some(space) = scope.spaces.iter().find(|s| s.name == entry.space) else {
            return Err(CommandError::not_found("space", entry.space));
        };
        let to = match &request.to {
            None => entry.path.clone(),
            Some(to) => find::target(&scope.spaces, space, to)?,
        };
        let open = self.open(space)?;
        let (item, at) = (entry.item.clone(), to.clone());
        let (taken, gone) = blocking(move || {
            let take = || take_out(&*open.disk, &item, &at);
            Ok(open.kept.lost(&*open.disk, take))
        })
        .await?;
        let n = space.n;
        self.call(move |engine, _| engine.drop_kept(n, &gone))
            .await?;
        taken?;
        let (name, message) = (
            space.name.clone(),
            format!("{to} was taken out of the trash"),
        );
        self.call(move |engine, _| engine.write_down("restored", None, Some(&name), message))
            .await?;
        // It is the user's again: a scan takes it in as a new file, this one or the next.
        if let Err(error) = self.look(&space.name).await {
            tracing::debug!(%error, "what was taken out of the trash is taken in later");
        }
        Ok(RestoreReply {
            space: entry.space,
            path: to,
        })
    }

    /// `mesh trash empty`: counts, or removes for good.
    ///
    /// # Errors
    /// No such space; the trash cannot be read.
    pub async fn empty_trash(&self, request: EmptyRequest) -> Result<EmptyReply, CommandError> {
        let scope = self.scope(None).await?;
        let mut reply = EmptyReply {
            done: request.confirm,
            ..EmptyReply::default()
        };
        let before = request.before.map_or(i64::MAX, |t| t.as_millis());
        for space in chosen(&scope.spaces, request.space.as_deref())? {
            let open = self.open(&space)?;
            let confirm = request.confirm;
            let (entries, bytes, kept, failed) = blocking(move || {
                let mut all = list(&*open.disk)?;
                all.retain(|t| i64::try_from(t.at).unwrap_or(0).saturating_mul(1_000) < before);
                let mut failed = None;
                if confirm {
                    // What cannot be removed keeps nothing else from it.
                    all.retain(|one| {
                        let path = private(TRASH).with(&one.name);
                        let done = open.disk.remove(&path);
                        let removed = done.is_ok();
                        failed = failed.take().or(done.err().map(|e| (one.name.clone(), e)));
                        removed
                    });
                    open.disk
                        .sync_dir(&private(TRASH))
                        .map_err(|e| unusable(&e))?;
                }
                let bytes: u64 = all.iter().map(|t| t.meta.size).sum();
                let kept = open.kept.fronts(&*open.disk).unwrap_or_default();
                Ok((all.len() as u64, bytes, kept, failed))
            })
            .await?;
            reply.entries += entries;
            reply.bytes += bytes;
            if confirm && entries > 0 {
                let message = format!("{entries} files were removed from the trash for good");
                self.call(move |engine, _| {
                    engine.set_kept(space.n, kept);
                    engine.write_down("trash-emptied", None, Some(&space.name), message);
                })
                .await?;
            }
            if let Some((name, error)) = failed {
                return Err(CommandError::failed(format!(
                    "{entries} files were removed, but not {name}: {error}"
                ))
                .about(name));
            }
        }
        Ok(reply)
    }
}

fn chosen(spaces: &[find::Where], name: Option<&str>) -> Result<Vec<find::Where>, CommandError> {
    let found: Vec<_> = spaces
        .iter()
        .filter(|s| name.is_none_or(|name| s.name == name))
        .cloned()
        .collect();
    match name {
        Some(name) if found.is_empty() => {
            let names: Vec<&str> = spaces.iter().map(|s| s.name.as_str()).collect();
            Err(CommandError::not_found("space", name)
                .hint(format!("spaces here: {}", names.join(", "))))
        }
        _ => Ok(found),
    }
}

fn list(disk: &dyn Disk) -> Result<Vec<Trashed>, CommandError> {
    trash::list(disk).map_err(|e| unusable(&e))
}

fn unusable(error: &io::Error) -> CommandError {
    CommandError::failed(format!("the trash cannot be used: {error}"))
}

/// Takes something out of the trash to a free path, making the directories above it.
fn take_out(disk: &dyn Disk, name: &str, to: &str) -> Result<(), CommandError> {
    let path = RelPath::parse(to)
        .ok()
        .filter(|p| !p.is_root() && !p.starts_with(&private(PRIVATE)))
        .ok_or_else(|| {
            CommandError::usage("this cannot be the path of a file")
                .hint("choose one with --to SPACE:PATH")
                .about(to)
        })?;
    let occupied = |what: &RelPath| {
        CommandError::refused(format!("something stands at {what} already"))
            .hint("choose another place with --to SPACE:PATH")
            .about(to)
    };
    let mut dir = RelPath::ROOT;
    let parents: Vec<&str> = path.components().collect();
    for part in &parents[..parents.len() - 1] {
        dir = dir.with(part);
        match disk.mkdir(&dir, 0o755) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(unusable(&e)),
            Ok(()) => disk
                .sync_dir(&dir.parent().unwrap_or_default())
                .map_err(|e| unusable(&e))?,
        }
        let meta = disk.meta(&dir).map_err(|e| unusable(&e))?;
        if meta.is_none_or(|m| m.kind != MetaKind::Dir) {
            return Err(occupied(&dir));
        }
    }
    trash::restore(disk, name, &path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => occupied(&path),
        io::ErrorKind::NotFound => CommandError::not_found("thing in the trash", name),
        _ => unusable(&e),
    })
}
