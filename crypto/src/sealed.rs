//! Sealed objects: what leaves the device for a peer, a relay, a bucket or a file.
//!
//! ```text
//!  0  32  salt, random
//! 32  32  commitment to the key
//! 64   n  ChaCha20-Poly1305 ciphertext, nonce zero
//! 64+n 16 tag
//! key ‖ commitment = HKDF-SHA256(salt, epoch key, label ‖ kind ‖ key id), 64 bytes
//! ```
//!
//! Every object has a key of its own out of its salt, so no two ever share a nonce, not even on cloned machines. The commitment is
//! compared first: a wrong key and damaged bytes are told apart, and no ciphertext opens under two keys.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use rand::CryptoRng;
use subtle::ConstantTimeEq;

use crate::hash::derive_committing;
use crate::ids::KeyId;
use crate::labels::Label;
use crate::space::EpochKey;

/// Bytes an object is longer than its plaintext: salt, commitment, tag.
pub const SEAL_OVERHEAD: usize = 32 + 32 + 16;

/// What an object is. Part of its key: an object never opens as one of another kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ObjectKind {
    /// A batch of a log.
    Batch = 1,
    /// A page of a state transfer.
    StatePage = 2,
    /// A key granted inside a space.
    Grant = 3,
    /// A list of chunks.
    ChunkList = 4,
    /// A chunk of content.
    Chunk = 5,
    /// A device's status.
    Status = 6,
}

/// Why an object did not open. Nothing is to be written or deleted because of any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed with another key, kind or key id; or its head is damaged, which looks the same.
    #[error("not sealed with key {key_id}")]
    WrongKey {
        /// The key it was tried with.
        key_id: KeyId,
    },
    /// The right key, but the bytes or the associated data are not those that were sealed.
    #[error("the sealed object is damaged")]
    Corrupt,
    /// Too short to be one.
    #[error("the sealed object is cut short")]
    Truncated,
    /// More plaintext than the caller expects. Nothing was allocated.
    #[error("the sealed object is larger than allowed here")]
    TooLarge,
}

/// Seals `plaintext`. `aad` is bound to the object without being in it: give the same to [`open`].
pub fn seal<R: CryptoRng + ?Sized>(
    key: &EpochKey,
    kind: ObjectKind,
    aad: &[u8],
    plaintext: &[u8],
    rng: &mut R,
) -> Vec<u8> {
    let mut salt = [0; 32];
    rng.fill_bytes(&mut salt);
    let (object_key, commit) = object_key(key, kind, &salt);
    let ciphertext = ChaCha20Poly1305::new(&(*object_key.expose()).into())
        .encrypt(
            &Nonce::default(),
            Payload {
                msg: plaintext,
                aad,
            },
        )
        .expect("ChaCha20-Poly1305 takes messages up to 256 GiB");
    let mut out = Vec::with_capacity(64 + ciphertext.len());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&commit);
    out.extend_from_slice(&ciphertext);
    out
}

/// Opens what [`seal`] made with the same key, kind and `aad`, if its plaintext has at most `max_plain` bytes.
///
/// The length is checked before anything is allocated, the commitment (in constant time) before anything is decrypted.
pub fn open(
    key: &EpochKey,
    kind: ObjectKind,
    aad: &[u8],
    bytes: &[u8],
    max_plain: usize,
) -> Result<Vec<u8>, OpenError> {
    let plain = bytes
        .len()
        .checked_sub(SEAL_OVERHEAD)
        .ok_or(OpenError::Truncated)?;
    if plain > max_plain {
        return Err(OpenError::TooLarge);
    }
    let (salt, rest) = bytes
        .split_first_chunk::<32>()
        .ok_or(OpenError::Truncated)?;
    let (commit, ciphertext) = rest.split_first_chunk::<32>().ok_or(OpenError::Truncated)?;
    let (object_key, expected) = object_key(key, kind, salt);
    if !bool::from(commit.ct_eq(&expected)) {
        return Err(OpenError::WrongKey { key_id: key.id });
    }
    ChaCha20Poly1305::new(&(*object_key.expose()).into())
        .decrypt(
            &Nonce::default(),
            Payload {
                msg: ciphertext,
                aad,
            },
        )
        .map_err(|_| OpenError::Corrupt)
}

fn object_key(key: &EpochKey, kind: ObjectKind, salt: &[u8; 32]) -> (crate::Secret<32>, [u8; 32]) {
    derive_committing(
        salt,
        key.expose(),
        Label::SEAL_OBJECT,
        &[&[kind as u8], key.id.as_bytes()],
    )
}
