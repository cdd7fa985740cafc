//! The pairing handshake: `Noise_XXpsk0_25519_ChaChaPoly_SHA256`, and the checks the library leaves to us.
//!
//! The pre-shared key goes in with the first message, so whoever lacks the ticket or code learns neither static key and cannot make
//! the sponsor compute anything. The prologue binds both PeerIds, the path and all that was said before. The library accepts keys of
//! low order, whose exchanges do not depend on our secrets: ephemeral and static keys are checked here.

use rand::rngs::StdRng;
use rand::{CryptoRng, Rng, SeedableRng};
use sha2::{Digest, Sha256};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};
use std::cell::Cell;

use crate::hash::derive;
use crate::keys::{DeviceKeys, contributory};
use crate::labels::Label;
use crate::pairing::PairError;
use crate::secret::Secret;

/// Longest Noise message.
pub(super) const MAX_FRAME: usize = 65_535;

/// Bytes a Noise message is longer than its plaintext.
pub(super) const TAG: usize = 16;

const PATTERN: &str = "Noise_XXpsk0_25519_ChaChaPoly_SHA256";

/// How the two sides came by their shared key. Part of the prologue, so that neither can be taken for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Path {
    /// From a ticket: 256 random bits.
    Ticket = 1,
    /// From a short code, by a PAKE.
    Code = 2,
}

/// The key both sides must share before the first handshake message.
pub(super) struct Psk {
    pub(super) path: Path,
    pub(super) key: Secret<32>,
}

impl Psk {
    /// `HKDF-SHA256(salt = label, ticket's secret, label ‖ session)`.
    pub(super) fn from_ticket(secret: &Secret<32>, session: &[u8; 16]) -> Self {
        let key = derive(
            Label::PAIR_SALT.as_bytes(),
            secret.expose(),
            Label::PAIR_PSK_TICKET,
            &[session],
        );
        Self {
            path: Path::Ticket,
            key,
        }
    }

    /// `HKDF-SHA256(salt = label, the PAKE's key, label ‖ SHA-256(all messages before))`.
    pub(super) fn from_pake(key: &Secret<64>, before: &[u8]) -> Self {
        let transcript = Sha256::digest(before);
        let key = derive(
            Label::PAIR_SALT.as_bytes(),
            key.expose(),
            Label::PAIR_PSK_CODE,
            &[&transcript],
        );
        Self {
            path: Path::Code,
            key,
        }
    }
}

/// Both ends' PeerIds and the hash of every message before the handshake.
pub(super) struct Context<'a> {
    pub(super) joiner_transport: &'a [u8; 32],
    pub(super) sponsor_transport: &'a [u8; 32],
    pub(super) before: &'a [u8],
}

impl Context<'_> {
    pub(super) fn prologue(&self, path: Path) -> Vec<u8> {
        let before = Sha256::digest(self.before);
        [
            Label::PAIR_PROLOGUE.as_bytes(),
            &[0, path as u8],
            self.joiner_transport,
            self.sponsor_transport,
            &before,
        ]
        .concat()
    }
}

/// A handshake under way.
pub(super) struct Handshake {
    noise: Box<HandshakeState>,
    own_static: [u8; 32],
}

impl Handshake {
    pub(super) fn initiator(
        psk: &Psk,
        context: &Context<'_>,
        keys: &DeviceKeys,
        rng: StdRng,
    ) -> Result<Self, PairError> {
        Self::build(psk, context, keys, rng, true)
    }

    pub(super) fn responder(
        psk: &Psk,
        context: &Context<'_>,
        keys: &DeviceKeys,
        rng: StdRng,
    ) -> Result<Self, PairError> {
        Self::build(psk, context, keys, rng, false)
    }

