//! What a scan found becomes changes of documents, and base follows in the same transaction.
//!
//! The rule of the whole file: **a change supersedes exactly what the user saw** (`base.seen`),
//! never what the document holds by now. Content that arrived but was not on the disk yet stays as
//! the other side of a conflict. If the disk shows what the mesh already says, base is set and
//! nothing is authored: that is how a crash between disk and base heals.

use std::collections::BTreeMap;

use ownmesh_crdt::item::{self, Content, ItemState, Kind, Place, Seen};
use ownmesh_crdt::mutated;
use ownmesh_crdt::op::OpId;
use ownmesh_crypto::{ContentHash, Incarnation, ItemId, SpaceSecret};

use super::appeared::Appeared;
use super::docs::Docs;
use crate::db::base::{self, Base};
use crate::db::{DbError, chunks, dirty, items};
use crate::disk::Meta;
use crate::disk::base::BaseRow;
use crate::disk::hash::Chunk;
use crate::disk::names;
use crate::disk::scan::{Found, Parent};

/// One scan's findings on their way into documents.
#[derive(Debug)]
pub(super) struct Author<'a> {
    pub(super) docs: Docs<'a>,
    pub(super) secret: &'a SpaceSecret,
    pub(super) actor: Incarnation,
    /// Group of deletions these belong to: what a stopped device is asked about as one.
    pub(super) act: [u8; 8],
    /// Items made earlier in the same scan, by the scan's numbers.
    pub(super) news: &'a mut BTreeMap<u32, ItemId>,
    /// Whether anything was deleted.
    pub(super) deleted: bool,
    /// Whether this is the first look at a folder that had files in it when it joined.
    pub(super) merging: bool,
    /// Whether the filesystem keeps modes: what it shows is nobody's doing otherwise.
    pub(super) modes: bool,
}

