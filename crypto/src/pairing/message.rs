//! The messages of pairing and their bytes.
//!
//! ```text
//! B->A  P1  0 version ‖ suite 1 ‖ path ‖ window 16 ‖ joiner's transport key 32       51 bytes, in clear
//!           window: a ticket's session; of a code the nameplate (u16), then zeros
//! code path only:
//!       C1  follows P1 in the same message                                           96 bytes
//! A->B  C2                                                                           320 bytes
//! B->A  C3                                                                           64 bytes
//! both:
//! B->A  N1  follows P1 (ticket) or C3 (code) in the same message                     48 bytes
//! A->B  N2                                                                           96 bytes
//! B->A  N3                                                                           64 bytes
//! inside the channel, first byte of the plaintext = kind:
//! B->A  E1  1 ‖ CBOR [request bytes, signature 64, transport signature 64]
//! A->B  E2  2 ‖ words asked for 0|1 ‖ nonce_A 32
//! B->A  E3  3 ‖ third word asked for 0|1 ‖ nonce_B 32
//! A->B  E4  4 ‖ more 0|1 ‖ piece of the enrolment, as many as it takes
//! B->A  E5  5 ‖ signature 64
//! ```

use minicbor::encode::{self, Write};
use minicbor::{Decode, Decoder, Encode, Encoder, decode};
use zeroize::{Zeroize, Zeroizing};

use crate::ids::{MeshId, StatementHash};
use crate::keys::{DeviceCard, DeviceKeys, verify};
use crate::labels::Label;
use crate::pairing::code::Nameplate;
use crate::pairing::handshake::{Channel, MAX_FRAME, Path, TAG};
use crate::pairing::{MAX_ENROLLMENT, MAX_KEYSLOTS, PairError};
use crate::registry::{MAX_NAME, MAX_PLATFORM, MAX_STATEMENTS, Registry, check_text};
use crate::space::MeshSecret;

pub(super) const P1_LEN: usize = 51;

const JOIN: u8 = 1;
const NONCE_SPONSOR: u8 = 2;
const NONCE_JOINER: u8 = 3;
const ENROLL: u8 = 4;
const ENROLLED: u8 = 5;

/// Plaintext of one E4 message besides its two bytes of head.
const PIECE: usize = MAX_FRAME - TAG - 2;

/// Which window the joiner means, and with that by which path it comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Door {
    /// The window of this session, with its ticket.
    Ticket([u8; 16]),
    /// The window with this nameplate, with its code.
    Code(Nameplate),
}

/// The first words in clear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PairHello {
    pub(super) door: Door,
    pub(super) transport: [u8; 32],
}

impl PairHello {
    pub(super) fn to_bytes(&self) -> [u8; P1_LEN] {
        let mut out = [0; P1_LEN];
        out[1] = 1;
        match &self.door {
            Door::Ticket(session) => {
                out[2] = Path::Ticket as u8;
                out[3..19].copy_from_slice(session);
            }
            Door::Code(nameplate) => {
                out[2] = Path::Code as u8;
                out[3..5].copy_from_slice(&nameplate.number().to_le_bytes());
            }
        }
        out[19..].copy_from_slice(&self.transport);
        out
    }

    /// Splits the first message into P1 and what follows it.
    pub(super) fn parse(message: &[u8]) -> Result<(Self, &[u8; P1_LEN], &[u8]), PairError> {
        let (bytes, rest) = message
            .split_first_chunk::<P1_LEN>()
            .ok_or(PairError::Malformed)?;
        if bytes[0] != 0 || bytes[1] != 1 {
            return Err(PairError::UnsupportedVersion);
        }
        let window: [u8; 16] = *bytes[3..].first_chunk().expect("51 bytes hold it");
        let door = match (bytes[2], window) {
            (1, session) => Door::Ticket(session),
            (2, [low, high, zeros @ ..]) if zeros == [0; 14] => {
                let nameplate = Nameplate::new(u16::from_le_bytes([low, high]));
                Door::Code(nameplate.ok_or(PairError::Malformed)?)
            }
            _ => return Err(PairError::Malformed),
        };
        let hello = Self {
            door,
            transport: *bytes[19..].first_chunk().expect("51 bytes hold it"),
        };
        Ok((hello, bytes, rest))
    }
}

/// What the new device says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct JoinRequest {
    /// The name it wants; shown to the sponsor's user. At most 128 bytes, no control characters.
    #[n(0)]
    pub name: String,
    /// What it runs on; at most 64 bytes.
    #[n(1)]
    pub platform: String,
    /// Its keys, with its proof over them: what [`registry::device`](crate::registry::device) takes.
    #[n(2)]
    pub card: DeviceCard,
    /// Commitment to its nonce for the check words.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(super) commit: [u8; 32],
}

#[derive(Encode, Decode)]
struct SignedJoin {
    #[cbor(n(0), with = "minicbor::bytes")]
    request: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    signature: [u8; 64],
    #[cbor(n(2), with = "minicbor::bytes")]
    transport_signature: [u8; 64],
}

