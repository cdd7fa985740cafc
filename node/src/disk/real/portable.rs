//! [`RealDisk`] with std alone, for systems without directory handles.
//!
//! Parents are checked for symlinks before each call instead of being walked by handle; there is no
//! exchange, and files have no numbers (`ino` is 0), so that a rename is seen as a new file and a
//! deleted one with equal content.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::db::foreign::NotHeld;
use crate::disk::{
    Disk, Listed, Meta, MetaKind, NonUtf8, PRIVATE, ReadAt, RelPath, Stage, TMP, private,
};

/// A folder of the real filesystem.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Opens the folder at `root`. Symlinks on the way to it are the user's choice and are followed.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = fs::canonicalize(root.into())?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { root })
    }

    /// The path that was opened.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path for the system, after every parent was seen to be a directory and no symlink.
    fn at(&self, path: &RelPath) -> io::Result<PathBuf> {
        let mut full = self.root.clone();
        let last = path.components().count().saturating_sub(1);
        for (n, part) in path.components().enumerate() {
            full.push(part);
            // A backslash or a drive letter in a name would be a path to the system.
            if full.file_name().and_then(|name| name.to_str()) != Some(part) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            if n < last && !fs::symlink_metadata(&full)?.is_dir() {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        Ok(full)
    }

    fn file(&self, path: &RelPath, options: &OpenOptions) -> io::Result<File> {
        let full = self.at(path)?;
        if !fs::symlink_metadata(&full)?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        options.open(full)
    }
}

impl Disk for RealDisk {
    fn list(&self, dir: &RelPath) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(self.at(dir)?)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                Ok(meta) => meta_of(&meta),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let name = entry
                .file_name()
                .into_string()
                .map_err(|name| NonUtf8(name.to_string_lossy().into_owned()));
            listed.push(Listed { name, meta });
        }
        Ok(listed)
    }

    fn meta(&self, path: &RelPath) -> io::Result<Option<Meta>> {
        match self.at(path).and_then(fs::symlink_metadata) {
            Ok(meta) => Ok(Some(meta_of(&meta))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadAt>> {
        let file = self.file(path, OpenOptions::new().read(true))?;
        Ok(Box::new(OpenFile(Mutex::new(file))))
    }

    fn read_link(&self, path: &RelPath) -> io::Result<String> {
        let target = fs::read_link(self.at(path)?)?;
        target
            .into_os_string()
            .into_string()
            .map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn stage(&self, name: &str) -> io::Result<Box<dyn Stage>> {
        let path = private(TMP)
            .join(name)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let full = self.at(&path)?;
        match fs::remove_file(&full) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).open(full)?;
        Ok(Box::new(Staged(file)))
    }

    fn hold_database(&self, path: &RelPath) -> Result<Box<dyn Send>, NotHeld> {
        super::hold(&self.root, path)
    }

    fn fold_database(&self, path: &RelPath) -> Result<(), NotHeld> {
        super::fold(&self.root, path)
    }

    fn mkdir(&self, path: &RelPath, _mode: u32) -> io::Result<()> {
        fs::create_dir(self.at(path)?)
    }

    #[cfg(windows)]
    fn symlink(&self, target: &str, path: &RelPath) -> io::Result<()> {
        std::os::windows::fs::symlink_file(target, self.at(path)?)
    }

    #[cfg(not(windows))]
    fn symlink(&self, _target: &str, _path: &RelPath) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename_new(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        match fs::symlink_metadata(&to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(e) => Err(e),
        }
    }

    fn exchange(&self, _: &RelPath, _: &RelPath) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        fs::remove_dir(self.at(path)?)
    }

    fn remove(&self, path: &RelPath) -> io::Result<()> {
        if path.components().next() != Some(PRIVATE) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        fs::remove_file(self.at(path)?)
    }

    fn set_mode(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        let full = self.at(path)?;
        let meta = fs::symlink_metadata(&full)?;
        if !meta.is_file() {
            return Ok(());
        }
        let mut permissions = meta.permissions();
        permissions.set_readonly(mode & 0o200 == 0);
        fs::set_permissions(full, permissions)
    }

    fn set_mtime(&self, path: &RelPath, mtime_ns: i64) -> io::Result<()> {
        let file = self.file(path, OpenOptions::new().write(true))?;
        file.set_times(FileTimes::new().set_modified(time(mtime_ns)))
    }

    /// Staged files were synced when they were finished; there is nothing to sync a filesystem with.
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_file(&self, path: &RelPath) -> io::Result<()> {
        self.file(path, OpenOptions::new().write(true))?.sync_all()
    }

    /// The system journals names by itself and has no call for it.
    fn sync_dir(&self, _: &RelPath) -> io::Result<()> {
        Ok(())
    }

    fn fs_id(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn now_ns(&self) -> i64 {
        super::now_ns()
    }
}

/// A file of the user's. The lock keeps seek and read together.
struct OpenFile(Mutex<File>);

impl ReadAt for OpenFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut file = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        loop {
            match file.read(buf) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                got => return got,
            }
        }
    }

    fn meta(&self) -> io::Result<Meta> {
        let file = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(meta_of(&file.metadata()?))
    }
}

/// A file in `.mesh/tmp`.
struct Staged(File);

impl Stage for Staged {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.seek(SeekFrom::Start(offset))?;
        self.0.write_all(bytes)
    }

    fn finish(self: Box<Self>, mode: u32, mtime_ns: i64) -> io::Result<Meta> {
        self.0
            .set_times(FileTimes::new().set_modified(time(mtime_ns)))?;
        self.0.sync_all()?;
        if mode & 0o200 == 0 {
            let mut permissions = self.0.metadata()?.permissions();
            permissions.set_readonly(true);
            self.0.set_permissions(permissions)?;
        }
        Ok(meta_of(&self.0.metadata()?))
    }
}

fn time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 {
        UNIX_EPOCH - distance
    } else {
        UNIX_EPOCH + distance
    }
}

fn meta_of(meta: &fs::Metadata) -> Meta {
    let file_type = meta.file_type();
    let modified = meta.modified().map_or(0, super::to_ns);
    Meta {
        kind: if file_type.is_file() {
            MetaKind::File
        } else if file_type.is_dir() {
            MetaKind::Dir
        } else if file_type.is_symlink() {
            MetaKind::Symlink
        } else {
            MetaKind::Other
        },
        size: meta.len(),
        mtime_ns: modified,
        ctime_ns: modified,
        ino: 0,
        dev: 0,
        mode: if meta.permissions().readonly() {
            0o555
        } else {
            0o755
        },
        nlink: 1,
    }
}
