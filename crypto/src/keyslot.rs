//! Keyslots: the master key, wrapped under a phrase or a password.
//!
//! ```text
//!   0  4  "MSHK"
//!   4  1  version, 0
//!   5  1  kind: 1 password, 2 phrase
//!   6 16  slot id, random
//!  22 16  mesh id
//!  38 16  mesh salt
//!  54  4  generation of the master key        (numbers are little-endian)
//!  58 12  Argon2id memory in KiB, passes, lanes; zero in a phrase slot
//!  70 16  salt
//!  86 32  commitment
//! 118 24  nonce
//! 142 48  XChaCha20-Poly1305 ciphertext of the master key, tag; associated data: bytes 0..118
//! ```
//!
//! `KEK` is Argon2id of the NFKC password, or HKDF of the phrase's entropy; `wrapping key ‖ commitment = HKDF-SHA256(no salt, KEK, label)`.
//! A slot comes from storage nobody trusts: its parameters can neither exhaust memory nor weaken what we write, and the commitment
//! keeps one slot from opening under two passwords.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use rand::CryptoRng;
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::hash::{derive, derive_committing};
use crate::ids::MeshId;
use crate::labels::Label;
use crate::master::MasterKey;
use crate::phrase::Phrase;
use crate::secret::Secret;

/// Length of every keyslot in bytes.
pub const KEYSLOT_LEN: usize = 190;

/// Fewest characters of a password, after normalisation. Whoever holds the slot can guess without limit.
pub const MIN_PASSWORD_CHARS: usize = 12;

/// Longest password in bytes; keeps normalisation from being a way to burn time.
const MAX_PASSWORD_BYTES: usize = 1024;

/// RFC 9106, second recommended option: 64 MiB, 3 passes, 4 lanes. New slots always use it.
const POLICY: KdfParams = KdfParams {
    memory_kib: 65_536,
    passes: 3,
    lanes: 4,
};

/// What kind of secret opens a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyslotKind {
    /// A password the user chose.
    Password,
    /// The 24-word phrase.
    Phrase,
}

/// Which mesh and which master key a slot is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyslotFor {
    /// The mesh.
    pub mesh_id: MeshId,
    /// The salt in its genesis, needed to derive the root from the master key.
    pub mesh_salt: [u8; 16],
    /// Generation of the master key, from 0.
    pub generation: u32,
}

/// Why a slot was not read or not opened. None of them is a reason to write or delete anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyslotError {
    /// The commitment differs: another password, or a damaged slot, which looks the same.
    #[error("the password does not open this keyslot, or the keyslot is damaged")]
    WrongPassword,
    /// A valid phrase, but not the one of this slot; or a damaged slot.
    #[error("this recovery phrase belongs to another mesh, or the keyslot is damaged")]
    PhraseNotForThisMesh,
    /// Not a keyslot, or the secret is right and the wrapped key is damaged.
    #[error("the keyslot is damaged")]
    Corrupt,
    /// The slot asks for Argon2 parameters outside of the accepted range. Nothing was computed.
    #[error("the keyslot's password parameters are not acceptable")]
    KdfParamsRejected,
    /// Written by a newer version.
    #[error("the keyslot has version {0}, which this program does not know")]
    UnsupportedVersion(u8),
    /// A password was tried on a phrase slot or the other way round.
    #[error("this keyslot is opened by another kind of secret")]
    WrongKind,
}

/// The password is too easy to guess for a slot that can be attacked offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer than [`MIN_PASSWORD_CHARS`] characters.
    #[error("a password needs at least 12 characters")]
    TooShort,
    /// More than 1024 bytes.
    #[error("a password has at most 1024 bytes")]
    TooLong,
}

/// Checks a password someone wants to set. Opening never asks this.
pub fn check_password(password: &str) -> Result<(), WeakPassword> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(WeakPassword::TooLong);
    }
    if password.nfkc().take(MIN_PASSWORD_CHARS).count() < MIN_PASSWORD_CHARS {
        return Err(WeakPassword::TooShort);
    }
    Ok(())
}

