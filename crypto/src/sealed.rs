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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;
    use proptest::prelude::*;

    fn key() -> EpochKey {
        EpochKey::from_parts(KeyId::from_bytes([1; 16]), [2; 32])
    }

    fn sealed() -> Vec<u8> {
        seal(&key(), ObjectKind::Batch, b"log 7", b"hello", &mut rng(1))
    }

    #[test]
    fn opens_what_was_sealed() {
        assert_eq!(sealed().len(), 5 + SEAL_OVERHEAD);
        assert_eq!(
            open(&key(), ObjectKind::Batch, b"log 7", &sealed(), 5),
            Ok(b"hello".to_vec())
        );
        let empty = seal(&key(), ObjectKind::Batch, b"", b"", &mut rng(1));
        assert_eq!(open(&key(), ObjectKind::Batch, b"", &empty, 0), Ok(vec![]));
    }

    #[test]
    fn tells_wrong_key_from_damage() {
        let wrong = Err(OpenError::WrongKey { key_id: key().id });
        let other = EpochKey::from_parts(key().id, [3; 32]);
        assert_eq!(
            open(&other, ObjectKind::Batch, b"log 7", &sealed(), 5),
            wrong,
            "another key of the same name"
        );
        let renamed = EpochKey::from_parts(KeyId::from_bytes([9; 16]), [2; 32]);
        assert_eq!(
            open(&renamed, ObjectKind::Batch, b"log 7", &sealed(), 5),
            Err(OpenError::WrongKey { key_id: renamed.id })
        );
        assert_eq!(
            open(&key(), ObjectKind::Chunk, b"log 7", &sealed(), 5),
            wrong,
            "another kind"
        );
        assert_eq!(
            open(&key(), ObjectKind::Batch, b"log 8", &sealed(), 5),
            Err(OpenError::Corrupt),
            "other associated data"
        );
        assert_eq!(
            open(&key(), ObjectKind::Batch, b"log 7", &sealed(), 4),
            Err(OpenError::TooLarge)
        );
    }

    #[test]
    fn every_flipped_bit_and_cut_is_noticed() {
        for bit in 0..sealed().len() * 8 {
            let mut bad = sealed();
            bad[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 64 * 8 {
                OpenError::WrongKey { key_id: key().id }
            } else {
                OpenError::Corrupt
            };
            assert_eq!(
                open(&key(), ObjectKind::Batch, b"log 7", &bad, 5),
                Err(expected),
                "bit {bit}"
            );
        }
        for end in 0..sealed().len() {
            let expected = if end < SEAL_OVERHEAD {
                OpenError::Truncated
            } else {
                OpenError::Corrupt
            };
            assert_eq!(
                open(&key(), ObjectKind::Batch, b"log 7", &sealed()[..end], 5),
                Err(expected),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn no_two_objects_are_alike() {
        let mut rng = rng(2);
        let mut make = || seal(&key(), ObjectKind::Batch, b"", b"same", &mut rng);
        let (one, two) = (make(), make());
        assert!(
            one.chunks(16)
                .all(|part| !two.windows(16).any(|window| window == part))
        );
    }

    proptest! {
        #[test]
        fn round_trip(plain: Vec<u8>, aad: Vec<u8>, seed: u64) {
            let bytes = seal(&key(), ObjectKind::StatePage, &aad, &plain, &mut rng(seed));
            prop_assert_eq!(open(&key(), ObjectKind::StatePage, &aad, &bytes, plain.len()), Ok(plain));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, max in 0usize..100) {
            let _ = open(&key(), ObjectKind::Batch, b"", &bytes, max);
        }
    }
}
