//! Makes statements: one function per kind, and opening of what they grant.
//!
//! Nothing here enters a registry by itself: insert what comes out, persist it, then send it.

use rand::CryptoRng;

use crate::grant::{open_key, seal_key};
use crate::ids::{DeviceId, KeyId, MeshId, SpaceId};
use crate::keys::{DeviceCard, DeviceKeys};
use crate::labels::Label;
use crate::master::RootKeys;
use crate::registry::body::{
    Body, Delegation, Device, Epoch, Genesis, Grants, JoinPath, Name, Recipient, Space, SpaceKind,
};
use crate::registry::statement::{Signer, Statement};
use crate::registry::view::{EpochEntry, View};
use crate::registry::{MAX_DEVICES, StatementError};
use crate::secret::Secret;
use crate::space::EpochKey;

/// Whose key signs a statement that root and delegates may both make.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// The root, unlocked.
    Root(&'a RootKeys),
    /// A device.
    Device(&'a DeviceKeys),
}

impl By<'_> {
    fn sign(self, mesh: &MeshId, body: &Body) -> Result<Statement, StatementError> {
        match self {
            By::Root(root) => Statement::sign(Some(mesh), Signer::Root, body, |label, bytes| {
                root.sign(label, bytes)
            }),
            By::Device(keys) => {
                let signer = Signer::Device(keys.device_id());
                Statement::sign(Some(mesh), signer, body, |label, bytes| {
                    keys.sign(label, bytes)
                })
            }
        }
    }
}

/// Founds a mesh. `root` must have been derived with the same `mesh_salt`, generation 0.
pub fn genesis(
    root: &RootKeys,
    mesh_salt: [u8; 16],
    mesh_name: &str,
    created_at: u64,
) -> Result<Statement, StatementError> {
    let body = Body::Genesis(Genesis {
        mesh_salt,
        root_public: root.root_public(),
        recovery_public: root.recovery_public(),
        mesh_name: mesh_name.to_owned(),
        created_at,
    });
    Statement::sign(None, Signer::Root, &body, |label, bytes| {
        root.sign(label, bytes)
    })
}

/// Lets `device_id` admit devices, and with `may_pass_on` let others do so.
pub fn delegation(
    by: By<'_>,
    mesh: &MeshId,
    device_id: DeviceId,
    may_pass_on: bool,
    created_at: u64,
) -> Result<Statement, StatementError> {
    by.sign(
        mesh,
        &Body::Delegation(Delegation {
            device_id,
            may_pass_on,
            created_at,
        }),
    )
}

/// Admits a device. Refuses a card whose proof does not hold.
///
/// Check [`View::devices`] against [`MAX_DEVICES`] before asking the user for anything.
pub fn device(
    by: By<'_>,
    mesh: &MeshId,
    name: &str,
    platform: &str,
    card: &DeviceCard,
    path: JoinPath,
    created_at: u64,
) -> Result<Statement, StatementError> {
    let body = Body::Device(Device {
        device_id: card.public.device_id(),
        name: name.to_owned(),
        platform: platform.to_owned(),
        card: card.clone(),
        path,
        created_at,
    });
    by.sign(mesh, &body)
}

/// Makes a space known. `space_id` comes from [`MeshSecret::space_id`](crate::MeshSecret::space_id).
pub fn space(
    keys: &DeviceKeys,
    mesh: &MeshId,
    space_id: SpaceId,
    name: &str,
    kind: SpaceKind,
    created_at: u64,
) -> Result<Statement, StatementError> {
    By::Device(keys).sign(
        mesh,
        &Body::Space(Space {
            space_id,
            name: name.to_owned(),
            kind,
            created_at,
        }),
    )
}

/// Gives a device another name, in place of the one that stands in `view`.
pub fn name(
    keys: &DeviceKeys,
    view: &View,
    device_id: DeviceId,
    name: &str,
    created_at: u64,
) -> Result<Statement, StatementError> {
    let body = Name {
        device_id,
        name: name.to_owned(),
        number: view.renamed(&device_id).saturating_add(1),
        created_at,
    };
    By::Device(keys).sign(&view.mesh_id, &Body::Name(body))
}