impl JoinRequest {
    pub(super) fn check(&self) -> Result<(), PairError> {
        check_text(&self.name, MAX_NAME).map_err(|_| PairError::BadName)?;
        check_text(&self.platform, MAX_PLATFORM).map_err(|_| PairError::BadName)
    }

    /// E1: the request under both signatures, each over `handshake hash ‖ request`.
    pub(super) fn sign(&self, keys: &DeviceKeys, hash: &[u8; 32]) -> Vec<u8> {
        let request = to_cbor(self);
        let signed = [&hash[..], &request].concat();
        let join = SignedJoin {
            signature: keys.sign(Label::SIGN_JOIN, &signed),
            transport_signature: keys.sign_transport(Label::SIGN_JOIN_TRANSPORT, &signed),
            request,
        };
        [&[JOIN][..], &to_cbor(&join)].concat()
    }

    /// Reads E1 and checks names, card and both signatures.
    pub(super) fn verify(plaintext: &[u8], hash: &[u8; 32]) -> Result<Self, PairError> {
        let join: SignedJoin = from_cbor(expect(JOIN, plaintext)?)?;
        let request: Self = from_cbor(&join.request)?;
        request.check()?;
        let signed = [&hash[..], &join.request].concat();
        let public = &request.card.public;
        request.card.verify().map_err(|_| PairError::BadSignature)?;
        verify(&public.sign, Label::SIGN_JOIN, &signed, &join.signature)
            .map_err(|_| PairError::BadSignature)?;
        verify(
            &public.transport,
            Label::SIGN_JOIN_TRANSPORT,
            &signed,
            &join.transport_signature,
        )
        .map_err(|_| PairError::BadSignature)?;
        Ok(request)
    }
}

/// What a new device gets. It is in the clear in memory alone: [`Sponsor::enroll`](super::Sponsor::enroll) encrypts it.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Enrollment {
    /// The mesh's secret.
    #[cbor(n(0), encode_with = "encode_secret", decode_with = "decode_secret")]
    pub mesh_secret: MeshSecret,
    /// Every registry statement, the new device's own among them, ordered as [`Registry::statements`] gives them.
    #[cbor(n(1), encode_with = "encode_all", decode_with = "decode_statements")]
    pub statements: Vec<Vec<u8>>,
    /// Copies of the keyslots, so that phrase and password work on the new device too. At most [`MAX_KEYSLOTS`].
    #[cbor(n(2), encode_with = "encode_all", decode_with = "decode_keyslots")]
    pub keyslots: Vec<Vec<u8>>,
}

impl Enrollment {
    /// The mesh it is of: its genesis says so, and is named by its own hash.
    pub fn mesh_id(&self) -> Result<MeshId, PairError> {
        let genesis = |bytes: &Vec<u8>| Registry::new(bytes).ok();
        let registry = self.statements.iter().find_map(genesis);
        Ok(registry.ok_or(PairError::WrongMesh)?.view().mesh_id)
    }

    /// The registry its statements make, if it is that of `mesh_id` and every single one is accepted.
    pub fn registry(&self, mesh_id: &MeshId) -> Result<Registry, PairError> {
        let start = |bytes: &Vec<u8>| {
            Registry::new(bytes)
                .ok()
                .filter(|registry| registry.view().mesh_id == *mesh_id)
        };
        let mut registry = self
            .statements
            .iter()
            .find_map(start)
            .ok_or(PairError::WrongMesh)?;
        for bytes in &self.statements {
            registry.insert(bytes).map_err(PairError::Statement)?;
        }
        if self
            .statements
            .iter()
            .any(|bytes| registry.get(&StatementHash::of(bytes)).is_none())
        {
            return Err(PairError::Unentitled);
        }
        Ok(registry)
    }

    /// E4: the plaintext messages.
    pub(super) fn seal(&self, channel: &mut Channel) -> Result<Vec<Vec<u8>>, PairError> {
        let bytes = Zeroizing::new(to_cbor(self));
        if bytes.len() > MAX_ENROLLMENT {
            return Err(PairError::TooLarge);
        }
        let mut messages = Vec::new();
        let mut pieces = bytes.chunks(PIECE).peekable();
        while let Some(piece) = pieces.next() {
            let more = u8::from(pieces.peek().is_some());
            let plaintext = Zeroizing::new([&[ENROLL, more][..], piece].concat());
            messages.push(channel.write(&plaintext)?);
        }
        Ok(messages)
    }
}

fn encode_secret<C, W: Write>(
    secret: &MeshSecret,
    e: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    e.bytes(secret.expose())?.ok()
}

fn decode_secret<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<MeshSecret, decode::Error> {
    let bytes = d
        .bytes()?
        .try_into()
        .map_err(|_| decode::Error::message("length of the mesh secret"))?;
    Ok(MeshSecret::from_bytes(bytes))
}

