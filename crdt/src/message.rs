//! What two nodes say to each other on the control stream.
//!
//! A message is a version byte and a CBOR list that begins with the message's number. Nodes of several
//! versions meet, so later fields are skipped and an unknown number is an error that names it, for the
//! caller to ignore. The danger guarded against is a peer that makes us hold more than it sends: every
//! list has its limit, and no length is believed before it is compared.

use minicbor::{Decoder, Encoder};
use ownmesh_crypto::ids::{ContentHash, SpaceId, StatementHash};

use crate::cbor;
use crate::limits::{
    MAX_MESSAGE, MAX_MESSAGE_BATCHES, MAX_REASON, MAX_SEALED, MAX_STATEMENT, MAX_STATEMENTS,
};
use crate::page::Point;
use crate::vector::Vector;

/// Where a node stands in one space; sent on connecting and whenever it changes, so it acknowledges too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceHello {
    /// The space.
    pub space: SpaceId,
    /// Whether the node takes part in it.
    pub joined: bool,
    /// How the node keeps the space's content; the meaning of the numbers is the caller's.
    pub mode: u8,
    /// What the node has applied durably.
    pub vector: Vector,
    /// The first batch the node still holds of each log: what lies before needs a state transfer.
    pub lowest: Vector,
    /// Items whose content the node still waits for.
    pub missing_items: u64,
    /// Bytes of those.
    pub missing_bytes: u64,
    /// Items the node has altogether.
    pub items: u64,
    /// Whether its user told it to wait: it takes nothing in and gives nothing out for now.
    pub paused: bool,
    /// Whether a guard of the node's stopped it, and which one: it writes nothing to its disk until its user
    /// has answered. 0: it is not stopped; the meaning of the others is the caller's.
    pub stopped: u8,
    /// How many of the missing items it will never ask for: its user does not want them there.
    pub unwanted_items: u64,
}

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// What the sender has of the registry.
    Registry {
        /// Digest over all statements.
        digest: [u8; 32],
        /// Their hashes, if the digests differed; otherwise empty.
        hashes: Vec<StatementHash>,
    },
    /// Registry statements, each signed by itself.
    Statements(Vec<Vec<u8>>),
    /// Where the sender stands in a space.
    Space(SpaceHello),
    /// Sealed batches, those of one log in order.
    Batches {
        /// Their space.
        space: SpaceId,
        /// The exact bytes of each.
        batches: Vec<Vec<u8>>,
    },
    /// Asks for the state of a space, because logs no longer reach back far enough.
    WantState {
        /// The space.
        space: SpaceId,
        /// How much of it is here already.
        begin: Point,
    },
    /// A page of a state transfer.
    Page {
        /// The space.
        space: SpaceId,
        /// The sealed page.
        bytes: Vec<u8>,
    },
    /// A content that was asked for has been replaced meanwhile.
    Superseded {
        /// The space.
        space: SpaceId,
        /// The content.
        hash: ContentHash,
    },
    /// The sender closes the connection.
    Bye {
        /// Why, in words for a log.
        reason: String,
    },
}

