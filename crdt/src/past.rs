//! What happened to an item, read from its changes; and what it was before somebody's changes.
//!
//! For people: `history` tells the changes one by one, `undo` takes back what one device did. Both only read; what they
//! lead to is an ordinary edit. The danger guarded against is an undo that takes somebody else's work with it: the state
//! that is brought back holds every change of the others, and all that those build on ([`without`]).
//! Times are what writers' clocks said, and nothing but a choice of changes rests on them.

use ownmesh_crypto::ids::Incarnation;

use crate::doc::{Authored, ChangeHash, ChangeOp, CheckedChange, Edit, ItemDoc};
use crate::fault::{ApplyError, AuthorError};
use crate::guard;
use crate::history::History;
use crate::item::{self, Content, ItemState, Place, Seen};
use crate::op::{Registers, Scalar};

/// One change of an item, without what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its name.
    pub hash: ChangeHash,
    /// Who wrote it.
    pub actor: Incarnation,
    /// Unix milliseconds by its writer's clock; 0 if it does not say.
    pub time: i64,
}

/// One change of an item, and what the item was after it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The change.
    pub past: Past,
    /// What it does.
    pub ops: Vec<ChangeOp>,
    /// The item after it and all before it; nothing until kind and place are there.
    pub after: Option<ItemState>,
}

/// What is left of an item without some changes.
#[derive(Clone, Debug)]
pub enum Without {
    /// None of those changes is there.
    Untouched,
    /// Others have built on all of them; the item as it was before the first.
    Overtaken {
        /// Who wrote last.
        by: Incarnation,
        /// Nothing, if it was made by those changes.
        before: Option<ItemState>,
    },
    /// The item as the other changes left it; nothing, if it was made by those that are left out.
    Before(Option<ItemState>),
}

/// Tells the changes of a document in the order in which they are kept.
///
/// # Errors
/// If the stored body is damaged.
pub fn told(body: &[u8]) -> Result<Vec<Told>, ApplyError> {
    let mut doc = ItemDoc::default();
    let mut out = Vec::new();
    for chunk in guard::split(body).map_err(ApplyError::Body)? {
        let change = CheckedChange::check(chunk).map_err(ApplyError::Body)?;
        let time = guard::prescan(chunk).map_err(ApplyError::Body)?.time;
        doc.apply(&change)?;
        out.push(Told {
            past: Past {
                hash: change.hash(),
                actor: *change.actor(),
                time,
            },
            ops: change.ops().to_vec(),
            after: ItemState::from_registers(&doc.regs),
        });
    }
    Ok(out)
}

/// Leaves out the changes `undone` names, as far as nobody else has built on them: what stays is each change of
/// the others, with all it builds on.
///
/// # Errors
/// If the stored body is damaged.
pub fn without(body: &[u8], undone: &dyn Fn(&Past) -> bool) -> Result<Without, ApplyError> {
    let history = History::of(body).map_err(ApplyError::Body)?;
    let heads = &history.heads;
    let chosen: Vec<bool> = heads
        .iter()
        .map(|head| {
            undone(&Past {
                hash: ChangeHash(head.hash),
                actor: Incarnation::from_bytes(head.actor),
                time: head.time,
            })
        })
        .collect();
    if !chosen.contains(&true) {
        return Ok(Without::Untouched);
    }
    let deps = |n: usize| {
        let deps = heads[n].deps.iter();
        deps.filter_map(|d| history.position.get(&ChangeHash(*d)).copied())
    };
    // A change stands behind what it builds on: one walk each way is enough.
    let mut stays: Vec<bool> = chosen.iter().map(|chosen| !chosen).collect();
    for n in (0..heads.len()).rev() {
        if stays[n] {
            deps(n).for_each(|d| stays[d] = true);
        }
    }
    if stays.contains(&false) {
        return Ok(Without::Before(state_of(body, &stays)?));
    }
    let mut after = chosen.clone();
    for n in 0..heads.len() {
        after[n] |= deps(n).any(|d| after[d]);
    }
    let before: Vec<bool> = after.iter().map(|after| !after).collect();
    let last = (0..heads.len()).rev().find(|n| !chosen[*n]).unwrap_or(0);
    Ok(Without::Overtaken {
        by: Incarnation::from_bytes(heads[last].actor),
        before: state_of(body, &before)?,
    })
}

/// The item that some of the changes make, which have with them all they build on.
fn state_of(body: &[u8], which: &[bool]) -> Result<Option<ItemState>, ApplyError> {
    let chunks = guard::split(body).map_err(ApplyError::Body)?;
    let kept = chunks.iter().zip(which).filter(|(_, keep)| **keep);
    let kept: Vec<u8> = kept.flat_map(|(chunk, _)| chunk.iter().copied()).collect();
    if kept.is_empty() {
        return Ok(None);
    }
    Ok(ItemState::from_registers(&ItemDoc::rebuild(&kept)?.regs))
}

/// The edits that make an item again what it was; none if it is. `place`: where it is to stand.
#[must_use]
pub fn bring_back(regs: &Registers, before: &ItemState, place: &Place) -> Vec<Edit> {
    let mut edits = Vec::new();
    if let Some(content) = before.content() {
        let encoded = content.encode();
        let alone = matches!(regs.all("c"), [(_, Scalar::Bytes(c))] if *c == encoded);
        if !alone {
            edits.extend(item::resolve(regs, content, true));
        }
    }
    edits.extend(item::revive(regs, None));
    if ItemState::from_registers(regs).is_none_or(|now| now.place != *place) {
        let seen = Seen {
            p: regs.ops("p"),
            ..Seen::default()
        };
        edits.extend(item::rename(&seen, place));
    }
    edits.extend(item::set_meta(regs, before.mode, before.mtime));
    edits
}

/// The edits that take an item away with all its versions; none if it is gone.
#[must_use]
pub fn take_away(regs: &Registers, act: [u8; 8]) -> Vec<Edit> {
    let Some(now) = ItemState::from_registers(regs).filter(|now| !now.deleted) else {
        return Vec::new();
    };
    let content: Option<Content> = now.content().cloned();
    let mut edits = item::delete(&now.seen(), act, content.as_ref(), regs);
    for (op, other) in &now.versions {
        if Some(other) != content.as_ref() {
            edits.extend(item::drop_version(*op));
        }
    }
    edits
}

impl ItemDoc {
    /// [`ItemDoc::author_at`] without a time.
    ///
    /// # Errors
    /// As there.
    pub fn author(
        &self,
        actor: &Incarnation,
        edits: &[Edit],
    ) -> Result<Option<Authored>, AuthorError> {
        self.author_at(actor, 0, edits)
    }

    /// [`ItemDoc::commit_at`] without a time.
    ///
    /// # Errors
    /// As there.
    pub fn commit(
        &mut self,
        actor: &Incarnation,
        edits: &[Edit],
    ) -> Result<Option<Authored>, AuthorError> {
        self.commit_at(actor, 0, edits)
    }
}
