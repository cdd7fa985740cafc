//! Contents that are in the log and on no disk: whoever made them left, or wrote over them before
//! anybody else had them.
//!
//! Said only if every device that takes part is there, gives contents, and has answered that it does not
//! have it, some time ago: what is written over at this moment is soon told of by the log. Not while it is
//! asked for again, and not by what a device said before it paused, stopped, or went on.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crdt::item::{Content, ItemState};
use ownmesh_crypto::{ContentHash, DeviceId, ItemId};

use super::fetch::{ABSENT, Fetch};
use super::others::guard_number;
use super::{Engine, Space};
use crate::db::{DbError, dirty, items, spaces};
use crate::status::{NOWHERE, Problem};

/// So many answers are kept: a person reads fewer.
const MOST: usize = 1_000;

/// Who said that it does not have a content, for which item, and since when.
#[derive(Debug, Default)]
pub(super) struct Denied(BTreeMap<ContentHash, BTreeMap<DeviceId, (ItemId, u64)>>);

impl Denied {
    pub(super) fn said(&mut self, hash: ContentHash, device: DeviceId, item: ItemId, now: u64) {
        if self.0.len() >= MOST && !self.0.contains_key(&hash) {
            // What is still not to be had is asked for again, and comes back.
            self.0.pop_first();
        }
        let by = self.0.entry(hash).or_default();
        by.entry(device).or_insert((item, now)).0 = item;
    }

    /// A content is here.
    pub(super) fn came(&mut self, hash: &ContentHash) {
        self.0.remove(hash);
    }

    /// Nothing is known any more of what a device has.
    pub(super) fn forget(&mut self, device: &DeviceId) {
        for by in self.0.values_mut() {
            by.remove(device);
        }
        self.0.retain(|_, by| !by.is_empty());
    }
}

impl Engine {
    /// Items of which a version is on no device that takes part, as all of them said.
    pub(super) fn nowhere(&self, space: &Space) -> Result<BTreeSet<ItemId>, DbError> {
        let mut out = BTreeSet::new();
        // Nor was this disk looked at while the space stands still here.
        if space.denied.0.is_empty() || space.stopped().is_some() || !space.scanned {
            return Ok(out);
        }
        let (conn, n) = (self.db.read(), space.row.n);
        let members = spaces::members(conn, n)?;
        let mut others = members.iter().filter(|m| m.joined);
        let listeners = self.listeners(&space.row.id);
        // What lies in a folder that is not merged, or not mounted, was not looked for.
        let looks = |d: &DeviceId| {
            let theirs = self.peers.get(d).and_then(|p| p.spaces.get(&space.row.id));
            theirs.is_some_and(|s| [0, guard_number(Some("deletions"))].contains(&s.stopped))
        };
        if !others.all(|m| listeners.contains(&m.device) && looks(&m.device)) {
            return Ok(out);
        }
        // An answer that is asked for anew, and may be the bytes this time. What lies begun here (`begun`)
        // does not count: the rest of it can be gone.
        let asked: BTreeSet<&ContentHash> =
            space.fetching.values().flat_map(Fetch::hashes).collect();
        for (hash, by) in &space.denied.0 {
            if asked.contains(hash) {
                continue;
            }
            let long_ago = |d| {
                by.get(d)
                    .is_some_and(|(_, at)| at + ABSENT <= self.seen_at.mono)
            };
            if listeners.is_empty() || !listeners.iter().all(long_ago) {
                continue;
            }
            for (item, _) in by.values() {
                // Other versions may have taken its place since.
                if dirty::has(conn, n, item)? && self.wants(n, item, hash)? {
                    out.insert(*item);
                }
            }
        }
        Ok(out)
    }

    fn wants(&self, n: i64, item: &ItemId, hash: &ContentHash) -> Result<bool, DbError> {
        let row = items::get(self.db.read(), n, item)?;
        let state = row.and_then(|row| ItemState::from_registers(&row.doc.regs));
        let holds =
            |content: &Content| matches!(content, Content::File { hash: h, .. } if h == hash);
        Ok(state.is_some_and(|s| s.versions.iter().any(|(_, content)| holds(content))))
    }

    /// The same for people: path, and what to do.
    pub(super) fn nowhere_told(&self, space: &Space) -> Result<Vec<Problem>, DbError> {
        let mut out = Vec::new();
        for id in self.nowhere(space)? {
            let item = self.path_in_mesh(space.row.n, &id)?;
            let reason = format!("{LOST}: {}", self.help(space, &id, &item)?);
            out.push(Problem {
                item: Some(item),
                kind: NOWHERE.to_owned(),
                reason,
                since: None,
            });
        }
        Ok(out)
    }

    /// What helps where a version is on no device.
    pub(super) fn help(&self, space: &Space, id: &ItemId, path: &str) -> Result<String, DbError> {
        let spot = items::place(self.db.read(), space.row.n, id)?;
        Ok(if spot.is_some_and(|spot| spot.conflict > 0) {
            let name = &space.name;
            format!(
                "where another version stands, mesh conflicts resolve {name}:{path} --keep here lets go of it"
            )
        } else {
            "it comes when a device that has it takes part again".to_owned()
        })
    }
}

/// That a version is on no device.
pub(super) const LOST: &str =
    "all devices of the space were asked, and none has the bytes of a version of it";