/// A parsed keyslot: its head holds, its contents are still wrapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyslot {
    kind: KeyslotKind,
    slot_id: [u8; 16],
    of: KeyslotFor,
    params: KdfParams,
    salt: [u8; 16],
    commit: [u8; 32],
    nonce: [u8; 24],
    ciphertext: [u8; 48],
}

impl Keyslot {
    /// Wraps under a password that passes [`check_password`]. Takes about a second and 64 MiB.
    pub fn seal_password<R: CryptoRng + ?Sized>(
        master: &MasterKey,
        of: KeyslotFor,
        password: &str,
        rng: &mut R,
    ) -> Result<Self, WeakPassword> {
        check_password(password)?;
        let slot = Self::blank(KeyslotKind::Password, of, POLICY, rng);
        let kek = password_key(password, &slot.salt, slot.params);
        Ok(slot.fill(master, &kek))
    }

    /// Wraps under the phrase.
    pub fn seal_phrase<R: CryptoRng + ?Sized>(
        master: &MasterKey,
        of: KeyslotFor,
        phrase: &Phrase,
        rng: &mut R,
    ) -> Self {
        let slot = Self::blank(KeyslotKind::Phrase, of, KdfParams::default(), rng);
        let kek = phrase_key(phrase, &slot.salt);
        slot.fill(master, &kek)
    }

    /// Reads a slot. Refuses parameters out of range here, before any memory is spent on them.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyslotError> {
        let mut rest = bytes;
        if take::<4>(&mut rest)? != *b"MSHK" {
            return Err(KeyslotError::Corrupt);
        }
        let [version, kind] = take::<2>(&mut rest)?;
        if version != 0 {
            return Err(KeyslotError::UnsupportedVersion(version));
        }
        let kind = match kind {
            1 => KeyslotKind::Password,
            2 => KeyslotKind::Phrase,
            _ => return Err(KeyslotError::Corrupt),
        };
        let slot = Self {
            kind,
            slot_id: take(&mut rest)?,
            of: KeyslotFor {
                mesh_id: MeshId::from_bytes(take(&mut rest)?),
                mesh_salt: take(&mut rest)?,
                generation: u32::from_le_bytes(take(&mut rest)?),
            },
            params: KdfParams {
                memory_kib: u32::from_le_bytes(take(&mut rest)?),
                passes: u32::from_le_bytes(take(&mut rest)?),
                lanes: u32::from_le_bytes(take(&mut rest)?),
            },
            salt: take(&mut rest)?,
            commit: take(&mut rest)?,
            nonce: take(&mut rest)?,
            ciphertext: take(&mut rest)?,
        };
        if !rest.is_empty() {
            return Err(KeyslotError::Corrupt);
        }
        slot.params.check(kind)?;
        Ok(slot)
    }

    /// The exact bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.head();
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.ciphertext);
        out
    }

    /// Which secret opens it.
    pub fn kind(&self) -> KeyslotKind {
        self.kind
    }

    /// Its random name.
    pub fn slot_id(&self) -> &[u8; 16] {
        &self.slot_id
    }

    /// Which mesh it claims to be for. Believed only once the root derived from the opened key equals the genesis' root.
    pub fn of(&self) -> &KeyslotFor {
        &self.of
    }

    /// Unwraps with a password, normalised as when it was set. Takes about a second and the memory the slot names.
    pub fn open_password(&self, password: &str) -> Result<MasterKey, KeyslotError> {
        if self.kind != KeyslotKind::Password {
            return Err(KeyslotError::WrongKind);
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(KeyslotError::WrongPassword);
        }
        self.open(
            &password_key(password, &self.salt, self.params),
            KeyslotError::WrongPassword,
        )
    }

    /// Unwraps with the phrase.
    pub fn open_phrase(&self, phrase: &Phrase) -> Result<MasterKey, KeyslotError> {
        if self.kind != KeyslotKind::Phrase {
            return Err(KeyslotError::WrongKind);
        }
        self.open(
            &phrase_key(phrase, &self.salt),
            KeyslotError::PhraseNotForThisMesh,
        )
    }

    fn blank<R: CryptoRng + ?Sized>(
        kind: KeyslotKind,
        of: KeyslotFor,
        params: KdfParams,
        rng: &mut R,
    ) -> Self {
        let mut slot = Self {
            kind,
            slot_id: [0; 16],
            of,
            params,
            salt: [0; 16],
            commit: [0; 32],
            nonce: [0; 24],
            ciphertext: [0; 48],
        };
        rng.fill_bytes(&mut slot.slot_id);
        rng.fill_bytes(&mut slot.salt);
        rng.fill_bytes(&mut slot.nonce);
        slot
    }

    fn fill(mut self, master: &MasterKey, kek: &Secret<32>) -> Self {
        let (key, commit) = wrapping_key(kek);
        self.commit = commit;
        let payload = Payload {
            msg: master.0.expose(),
            aad: &self.head(),
        };
        self.ciphertext = XChaCha20Poly1305::new(&(*key.expose()).into())
            .encrypt(&self.nonce.into(), payload)
            .expect("32 bytes are no long message")
            .try_into()
            .expect("32 bytes and a 16-byte tag");
        self
    }

    fn open(&self, kek: &Secret<32>, wrong: KeyslotError) -> Result<MasterKey, KeyslotError> {
        let (key, commit) = wrapping_key(kek);
        if !bool::from(commit.ct_eq(&self.commit)) {
            return Err(wrong);
        }
        let payload = Payload {
            msg: &self.ciphertext[..],
            aad: &self.head(),
        };
        let plain = XChaCha20Poly1305::new(&(*key.expose()).into())
            .decrypt(&self.nonce.into(), payload)
            .map_err(|_| KeyslotError::Corrupt)?;
        let plain = Zeroizing::new(plain);
        Ok(MasterKey(Secret::new(
            plain
                .as_slice()
                .try_into()
                .expect("48 bytes less a 16-byte tag"),
        )))
    }

    /// Every byte before the nonce.
    fn head(&self) -> Vec<u8> {
        let kind = match self.kind {
            KeyslotKind::Password => 1,
            KeyslotKind::Phrase => 2,
        };
        let mut out = Vec::with_capacity(KEYSLOT_LEN);
        out.extend_from_slice(b"MSHK");
        out.extend_from_slice(&[0, kind]);
        out.extend_from_slice(&self.slot_id);
        out.extend_from_slice(self.of.mesh_id.as_bytes());
        out.extend_from_slice(&self.of.mesh_salt);
        out.extend_from_slice(&self.of.generation.to_le_bytes());
        for number in [
            self.params.memory_kib,
            self.params.passes,
            self.params.lanes,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.commit);
        out
    }
}

