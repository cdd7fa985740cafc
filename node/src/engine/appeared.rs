//! Something stands on the disk that base does not know: which item it is.
//!
//! Nothing tells but its name and its bytes. Taken for something new although the mesh has it, it would
//! stand there twice (a conflict copy that becomes a file, and gets a copy of its own with the next
//! look), or come back although it was deleted; taken for what the mesh has although a user put it
//! there, it would be written over. So equal bytes under an item's name are that item, other bytes
//! are a concurrent version of it, and only what is neither is new.

use ownmesh_crdt::item::{self, Content, ItemState, Kind, Place, Seen};
use ownmesh_crdt::mutated;
use ownmesh_crdt::tree::{conflicted, unsuffixed};
use ownmesh_crypto::ItemId;

use super::author::{Author, version_hash};
use crate::db::items::{self, ItemRow, Spot};
use crate::db::{DbError, base, dirty, here};
use crate::disk::{Meta, names};

/// An entry of the disk that base does not know.
#[derive(Debug)]
pub(super) struct Appeared<'a> {
    pub(super) place: Place,
    pub(super) kind: Kind,
    pub(super) content: Option<Content>,
    pub(super) meta: &'a Meta,
    pub(super) racy: bool,
}

impl Appeared<'_> {
    /// Whether a version of an item has its bytes.
    fn is_of(&self, state: &ItemState) -> bool {
        let mut versions = state.versions.iter();
        versions.any(|(_, c)| Some(c) == self.content.as_ref())
    }
}

/// After this many names in use an id is drawn by hash of the last one anyway; see [`Author::free_id`].
const GENERATIONS: u32 = 64;

