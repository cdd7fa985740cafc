//! [`RealDisk`] over directory handles.

mod holes;
mod lifted;
mod probe;
mod staged;

use std::borrow::Cow;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use self::staged::Staged;
use crate::db::foreign::NotHeld;
use crate::disk::names::{self, Traits};
use crate::disk::{
    Disk, Listed, Meta, MetaKind, PRIVATE, ReadAt, RelPath, Stage, TMP, copy_by_reading, private,
};

/// A folder of the real filesystem.
///
/// The root is held open: what happens, happens in the directory that was opened, even if another
/// one has taken its place meanwhile. [`Disk::meta`] of the root then says that it is gone.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    dir: OwnedFd,
    /// The filesystem refused RENAME_NOREPLACE once.
    pub(super) no_noreplace: AtomicBool,
    /// The kernel refused openat2 once.
    pub(super) no_openat2: AtomicBool,
    traits: OnceLock<Traits>,
}

impl RealDisk {
    /// Opens the folder at `root`. Symlinks on the way to it are the user's choice and are followed.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        let dir = fs::open(&root, DIR, Mode::empty())?;
        Ok(Self {
            root,
            dir,
            no_noreplace: AtomicBool::new(false),
            no_openat2: AtomicBool::new(false),
            traits: OnceLock::new(),
        })
    }

    /// The path that was opened.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens `path` from the root with no symlink on the way.
    fn walk(&self, path: &RelPath, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if path.is_root() {
            return Ok(fs::openat(&self.dir, ".", flags, Mode::empty())?);
        }
        #[cfg(target_os = "linux")]
        if !self.no_openat2.load(Ordering::Relaxed) && path.as_str().len() < PATH_MAX {
            let resolve = fs::ResolveFlags::BENEATH | fs::ResolveFlags::NO_SYMLINKS;
            let whole = names::unescape(path.as_str());
            loop {
                match fs::openat2(&self.dir, &*whole, flags, Mode::empty(), resolve) {
                    // EAGAIN: a rename raced with the walk.
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    // Old kernels, and sandboxes that do not know the call.
                    Err(Errno::NOSYS | Errno::PERM) => break,
                    got => return got.map_err(refused_link),
                }
            }
            self.no_openat2.store(true, Ordering::Relaxed);
        }
        let (dir, name) = self.walk_parent(path)?;
        let at = dir.as_ref().unwrap_or(&self.dir);
        fs::openat(at, &*name, flags, Mode::empty()).map_err(refused_link)
    }

    /// The directory that `path` is in (`None`: the root), component by component, and its name.
    fn walk_parent<'a>(&self, path: &'a RelPath) -> io::Result<(Option<OwnedFd>, Cow<'a, [u8]>)> {
        let mut parts = path.components().peekable();
        let mut at: Option<OwnedFd> = None;
        loop {
            let Some(part) = parts.next() else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let part = names::unescape(part);
            if parts.peek().is_none() {
                return Ok((at, part));
            }
            let dir = at.as_ref().unwrap_or(&self.dir);
            let flags = HANDLE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = fs::openat(dir, &*part, flags, Mode::empty());
            at = Some(next.map_err(refused_link)?);
        }
    }

    /// Calls `act` with the open parent of `path` and the name in it.
    fn in_parent<T>(
        &self,
        path: &RelPath,
        act: impl FnOnce(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let name = names::unescape(name);
        if parent.is_root() {
            return Ok(act(self.dir.as_fd(), &name)?);
        }
        let dir = self.walk(&parent, HANDLE)?;
        Ok(act(dir.as_fd(), &name)?)
    }

    /// Where it is not known, modes are set: what cannot be set is said then.
    fn keeps_modes(&self) -> bool {
        self.traits.get().is_none_or(|traits| traits.modes)
    }

    /// What its owner may not open is flushed with all the rest of the filesystem.
    fn sync(&self, path: &RelPath, flags: OFlags) -> io::Result<()> {
        match self.walk(path, flags) {
            Ok(fd) => Ok(fs::fsync(fd)?),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => self.sync_all(),
            Err(e) => Err(e),
        }
    }

    fn rename_with(&self, from: &RelPath, to: &RelPath, how: How) -> io::Result<()> {
        self.lifted(&[from, to], || {
            self.in_parent(from, |from_dir, from_name| {
                Ok(self.in_parent(to, |to_dir, to_name| {
                    how.rename(from_dir, from_name, to_dir, to_name)
                }))
            })?
        })
    }
}