impl Author<'_> {
    /// Takes one finding in. Items that vanished from base meanwhile are passed over: the next
    /// scan sees them as they are.
    pub(super) fn take(&mut self, found: Found) -> Result<(), DbError> {
        match found {
            Found::Created {
                new,
                parent,
                name,
                kind,
                content,
                chunks,
                meta,
                racy,
            } => {
                let Some(parent) = self.parent(parent) else {
                    return Ok(());
                };
                self.chunks(content.as_ref(), &chunks)?;
                let place = Place { parent, name };
                let id = self.appeared(Appeared {
                    place,
                    kind,
                    content,
                    meta: &meta,
                    racy,
                })?;
                self.news.insert(new, id);
                Ok(())
            }
            Found::Edited {
                id,
                content,
                chunks,
                meta,
                racy,
            } => {
                self.chunks(Some(&content), &chunks)?;
                self.edited(&id, content, &meta, racy)
            }
            Found::Touched { id, meta } => self.touched(&id, &meta),
            Found::Refreshed { id, meta, racy } => self.refreshed(&id, &meta, racy),
            Found::Moved {
                id,
                parent,
                name,
                meta,
            } => {
                let Some(parent) = self.parent(parent) else {
                    return Ok(());
                };
                self.moved(&id, Place { parent, name }, &meta)
            }
            Found::Gone { id } => self.gone(&id),
            Found::Forgotten { id } => {
                super::recover::forget_subtree(self.docs.tx, self.docs.space, &id)
            }
        }
    }

    fn parent(&self, parent: Parent) -> Option<ItemId> {
        match parent {
            Parent::Item(id) => Some(id),
            Parent::New(n) => self.news.get(&n).copied(),
        }
    }

    fn chunks(&self, content: Option<&Content>, chunks: &[Chunk]) -> Result<(), DbError> {
        match content {
            Some(Content::File { hash, .. }) => {
                chunks::put(self.docs.tx, self.docs.space, hash, chunks)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn get(&self, id: &ItemId) -> Result<Option<Base>, DbError> {
        base::get(self.docs.tx, self.docs.space, id)
    }

    /// Writes base and, if the mesh now says the same as the disk, takes the item off the list.
    pub(super) fn settle(&mut self, b: &Base) -> Result<(), DbError> {
        let (tx, space) = (self.docs.tx, self.docs.space);
        if let Some(other) = base::at(tx, space, &b.row.parent, &b.row.name)?
            && other.row.id != b.row.id
        {
            // The row of something that is no longer there: it moved or is gone, as a finding of its
            // own will say. Until then it stands under a name that nothing has.
            let mut away = other;
            away.row.name = base::aside(&away.row.id, &b.row.id, &b.row.name);
            base::put(tx, space, &away)?;
        }
        base::put(tx, space, b)?;
        let Some(spot) = items::place(tx, space, &b.row.id)? else {
            return Ok(());
        };
        let settled = spot.alive
            && spot.conflict == 0
            && spot.ep == Some(b.row.parent)
            && spot
                .shown
                .is_some_and(|s| names::fits(&s, &b.row.id, &b.row.name))
            && b.row.copy_of.is_none();
        if settled
            && super::plan::agrees(tx, space, b)?
            && base::copies(tx, space, &b.row.id)?.is_empty()
        {
            dirty::clean(tx, space, &b.row.id)?;
        }
        Ok(())
    }

    pub(super) fn row(
        id: ItemId,
        place: Place,
        kind: Kind,
        content: Option<Content>,
        seen: Seen,
        meta: &Meta,
        racy: bool,
    ) -> Base {
        Base {
            row: BaseRow {
                id,
                copy_of: None,
                parent: place.parent,
                name: place.name,
                kind,
                content,
                seen,
                mode: meta.mode,
                mtime: meta.mtime_ns,
                stat: meta.stat(),
                racy,
            },
            asked_mode: meta.mode,
            asked_mtime: meta.mtime_ns,
        }
    }

    fn edited(
        &mut self,
        id: &ItemId,
        content: Content,
        meta: &Meta,
        racy: bool,
    ) -> Result<(), DbError> {
        let Some(mut b) = self.get(id)? else {
            return Ok(());
        };
        if let Some((main, _)) = b.row.copy_of {
            return self.copy_becomes_item(b, main, None, content, meta, racy);
        }
        let mut row = self.docs.load(id)?;
        let Some(state) = ItemState::from_registers(&row.doc.regs) else {
            return Ok(());
        };
        equal_too(&mut b, &state);
        let old = b.row.content.take();
        let known = state.ops_of(&content);
        // Bytes that stand in the mesh already: if they came by a step that a crash cut short, there is
        // nothing to say. But who put one side of a conflict over the other has decided.
        let shown = |op: &OpId| state.versions.iter().any(|(v, _)| v == op) && !known.contains(op);
        if known.is_empty() || b.row.seen.c.iter().any(shown) {
            b.row.seen.c.extend(&known);
            if mutated!(SupersedeCurrent) {
                b.row.seen.c = state.seen().c;
            }
            let chmod = self.modes && meta.mode != b.row.mode && b.row.kind == Kind::File;
            let mode = chmod.then_some(meta.mode);
            let edits = item::edit_content(
                &b.row.seen,
                &content,
                mode,
                Some(meta.mtime_ns),
                &row.doc.regs,
            );
            self.docs.author(&self.actor, id, &mut row, &edits)?;
        }
        if let Some(state) = ItemState::from_registers(&row.doc.regs) {
            b.row.seen = Seen {
                c: state.ops_of(&content),
                p: b.row.seen.p,
                d: state.seen().d,
            };
        }
        b.row.content = Some(content);
        self.read_back(&mut b, meta, racy);
        self.forget_content(old.as_ref(), &b)?;
        self.settle(&b)
    }

    fn read_back(&self, b: &mut Base, meta: &Meta, racy: bool) {
        (b.row.mode, b.row.mtime, b.row.stat, b.row.racy) =
            (meta.mode, meta.mtime_ns, meta.stat(), racy);
        (b.asked_mode, b.asked_mtime) = (meta.mode, meta.mtime_ns);
    }

    fn forget_content(&self, old: Option<&Content>, now: &Base) -> Result<(), DbError> {
        forget_content(
            self.docs.tx,
            self.docs.space,
            old,
            now.row.content.as_ref(),
            &now.row.id,
        )
    }

    fn touched(&mut self, id: &ItemId, meta: &Meta) -> Result<(), DbError> {
        let Some(mut b) = self.get(id)? else {
            return Ok(());
        };
        let chmod = self.modes && meta.mode != b.row.mode && b.row.kind != Kind::Symlink;
        let mode = chmod.then_some(meta.mode);
        let mtime =
            (meta.mtime_ns != b.row.mtime && b.row.kind != Kind::Dir).then_some(meta.mtime_ns);
        let racy = b.row.racy;
        if b.row.copy_of.is_none() {
            let mut row = self.docs.load(id)?;
            if let Some(state) = ItemState::from_registers(&row.doc.regs) {
                let mode = mode.filter(|m| state.mode != Some(*m));
                let mtime = mtime.filter(|t| state.mtime != Some(*t));
                let edits = item::set_meta(&row.doc.regs, mode, mtime);
                self.docs.author(&self.actor, id, &mut row, &edits)?;
            }
        }
        self.read_back(&mut b, meta, racy);
        self.settle(&b)
    }

    fn refreshed(&mut self, id: &ItemId, meta: &Meta, racy: bool) -> Result<(), DbError> {
        let Some(mut b) = self.get(id)? else {
            return Ok(());
        };
        // Of a symlink nobody is told the time, but a step compares it.
        (b.row.stat, b.row.mtime) = (meta.stat(), meta.mtime_ns);
        b.row.racy = racy;
        base::put(self.docs.tx, self.docs.space, &b)
    }

    fn moved(&mut self, id: &ItemId, place: Place, meta: &Meta) -> Result<(), DbError> {
        let Some(mut b) = self.get(id)? else {
            return Ok(());
        };
        if let Some((main, _)) = b.row.copy_of {
            let Some(content) = b.row.content.clone() else {
                return Ok(());
            };
            return self.copy_becomes_item(b, main, Some(place), content, meta, false);
        }
        let spot = items::place(self.docs.tx, self.docs.space, id)?.unwrap_or_default();
        // A local name is told to nobody, wherever it moves.
        let local = place.name.clone();
        let shown = spot.shown.filter(|s| names::fits(s, id, &local));
        let there = spot.ep == Some(place.parent) && shown.is_some();
        let place = Place {
            name: shown.unwrap_or(place.name),
            ..place
        };
        if !there {
            let mut row = self.docs.load(id)?;
            self.docs.author(
                &self.actor,
                id,
                &mut row,
                &item::rename(&b.row.seen, &place),
            )?;
            if let Some(state) = ItemState::from_registers(&row.doc.regs) {
                b.row.seen.p = state.place_ops;
            }
        }
        b.row.parent = place.parent;
        b.row.name = local;
        b.row.stat = meta.stat();
        base::remove(self.docs.tx, self.docs.space, id)?;
        self.settle(&b)
    }

    /// Editing or renaming a conflict copy makes it an item of its own under its derived id, and
    /// takes the losing version off the item it belonged to.
    fn copy_becomes_item(
        &mut self,
        b: Base,
        main: ItemId,
        place: Option<Place>,
        content: Content,
        meta: &Meta,
        racy: bool,
    ) -> Result<(), DbError> {
        let id = b.row.id;
        let place = place.unwrap_or(Place {
            parent: b.row.parent,
            name: b.row.name.clone(),
        });
        let mut row = self.docs.load(&id)?;
        let edits = match ItemState::from_registers(&row.doc.regs) {
            None => item::create(
                b.row.kind,
                &place,
                Some(&content),
                self.modes.then_some(meta.mode),
                Some(meta.mtime_ns),
            ),
            // Somebody else made it an item too: of that one the bytes were seen that stood here.
            Some(state) => {
                let old = b.row.content.as_ref();
                let seen = Seen {
                    c: old.map(|old| state.ops_of(old)).unwrap_or_default(),
                    ..Seen::default()
                };
                item::edit_content(&seen, &content, None, None, &row.doc.regs)
            }
        };
        self.docs.author(&self.actor, &id, &mut row, &edits)?;
        let seen = ItemState::from_registers(&row.doc.regs)
            .map(|s| Seen {
                c: s.ops_of(&content),
                ..s.seen()
            })
            .unwrap_or_default();
        base::remove(self.docs.tx, self.docs.space, &id)?;
        self.settle(&Self::row(
            id,
            place,
            b.row.kind,
            Some(content),
            seen,
            meta,
            racy,
        ))?;
        self.drop_version(&main, &b)
    }

    fn drop_version(&mut self, main: &ItemId, copy: &Base) -> Result<(), DbError> {
        let mut row = self.docs.load(main)?;
        let edits: Vec<_> = copy
            .row
            .seen
            .c
            .iter()
            .flat_map(|op| item::drop_version(*op))
            .collect();
        let merged = merge_drops(edits);
        self.docs.author(&self.actor, main, &mut row, &merged)?;
        Ok(())
    }

    fn gone(&mut self, id: &ItemId) -> Result<(), DbError> {
        let Some(b) = self.get(id)? else {
            return Ok(());
        };
        base::remove(self.docs.tx, self.docs.space, id)?;
        dirty::mark(
            self.docs.tx,
            self.docs.space,
            &b.row.copy_of.map_or(*id, |c| c.0),
            0,
        )?;
        if let Some((main, _)) = b.row.copy_of
            && self
                .get(&main)?
                .is_some_and(|m| m.row.content == b.row.content)
        {
            // Its bytes still stand under the item's own name: who deleted one of two did not mean both.
            return Ok(());
        }
        forget_content(
            self.docs.tx,
            self.docs.space,
            b.row.content.as_ref(),
            None,
            id,
        )?;
        self.delete(b)
    }

    /// Authors the deletion of what `b` showed. A newer version that was not on the disk lives on.
    fn delete(&mut self, mut b: Base) -> Result<(), DbError> {
        if let Some((main, _)) = b.row.copy_of {
            self.drop_version(&main, &b)?;
            // Somebody else made it an item, whose place it has not gone to yet: these bytes were it.
            b.row.seen = Seen::default();
        }
        let mut row = self.docs.load(&b.row.id)?;
        let Some(state) = ItemState::from_registers(&row.doc.regs) else {
            return Ok(());
        };
        let dead = match b.row.kind {
            Kind::Dir => state.deleted,
            Kind::File | Kind::Symlink => b
                .row
                .content
                .as_ref()
                .is_none_or(|c| state.ops_of(c).is_empty()),
        };
        if !dead {
            equal_too(&mut b, &state);
            let edits = item::delete(&b.row.seen, self.act, b.row.content.as_ref(), &row.doc.regs);
            self.deleted |= self.docs.author(&self.actor, &b.row.id, &mut row, &edits)?;
        }
        Ok(())
    }
}

/// Another operation that put the very bytes the disk showed was seen with them, though base has not
/// heard of it yet: a version that nobody has on a disk would stay behind otherwise.
fn equal_too(b: &mut Base, state: &ItemState) {
    if mutated!(EqualBytesUnseen) {
        return;
    }
    if let Some(content) = &b.row.content {
        b.row.seen.c.extend(state.ops_of(content));
        b.row.seen.c.sort_unstable();
        b.row.seen.c.dedup();
    }
}

/// Several deletions of versions of one register as one edit: a change holds a key once.
fn merge_drops(edits: Vec<ownmesh_crdt::doc::Edit>) -> Vec<ownmesh_crdt::doc::Edit> {
    let mut out: Vec<ownmesh_crdt::doc::Edit> = Vec::new();
    for edit in edits {
        match out.iter_mut().find(|e| e.key == edit.key) {
            Some(first) => first.pred.extend(edit.pred),
            None => out.push(edit),
        }
    }
    out
}

/// Drops the chunk list of `old` unless some file still holds it.
pub(super) fn forget_content(
    tx: &crate::db::Connection,
    space: i64,
    old: Option<&Content>,
    now: Option<&Content>,
    id: &ItemId,
) -> Result<(), DbError> {
    let Some(Content::File { size, hash }) = old else {
        return Ok(());
    };
    if *size <= ownmesh_tiering::chunker::ONE_CHUNK as u64 || old == now {
        return Ok(());
    }
    let held = base::holding(tx, space, hash, 2)?
        .iter()
        .any(|b| b.row.id != *id);
    if held {
        Ok(())
    } else {
        chunks::remove(tx, space, hash)
    }
}

/// The hash that names a version, for derived ids: of a link its target's.
pub(super) fn version_hash(secret: &SpaceSecret, content: &Content) -> ContentHash {
    match content {
        Content::File { hash, .. } => *hash,
        Content::Link { target } => secret.content_hash(target.as_bytes()),
    }
}
