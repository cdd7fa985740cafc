//! What a set of statements amounts to.
//!
//! A pure function of the set: every rule that chooses between statements chooses by their content (root before device, then the
//! lower hash), never by the order of arrival or a clock. So two devices with the same statements see the same mesh.

use std::collections::BTreeMap;

use crate::grant::SealedKey;
use crate::ids::{DeviceId, KeyId, MeshId, SpaceId, StatementHash};
use crate::keys::DevicePublic;
use crate::registry::body::{
    Body, Delegation, Device, Epoch, Genesis, Grants, JoinPath, Name, Space, SpaceKind,
};
use crate::registry::statement::{Signer, Statement};

/// The mesh as the accepted statements describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The mesh.
    pub mesh_id: MeshId,
    /// Its name.
    pub mesh_name: String,
    /// The salt of the root's derivation.
    pub mesh_salt: [u8; 16],
    /// Ed25519 key of the root.
    pub root_public: [u8; 32],
    /// X25519 key of recovery grants.
    pub recovery_public: [u8; 32],
    /// All devices.
    pub devices: BTreeMap<DeviceId, DeviceEntry>,
    /// All spaces.
    pub spaces: BTreeMap<SpaceId, SpaceEntry>,
    /// The epochs of each space, ascending by (number, statement hash).
    pub epochs: BTreeMap<SpaceId, Vec<EpochEntry>>,
    delegates: BTreeMap<DeviceId, bool>,
    grants: BTreeMap<(SpaceId, KeyId), KeyGrants>,
    /// Names given later: number, statement, name.
    names: BTreeMap<DeviceId, (u32, StatementHash, String)>,
}

/// One device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceEntry {
    /// Its name; not unique.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// Its keys.
    pub public: DevicePublic,
    /// Who admitted it.
    pub added_by: Signer,
    /// Whether it may admit devices.
    pub may_add: bool,
    /// Whether it may let others admit devices.
    pub may_pass_on: bool,
    /// How it came in.
    pub path: JoinPath,
    /// Seconds since 1970 by the signer's clock; shown only.
    pub created_at: u64,
    /// The statement that stands for it.
    pub statement: StatementHash,
}

/// One space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpaceEntry {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: SpaceKind,
    /// Seconds since 1970 by the signer's clock; shown only.
    pub created_at: u64,
    /// The statement that stands for it.
    pub statement: StatementHash,
}

/// One epoch of a space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochEntry {
    /// Its number.
    pub number: u32,
    /// Its key's name.
    pub key_id: KeyId,
    /// The commitment its key must match.
    pub key_commit: [u8; 32],
    /// Who opened it.
    pub opened_by: Signer,
    /// The statement that opened it.
    pub statement: StatementHash,
    /// The key as granted to each device. Usually one copy each; a member may add a bad one, so all are kept and tried.
    pub grants: BTreeMap<DeviceId, Vec<SealedKey>>,
    /// The key as granted to the recovery key.
    pub recovery: Vec<SealedKey>,
}

/// Copies of one key, sorted and without repetition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct KeyGrants {
    devices: BTreeMap<DeviceId, Vec<SealedKey>>,
    recovery: Vec<SealedKey>,
}

impl View {
    /// The epoch new things are sealed under: highest number, then lowest statement hash. `None` while the space has none.
    pub fn current_epoch(&self, space: &SpaceId) -> Option<&EpochEntry> {
        let epochs = self.epochs.get(space)?;
        let highest = epochs.last()?.number;
        epochs.iter().find(|epoch| epoch.number == highest)
    }

    /// The epoch whose key has this name. Several may claim it; the first whose number is highest stands for them.
    pub fn epoch(&self, space: &SpaceId, key_id: &KeyId) -> Option<&EpochEntry> {
        self.epochs
            .get(space)?
            .iter()
            .rev()
            .find(|epoch| epoch.key_id == *key_id)
    }

    /// Members without a copy of this epoch's key.
    pub fn ungranted<'a>(&'a self, epoch: &'a EpochEntry) -> impl Iterator<Item = DeviceId> + 'a {
        self.devices
            .keys()
            .copied()
            .filter(|device| !epoch.grants.contains_key(device))
    }

