//! What statements say: one struct per kind, with its field numbers and limits.
//!
//! Payloads are CBOR arrays in field order. A later version may append fields; this one skips them. `created_at` is seconds since
//! 1970 by the signer's clock: shown to people, decides nothing.

use minicbor::{Decode, Encode};

use crate::grant::SealedKey;
use crate::ids::{DeviceId, KeyId, SpaceId};
use crate::keys::DeviceCard;
use crate::registry::{MAX_DEVICES, StatementError};

/// Longest name of a mesh, device or space, in bytes.
pub const MAX_NAME: usize = 128;

/// Longest platform text, in bytes.
pub const MAX_PLATFORM: usize = 64;

/// What a statement says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a registry holds few, and most are the large one"
)]
pub enum Body {
    /// The mesh exists. Kind 1.
    Genesis(Genesis),
    /// A device may add devices. Kind 2.
    Delegation(Delegation),
    /// A device belongs. Kind 3.
    Device(Device),
    /// A space exists. Kind 4.
    Space(Space),
    /// A space has a new epoch key. Kind 5.
    Epoch(Epoch),
    /// An epoch key, sealed to members. Kind 6.
    Grants(Grants),
    /// A device goes by another name. Kind 7.
    Name(Name),
}

/// The mesh exists; signed by its root.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Genesis {
    /// Random; the salt of the root's derivation from the master key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub mesh_salt: [u8; 16],
    /// Ed25519 key of the root.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub root_public: [u8; 32],
    /// X25519 key for recovery grants.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub recovery_public: [u8; 32],
    /// The mesh's name.
    #[n(3)]
    pub mesh_name: String,
    /// Shown only.
    #[n(4)]
    pub created_at: u64,
}

/// A device may add devices; signed by the root or by a delegate that may pass it on.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Delegation {
    /// The new delegate.
    #[n(0)]
    pub device_id: DeviceId,
    /// Whether it may delegate further.
    #[n(1)]
    pub may_pass_on: bool,
    /// Shown only.
    #[n(2)]
    pub created_at: u64,
}

/// A device belongs; signed by the root or a delegate. The card's proof is checked when it is parsed.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Device {
    /// The hash of the card's signing key.
    #[n(0)]
    pub device_id: DeviceId,
    /// Its name; two devices may have the same.
    #[n(1)]
    pub name: String,
    /// What it runs on, for people.
    #[n(2)]
    pub platform: String,
    /// Its keys, with its own proof over them.
    #[n(3)]
    pub card: DeviceCard,
    /// How it came in.
    #[n(4)]
    pub path: JoinPath,
    /// Shown only.
    #[n(5)]
    pub created_at: u64,
}

/// How a device came into the mesh.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum JoinPath {
    /// It made the mesh.
    #[n(1)]
    First,
    /// By a ticket.
    #[n(2)]
    Ticket,
    /// By a short code.
    #[n(3)]
    Code,
    /// By phrase or password.
    #[n(4)]
    Restore,
}

/// A space exists; signed by any member.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Space {
    /// Keyed hash of the name under the mesh secret.
    #[n(0)]
    pub space_id: SpaceId,
    /// Its name.
    #[n(1)]
    pub name: String,
    /// What it holds.
    #[n(2)]
    pub kind: SpaceKind,
    /// Shown only.
    #[n(3)]
    pub created_at: u64,
}

/// What a space holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum SpaceKind {
    /// A folder of files.
    #[n(1)]
    Folder,
    /// Records of programs.
    #[n(2)]
    Records,
}

/// A space has a new epoch; signed by any member.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Epoch {
    /// The space.
    #[n(0)]
    pub space_id: SpaceId,
    /// Its number, from 0; two concurrent epochs may have the same.
    #[n(1)]
    pub number: u32,
    /// The key's name.
    #[n(2)]
    pub key_id: KeyId,
    /// [`EpochKey::commitment`](crate::EpochKey::commitment).
    #[cbor(n(3), with = "minicbor::bytes")]
    pub key_commit: [u8; 32],
    /// Shown only.
    #[n(4)]
    pub created_at: u64,
}

