//! A disk in memory that forgets what was not synced.
//!
//! The node's disk code runs over it unchanged. It stands for three things that a real disk does
//! not do on demand: a loss of power ([`MemDisk::crash_power`]), a process killed between two calls
//! ([`MemDisk::crash_after`]), and a user's program that acts exactly between two calls
//! ([`MemDisk::before_op`], [`MemDisk::before_read`]).
//!
//! What a loss of power may do is taken from filesystems at their worst: changes of names become
//! durable one by one, in any order in which a later one does not need an earlier one; the content
//! of a file that was not synced is old, empty, a part or new, whatever its name does.

mod sim;
mod state;
mod user;

pub use sim::Entry;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ownmesh_node::disk::{Disk, Listed, Meta, MetaKind, NonUtf8, PRIVATE, ReadAt, RelPath, Stage};
use rand::Rng;
use state::{Body, ROOT, State};

/// The disk. Clones share it.
#[derive(Clone)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
    trap: Arc<Mutex<Trap>>,
}

type Act = Box<dyn FnOnce(&MemDisk) + Send>;

/// What is going to happen between calls.
#[derive(Default)]
struct Trap {
    /// Calls so far that change something, and calls that read.
    ops: u64,
    reads: u64,
    /// From this call on that changes something, all calls fail.
    crash_at: Option<u64>,
    crashed: bool,
    before_op: BTreeMap<u64, Act>,
    before_read: BTreeMap<u64, Act>,
}

/// What the error of a killed process says.
const CRASHED: &str = "the process was killed here (test)";

/// Something on the disk.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: MetaKind,
    /// The content of a file.
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The mtime in ns.
    pub mtime: i64,
    /// Where a symlink points.
    pub target: Option<String>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(40)]);
        write!(
            f,
            "{:?} {:o} {} {shown:?} {:?}",
            self.kind,
            self.mode,
            self.bytes.len(),
            self.target
        )
    }
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.snapshot_all()).finish()
    }
}

