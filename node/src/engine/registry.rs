//! Who belongs to the mesh: the signed statements this device holds, the keys they grant it.
//!
//! The registry is exchanged first on every connection, before any space is mentioned. Whoever
//! holds an epoch's key grants it to members that lack it, so that a device paired by one of two
//! others reads what the third sealed.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crdt::message::Message;
use ownmesh_crypto::registry::{self, Inserted, Registry, SpaceKind};
use ownmesh_crypto::{DeviceId, EpochKey, KeyId, SpaceId, StatementHash};

use super::{Effect, Engine, Notice, Now, StartError};
use crate::db::{Db, DbError, marks};

/// Rebuilds the registry from the database. Statements that do not verify are left out and logged:
/// one bad row must not lock a device out of its mesh.
pub(super) fn load(db: &mut Db) -> Result<Registry, StartError> {
    let statements = marks::statements(db.read())?;
    let mut registry = statements
        .iter()
        .find_map(|bytes| Registry::new(bytes).ok())
        .ok_or_else(|| StartError::Registry("no founding statement".into()))?;
    for bytes in &statements {
        if let Err(error) = registry.insert(bytes) {
            tracing::warn!(%error, "a stored statement does not verify");
        }
    }
    Ok(registry)
}

/// The name of a device, or its id where none is known.
pub(super) fn name_of(registry: &Registry, device: &DeviceId) -> String {
    registry
        .view()
        .devices
        .get(device)
        .map_or_else(|| device.to_string(), |d| d.name.clone())
}

impl Engine {
    /// The name of a device, or its id where none is known.
    pub(crate) fn device_name(&self, device: &DeviceId) -> String {
        name_of(&self.registry, device)
    }

    /// Opens every epoch key that is granted to this device and not open yet.
    pub(super) fn open_grants(&mut self) {
        let view = self.registry.view();
        for (space, epochs) in &view.epochs {
            for epoch in epochs {
                let keys = self.keys.entry(*space).or_default();
                if keys.contains_key(&epoch.key_id) || !epoch.grants.contains_key(&self.device) {
                    continue;
                }
                match registry::open_grant(&self.identity.keys, space, epoch) {
                    Ok(key) => {
                        keys.insert(epoch.key_id, key);
                    }
                    Err(error) => {
                        tracing::warn!(%space, %error, "an epoch key granted to this device does not open");
                    }
                }
            }
        }
    }

    /// The key new batches of a space are sealed with.
    pub(super) fn current_key(&self, space: &SpaceId) -> Option<EpochKey> {
        let epoch = self.registry.view().current_epoch(space)?;
        self.key(space, &epoch.key_id)
    }

    pub(super) fn key(&self, space: &SpaceId, id: &KeyId) -> Option<EpochKey> {
        self.keys.get(space)?.get(id).cloned()
    }

    /// Keeps statements and draws the consequences. Returns how many were new.
    pub(super) fn take_statements(&mut self, statements: &[Vec<u8>]) -> Result<usize, DbError> {
        let devices = &self.registry.view().devices;
        let before: BTreeSet<DeviceId> = devices.keys().copied().collect();
        let names: BTreeMap<DeviceId, String> = devices
            .iter()
            .map(|(id, d)| (*id, d.name.clone()))
            .collect();
        let mut new = Vec::new();
        for bytes in statements {
            match self.registry.insert(bytes) {
                Ok(Inserted::New | Inserted::Pending) => new.push(bytes),
                Ok(Inserted::Known) => {}
                Err(error) => tracing::warn!(%error, "statement refused"),
            }
        }
        if new.is_empty() {
            return Ok(0);
        }
        self.db.write(|tx| {
            new.iter()
                .try_for_each(|bytes| marks::put_statement(tx, bytes))
        })?;
        self.open_grants();
        self.renamed(&names)?;
        let after: Vec<(DeviceId, String)> = self
            .registry
            .view()
            .devices
            .iter()
            .map(|(id, d)| (*id, d.name.clone()))
            .collect();
        for (id, name) in after {
            if !before.contains(&id) && id != self.device {
                self.notice(Notice::Paired { device: name });
            }
        }
        self.effects.push(Effect::Peers);
        Ok(new.len())
    }

