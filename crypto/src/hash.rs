//! The three hash forms everything else is written in: labelled hash, keyed hash, derived key.

use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use crate::labels::Label;
use crate::secret::Secret;

/// `SHA-256(label ‖ part ‖ part ...)`. Callers pass at most one part of variable length, and that last.
pub fn hash(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(label.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The first 16 bytes of [`hash`].
pub(crate) fn hash16(label: Label, parts: &[&[u8]]) -> [u8; 16] {
    first(&hash(label, parts))
}

/// `HKDF-SHA256(salt, ikm, info = label ‖ part ...)`, 32 bytes.
pub(crate) fn derive(salt: &[u8], ikm: &[u8], label: Label, parts: &[&[u8]]) -> Secret<32> {
    let mut out = Secret::zero();
    expand(
        &Hkdf::<Sha256>::new(Some(salt), ikm),
        label,
        parts,
        out.expose_mut(),
    );
    out
}

/// As [`fn@derive`] with 64 bytes of output, split into a key and a public commitment to it.
pub(crate) fn derive_committing(
    salt: &[u8],
    ikm: &[u8],
    label: Label,
    parts: &[&[u8]],
) -> (Secret<32>, [u8; 32]) {
    let mut out = Secret::<64>::zero();
    expand(
        &Hkdf::<Sha256>::new(Some(salt), ikm),
        label,
        parts,
        out.expose_mut(),
    );
    let (key, commit) = out.expose().split_at(32);
    (
        Secret::new(key.try_into().expect("64 bytes split at 32")),
        commit.try_into().expect("64 bytes split at 32"),
    )
}

/// The first 16 bytes of a keyed BLAKE3 hash over `parts`; at most the last part may vary in length.
pub(crate) fn keyed16(key: &Secret<32>, parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    for part in parts {
        hasher.update(part);
    }
    first(hasher.finalize().as_bytes())
}

fn expand(hkdf: &Hkdf<Sha256>, label: Label, parts: &[&[u8]], out: &mut [u8]) {
    let info: Vec<&[u8]> = std::iter::once(label.as_bytes())
        .chain(parts.iter().copied())
        .collect();
    hkdf.expand_multi_info(&info, out)
        .expect("HKDF-SHA256 gives up to 8160 bytes");
}

fn first(hash: &[u8; 32]) -> [u8; 16] {
    *hash.first_chunk().expect("16 of 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::unhex;

    /// RFC 5869, case 1, through the same crate calls.
    #[test]
    fn hkdf_is_hkdf() {
        let hkdf = Hkdf::<Sha256>::new(Some(&unhex("000102030405060708090a0b0c")), &[0x0b; 22]);
        let mut out = [0; 42];
        hkdf.expand(&unhex("f0f1f2f3f4f5f6f7f8f9"), &mut out)
            .unwrap();
        assert_eq!(
            out[..],
            unhex(
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
            )
        );
    }
}