    fn build(
        psk: &Psk,
        context: &Context<'_>,
        keys: &DeviceKeys,
        rng: StdRng,
        initiator: bool,
    ) -> Result<Self, PairError> {
        let prologue = context.prologue(psk.path);
        let secret = keys.noise_secret();
        let params = PATTERN.parse().map_err(|_| PairError::Internal)?;
        let resolver = Box::new(Resolver(Cell::new(Some(rng))));
        let noise = Builder::with_resolver(params, resolver)
            .psk(0, psk.key.expose())
            .and_then(|builder| builder.prologue(&prologue))
            .and_then(|builder| builder.local_private_key(secret.expose()))
            .and_then(|builder| {
                if initiator {
                    builder.build_initiator()
                } else {
                    builder.build_responder()
                }
            })
            .map_err(|_| PairError::Internal)?;
        Ok(Self {
            noise: Box::new(noise),
            own_static: keys.public().noise,
        })
    }

    /// The next handshake message, without payload.
    pub(super) fn write(&mut self) -> Result<Vec<u8>, PairError> {
        let mut out = vec![0; 128];
        let length = self
            .noise
            .write_message(&[], &mut out)
            .map_err(|_| PairError::Internal)?;
        out.truncate(length);
        Ok(out)
    }

    /// Reads the peer's next message, which must carry no payload. `with_ephemeral`: it begins with an ephemeral key.
    pub(super) fn read(&mut self, message: &[u8], with_ephemeral: bool) -> Result<(), PairError> {
        if with_ephemeral {
            let ephemeral = message.first_chunk::<32>().ok_or(PairError::Malformed)?;
            if !contributory(ephemeral) {
                return Err(PairError::LowOrderKey);
            }
        }
        let mut payload = [0; 128];
        match self.noise.read_message(message, &mut payload) {
            Ok(0) => Ok(()),
            Ok(_) => Err(PairError::Malformed),
            Err(_) => Err(PairError::WrongSecret),
        }
    }

    /// The peer's static key, once it has come; refused if of low order or our own.
    pub(super) fn remote_static(&self) -> Result<[u8; 32], PairError> {
        let key = self.noise.get_remote_static().ok_or(PairError::Internal)?;
        let key: [u8; 32] = key.try_into().map_err(|_| PairError::Internal)?;
        if !contributory(&key) {
            return Err(PairError::LowOrderKey);
        }
        if key == self.own_static {
            return Err(PairError::OwnKey);
        }
        Ok(key)
    }

    pub(super) fn finish(self) -> Result<Channel, PairError> {
        let hash = self
            .noise
            .get_handshake_hash()
            .try_into()
            .map_err(|_| PairError::Internal)?;
        let noise = self
            .noise
            .into_transport_mode()
            .map_err(|_| PairError::Internal)?;
        Ok(Channel {
            noise: Box::new(noise),
            hash,
        })
    }
}

/// The encrypted channel after the handshake. Each message is used up: none can be repeated, left out or moved.
pub(super) struct Channel {
    noise: Box<TransportState>,
    hash: [u8; 32],
}

impl Channel {
    /// The handshake hash: the same on both ends, and on no other connection.
    pub(super) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    pub(super) fn write(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, PairError> {
        let mut out = vec![0; plaintext.len() + TAG];
        let length = self
            .noise
            .write_message(plaintext, &mut out)
            .map_err(|_| PairError::TooLarge)?;
        out.truncate(length);
        Ok(out)
    }

    pub(super) fn read(
        &mut self,
        message: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, PairError> {
        let mut out = zeroize::Zeroizing::new(vec![0; message.len()]);
        let length = self
            .noise
            .read_message(message, &mut out)
            .map_err(|_| PairError::NotAuthentic)?;
        out.truncate(length);
        Ok(out)
    }
}

/// A generator for one handshake, seeded by the caller's.
pub(super) fn fork<R: CryptoRng + ?Sized>(rng: &mut R) -> StdRng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    StdRng::from_seed(seed)
}

/// The default primitives, with randomness from the caller.
struct Resolver(Cell<Option<StdRng>>);

impl CryptoResolver for Resolver {
    /// Given once: two generators with one state would repeat themselves.
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        self.0
            .take()
            .map(|rng| Box::new(Forked(rng)) as Box<dyn Random>)
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Forked(StdRng);

impl Random for Forked {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}