impl MemDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State::new())),
            trap: Arc::default(),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, ns: i64) {
        self.lock().clock += ns;
    }

    /// Makes the disk keep times in steps of `ns` only (FAT: 2 s).
    pub fn set_rounding(&self, ns: i64) {
        self.lock().rounding = ns.max(1);
    }

    /// Says whether names can be swapped in one step.
    pub fn set_exchange(&self, can: bool) {
        self.lock().can_exchange = can;
    }

    /// Mounts another filesystem, as far as its number says.
    pub fn set_fs_id(&self, id: u64) {
        self.lock().fs_id = id;
    }

    /// Leaves room for so many bytes more; with 0 nothing can be made either.
    pub fn set_free(&self, bytes: u64) {
        self.lock().free = bytes;
    }

    /// Makes the folder look as if it were gone.
    pub fn set_gone(&self, gone: bool) {
        self.lock().gone = gone;
    }

    /// Makes a file unreadable, or a directory with all below it; `false` takes that back.
    pub fn deny(&self, path: &str, denied: bool) {
        let mut state = self.lock();
        let ino = state.at(&rel(path)).expect("what is denied exists");
        if denied {
            state.denied.insert(ino);
        } else {
            state.denied.remove(&ino);
        }
    }

    /// Calls of mesh so far that change something.
    pub fn ops(&self) -> u64 {
        self.trap().ops
    }

    /// Kills the process: the `n`-th following call that changes something and all calls after it
    /// fail (0: the next one). What was done stays.
    pub fn crash_after(&self, n: u64) {
        let mut trap = self.trap();
        trap.crash_at = Some(trap.ops + n);
    }

    /// Starts the process again.
    pub fn revive(&self) {
        let mut trap = self.trap();
        (trap.crash_at, trap.crashed) = (None, false);
        trap.before_op.clear();
        trap.before_read.clear();
    }

    /// Whether an error comes from [`Self::crash_after`].
    pub fn is_crash(error: &io::Error) -> bool {
        error.to_string() == CRASHED
    }

    /// Drops what is not synced, at random, and starts the process again.
    pub fn crash_power(&self, rng: &mut impl Rng) {
        self.lock().lose_power(rng);
        self.revive();
    }

    /// Lets a user act before the `n`-th following call that changes something (0: the next one).
    pub fn before_op(&self, n: u64, act: impl FnOnce(&Self) + Send + 'static) {
        let mut trap = self.trap();
        let at = trap.ops + n;
        trap.before_op.insert(at, Box::new(act));
    }

    /// Lets a user act before the `n`-th following read of a file's content.
    pub fn before_read(&self, n: u64, act: impl FnOnce(&Self) + Send + 'static) {
        let mut trap = self.trap();
        let at = trap.reads + n;
        trap.before_read.insert(at, Box::new(act));
    }

    /// What the user sees: all but the private folder.
    pub fn snapshot(&self) -> BTreeMap<String, Node> {
        let mut all = self.snapshot_all();
        all.retain(|path, _| path.split('/').next() != Some(PRIVATE));
        all
    }

    /// Everything on the disk.
    pub fn snapshot_all(&self) -> BTreeMap<String, Node> {
        let state = self.lock();
        let mut all = BTreeMap::new();
        let mut todo = vec![(String::new(), ROOT)];
        while let Some((path, ino)) = todo.pop() {
            for (name, ino) in state.entries(ino).into_iter().flatten() {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                let Ok(inode) = state.node(*ino) else {
                    continue;
                };
                let mut node = Node {
                    kind: MetaKind::Other,
                    bytes: Vec::new(),
                    mode: inode.mode,
                    mtime: inode.mtime,
                    target: None,
                };
                match &inode.body {
                    Body::File(bytes) => {
                        node.kind = MetaKind::File;
                        node.bytes = bytes.to_vec();
                    }
                    Body::Link(target) => {
                        node.kind = MetaKind::Symlink;
                        node.target = Some(target.clone());
                    }
                    Body::Dir(_) => {
                        node.kind = MetaKind::Dir;
                        todo.push((path.clone(), *ino));
                    }
                    Body::Fifo => {}
                }
                all.insert(path, node);
            }
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trap(&self) -> MutexGuard<'_, Trap> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that looks.
    fn look(&self) -> io::Result<MutexGuard<'_, State>> {
        if self.trap().crashed {
            return Err(io::Error::other(CRASHED));
        }
        let state = self.lock();
        if state.gone {
            Err(io::ErrorKind::NotFound.into())
        } else {
            Ok(state)
        }
    }

    /// A call that changes something.
    fn op(&self) -> io::Result<MutexGuard<'_, State>> {
        let act = {
            let mut trap = self.trap();
            let n = trap.ops;
            if trap.crashed || trap.crash_at.is_some_and(|at| n >= at) {
                trap.crashed = true;
                return Err(io::Error::other(CRASHED));
            }
            trap.ops += 1;
            trap.before_op.remove(&n)
        };
        if let Some(act) = act {
            act(self);
        }
        self.look()
    }

    /// A call that needs a new inode.
    fn op_making(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.op()?;
        if state.free == 0 {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(state)
        }
    }
}

/// Reads a path that a test wrote.
pub(crate) fn rel(path: &str) -> RelPath {
    RelPath::parse(path).expect("a test's path is one")
}

/// An open file.
struct Handle {
    disk: MemDisk,
    ino: u64,
}

impl ReadAt for Handle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let act = {
            let mut trap = self.disk.trap();
            let n = trap.reads;
            trap.reads += 1;
            trap.before_read.remove(&n)
        };
        if let Some(act) = act {
            act(&self.disk);
        }
        let state = self.disk.look()?;
        let Body::File(bytes) = &state.node(self.ino)?.body else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn meta(&self) -> io::Result<Meta> {
        self.disk.look()?.meta(self.ino)
    }
}

impl Stage for Handle {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.op()?;
        let len = bytes.len() as u64;
        if state.free < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if state.free != u64::MAX {
            state.free -= len;
        }
        state.write(
            self.ino,
            bytes,
            usize::try_from(offset).unwrap_or(usize::MAX),
        )
    }

    fn finish(self: Box<Self>, mode: u32, mtime_ns: i64) -> io::Result<Meta> {
        let mut state = self.disk.op()?;
        let mtime = state.stamp(mtime_ns);
        let node = state.node_mut(self.ino)?;
        (node.mode, node.mtime) = (mode & 0o7777, mtime);
        state.meta(self.ino)
    }
}

impl Disk for MemDisk {
    fn list(&self, dir: &RelPath) -> io::Result<Vec<Listed>> {
        let state = self.look()?;
        let ino = state.at(dir)?;
        if state.denied.contains(&ino) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let entries = state.entries(ino)?.iter();
        let listed = entries.rev().map(|(name, ino)| {
            let name = if state.non_utf8.contains(name) {
                Err(NonUtf8(name.clone()))
            } else {
                Ok(name.clone())
            };
            Ok(Listed {
                name,
                meta: state.meta(*ino)?,
            })
        });
        listed.collect()
    }