impl Message {
    /// Encodes the message. Who sends lists beyond the limits is not understood; a longer reason is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(VERSION);
        cbor::written(self.write(&mut Encoder::new(&mut out)));
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError::Unknown`] and [`MessageError::Version`] come from newer nodes and are no fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MAX_MESSAGE {
            return Err(MessageError::TooLarge);
        }
        let body = match bytes {
            [VERSION, body @ ..] => body,
            [other, ..] => return Err(MessageError::Version(*other)),
            [] => return Err(minicbor::decode::Error::end_of_input().into()),
        };
        let mut d = Decoder::new(body);
        let items = d
            .array()?
            .ok_or_else(|| minicbor::decode::Error::message("list of unknown length"))?;
        let number = d.u64()?;
        let known = match number {
            REGISTRY | BATCHES | PAGE | SUPERSEDED => 2,
            WANT_STATE => 3,
            STATEMENTS | BYE => 1,
            SPACE => 11,
            _ => return Err(MessageError::Unknown(number)),
        };
        let later = items
            .checked_sub(known + 1)
            .filter(|later| *later <= MAX_LATER)
            .ok_or_else(|| minicbor::decode::Error::message("message of another length"))?;
        let message = Self::read(number, &mut d)?;
        cbor::finish(&mut d, later)?;
        Ok(message)
    }

    fn write(
        &self,
        e: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        match self {
            Self::Registry { digest, hashes } => {
                e.array(3)?
                    .u64(REGISTRY)?
                    .bytes(digest)?
                    .array(hashes.len() as u64)?;
                for hash in hashes {
                    e.encode(hash)?;
                }
            }
            Self::Statements(statements) => {
                e.array(2)?.u64(STATEMENTS)?;
                write_blobs(e, statements)?;
            }
            Self::Space(hello) => {
                e.array(12)?
                    .u64(SPACE)?
                    .encode(hello.space)?
                    .bool(hello.joined)?
                    .u8(hello.mode)?;
                e.encode(&hello.vector)?.encode(&hello.lowest)?;
                e.u64(hello.missing_items)?
                    .u64(hello.missing_bytes)?
                    .u64(hello.items)?
                    .bool(hello.paused)?
                    .u8(hello.stopped)?
                    .u64(hello.unwanted_items)?;
            }
            Self::Batches { space, batches } => {
                e.array(3)?.u64(BATCHES)?.encode(space)?;
                write_blobs(e, batches)?;
            }
            Self::WantState { space, begin } => {
                e.array(4)?.u64(WANT_STATE)?.encode(space)?;
                e.encode(begin.after)?.u64(begin.part)?;
            }
            Self::Page { space, bytes } => {
                e.array(3)?.u64(PAGE)?.encode(space)?.bytes(bytes)?;
            }
            Self::Superseded { space, hash } => {
                e.array(3)?.u64(SUPERSEDED)?.encode(space)?.encode(hash)?;
            }
            Self::Bye { reason } => {
                e.array(2)?
                    .u64(BYE)?
                    .str(&reason[..reason.floor_char_boundary(MAX_REASON)])?;
            }
        }
        Ok(())
    }

    fn read(number: u64, d: &mut Decoder<'_>) -> Result<Self, minicbor::decode::Error> {
        Ok(match number {
            REGISTRY => {
                let digest = d.bytes()?;
                let digest = digest
                    .try_into()
                    .map_err(|_| minicbor::decode::Error::message("digest"))?;
                let mut hashes = Vec::new();
                for _ in 0..cbor::list(d, 1, MAX_STATEMENTS)? {
                    hashes.push(d.decode()?);
                }
                Self::Registry { digest, hashes }
            }
            STATEMENTS => Self::Statements(read_blobs(d, MAX_STATEMENTS, MAX_STATEMENT)?),
            SPACE => Self::Space(SpaceHello {
                space: d.decode()?,
                joined: d.bool()?,
                mode: d.u8()?,
                vector: d.decode()?,
                lowest: d.decode()?,
                missing_items: d.u64()?,
                missing_bytes: d.u64()?,
                items: d.u64()?,
                paused: d.bool()?,
                stopped: d.u8()?,
                unwanted_items: d.u64()?,
            }),
            BATCHES => Self::Batches {
                space: d.decode()?,
                batches: read_blobs(d, MAX_MESSAGE_BATCHES, MAX_SEALED)?,
            },
            WANT_STATE => Self::WantState {
                space: d.decode()?,
                begin: Point {
                    after: d.decode()?,
                    part: d.u64()?,
                },
            },
            PAGE => Self::Page {
                space: d.decode()?,
                bytes: cbor::bytes(d, MAX_SEALED)?,
            },
            SUPERSEDED => Self::Superseded {
                space: d.decode()?,
                hash: d.decode()?,
            },
            _ => {
                let reason = d.str()?;
                if reason.len() > MAX_REASON {
                    return Err(minicbor::decode::Error::message("reason too long"));
                }
                Self::Bye {
                    reason: reason.to_owned(),
                }
            }
        })
    }
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// From a newer node: ignore it.
    #[error("message of the unknown version {0}")]
    Version(u8),
    /// A kind of message that is not known here: ignore it.
    #[error("message of the unknown kind {0}")]
    Unknown(u64),
    /// Beyond the limit.
    #[error("the message is too large")]
    TooLarge,
    /// Not what its kind should look like: the peer is at fault.
    #[error("the message is malformed")]
    Malformed(#[from] minicbor::decode::Error),
}

fn write_blobs(
    e: &mut Encoder<&mut Vec<u8>>,
    blobs: &[Vec<u8>],
) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
    e.array(blobs.len() as u64)?;
    for blob in blobs {
        e.bytes(blob)?;
    }
    Ok(())
}

fn read_blobs(
    d: &mut Decoder<'_>,
    count: usize,
    each: usize,
) -> Result<Vec<Vec<u8>>, minicbor::decode::Error> {
    let mut blobs = Vec::new();
    for _ in 0..cbor::list(d, 1, count)? {
        blobs.push(cbor::bytes(d, each)?);
    }
    Ok(blobs)
}

const VERSION: u8 = 0;
/// Fields a later version may have added to a message.
const MAX_LATER: u64 = 16;

const REGISTRY: u64 = 1;
const STATEMENTS: u64 = 2;
const SPACE: u64 = 3;
const BATCHES: u64 = 4;
const WANT_STATE: u64 = 5;
const PAGE: u64 = 6;
const SUPERSEDED: u64 = 7;
const BYE: u64 = 8;