fn encode_all<C, W: Write>(
    items: &[Vec<u8>],
    e: &mut Encoder<W>,
    _: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    e.array(items.len() as u64)?;
    for item in items {
        e.bytes(item)?;
    }
    Ok(())
}

fn decode_statements<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Vec<u8>>, decode::Error> {
    decode_all(d, MAX_STATEMENTS)
}

fn decode_keyslots<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Vec<u8>>, decode::Error> {
    decode_all(d, MAX_KEYSLOTS)
}

/// A CBOR array of at most `max` byte strings.
fn decode_all(d: &mut Decoder<'_>, max: usize) -> Result<Vec<Vec<u8>>, decode::Error> {
    let length = d
        .array()?
        .ok_or_else(|| decode::Error::message("an array without length"))?;
    if length > max as u64 {
        return Err(decode::Error::message("too many items"));
    }
    (0..length).map(|_| d.bytes().map(<[u8]>::to_vec)).collect()
}

/// Gathers the pieces of E4.
#[derive(Default)]
pub(super) struct Gathered(Zeroizing<Vec<u8>>);

impl Gathered {
    /// Takes the next piece; the enrolment once it was the last.
    pub(super) fn push(&mut self, plaintext: &[u8]) -> Result<Option<Enrollment>, PairError> {
        let (&more, piece) = expect(ENROLL, plaintext)?
            .split_first()
            .ok_or(PairError::Malformed)?;
        if self.0.len() + piece.len() > MAX_ENROLLMENT {
            return Err(PairError::TooLarge);
        }
        self.append(piece);
        match more {
            0 => from_cbor(&self.0).map(Some),
            1 if piece.is_empty() => Err(PairError::Malformed),
            1 => Ok(None),
            _ => Err(PairError::Malformed),
        }
    }

    /// Grows by hand: a plain push would leave unwiped copies behind.
    fn append(&mut self, piece: &[u8]) {
        if self.0.len() + piece.len() > self.0.capacity() {
            let mut larger =
                Vec::with_capacity((2 * (self.0.len() + piece.len())).min(MAX_ENROLLMENT));
            larger.extend_from_slice(&self.0);
            std::mem::replace(&mut *self.0, larger).zeroize();
        }
        self.0.extend_from_slice(piece);
    }
}

/// E2. `words`: whether the sponsor will ask for them.
pub(super) fn nonce_sponsor(nonce: &[u8; 32], words: bool) -> Vec<u8> {
    [&[NONCE_SPONSOR, u8::from(words)][..], nonce].concat()
}

pub(super) fn read_nonce_sponsor(plaintext: &[u8]) -> Result<([u8; 32], bool), PairError> {
    read_nonce(expect(NONCE_SPONSOR, plaintext)?)
}

/// E3. `word`: whether the joiner will ask for the third one.
pub(super) fn nonce_joiner(nonce: &[u8; 32], word: bool) -> Vec<u8> {
    [&[NONCE_JOINER, u8::from(word)][..], nonce].concat()
}

pub(super) fn read_nonce_joiner(plaintext: &[u8]) -> Result<([u8; 32], bool), PairError> {
    read_nonce(expect(NONCE_JOINER, plaintext)?)
}

fn read_nonce(bytes: &[u8]) -> Result<([u8; 32], bool), PairError> {
    match bytes.split_first() {
        Some((&asks @ (0 | 1), nonce)) => {
            let nonce = nonce.try_into().map_err(|_| PairError::Malformed)?;
            Ok((nonce, asks == 1))
        }
        _ => Err(PairError::Malformed),
    }
}

/// E5: the joiner's signature over `handshake hash ‖ registry digest`.
pub(super) fn enrolled(keys: &DeviceKeys, hash: &[u8; 32], registry: &[u8; 32]) -> Vec<u8> {
    let signature = keys.sign(Label::SIGN_ENROLLED, &[&hash[..], registry].concat());
    [&[ENROLLED][..], &signature].concat()
}

pub(super) fn verify_enrolled(
    plaintext: &[u8],
    sign: &[u8; 32],
    hash: &[u8; 32],
    registry: &[u8; 32],
) -> Result<(), PairError> {
    let signature: [u8; 64] = expect(ENROLLED, plaintext)?
        .try_into()
        .map_err(|_| PairError::Malformed)?;
    verify(
        sign,
        Label::SIGN_ENROLLED,
        &[&hash[..], registry].concat(),
        &signature,
    )
    .map_err(|_| PairError::BadSignature)
}

fn expect(kind: u8, plaintext: &[u8]) -> Result<&[u8], PairError> {
    match plaintext.split_first() {
        Some((&found, rest)) if found == kind => Ok(rest),
        _ => Err(PairError::Unexpected),
    }
}

fn to_cbor<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding into memory does not fail")
}

fn from_cbor<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, PairError> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.decode().map_err(|_| PairError::Malformed)?;
    if decoder.position() == bytes.len() {
        Ok(value)
    } else {
        Err(PairError::Malformed)
    }
}
