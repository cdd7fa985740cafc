//! Devices this one does not talk to, because its user said so, and new names for devices.
//!
//! A blocked device stays one of the mesh: it keeps its keys, the others go on talking to it, and what
//! it writes comes here through them. Taking it out of the mesh is another thing, and needs the root key.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crypto::DeviceId;
use ownmesh_crypto::registry::{self, MAX_RENAMES, StatementError};

use super::registry::seconds;
use super::{Effect, Engine, Now};
use crate::command::CommandError;
use crate::db::{DbError, dirty, items, settings};

impl Engine {
    /// The devices that are not talked to.
    pub(super) fn load_blocked(&mut self) -> Result<(), DbError> {
        self.blocked = settings::blocked(self.db.read())?.into_iter().collect();
        Ok(())
    }

    /// The devices that are not talked to.
    #[must_use]
    pub fn blocked(&self) -> &BTreeSet<DeviceId> {
        &self.blocked
    }

    /// Talks to a device no more, or again. It is durable before connections are cut.
    ///
    /// # Errors
    /// No such device, or it is this one; the database failed.
    pub fn block(&mut self, name: &str, blocked: bool, now: Now) -> Result<String, CommandError> {
        let device = self.device_named(name)?;
        if device == self.device {
            return Err(CommandError::refused("this device cannot block itself").about(name));
        }
        self.db
            .write_durable(|tx| settings::block(tx, &device, blocked))
            .map_err(|e: DbError| CommandError::failed(e.to_string()))?;
        if blocked {
            self.blocked.insert(device);
            self.peer_down(now, &device);
        } else {
            self.blocked.remove(&device);
        }
        self.effects.push(Effect::Peers);
        Ok(self.device_name(&device))
    }

    /// Gives a device another name, everywhere.
    ///
    /// # Errors
    /// No such device; the name is taken or none; the database failed.
    pub fn rename_device(&mut self, name: &str, new: &str, now: Now) -> Result<(), CommandError> {
        let device = self.device_named(name)?;
        let view = self.registry.view();
        let taken = |(id, entry): (&DeviceId, &registry::DeviceEntry)| {
            *id != device && (entry.name == new || id.to_string() == new)
        };
        if view.devices.iter().any(taken) {
            return Err(
                CommandError::refused(format!("another device is called {new} already")).about(new),
            );
        }
        if view.devices.get(&device).is_some_and(|d| d.name == new) {
            return Ok(());
        }
        if view.renamed(&device) >= MAX_RENAMES {
            return Err(CommandError::refused(format!(
                "{name} was renamed {MAX_RENAMES} times: every name is kept for ever, so that is the end of it"
            ))
            .about(name));
        }
        let statement = registry::name(&self.identity.keys, view, device, new, seconds(now))
            .map_err(|error| match error {
                StatementError::BadName => CommandError::usage(format!(
                    "{new:?} cannot be the name of a device: 1 to 128 bytes without control characters"
                )),
                other => CommandError::failed(other.to_string()),
            })?;
        self.publish(vec![statement.bytes().to_vec()])
            .map_err(|e| CommandError::failed(e.to_string()))?;
        Ok(())
    }

    /// Devices may have other names than these now: conflict copies are named after their writers, so
    /// they are looked at once more.
    pub(super) fn renamed(&mut self, before: &BTreeMap<DeviceId, String>) -> Result<(), DbError> {
        let devices = &self.registry.view().devices;
        let other = |(id, name): (&DeviceId, &String)| {
            devices.get(id).is_some_and(|entry| entry.name != *name)
        };
        if !before.iter().any(other) {
            return Ok(());
        }
        let numbers: Vec<i64> = self.spaces.keys().copied().collect();
        self.db.write(|tx| {
            for n in numbers {
                for (id, spot) in items::conflicts(tx, n)? {
                    dirty::mark(tx, n, &id, spot.size)?;
                }
            }
            Ok::<_, DbError>(())
        })?;
        for space in self.spaces.values_mut() {
            space.again = true;
        }
        Ok(())
    }

    /// A device by its name or id. Two may have one name: then only the id says which.
    pub(super) fn device_named(&self, name: &str) -> Result<DeviceId, CommandError> {
        let devices = &self.registry.view().devices;
        let fits = |(id, d): &(&DeviceId, &registry::DeviceEntry)| {
            d.name == name || id.to_string() == name
        };
        let found: Vec<DeviceId> = devices.iter().filter(fits).map(|(id, _)| *id).collect();
        match found[..] {
            [one] => Ok(one),
            [] => {
                let all: Vec<&str> = devices.values().map(|d| d.name.as_str()).collect();
                Err(CommandError::not_found("device", name)
                    .hint(format!("devices of this mesh: {}", all.join(", "))))
            }
            _ => {
                let ids: Vec<String> = found.iter().map(ToString::to_string).collect();
                Err(
                    CommandError::usage(format!("several devices are called {name}"))
                        .hint(format!("name one by its id: {}", ids.join(", ")))
                        .about(name),
                )
            }
        }
    }
}
