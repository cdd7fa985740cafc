//! The messages of `/mesh/content/1`, byte by byte in `docs/format/wire.md`.
//!
//! The asker sends frames, each an [`Ask`]; the answerer sends for each thing asked, in the order asked, one or more
//! [`Head`]s, each followed by the bytes it announces. Dangers: a length that makes us allocate before it was checked,
//! and an answer from which a stranger learns what exists; so every length is compared with its limit first, and
//! "you may not" has no status of its own.

use std::ops::RangeInclusive;

use minicbor::{Decode, Decoder, Encode};
use ownmesh_crypto::{ChunkId, ContentHash, SpaceId};

use crate::disk::hash::Chunk;

/// The protocol's name in stream negotiation.
pub const PROTOCOL: &str = "/mesh/content/1";
/// Most bytes of one frame behind its length (64 KiB): 512 wants take 22 KiB, so this is room for fields to come.
pub const MAX_FRAME: usize = 64 << 10;
/// Most wants or parts of one frame: enough that a round trip carries hundreds of small files, and few enough that what
/// one frame makes the answerer hold is bounded.
pub const MAX_ITEMS: usize = 512;
/// Most bytes of one part of a content (8 MiB): adjoining chunks are asked for together, up to half a window.
pub const MAX_PART: u32 = 8 << 20;
/// Most bytes behind one [`Head`] (512 KiB): what is read, checked and sent in one go. The answerer compares the file's
/// stat after each, so this is also the most that can be sent of a file that changes.
pub const MAX_PIECE: u32 = 512 << 10;
/// Bytes of an entry of a chunk list: the id, then the length, big-endian.
pub const LIST_ENTRY: usize = ChunkId::LEN + 4;

/// Something foreign that is no message of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame is empty or longer than [`MAX_FRAME`].
    #[error("a content frame of {0} bytes")]
    FrameLength(u32),
    /// The bytes of a frame are not an [`Ask`].
    #[error("a content frame that cannot be read")]
    Frame,
    /// Lists in a frame are empty or longer than [`MAX_ITEMS`], or a part is empty, too long or beyond any file.
    #[error("a content frame that asks for too much or nothing")]
    Bounds,
    /// The status of a head is unknown, or its length is not what its status allows.
    #[error("a content head that cannot be read")]
    Head,
    /// A chunk list does not fit the content it should describe.
    #[error("a chunk list that does not fit its content")]
    List,
}

/// A small content, asked for whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct WantFile {
    /// The asker's number for it, which the answer repeats.
    #[n(0)]
    pub n: u32,
    /// The content.
    #[n(1)]
    pub hash: ContentHash,
}

/// A range of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Part {
    /// The asker's number for it, which the answer repeats.
    #[n(0)]
    pub n: u32,
    /// Where it begins, in bytes.
    #[n(1)]
    pub offset: u64,
    /// How many bytes, at most [`MAX_PART`].
    #[n(2)]
    pub len: u32,
}

/// What a frame asks for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// Small contents, whole.
    #[n(0)]
    Files {
        /// The space they are in.
        #[n(0)]
        space: SpaceId,
        /// Which; one to [`MAX_ITEMS`].
        #[cbor(n(1), decode_with = "bounded")]
        wants: Vec<WantFile>,
    },
    /// The chunk list of a large content.
    #[n(1)]
    List {
        /// The asker's number for it.
        #[n(0)]
        n: u32,
        /// The space it is in.
        #[n(1)]
        space: SpaceId,
        /// The content.
        #[n(2)]
        hash: ContentHash,
    },
    /// Ranges of one large content.
    #[n(2)]
    Chunks {
        /// The space it is in.
        #[n(0)]
        space: SpaceId,
        /// The content.
        #[n(1)]
        hash: ContentHash,
        /// Which ranges; one to [`MAX_ITEMS`].
        #[cbor(n(2), decode_with = "bounded")]
        parts: Vec<Part>,
    },
}

impl Ask {
    /// The frame: length and message.
    ///
    /// The lists must be within their bounds; then it always fits [`MAX_FRAME`].
    pub fn to_frame(&self) -> Result<Vec<u8>, WireError> {
        self.check()?;
        let mut frame = vec![0; 4];
        minicbor::encode(self, &mut frame).map_err(|_| WireError::Frame)?;
        let len = frame_len(u32::try_from(frame.len() - 4).unwrap_or(u32::MAX))?;
        frame[..4].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        Ok(frame)
    }

    /// Reads a frame's message, all of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut decoder = Decoder::new(bytes);
        let ask: Self = decoder.decode().map_err(|_| WireError::Frame)?;
        if decoder.position() != bytes.len() {
            return Err(WireError::Frame);
        }
        ask.check()?;
        Ok(ask)
    }

    /// The space it is about.
    pub fn space(&self) -> &SpaceId {
        match self {
            Self::Files { space, .. } | Self::List { space, .. } | Self::Chunks { space, .. } => {
                space
            }
        }
    }

    /// The numbers it gives, in order.
    pub fn numbers(&self) -> Vec<u32> {
        match self {
            Self::Files { wants, .. } => wants.iter().map(|want| want.n).collect(),
            Self::List { n, .. } => vec![*n],
            Self::Chunks { parts, .. } => parts.iter().map(|part| part.n).collect(),
        }
    }

    fn check(&self) -> Result<(), WireError> {
        const ITEMS: RangeInclusive<usize> = 1..=MAX_ITEMS;
        let good = match self {
            Self::Files { wants, .. } => ITEMS.contains(&wants.len()),
            Self::List { .. } => true,
            Self::Chunks { parts, .. } => {
                ITEMS.contains(&parts.len())
                    && parts.iter().all(|part| {
                        (1..=MAX_PART).contains(&part.len)
                            && part.offset <= i64::MAX as u64 - u64::from(part.len)
                    })
            }
        };
        if good { Ok(()) } else { Err(WireError::Bounds) }
    }
}

