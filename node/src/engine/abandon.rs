//! Bytes that nobody has any more.
//!
//! A device may announce a file and then lose it for good before anybody fetched it: its disk dies, its
//! folder is put back from a backup. The others wait for those bytes, and no rule can say for how
//! long. A person can: what is given up is taken off the item, for every device.

use ownmesh_crdt::item::{self, Content, ItemState};
use ownmesh_crypto::{ContentHash, ItemId};

use super::{Engine, Now};
use crate::command::CommandError;
use crate::db::{DbError, base, items};

impl Engine {
    /// Gives up one content of an item. If no other version is left, the item is deleted.
    ///
    /// # Errors
    /// No such space, item or version; the bytes are here after all.
    pub fn abandon(
        &mut self,
        space: &str,
        id: &ItemId,
        hash: &ContentHash,
        now: Now,
    ) -> Result<(), CommandError> {
        let n = self.space_by_name(space)?;
        let failed = |e: DbError| CommandError::failed(e.to_string());
        let row = items::get(self.db.read(), n, id).map_err(failed)?;
        let state = row.and_then(|row| ItemState::from_registers(&row.doc.regs));
        let is_it = |c: &Content| matches!(c, Content::File { hash: h, .. } if h == hash);
        let versions = state.map(|s| s.versions).unwrap_or_default();
        let Some((_, content)) = versions.iter().find(|(_, c)| is_it(c)) else {
            return Err(CommandError::not_found("version", hash.to_string()));
        };
        if !base::holding(self.db.read(), n, hash, 1)
            .map_err(failed)?
            .is_empty()
        {
            return Err(CommandError::refused("these bytes are here").about(id.to_string()));
        }
        let alone = versions.iter().all(|(_, c)| c == content);
        let mut act = [0; 8];
        self.rng.fill_bytes(&mut act);
        self.edit_items(n, |docs, actor| {
            let mut row = docs.load(id)?;
            let Some(state) = ItemState::from_registers(&row.doc.regs) else {
                return Ok(());
            };
            let edits = if alone {
                item::delete(&state.seen(), act, Some(content), &row.doc.regs)
            } else {
                let ops = state.ops_of(content);
                ops.into_iter().flat_map(item::drop_version).collect()
            };
            docs.author(actor, id, &mut row, &edits)?;
            Ok(())
        })
        .map_err(failed)?;
        self.nudge(now);
        Ok(())
    }
}
