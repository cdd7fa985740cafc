//! The master key and what is derived from it: the root that admits devices, and the recovery key.
//!
//! The master key lives in keyslots alone and is in memory only while one is open; the derived keys are never stored at all.

use ed25519_dalek::SigningKey;
use hpke::{Kem, Serializable, kem::X25519HkdfSha256};
use rand::CryptoRng;

use crate::grant::SealPrivate;
use crate::hash::derive;
use crate::keys::sign_with;
use crate::labels::Label;
use crate::secret::Secret;

/// 32 random bytes from which the root and recovery keys derive.
///
/// Not `Clone`: it is opened from a keyslot, used, and dropped.
#[derive(PartialEq, Eq, Debug)]
pub struct MasterKey(pub(crate) Secret<32>);

impl MasterKey {
    /// Draws the master key of a new mesh.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// Derives root and recovery keys: `HKDF-SHA256(salt = mesh_salt ‖ generation, master key, label)`.
    pub fn root(&self, mesh_salt: &[u8; 16], generation: u32) -> RootKeys {
        let mut salt = [0; 20];
        salt[..16].copy_from_slice(mesh_salt);
        salt[16..].copy_from_slice(&generation.to_le_bytes());
        let key = |label| derive(&salt, self.0.expose(), label, &[]);
        let (recovery, recovery_public) =
            X25519HkdfSha256::derive_keypair(key(Label::MASTER_RECOVERY).expose());
        RootKeys {
            sign: SigningKey::from_bytes(key(Label::MASTER_ROOT).expose()),
            recovery,
            recovery_public: recovery_public.to_bytes().into(),
        }
    }
}

/// The root signing key and the recovery key of one mesh. Never stored; drop it as soon as the statement is signed.
pub struct RootKeys {
    sign: SigningKey,
    recovery: SealPrivate,
    recovery_public: [u8; 32],
}

impl RootKeys {
    /// The Ed25519 key that root statements verify under; the genesis names it.
    pub fn root_public(&self) -> [u8; 32] {
        self.sign.verifying_key().to_bytes()
    }

    /// The X25519 key that every epoch key is also sealed to; the genesis names it.
    pub fn recovery_public(&self) -> [u8; 32] {
        self.recovery_public
    }

    pub(crate) fn sign(&self, label: Label, payload: &[u8]) -> [u8; 64] {
        sign_with(&self.sign, label, payload)
    }

    pub(crate) fn recovery_private(&self) -> &SealPrivate {
        &self.recovery
    }
}

impl std::fmt::Debug for RootKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKeys")
    }
}
