//! What batches and pages have in common: compressed, sealed under a clear header, signed over all of it.
//!
//! The danger guarded against is work done for strangers: nothing is decompressed before the seal has
//! been opened and the signature of a known device has been checked, and then only up to a limit.

use ownmesh_crypto::ids::DeviceId;
use ownmesh_crypto::keys::{DeviceKeys, verify};
use ownmesh_crypto::labels::Label;
use ownmesh_crypto::sealed::{self, ObjectKind, OpenError};
use ownmesh_crypto::space::EpochKey;
use rand::CryptoRng;

use crate::limits::{MAX_OPEN, MAX_RATIO, MAX_SEALED, RATIO_FREE};

/// Version of the formats, first byte of each.
pub(crate) const VERSION: u8 = 0;
/// Suite 1: HKDF-SHA256, ChaCha20-Poly1305, Ed25519, SHA-256.
pub(crate) const SUITE: u8 = 1;
/// Bytes of the signature at the end.
pub(crate) const SIGNATURE: usize = 64;

/// A kind of envelope: what its seal and its signature are made for.
#[derive(Clone, Copy)]
pub(crate) struct Envelope {
    pub(crate) kind: ObjectKind,
    pub(crate) label: Label,
    /// Bytes of the clear header, version and suite included.
    pub(crate) header: usize,
}

/// An envelope taken apart, nothing of it checked but lengths, version and suite.
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) sealed: &'a [u8],
    /// Everything the signature covers.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: &'a [u8; SIGNATURE],
}

/// Why an envelope was not opened.
pub(crate) enum Refused {
    Version(u8),
    TooLarge,
    Corrupt,
    Signer(DeviceId),
    Signature,
}

impl Envelope {
    /// Seals `plain` under `header` and signs both.
    pub(crate) fn seal<R: CryptoRng + ?Sized>(
        self,
        header: Vec<u8>,
        plain: &[u8],
        key: &EpochKey,
        keys: &DeviceKeys,
        rng: &mut R,
    ) -> Result<Vec<u8>, Refused> {
        if header.len() + sealed::SEAL_OVERHEAD + plain.len() + SIGNATURE > MAX_SEALED {
            return Err(Refused::TooLarge);
        }
        let mut out = header;
        let object = sealed::seal(key, self.kind, &out, plain, rng);
        out.extend_from_slice(&object);
        let signature = keys.sign(self.label, &out);
        out.extend_from_slice(&signature);
        Ok(out)
    }

    /// Takes the bytes apart.
    pub(crate) fn split(self, bytes: &[u8]) -> Result<Parts<'_>, Refused> {
        if bytes.len() > MAX_SEALED {
            return Err(Refused::TooLarge);
        }
        match bytes {
            [VERSION, SUITE, ..] => {}
            [VERSION, ..] | [] => return Err(Refused::Corrupt),
            [other, ..] => return Err(Refused::Version(*other)),
        }
        let (signed, signature) = bytes.split_last_chunk().ok_or(Refused::Corrupt)?;
        let (header, sealed) = signed
            .split_at_checked(self.header)
            .ok_or(Refused::Corrupt)?;
        Ok(Parts {
            header,
            sealed,
            signed,
            signature,
        })
    }

    /// Opens the seal, then checks the signature of the device the plaintext begins with.
    pub(crate) fn open(
        self,
        parts: &Parts<'_>,
        key: &EpochKey,
        signers: &dyn Fn(&DeviceId) -> Option<[u8; 32]>,
    ) -> Result<(DeviceId, Vec<u8>), Refused> {
        let plain =
            sealed::open(key, self.kind, parts.header, parts.sealed, MAX_SEALED).map_err(|e| {
                match e {
                    OpenError::TooLarge => Refused::TooLarge,
                    _ => Refused::Corrupt,
                }
            })?;
        let device = plain
            .first_chunk::<16>()
            .copied()
            .map(DeviceId::from_bytes)
            .ok_or(Refused::Corrupt)?;
        let public = signers(&device).ok_or(Refused::Signer(device))?;
        verify(&public, self.label, parts.signed, parts.signature)
            .map_err(|_| Refused::Signature)?;
        Ok((device, plain))
    }
}

/// Compresses a body.
pub(crate) fn compress(body: &[u8]) -> Result<Vec<u8>, Refused> {
    if body.len() > MAX_OPEN {
        return Err(Refused::TooLarge);
    }
    let packed = zstd::bulk::compress(body, LEVEL).map_err(|_| Refused::Corrupt)?;
    // What nobody would accept must not be sent: equal bytes in great number pack better than allowed.
    if body.len() > allowed(packed.len()) {
        return Err(Refused::TooLarge);
    }
    Ok(packed)
}

/// Decompresses a body to at most what its packed length allows.
pub(crate) fn expand(packed: &[u8]) -> Result<Vec<u8>, Refused> {
    let size = zstd::zstd_safe::get_frame_content_size(packed)
        .ok()
        .flatten()
        .ok_or(Refused::Corrupt)?;
    let size = usize::try_from(size).map_err(|_| Refused::TooLarge)?;
    if size > allowed(packed.len()) {
        return Err(Refused::TooLarge);
    }
    let body = zstd::bulk::decompress(packed, size).map_err(|_| Refused::Corrupt)?;
    if body.len() == size {
        Ok(body)
    } else {
        Err(Refused::Corrupt)
    }
}

fn allowed(packed: usize) -> usize {
    packed.saturating_mul(MAX_RATIO).clamp(RATIO_FREE, MAX_OPEN)
}

/// zstd's default: metadata packs to 109 bytes an item, higher levels gain less than 3 %.
const LEVEL: i32 = 3;
