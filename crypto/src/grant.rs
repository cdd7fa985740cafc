//! One key sealed to one X25519 key: HPKE base mode, X25519 / HKDF-SHA256 / ChaCha20-Poly1305, one message per encapsulation.
//!
//! HPKE says nothing about the sender; the statement around a grant is signed by a member.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open,
    single_shot_seal_with_rng,
};
use minicbor::{Decode, Encode};
use rand::CryptoRng;
use zeroize::Zeroize;

use crate::secret::Secret;

pub(crate) type SealPrivate = <X25519HkdfSha256 as Kem>::PrivateKey;

/// A 32-byte key sealed to one recipient.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub struct SealedKey {
    /// The encapsulated key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub enc: [u8; 32],
    /// Ciphertext of the key and its tag.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub ct: [u8; 48],
}

/// The recipient's key is no usable X25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the recipient's sealing key is not usable")]
pub struct BadRecipient;

pub(crate) fn seal_key<R: CryptoRng + ?Sized>(
    recipient: &[u8; 32],
    info: &[u8],
    key: &Secret<32>,
    mut rng: &mut R,
) -> Result<SealedKey, BadRecipient> {
    let recipient =
        <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(recipient).map_err(|_| BadRecipient)?;
    let (enc, ct) = single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &recipient,
        info,
        key.expose(),
        &[],
        &mut rng,
    )
    .map_err(|_| BadRecipient)?;
    Ok(SealedKey {
        enc: enc.to_bytes().into(),
        ct: ct.try_into().expect("32 bytes and a 16-byte tag"),
    })
}

/// `None` if it was sealed to another key, for another purpose, or is damaged.
pub(crate) fn open_key(
    private: &SealPrivate,
    info: &[u8],
    sealed: &SealedKey,
) -> Option<Secret<32>> {
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&sealed.enc).ok()?;
    let mut plain = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        private,
        &enc,
        info,
        &sealed.ct,
        &[],
    )
    .ok()?;
    let key = plain.as_slice().try_into().ok().map(Secret::new);
    plain.zeroize();
    key
}
