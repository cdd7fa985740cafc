//! The user's folder: seen through [`Disk`], compared with base by [`scan`], written by [`perform`].
//!
//! ```text
//!   watch ---- which directories changed ----> scan ---- Found ----> engine ---- Step ----> perform
//!                                               |                                              |
//!                                             hash                                       trash, .mesh
//! ```
//!
//! Everything here is plain synchronous code over the trait [`Disk`], so that the simulation runs
//! exactly this code over a memory disk that forgets what was not synced. The danger it guards
//! against is a user's byte that is overwritten, deleted or taken for something it is not: nothing
//! is replaced before it was compared with what was last seen, and what is replaced goes to the
//! trash.
//!
//! The folder [`PRIVATE`] at the root of a space belongs to mesh: `tmp` (staged files, and user's
//! files on their way to the trash), `trash`, `parked` (items between two names), `snapshots` (copies of
//! databases in use), and the file `marker`, which holds the id of the space. A scan never lists it.

pub mod base;
pub mod database;
pub mod hash;
pub mod kept;
pub mod names;
pub mod path;
pub mod perform;
pub mod real;
pub mod rules;
pub mod scan;
pub mod snapshot;
pub mod trash;
pub mod watch;

use std::io;

use ownmesh_crypto::ids::SpaceId;

use crate::db::foreign::NotHeld;

pub use path::{Name, RelPath};

/// The folder at the root of a space that belongs to mesh.
pub const PRIVATE: &str = ".mesh";
/// Where files are staged, and where a user's file stands for the moment of its comparison.
pub const TMP: &str = ".mesh/tmp";
/// Where what was replaced or deleted goes.
pub const TRASH: &str = ".mesh/trash";
/// Where items stand between two names.
pub const PARKED: &str = ".mesh/parked";
/// Copies of databases that programs have open, named by their contents' hashes.
pub const SNAPSHOTS: &str = ".mesh/snapshots";
/// The file that says which space this folder is.
pub const MARKER: &str = ".mesh/marker";

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetaKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device, or something that cannot be looked at: never synced.
    Other,
}

/// What the filesystem says of one path, its last symlink not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: MetaKind,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, in ns since 1970.
    pub mtime_ns: i64,
    /// Last change of anything, in ns since 1970; no program can set it.
    pub ctime_ns: i64,
    /// Number of the file on its device.
    pub ino: u64,
    /// The device; not stable over a reboot everywhere.
    pub dev: u64,
    /// Permission bits only.
    pub mode: u32,
    /// Names this file has.
    pub nlink: u64,
}

impl Meta {
    /// The part that base keeps.
    pub fn stat(&self) -> Stat {
        Stat {
            size: self.size,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
            ino: self.ino,
            dev: self.dev,
        }
    }
}

/// What base remembers of a file to tell without opening it that it is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Last change of the content, in ns.
    pub mtime_ns: i64,
    /// Last change of anything, in ns.
    pub ctime_ns: i64,
    /// Number of the file on its device.
    pub ino: u64,
    /// The device when it was seen.
    pub dev: u64,
}

impl Stat {
    /// Whether the file is the same one and nothing was written to it since.
    ///
    /// The device is left out: its number may change with a reboot, and the guard on the
    /// filesystem's id stands before every scan.
    pub fn same_file_unchanged(&self, now: &Meta) -> bool {
        self.same_content_likely(now) && self.ctime_ns == now.ctime_ns
    }

    /// Whether it is the same file, and was not written to by a program that leaves the mtime as it is.
    /// A rename alone changes the ctime; so does a write after which somebody put the mtime back.
    pub fn same_content_likely(&self, now: &Meta) -> bool {
        self.ino == now.ino && self.size == now.size && self.mtime_ns == now.mtime_ns
    }
}

/// A name that is not UTF-8, with what could not be read of it replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name {0:?} is not UTF-8")]
pub struct NonUtf8(pub String);

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Result<String, NonUtf8>,
    /// What it is.
    pub meta: Meta,
}

/// An open file of the user's, to be read.
pub trait ReadAt: Send {
    /// Reads up to `buf.len()` bytes at `offset`; 0 means the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// What the open file, whatever its name is by now, looks like.
    fn meta(&self) -> io::Result<Meta>;
}

