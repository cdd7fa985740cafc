//! Carries out what `past::undo` has planned: ordinary changes of this device, so that they can be undone as well.
//!
//! All of a space is one transaction: a kill leaves all of it or nothing. The bytes that come back were gathered in the
//! trash and flushed before, and lie there until the disk has them. An item whose document is not the one that was
//! planned for is left alone: somebody changed it meanwhile. What is taken away was confirmed by a person, so no
//! device's brake asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ownmesh_crdt::doc::Edit;
use ownmesh_crdt::item;
use ownmesh_crdt::op::Scalar;
use ownmesh_crdt::past::{bring_back, take_away};
use ownmesh_crypto::{DeviceId, ItemId, SpaceId};

use super::brake::{SETTINGS, key};
use super::membership::JOINING;
use super::{Engine, Now};
use crate::command::CommandError;
use crate::db::{DbError, items, spaces};
use crate::disk::trash::Front;
use crate::past::find::Where;
use crate::past::undo::{Become, Planned};

/// What those need who read beside the engine.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// The database.
    pub(crate) db: PathBuf,
    /// The spaces in service.
    pub(crate) spaces: Vec<Where>,
    /// The names of all devices.
    pub(crate) names: BTreeMap<DeviceId, String>,
    /// The device that was named.
    pub(crate) device: Option<DeviceId>,
    /// Unix milliseconds.
    pub(crate) now: i64,
}

/// Who could have contents of a space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders {
    /// Connected: they can be asked.
    pub(crate) connected: Vec<DeviceId>,
    /// Names of all others that take part.
    pub(crate) away: Vec<String>,
}

impl Engine {
    /// What is needed to read beside the engine.
    ///
    /// # Errors
    /// No such device.
    pub(crate) fn scope(&self, device: Option<&str>, now: Now) -> Result<Scope, CommandError> {
        let known = &self.registry.view().devices;
        Ok(Scope {
            db: self
                .db
                .path()
                .map(ToOwned::to_owned)
                .ok_or_else(|| CommandError::failed("this device has no database file"))?,
            spaces: self
                .spaces
                .values()
                // Both sides of one that is being joined are not one yet.
                .filter(|s| s.stopped() != Some(JOINING))
                .map(|s| Where {
                    n: s.row.n,
                    id: s.row.id,
                    name: s.name.clone(),
                    folder: s.row.path.clone(),
                })
                .collect(),
            names: known.iter().map(|(id, d)| (*id, d.name.clone())).collect(),
            device: device.map(|d| self.device_named(d)).transpose()?,
            now: now.wall,
        })
    }

    /// Who could have contents of a space.
    pub(crate) fn holders(&self, n: i64, id: &SpaceId) -> Holders {
        let connected = self.listeners(id);
        let members = spaces::members(self.db.read(), n).unwrap_or_default();
        let away = members
            .iter()
            .filter(|m| m.joined && m.device != self.device && !connected.contains(&m.device));
        Holders {
            away: away.map(|m| self.device_name(&m.device)).collect(),
            connected,
        }
    }

    /// What lies in the trash of a space now.
    pub(crate) fn set_kept(&mut self, n: i64, kept: BTreeSet<Front>) {
        let own = self.device;
        if let Some(space) = self.spaces.get_mut(&n) {
            space.kept = kept;
            space.absent.retain(|(device, _), _| *device != own);
            space.again = true;
        }
    }

    /// The trash of a space has these no more. Not all anew: steps may have added to it since it was read.
    pub(crate) fn drop_kept(&mut self, n: i64, gone: &BTreeSet<Front>) {
        if let Some(space) = self.spaces.get_mut(&n) {
            space.kept.retain(|front| !gone.contains(front));
        }
    }

    /// Makes the items of a plan what they are to become; returns those that were changed meanwhile.
    ///
    /// # Errors
    /// The database failed, or the name of a new item is taken: nothing is changed then.
    pub(crate) fn take_back(
        &mut self,
        n: i64,
        planned: &[Planned],
        now: Now,
    ) -> Result<BTreeSet<ItemId>, CommandError> {
        let failed = |e: DbError| CommandError::failed(e.to_string());
        for one in planned {
            if let Become::New(_, place) = &one.to
                && !items::claims(self.db.read(), n, &place.parent, &place.name)
                    .map_err(failed)?
                    .is_empty()
            {
                return Err(CommandError::refused("something stands there already")
                    .hint("choose another name with --to")
                    .about(place.name.clone()));
            }
        }
        let mut act = [0; 8];
        self.rng.fill_bytes(&mut act);
        let mut changed = BTreeSet::new();
        self.edit_items(n, |docs, actor| {
            let mut deleted = false;
            for one in planned {
                let mut row = docs.load(&one.id)?;
                if row.doc.heads != one.heads {
                    changed.insert(one.id);
                    continue;
                }
                let edits = match &one.to {
                    Become::Gone => take_away(&row.doc.regs, act),
                    Become::This(before, place) => bring_back(&row.doc.regs, before, place),
                    Become::New(like, place) => {
                        item::create(like.kind, place, like.content(), like.mode, like.mtime)
                    }
                };
                let done = docs.author(actor, &one.id, &mut row, &edits)?;
                deleted |= done && matches!(one.to, Become::Gone);
            }
            if deleted {
                let mut row = docs.load(&SETTINGS)?;
                let answer = Edit {
                    key: key(&act),
                    put: Some(Scalar::Bool(true)),
                    pred: Vec::new(),
                };
                docs.author(actor, &SETTINGS, &mut row, &[answer])?;
            }
            Ok(())
        })
        .map_err(failed)?;
        if let Some(space) = self.spaces.get_mut(&n) {
            // What is named now lies in the trash, and is on the disk for good before others hear of it.
            space.unsynced = Some(Vec::new());
        }
        self.nudge(now);
        Ok(changed)
    }
}
