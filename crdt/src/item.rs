//! An item as its registers say: kind, place, versions, tombstones; and the edits that change them.
//!
//! Everything here is a pure function of the registers, the same on every device. The danger guarded
//! against is an edit that replaces what its user never saw: whoever edits passes [`Seen`], the
//! operation ids the disk was written from, and an edit supersedes exactly those. A version that came in
//! between stays and becomes a conflict. Equal values are never a conflict, and mode and time never are.
//!
//! | key | value |
//! |---|---|
//! | `k` | kind: 0 file, 1 directory, 2 symlink |
//! | `p` | parent id, then the name |
//! | `c` | content: size and hash of a file, target of a symlink; a function of the bytes alone |
//! | `m` | unix mode bits |
//! | `t` | time of last modification, in ns since 1970 |
//! | `d` | tombstone: the act of deletion, and the content it deleted |

use minicbor::decode::Error as DecodeError;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};
use ownmesh_crypto::ids::{ContentHash, ItemId};

use crate::doc::Edit;
use crate::limits::{MAX_NAME, MAX_TARGET};
use crate::op::{OpId, Registers, Scalar};

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
}

/// Where an item is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The directory; [`ItemId::ROOT`] is the space's own.
    pub parent: ItemId,
    /// The name in it.
    pub name: String,
}

impl Place {
    /// Encodes the place for register `p`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.parent.as_bytes(), self.name.as_bytes()].concat()
    }

    /// Reads a place; nothing if the name is none that can stand in a directory.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (parent, name) = bytes.split_first_chunk::<16>()?;
        let name = std::str::from_utf8(name)
            .ok()
            .filter(|name| is_name(name))?;
        Some(Self {
            parent: ItemId::from_bytes(*parent),
            name: name.to_owned(),
        })
    }
}

/// Whether this can be the name of an item: one step of a path, neither empty nor pointing elsewhere.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !name.contains(['/', '\0'])
}

/// What an item holds: a function of its bytes alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// The bytes of a file.
    File {
        /// How many.
        size: u64,
        /// Their keyed hash.
        hash: ContentHash,
    },
    /// Where a symlink points.
    Link {
        /// The target, not resolved.
        target: String,
    },
}

impl Content {
    /// Encodes the content for register `c`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::File { size, hash } => {
                let mut out = vec![FILE];
                let mut rest = *size;
                while rest >= 0x80 {
                    out.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                out.push(rest as u8);
                out.extend_from_slice(hash.as_bytes());
                out
            }
            Self::Link { target } => [&[LINK], target.as_bytes()].concat(),
        }
    }

    /// Reads a content; nothing if it is none, or not in its only form.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&FILE, rest) => {
                let (size, hash) = rest.split_last_chunk::<32>()?;
                let content = Self::File {
                    size: varint(size)?,
                    hash: ContentHash::from_bytes(*hash),
                };
                (content.encode() == bytes).then_some(content)
            }
            (&LINK, target) => {
                let target = std::str::from_utf8(target).ok()?;
                let fits =
                    !target.is_empty() && target.len() <= MAX_TARGET && !target.contains('\0');
                fits.then(|| Self::Link {
                    target: target.to_owned(),
                })
            }
            _ => None,
        }
    }
}

/// Says that an item was deleted, and what it held then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The act of deletion, shared by all items it deleted, so that one question can answer for all.
    pub act: [u8; 8],
    /// The version that was deleted; nothing for a directory.
    pub content: Option<Content>,
}

impl Tombstone {
    /// Encodes the tombstone for register `d`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.act.to_vec();
        out.extend(self.content.iter().flat_map(Content::encode));
        out
    }

    /// Reads a tombstone.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (act, content) = bytes.split_first_chunk::<8>()?;
        let content = if content.is_empty() {
            None
        } else {
            Some(Content::decode(content)?)
        };
        Some(Self { act: *act, content })
    }
}

