//! What changed in the user's folder since base was written.
//!
//! Directory by directory the sorted listing is compared with base's children; only differences are
//! kept in memory. Three files: this one says what goes in and what comes out, `walk` compares,
//! `settle` hashes what has to be read, and decides in the end what is gone.
//!
//! The dangers guarded against, and the rules that follow:
//!
//! - *A folder that is not there is not an empty folder.* Root, filesystem and marker are checked
//!   before anything is emitted, and again before anything is called gone.
//! - *What cannot be read is not gone.* Nothing below an unreadable directory is decided.
//! - *A path in base that still exists with the same kind is that item, whatever its inode*: editors
//!   save by renaming over. Only what appeared is matched by inode with what vanished, so that
//!   `mv log log.1; touch log` is an edit of log and a new log.1.
//! - *Gone is decided at the end*, when everything that moved is known, and never for what moved.
//! - *A file that moved is read* unless its ctime is base's: the rename changes it (on Linux), and so
//!   does a write after which the mtime was put back. That costs one read of each file that is itself
//!   renamed; below a renamed directory nothing is read, nor on a filesystem that keeps the ctime.
//! - *A look at a part does not see where things went.* A directory that is missing there, and what is
//!   missing in one that stands in another's place, may have moved to where nobody looked: it is
//!   decided by a second look ([`ScanReport::doubted`]), which comes when the rename was heard of.
//! - *A file that changes while it is hashed is not reported at all*; the next scan sees it.

mod settle;
mod walk;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use ownmesh_crdt::item::{Content, Kind};
use ownmesh_crypto::ids::{ItemId, SpaceId};
use ownmesh_crypto::space::SpaceSecret;

use super::base::{BaseError, BaseReader};
use super::hash::Chunk;
use super::rules::Rules;
use super::{Disk, MARKER, Meta, RelPath, marker, private, read_small};

/// At most so many findings are emitted at once: the changes of one batch. Others work on one while the next is
/// being found: 1,000 files with new mtimes among 20,000 took 0.41 s with 1,000, and 0.34 s with 250.
pub const GROUP: usize = 250;

/// A group is also emitted when so many bytes were hashed for it, so that others hear of the first
/// files of an import before the last are read.
pub const GROUP_BYTES: u64 = 64 << 20;

/// What has to be true of a folder before anything in it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The space that the marker has to name.
    pub space: SpaceId,
    /// What [`Disk::fs_id`] said when the folder was added.
    pub fs_id: u64,
}

/// Which part of the folder is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    All,
    /// These directories, not what is below them; but directories that appeared in them are walked
    /// whole. One that base does not know, or that is gone, stands for the nearest above it.
    Dirs(Vec<RelPath>),
}

/// A look at a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Which part of it.
    pub scope: Scope,
    /// Files that are not read this time, changed or not: they change all the time.
    pub held: BTreeSet<ItemId>,
    /// What is ignored: neither new, nor changed, nor gone.
    pub rules: Arc<Rules>,
    /// Entries that an earlier look passed over, because they were ignored then. What is not in them
    /// any more went while nobody was told of it, and is no deletion.
    pub passed: Arc<BTreeSet<ItemId>>,
    /// Directories whose turn has come to be decided on ([`ScanReport::doubted`]).
    pub again: BTreeSet<RelPath>,
}

impl From<Scope> for Look {
    fn from(scope: Scope) -> Self {
        Self {
            scope,
            held: BTreeSet::new(),
            rules: Arc::default(),
            passed: Arc::default(),
            again: BTreeSet::new(),
        }
    }
}

/// The directory that something found is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parent {
    /// One that base knows.
    Item(ItemId),
    /// One that was created; its number stands in an earlier [`Found::Created`] of the same scan.
    New(u32),
}

/// One difference between disk and base. Parents come before what is in them.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Something new.
    Created {
        /// Its number in this scan.
        new: u32,
        /// Where.
        parent: Parent,
        /// Its name.
        name: String,
        /// What it is.
        kind: Kind,
        /// What is in it; none for a directory.
        content: Option<Content>,
        /// The chunks of a file; empty if it is one.
        chunks: Vec<Chunk>,
        /// As it was read.
        meta: Meta,
        /// To be hashed again next time.
        racy: bool,
    },
    /// Other content than base's.
    Edited {
        /// The item.
        id: ItemId,
        /// What is in it now.
        content: Content,
        /// The chunks of a file; empty if it is one.
        chunks: Vec<Chunk>,
        /// As it was read. Mode and mtime may have changed with the content.
        meta: Meta,
        /// To be hashed again next time.
        racy: bool,
    },
    /// Mode or mtime differ from base's, the content does not.
    ///
    /// Where the file has to be hashed again, a `Refreshed` of the same item follows.
    Touched {
        /// The item.
        id: ItemId,
        /// As it is now.
        meta: Meta,
    },
    /// Nothing to author: only what base remembers of the file has to be brought up to date.
    Refreshed {
        /// The item.
        id: ItemId,
        /// As it is now.
        meta: Meta,
        /// To be hashed again next time.
        racy: bool,
    },
    /// The same item under another name; what is below a directory moved with it.
    Moved {
        /// The item.
        id: ItemId,
        /// Where it is now.
        parent: Parent,
        /// What it is called now.
        name: String,
        /// As it is now.
        meta: Meta,
    },
    /// It is no more. What was in a directory comes before the directory.
    Gone {
        /// The item.
        id: ItemId,
    },
    /// It is not there, with all below it, and that is nobody's deletion: it is ignored, or was when it
    /// went.
    Forgotten {
        /// The item.
        id: ItemId,
    },
}

