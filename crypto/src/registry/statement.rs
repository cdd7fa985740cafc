//! One signed statement: its bytes, verified before they are parsed.
//!
//! ```text
//!  0  1  version, 0
//!  1  1  suite, 1: Ed25519, SHA-256, HPKE with X25519, HKDF-SHA256, ChaCha20-Poly1305
//!  2  1  kind
//!  3 16  mesh id; zero in a genesis
//! 19 16  signer: a device id, or zero for the root
//! 35  2  length n of the payload, little-endian
//! 37  n  payload, CBOR (see `body`)
//! 37+n 64 signature over bytes 0..37+n
//! ```
//!
//! The signature covers the exact bytes; nothing is ever encoded again to check one.

use crate::ids::{DeviceId, MeshId, StatementHash};
use crate::keys::{BadSignature, verify};
use crate::labels::Label;
use crate::registry::StatementError;
use crate::registry::body::Body;

/// Largest statement in bytes.
pub const MAX_STATEMENT: usize = 16 * 1024;

const HEAD: usize = 37;
const SIGNATURE: usize = 64;

/// Who signed a statement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Signer {
    /// The root key of the mesh.
    Root,
    /// A device's signing key.
    Device(DeviceId),
}

/// A well-formed statement. Its signature is checked by [`Registry::insert`](super::Registry::insert), which knows the signers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    bytes: Vec<u8>,
    hash: StatementHash,
    mesh_id: MeshId,
    signer: Signer,
    body: Body,
}

impl Statement {
    /// Reads a statement's form: lengths, version, kind, field types and limits. Says nothing about who signed it.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > MAX_STATEMENT {
            return Err(StatementError::TooLarge);
        }
        let (head, rest) = bytes
            .split_first_chunk::<HEAD>()
            .ok_or(StatementError::Malformed)?;
        if head[0] != 0 || head[1] != 1 {
            return Err(StatementError::UnsupportedVersion {
                version: head[0],
                suite: head[1],
            });
        }
        let mesh_id = MeshId::try_from(&head[3..19]).map_err(|_| StatementError::Malformed)?;
        let signer = DeviceId::try_from(&head[19..35]).map_err(|_| StatementError::Malformed)?;
        let signer = if *signer.as_bytes() == [0; 16] {
            Signer::Root
        } else {
            Signer::Device(signer)
        };
        let length = usize::from(u16::from_le_bytes([head[35], head[36]]));
        if rest.len() != length + SIGNATURE {
            return Err(StatementError::Malformed);
        }
        let body = Body::decode(head[2], &rest[..length])?;
        let genesis = matches!(body, Body::Genesis(_));
        if genesis != (*mesh_id.as_bytes() == [0; 16]) || (genesis && signer != Signer::Root) {
            return Err(StatementError::Malformed);
        }
        let hash = StatementHash::of(bytes);
        let mesh_id = if genesis {
            super::mesh_id_of(bytes)
        } else {
            mesh_id
        };
        Ok(Self {
            bytes: bytes.to_vec(),
            hash,
            mesh_id,
            signer,
            body,
        })
    }

    /// The hash of all its bytes.
    pub fn hash(&self) -> StatementHash {
        self.hash
    }

    /// The exact bytes received or signed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The mesh it is for.
    pub fn mesh_id(&self) -> MeshId {
        self.mesh_id
    }

    /// Who claims to have signed it.
    pub fn signer(&self) -> Signer {
        self.signer
    }

    /// What it says.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Whether `public` signed it.
    pub(super) fn verify(&self, public: &[u8; 32]) -> Result<(), BadSignature> {
        let (signed, signature) = self
            .bytes
            .split_last_chunk::<SIGNATURE>()
            .ok_or(BadSignature)?;
        verify(public, Label::SIGN_STATEMENT, signed, signature)
    }

    /// Encodes and signs. The builders have checked the limits of `body`.
    pub(super) fn sign(
        mesh_id: Option<&MeshId>,
        signer: Signer,
        body: &Body,
        sign: impl FnOnce(Label, &[u8]) -> [u8; 64],
    ) -> Result<Self, StatementError> {
        let (kind, payload) = body.encode();
        let length = u16::try_from(payload.len()).map_err(|_| StatementError::TooLarge)?;
        let mut bytes = Vec::with_capacity(HEAD + payload.len() + SIGNATURE);
        bytes.extend_from_slice(&[0, 1, kind]);
        bytes.extend_from_slice(mesh_id.map_or(&[0; 16], |mesh| mesh.as_bytes()));
        bytes.extend_from_slice(match &signer {
            Signer::Root => &[0; 16],
            Signer::Device(device) => device.as_bytes(),
        });
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&payload);
        let signature = sign(Label::SIGN_STATEMENT, &bytes);
        bytes.extend_from_slice(&signature);
        Self::parse(&bytes)
    }
}