/// The operations of an item that a disk was written from: what an edit made there supersedes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of the content, equal values included.
    pub c: Vec<OpId>,
    /// Of the place.
    pub p: Vec<OpId>,
    /// Of the tombstone.
    pub d: Vec<OpId>,
}

impl<C> Encode<C> for Seen {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(3)?;
        for ids in [&self.c, &self.p, &self.d] {
            e.array(2 * ids.len() as u64)?;
            for id in ids {
                e.u64(id.counter)?;
                id.actor.encode(e, ctx)?;
            }
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Seen {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let later = crate::cbor::fields(d, 3)?;
        let mut seen = Self::default();
        for ids in [&mut seen.c, &mut seen.p, &mut seen.d] {
            for _ in 0..crate::cbor::list(d, 2, crate::limits::MAX_OPS as usize)? {
                ids.push(OpId {
                    counter: d.u64()?,
                    actor: Decode::decode(d, ctx)?,
                });
            }
        }
        crate::cbor::skip(d, later)?;
        Ok(seen)
    }
}

/// What the registers of an item amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemState {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
    /// The operation that put it there.
    pub place_op: OpId,
    /// All visible operations of the place, ascending.
    pub place_ops: Vec<OpId>,
    /// The visible contents no visible tombstone names, ascending, the winner last.
    pub versions: Vec<(OpId, Content)>,
    /// All visible operations of the tombstone, ascending.
    pub tomb_ops: Vec<OpId>,
    /// The acts of the visible tombstones, ascending, each once.
    pub tomb_acts: Vec<[u8; 8]>,
    /// Whether it is deleted. A directory with live descendants lives on nevertheless; the tree decides that.
    pub deleted: bool,
    /// Unix mode bits.
    pub mode: Option<u32>,
    /// Time of last modification, in ns since 1970.
    pub mtime: Option<i64>,
    seen: Seen,
}

impl ItemState {
    /// Reads the registers; nothing until kind and place are there.
    #[must_use]
    pub fn from_registers(regs: &Registers) -> Option<Self> {
        let kind = match regs.winner(KIND)? {
            (_, Scalar::Int(0)) => Kind::File,
            (_, Scalar::Int(1)) => Kind::Dir,
            (_, Scalar::Int(2)) => Kind::Symlink,
            _ => return None,
        };
        // Unreadable values are passed over, not fatal: a later version may know more.
        let (place_op, place) = readable(regs, PLACE, Place::decode).last()?;
        let tombs: Vec<Tombstone> = readable(regs, TOMB, Tombstone::decode)
            .map(|(_, t)| t)
            .collect();
        let named = |content: &Content| tombs.iter().any(|t| t.content.as_ref() == Some(content));
        let versions: Vec<_> = readable(regs, CONTENT, Content::decode)
            .filter(|(_, c)| !(named(c) || mutated!(DeleteNamesNothing) && !tombs.is_empty()))
            .collect();
        let tomb_ops = regs.ops(TOMB);
        let mut tomb_acts: Vec<_> = tombs.iter().map(|t| t.act).collect();
        tomb_acts.sort_unstable();
        tomb_acts.dedup();
        let number = |key| match regs.winner(key) {
            Some((_, Scalar::Int(n))) => Some(*n),
            _ => None,
        };
        Some(Self {
            kind,
            place,
            place_op,
            place_ops: regs.ops(PLACE),
            deleted: !tomb_ops.is_empty() && (kind == Kind::Dir || versions.is_empty()),
            versions,
            tomb_acts,
            mode: number(MODE).and_then(|m| u32::try_from(m).ok()),
            mtime: number(MTIME),
            seen: Seen {
                c: regs.ops(CONTENT),
                p: regs.ops(PLACE),
                d: tomb_ops.clone(),
            },
            tomb_ops,
        })
    }

    /// The winning version.
    #[must_use]
    pub fn content(&self) -> Option<&Content> {
        self.versions.last().map(|(_, content)| content)
    }

