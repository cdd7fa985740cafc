//! Bytes that nobody has any more.
//!
//! A device may announce a file and then lose it for good before anybody fetched it: its disk dies, its
//! folder is put back from a backup. The others wait for those bytes, and no rule can say for how
//! long. A person can: what is given up is taken off the item, for every device.

use ownmesh_crdt::item::{self, Content, ItemState};
use ownmesh_crypto::ItemId;

use super::{Engine, Now};
use crate::command::CommandError;
use crate::db::{DbError, base, items};

impl Engine {
    /// Gives up the versions of an item whose bytes are not on this device. If none is left, the item
    /// is deleted.
    ///
    /// # Errors
    /// No such space or item; nothing to give up.
    pub fn abandon(&mut self, space: &str, id: &ItemId, now: Now) -> Result<(), CommandError> {
        let n = self.space_by_name(space)?;
        let failed = |e: DbError| CommandError::failed(e.to_string());
        let row = items::get(self.db.read(), n, id).map_err(failed)?;
        let Some(state) = row.and_then(|row| ItemState::from_registers(&row.doc.regs)) else {
            return Err(CommandError::not_found("item", id.to_string()));
        };
        let mut missing = Vec::new();
        for (_, content) in &state.versions {
            let Content::File { hash, .. } = content else {
                continue;
            };
            let held = base::holding(self.db.read(), n, hash, 1).map_err(failed)?;
            if held.is_empty() && !missing.contains(content) {
                missing.push(content.clone());
            }
        }
        if missing.is_empty() {
            return Err(
                CommandError::refused("all bytes of this item are here").about(id.to_string())
            );
        }
        let all = state.versions.iter().all(|(_, c)| missing.contains(c));
        let mut act = [0; 8];
        self.rng.fill_bytes(&mut act);
        self.edit_items(n, |docs, actor| {
            for content in &missing {
                let mut row = docs.load(id)?;
                let Some(state) = ItemState::from_registers(&row.doc.regs) else {
                    return Ok(());
                };
                let edits = if all {
                    item::delete(&state.seen(), act, Some(content), &row.doc.regs)
                } else {
                    let drops = state.ops_of(content).into_iter();
                    drops.flat_map(item::drop_version).collect()
                };
                docs.author(actor, id, &mut row, &edits)?;
            }
            Ok(())
        })
        .map_err(failed)?;
        self.nudge(now);
        Ok(())
    }
}
