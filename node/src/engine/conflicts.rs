//! Conflicts: listed here, resolved once for all devices.

use ownmesh_crdt::item::{self, Content, ItemState, Place};
use ownmesh_crypto::{ItemId, SpaceSecret};

use super::author::version_hash;
use super::{Engine, Now};
use crate::command::{CommandError, Keep};
use crate::db::{DbError, base, items, logs};
use crate::status::{ConflictInfo, ConflictVersion, Time};

/// A conflict, and which of its versions stand on this disk, as far as was seen: under its own path, or
/// else as the item's file.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What is told of it.
    pub info: ConflictInfo,
    /// One for each version.
    pub here: Vec<bool>,
}

impl Engine {
    /// All conflicts of all spaces.
    #[must_use]
    pub fn conflicts(&self) -> Vec<ConflictInfo> {
        self.conflicts_standing()
            .into_iter()
            .map(|c| c.info)
            .collect()
    }

    /// The same, with what stands here of them. Another version may stand under the name while the one
    /// that is to have it has not arrived.
    #[must_use]
    pub fn conflicts_standing(&self) -> Vec<Standing> {
        let mut out = Vec::new();
        for space in self.spaces.values() {
            match self.conflicts_of(space) {
                Ok(more) => out.extend(more),
                Err(error) => tracing::error!(%error, "conflicts could not be read"),
            }
        }
        out
    }

    fn conflicts_of(&self, space: &super::Space) -> Result<Vec<Standing>, DbError> {
        let (conn, n) = (self.db.read(), space.row.n);
        let mut out = Vec::new();
        for (id, spot) in items::conflicts(conn, n)? {
            let Some(row) = items::get(conn, n, &id)? else {
                continue;
            };
            let Some(state) = ItemState::from_registers(&row.doc.regs) else {
                continue;
            };
            let path = base::path(conn, n, &id)?
                .map_or_else(|| spot.shown.clone().unwrap_or_default(), |p| p.to_string());
            let (mut versions, mut here) = (Vec::new(), Vec::new());
            let file = base::get(conn, n, &id)?;
            let main = state.versions.last().cloned();
            for (op, content) in main.into_iter().chain(state.conflicts()) {
                let device = logs::writer(conn, n, &op.actor)?
                    .map_or_else(|| "unknown".into(), |d| self.device_name(&d));
                let hash = version_hash(&space.secret, &content);
                let copy = space
                    .secret
                    .conflict_item(&id, &hash, op.counter, &op.actor);
                let size = match content {
                    Content::File { size, .. } => size,
                    Content::Link { .. } => 0,
                };
                let at = base::path(conn, n, &copy)?;
                let b = base::get(conn, n, &copy)?;
                let stands = if at.is_some() { &b } else { &file };
                here.push(
                    stands
                        .as_ref()
                        .is_some_and(|b| b.row.content.as_ref() == Some(&content)),
                );
                versions.push(ConflictVersion {
                    device,
                    size,
                    mtime: b
                        .map(|b| Time::from_nanos(b.row.mtime.into()))
                        .or_else(|| state.mtime.map(|t| Time::from_nanos(t.into()))),
                    copy_path: at.map(|p| p.to_string()),
                    diff: None,
                });
            }
            let info = ConflictInfo {
                item: id.to_string(),
                space: space.name.clone(),
                path,
                versions,
            };
            out.push(Standing { info, here });
        }
        Ok(out)
    }

    /// One conflict, by id, `SPACE:PATH` or path on the disk.
    ///
    /// # Errors
    /// No such conflict.
    pub(crate) fn conflict_named(&self, what: &str) -> Result<Standing, CommandError> {
        let (_, id, _) = self.conflicted(what)?;
        let id = id.to_string();
        let mut all = self.conflicts_standing().into_iter();
        let gone = || CommandError::not_found("conflict", what);
        all.find(|c| c.info.item == id).ok_or_else(gone)
    }

    /// Finds a conflicted item by id, `SPACE:PATH` or path on the disk; a copy's path means its item.
    fn conflicted(&self, what: &str) -> Result<(i64, ItemId, Option<ItemId>), CommandError> {
        let failed = |e: DbError| CommandError::failed(e.to_string());
        for space in self.spaces.values() {
            let (conn, n) = (self.db.read(), space.row.n);
            let inside = what.strip_prefix(&format!("{}:", space.name)).or_else(|| {
                what.strip_prefix(space.row.path.as_str())
                    .and_then(|rest| rest.strip_prefix('/'))
            });
            for (id, spot) in items::conflicts(conn, n).map_err(failed)? {
                if what == id.to_string() {
                    return Ok((n, id, None));
                }
                let Some(inside) = inside else { continue };
                let path = base::path(conn, n, &id)
                    .map_err(failed)?
                    .map(|p| p.to_string());
                if path.as_deref() == Some(inside)
                    || path.is_none() && spot.shown.as_deref() == Some(inside)
                {
                    return Ok((n, id, None));
                }
                for copy in base::copies(conn, n, &id).map_err(failed)? {
                    let path = base::path(conn, n, &copy.row.id).map_err(failed)?;
                    if path.is_some_and(|p| p.as_str() == inside) {
                        return Ok((n, id, Some(copy.row.id)));
                    }
                }
            }
        }
        Err(CommandError::not_found("conflict", what).hint("list them with: mesh conflicts"))
    }