impl Author<'_> {
    /// The id of a new item: a keyed hash of where it was made and what it is, so that two devices
    /// that import or make the same tree share its documents; numbered on while that id names a
    /// document that is known here, live, moved or dead (`mv log log.1; touch log`).
    fn free_id(&self, place: &Place, kind: Kind) -> Result<ItemId, DbError> {
        let mut id = ItemId::ROOT;
        for generation in 0..GENERATIONS {
            id = self.secret.item_id(
                &place.parent,
                &format!("{}/{generation}/{}", items::kind_column(kind), place.name),
            );
            if mutated!(DerivedIdReused) || !items::known(self.docs.tx, self.docs.space, &id)? {
                return Ok(id);
            }
        }
        // A name made and removed over and over (a lock file): continue from the actor's own id.
        let mut n = 0_u64;
        loop {
            id = self.secret.item_id(&id, &format!("{}/{n}", self.actor));
            if !items::known(self.docs.tx, self.docs.space, &id)? {
                return Ok(id);
            }
            n += 1;
        }
    }

    /// Finds out which item it is, or makes a new one; base knows it from then on.
    pub(super) fn appeared(&mut self, new: Appeared<'_>) -> Result<ItemId, DbError> {
        let there = self.there(&new)?;
        let equal = |(_, _, state): &(_, _, ItemState)| new.content.is_none() || new.is_of(state);
        if !there.as_ref().is_some_and(equal) {
            if let Some(copy) = self.adopt_copy(&new)? {
                return Ok(copy);
            }
            if self.merging
                && !mutated!(JoinerRevives)
                && let Some(id) = self.bury(&new)?
            {
                return Ok(id);
            }
        }
        match there {
            Some((id, row, state)) => self.adopt(id, row, &state, new),
            None => self.make(new),
        }
    }

    fn make(&mut self, new: Appeared<'_>) -> Result<ItemId, DbError> {
        let id = self.free_id(&new.place, new.kind)?;
        let mtime = (new.kind != Kind::Dir).then_some(new.meta.mtime_ns);
        let mode = (self.modes && new.kind != Kind::Symlink).then_some(new.meta.mode);
        let edits = item::create(new.kind, &new.place, new.content.as_ref(), mode, mtime);
        let mut row = self.docs.load(&id)?;
        self.docs.author(&self.actor, &id, &mut row, &edits)?;
        let seen = ItemState::from_registers(&row.doc.regs)
            .map(|s| s.seen())
            .unwrap_or_default();
        self.stands(id, None, seen, new)?;
        Ok(id)
    }

    /// Base knows it from now on.
    fn stands(
        &mut self,
        id: ItemId,
        mode: Option<u32>,
        seen: Seen,
        new: Appeared<'_>,
    ) -> Result<(), DbError> {
        let (meta, racy) = (new.meta, new.racy);
        let mut b = Self::row(id, new.place, new.kind, new.content, seen, meta, racy);
        // Asking for something else than what is there makes the planner set it.
        if mode.is_some_and(|mode| mode != meta.mode) {
            b.asked_mode = u32::MAX;
        }
        self.settle(&b)
    }

    /// Live items shown under a name, or under one that a collision made of it.
    fn shown(&self, parent: &ItemId, name: &str) -> Result<Vec<(ItemId, Spot)>, DbError> {
        let (tx, space) = (self.docs.tx, self.docs.space);
        let mut claims = items::claims(tx, space, parent, name)?;
        if let Some(original) = unsuffixed(name) {
            claims.extend(items::claims(tx, space, parent, &original)?);
        }
        claims.retain(|(_, s)| s.shown.as_deref() == Some(name));
        // Or under a local name, where this folder was in the mesh before.
        if let Some(tag) = names::tag(name) {
            for id in here::tagged(tx, space, parent, &tag)? {
                let spot = items::place(tx, space, &id)?.unwrap_or_default();
                let fits = |shown: &String| shown != name && names::fits(shown, &id, name);
                if spot.shown.as_ref().is_some_and(fits) {
                    claims.push((id, spot));
                }
            }
        }
        Ok(claims)
    }

    /// The item that the mesh shows there and that is not on this disk yet; rather one of those bytes
    /// that would be shown there if another did not have the name.
    fn there(&self, new: &Appeared<'_>) -> Result<Option<(ItemId, ItemRow, ItemState)>, DbError> {
        let (tx, space) = (self.docs.tx, self.docs.space);
        let (parent, name) = (&new.place.parent, &new.place.name);
        let mut claims = self.shown(parent, name)?;
        claims.extend(items::claims(tx, space, parent, name)?);
        let mut there = None;
        for (id, spot) in claims {
            if spot.kind != Some(new.kind) || self.get(&id)?.is_some() {
                continue;
            }
            let row = self.docs.load(&id)?;
            let Some(state) = ItemState::from_registers(&row.doc.regs) else {
                continue;
            };
            let named = spot
                .shown
                .as_ref()
                .is_some_and(|s| names::fits(s, &id, name));
            if named && new.content.is_none() || new.is_of(&state) {
                return Ok(Some((id, row, state)));
            }
            if named {
                there = Some((id, row, state));
            }
        }
        Ok(there)
    }

    /// Something appeared where the mesh already shows an item that is not on this disk yet:
    /// the same bytes are that item; other bytes are a concurrent version of it, not an edit.
    fn adopt(
        &mut self,
        id: ItemId,
        mut row: ItemRow,
        state: &ItemState,
        new: Appeared<'_>,
    ) -> Result<ItemId, DbError> {
        let mut seen = Seen {
            p: state.place_ops.clone(),
            d: state.seen().d,
            c: Vec::new(),
        };
        if let Some(content) = &new.content {
            seen.c = state.ops_of(content);
            if mutated!(AdoptDiffering) {
                seen.c = state.seen().c;
            }
            if seen.c.is_empty() {
                let before = Seen {
                    c: Vec::new(),
                    ..seen.clone()
                };
                let edits = item::edit_content(&before, content, None, None, &row.doc.regs);
                self.docs.author(&self.actor, &id, &mut row, &edits)?;
                if let Some(state) = ItemState::from_registers(&row.doc.regs) {
                    seen = Seen {
                        c: state.ops_of(content),
                        d: state.seen().d,
                        ..seen
                    };
                }
            }
        }
        // Mode and mtime are the mesh's.
        dirty::mark(self.docs.tx, self.docs.space, &id, 0)?;
        self.stands(id, state.mode, seen, new)?;
        Ok(id)
    }

    /// A losing version that is not on this disk yet has appeared under the name of a conflict copy:
    /// it is that copy, whatever name that should have by now.
    fn adopt_copy(&mut self, new: &Appeared<'_>) -> Result<Option<ItemId>, DbError> {
        let (tx, space) = (self.docs.tx, self.docs.space);
        let (Some(content), Some(main)) = (&new.content, conflicted(&new.place.name)) else {
            return Ok(None);
        };
        if mutated!(CopyIsNew) {
            return Ok(None);
        }
        for (id, spot) in self.shown(&new.place.parent, &main)? {
            if spot.conflict == 0 || spot.kind != Some(new.kind) {
                continue;
            }
            let row = self.docs.load(&id)?;
            let Some(state) = ItemState::from_registers(&row.doc.regs) else {
                continue;
            };
            let mut losing = state.conflicts().into_iter();
            let Some((op, _)) = losing.find(|(_, c)| c == content) else {
                continue;
            };
            let hash = version_hash(self.secret, content);
            let copy = self.secret.conflict_item(&id, &hash, op.counter, &op.actor);
            let there = base::copies(tx, space, &id)?
                .iter()
                .any(|b| b.row.content.as_ref() == Some(content));
            if there || items::place(tx, space, &copy)?.is_some_and(|s| s.alive) {
                continue;
            }
            let seen = Seen {
                c: state.ops_of(content),
                ..Seen::default()
            };
            let (place, content) = (new.place.clone(), new.content.clone());
            let mut b = Self::row(copy, place, new.kind, content, seen, new.meta, new.racy);
            b.row.copy_of = Some((id, op));
            dirty::mark(tx, space, &id, 0)?;
            self.settle(&b)?;
            return Ok(Some(copy));
        }
        Ok(None)
    }

    /// In the folder of a device that comes back stands what was deleted there meanwhile, byte for
    /// byte: base knows it as that item, and it goes the way of everything that was deleted
    /// elsewhere: asked about if it is much, and to the trash.
    fn bury(&mut self, new: &Appeared<'_>) -> Result<Option<ItemId>, DbError> {
        let (tx, space) = (self.docs.tx, self.docs.space);
        for (id, spot) in items::graves(tx, space, &new.place.parent, &new.place.name)? {
            if spot.kind != Some(new.kind) || self.get(&id)?.is_some() {
                continue;
            }
            let regs = self.docs.load(&id)?.doc.regs;
            let named = new.content.as_ref().is_none_or(|c| item::buried(&regs, c));
            let Some(state) = ItemState::from_registers(&regs).filter(|_| named) else {
                continue;
            };
            // The tombstone was not seen: what the user writes on top of it lives.
            let seen = Seen {
                p: state.place_ops,
                ..Seen::default()
            };
            dirty::mark(tx, space, &id, 0)?;
            let (place, content) = (new.place.clone(), new.content.clone());
            let b = Self::row(id, place, new.kind, content, seen, new.meta, new.racy);
            self.settle(&b)?;
            return Ok(Some(id));
        }
        Ok(None)
    }
}
