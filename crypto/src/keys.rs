//! A device's long-term keys: one seed, four keys with four jobs.
//!
//! The jobs are kept apart because a Noise static key must not be used outside of Noise and a signing key must not decrypt. The
//! device's id is the hash of its signing key; the other keys are bound to it by the device's own signature, the [`DeviceCard`],
//! so that not even a sponsor can put a key of its own in the place of another device's.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hpke::{Kem, Serializable, kem::X25519HkdfSha256};
use minicbor::{Decode, Encode};
use rand::CryptoRng;
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::grant::SealPrivate;
use crate::hash::{derive, hash16};
use crate::ids::DeviceId;
use crate::labels::Label;
use crate::secret::Secret;

/// A signature does not belong to this key, label and payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match")]
pub struct BadSignature;

/// The 32 random bytes a device is made of. They never leave it; a copy of them is a clone of the device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceSeed(Secret<32>);

impl DeviceSeed {
    /// Draws a new device.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// Takes a stored seed.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The bytes, for the one place that stores them.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// A device's four public keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct DevicePublic {
    /// Ed25519, signs batches and statements.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sign: [u8; 32],
    /// Ed25519, the libp2p identity (PeerId).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub transport: [u8; 32],
    /// X25519, the static key of Noise handshakes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub noise: [u8; 32],
    /// X25519, epoch keys are sealed to it.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub seal: [u8; 32],
}

impl DevicePublic {
    /// `SHA-256(label ‖ sign)[..16]`.
    pub fn device_id(&self) -> DeviceId {
        DeviceId::from_bytes(hash16(Label::HASH_DEVICE_ID, &[&self.sign]))
    }

    fn bytes(&self) -> [u8; 128] {
        let mut out = [0; 128];
        for (slot, key) in
            out.chunks_exact_mut(32)
                .zip([self.sign, self.transport, self.noise, self.seal])
        {
            slot.copy_from_slice(&key);
        }
        out
    }
}

/// Public keys with the proof that their owner chose them all.
///
/// Holds no more than its parts: [`verify`](Self::verify) says whether the proof is right.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DeviceCard {
    /// The keys.
    #[n(0)]
    pub public: DevicePublic,
    /// Signature by `public.sign` over the four keys.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub proof: [u8; 64],
}

impl DeviceCard {
    /// Checks the proof, and that neither X25519 key is a low-order point.
    pub fn verify(&self) -> Result<(), BadSignature> {
        if !contributory(&self.public.noise) || !contributory(&self.public.seal) {
            return Err(BadSignature);
        }
        verify(
            &self.public.sign,
            Label::SIGN_CARD,
            &self.public.bytes(),
            &self.proof,
        )
    }
}

/// A device's secret keys.
#[derive(Clone)]
pub struct DeviceKeys {
    sign: SigningKey,
    transport: SigningKey,
    noise: StaticSecret,
    seal: SealPrivate,
    public: DevicePublic,
}

impl DeviceKeys {
    /// Derives all four: `HKDF-SHA256(salt, seed, label)`, the seal key further by HPKE's `DeriveKeyPair`.
    pub fn from_seed(seed: &DeviceSeed) -> Self {
        let derive = |label| derive(Label::DEVICE_SALT.as_bytes(), seed.expose(), label, &[]);
        let sign = SigningKey::from_bytes(derive(Label::DEVICE_SIGN).expose());
        let transport = SigningKey::from_bytes(derive(Label::DEVICE_TRANSPORT).expose());
        let noise = StaticSecret::from(*derive(Label::DEVICE_NOISE).expose());
        let (seal, seal_public) =
            X25519HkdfSha256::derive_keypair(derive(Label::DEVICE_SEAL).expose());
        let public = DevicePublic {
            sign: sign.verifying_key().to_bytes(),
            transport: transport.verifying_key().to_bytes(),
            noise: PublicKey::from(&noise).to_bytes(),
            seal: seal_public.to_bytes().into(),
        };
        Self {
            sign,
            transport,
            noise,
            seal,
            public,
        }
    }

    /// The public halves.
    pub fn public(&self) -> DevicePublic {
        self.public
    }

    /// The public halves with the proof of belonging together.
    pub fn card(&self) -> DeviceCard {
        DeviceCard {
            public: self.public,
            proof: self.sign(Label::SIGN_CARD, &self.public.bytes()),
        }
    }

    /// This device's id.
    pub fn device_id(&self) -> DeviceId {
        self.public.device_id()
    }

    /// Signs with the signing key; see [`verify`] for what enters.
    pub fn sign(&self, label: Label, payload: &[u8]) -> [u8; 64] {
        sign_with(&self.sign, label, payload)
    }

    /// The Ed25519 seed of the libp2p identity. For the swarm alone.
    pub fn transport_secret(&self) -> Secret<32> {
        Secret::new(self.transport.to_bytes())
    }

    pub(crate) fn sign_transport(&self, label: Label, payload: &[u8]) -> [u8; 64] {
        sign_with(&self.transport, label, payload)
    }