    /// Makes statements of this device's known here and to everybody connected.
    pub(super) fn publish(&mut self, statements: Vec<Vec<u8>>) -> Result<(), DbError> {
        self.take_statements(&statements)?;
        self.db.write_durable(|_| Ok::<(), DbError>(()))?;
        // Also to those the registry is still being exchanged with: nobody compares again later.
        let connected: Vec<DeviceId> = self.peers.keys().copied().collect();
        for device in connected {
            self.effects.push(Effect::Send {
                device,
                message: Message::Statements(statements.clone()),
            });
        }
        Ok(())
    }

    /// Grants epoch keys this device holds to members that lack them.
    pub(super) fn grant_keys(&mut self, now: Now) -> Result<(), DbError> {
        let mut statements = Vec::new();
        let view = self.registry.view();
        for (space, epochs) in &view.epochs {
            for epoch in epochs {
                let lacking: Vec<DeviceId> = view
                    .ungranted(epoch)
                    .filter(|d| *d != self.device)
                    .collect();
                let Some(key) = self.key(space, &epoch.key_id) else {
                    continue;
                };
                if lacking.is_empty() {
                    continue;
                }
                match registry::grants(
                    &self.identity.keys,
                    view,
                    space,
                    &key,
                    &lacking,
                    seconds(now),
                    &mut *self.rng,
                ) {
                    Ok(statement) => statements.push(statement.bytes().to_vec()),
                    Err(error) => tracing::warn!(%error, "epoch keys could not be granted"),
                }
            }
        }
        if statements.is_empty() {
            Ok(())
        } else {
            self.publish(statements)
        }
    }

    /// Makes a space known to the mesh: its statement, its first epoch, the key for every device.
    pub(super) fn found_space(&mut self, now: Now, name: &str) -> Result<SpaceId, String> {
        let id = self.mesh.space_id(name);
        let keys = self.identity.keys.clone();
        let mesh = self.registry.view().mesh_id;
        let fail = |e: registry::StatementError| e.to_string();
        let key = EpochKey::random(&mut *self.rng);
        let space = registry::space(&keys, &mesh, id, name, SpaceKind::Folder, seconds(now))
            .map_err(fail)?;
        let epoch = registry::epoch(&keys, &mesh, id, 1, &key, seconds(now)).map_err(fail)?;
        let members: Vec<DeviceId> = self.registry.view().devices.keys().copied().collect();
        let grants = registry::grants(
            &keys,
            self.registry.view(),
            &id,
            &key,
            &members,
            seconds(now),
            &mut *self.rng,
        )
        .map_err(fail)?;
        // In one transaction: a space whose key was never granted could not be repaired.
        let all = [space, epoch, grants].map(|s| s.bytes().to_vec());
        self.publish(all.to_vec()).map_err(|e| e.to_string())?;
        Ok(id)
    }

    /// A device told which statements it holds.
    pub(super) fn hear_registry(
        &mut self,
        now: Now,
        device: &DeviceId,
        digest: [u8; 32],
        hashes: &[StatementHash],
    ) -> Result<(), DbError> {
        if digest != self.registry.digest() {
            let lacking: Vec<Vec<u8>> = self
                .registry
                .lacking(hashes)
                .map(|s| s.bytes().to_vec())
                .collect();
            let wanting = !self.registry.missing(hashes).is_empty();
            for part in lacking.chunks(64) {
                self.effects.push(Effect::Send {
                    device: *device,
                    message: Message::Statements(part.to_vec()),
                });
            }
            if wanting {
                // Theirs follow; the conversation about spaces waits for them.
                return Ok(());
            }
        }
        self.peer_ready(now, device)
    }

    /// Statements arrived.
    pub(super) fn hear_statements(
        &mut self,
        now: Now,
        device: &DeviceId,
        statements: &[Vec<u8>],
    ) -> Result<(), DbError> {
        let new = self.take_statements(statements)?;
        if new > 0 {
            let others: Vec<DeviceId> = self
                .peers
                .keys()
                .filter(|d| *d != device)
                .copied()
                .collect();
            for other in others {
                self.effects.push(Effect::Send {
                    device: other,
                    message: Message::Statements(statements.to_vec()),
                });
            }
            self.grant_keys(now)?;
        }
        self.peer_ready(now, device)
    }
}

/// Wall time as statements carry it.
pub(super) fn seconds(now: Now) -> u64 {
    u64::try_from(now.wall / 1_000).unwrap_or(0)
}