/// Longest path in bytes that the system takes at once; deeper ones are walked step by step.
#[cfg(target_os = "linux")]
const PATH_MAX: usize = 4_096;

/// A piece of a listing, bytes: twice what the C library reads.
#[cfg(target_os = "linux")]
const LISTING: usize = 64 << 10;

const DIR: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A directory to name things in; without the right to list it where the system can tell the two apart.
#[cfg(target_os = "linux")]
const HANDLE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
#[cfg(not(target_os = "linux"))]
const HANDLE: OFlags = DIR;

/// The three renames.
#[derive(Clone, Copy)]
enum How {
    New,
    /// `New` where the filesystem has none and `from` is ours: a hard link fails if the name is taken.
    Link,
    /// `New` where nothing else is left: a look first, with a window of microseconds.
    LookFirst,
    Exchange,
}

impl How {
    fn rename(
        self,
        from: BorrowedFd<'_>,
        from_name: &[u8],
        to: BorrowedFd<'_>,
        to_name: &[u8],
    ) -> rustix::io::Result<()> {
        #[cfg(any(target_os = "linux", target_vendor = "apple"))]
        {
            let flags = match self {
                Self::New => Some(fs::RenameFlags::NOREPLACE),
                Self::Exchange => Some(fs::RenameFlags::EXCHANGE),
                Self::Link | Self::LookFirst => None,
            };
            if let Some(flags) = flags {
                return fs::renameat_with(from, from_name, to, to_name, flags);
            }
        }
        #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
        if matches!(self, Self::New | Self::Exchange) {
            return Err(Errno::NOSYS);
        }
        if matches!(self, Self::Link) {
            // Directories and filesystems without links are left with the look.
            match fs::linkat(from, from_name, to, to_name, AtFlags::empty()) {
                Ok(()) => return fs::unlinkat(from, from_name, AtFlags::empty()),
                Err(Errno::EXIST) => return Err(Errno::EXIST),
                Err(_) => {}
            }
        }
        match fs::statat(to, to_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => fs::renameat(from, from_name, to, to_name),
            Err(e) => Err(e),
        }
    }
}

/// A symlink where none may be is no directory and no file: callers know that kind of error.
fn refused_link(error: Errno) -> io::Error {
    match error {
        Errno::LOOP => io::Error::new(io::ErrorKind::NotADirectory, "a symlink is in the way"),
        other => other.into(),
    }
}

