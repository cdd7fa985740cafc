//! What lies in the trash of a folder, and how it came there, as the item's changes tell it.

use std::collections::BTreeMap;

use ownmesh_crdt::item::{Content, ItemState};
use ownmesh_crypto::{DeviceId, ItemId};

use super::{find, history};
use crate::command::TrashEntry;
use crate::db::{Connection, DbError, items};
use crate::disk::trash::{Trashed, front};
use crate::status::Time;

/// Tells one entry. The name there says which item and content; the item's changes say the rest.
pub(crate) fn entry(
    conn: &Connection,
    space: &find::Where,
    trashed: &Trashed,
    names: &BTreeMap<DeviceId, String>,
) -> Result<TrashEntry, DbError> {
    let mut out = TrashEntry {
        item: trashed.name.clone(),
        space: space.name.clone(),
        path: trashed.original.clone(),
        at: Time::from_millis(i64::try_from(trashed.at).unwrap_or(0).saturating_mul(1_000)),
        why: "set-aside".into(),
        device: None,
        size: trashed.meta.size,
    };
    let Ok(number) = u32::from_str_radix(&trashed.id, 16) else {
        return Ok(out);
    };
    for id in items::beginning(conn, space.n, number.to_be_bytes())? {
        if tell(conn, space, trashed, names, &id, &mut out)? {
            break;
        }
    }
    Ok(out)
}

/// Follows the content to the change that took it away. Returns whether the item is the right one.
fn tell(
    conn: &Connection,
    space: &find::Where,
    trashed: &Trashed,
    names: &BTreeMap<DeviceId, String>,
    id: &ItemId,
    out: &mut TrashEntry,
) -> Result<bool, DbError> {
    let is_it = |state: &ItemState| match (state.content(), trashed.content) {
        (Some(Content::File { hash, .. }), Some(content)) => front(hash) == content,
        // A symlink, or what nobody had read: by the name alone.
        (_, None) => !state.deleted && state.place.name.starts_with(&trashed.original),
        _ => false,
    };
    let writers = find::writers(conn, space.n)?;
    let mut held: Option<ItemState> = None;
    let mut known = false;
    for one in history::changes(conn, space.n, id)? {
        let Some(after) = one.after else { continue };
        let now = is_it(&after);
        if let Some(before) = held.as_ref().filter(|_| !now) {
            out.why = if after.deleted { "deleted" } else { "replaced" }.into();
            out.device = writers
                .get(&one.past.actor)
                .and_then(|d| names.get(d))
                .cloned();
            out.path = find::path(conn, space.n, &before.place)?;
            known = true;
        }
        held = now.then_some(after);
    }
    if let (false, Some(state)) = (known, &held) {
        // It stands as this in the mesh; here it made way for something.
        out.path = find::path(conn, space.n, &state.place)?;
        known = true;
    }
    Ok(known)
}