/// Checks the length in front of a frame, before anything is allocated for it.
pub fn frame_len(len: u32) -> Result<usize, WireError> {
    match usize::try_from(len) {
        Ok(len @ 1..=MAX_FRAME) => Ok(len),
        _ => Err(WireError::FrameLength(len)),
    }
}

/// How it goes on with one thing that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The last bytes of it follow.
    Last,
    /// Bytes follow, and another head with the same number after them.
    More,
    /// It is not here, or the asker may not have it.
    Absent,
    /// The file that held it is being changed; news will come through the log.
    Superseded,
    /// Not now.
    Busy,
}

/// What stands in front of every answer's bytes: number, status, length; big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The asker's number.
    pub n: u32,
    /// How it goes on.
    pub status: Status,
    /// Bytes that follow.
    pub len: u32,
}

impl Head {
    /// Its length in bytes.
    pub const LEN: usize = 9;

    /// A head without bytes.
    pub fn bare(n: u32, status: Status) -> Self {
        Self { n, status, len: 0 }
    }

    /// As it is sent.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.n.to_be_bytes());
        bytes[4] = match self.status {
            Status::Last => 0,
            Status::More => 1,
            Status::Absent => 2,
            Status::Superseded => 3,
            Status::Busy => 4,
        };
        bytes[5..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    /// Reads one; a length its status does not allow is an error.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Result<Self, WireError> {
        let [n0, n1, n2, n3, status, l0, l1, l2, l3] = bytes;
        let status = match status {
            0 => Status::Last,
            1 => Status::More,
            2 => Status::Absent,
            3 => Status::Superseded,
            4 => Status::Busy,
            _ => return Err(WireError::Head),
        };
        let len = u32::from_be_bytes([l0, l1, l2, l3]);
        let allowed = match status {
            Status::Last => len <= MAX_PIECE,
            // An empty one would let an answer go on for ever without a byte.
            Status::More => (1..=MAX_PIECE).contains(&len),
            Status::Absent | Status::Superseded | Status::Busy => len == 0,
        };
        if !allowed {
            return Err(WireError::Head);
        }
        Ok(Self {
            n: u32::from_be_bytes([n0, n1, n2, n3]),
            status,
            len,
        })
    }
}

/// A chunk list as it is sent.
pub fn list_to_bytes(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chunks.len() * LIST_ENTRY);
    for chunk in chunks {
        bytes.extend_from_slice(chunk.id.as_bytes());
        bytes.extend_from_slice(&chunk.len.to_be_bytes());
    }
    bytes
}

/// Most bytes the chunk list of a content of `size` bytes can have.
pub fn list_bound(size: u64) -> u64 {
    (size / ownmesh_tiering::chunker::MIN as u64 + 1).saturating_mul(LIST_ENTRY as u64)
}

/// Reads a chunk list and checks that it can be one of a content of `size` bytes: lengths within the chunker's limits
/// which add up. Whether the ids are right shows when the bytes come.
pub fn list_from_bytes(bytes: &[u8], size: u64) -> Result<Vec<Chunk>, WireError> {
    use ownmesh_tiering::chunker::{MAX, MIN};
    let (entries, []) = bytes.as_chunks::<LIST_ENTRY>() else {
        return Err(WireError::List);
    };
    let mut left = size;
    let mut chunks = Vec::with_capacity(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        let (id, len) = entry.split_at(ChunkId::LEN);
        let id = ChunkId::try_from(id).map_err(|_| WireError::List)?;
        let len = len
            .try_into()
            .map(u32::from_be_bytes)
            .map_err(|_| WireError::List)?;
        let least = if at + 1 == entries.len() {
            1
        } else {
            MIN as u64
        };
        if !(least..=MAX as u64).contains(&u64::from(len)) {
            return Err(WireError::List);
        }
        left = left.checked_sub(len.into()).ok_or(WireError::List)?;
        chunks.push(Chunk { id, len });
    }
    if left == 0 {
        Ok(chunks)
    } else {
        Err(WireError::List)
    }
}

/// Reads a list of at most [`MAX_ITEMS`]; a longer one is refused before anything is allocated for it.
fn bounded<'b, C, T: Decode<'b, C>>(
    decoder: &mut Decoder<'b>,
    context: &mut C,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let bad = || minicbor::decode::Error::message("list length");
    let len = decoder
        .array()?
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(bad)?;
    if len > MAX_ITEMS {
        return Err(bad());
    }
    (0..len).map(|_| decoder.decode_with(context)).collect()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
