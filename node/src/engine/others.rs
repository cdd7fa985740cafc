//! What stands in the way on other devices, as far as they said: their user paused a space there, a guard
//! stopped it, their own rules keep items out. Said of connected devices alone: of one that is away it is
//! not known whether it still holds.

use std::collections::BTreeMap;

use ownmesh_crypto::DeviceId;

use super::peers::PeerSpace;
use super::{Engine, Space};
use crate::db::{DbError, spaces};
use crate::why::Why;

/// The guards that may stop a space, by the first word of the reason, and their numbers in a message.
const GUARDS: [(&str, u8); 3] = [("deletions", 1), ("folder", 2), ("joining", 3)];
/// Stopped for a reason that has no number yet.
const OTHER: u8 = 255;

/// What others are told of the reason why a space stands still; 0: it does not.
pub(super) fn guard_number(stopped: Option<&str>) -> u8 {
    let kind = stopped.map(|why| why.split(':').next().unwrap_or_default());
    kind.map_or(0, |kind| {
        let known = GUARDS.iter().find(|(word, _)| *word == kind);
        known.map_or(OTHER, |(_, number)| *number)
    })
}

fn guard_word(number: u8) -> Option<&'static str> {
    let known = GUARDS.iter().find(|(_, n)| *n == number);
    (number != 0).then(|| known.map_or("other", |(word, _)| word))
}

impl Engine {
    fn theirs(&self, space: &Space, id: &DeviceId) -> Option<&PeerSpace> {
        let theirs = self.peers.get(id)?.spaces.get(&space.row.id);
        theirs.filter(|s| s.joined)
    }

    fn others_of<'a>(
        &'a self,
        space: &'a Space,
    ) -> impl Iterator<Item = (&'a DeviceId, &'a PeerSpace)> {
        let ids = self.peers.keys();
        ids.filter_map(|id| Some((id, self.theirs(space, id)?)))
    }

    /// The devices whose users paused a space there.
    pub(super) fn paused_by(&self, space: &Space) -> Vec<String> {
        let paused = self.others_of(space).filter(|(_, s)| s.paused);
        paused.map(|(id, _)| self.device_name(id)).collect()
    }

    /// The devices on which a guard stopped a space, and which guard.
    pub(super) fn stopped_on(&self, space: &Space) -> BTreeMap<String, String> {
        let stopped = |(id, s): (&DeviceId, &PeerSpace)| {
            Some((self.device_name(id), guard_word(s.stopped)?.to_owned()))
        };
        self.others_of(space).filter_map(stopped).collect()
    }

    /// The devices that keep items out by their own rules, and how many.
    pub(super) fn kept_out_on(&self, space: &Space) -> BTreeMap<String, u64> {
        let keeps = self.others_of(space).filter(|(_, s)| s.unwanted > 0);
        keeps
            .map(|(id, s)| (self.device_name(id), s.unwanted))
            .collect()
    }

    /// What a device asks its user on which a guard stopped a space.
    pub(super) fn asks_elsewhere(&self, space: &Space) -> Option<String> {
        let mut stopped = self.others_of(space).filter(|(_, s)| s.stopped > 0);
        stopped.find_map(|(id, _)| self.held_up(space, id))
    }

    /// Of the items that a device lacks, those that its own rules keep out.
    pub(super) fn keeps_out(&self, space: &Space, id: &DeviceId) -> u64 {
        self.theirs(space, id).map_or(0, |s| s.unwanted)
    }

    /// Why nothing goes to a device and comes from it, by its user's wish or by that of this one's.
    pub(super) fn rests(&self, space: &Space, id: &DeviceId) -> Option<String> {
        let device = self.device_name(id);
        if self.blocked.contains(id) {
            Some(format!("{device} is blocked here"))
        } else if self.theirs(space, id).is_some_and(|s| s.paused) {
            Some(format!("{device} has paused it"))
        } else {
            None
        }
    }

    /// Why a device confirms nothing until somebody does something there, or here.
    pub(super) fn held_up(&self, space: &Space, id: &DeviceId) -> Option<String> {
        if let Some(why) = self.rests(space, id) {
            return Some(why);
        }
        let kind = guard_word(self.theirs(space, id)?.stopped)?;
        let (name, device) = (&space.name, self.device_name(id));
        Some(match kind {
            "deletions" => format!(
                "{device} has stopped and asks, since most files were deleted at once: \
                 mesh continue {name} or mesh revert {name} there"
            ),
            "folder" => format!(
                "{device} has stopped and asks, since its folder is not the one it was: \
                 mount its disk there, or mesh continue {name} or mesh revert {name}"
            ),
            "joining" => format!("{device} is joining it, and its files are not merged yet"),
            _ => format!("{device} has stopped: mesh status there says why"),
        })
    }

    /// The devices that have paused a space, or are blocked, where no other one gives a content: says so, and
    /// returns what would help.
    pub(super) fn waits_for_resting(
        &self,
        space: &Space,
        why: &mut Why,
    ) -> Result<Option<String>, DbError> {
        let mut resting = Vec::new();
        for member in spaces::members(self.db.read(), space.row.n)? {
            if let Some(said) = self.rests(space, &member.device).filter(|_| member.joined) {
                resting.push(self.device_name(&member.device));
                why.words.push(said);
            }
        }
        if resting.is_empty() {
            return Ok(None);
        }
        let next = fetched_when(&resting);
        why.waits_for = resting;
        Ok(Some(next))
    }
}

/// What happens next with a content of devices that rest.
pub(super) fn fetched_when(resting: &[String]) -> String {
    format!(
        "it is fetched when one of them goes on: {}",
        resting.join(", ")
    )
}