/// Opens an epoch. Its grants are statements of their own: [`grants`].
pub fn epoch(
    keys: &DeviceKeys,
    mesh: &MeshId,
    space_id: SpaceId,
    number: u32,
    key: &EpochKey,
    created_at: u64,
) -> Result<Statement, StatementError> {
    let body = Epoch {
        space_id,
        number,
        key_id: key.id,
        key_commit: key.commitment(),
        created_at,
    };
    By::Device(keys).sign(mesh, &Body::Epoch(body))
}

/// Seals an epoch key to each of `recipients` that is a member, and to the recovery key.
///
/// A recipient that `view` does not know is an error, not left out: the caller believes it will be able to read.
pub fn grants<R: CryptoRng + ?Sized>(
    keys: &DeviceKeys,
    view: &View,
    space_id: &SpaceId,
    key: &EpochKey,
    recipients: &[DeviceId],
    created_at: u64,
    rng: &mut R,
) -> Result<Statement, StatementError> {
    if recipients.len() > MAX_DEVICES {
        return Err(StatementError::TooLarge);
    }
    let mut sealed_to = Vec::with_capacity(recipients.len());
    for device_id in recipients {
        let entry = view
            .devices
            .get(device_id)
            .ok_or(StatementError::UnknownRecipient(*device_id))?;
        let sealed = seal_key(
            &entry.public.seal,
            &info(space_id, &key.id, Some(device_id)),
            key.secret(),
            rng,
        )
        .map_err(|_| StatementError::BadCard)?;
        sealed_to.push(Recipient {
            device_id: *device_id,
            sealed,
        });
    }
    let recovery = seal_key(
        &view.recovery_public,
        &info(space_id, &key.id, None),
        key.secret(),
        rng,
    )
    .map_err(|_| StatementError::BadCard)?;
    let body = Grants {
        space_id: *space_id,
        key_id: key.id,
        recipients: sealed_to,
        recovery: Some(recovery),
        created_at,
    };
    By::Device(keys).sign(&view.mesh_id, &Body::Grants(body))
}

/// Why an epoch's key could not be had from the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Nobody has granted the key to this device yet; another member may still do so.
    #[error("the key {0} has not been granted to this device")]
    NotGranted(KeyId),
    /// There is a copy for this device, but none opens to the key the epoch committed to.
    #[error("the grant of key {0} is not valid")]
    Invalid(KeyId),
}

/// Opens this device's copy of an epoch key and checks it against the epoch's commitment.
pub fn open_grant(
    keys: &DeviceKeys,
    space_id: &SpaceId,
    epoch: &EpochEntry,
) -> Result<EpochKey, GrantError> {
    let device_id = keys.device_id();
    let copies = epoch.grants.get(&device_id).map_or(&[][..], Vec::as_slice);
    let info = info(space_id, &epoch.key_id, Some(&device_id));
    first_matching(
        epoch,
        copies
            .iter()
            .map(|copy| open_key(keys.seal_private(), &info, copy)),
    )
}

/// Opens the recovery copy of an epoch key, likewise.
pub fn open_recovery(
    root: &RootKeys,
    space_id: &SpaceId,
    epoch: &EpochEntry,
) -> Result<EpochKey, GrantError> {
    let info = info(space_id, &epoch.key_id, None);
    first_matching(
        epoch,
        epoch
            .recovery
            .iter()
            .map(|copy| open_key(root.recovery_private(), &info, copy)),
    )
}

fn first_matching(
    epoch: &EpochEntry,
    copies: impl Iterator<Item = Option<Secret<32>>>,
) -> Result<EpochKey, GrantError> {
    let mut error = GrantError::NotGranted(epoch.key_id);
    for copy in copies {
        error = GrantError::Invalid(epoch.key_id);
        let Some(secret) = copy else { continue };
        let key = EpochKey::from_parts(epoch.key_id, *secret.expose());
        if key.commitment() == epoch.key_commit {
            return Ok(key);
        }
    }
    Err(error)
}

/// HPKE `info`: `label ‖ space ‖ key id ‖ recipient`, the recovery key being the zero recipient.
fn info(space_id: &SpaceId, key_id: &KeyId, recipient: Option<&DeviceId>) -> Vec<u8> {
    let recipient = recipient.map_or(&[0; 16], DeviceId::as_bytes);
    [
        Label::SEAL_GRANT.as_bytes(),
        space_id.as_bytes(),
        key_id.as_bytes(),
        recipient,
    ]
    .concat()
}