/// What a filesystem answers that does not know a flag of rename.
fn refused_flag(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

impl Disk for RealDisk {
    fn list(&self, dir: &RelPath) -> io::Result<Vec<Listed>> {
        let fd = self.walk(dir, DIR)?;
        let mut listed = Vec::new();
        let mut take = |name: &CStr| {
            if matches!(name.to_bytes(), b"." | b"..") {
                return;
            }
            let meta = match fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => meta_of(&stat),
                Err(Errno::NOENT) => return,
                // A dead mount, say: it must not hide the names beside it.
                Err(_) => UNKNOWN,
            };
            let name = Ok(names::escape(name.to_bytes()));
            listed.push(Listed { name, meta });
        };
        // Some filesystems lose entries where a directory is read in small pieces (lowntfs-3g does).
        #[cfg(target_os = "linux")]
        {
            let mut buffer = Vec::with_capacity(LISTING);
            let mut entries = fs::RawDir::new(&fd, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                take(entry?.file_name());
            }
        }
        #[cfg(not(target_os = "linux"))]
        for entry in fs::Dir::read_from(&fd)? {
            take(entry?.file_name());
        }
        Ok(listed)
    }

    fn meta(&self, path: &RelPath) -> io::Result<Option<Meta>> {
        if path.is_root() {
            let held = meta_of(&fs::fstat(&self.dir)?);
            return match fs::stat(&self.root) {
                Ok(stat) => {
                    let named = meta_of(&stat);
                    Ok((named.ino == held.ino && named.dev == held.dev).then_some(held))
                }
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(e) => Err(e.into()),
            };
        }
        let stat = self.in_parent(path, |dir, name| {
            fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        });
        match stat {
            Ok(stat) => Ok(Some(meta_of(&stat))),
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(e),
            },
        }
    }

    fn meta_lifted(&self, path: &RelPath) -> io::Result<Option<Meta>> {
        self.lifted(&[path], || self.meta(path))
    }

    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadAt>> {
        // NONBLOCK: opening a FIFO must not wait for its writer.
        let fd = self.walk(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if meta_of(&fs::fstat(&fd)?).kind != MetaKind::File {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(Box::new(OpenFile(File::from(fd))))
    }

    fn read_link(&self, path: &RelPath) -> io::Result<String> {
        let target = self.in_parent(path, |dir, name| fs::readlinkat(dir, name, Vec::new()))?;
        Ok(names::escape(target.to_bytes()))
    }

    fn stage(&self, name: &str) -> io::Result<Box<dyn Stage>> {
        let path = private(TMP)
            .join(name)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.in_parent(&path, |dir, name| {
            let make = || fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
            match make() {
                Err(Errno::EXIST) => {
                    fs::unlinkat(dir, name, AtFlags::empty())?;
                    make()
                }
                made => made,
            }
        })?;
        Ok(Box::new(Staged {
            file: File::from(fd),
            told: 0,
            end: 0,
            modes: self.keeps_modes(),
        }))
    }

    fn copy_range(
        &self,
        from: &RelPath,
        offset: u64,
        len: u64,
        stage: &mut dyn Stage,
        at: u64,
    ) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        let done = {
            let source = self.walk(from, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            let done = holes::copy(&source, offset, len, stage, at)?;
            stage.skip_to(at + done)?;
            done
        };
        #[cfg(not(target_os = "linux"))]
        let done = 0;
        if done == len {
            return Ok(());
        }
        let rest = self.open(from)?;
        copy_by_reading(&*rest, offset + done, len - done, stage, at + done)
    }

    fn hold_database(&self, path: &RelPath) -> Result<Box<dyn Send>, NotHeld> {
        super::hold(&self.root, path)
    }

    fn fold_database(&self, path: &RelPath) -> Result<(), NotHeld> {
        super::fold(&self.root, path)
    }

    fn mkdir(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        self.lifted(&[path], || {
            self.in_parent(path, |dir, name| fs::mkdirat(dir, name, mode_of(mode)))
        })?;
        // The umask does not decide about modes that come from another device.
        self.set_mode(path, mode)
    }

    fn symlink(&self, target: &str, path: &RelPath) -> io::Result<()> {
        let target = names::unescape(target);
        self.lifted(&[path], || {
            self.in_parent(path, |dir, name| fs::symlinkat(&*target, dir, name))
        })
    }

    fn rename_new(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        if !self.no_noreplace.load(Ordering::Relaxed) {
            match self.rename_with(from, to, How::New) {
                // EINVAL also stands for a directory moved into itself: then the fallback says so.
                Err(e) if refused_flag(&e) => {}
                done => return done,
            }
        }
        // Unlinking a user's name could hit what was saved there a moment ago; ours is safe.
        let ours = from.components().next() == Some(PRIVATE);
        let done = self.rename_with(from, to, if ours { How::Link } else { How::LookFirst });
        if done.is_ok() {
            self.no_noreplace.store(true, Ordering::Relaxed);
        }
        done
    }

    fn exchange(&self, a: &RelPath, b: &RelPath) -> io::Result<()> {
        match self.rename_with(a, b, How::Exchange) {
            Err(e) if refused_flag(&e) => Err(io::ErrorKind::Unsupported.into()),
            done => done,
        }
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        self.lifted(&[path], || {
            self.in_parent(path, |dir, name| {
                fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
            })
        })
    }

    fn remove(&self, path: &RelPath) -> io::Result<()> {
        if path.components().next() != Some(PRIVATE) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.in_parent(path, |dir, name| fs::unlinkat(dir, name, AtFlags::empty()))
    }

    fn set_mode(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        if !self.keeps_modes() {
            return Ok(());
        }
        self.lifted(&[path], || self.change_mode(path, mode))
    }

    fn set_mtime(&self, path: &RelPath, mtime_ns: i64) -> io::Result<()> {
        self.lifted(&[path], || {
            self.in_parent(path, |dir, name| {
                fs::utimensat(dir, name, &times(mtime_ns), AtFlags::SYMLINK_NOFOLLOW)
            })
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        return Ok(fs::syncfs(&self.dir)?);
        #[cfg(not(target_os = "linux"))]
        {
            fs::sync();
            Ok(())
        }
    }

    fn sync_file(&self, path: &RelPath) -> io::Result<()> {
        self.sync(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        self.sync(path, DIR)
    }

    fn fs_id(&self) -> io::Result<u64> {
        let id = fs::fstatvfs(&self.dir)?.f_fsid;
        // Filesystems without an id say 0; their device number is the next best.
        if id != 0 {
            return Ok(id);
        }
        Ok(meta_of(&fs::fstat(&self.dir)?).dev)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.dir)?;
        if stat.f_blocks == 0 {
            // As filesystems outside the kernel answer that do not count.
            return Ok(u64::MAX);
        }
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn now_ns(&self) -> i64 {
        super::now_ns()
    }

    fn traits(&self) -> io::Result<Traits> {
        if let Some(known) = self.traits.get() {
            return Ok(*known);
        }
        let found = probe::probe(self)?;
        Ok(*self.traits.get_or_init(|| found))
    }
}

/// A file of the user's.
struct OpenFile(File);

impl ReadAt for OpenFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                got => return got,
            }
        }
    }

    fn meta(&self) -> io::Result<Meta> {
        Ok(meta_of(&fs::fstat(&self.0)?))
    }
}

