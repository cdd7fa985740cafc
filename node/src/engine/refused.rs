//! Items whose steps the disk refuses: when they are tried again, and what is said of them meanwhile.
//!
//! What is said goes with the refusal: a look at the folder does not take it back, and it does not outlive the item.
//! All of it is in memory only: after a start each step is tried anew.

use std::collections::BTreeMap;

use ownmesh_crypto::ItemId;

use super::Space;
use super::space::{DISK, RETRY};

/// How often [`RETRY`] doubles for what is refused again and again: up to 32 s.
const RETRY_DOUBLES: u32 = 4;
/// Refusals in a row, with a look at the disk after each, that still may be a user at work.
const LOOKS: u32 = 3;

/// What the disk refused of an item.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    /// How often.
    count: u32,
    /// Until when it rests.
    until: u64,
    /// The path that is told of each of its entries.
    told: BTreeMap<ItemId, String>,
}

impl Space {
    /// The disk refused a step of an item. It rests from the first refusal on, or, if a look at the disk
    /// (`looked`) is likely to tell why, from the third, and longer each time: what is in the way may be
    /// there to stay. Returns whether it rests.
    pub(super) fn refuse(&mut self, item: ItemId, looked: bool, now: u64) -> bool {
        let refusal = self.refused.entry(item).or_default();
        refusal.count += 1;
        let Some(more) = refusal.count.checked_sub(if looked { LOOKS } else { 1 }) else {
            return false;
        };
        refusal.until = now + (RETRY << more.min(RETRY_DOUBLES));
        self.rests(&item, now)
    }

    /// Says of an item that rests what is in the way of its entry `id`.
    pub(super) fn tell_refused(
        &mut self,
        item: &ItemId,
        id: ItemId,
        path: String,
        reason: String,
        wall: i64,
    ) {
        self.problem(&path, DISK, reason, wall);
        let told = self.refused.get_mut(item).map(|refusal| &mut refusal.told);
        if let Some(before) = told.and_then(|told| told.insert(id, path)) {
            self.unsay(&before);
        }
    }

    /// Nothing of an item is refused any more, and nothing is said of it.
    pub(super) fn is_refused_no_more(&mut self, item: &ItemId) {
        let refusal = self.refused.remove(item).unwrap_or_default();
        for path in refusal.told.values() {
            self.unsay(path);
        }
    }

    /// Forgets what the disk refused at a path, unless it is told of another item.
    fn unsay(&mut self, path: &str) {
        let mut told = self.refused.values().flat_map(|r| r.told.values());
        let refused = self.problems.get(path).is_some_and(|p| p.kind == DISK);
        if refused && !told.any(|other| other == path) {
            self.problems.remove(path);
        }
    }

    /// Whether an item rests after a refusal; then it is looked at again when that ends.
    pub(super) fn rests(&mut self, item: &ItemId, now: u64) -> bool {
        let until = self.refused.get(item).map(|refusal| refusal.until);
        let Some(until) = until.filter(|until| *until > now) else {
            return false;
        };
        self.retry_at = Some(self.retry_at.map_or(until, |at| at.min(until)));
        true
    }
}
