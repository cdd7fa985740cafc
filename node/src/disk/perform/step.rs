//! What can be done to the user's folder, one thing at a time, and why it was not.

use std::io;

use ownmesh_crdt::item::Kind;
use ownmesh_crypto::ids::ItemId;

use crate::disk::{Meta, RelPath, Stat};

/// One thing to do to the user's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Makes a directory; its parent has to be there.
    MakeDir {
        /// The item.
        id: ItemId,
        /// Where.
        path: RelPath,
        /// Permission bits.
        mode: u32,
    },
    /// Puts a staged file in place. It is verified and synced (`sync_all`) by the caller.
    Write {
        /// The item.
        id: ItemId,
        /// Where.
        path: RelPath,
        /// Its name in `.mesh/tmp`.
        staged: String,
        /// What it replaces; without it the path has to be free.
        over: Option<Stat>,
        /// Permission bits.
        mode: u32,
        /// The mtime in ns.
        mtime: i64,
    },
    /// Makes a symlink.
    Link {
        /// The item.
        id: ItemId,
        /// Where.
        path: RelPath,
        /// Where it points; never resolved.
        target: String,
        /// What it replaces; without it the path has to be free.
        over: Option<Stat>,
        /// Its mtime in ns, where it is known.
        mtime: Option<i64>,
    },
    /// Renames to a free path.
    Move {
        /// The item.
        id: ItemId,
        /// From where.
        from: RelPath,
        /// To where.
        to: RelPath,
        /// What stands there; of a directory only the inode counts.
        expect: Stat,
    },
    /// Takes an item out of its place, for moves that go in a circle.
    Park {
        /// The item.
        id: ItemId,
        /// From where.
        from: RelPath,
        /// What stands there.
        expect: Stat,
    },
    /// Puts a parked item in its new place, which has to be free.
    Unpark {
        /// The item.
        id: ItemId,
        /// To where.
        to: RelPath,
    },
    /// Brings a file or symlink to the trash, or removes an empty directory.
    Remove {
        /// The item.
        id: ItemId,
        /// Where.
        path: RelPath,
        /// What it is.
        kind: Kind,
        /// What stands there.
        expect: Stat,
    },
    /// Sets mode and mtime (of a directory the mode only, of a symlink the mtime only).
    ///
    /// A write just before the mtime is set hides behind it, so keep the row racy.
    Meta {
        /// The item.
        id: ItemId,
        /// Where.
        path: RelPath,
        /// Permission bits.
        mode: u32,
        /// The mtime in ns.
        mtime: i64,
        /// What stands there.
        expect: Stat,
    },
}

impl Step {
    /// The item it is about.
    pub fn id(&self) -> &ItemId {
        match self {
            Self::MakeDir { id, .. }
            | Self::Write { id, .. }
            | Self::Link { id, .. }
            | Self::Move { id, .. }
            | Self::Park { id, .. }
            | Self::Unpark { id, .. }
            | Self::Remove { id, .. }
            | Self::Meta { id, .. } => id,
        }
    }

    /// Where it puts something that later steps of a group may go into.
    pub(super) fn puts_dir(&self) -> Option<&RelPath> {
        match self {
            Self::MakeDir { path, .. } => Some(path),
            Self::Move { to, .. } | Self::Unpark { to, .. } => Some(to),
            _ => None,
        }
    }

    /// Where it puts something that was not there before.
    pub(crate) fn names(&self) -> Option<&RelPath> {
        match self {
            Self::MakeDir { path, .. }
            | Self::Write {
                path, over: None, ..
            }
            | Self::Link {
                path, over: None, ..
            } => Some(path),
            Self::Move { to, .. } | Self::Unpark { to, .. } => Some(to),
            _ => None,
        }
    }

    /// Whether a path it touches lies below one of these.
    pub(super) fn is_below(&self, dirs: &[&RelPath]) -> bool {
        let below = |path: &RelPath| dirs.iter().any(|dir| path != *dir && path.starts_with(dir));
        self.paths().into_iter().any(below)
    }

    /// The paths outside of the private folder that it touches.
    pub(crate) fn paths(&self) -> Vec<&RelPath> {
        match self {
            Self::MakeDir { path, .. }
            | Self::Write { path, .. }
            | Self::Link { path, .. }
            | Self::Remove { path, .. }
            | Self::Meta { path, .. } => vec![path],
            Self::Move { from, to, .. } => vec![from, to],
            Self::Park { from, .. } => vec![from],
            Self::Unpark { to, .. } => vec![to],
        }
    }
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The item.
    pub id: ItemId,
    /// What can be read back now, for base (nothing after `Remove`), or why it was not done.
    pub done: Result<Option<Meta>, Refused>,
}

/// Why a step was not done. The user's file is where it was, or in the trash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// What stands there is not what base says: scan again.
    #[error("it was changed meanwhile")]
    Changed,
    /// Something stands where nothing should: scan again.
    #[error("the name is taken")]
    Occupied,
    /// What should be there, the parent or the staged file included, is not.
    #[error("it is not there")]
    Missing,
    /// The directory has something in it.
    #[error("the directory is not empty")]
    NotEmpty,
    /// Its place was taken; it stands at [`super::aside`] now.
    #[error("its place was taken")]
    Aside,
    /// The two places lie on two filesystems.
    #[error("it is on another filesystem")]
    CrossDevice,
    /// The disk or the quota is full.
    #[error("no space is left")]
    NoSpace,
    /// The filesystem holds no file of this size.
    #[error("the filesystem holds no file of this size")]
    TooLarge,
    /// The filesystem is read-only.
    #[error("the filesystem is read-only")]
    ReadOnly,
    /// Nothing of this name is listed, but the filesystem takes that of something else for it.
    #[error("the name is another one of something else")]
    Alias,
    /// The filesystem holds no such name.
    #[error("the filesystem holds no such name")]
    Name,
    /// The system said so.
    #[error("{message}")]
    Io {
        /// What kind of error.
        kind: io::ErrorKind,
        /// Its words.
        message: String,
    },
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::NotFound => Self::Missing,
            K::AlreadyExists => Self::Occupied,
            // A parent is no directory any more, or a symlink.
            K::NotADirectory => Self::Changed,
            K::DirectoryNotEmpty => Self::NotEmpty,
            K::CrossesDevices => Self::CrossDevice,
            K::StorageFull | K::QuotaExceeded => Self::NoSpace,
            K::ReadOnlyFilesystem => Self::ReadOnly,
            K::InvalidInput | K::InvalidFilename => Self::Name,
            K::FileTooLarge => Self::TooLarge,
            kind => Self::Io {
                kind,
                message: error.to_string(),
            },
        }
    }
}