    pub(super) fn new(genesis: &Genesis, mesh_id: MeshId) -> Self {
        Self {
            mesh_id,
            mesh_name: genesis.mesh_name.clone(),
            mesh_salt: genesis.mesh_salt,
            root_public: genesis.root_public,
            recovery_public: genesis.recovery_public,
            devices: BTreeMap::new(),
            spaces: BTreeMap::new(),
            epochs: BTreeMap::new(),
            delegates: BTreeMap::new(),
            grants: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// How often a device was renamed, as far as it shows: the number of the name that stands.
    pub fn renamed(&self, device: &DeviceId) -> u32 {
        self.names.get(device).map_or(0, |name| name.0)
    }

    /// The key that must have signed, if the signer is known.
    pub(super) fn signing_key(&self, signer: Signer) -> Option<&[u8; 32]> {
        match signer {
            Signer::Root => Some(&self.root_public),
            Signer::Device(device) => self.devices.get(&device).map(|entry| &entry.public.sign),
        }
    }

    /// Whether a known signer has been given the right to say this. More statements can turn no into yes, never yes into no.
    pub(super) fn authorised(&self, signer: Signer, body: &Body) -> bool {
        let Signer::Device(device) = signer else {
            return matches!(body, Body::Delegation(_) | Body::Device(_));
        };
        match body {
            Body::Genesis(_) => false,
            Body::Delegation(_) => self.delegates.get(&device) == Some(&true),
            Body::Device(_) => self.delegates.contains_key(&device),
            Body::Space(_) | Body::Epoch(_) | Body::Grants(_) | Body::Name(_) => {
                self.devices.contains_key(&device)
            }
        }
    }

    /// Takes in a verified, authorised statement. Any order of calls ends in the same view.
    pub(super) fn apply(&mut self, statement: &Statement) {
        let (hash, signer) = (statement.hash(), statement.signer());
        match statement.body() {
            Body::Genesis(_) => {}
            Body::Delegation(body) => self.apply_delegation(body),
            Body::Device(body) => self.apply_device(body, signer, hash),
            Body::Space(body) => self.apply_space(body, hash),
            Body::Epoch(body) => self.apply_epoch(body, signer, hash),
            Body::Grants(body) => self.apply_grants(body),
            Body::Name(body) => self.apply_name(body, hash),
        }
    }

    fn apply_name(&mut self, body: &Name, statement: StatementHash) {
        let stands = |(number, hash, _): &(u32, StatementHash, String)| {
            (*number, std::cmp::Reverse(*hash)) >= (body.number, std::cmp::Reverse(statement))
        };
        if self.names.get(&body.device_id).is_some_and(stands) {
            return;
        }
        if let Some(entry) = self.devices.get_mut(&body.device_id) {
            entry.name.clone_from(&body.name);
        }
        let name = (body.number, statement, body.name.clone());
        self.names.insert(body.device_id, name);
    }

    fn apply_delegation(&mut self, body: &Delegation) {
        let may_pass_on = self.delegates.entry(body.device_id).or_default();
        *may_pass_on |= body.may_pass_on;
        if let Some(entry) = self.devices.get_mut(&body.device_id) {
            entry.may_add = true;
            entry.may_pass_on = *may_pass_on;
        }
    }

    fn apply_device(&mut self, body: &Device, added_by: Signer, statement: StatementHash) {
        let rank = |signer, hash| (signer != Signer::Root, hash);
        if let Some(old) = self.devices.get(&body.device_id)
            && rank(old.added_by, old.statement) <= rank(added_by, statement)
        {
            return;
        }
        let delegate = self.delegates.get(&body.device_id);
        let later = self.names.get(&body.device_id).map(|name| &name.2);
        let entry = DeviceEntry {
            name: later.unwrap_or(&body.name).clone(),
            platform: body.platform.clone(),
            public: body.card.public,
            added_by,
            may_add: delegate.is_some(),
            may_pass_on: delegate == Some(&true),
            path: body.path,
            created_at: body.created_at,
            statement,
        };
        self.devices.insert(body.device_id, entry);
    }

    fn apply_space(&mut self, body: &Space, statement: StatementHash) {
        if self
            .spaces
            .get(&body.space_id)
            .is_some_and(|old| old.statement <= statement)
        {
            return;
        }
        let entry = SpaceEntry {
            name: body.name.clone(),
            kind: body.kind,
            created_at: body.created_at,
            statement,
        };
        self.spaces.insert(body.space_id, entry);
    }

    fn apply_epoch(&mut self, body: &Epoch, opened_by: Signer, statement: StatementHash) {
        let grants = self
            .grants
            .get(&(body.space_id, body.key_id))
            .cloned()
            .unwrap_or_default();
        let entry = EpochEntry {
            number: body.number,
            key_id: body.key_id,
            key_commit: body.key_commit,
            opened_by,
            statement,
            grants: grants.devices,
            recovery: grants.recovery,
        };
        let epochs = self.epochs.entry(body.space_id).or_default();
        let place = epochs
            .partition_point(|other| (other.number, other.statement) < (entry.number, statement));
        epochs.insert(place, entry);
    }

    fn apply_grants(&mut self, body: &Grants) {
        let grants = self.grants.entry((body.space_id, body.key_id)).or_default();
        for recipient in &body.recipients {
            insert_sorted(
                grants.devices.entry(recipient.device_id).or_default(),
                &recipient.sealed,
            );
        }
        if let Some(sealed) = &body.recovery {
            insert_sorted(&mut grants.recovery, sealed);
        }
        for epoch in self.epochs.get_mut(&body.space_id).into_iter().flatten() {
            if epoch.key_id == body.key_id {
                epoch.grants.clone_from(&grants.devices);
                epoch.recovery.clone_from(&grants.recovery);
            }
        }
    }
}

fn insert_sorted(copies: &mut Vec<SealedKey>, sealed: &SealedKey) {
    if let Err(place) = copies.binary_search(sealed) {
        copies.insert(place, sealed.clone());
    }
}