/// Argon2id parameters; all zero in a phrase slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct KdfParams {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl KdfParams {
    /// At least the policy of today, at most what a small machine can compute.
    fn check(self, kind: KeyslotKind) -> Result<(), KeyslotError> {
        let fine = match kind {
            KeyslotKind::Phrase => self == Self::default(),
            KeyslotKind::Password => {
                (65_536..=1_048_576).contains(&self.memory_kib)
                    && (3..=16).contains(&self.passes)
                    && (1..=8).contains(&self.lanes)
            }
        };
        if fine {
            Ok(())
        } else {
            Err(KeyslotError::KdfParamsRejected)
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], KeyslotError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(KeyslotError::Corrupt)?;
    *rest = tail;
    Ok(*head)
}

/// `Argon2id(NFKC(password), salt)`. The parameters have passed [`KdfParams::check`].
fn password_key(password: &str, salt: &[u8; 16], params: KdfParams) -> Secret<32> {
    let password: Zeroizing<String> = Zeroizing::new(password.nfkc().collect());
    let params = Params::new(params.memory_kib, params.passes, params.lanes, Some(32))
        .expect("parameters were checked");
    let mut key = Secret::zero();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, key.expose_mut())
        .expect("lengths are in range");
    key
}

fn phrase_key(phrase: &Phrase, salt: &[u8; 16]) -> Secret<32> {
    derive(salt, phrase.entropy().expose(), Label::SLOT_PHRASE, &[])
}

fn wrapping_key(kek: &Secret<32>) -> (Secret<32>, [u8; 32]) {
    derive_committing(&[], kek.expose(), Label::SLOT_WRAP, &[])
}

#[cfg(test)]
mod tests;