/// A file being written in [`TMP`].
pub trait Stage: Send {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// The file is at least so long, though nothing may be written there: what is left out is zeros.
    fn skip_to(&mut self, _end: u64) -> io::Result<()> {
        Ok(())
    }
    /// Sets mode and mtime and closes the file. It is not synced: `sync_file` or `sync_all` is.
    ///
    /// Returns: what can be read back. Keep its inode number in the `placing` row: after a crash it
    /// tells the staged file from a user's file that stands at its name (see [`perform`]).
    fn finish(self: Box<Self>, mode: u32, mtime_ns: i64) -> io::Result<Meta>;
    /// The system's handle, where there is one, for a copy inside the kernel.
    #[cfg(unix)]
    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

/// A folder on a disk. No method follows a symlink, in the last component or before it: one that
/// stands where a directory or file should be is `NotADirectory`.
///
/// Nothing is durable before a sync, except that a rename may be.
pub trait Disk: Send + Sync {
    /// What is in a directory, in any order. What cannot be looked at is [`MetaKind::Other`].
    fn list(&self, dir: &RelPath) -> io::Result<Vec<Listed>>;
    /// What stands at a path; `None`: nothing, or a parent is missing or no directory.
    fn meta(&self, path: &RelPath) -> io::Result<Option<Meta>>;
    /// The same, also in a directory that its owner may not look into: for what is about to be changed.
    fn meta_lifted(&self, path: &RelPath) -> io::Result<Option<Meta>> {
        self.meta(path)
    }
    /// Opens a regular file for reading.
    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadAt>>;
    /// Where a symlink points.
    fn read_link(&self, path: &RelPath) -> io::Result<String>;
    /// A new file `.mesh/tmp/<name>`, in place of what was there before.
    fn stage(&self, name: &str) -> io::Result<Box<dyn Stage>>;
    /// Copies `len` bytes of a file of the user's into a staged one, shared on disk where possible.
    ///
    /// Fails with `UnexpectedEof` where the source is shorter. What was copied has to be verified:
    /// the source is the user's and may change meanwhile.
    fn copy_range(
        &self,
        from: &RelPath,
        offset: u64,
        len: u64,
        stage: &mut dyn Stage,
        at: u64,
    ) -> io::Result<()> {
        copy_by_reading(&*self.open(from)?, offset, len, stage, at)
    }
    /// Holds a database still while what is returned lives ([`hold`](crate::db::foreign::hold)).
    fn hold_database(&self, _path: &RelPath) -> Result<Box<dyn Send>, NotHeld> {
        Err(NotHeld::Refused("not on this disk".to_owned()))
    }
    /// Makes a database below [`PRIVATE`] whole by itself ([`fold`](crate::db::foreign::fold)); for any other path it fails.
    fn fold_database(&self, _path: &RelPath) -> Result<(), NotHeld> {
        Err(NotHeld::Refused("not on this disk".to_owned()))
    }
    /// Makes a directory; fails with `AlreadyExists`.
    fn mkdir(&self, path: &RelPath, mode: u32) -> io::Result<()>;
    /// Makes a symlink; fails with `AlreadyExists`.
    fn symlink(&self, target: &str, path: &RelPath) -> io::Result<()>;
    /// Renames; fails with `AlreadyExists` if anything stands at `to`, `CrossesDevices` between filesystems.
    fn rename_new(&self, from: &RelPath, to: &RelPath) -> io::Result<()>;
    /// Swaps two names in one step; `Unsupported` where the filesystem cannot.
    fn exchange(&self, a: &RelPath, b: &RelPath) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, path: &RelPath) -> io::Result<()>;
    /// Removes a file or symlink below [`PRIVATE`]; `PermissionDenied` for any other path.
    fn remove(&self, path: &RelPath) -> io::Result<()>;
    /// Sets the permission bits.
    fn set_mode(&self, path: &RelPath, mode: u32) -> io::Result<()>;
    /// Sets the mtime.
    fn set_mtime(&self, path: &RelPath, mtime_ns: i64) -> io::Result<()>;
    /// Makes everything written on this filesystem durable.
    fn sync_all(&self) -> io::Result<()>;
    /// Makes the content and metadata of one file durable.
    fn sync_file(&self, path: &RelPath) -> io::Result<()>;
    /// Makes the entries of one directory durable.
    fn sync_dir(&self, path: &RelPath) -> io::Result<()>;
    /// A number for the filesystem which stays the same as long as the same one is mounted here.
    fn fs_id(&self) -> io::Result<u64>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// The time in ns since 1970 that new files get; the racy rule compares with it.
    fn now_ns(&self) -> i64;
    /// What the filesystem does to names, links and modes. Found out by trying, once; nothing is
    /// left behind.
    fn traits(&self) -> io::Result<names::Traits> {
        Ok(names::Traits::default())
    }
    /// Threads that may read from it at once. With one, what is read comes in the same order each time.
    fn readers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    }
}

