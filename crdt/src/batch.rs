//! A batch: the changes of one flush, sealed, signed and chained to the batch before it.
//!
//! The same bytes travel on every road, so they carry all that is needed to judge them. What stands in
//! clear is only what a relay must know to keep batches in order: a pseudonymous tag, a number, the
//! hash of the one before, the id of the key. Order of the checks: seal, signature of a known device,
//! tag, decompression within bounds, parsing within bounds. The danger guarded against is a batch that
//! stands in a log it was not written for: the tag must be that of its device and incarnation.

use minicbor::{Decoder, Encoder};
use ownmesh_crypto::ids::{BatchHash, DeviceId, Incarnation, ItemId, KeyId, SpaceId, WriterTag};
use ownmesh_crypto::keys::DeviceKeys;
use ownmesh_crypto::labels::Label;
use ownmesh_crypto::sealed::ObjectKind;
use ownmesh_crypto::space::{EpochKey, SpaceSecret};
use rand::CryptoRng;

use crate::cbor;
use crate::envelope::{self, Envelope, Refused, SUITE, VERSION};
use crate::limits::{MAX_BATCH_CHANGES, MAX_CHANGE, MAX_LOGS};

/// What stands in clear at the head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// The log it belongs to.
    pub tag: WriterTag,
    /// Its number in the log, from 1 without gaps.
    pub seq: u64,
    /// The batch before it; [`BatchHash::ZERO`] before the first.
    pub prev: BatchHash,
    /// The epoch key it is sealed with.
    pub key: KeyId,
}

/// What is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchBody {
    /// The space whose items are changed.
    pub space: SpaceId,
    /// Who wrote the batch.
    pub device: DeviceId,
    /// In which life.
    pub incarnation: Incarnation,
    /// The last batch its writer had of other logs, where that changed since its batch before this one.
    pub seen: Vec<(WriterTag, u64, BatchHash)>,
    /// Changes by item, in the order they were made.
    pub changes: Vec<(ItemId, Vec<u8>)>,
}

/// A batch as it is announced: never sealed again, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// What the next batch names as its predecessor.
    pub hash: BatchHash,
}

/// Seals and signs a batch.
///
/// # Errors
/// If it has too many changes or becomes too large; nothing has happened then, take fewer changes.
pub fn seal_batch<R: CryptoRng + ?Sized>(
    head: &BatchHead,
    body: &BatchBody,
    key: &EpochKey,
    keys: &DeviceKeys,
    rng: &mut R,
) -> Result<SealedBatch, BatchError> {
    if body.changes.len() > MAX_BATCH_CHANGES || body.seen.len() > MAX_LOGS {
        return Err(BatchError::TooLarge);
    }
    if key.id != head.key || head.seq == 0 {
        return Err(BatchError::Corrupt);
    }
    let mut plain = Vec::with_capacity(256);
    plain.extend_from_slice(body.device.as_bytes());
    plain.extend_from_slice(body.incarnation.as_bytes());
    plain.extend_from_slice(&envelope::compress(&encode(body))?);
    let bytes = BATCH.seal(header(head), &plain, key, keys, rng)?;
    let hash = BatchHash::of(&bytes[..bytes.len() - envelope::SIGNATURE]);
    Ok(SealedBatch { bytes, hash })
}

/// Reads what stands in clear, which needs no key and proves nothing.
///
/// # Errors
/// If the bytes are no batch of this version.
pub fn peek(bytes: &[u8]) -> Result<(BatchHead, BatchHash), BatchError> {
    let parts = BATCH.split(bytes)?;
    Ok((
        read_header(parts.header).ok_or(BatchError::Corrupt)?,
        BatchHash::of(parts.signed),
    ))
}

/// Opens a batch and checks all that can be checked without knowing its log; see [`crate::vector::LogChain`] for that.
///
/// # Errors
/// [`BatchError::UnknownKey`] and [`BatchError::UnknownSigner`] may pass when more of the registry has arrived; the others do not.
pub fn open_batch(
    bytes: &[u8],
    keys: &dyn Fn(&KeyId) -> Option<EpochKey>,
    signers: &dyn Fn(&DeviceId) -> Option<[u8; 32]>,
    secret: &SpaceSecret,
    space: &SpaceId,
) -> Result<(BatchHead, BatchHash, BatchBody), BatchError> {
    let parts = BATCH.split(bytes)?;
    let head = read_header(parts.header).ok_or(BatchError::Corrupt)?;
    let key = keys(&head.key).ok_or(BatchError::UnknownKey { key: head.key })?;
    let (device, plain) = BATCH.open(&parts, &key, signers)?;
    let (incarnation, packed) = plain
        .split_at_checked(16)
        .and_then(|(_, rest)| rest.split_first_chunk::<8>())
        .ok_or(BatchError::Corrupt)?;
    let incarnation = Incarnation::from_bytes(*incarnation);
    if secret.writer_tag(&device, &incarnation) != head.tag {
        return Err(BatchError::WrongTag);
    }
    let body =
        decode(&envelope::expand(packed)?, device, incarnation).map_err(|_| BatchError::Corrupt)?;
    if body.space != *space {
        return Err(BatchError::WrongSpace);
    }
    Ok((head, BatchHash::of(parts.signed), body))
}

