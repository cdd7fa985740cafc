//! A folder's disk that can be let go of.
//!
//! The danger guarded against: the node starts over, or a space is left and added again, while a
//! worker is still taking steps. What clears up after it would take the files it has in hand for what
//! a dead process left. Once a disk is let go of nothing changes in the folder through it any more, as
//! if the process had been killed between two calls; who lets go waits for one call at most.

use std::io;
use std::sync::{PoisonError, RwLock};

use crate::db::foreign::NotHeld;
use crate::disk::names::Traits;
use crate::disk::real::RealDisk;
use crate::disk::{Disk, Listed, Meta, ReadAt, RelPath, Stage};

pub(super) struct Held {
    disk: RealDisk,
    let_go: RwLock<bool>,
}

impl Held {
    pub(super) fn new(disk: RealDisk) -> Self {
        Self {
            disk,
            let_go: RwLock::new(false),
        }
    }

    pub(super) fn let_go(&self) {
        *self.let_go.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn change<T>(&self, act: impl FnOnce(&RealDisk) -> io::Result<T>) -> io::Result<T> {
        let let_go = self.let_go.read().unwrap_or_else(PoisonError::into_inner);
        if *let_go {
            return Err(io::Error::other("the folder is not in service any more"));
        }
        act(&self.disk)
    }
}

impl Disk for Held {
    fn list(&self, dir: &RelPath) -> io::Result<Vec<Listed>> {
        self.disk.list(dir)
    }

    fn meta(&self, path: &RelPath) -> io::Result<Option<Meta>> {
        self.disk.meta(path)
    }

    fn meta_lifted(&self, path: &RelPath) -> io::Result<Option<Meta>> {
        self.change(|disk| disk.meta_lifted(path))
    }

    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadAt>> {
        self.disk.open(path)
    }

    fn read_link(&self, path: &RelPath) -> io::Result<String> {
        self.disk.read_link(path)
    }

    fn stage(&self, name: &str) -> io::Result<Box<dyn Stage>> {
        self.change(|disk| disk.stage(name))
    }

    /// Not held up: it only writes into a file that is open already.
    fn copy_range(
        &self,
        from: &RelPath,
        offset: u64,
        len: u64,
        stage: &mut dyn Stage,
        at: u64,
    ) -> io::Result<()> {
        self.disk.copy_range(from, offset, len, stage, at)
    }

    fn hold_database(&self, path: &RelPath) -> Result<Box<dyn Send>, NotHeld> {
        self.disk.hold_database(path)
    }

    fn fold_database(&self, path: &RelPath) -> Result<(), NotHeld> {
        let let_go = self.let_go.read().unwrap_or_else(PoisonError::into_inner);
        if *let_go {
            return Err(NotHeld::Refused("the folder is not in service".to_owned()));
        }
        self.disk.fold_database(path)
    }

    fn mkdir(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        self.change(|disk| disk.mkdir(path, mode))
    }

    fn symlink(&self, target: &str, path: &RelPath) -> io::Result<()> {
        self.change(|disk| disk.symlink(target, path))
    }

    fn rename_new(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.change(|disk| disk.rename_new(from, to))
    }

    fn exchange(&self, a: &RelPath, b: &RelPath) -> io::Result<()> {
        self.change(|disk| disk.exchange(a, b))
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        self.change(|disk| disk.rmdir(path))
    }

    fn remove(&self, path: &RelPath) -> io::Result<()> {
        self.change(|disk| disk.remove(path))
    }

    fn set_mode(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        self.change(|disk| disk.set_mode(path, mode))
    }

    fn set_mtime(&self, path: &RelPath, mtime_ns: i64) -> io::Result<()> {
        self.change(|disk| disk.set_mtime(path, mtime_ns))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.sync_all()
    }

    fn sync_file(&self, path: &RelPath) -> io::Result<()> {
        self.disk.sync_file(path)
    }

    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn fs_id(&self) -> io::Result<u64> {
        self.disk.fs_id()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn now_ns(&self) -> i64 {
        self.disk.now_ns()
    }

    fn traits(&self) -> io::Result<Traits> {
        self.change(|disk| disk.traits())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_changes_through_a_disk_that_was_let_go_of() {
        use super::*;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "f").unwrap();
        let held = Held::new(RealDisk::open(dir.path()).unwrap());
        let path = |p: &str| RelPath::parse(p).unwrap();
        held.mkdir(&path("before"), 0o755).unwrap();
        held.let_go();
        assert!(held.mkdir(&path("after"), 0o755).is_err());
        assert!(held.rename_new(&path("f"), &path("g")).is_err());
        assert!(held.exchange(&path("f"), &path("before")).is_err());
        let left = held.list(&RelPath::ROOT).unwrap();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