/// The mode of a directory while something is done in it: its owner may. A crash in that moment leaves
/// it so; what the mode was before stands in base.
pub fn lift(mode: u32) -> u32 {
    mode | 0o300
}

/// [`Disk::copy_range`] through a buffer.
pub fn copy_by_reading(
    from: &dyn ReadAt,
    offset: u64,
    len: u64,
    stage: &mut dyn Stage,
    at: u64,
) -> io::Result<()> {
    /// One read; larger ones gain nothing.
    const BLOCK: u64 = 1 << 20;
    let mut buf = vec![0; usize::try_from(len.min(BLOCK)).unwrap_or(0)];
    let mut done = 0;
    while done < len {
        let want = usize::try_from((len - done).min(BLOCK)).unwrap_or(buf.len());
        let got = from.read_at(&mut buf[..want], offset + done)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stage.write_at(&buf[..got], at + done)?;
        done += got as u64;
    }
    Ok(())
}

/// What `.mesh/marker` of a space holds.
pub fn marker(space: &SpaceId) -> String {
    format!("{space}\n")
}

/// Makes the private folder of a space and its marker, synced; what is there already is kept.
///
/// Returns `AlreadyExists` if the folder is marked as another space.
pub fn prepare(disk: &dyn Disk, space: &SpaceId) -> io::Result<()> {
    for dir in [PRIVATE, TMP, TRASH, PARKED] {
        match disk.mkdir(&private(dir), 0o700) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    let path = private(MARKER);
    let marker = marker(space);
    if let Some(meta) = disk.meta(&path)? {
        if meta.kind == MetaKind::File && read_small(disk, &path)? == marker.as_bytes() {
            return Ok(());
        }
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let mut stage = disk.stage("marker")?;
    stage.write_at(marker.as_bytes(), 0)?;
    stage.finish(0o600, disk.now_ns())?;
    let staged = private(TMP).with("marker");
    disk.sync_file(&staged)?;
    disk.rename_new(&staged, &path)?;
    disk.sync_dir(&private(PRIVATE))?;
    disk.sync_dir(&RelPath::ROOT)
}

/// Removes a staged file. What cannot be removed now goes with the next start.
pub fn discard(disk: &dyn Disk, staged: &str) {
    let Ok(path) = private(TMP).join(staged) else {
        return;
    };
    match disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(staged, %error, "a staged file could not be removed");
        }
        _ => {}
    }
}

/// Makes files durable, or everything if none is named. A file that cannot be opened by its name, or
/// has lost it, is flushed with all the rest: one such file must not stop the others.
pub fn flush(disk: &dyn Disk, files: &[RelPath]) -> io::Result<()> {
    let all = files.is_empty() || files.iter().any(|file| disk.sync_file(file).is_err());
    if all { disk.sync_all() } else { Ok(()) }
}

/// Reads a file of at most 4 KiB, such as the marker.
pub(crate) fn read_small(disk: &dyn Disk, path: &RelPath) -> io::Result<Vec<u8>> {
    read_up_to(disk, path, 4096)
}

/// The first `limit` bytes of a file, or all it has.
pub(crate) fn read_up_to(disk: &dyn Disk, path: &RelPath, limit: u64) -> io::Result<Vec<u8>> {
    let open = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(limit).unwrap_or(usize::MAX)];
    let mut len = 0;
    while len < bytes.len() {
        match open.read_at(&mut bytes[len..], len as u64)? {
            0 => break,
            got => len += got,
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// A path of the private folder from one of the constants above.
pub(crate) fn private(path: &'static str) -> RelPath {
    path.split('/')
        .fold(RelPath::ROOT, |dir, name| dir.with(name))
}
