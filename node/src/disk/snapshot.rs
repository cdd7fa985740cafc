//! The content of a database that a program has open: a consistent copy, kept below [`SNAPSHOTS`].
//!
//! The copy is made of the very files, log first, while a read transaction holds them still, and SQLite
//! brings log or journal into the copy as it would after a crash. So its pages are those that the file
//! will have when the program closes it, large files cost nothing where the filesystem shares blocks,
//! and the program waits at most for one copy (in rollback mode; with a write-ahead log it never waits).
//!
//! A snapshot is named by its content's hash: whoever is asked for a content looks there first ([`find`]).
//! It is private data, a second copy of a database that is in use; the node removes it when base
//! names another content or the file itself holds these very bytes.
//!
//! A crash leaves at most a staged copy in `.mesh/tmp`, which the next start removes, or a snapshot
//! that nobody names, which the next scan removes.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use ownmesh_crypto::ContentHash;
use ownmesh_crypto::space::SpaceSecret;

use super::database::{self, Beside, ENDINGS, beside};
use super::hash::{HashError, Hashed, hash_plain, is_racy};
use super::{Disk, Meta, MetaKind, PRIVATE, RelPath, SNAPSHOTS, Stat, TMP, private};
use crate::db::foreign::NotHeld;

/// Numbers the copies of a process, as several are made at once.
static COPIES: AtomicU64 = AtomicU64::new(0);

/// Hashes a database: the file itself if it is quiet, else a snapshot, which stays.
///
/// Fails with [`HashError::Changed`] if a program did not let go of it in time; try again.
pub(super) fn hash_database(
    disk: &dyn Disk,
    path: &RelPath,
    header: &[u8; 20],
    secret: &SpaceSecret,
) -> Result<Hashed, HashError> {
    let start = disk.now_ns();
    let before = Seen::of(disk, path)?;
    // Without its log nobody writes to a database in that mode. In the other one a transaction may have
    // begun and ended between two ticks of the filesystem's clock.
    let quiet = database::is_wal_mode(header) || !is_racy(&before.meta, start);
    if !before.beside.is_live() && quiet {
        match hash_plain(disk, path, secret) {
            Ok(hashed) if Seen::of(disk, path)? == before => return Ok(hashed),
            Ok(_) | Err(HashError::Changed) => {}
            Err(e) => return Err(e),
        }
    }
    let copy = Draft::new(disk);
    let damaged = copy.make(path, &before)?;
    let mut hashed = hash_plain(disk, &copy.path, secret)?;
    copy.keep(&hashed)?;
    let mut written = before.beside.metas().chain([&before.meta]);
    hashed.racy = written.any(|meta| is_racy(meta, start));
    hashed.meta = before.beside.mix(before.meta);
    hashed.damaged = damaged.filter(|_| before.beside.is_live());
    Ok(hashed)
}

/// The snapshot that holds a content, if there is one.
pub fn find(disk: &dyn Disk, hash: &ContentHash) -> Option<(RelPath, Stat)> {
    let path = private(SNAPSHOTS).with(&hash.to_string());
    let meta = disk.meta(&path).ok()??;
    (meta.kind == MetaKind::File).then(|| (path, meta.stat()))
}