    /// The losing versions that differ from the winner, ascending, each content once, under its lowest operation.
    #[must_use]
    pub fn conflicts(&self) -> Vec<(OpId, Content)> {
        let mut out: Vec<(OpId, Content)> = Vec::new();
        for (id, content) in &self.versions {
            if Some(content) != self.content() && !out.iter().any(|(_, c)| c == content) {
                out.push((*id, content.clone()));
            }
        }
        out
    }

    /// All operations that put this version: dropping a conflict copy means dropping each.
    #[must_use]
    pub fn ops_of(&self, content: &Content) -> Vec<OpId> {
        self.versions
            .iter()
            .filter(|(_, c)| c == content)
            .map(|(id, _)| *id)
            .collect()
    }

    /// All that is visible now: what a disk written from this state has seen.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }
}

/// Makes a new item.
#[must_use]
pub fn create(
    kind: Kind,
    place: &Place,
    content: Option<&Content>,
    mode: Option<u32>,
    mtime: Option<i64>,
) -> Vec<Edit> {
    let number = match kind {
        Kind::File => 0,
        Kind::Dir => 1,
        Kind::Symlink => 2,
    };
    let mut edits = vec![
        put(KIND, Scalar::Int(number), Vec::new()),
        put(PLACE, Scalar::Bytes(place.encode()), Vec::new()),
    ];
    edits.extend(content.map(|c| put(CONTENT, Scalar::Bytes(c.encode()), Vec::new())));
    edits.extend(mode.map(|m| put(MODE, Scalar::Int(m.into()), Vec::new())));
    edits.extend(mtime.map(|t| put(MTIME, Scalar::Int(t), Vec::new())));
    edits
}

/// Writes a new content over the one that was seen. An item that was seen deleted lives again, even with the same bytes.
///
/// The versions that the tombstones seen have hidden go with them: they would come back otherwise.
#[must_use]
pub fn edit_content(
    seen: &Seen,
    content: &Content,
    mode: Option<u32>,
    mtime: Option<i64>,
    regs: &Registers,
) -> Vec<Edit> {
    let mut pred = seen.c.clone();
    pred.extend(hidden(seen, regs));
    let mut edits = vec![put(CONTENT, Scalar::Bytes(content.encode()), pred)];
    if !seen.d.is_empty() {
        edits.push(delete_ops(TOMB, seen.d.clone()));
    }
    edits.extend(set_meta(regs, mode, mtime));
    edits
}

/// Moves or renames the item away from where it was seen.
#[must_use]
pub fn rename(seen: &Seen, place: &Place) -> Vec<Edit> {
    vec![put(PLACE, Scalar::Bytes(place.encode()), seen.p.clone())]
}

/// Sets mode and time, where they differ, over whatever stands there.
#[must_use]
pub fn set_meta(regs: &Registers, mode: Option<u32>, mtime: Option<i64>) -> Vec<Edit> {
    [(MODE, mode.map(i64::from)), (MTIME, mtime)]
        .into_iter()
        .filter_map(|(key, value)| Some((key, Scalar::Int(value?))))
        .filter(|(key, value)| !matches!(regs.all(key), [(_, stands)] if stands == value))
        .map(|(key, value)| put(key, value, regs.ops(key)))
        .collect()
}

/// Deletes the version `content`; nothing for a directory. A version not named here lives on.
///
/// The tombstone stands for those that were seen; the versions which they hid go with them.
#[must_use]
pub fn delete(seen: &Seen, act: [u8; 8], content: Option<&Content>, regs: &Registers) -> Vec<Edit> {
    let tomb = Tombstone {
        act,
        content: content.cloned(),
    };
    let mut edits = vec![put(TOMB, Scalar::Bytes(tomb.encode()), seen.d.clone())];
    let gone = hidden(seen, regs);
    if !gone.is_empty() {
        edits.push(delete_ops(CONTENT, gone));
    }
    edits
}

