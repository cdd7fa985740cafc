//! What disk and mesh last agreed on, as a scan reads it.
//!
//! The rows live in the database; this file says only what a scan needs of them. The danger it
//! guards against is a difference that nobody made: a row keeps mode, mtime and stat as they were
//! *read back* after writing, so that a filesystem which rounds them causes no echo.

use std::error::Error;

use ownmesh_crdt::item::{Content, Kind, Seen};
use ownmesh_crdt::op::OpId;
use ownmesh_crypto::ids::ItemId;

use super::{MetaKind, RelPath, Stat};

/// One item as it stands on this disk.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseRow {
    /// The item; the derived id, if it is a conflict copy.
    pub id: ItemId,
    /// The item and the value that this conflict copy shows, if it is one.
    pub copy_of: Option<(ItemId, OpId)>,
    /// The directory it is in.
    pub parent: ItemId,
    /// Its name on this disk.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What is in it; none for a directory.
    pub content: Option<Content>,
    /// The operations the user has seen on this disk.
    pub seen: Seen,
    /// Permission bits, as read back.
    pub mode: u32,
    /// The mtime in ns, as read back.
    pub mtime: i64,
    /// What tells without opening it that it is unchanged.
    pub stat: Stat,
    /// The file may have been written after it was hashed without `stat` showing it.
    pub racy: bool,
}

/// Base could not be read.
#[derive(Debug, thiserror::Error)]
#[error("base cannot be read")]
pub struct BaseError(#[source] pub Box<dyn Error + Send + Sync>);

impl BaseError {
    /// Wraps the storage's own error.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// Reads base. Items that are not on this disk ("away") have no row here.
pub trait BaseReader {
    /// What is in a directory, in any order; [`ItemId::ROOT`] is the space's root.
    fn children(&self, dir: &ItemId) -> Result<Vec<BaseRow>, BaseError>;
    /// The row of one name in a directory. Worth an index of its own where directories are large.
    fn child(&self, dir: &ItemId, name: &str) -> Result<Option<BaseRow>, BaseError> {
        Ok(self.children(dir)?.into_iter().find(|row| row.name == name))
    }
    /// A row with this file number, if there is one.
    fn by_inode(&self, dev: u64, ino: u64) -> Result<Option<BaseRow>, BaseError>;
    /// The row of an item.
    fn get(&self, id: &ItemId) -> Result<Option<BaseRow>, BaseError>;
    /// Where an item stood when it was last seen.
    fn path_of(&self, id: &ItemId) -> Result<Option<RelPath>, BaseError>;
}

/// The kind of item that something on disk can be; none for FIFOs, sockets and devices.
pub fn kind_on_disk(kind: MetaKind) -> Option<Kind> {
    match kind {
        MetaKind::File => Some(Kind::File),
        MetaKind::Dir => Some(Kind::Dir),
        MetaKind::Symlink => Some(Kind::Symlink),
        MetaKind::Other => None,
    }
}