/// All snapshots by the contents they hold.
pub fn list(disk: &dyn Disk) -> io::Result<Vec<(ContentHash, Meta)>> {
    match disk.list(&private(SNAPSHOTS)) {
        Ok(all) => Ok(all
            .into_iter()
            .filter_map(|entry| Some((entry.name.ok()?.parse().ok()?, entry.meta)))
            .collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Removes the snapshot of a content.
pub fn remove(disk: &dyn Disk, hash: &ContentHash) -> io::Result<()> {
    disk.remove(&private(SNAPSHOTS).with(&hash.to_string()))
}

/// A database and what stands beside it, at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    meta: Meta,
    beside: Beside,
}

impl Seen {
    fn of(disk: &dyn Disk, path: &RelPath) -> Result<Self, HashError> {
        let meta = disk.meta(path)?.ok_or(HashError::Gone)?;
        if meta.kind != MetaKind::File {
            return Err(HashError::NotAFile);
        }
        let beside = Beside::of(disk, path)?;
        Ok(Self { meta, beside })
    }
}

/// A copy being made; what is left of it is removed in the end.
struct Draft<'a> {
    disk: &'a dyn Disk,
    name: String,
    path: RelPath,
}

impl<'a> Draft<'a> {
    fn new(disk: &'a dyn Disk) -> Self {
        // As a staged file it is swept after a crash.
        let name = format!("s-db-{}", COPIES.fetch_add(1, Ordering::Relaxed));
        let path = private(TMP).with(&name);
        Self { disk, name, path }
    }

    /// Returns why SQLite could not read it, if so; the copy is the bare file then.
    fn make(&self, path: &RelPath, before: &Seen) -> Result<Option<String>, HashError> {
        let hold = match self.disk.hold_database(path) {
            Ok(hold) => Some(hold),
            Err(NotHeld::Busy) => return Err(HashError::Changed),
            Err(NotHeld::Unreadable(why)) => {
                self.bare(path, before)?;
                return Ok(Some(why));
            }
            Err(NotHeld::Refused(_)) => None,
        };
        let held = hold.is_some();
        // Held, the log may grow but not begin anew, and the file gets nothing that is not in the log:
        // so the log is copied first. A journal is of use only where SQLite did not look at it itself.
        let now = Seen::of(self.disk, path)?;
        let salts = self.salts(path, &now)?;
        self.part(path, "-wal", now.beside.wal.as_ref())?;
        if !held {
            self.part(path, "-journal", now.beside.journal.as_ref())?;
        }
        self.part(path, "", Some(&now.meta))?;
        let after = Seen::of(self.disk, path)?;
        let still = match (now.beside.wal, after.beside.wal) {
            (Some(was), Some(is)) if held => {
                was.ino == is.ino && is.size >= was.size && self.salts(path, &after)? == salts
            }
            // The lock may have been lost: another thread that closes the file takes it away.
            (None, None) if held => now.meta.stat() == after.meta.stat(),
            _ => now == after && now == *before,
        };
        drop(hold);
        if !still {
            return Err(HashError::Changed);
        }
        match self.disk.fold_database(&self.path) {
            Ok(()) => Ok(None),
            Err(error) => {
                tracing::debug!(%path, %error, "a copy of a database could not be folded");
                self.bare(path, before)?;
                Ok(Some(error.to_string()))
            }
        }
    }

    /// The file as it is, if nobody writes to it.
    fn bare(&self, path: &RelPath, before: &Seen) -> Result<(), HashError> {
        self.clear();
        self.part(path, "", Some(&before.meta))?;
        if Seen::of(self.disk, path)? == *before {
            Ok(())
        } else {
            Err(HashError::Changed)
        }
    }

    fn part(&self, path: &RelPath, ending: &str, meta: Option<&Meta>) -> Result<(), HashError> {
        let (Some(meta), Some(from)) = (meta, beside(path, ending)) else {
            return Ok(());
        };
        let mut stage = self.disk.stage(&format!("{}{ending}", self.name))?;
        let copied = self
            .disk
            .copy_range(&from, 0, meta.size, &mut *stage, 0)
            .and_then(|()| stage.finish(0o600, self.disk.now_ns()));
        match copied {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(HashError::Changed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(HashError::Changed),
            Err(e) => Err(e.into()),
        }
    }

    /// The log's header, which changes each time that it begins anew.
    fn salts(&self, path: &RelPath, seen: &Seen) -> Result<Option<[u8; 32]>, HashError> {
        let (Some(_), Some(wal)) = (seen.beside.wal, beside(path, "-wal")) else {
            return Ok(None);
        };
        let mut header = [0; 32];
        match self.disk.open(&wal)?.read_at(&mut header, 0) {
            Ok(_) => Ok(Some(header)),
            Err(e) => Err(e.into()),
        }
    }

    /// Puts the copy where it is looked for, durably: what is announced must outlive a loss of power.
    fn keep(&self, hashed: &Hashed) -> Result<(), HashError> {
        let ownmesh_crdt::item::Content::File { hash, .. } = &hashed.content else {
            return Ok(());
        };
        let dir = private(SNAPSHOTS);
        match self.disk.mkdir(&dir, 0o700) {
            Ok(()) => self.disk.sync_dir(&private(PRIVATE))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.into()),
        }
        self.disk.sync_file(&self.path)?;
        match self
            .disk
            .rename_new(&self.path, &dir.with(&hash.to_string()))
        {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
            _ => {}
        }
        Ok(self.disk.sync_dir(&dir)?)
    }

    fn clear(&self) {
        for ending in ENDINGS.into_iter().chain([""]) {
            super::discard(self.disk, &format!("{}{ending}", self.name));
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}