fn mode_of(mode: u32) -> Mode {
    #[allow(clippy::unnecessary_cast, reason = "the width differs between systems")]
    Mode::from_raw_mode((mode & 0o7777) as fs::RawMode)
}

fn times(mtime_ns: i64) -> Timestamps {
    #[allow(clippy::unnecessary_cast, reason = "the width differs between systems")]
    let mtime = Timespec {
        tv_sec: mtime_ns.div_euclid(NS) as _,
        tv_nsec: mtime_ns.rem_euclid(NS) as _,
    };
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: fs::UTIME_OMIT,
    };
    Timestamps {
        last_access: now,
        last_modification: mtime,
    }
}

/// Something that stands there and cannot be looked at.
const UNKNOWN: Meta = Meta {
    kind: MetaKind::Other,
    size: 0,
    mtime_ns: 0,
    ctime_ns: 0,
    ino: 0,
    dev: 0,
    mode: 0,
    nlink: 1,
};

const NS: i64 = 1_000_000_000;

#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_wrap,
    reason = "the widths differ between systems"
)]
fn meta_of(stat: &fs::Stat) -> Meta {
    let ns = |sec: i64, nsec: i64| sec.saturating_mul(NS).saturating_add(nsec);
    Meta {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => MetaKind::File,
            FileType::Directory => MetaKind::Dir,
            FileType::Symlink => MetaKind::Symlink,
            _ => MetaKind::Other,
        },
        size: stat.st_size as u64,
        mtime_ns: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime_ns: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        ino: stat.st_ino as u64,
        dev: stat.st_dev as u64,
        mode: stat.st_mode as u32 & 0o7777,
        nlink: stat.st_nlink as u64,
    }
}
