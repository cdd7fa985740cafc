//! What a user's programs do. They are not killed with the node, and nothing they do is synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ownmesh_node::disk::RelPath;

use super::state::{Body, State};
use super::{MemDisk, rel};

impl State {
    /// Makes something at a free path.
    pub(super) fn create(&mut self, path: &RelPath, body: Body, mode: u32) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        if self.entries(dir)?.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let ino = self.make(body, mode);
        self.name(vec![(dir, name, Some(ino))])
    }
}

/// A user's program in a test has no errors: a test that asks for the impossible is wrong.
const WRONG: &str = "the test asks for something impossible";

impl MemDisk {
    /// Writes a file in place, or makes it.
    pub fn user_write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let mut state = self.lock();
        let path = rel(path);
        let ino = match state.find(&path).expect(WRONG) {
            Some(ino) => ino,
            None => {
                state
                    .create(&path, Body::File(Arc::default()), 0o644)
                    .expect(WRONG);
                state.at(&path).expect(WRONG)
            }
        };
        state.node_mut(ino).expect(WRONG).body = Body::File(Arc::default());
        state.write(ino, bytes.as_ref(), 0).expect(WRONG);
    }

    /// Saves as editors do: writes another file and renames it over.
    pub fn user_save(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let tmp = format!("{path}.save~");
        self.user_write(&tmp, bytes);
        self.user_rename(&tmp, path);
    }

    /// Appends to a file.
    pub fn user_append(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let mut state = self.lock();
        let ino = state.at(&rel(path)).expect(WRONG);
        let len = usize::try_from(state.meta(ino).expect(WRONG).size).expect(WRONG);
        state.write(ino, bytes.as_ref(), len).expect(WRONG);
    }

    /// Renames, over a file that may stand there.
    pub fn user_rename(&self, from: &str, to: &str) {
        let mut state = self.lock();
        let (from, to) = (rel(from), rel(to));
        let ino = state.at(&from).expect(WRONG);
        let ((from_dir, from_name), (to_dir, to_name)) = (
            state.parent(&from).expect(WRONG),
            state.parent(&to).expect(WRONG),
        );
        assert!(!state.is_above(ino, to_dir), "{WRONG}");
        if let Some(over) = state.find(&to).expect(WRONG) {
            assert!(
                state.entries(over).map_or(true, BTreeMap::is_empty),
                "{WRONG}"
            );
        }
        state
            .name(vec![
                (from_dir, from_name, None),
                (to_dir, to_name, Some(ino)),
            ])
            .expect(WRONG);
    }

    /// Removes a file, or a directory with all in it.
    pub fn user_rm(&self, path: &str) {
        let mut state = self.lock();
        let mut todo = vec![(rel(path), false)];
        while let Some((path, emptied)) = todo.pop() {
            let ino = state.at(&path).expect(WRONG);
            let below: Vec<String> = state
                .entries(ino)
                .map(|entries| entries.keys().cloned().collect())
                .unwrap_or_default();
            if emptied || below.is_empty() {
                let (dir, name) = state.parent(&path).expect(WRONG);
                state.name(vec![(dir, name, None)]).expect(WRONG);
            } else {
                todo.push((path.clone(), true));
                todo.extend(
                    below
                        .iter()
                        .map(|name| (path.join(name).expect(WRONG), false)),
                );
            }
        }
    }

    /// Makes a directory and those above it that are missing.
    pub fn user_mkdir(&self, path: &str) {
        let mut state = self.lock();
        let mut at = RelPath::ROOT;
        for name in rel(path).components() {
            at = at.join(name).expect(WRONG);
            if state.find(&at).expect(WRONG).is_none() {
                state
                    .create(&at, Body::Dir(BTreeMap::new()), 0o755)
                    .expect(WRONG);
            }
        }
    }

    /// Makes a symlink.
    pub fn user_symlink(&self, target: &str, path: &str) {
        self.lock()
            .create(&rel(path), Body::Link(target.to_owned()), 0o777)
            .expect(WRONG);
    }

    /// Gives a file a second name.
    pub fn user_link(&self, from: &str, to: &str) {
        let mut state = self.lock();
        let ino = state.at(&rel(from)).expect(WRONG);
        let (dir, name) = state.parent(&rel(to)).expect(WRONG);
        state.name(vec![(dir, name, Some(ino))]).expect(WRONG);
    }

    /// Makes a FIFO.
    pub fn user_fifo(&self, path: &str) {
        self.lock()
            .create(&rel(path), Body::Fifo, 0o644)
            .expect(WRONG);
    }

    /// Makes a file whose name, where it is listed, is not UTF-8.
    pub fn user_write_non_utf8(&self, path: &str, bytes: &[u8]) {
        self.user_write(path, bytes);
        let name = rel(path).name().expect(WRONG).to_owned();
        self.lock().non_utf8.insert(name);
    }

    /// Sets the permission bits.
    pub fn user_chmod(&self, path: &str, mode: u32) {
        let mut state = self.lock();
        let (ino, now) = (state.at(&rel(path)).expect(WRONG), state.stamp(state.clock));
        let node = state.node_mut(ino).expect(WRONG);
        (node.mode, node.ctime) = (mode, now);
    }

    /// Sets the mtime.
    pub fn user_touch(&self, path: &str, mtime_ns: i64) {
        let mut state = self.lock();
        let (ino, now, mtime) = (
            state.at(&rel(path)).expect(WRONG),
            state.stamp(state.clock),
            state.stamp(mtime_ns),
        );
        let node = state.node_mut(ino).expect(WRONG);
        (node.mtime, node.ctime) = (mtime, now);
    }

    /// Reads a file; nothing if there is none.
    pub fn user_read(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let ino = state.find(&rel(path)).ok().flatten()?;
        match &state.node(ino).ok()?.body {
            Body::File(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}