    /// Settles a conflict for every device.
    ///
    /// # Errors
    /// No such conflict; more than one other version and none named.
    pub fn resolve(&mut self, what: &str, keep: Keep, now: Now) -> Result<(), CommandError> {
        let (n, id, copy) = self.conflicted(what)?;
        let failed = |e: DbError| CommandError::failed(e.to_string());
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        let secret = space.secret.clone();
        let row = items::get(self.db.read(), n, &id)
            .map_err(failed)?
            .unwrap_or_default();
        let Some(state) = ItemState::from_registers(&row.doc.regs) else {
            return Ok(());
        };
        let here = base::get(self.db.read(), n, &id)
            .map_err(failed)?
            .and_then(|b| b.row.content)
            .or_else(|| state.content().cloned());
        let others: Vec<_> = state
            .versions
            .iter()
            .filter(|(_, c)| Some(c) != here.as_ref())
            .cloned()
            .collect();
        let named = |op: &ownmesh_crdt::op::OpId, c: &Content| {
            copy.is_none_or(|copy| {
                copy == secret.conflict_item(&id, &version_hash(&secret, c), op.counter, &op.actor)
            })
        };
        let mut chosen = others.iter().filter(|(op, c)| named(op, c));
        let there = chosen.next().map(|(_, c)| c.clone());
        let ambiguous = chosen.any(|(_, c)| Some(c) != there.as_ref());
        match keep {
            Keep::There if ambiguous => {
                return Err(CommandError::usage("there is more than one other version")
                    .hint("name the copy's own path to say which one to keep")
                    .about(what));
            }
            Keep::Both => {
                // A new file needs its bytes here: elsewhere they may be replaced at this moment.
                for (op, content) in state.conflicts() {
                    let hash = version_hash(&secret, &content);
                    let copy = secret.conflict_item(&id, &hash, op.counter, &op.actor);
                    let held = base::get(self.db.read(), n, &copy).map_err(failed)?;
                    if held.is_none_or(|b| b.row.content != Some(content)) {
                        return Err(CommandError::refused(
                            "the other version has not arrived here yet",
                        )
                        .hint("try again when it has, or on the device that has it")
                        .about(what));
                    }
                }
                self.keep_both(n, &id, &state, &secret).map_err(failed)?;
            }
            Keep::Here | Keep::There => {
                let Some(content) = (if keep == Keep::Here { here } else { there }) else {
                    return Err(CommandError::not_found("version", what));
                };
                if state.ops_of(&content).is_empty() {
                    // What stands here is about to be replaced: its bytes may be in the trash already.
                    return Err(CommandError::refused("a newer version is on its way here")
                        .hint("try again when it has arrived")
                        .about(what));
                }
                let held = self.has_bytes(n, &id, &content).map_err(failed)?;
                self.edit_items(n, |docs, actor| {
                    let mut row = docs.load(&id)?;
                    let edits = item::resolve(&row.doc.regs, &content, held);
                    docs.author(actor, &id, &mut row, &edits)?;
                    Ok(())
                })
                .map_err(failed)?;
            }
        }
        let space = self.spaces.get(&n).map(|s| s.name.clone());
        let message = format!("the conflict in {what} was settled: {keep:?}").to_lowercase();
        self.write_down("resolved", None, space.as_deref(), message);
        self.nudge(now);
        Ok(())
    }

    /// Whether a version of an item stands on this disk, as its file or as a copy.
    fn has_bytes(&self, n: i64, id: &ItemId, content: &Content) -> Result<bool, DbError> {
        let is_it = |b: &base::Base| b.row.content.as_ref() == Some(content);
        Ok(base::get(self.db.read(), n, id)?.iter().any(is_it)
            || base::copies(self.db.read(), n, id)?.iter().any(is_it))
    }

    /// Every copy becomes a file of its own under its present name.
    fn keep_both(
        &mut self,
        n: i64,
        id: &ItemId,
        state: &ItemState,
        secret: &SpaceSecret,
    ) -> Result<(), DbError> {
        let registry = self.registry.view().clone();
        let names = move |d: &ownmesh_crypto::DeviceId| {
            registry
                .devices
                .get(d)
                .map_or_else(|| d.to_string(), |e| e.name.clone())
        };
        let sides = super::plan::sides(self.db.read(), n, id, secret, &names)?;
        let Some(content) = state.content().cloned() else {
            return Ok(());
        };
        let held = self.has_bytes(n, id, &content)?;
        self.edit_items(n, |docs, actor| {
            for copy in sides.wanted.iter().filter(|w| w.copy_of.is_some()) {
                let mut row = docs.load(&copy.id)?;
                let place = Place {
                    parent: copy.parent,
                    name: copy.name.clone(),
                };
                let edits = item::create(
                    copy.kind,
                    &place,
                    copy.content.as_ref(),
                    Some(copy.mode),
                    copy.mtime.or(state.mtime),
                );
                docs.author(actor, &copy.id, &mut row, &edits)?;
            }
            let mut row = docs.load(id)?;
            let edits = item::resolve(&row.doc.regs, &content, held);
            docs.author(actor, id, &mut row, &edits)?;
            Ok(())
        })
    }
}