/// Why a batch could not be made or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The epoch key has not arrived.
    #[error("the batch is sealed with the unknown key {key:?}")]
    UnknownKey {
        /// Its id.
        key: KeyId,
    },
    /// The writer's certificate has not arrived.
    #[error("the batch is signed by the unknown device {device:?}")]
    UnknownSigner {
        /// The device it claims.
        device: DeviceId,
    },
    /// The signature is not that of the device named inside.
    #[error("the signature of the batch does not hold")]
    BadSignature,
    /// The seal does not open, or what it holds is not readable.
    #[error("the batch is damaged")]
    Corrupt,
    /// Beyond the limits on size, open size or count.
    #[error("the batch is too large")]
    TooLarge,
    /// Written for another space.
    #[error("the batch belongs to another space")]
    WrongSpace,
    /// The tag in clear is not that of the writer inside.
    #[error("the batch stands in a log that is not its writer's")]
    WrongTag,
    /// Made by a newer version.
    #[error("the batch has the unknown version {0}")]
    Version(u8),
}

impl From<Refused> for BatchError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Version(version) => Self::Version(version),
            Refused::TooLarge => Self::TooLarge,
            Refused::Corrupt => Self::Corrupt,
            Refused::Signer(device) => Self::UnknownSigner { device },
            Refused::Signature => Self::BadSignature,
        }
    }
}

fn header(head: &BatchHead) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&[VERSION, SUITE]);
    out.extend_from_slice(head.tag.as_bytes());
    out.extend_from_slice(&head.seq.to_be_bytes());
    out.extend_from_slice(head.prev.as_bytes());
    out.extend_from_slice(head.key.as_bytes());
    out
}

fn read_header(header: &[u8]) -> Option<BatchHead> {
    let (tag, rest) = header.get(2..)?.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (prev, rest) = rest.split_first_chunk()?;
    let seq = u64::from_be_bytes(*seq);
    (seq > 0).then_some(BatchHead {
        tag: WriterTag::from_bytes(*tag),
        seq,
        prev: BatchHash::from_bytes(*prev),
        key: KeyId::try_from(rest).ok()?,
    })
}

fn encode(body: &BatchBody) -> Vec<u8> {
    let mut out = Vec::with_capacity(
        64 + body
            .changes
            .iter()
            .map(|(_, c)| c.len() + 20)
            .sum::<usize>(),
    );
    let mut e = Encoder::new(&mut out);
    cbor::written((|| {
        e.array(3)?.encode(body.space)?;
        e.array(3 * body.seen.len() as u64)?;
        for (tag, seq, hash) in &body.seen {
            e.encode(tag)?.u64(*seq)?.encode(hash)?;
        }
        e.array(2 * body.changes.len() as u64)?;
        for (item, change) in &body.changes {
            e.encode(item)?.bytes(change)?;
        }
        Ok(())
    })());
    out
}

fn decode(
    bytes: &[u8],
    device: DeviceId,
    incarnation: Incarnation,
) -> Result<BatchBody, minicbor::decode::Error> {
    let mut d = Decoder::new(bytes);
    let later = cbor::fields(&mut d, 3)?;
    let space = d.decode()?;
    let mut seen = Vec::new();
    for _ in 0..cbor::list(&mut d, 3, MAX_LOGS)? {
        seen.push((d.decode()?, d.u64()?, d.decode()?));
    }
    let mut changes = Vec::new();
    for _ in 0..cbor::list(&mut d, 2, MAX_BATCH_CHANGES)? {
        changes.push((d.decode()?, cbor::bytes(&mut d, MAX_CHANGE)?));
    }
    cbor::finish(&mut d, later)?;
    Ok(BatchBody {
        space,
        device,
        incarnation,
        seen,
        changes,
    })
}

const BATCH: Envelope = Envelope {
    kind: ObjectKind::Batch,
    label: Label::SIGN_BATCH,
    header: 2 + 16 + 8 + 32 + 16,
};
