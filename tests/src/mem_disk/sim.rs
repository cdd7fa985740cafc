//! What only the simulation of whole devices asks of a memory disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ownmesh_node::disk::PRIVATE;

use super::state::{Body, ROOT};
use super::{MemDisk, Trap};

/// What stands at a path, without what is in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A file's bytes.
    File(Arc<Vec<u8>>),
    /// A directory.
    Dir,
    /// A symlink's target.
    Link(String),
    /// Anything else.
    Other,
}

impl MemDisk {
    /// A disk of its own with the same content and the same inodes: a backup.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.lock().clone();
        Self {
            state: Arc::new(Mutex::new(state)),
            trap: Arc::new(Mutex::new(Trap::default())),
        }
    }

    /// Takes over everything of a backup but the time.
    pub fn restore(&self, backup: &Self) {
        let old = backup.lock().clone();
        let mut state = self.lock();
        let clock = state.clock;
        *state = old;
        state.clock = clock;
    }

    /// Whether a call failed because of [`MemDisk::crash_after`].
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.trap().crashed
    }

    /// Forgets who was to act between calls.
    pub fn disarm(&self) {
        let mut trap = self.trap();
        trap.before_op.clear();
        trap.before_read.clear();
    }

    /// Sets the time, ns since 1970.
    pub fn set_clock(&self, ns: i64) {
        self.lock().clock = ns;
    }

    /// Everything the user sees.
    #[must_use]
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        self.walk("", true)
    }

    /// Everything below a path of the private folder.
    #[must_use]
    pub fn entries_below(&self, dir: &str) -> BTreeMap<String, Entry> {
        self.walk(dir, false)
    }

    fn walk(&self, dir: &str, user: bool) -> BTreeMap<String, Entry> {
        let state = self.lock();
        let start = if dir.is_empty() {
            Ok(ROOT)
        } else {
            state.at(&super::rel(dir))
        };
        let mut all = BTreeMap::new();
        let mut todo: Vec<(String, u64)> =
            start.into_iter().map(|ino| (String::new(), ino)).collect();
        while let Some((path, ino)) = todo.pop() {
            for (name, ino) in state.entries(ino).into_iter().flatten() {
                if user && path.is_empty() && name == PRIVATE {
                    continue;
                }
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                let Ok(node) = state.node(*ino) else { continue };
                let entry = match &node.body {
                    Body::File(bytes) => Entry::File(Arc::clone(bytes)),
                    Body::Link(target) => Entry::Link(target.clone()),
                    Body::Dir(_) => {
                        todo.push((path.clone(), *ino));
                        Entry::Dir
                    }
                    Body::Fifo => Entry::Other,
                };
                all.insert(path, entry);
            }
        }
        all
    }
}
