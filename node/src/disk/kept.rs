//! Contents that lie in the trash, found by their hash: a second place to have bytes from, for `undo` here and for
//! other devices of the space.
//!
//! The name in the trash only hints at a content, and anybody may write there. So a file is hashed before it is
//! offered, once as long as its stat stays the same; whoever reads it compares stat and hash again. Nothing is kept on
//! disk for this: after a start the names are read anew. A first request for a large file waits while it is hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ownmesh_crdt::item::Content;
use ownmesh_crypto::ContentHash;
use ownmesh_crypto::space::SpaceSecret;

use super::hash::{Chunk, hash_file};
use super::trash::{self, Front};
use super::{Disk, Meta, MetaKind, RelPath, Stat, TRASH, private};

/// Files whose hash is remembered, and chunks of all of them together (36 bytes each).
const REMEMBERED: (usize, usize) = (4_096, 200_000);
/// A directory changed this lately may change again without a trace in its times, ns.
const RACY: i64 = 2_000_000_000;

/// A file of the trash whose content is certain.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where it lies.
    pub path: RelPath,
    /// As it was when it was hashed.
    pub stat: Stat,
    /// Its bytes.
    pub size: u64,
    /// Its chunks; empty if it is one chunk.
    pub chunks: Arc<Vec<Chunk>>,
}

/// The trash of one folder by content.
#[derive(Debug, Default)]
pub struct Store(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The trash when its names were read.
    dir: Option<Stat>,
    names: BTreeMap<Front, Vec<String>>,
    hashed: BTreeMap<String, (ContentHash, Kept)>,
    chunks: usize,
}

impl Store {
    /// The beginnings of all contents there, by the names.
    pub fn fronts(&self, disk: &dyn Disk) -> io::Result<BTreeSet<Front>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.refresh(disk)?;
        Ok(known.names.keys().copied().collect())
    }

    /// Does something to the trash; also gives the contents that it has no more after that.
    pub fn lost<R>(&self, disk: &dyn Disk, work: impl FnOnce() -> R) -> (R, BTreeSet<Front>) {
        let before = self.fronts(disk);
        let done = work();
        let gone = match (before, self.fronts(disk)) {
            (Ok(before), Ok(after)) => before.difference(&after).copied().collect(),
            _ => BTreeSet::new(),
        };
        (done, gone)
    }

    /// A file with this content.
    pub fn find(&self, disk: &dyn Disk, secret: &SpaceSecret, hash: &ContentHash) -> Option<Kept> {
        let names = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.refresh(disk).ok()?;
            known.names.get(&trash::front(hash))?.clone()
        };
        names
            .iter()
            .find_map(|name| self.certain(disk, secret, hash, name))
    }

    fn certain(
        &self,
        disk: &dyn Disk,
        secret: &SpaceSecret,
        hash: &ContentHash,
        name: &str,
    ) -> Option<Kept> {
        let path = private(TRASH).join(name).ok()?;
        let now: Meta = disk
            .meta(&path)
            .ok()?
            .filter(|m| m.kind == MetaKind::File)?;
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((found, kept)) = lock().hashed.get(name)
            && kept.stat.same_file_unchanged(&now)
        {
            return (found == hash).then(|| kept.clone());
        }
        // Not under the lock: a large file takes its time.
        let hashed = hash_file(disk, &path, secret).ok()?;
        let Content::File { size, hash: found } = hashed.content else {
            return None;
        };
        let kept = Kept {
            path,
            stat: hashed.meta.stat(),
            size,
            chunks: Arc::new(hashed.chunks),
        };
        let mut known = lock();
        known.chunks += kept.chunks.len();
        if known.hashed.len() >= REMEMBERED.0 || known.chunks > REMEMBERED.1 {
            known.hashed.clear();
            known.chunks = kept.chunks.len();
        }
        known.hashed.insert(name.to_owned(), (found, kept.clone()));
        (found == *hash).then_some(kept)
    }
}

impl Known {
    fn refresh(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let dir = disk.meta(&private(TRASH))?;
        let settled = dir.is_some_and(|d| d.mtime_ns.max(d.ctime_ns) < disk.now_ns() - RACY);
        if settled && self.dir == dir.map(|d| d.stat()) {
            return Ok(());
        }
        self.names.clear();
        for one in trash::list(disk)? {
            if let Some(front) = one.content {
                self.names.entry(front).or_default().push(one.name);
            }
        }
        self.dir = dir.map(|d| d.stat());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::real::RealDisk;
    use ownmesh_crypto::ids::{ItemId, SpaceId};

    #[test]
    fn a_content_is_found_by_its_hash_and_never_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        crate::disk::prepare(&disk, &SpaceId::from_bytes([1; 16])).unwrap();
        let secret = ownmesh_crypto::MeshSecret::from_bytes([7; 32])
            .space_secret(&SpaceId::from_bytes([1; 16]));
        let hash = secret.content_hash(b"old");
        let store = Store::default();
        assert!(store.find(&disk, &secret, &hash).is_none());
        let name = trash::name_of(1, &ItemId::from_bytes([3; 16]), Some(&hash), "f");
        let at = dir.path().join(".mesh/trash").join(&name);
        std::fs::write(&at, "old").unwrap();
        let kept = store.find(&disk, &secret, &hash).unwrap();
        assert_eq!((kept.size, kept.path.name()), (3, Some(name.as_str())));
        assert_eq!(store.fronts(&disk).unwrap().len(), 1);
        assert!(
            store
                .find(&disk, &secret, &secret.content_hash(b"x"))
                .is_none()
        );
        // Somebody wrote into it: what it was is not there any more.
        std::fs::write(&at, "other").unwrap();
        assert!(store.find(&disk, &secret, &hash).is_none());
        std::fs::remove_file(&at).unwrap();
        assert!(store.find(&disk, &secret, &hash).is_none());
    }
}