/// The caller does not want more; the scan ends with [`ScanError::Stopped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop;

/// Something that could not be compared. Nothing was emitted for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub path: RelPath,
    /// What.
    pub kind: ProblemKind,
    /// The same for a person.
    pub reason: String,
}

/// What kept something from being compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// It cannot be read.
    Unreadable,
    /// Its name, or a symlink's target, is not UTF-8 or none that other systems could have.
    Name,
    /// A FIFO, socket or device.
    Special,
    /// It changed meanwhile: scan again soon.
    Changing,
    /// A rule file that cannot be understood.
    Rules,
    /// A database in use that SQLite cannot read: it was taken as the file that it is.
    Database,
}

impl std::fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::Name => "name",
            Self::Special => "special",
            Self::Changing => "changing",
            Self::Rules => "rules",
            Self::Database => "database",
        })
    }
}

/// What was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Directories listed.
    pub dirs: u64,
    /// Files and symlinks seen in them.
    pub files: u64,
    /// Bytes read from files.
    pub hashed_bytes: u64,
    /// What could not be compared.
    pub problems: Vec<Problem>,
    /// Directories of files that changed and were not read ([`Look::held`]).
    pub held: BTreeSet<RelPath>,
    /// Directories in which a look at a part missed what may have moved to where it did not look. To be
    /// looked at once more, with [`Look::again`], when the watcher has told of all that was done by now.
    pub doubted: BTreeSet<RelPath>,
    /// Entries of base that were passed over, because a rule ignores them: of a directory alone that,
    /// and nothing in it.
    pub passed: BTreeSet<ItemId>,
    /// Directories of base with something in them, however deep, that is ignored and stands there.
    pub keeps: BTreeSet<ItemId>,
}

/// Why a scan did not come to its end. What was emitted before is true.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The marker is missing or names another space.
    #[error("the folder is not marked as this space's")]
    MarkerMissing,
    /// Another filesystem is mounted here than before.
    #[error("the folder is on another filesystem than before")]
    OtherFilesystem,
    /// The folder is gone, or another one stands in its place.
    #[error("the folder is gone")]
    RootMissing,
    /// The caller stopped it.
    #[error("the scan was stopped")]
    Stopped,
    /// Other rules hold now; nothing was compared.
    #[error("the ignore rules changed")]
    Rules(Arc<Rules>),
    /// Base failed.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// The folder itself cannot be looked at.
    #[error("the folder cannot be read")]
    Io(#[source] io::Error),
}

/// Checks that the folder is the one it was: root, filesystem, marker.
pub fn check(disk: &dyn Disk, guard: &Guard) -> Result<(), ScanError> {
    match disk.meta(&RelPath::ROOT) {
        Ok(Some(_)) => {}
        Ok(None) => return Err(ScanError::RootMissing),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ScanError::RootMissing),
        Err(e) => return Err(ScanError::Io(e)),
    }
    if disk.fs_id().map_err(ScanError::Io)? != guard.fs_id {
        return Err(ScanError::OtherFilesystem);
    }
    match read_small(disk, &private(MARKER)) {
        Ok(found) if found == marker(&guard.space).as_bytes() => Ok(()),
        Ok(_) => Err(ScanError::MarkerMissing),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput => Err(ScanError::MarkerMissing),
            _ => Err(ScanError::Io(e)),
        },
    }
}

/// Compares the folder with base and emits the differences in groups.
///
/// `rules` says of a path (and whether it is a directory) that it is ignored: it is then neither
/// new, nor changed, nor gone. `emit` is called as soon as a group is full; base may already have
/// taken the earlier groups in when the later ones come.
pub fn scan(
    disk: &dyn Disk,
    guard: &Guard,
    base: &dyn BaseReader,
    secret: &SpaceSecret,
    look: &Look,
    rules: &dyn Fn(&RelPath, bool) -> bool,
    emit: &mut dyn FnMut(Vec<Found>) -> Result<(), Stop>,
) -> Result<ScanReport, ScanError> {
    check(disk, guard)?;
    let mut walk = walk::Walk::new(disk, base, secret, look, rules, emit);
    walk.start(&look.scope)?;
    walk.run()?;
    check(disk, guard)?;
    walk.finish()
}