/// Whether a tombstone names this content.
#[must_use]
pub fn buried(regs: &Registers, content: &Content) -> bool {
    readable(regs, TOMB, Tombstone::decode).any(|(_, tomb)| tomb.content.as_ref() == Some(content))
}

/// The operations of versions that nothing but the tombstones seen keeps from showing.
fn hidden(seen: &Seen, regs: &Registers) -> Vec<OpId> {
    let tombs: Vec<Tombstone> = readable(regs, TOMB, Tombstone::decode)
        .filter(|(id, _)| seen.d.contains(id))
        .map(|(_, tomb)| tomb)
        .collect();
    readable(regs, CONTENT, Content::decode)
        .filter(|(_, c)| tombs.iter().any(|t| t.content.as_ref() == Some(c)))
        .map(|(id, _)| id)
        .collect()
}

/// Drops one version: what deleting a conflict copy means.
#[must_use]
pub fn drop_version(version: OpId) -> Vec<Edit> {
    vec![delete_ops(CONTENT, vec![version])]
}

/// Ends a conflict: `content` stands for all versions.
///
/// `held`: whoever decides has its bytes. Then it is put anew, so that two devices that decide
/// differently while apart have a conflict again, and not nothing. Otherwise a version that stands
/// already is left standing and the others go: whoever holds it may be replacing it now, and nobody
/// would have the bytes that a new operation names.
#[must_use]
pub fn resolve(regs: &Registers, content: &Content, held: bool) -> Vec<Edit> {
    let kept: Vec<OpId> = readable(regs, CONTENT, Content::decode)
        .filter(|(_, c)| c == content)
        .map(|(id, _)| id)
        .collect();
    if held || kept.is_empty() {
        return vec![put(
            CONTENT,
            Scalar::Bytes(content.encode()),
            regs.ops(CONTENT),
        )];
    }
    let mut others = regs.ops(CONTENT);
    others.retain(|id| !kept.contains(id));
    vec![delete_ops(CONTENT, others)]
}

/// Takes back all deletions. `held`: the version that whoever takes them back still has, which stands
/// then for all others: of those nobody may have the bytes any more.
#[must_use]
pub fn revive(regs: &Registers, held: Option<&Content>) -> Vec<Edit> {
    let tombs = regs.ops(TOMB);
    if tombs.is_empty() {
        return Vec::new();
    }
    let mut edits = vec![delete_ops(TOMB, tombs)];
    if let Some(held) = held
        && readable(regs, CONTENT, Content::decode).any(|(_, c)| c != *held)
    {
        edits.extend(resolve(regs, held, true));
    }
    edits
}

fn put(key: &str, value: Scalar, pred: Vec<OpId>) -> Edit {
    Edit {
        key: key.to_owned(),
        put: Some(value),
        pred,
    }
}

fn delete_ops(key: &str, pred: Vec<OpId>) -> Edit {
    Edit {
        key: key.to_owned(),
        put: None,
        pred,
    }
}

fn readable<'a, T>(
    regs: &'a Registers,
    key: &str,
    decode: impl Fn(&[u8]) -> Option<T> + 'a,
) -> impl Iterator<Item = (OpId, T)> + 'a {
    regs.all(key)
        .iter()
        .filter_map(move |(id, value)| match value {
            Scalar::Bytes(bytes) => Some((*id, decode(bytes)?)),
            _ => None,
        })
}

fn varint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        value |= bits
            .checked_shl(7 * u32::try_from(i).ok()?)
            .filter(|v| v >> (7 * i) == bits)?;
        if byte & 0x80 == 0 {
            return (i + 1 == bytes.len()).then_some(value);
        }
    }
    None
}

const KIND: &str = "k";
const PLACE: &str = "p";
const CONTENT: &str = "c";
const MODE: &str = "m";
const MTIME: &str = "t";
const TOMB: &str = "d";

const FILE: u8 = 0;
const LINK: u8 = 1;