    pub(crate) fn noise_secret(&self) -> Secret<32> {
        Secret::new(self.noise.to_bytes())
    }

    pub(crate) fn seal_private(&self) -> &SealPrivate {
        &self.seal
    }
}

/// Shows whose keys they are, nothing more.
impl std::fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKeys({})", self.device_id())
    }
}

/// Checks a signature over `label ‖ 0x00 ‖ SHA-256(payload) ‖ payload`.
///
/// Strict: refuses low-order keys and every second encoding of a signature, so that one statement has one hash.
pub fn verify(
    public_sign: &[u8; 32],
    label: Label,
    payload: &[u8],
    signature: &[u8; 64],
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(public_sign).map_err(|_| BadSignature)?;
    key.verify_strict(
        &signed_bytes(label, payload),
        &Signature::from_bytes(signature),
    )
    .map_err(|_| BadSignature)
}

pub(crate) fn sign_with(key: &SigningKey, label: Label, payload: &[u8]) -> [u8; 64] {
    key.sign(&signed_bytes(label, payload)).to_bytes()
}

/// Whether a Diffie-Hellman exchange with this X25519 key depends on our secret: false for every point of low order.
///
/// Every clamped scalar is a multiple of eight, so any scalar finds them; this one is fixed because nothing secret is needed.
pub(crate) fn contributory(public: &[u8; 32]) -> bool {
    StaticSecret::from([0x42; 32])
        .diffie_hellman(&PublicKey::from(*public))
        .was_contributory()
}

fn signed_bytes(label: Label, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(label.as_bytes().len() + 33 + payload.len());
    out.extend_from_slice(label.as_bytes());
    out.push(0);
    out.extend_from_slice(&Sha256::digest(payload));
    out.extend_from_slice(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keys, rng, unhex};

    /// RFC 8032, test 1: our keys are plain Ed25519 underneath.
    #[test]
    fn signing_is_ed25519() {
        let seed = unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = SigningKey::from_bytes(seed.as_slice().try_into().unwrap());
        assert_eq!(
            key.verifying_key().to_bytes()[..],
            unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        );
    }

    #[test]
    fn a_signature_is_for_one_label_payload_and_key() {
        let mut rng = rng(1);
        let (laptop, nas) = (keys(&mut rng), keys(&mut rng));
        let signature = laptop.sign(Label::SIGN_BATCH, b"batch");
        let sign = laptop.public().sign;
        assert_eq!(
            verify(&sign, Label::SIGN_BATCH, b"batch", &signature),
            Ok(())
        );
        assert_eq!(
            verify(&sign, Label::SIGN_STATE, b"batch", &signature),
            Err(BadSignature)
        );
        assert_eq!(
            verify(&sign, Label::SIGN_BATCH, b"batcH", &signature),
            Err(BadSignature)
        );
        assert_eq!(
            verify(&nas.public().sign, Label::SIGN_BATCH, b"batch", &signature),
            Err(BadSignature)
        );
        for bit in 0..512 {
            let mut bad = signature;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                verify(&sign, Label::SIGN_BATCH, b"batch", &bad),
                Err(BadSignature),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn weak_public_keys_verify_nothing() {
        for key in [
            [0; 32],
            {
                let mut one = [0; 32];
                one[0] = 1;
                one
            },
            [0xff; 32],
        ] {
            assert_eq!(
                verify(&key, Label::SIGN_BATCH, b"", &[0; 64]),
                Err(BadSignature)
            );
        }
    }

    #[test]
    fn a_card_cannot_be_recomposed() {
        let mut rng = rng(2);
        let (laptop, thief) = (keys(&mut rng), keys(&mut rng));
        let card = laptop.card();
        assert_eq!(card.verify(), Ok(()));
        let with = |public| {
            DeviceCard {
                public,
                ..card.clone()
            }
            .verify()
        };
        let (own, other) = (laptop.public(), thief.public());
        assert_eq!(
            with(DevicePublic {
                sign: other.sign,
                ..own
            }),
            Err(BadSignature)
        );
        assert_eq!(
            with(DevicePublic {
                transport: other.transport,
                ..own
            }),
            Err(BadSignature)
        );
        assert_eq!(
            with(DevicePublic {
                noise: other.noise,
                ..own
            }),
            Err(BadSignature)
        );
        assert_eq!(
            with(DevicePublic {
                seal: other.seal,
                ..own
            }),
            Err(BadSignature)
        );
    }

    #[test]
    fn low_order_points_are_found() {
        for point in crate::testing::low_order() {
            assert!(!contributory(&point), "{point:?}");
        }
        assert!(contributory(&keys(&mut rng(3)).public().noise));
    }

    /// Security test 20.
    #[test]
    fn debug_shows_no_secret() {
        let seed = DeviceSeed::from_bytes([0x5a; 32]);
        let text = format!("{seed:?} {:?}", DeviceKeys::from_seed(&seed));
        assert!(!text.contains("90") && !text.contains("5a5a"), "{text}");
    }
}