    fn meta(&self, path: &RelPath) -> io::Result<Option<Meta>> {
        let state = match self.look() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            state => state?,
        };
        match state.find(path) {
            Ok(Some(ino)) => state.meta(ino).map(Some),
            Ok(None) => Ok(None),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn open(&self, path: &RelPath) -> io::Result<Box<dyn ReadAt>> {
        let state = self.look()?;
        let ino = state.at(path)?;
        if state.denied.contains(&ino) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        match state.node(ino)?.body {
            Body::File(_) => Ok(Box::new(Handle {
                disk: self.clone(),
                ino,
            })),
            Body::Link(_) => Err(io::ErrorKind::NotADirectory.into()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn read_link(&self, path: &RelPath) -> io::Result<String> {
        let state = self.look()?;
        match &state.node(state.at(path)?)?.body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn stage(&self, name: &str) -> io::Result<Box<dyn Stage>> {
        let mut state = self.op_making()?;
        let (dir, name) = state.parent(
            &rel(ownmesh_node::disk::TMP)
                .join(name)
                .map_err(io::Error::other)?,
        )?;
        let ino = state.make(Body::File(Arc::default()), 0o600);
        state.name(vec![(dir, name, Some(ino))])?;
        Ok(Box::new(Handle {
            disk: self.clone(),
            ino,
        }))
    }

    fn mkdir(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        let mut state = self.op_making()?;
        state.create(path, Body::Dir(BTreeMap::new()), mode)
    }

    fn symlink(&self, target: &str, path: &RelPath) -> io::Result<()> {
        let mut state = self.op_making()?;
        state.create(path, Body::Link(target.to_owned()), 0o777)
    }

    fn rename_new(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let mut state = self.op()?;
        let ino = state.at(from)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (state.parent(from)?, state.parent(to)?);
        if state.find(to)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.is_above(ino, to_dir) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        state.name(vec![
            (from_dir, from_name, None),
            (to_dir, to_name, Some(ino)),
        ])
    }

    fn exchange(&self, a: &RelPath, b: &RelPath) -> io::Result<()> {
        let mut state = self.op()?;
        if !state.can_exchange {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (a_ino, b_ino) = (state.at(a)?, state.at(b)?);
        let ((a_dir, a_name), (b_dir, b_name)) = (state.parent(a)?, state.parent(b)?);
        state.name(vec![
            (a_dir, a_name, Some(b_ino)),
            (b_dir, b_name, Some(a_ino)),
        ])
    }

    fn rmdir(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.op()?;
        let ino = state.at(path)?;
        if !state.entries(ino)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = state.parent(path)?;
        state.name(vec![(dir, name, None)])
    }

    fn remove(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.op()?;
        if path.components().next() != Some(PRIVATE) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let ino = state.at(path)?;
        if state.entries(ino).is_ok() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (dir, name) = state.parent(path)?;
        state.name(vec![(dir, name, None)])
    }

    fn set_mode(&self, path: &RelPath, mode: u32) -> io::Result<()> {
        let mut state = self.op()?;
        let (ino, now) = (state.at(path)?, state.stamp(state.clock));
        let node = state.node_mut(ino)?;
        (node.mode, node.ctime) = (mode & 0o7777, now);
        Ok(())
    }

    fn set_mtime(&self, path: &RelPath, mtime_ns: i64) -> io::Result<()> {
        let mut state = self.op()?;
        let (ino, now, mtime) = (
            state.at(path)?,
            state.stamp(state.clock),
            state.stamp(mtime_ns),
        );
        let node = state.node_mut(ino)?;
        (node.mtime, node.ctime) = (mtime, now);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.op()?.sync_all();
        Ok(())
    }

    fn sync_file(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.op()?;
        let ino = state.at(path)?;
        state.sync(ino)
    }

    fn sync_dir(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.op()?;
        let ino = state.at(path)?;
        state.entries(ino)?;
        state.sync(ino)
    }

    fn fs_id(&self) -> io::Result<u64> {
        Ok(self.look()?.fs_id)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.look()?.free)
    }

    fn now_ns(&self) -> i64 {
        self.lock().clock
    }

    fn readers(&self) -> usize {
        1
    }
}