/// An epoch key sealed to some members; signed by any member that holds it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Grants {
    /// The space.
    #[n(0)]
    pub space_id: SpaceId,
    /// The key.
    #[n(1)]
    pub key_id: KeyId,
    /// Recipients, at most [`MAX_DEVICES`].
    #[n(2)]
    pub recipients: Vec<Recipient>,
    /// The same key, sealed to the recovery key.
    #[n(3)]
    pub recovery: Option<SealedKey>,
    /// Shown only.
    #[n(4)]
    pub created_at: u64,
}

/// One device's copy of an epoch key.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Recipient {
    /// Whose seal key it is sealed to.
    #[n(0)]
    pub device_id: DeviceId,
    /// The key.
    #[n(1)]
    pub sealed: SealedKey,
}

/// A device goes by another name; signed by any member.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Name {
    /// Whose.
    #[n(0)]
    pub device_id: DeviceId,
    /// The name; two devices may have the same.
    #[n(1)]
    pub name: String,
    /// One more than that of the name it replaces, the first being 1: of two given apart the higher number stands, then the
    /// lower statement hash.
    #[n(2)]
    pub number: u32,
    /// Shown only.
    #[n(3)]
    pub created_at: u64,
}

impl Body {
    pub(super) fn encode(&self) -> (u8, Vec<u8>) {
        fn vec<T: Encode<()>>(body: &T) -> Vec<u8> {
            minicbor::to_vec(body).expect("encoding into memory does not fail")
        }
        match self {
            Self::Genesis(body) => (1, vec(body)),
            Self::Delegation(body) => (2, vec(body)),
            Self::Device(body) => (3, vec(body)),
            Self::Space(body) => (4, vec(body)),
            Self::Epoch(body) => (5, vec(body)),
            Self::Grants(body) => (6, vec(body)),
            Self::Name(body) => (7, vec(body)),
        }
    }

    /// Reads a payload of at most 16 KiB and checks every limit.
    pub(super) fn decode(kind: u8, payload: &[u8]) -> Result<Self, StatementError> {
        fn read<'b, T: Decode<'b, ()>>(payload: &'b [u8]) -> Result<T, StatementError> {
            let mut decoder = minicbor::Decoder::new(payload);
            let body = decoder.decode().map_err(|_| StatementError::Malformed)?;
            if decoder.position() != payload.len() {
                return Err(StatementError::Malformed);
            }
            Ok(body)
        }
        let body = match kind {
            1 => Self::Genesis(read(payload)?),
            2 => Self::Delegation(read(payload)?),
            3 => Self::Device(read(payload)?),
            4 => Self::Space(read(payload)?),
            5 => Self::Epoch(read(payload)?),
            6 => Self::Grants(read(payload)?),
            7 => Self::Name(read(payload)?),
            _ => return Err(StatementError::UnknownKind(kind)),
        };
        body.check()?;
        Ok(body)
    }

    pub(super) fn check(&self) -> Result<(), StatementError> {
        match self {
            Self::Genesis(body) => check_text(&body.mesh_name, MAX_NAME),
            Self::Device(body) => {
                check_text(&body.name, MAX_NAME)?;
                check_text(&body.platform, MAX_PLATFORM)?;
                if body.device_id != body.card.public.device_id() || body.card.verify().is_err() {
                    return Err(StatementError::BadCard);
                }
                Ok(())
            }
            Self::Space(body) => check_text(&body.name, MAX_NAME),
            Self::Name(body) => check_text(&body.name, MAX_NAME),
            Self::Grants(body) if body.recipients.len() > MAX_DEVICES => {
                Err(StatementError::TooLarge)
            }
            Self::Grants(_) | Self::Delegation(_) | Self::Epoch(_) => Ok(()),
        }
    }
}

/// A text people will see: not empty, not long, nothing that moves a terminal's cursor.
pub(crate) fn check_text(text: &str, max: usize) -> Result<(), StatementError> {
    if text.is_empty() || text.len() > max || text.chars().any(char::is_control) {
        return Err(StatementError::BadName);
    }
    Ok(())
}
