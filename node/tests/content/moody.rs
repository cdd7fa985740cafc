//! A real disk with moods: it runs out of room, and things happen to its files between reads.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ownmesh_node::disk::real::RealDisk;
use ownmesh_node::disk::{Disk, Listed, Meta, ReadAt, RelPath, Stage};

pub(crate) type Act = Box<dyn FnOnce(&Path) + Send>;

/// A real disk that runs out of room and lets things happen between reads.
pub(crate) struct Moody {
    pub(crate) real: RealDisk,
    /// What can be written, of which it says nothing, as of a quota.
    pub(crate) room: Arc<AtomicU64>,
    /// What it says that it has room for.
    pub(crate) says: AtomicU64,
    /// Files that it does not let us read.
    pub(crate) closed: Mutex<BTreeSet<RelPath>>,
    pub(crate) acts: Mutex<BTreeMap<RelPath, Vec<(u64, Act)>>>,
    pub(crate) reads: Mutex<BTreeMap<RelPath, u64>>,
}

struct Reading {
    inner: Box<dyn ReadAt>,
    path: RelPath,
    disk: Arc<Moody>,
}

impl ReadAt for Reading {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let got = self.inner.read_at(buf, offset);
        self.disk.on_read(&self.path);
        got
    }
    fn meta(&self) -> io::Result<Meta> {
        self.inner.meta()
    }
}

struct Writing(Box<dyn Stage>, Arc<AtomicU64>);

impl Stage for Writing {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let len = bytes.len() as u64;
        let enough = |room: u64| room.checked_sub(len);
        match self
            .1
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough)
        {
            Ok(_) => self.0.write_at(bytes, offset),
            Err(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }
    fn finish(self: Box<Self>, mode: u32, mtime_ns: i64) -> io::Result<Meta> {
        self.0.finish(mode, mtime_ns)
    }
}

impl Moody {
    fn on_read(&self, path: &RelPath) {
        let reads = {
            let mut reads = self.reads.lock().unwrap();
            let reads = reads.entry(path.clone()).or_default();
            *reads += 1;
            *reads
        };
        let due = {
            let mut acts = self.acts.lock().unwrap();
            let Some(acts) = acts.get_mut(path) else {
                return;
            };
            acts.iter()
                .position(|(at, _)| *at == reads)
                .map(|at| acts.remove(at).1)
        };
        if let Some(act) = due {
            act(&self.real.root().join(path.as_str()));
        }
    }
}

/// The disk as the node sees it.
pub(crate) struct Shown(pub(crate) Arc<Moody>);

impl Disk for Shown {
    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadAt>> {
        if self.0.closed.lock().unwrap().contains(path) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let inner = self.0.real.open(path)?;
        Ok(Box::new(Reading {
            inner,
            path: path.clone(),
            disk: Arc::clone(&self.0),
        }))
    }
    fn stage(&self, name: &str) -> io::Result<Box<dyn Stage>> {
        Ok(Box::new(Writing(
            self.0.real.stage(name)?,
            Arc::clone(&self.0.room),
        )))
    }
    fn list(&self, dir: &RelPath) -> io::Result<Vec<Listed>> {
        self.0.real.list(dir)
    }
    fn meta(&self, path: &RelPath) -> io::Result<Option<Meta>> {
        self.0.real.meta(path)
    }
    fn read_link(&self, path: &RelPath) -> io::Result<String> {
        self.0.real.read_link(path)
    }
    fn mkdir(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        self.0.real.mkdir(path, mode)
    }
    fn symlink(&self, target: &str, path: &RelPath) -> io::Result<()> {
        self.0.real.symlink(target, path)
    }
    fn rename_new(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.0.real.rename_new(from, to)
    }
    fn exchange(&self, a: &RelPath, b: &RelPath) -> io::Result<()> {
        self.0.real.exchange(a, b)
    }
    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        self.0.real.rmdir(path)
    }
    fn remove(&self, path: &RelPath) -> io::Result<()> {
        self.0.real.remove(path)
    }
    fn set_mode(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        self.0.real.set_mode(path, mode)
    }
    fn set_mtime(&self, path: &RelPath, mtime_ns: i64) -> io::Result<()> {
        self.0.real.set_mtime(path, mtime_ns)
    }
    fn sync_all(&self) -> io::Result<()> {
        self.0.real.sync_all()
    }
    fn sync_file(&self, path: &RelPath) -> io::Result<()> {
        self.0.real.sync_file(path)
    }
    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        self.0.real.sync_dir(path)
    }
    fn fs_id(&self) -> io::Result<u64> {
        self.0.real.fs_id()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.0.says.load(Ordering::Relaxed))
    }
    fn now_ns(&self) -> i64 {
        self.0.real.now_ns()
    }
}
