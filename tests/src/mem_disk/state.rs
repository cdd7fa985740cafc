//! What a memory disk holds: inodes as programs see them, inodes as the platters have them, and the
//! changes of names between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use ownmesh_node::disk::{Meta, MetaKind, RelPath};
use rand::Rng;

pub(super) const ROOT: u64 = 2;
pub(super) const DEV: u64 = 77;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    File(Arc<Vec<u8>>),
    Dir(BTreeMap<String, u64>),
    Link(String),
    Fifo,
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) mtime: i64,
    pub(super) ctime: i64,
    nlink: u64,
}

/// One change of names: it becomes durable as a whole or not at all.
#[derive(Clone, Debug)]
struct NameOp {
    writes: Vec<(u64, String, Option<u64>)>,
    /// Inodes that lost a name and got no other.
    unlinked: Vec<u64>,
}

impl NameOp {
    /// Whether this one cannot be durable without the `earlier` one.
    fn needs(&self, earlier: &Self) -> bool {
        earlier.writes.iter().any(|(dir, name, linked)| {
            self.unlinked.contains(dir)
                || self
                    .writes
                    .iter()
                    .any(|(d, n, _)| (d == dir && n == name) || *linked == Some(*d))
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct State {
    live: BTreeMap<u64, Inode>,
    durable: BTreeMap<u64, Inode>,
    log: Vec<NameOp>,
    next_ino: u64,
    pub(super) clock: i64,
    pub(super) rounding: i64,
    pub(super) fs_id: u64,
    pub(super) free: u64,
    pub(super) denied: BTreeSet<u64>,
    pub(super) non_utf8: BTreeSet<String>,
    pub(super) can_exchange: bool,
    pub(super) gone: bool,
}

impl State {
    pub(super) fn new() -> Self {
        let clock = 1_700_000_000_123_456_789;
        let root = Inode {
            body: Body::Dir(BTreeMap::new()),
            mode: 0o755,
            mtime: clock,
            ctime: clock,
            nlink: 1,
        };
        Self {
            live: BTreeMap::from([(ROOT, root.clone())]),
            durable: BTreeMap::from([(ROOT, root)]),
            log: Vec::new(),
            next_ino: ROOT + 10,
            clock,
            rounding: 1,
            fs_id: 4711,
            free: u64::MAX,
            denied: BTreeSet::new(),
            non_utf8: BTreeSet::new(),
            can_exchange: true,
            gone: false,
        }
    }

    pub(super) fn stamp(&self, ns: i64) -> i64 {
        ns - ns.rem_euclid(self.rounding)
    }

    pub(super) fn node(&self, ino: u64) -> io::Result<&Inode> {
        self.live
            .get(&ino)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn node_mut(&mut self, ino: u64) -> io::Result<&mut Inode> {
        self.live
            .get_mut(&ino)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn entries(&self, dir: u64) -> io::Result<&BTreeMap<String, u64>> {
        match &self.node(dir)?.body {
            Body::Dir(entries) => Ok(entries),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn check_denied(&self, ino: u64) -> io::Result<()> {
        if self.denied.contains(&ino) {
            Err(io::ErrorKind::PermissionDenied.into())
        } else {
            Ok(())
        }
    }

    /// The inode at a path. `None`: nothing there, though its parent is.
    pub(super) fn find(&self, path: &RelPath) -> io::Result<Option<u64>> {
        let mut at = ROOT;
        let mut parts = path.components().peekable();
        while let Some(name) = parts.next() {
            self.check_denied(at)?;
            match self.entries(at)?.get(name) {
                Some(next) => at = *next,
                None if parts.peek().is_none() => return Ok(None),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(Some(at))
    }

    pub(super) fn at(&self, path: &RelPath) -> io::Result<u64> {
        self.find(path)?
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn parent(&self, path: &RelPath) -> io::Result<(u64, String)> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let dir = self.at(&parent)?;
        self.check_denied(dir)?;
        self.entries(dir)?;
        Ok((dir, name.to_owned()))
    }

    pub(super) fn meta(&self, ino: u64) -> io::Result<Meta> {
        let node = self.node(ino)?;
        let (kind, size) = match &node.body {
            Body::File(bytes) => (MetaKind::File, bytes.len()),
            Body::Dir(entries) => (MetaKind::Dir, 64 + entries.len()),
            Body::Link(target) => (MetaKind::Symlink, target.len()),
            Body::Fifo => (MetaKind::Other, 0),
        };
        Ok(Meta {
            kind,
            size: size as u64,
            mtime_ns: node.mtime,
            ctime_ns: node.ctime,
            ino,
            dev: DEV,
            mode: node.mode,
            nlink: node.nlink,
        })
    }

    /// A new inode without a name.
    pub(super) fn make(&mut self, body: Body, mode: u32) -> u64 {
        let ino = self.next_ino;
        self.next_ino += 1;
        let now = self.stamp(self.clock);
        let node = Inode {
            body,
            mode: mode & 0o7777,
            mtime: now,
            ctime: now,
            nlink: 0,
        };
        let empty = match &node.body {
            Body::File(_) => Body::File(Arc::default()),
            other => other.clone(),
        };
        self.durable.insert(
            ino,
            Inode {
                body: empty,
                ..node.clone()
            },
        );
        self.live.insert(ino, node);
        ino
    }

    /// Changes names, all of them at once.
    pub(super) fn name(&mut self, writes: Vec<(u64, String, Option<u64>)>) -> io::Result<()> {
        let now = self.stamp(self.clock);
        let mut unlinked = Vec::new();
        for (dir, name, ino) in &writes {
            let node = self.node_mut(*dir)?;
            node.mtime = now;
            node.ctime = now;
            let Body::Dir(entries) = &mut node.body else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let old = match ino {
                Some(ino) => entries.insert(name.clone(), *ino),
                None => entries.remove(name),
            };
            if let Some(node) = old.and_then(|old| self.live.get_mut(&old)) {
                node.nlink -= 1;
                node.ctime = now;
            }
            if let Some(node) = ino.and_then(|ino| self.live.get_mut(&ino)) {
                node.nlink += 1;
                node.ctime = now;
            }
            unlinked.extend(old);
        }
        unlinked.retain(|old| !writes.iter().any(|(_, _, ino)| *ino == Some(*old)));
        self.log.push(NameOp { writes, unlinked });
        Ok(())
    }

    /// Whether `ino` is `dir` or above it.
    pub(super) fn is_above(&self, ino: u64, dir: u64) -> bool {
        ino == dir
            || self
                .entries(ino)
                .is_ok_and(|entries| entries.values().any(|below| self.is_above(*below, dir)))
    }

    pub(super) fn write(&mut self, ino: u64, bytes: &[u8], offset: usize) -> io::Result<()> {
        let now = self.stamp(self.clock);
        let node = self.node_mut(ino)?;
        let Body::File(content) = &mut node.body else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let content = Arc::make_mut(content);
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(bytes);
        node.mtime = now;
        node.ctime = now;
        Ok(())
    }

    pub(super) fn sync_all(&mut self) {
        self.log.clear();
        let reached = reachable(&self.live);
        self.live.retain(|ino, _| reached.contains(ino));
        self.durable = self.live.clone();
    }

    /// Content and metadata of one inode; of a directory also its names and what they need.
    pub(super) fn sync(&mut self, ino: u64) -> io::Result<()> {
        let node = self.node(ino)?.clone();
        if matches!(node.body, Body::Dir(_)) {
            let mut keep = vec![false; self.log.len()];
            for n in (0..self.log.len()).rev() {
                let touches = self.log[n].writes.iter().any(|(dir, ..)| *dir == ino);
                let needed = (n + 1..self.log.len())
                    .any(|later| keep[later] && self.log[later].needs(&self.log[n]));
                keep[n] = touches || needed;
            }
            self.make_durable(&keep);
        }
        if let Some(durable) = self.durable.get_mut(&ino) {
            let body = match node.body {
                Body::Dir(_) => durable.body.clone(),
                body => body,
            };
            *durable = Inode { body, ..node };
        }
        Ok(())
    }

    /// Moves the chosen changes of names from the log to the platters.
    fn make_durable(&mut self, keep: &[bool]) {
        let log = std::mem::take(&mut self.log);
        for (op, keep) in log.into_iter().zip(keep) {
            if !keep {
                self.log.push(op);
                continue;
            }
            for (dir, name, ino) in op.writes {
                if let Some(Inode {
                    body: Body::Dir(entries),
                    ..
                }) = self.durable.get_mut(&dir)
                {
                    match ino {
                        Some(ino) => entries.insert(name, ino),
                        None => entries.remove(&name),
                    };
                }
            }
        }
    }

    /// The power goes: of what was not synced, some is there and some is not.
    pub(super) fn lose_power(&mut self, rng: &mut impl Rng) {
        // Nothing, something or all of the names; a filesystem writes its journal when it likes.
        let odds = rng.next_u64() % 4;
        let mut keep: Vec<bool> = Vec::new();
        for (n, op) in self.log.iter().enumerate() {
            let possible = (0..n).all(|earlier| keep[earlier] || !op.needs(&self.log[earlier]));
            keep.push(possible && (odds == 3 || rng.next_u64() % 3 < odds));
        }
        self.make_durable(&keep);
        self.log.clear();
        for (ino, durable) in &mut self.durable {
            let Some(live) = self.live.get(ino) else {
                continue;
            };
            if rng.next_u64().is_multiple_of(2) {
                (durable.mode, durable.mtime, durable.ctime) = (live.mode, live.mtime, live.ctime);
            }
            if let (Body::File(old), Body::File(new)) = (&mut durable.body, &live.body)
                && old != new
            {
                match rng.next_u64() % 4 {
                    0 => {}
                    1 => *old = Arc::default(),
                    2 => {
                        let len = usize::try_from(rng.next_u64()).unwrap_or(0) % (new.len() + 1);
                        *old = Arc::new(new[..len].to_vec());
                    }
                    _ => *old = Arc::clone(new),
                }
                if !old.is_empty() {
                    // New bytes under old times cannot be told from old ones without reading all.
                    (durable.mtime, durable.ctime) = (live.mtime, live.ctime);
                }
            }
        }
        let reached = reachable(&self.durable);
        self.durable.retain(|ino, _| reached.contains(ino));
        let mut names: BTreeMap<u64, u64> = BTreeMap::from([(ROOT, 1)]);
        for node in self.durable.values() {
            if let Body::Dir(entries) = &node.body {
                entries
                    .values()
                    .for_each(|ino| *names.entry(*ino).or_default() += 1);
            }
        }
        for (ino, node) in &mut self.durable {
            node.nlink = names.get(ino).copied().unwrap_or_default();
        }
        self.live = self.durable.clone();
    }
}

fn reachable(inodes: &BTreeMap<u64, Inode>) -> BTreeSet<u64> {
    let mut reached = BTreeSet::new();
    let mut todo = vec![ROOT];
    while let Some(ino) = todo.pop() {
        if let (
            true,
            Some(Inode {
                body: Body::Dir(entries),
                ..
            }),
        ) = (reached.insert(ino), inodes.get(&ino))
        {
            todo.extend(entries.values());
        }
    }
    reached
}
